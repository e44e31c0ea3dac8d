// The registry that imports come into first: the app empties it again and again, and nobody pulls from it.
param name string
param location string
param tags object

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: 'Premium' }
  properties: { adminUserEnabled: false }
}

output name string = registry.name
output id string = registry.id
output loginServer string = registry.properties.loginServer
