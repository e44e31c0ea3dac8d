// The import pipeline; it comes to the storage by its identity.
param registryName string
param name string
param location string
@description('Id of a user-assigned identity; empty: one of its own.')
param identityId string
@description('The container `transfer`.')
param containerUri string

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: registryName
}

resource pipeline 'Microsoft.ContainerRegistry/registries/importPipelines@2025-06-01-preview' = {
  parent: registry
  name: name
  location: location
  identity: empty(identityId) ? { type: 'SystemAssigned' } : { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    source: {
      type: 'AzureStorageBlobContainer'
      uri: containerUri
      storageAccessMode: 'ManagedIdentity'
    }
    trigger: { sourceTrigger: { status: 'Disabled' } }
    options: ['OverwriteTags']
  }
}

output principalId string = empty(identityId) ? pipeline.identity.principalId : ''
