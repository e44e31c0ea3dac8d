// Where the app's telemetry goes, and who is told of what fails.
param name string
param location string
param tags object
@description('ARM ids of the action groups that are told; none: alerts are only shown.')
param actionGroups array

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 90
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource failed 'Microsoft.Insights/scheduledQueryRules@2021-08-01' = {
  name: '${name}-failed'
  location: location
  tags: tags
  properties: {
    displayName: 'A function of the transfer app failed'
    severity: 2
    enabled: true
    scopes: [insights.id]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: 'requests | where success == false'
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
        }
      ]
    }
    actions: { actionGroups: actionGroups }
  }
}

output insightsName string = insights.name
output connectionString string = insights.properties.ConnectionString
