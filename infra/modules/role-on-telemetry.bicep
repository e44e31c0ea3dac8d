// One role of one identity on Application Insights.
param insightsName string
@description('Object id of the identity.')
param principalId string
@description('GUID of the role.')
param role string

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource grant 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, principalId, role)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}
