targetScope = 'resourceGroup'

@description('Begins every name.')
@minLength(3)
@maxLength(11)
param prefix string
@allowed(['flex', 'dedicated'])
param hosting string = 'flex'
@secure()
param password string = ''
param location string = resourceGroup().location

var containers = ['transfer', 'ledger']
var isFlex = hosting == 'flex' && !empty(prefix)
var names = [for name in containers: '${prefix}-${name}']

resource account 'Microsoft.Storage/storageAccounts@2023-01-01' = {
  name: '${prefix}st'
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    networkAcls: isFlex ? null : { defaultAction: 'Allow' }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-01-01' = {
  parent: account
  name: 'default'
}

resource kept 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-01-01' = [for (name, at) in containers: {
  parent: blobs
  name: name
}]

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: 'acr'
}

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (isFlex) {
  scope: kept[0]
  name: guid(kept[0].id, registry.id)
  properties: {
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'acdd72a7')
  }
}

module grants 'modules/grant.bicep' = [for name in containers: {
  name: 'grant-${name}'
  params: {
    container: name
    principalId: account.properties.primaryEndpoints.blob
  }
}]

module one 'modules/grant.bicep' = {
  name: 'one'
  params: {
    container: names[0]
    principalId: isFlex ? password : 'it\'s'
  }
  dependsOn: [mayRead]
}

output login string = registry.properties.loginServer
output granted string = one.outputs.granted
