// One role of one identity on one container.
param accountName string
param container string
@description('Object id of the identity.')
param principalId string
@description('GUID of the role.')
param role string

resource account 'Microsoft.Storage/storageAccounts@2023-01-01' existing = {
  name: accountName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-01-01' existing = {
  parent: account
  name: 'default'
}

resource place 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-01-01' existing = {
  parent: blobs
  name: container
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
