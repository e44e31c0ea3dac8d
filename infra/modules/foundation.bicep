// What both sides have: the app's identity, two storage accounts, the vault, telemetry, and the app's roles.
param prefix string
param location string
param tags object
param containers array
param evidence array
param evidenceDays int
@description('Containers whose blobs grow old: { container, days }.')
param ageing array
@description('By container, what the app may do there: { container, role }.')
param appGrants array
@description('What tickets are for, and what the identity that signs them may do there: { container, role }.')
param ticketGrant object
@description('Roles of our own, or built-in ones that give more than is needed.')
param appRoles string
param allowSharedKey bool
param isHsm bool
param sasSecret string
@description('What the SAS allows on the container transfer, in the order racwdxltmeop: Azure takes no other.')
param sasPermissions string
@description('When it ends; empty where the pipeline comes by its identity.')
param sasExpiry string
@description('What the identity that the app renews the SAS as may do on the container transfer: as much as the SAS.')
param sasRole string
param registryName string
@description('The registry that the pipeline belongs to: at the target perhaps another.')
param pipelineRegistryName string
param registryResourceGroup string
param actionGroups array

// A role of our own stands under the name by which it is granted, and the built-in one that it is narrower than.
var builtInRoles = {
  acrPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d'
  blobAppender: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  blobDelegator: 'db58b8e5-c6ad-4a2a-8342-4190687cbf4a'
  blobDropper: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  blobReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  blobWriter: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  keySigner: '12338af0-0e69-4776-bea7-57ae8d297424'
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  pipelineRunner: 'bf94e731-3a51-4a7c-8c54-a1ab9971dfc1'
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  queueReader: '19e7f393-937e-4f77-808e-94535e297925'
  queueSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
  secretRenewer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
}
var ownRoles = {
  blobAppender: guid(resourceGroup().id, prefix, 'blobAppender')
  blobDropper: guid(resourceGroup().id, prefix, 'blobDropper')
  blobWriter: guid(resourceGroup().id, prefix, 'blobWriter')
  keySigner: guid(resourceGroup().id, prefix, 'keySigner')
  pipelineRunner: guid(resourceGroup().id, prefix, 'pipelineRunner')
  runRemover: guid(resourceGroup().id, prefix, 'runRemover')
  secretRenewer: guid(resourceGroup().id, prefix, 'secretRenewer')
}
var roles = union(builtInRoles, appRoles == 'custom' ? ownRoles : {})
var blobs = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs'
var ownRolesOfBoth = [
  {
    name: 'blobAppender'
    summary: 'Reads and lists blobs, and adds new ones; changes and deletes nothing.'
    dataActions: ['${blobs}/read', '${blobs}/add/action']
  }
  {
    name: 'blobWriter'
    summary: 'Reads, lists, adds, writes and deletes blobs; leaves containers as they are.'
    dataActions: ['${blobs}/read', '${blobs}/write', '${blobs}/delete']
  }
  {
    name: 'keySigner'
    summary: 'Reads the public half of a key, and signs with it.'
    dataActions: ['Microsoft.KeyVault/vaults/keys/read', 'Microsoft.KeyVault/vaults/keys/sign/action']
  }
]
var isBySas = !empty(sasExpiry)
var ownRolesHere = concat(ownRolesOfBoth, ticketGrant.role == 'blobDropper' || (isBySas && sasRole == 'blobDropper') ? [
  {
    name: 'blobDropper'
    summary: 'Reads, lists, adds and writes blobs; deletes none.'
    dataActions: ['${blobs}/read', '${blobs}/write']
  }
] : [], isBySas ? [
  {
    name: 'secretRenewer'
    summary: 'Sets a new version of a secret, and sees when versions expire; reads no value.'
    dataActions: ['Microsoft.KeyVault/vaults/secrets/setSecret/action', 'Microsoft.KeyVault/vaults/secrets/readMetadata/action']
  }
] : [])
var runs = 'Microsoft.ContainerRegistry/registries/pipelineRuns'
var transferAccount = '${prefix}transfer'
var hostAccount = '${prefix}host'
var vaultName = '${prefix}-keys'
var signingKey = 'bundle-signing'
var journalTable = 'journal'
// The name is the host's; so is that it lies in the account that the blobs are in.
var poisonQueue = 'webjobs-blobtrigger-poison'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${prefix}-app'
  location: location
  tags: tags
}

// Tickets are signed by an identity of their own: no SAS of theirs can do more than this one may.
resource ticketIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${prefix}-tickets'
  location: location
  tags: tags
}

// So is the SAS of the pipeline, once the app renews it.
resource sasIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (isBySas) {
  name: '${prefix}-sas'
  location: location
  tags: tags
}

module transferStorage 'storage.bicep' = {
  name: 'transfer-storage'
  params: {
    name: transferAccount
    location: location
    tags: tags
    containers: containers
    evidence: evidence
    evidenceDays: evidenceDays
    ageing: ageing
    tables: [journalTable]
    queues: [poisonQueue]
    allowSharedKey: allowSharedKey
    keepsVersions: true
  }
}

module hostStorage 'storage.bicep' = {
  name: 'host-storage'
  params: {
    name: hostAccount
    location: location
    tags: tags
    containers: ['app-package']
  }
}

module vault 'vault.bicep' = {
  name: 'vault'
  params: {
    name: vaultName
    location: location
    tags: tags
    isHsm: isHsm
    key: signingKey
    accountName: transferStorage.outputs.name
    sasSecret: sasSecret
    sasPermissions: sasPermissions
    sasExpiry: sasExpiry
    workspaceId: monitoring.outputs.workspaceId
  }
}

module monitoring 'monitoring.bicep' = {
  name: 'monitoring'
  params: {
    name: '${prefix}-telemetry'
    location: location
    tags: tags
    actionGroups: actionGroups
  }
}

module customRole 'custom-role.bicep' = [for role in (appRoles == 'custom' ? ownRolesHere : []): {
  name: 'role-${role.name}'
  params: {
    name: ownRoles[role.name]
    title: '${prefix} ${role.name}'
    summary: role.summary
    actions: []
    dataActions: role.dataActions
  }
}]

module customRoleForRuns 'custom-role.bicep' = if (appRoles == 'custom') {
  name: '${prefix}-role-pipelineRunner'
  scope: resourceGroup(registryResourceGroup)
  params: {
    name: ownRoles.pipelineRunner
    title: '${prefix} pipelineRunner'
    summary: 'Starts runs of export and import pipelines and asks after them; leaves the pipelines as they are.'
    actions: [
      '${runs}/read'
      '${runs}/write'
      '${runs}/operationStatuses/read'
      'Microsoft.ContainerRegistry/registries/exportPipelines/read'
      'Microsoft.ContainerRegistry/registries/importPipelines/read'
    ]
    dataActions: []
  }
}

// The built-in role for runs has this in it.
module customRoleForRemoval 'custom-role.bicep' = if (appRoles == 'custom') {
  name: '${prefix}-role-runRemover'
  scope: resourceGroup(registryResourceGroup)
  params: {
    name: ownRoles.runRemover
    title: '${prefix} runRemover'
    summary: 'Deletes the records of pipeline runs.'
    actions: ['${runs}/delete']
    dataActions: []
  }
}

module appRemovesRuns 'role-on-registry.bicep' = if (appRoles == 'custom') {
  name: '${prefix}-app-runRemover'
  scope: resourceGroup(registryResourceGroup)
  params: {
    registryName: pipelineRegistryName
    principalId: identity.properties.principalId
    role: ownRoles.runRemover
  }
  dependsOn: [customRoleForRemoval]
}

module appOnContainer 'role-on-container.bicep' = [for grant in appGrants: {
  name: 'app-on-${grant.container}'
  params: {
    accountName: transferAccount
    container: grant.container
    principalId: identity.properties.principalId
    role: roles[grant.role]
  }
  dependsOn: [transferStorage, customRole]
}]

module ticketsOnContainer 'role-on-container.bicep' = {
  name: 'tickets-on-${ticketGrant.container}'
  params: {
    accountName: transferAccount
    container: ticketGrant.container
    principalId: ticketIdentity.properties.principalId
    role: roles[ticketGrant.role]
  }
  dependsOn: [transferStorage, customRole]
}

// Azure gives the key that signs them for a whole account or not at all; it opens nothing by itself.
module ticketsOnAccount 'role-on-account.bicep' = {
  name: 'tickets-on-account'
  params: {
    accountName: transferAccount
    principalId: ticketIdentity.properties.principalId
    role: roles.blobDelegator
  }
  dependsOn: [transferStorage]
}

module sasOnTransfer 'role-on-container.bicep' = if (isBySas) {
  name: 'sas-on-transfer'
  params: {
    accountName: transferAccount
    container: 'transfer'
    principalId: isBySas ? sasIdentity.properties.principalId : ''
    role: roles[sasRole]
  }
  dependsOn: [transferStorage, customRole]
}

module sasOnAccount 'role-on-account.bicep' = if (isBySas) {
  name: 'sas-on-account'
  params: {
    accountName: transferAccount
    principalId: isBySas ? sasIdentity.properties.principalId : ''
    role: roles.blobDelegator
  }
  dependsOn: [transferStorage]
}

module sasOnSecret 'role-on-secret.bicep' = if (isBySas) {
  name: 'sas-on-secret'
  params: {
    vaultName: vaultName
    secret: sasSecret
    principalId: isBySas ? sasIdentity.properties.principalId : ''
    role: roles.secretRenewer
  }
  dependsOn: [vault, customRole]
}

module appOnJournalTable 'role-on-table.bicep' = {
  name: 'app-on-journal-table'
  params: {
    accountName: transferAccount
    table: journalTable
    principalId: identity.properties.principalId
    role: roles.tableContributor
  }
  dependsOn: [transferStorage]
}

module appOnPoisonQueue 'role-on-queue.bicep' = [for role in ['queueSender', 'queueReader']: {
  name: 'app-on-poison-${role}'
  params: {
    accountName: transferAccount
    queue: poisonQueue
    principalId: identity.properties.principalId
    role: roles[role]
  }
  dependsOn: [transferStorage]
}]

module appOnHostAccount 'role-on-account.bicep' = [for role in ['blobOwner', 'queueContributor', 'tableContributor']: {
  name: 'app-on-host-${role}'
  params: {
    accountName: hostAccount
    principalId: identity.properties.principalId
    role: roles[role]
  }
  dependsOn: [hostStorage]
}]

module appOnKey 'role-on-key.bicep' = {
  name: 'app-on-key'
  params: {
    vaultName: vaultName
    key: signingKey
    principalId: identity.properties.principalId
    role: roles.keySigner
  }
  dependsOn: [vault, customRole]
}

module appOnTelemetry 'role-on-telemetry.bicep' = {
  name: 'app-on-telemetry'
  params: {
    insightsName: monitoring.outputs.insightsName
    principalId: identity.properties.principalId
    role: roles.metricsPublisher
  }
}

module appOnRegistry 'role-on-registry.bicep' = [for role in ['acrPull', 'pipelineRunner']: {
  name: '${prefix}-app-${role}'
  scope: resourceGroup(registryResourceGroup)
  params: {
    registryName: role == 'pipelineRunner' ? pipelineRegistryName : registryName
    principalId: identity.properties.principalId
    role: roles[role]
  }
  dependsOn: [customRoleForRuns]
}]

output blob string = transferStorage.outputs.blob
output sasSecretId string = vault.outputs.secretId
output vaultUri string = vault.outputs.vaultUri
output identityId string = identity.id
output principalId string = identity.properties.principalId
output ticketIdentityId string = ticketIdentity.id
@description('Empty where the pipeline comes by its identity.')
output sasIdentityId string = isBySas ? sasIdentity.id : ''
output packageContainer string = '${hostStorage.outputs.blob}app-package'
@description('The settings that both sides have.')
output settings object = {
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
  AZURE_CLIENT_ID: identity.properties.clientId
  AzureWebJobsStorage__blobServiceUri: hostStorage.outputs.blob
  AzureWebJobsStorage__clientId: identity.properties.clientId
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__queueServiceUri: hostStorage.outputs.queue
  AzureWebJobsStorage__tableServiceUri: hostStorage.outputs.table
  PIPELINE_SAS_CLIENT_ID: isBySas ? sasIdentity.properties.clientId : ''
  PIPELINE_SAS_SECRET: isBySas ? vault.outputs.secretId : ''
  SIGNING_KEYS: vault.outputs.keyId
  TICKET_CLIENT_ID: ticketIdentity.properties.clientId
  TransferStorage__blobServiceUri: transferStorage.outputs.blob
  TransferStorage__clientId: identity.properties.clientId
  TransferStorage__credential: 'managedidentity'
  TransferStorage__queueServiceUri: transferStorage.outputs.queue
  TransferStorage__tableServiceUri: transferStorage.outputs.table
}
