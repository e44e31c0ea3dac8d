// One role of one identity on one queue.
param accountName string
param queue string
@description('Object id of the identity.')
param principalId string
@description('GUID of the role.')
param role string

resource account 'Microsoft.Storage/storageAccounts@2023-01-01' existing = {
  name: accountName
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2023-01-01' existing = {
  parent: account
  name: 'default'
}

resource place 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-01-01' existing = {
  parent: queues
  name: queue
}

resource grant 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: place
  name: guid(place.id, principalId, role)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}
