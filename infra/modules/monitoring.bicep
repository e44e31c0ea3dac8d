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

// What the app and its host log: tests hold the searched words to the code that logs them.
var journal = 'traces | where message startswith "journal: "'
var parsed = '${journal} | parse message with "journal: " kind " " about " is " state " (" code ")"'
var lines = 'summarize lines = count()'
var alerts = [
  {
    name: 'function-failed'
    title: 'A function of the transfer app failed'
    query: 'requests | where success == false | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT15M'
  }
  {
    name: 'refused'
    title: 'A transfer or an import was refused, or arrived damaged'
    query: '${journal} | where message contains " is refused (" or message contains " is damaged (" | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT15M'
  }
  {
    name: 'failed'
    title: 'A transfer or an import failed, such as by its pipeline run'
    query: '${journal} | where message contains " is failed (" | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT15M'
  }
  {
    name: 'no-receipt'
    title: 'A sealed transfer has waited for its receipt for two weeks'
    query: 'traces | where message contains " has waited for its receipt since " | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT6H'
  }
  {
    name: 'sas-expires'
    title: 'The SAS of the pipeline expires within two weeks'
    query: 'traces | where message contains "the SAS of the pipeline expires at " | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT6H'
  }
  {
    name: 'sas-not-renewed'
    title: 'The SAS of the pipeline was to be renewed by now, and was not'
    query: 'traces | where message contains "the SAS of the pipeline was not renewed: " | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT6H'
  }
  {
    name: 'reconciler-behind'
    title: 'The reconciler, which comes every five minutes, has not come for half an hour'
    query: 'traces | where message startswith "reconciled: " | ${lines}'
    operator: 'LessThan'
    threshold: 1
    minutes: 'PT30M'
  }
  {
    name: 'custody-tampered'
    title: 'A custody log that came with an upload was written anew'
    query: 'traces | where message contains " has signs of tampering: " | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT15M'
  }
  {
    name: 'events-behind'
    title: 'A change of state has not been taken by the receiver of events for half an hour'
    query: 'traces | where message startswith "events behind: " | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT30M'
  }
  {
    name: 'poison'
    title: 'A blob that started nothing five times was put aside'
    query: 'traces | where message contains "webjobs-blobtrigger-poison" | ${lines}'
    operator: 'GreaterThan'
    threshold: 0
    minutes: 'PT15M'
  }
]

resource rules 'Microsoft.Insights/scheduledQueryRules@2021-08-01' = [for alert in alerts: {
  name: '${name}-${alert.name}'
  location: location
  tags: tags
  properties: {
    displayName: alert.title
    severity: 2
    enabled: true
    scopes: [insights.id]
    evaluationFrequency: alert.minutes
    windowSize: alert.minutes
    criteria: {
      allOf: [
        {
          query: alert.query
          metricMeasureColumn: 'lines'
          timeAggregation: 'Total'
          operator: alert.operator
          threshold: alert.threshold
        }
      ]
    }
    actions: { actionGroups: actionGroups }
  }
}]

resource workbook 'Microsoft.Insights/workbooks@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: '${name}: transfers'
    category: 'workbook'
    sourceId: insights.id
    serializedData: string({
      version: 'Notebook/1.0'
      fallbackResourceIds: [insights.id]
      items: [
        {
          type: 3
          name: 'states'
          content: {
            version: 'KqlItem/1.0'
            title: 'Transfers and imports of 30 days, by the state that they are in'
            query: '${parsed} | summarize arg_max(timestamp, kind, state) by about | summarize count() by kind, state'
            queryType: 0
            resourceType: 'microsoft.insights/components'
            timeContext: { durationMs: 2592000000 }
            visualization: 'barchart'
          }
        }
        {
          type: 3
          name: 'codes'
          content: {
            version: 'KqlItem/1.0'
            title: 'What was refused, damaged or failed, by code'
            query: '${parsed} | where state in ("refused", "damaged", "failed") | summarize count() by kind, state, code'
            queryType: 0
            resourceType: 'microsoft.insights/components'
            timeContext: { durationMs: 2592000000 }
            visualization: 'table'
          }
        }
        {
          type: 3
          name: 'durations'
          content: {
            version: 'KqlItem/1.0'
            title: 'Hours from the first entry of a journal to its last'
            query: '${parsed} | summarize begun = min(timestamp), ended = max(timestamp) by kind, about | extend hours = (ended - begun) / 1h | summarize percentiles(hours, 50, 95), max(hours) by kind'
            queryType: 0
            resourceType: 'microsoft.insights/components'
            timeContext: { durationMs: 2592000000 }
            visualization: 'table'
          }
        }
      ]
    })
  }
}

output insightsName string = insights.name
output connectionString string = insights.properties.ConnectionString
output workspaceId string = workspace.id
