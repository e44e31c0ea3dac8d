// The export pipeline; it comes to the storage by a SAS; every cloud knows this api-version.
param registryName string
param name string
param location string
@description('Id of a user-assigned identity; empty: one of its own.')
param identityId string
@description('The container `transfer`.')
param containerUri string
@description('The vault secret with the SAS, without a version.')
param secretId string

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: registryName
}

resource pipeline 'Microsoft.ContainerRegistry/registries/exportPipelines@2019-12-01-preview' = {
  parent: registry
  name: name
  location: location
  identity: empty(identityId) ? { type: 'SystemAssigned' } : { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    target: {
      type: 'AzureStorageBlobContainer'
      uri: containerUri
      keyVaultUri: secretId
    }
    options: ['OverwriteBlobs']
  }
}

output principalId string = empty(identityId) ? pipeline.identity.principalId : ''
