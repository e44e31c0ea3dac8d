// One role of one identity on one table.
param accountName string
param table string
@description('Object id of the identity.')
param principalId string
@description('GUID of the role.')
param role string

resource account 'Microsoft.Storage/storageAccounts@2023-01-01' existing = {
  name: accountName
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2023-01-01' existing = {
  parent: account
  name: 'default'
}

resource place 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-01-01' existing = {
  parent: tables
  name: table
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
