// What the app may do where imports are staged: bring over into the registry, and read and empty the staging registry.
param prefix string
param registryName string
param stagingName string
@description('Object id of the app\'s identity.')
param principalId string
@description('Roles of our own, or built-in ones that give more than is needed.')
param appRoles string

var isCustom = appRoles == 'custom'
var registries = 'Microsoft.ContainerRegistry/registries'
var ownRoles = {
  imageImporter: guid(resourceGroup().id, prefix, 'imageImporter')
  importSource: guid(resourceGroup().id, prefix, 'importSource')
}
// Container Registry Data Importer and Data Reader; Reader
var imageImporter = isCustom ? ownRoles.imageImporter : '577a9874-89fd-4f24-9dbd-b5034d0ad23a'
var importSource = isCustom ? ownRoles.importSource : 'acdd72a7-3385-48ef-bd42-f606fba81ae7'
var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'
var acrDelete = 'c2f4ef07-c644-48eb-af81-4b1b4947fb11'

module importerRole 'custom-role.bicep' = if (isCustom) {
  name: '${prefix}-role-imageImporter'
  params: {
    name: ownRoles.imageImporter
    title: '${prefix} imageImporter'
    summary: 'Has artifacts copied into a registry from another one.'
    actions: ['${registries}/importImage/action']
    dataActions: []
  }
}

module sourceRole 'custom-role.bicep' = if (isCustom) {
  name: '${prefix}-role-importSource'
  params: {
    name: ownRoles.importSource
    title: '${prefix} importSource'
    summary: 'Names a registry as the one that artifacts are copied from.'
    actions: ['${registries}/read']
    dataActions: []
  }
}

module onRegistry 'role-on-registry.bicep' = {
  name: '${prefix}-app-imageImporter'
  params: {
    registryName: registryName
    principalId: principalId
    role: imageImporter
  }
  dependsOn: [importerRole]
}

module onStaging 'role-on-registry.bicep' = [for role in [acrPull, acrDelete, importSource]: {
  name: '${prefix}-app-on-staging-${role}'
  params: {
    registryName: stagingName
    principalId: principalId
    role: role
  }
  dependsOn: [sourceRole]
}]
