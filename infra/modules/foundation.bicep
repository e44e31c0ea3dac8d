// What both sides have: the app's identity, two storage accounts, the vault, telemetry, and the app's roles.
param prefix string
param location string
param tags object
param containers array
param evidence array
param evidenceDays int
@description('By container, what the app may do there: { container, role }.')
param appGrants array
param allowSharedKey bool
param isHsm bool
param sasSecret string
@secure()
param sas string
param registryName string
param registryResourceGroup string
param actionGroups array

var roles = {
  acrPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d'
  blobContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  blobReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  cryptoUser: '12338af0-0e69-4776-bea7-57ae8d297424'
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  transferPipelineContributor: 'bf94e731-3a51-4a7c-8c54-a1ab9971dfc1'
}
var transferAccount = '${prefix}transfer'
var hostAccount = '${prefix}host'
var vaultName = '${prefix}-keys'
var signingKey = 'bundle-signing'
var journalTable = 'journal'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${prefix}-app'
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
    tables: [journalTable]
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
    sasSecret: sasSecret
    sas: sas
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

module appOnContainer 'role-on-container.bicep' = [for grant in appGrants: {
  name: 'app-on-${grant.container}'
  params: {
    accountName: transferAccount
    container: grant.container
    principalId: identity.properties.principalId
    role: roles[grant.role]
  }
  dependsOn: [transferStorage]
}]

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

module appOnTransferAccount 'role-on-account.bicep' = [for role in ['blobOwner', 'queueContributor']: {
  name: 'app-on-transfer-${role}'
  params: {
    accountName: transferAccount
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
    role: roles.cryptoUser
  }
  dependsOn: [vault]
}

module appOnTelemetry 'role-on-telemetry.bicep' = {
  name: 'app-on-telemetry'
  params: {
    insightsName: monitoring.outputs.insightsName
    principalId: identity.properties.principalId
    role: roles.metricsPublisher
  }
}

module appOnRegistry 'role-on-registry.bicep' = [for role in ['acrPull', 'transferPipelineContributor']: {
  name: '${prefix}-app-${role}'
  scope: resourceGroup(registryResourceGroup)
  params: {
    registryName: registryName
    principalId: identity.properties.principalId
    role: roles[role]
  }
}]

output blob string = transferStorage.outputs.blob
output sasSecretId string = vault.outputs.secretId
output identityId string = identity.id
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
  SIGNING_KEYS: vault.outputs.keyId
  TransferStorage__blobServiceUri: transferStorage.outputs.blob
  TransferStorage__clientId: identity.properties.clientId
  TransferStorage__credential: 'managedidentity'
  TransferStorage__queueServiceUri: transferStorage.outputs.queue
  TransferStorage__tableServiceUri: transferStorage.outputs.table
}
