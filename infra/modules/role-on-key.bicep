// One role of one identity on one key.
param vaultName string
param key string
@description('Object id of the identity.')
param principalId string
@description('GUID of the role.')
param role string

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource place 'Microsoft.KeyVault/vaults/keys@2023-07-01' existing = {
  parent: vault
  name: key
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
