// A key vault with the key that signs, and in SAS mode the secret that the pipeline reads: the storage makes the SAS
// while this is deployed, so that nobody ever has it in hand.
param name string
param location string
param tags object
@description('In hardware: the vault is then a premium one.')
param isHsm bool
param key string
@description('Name of the account that the pipeline comes to.')
param accountName string
@description('Name of the secret with the SAS of the pipeline.')
param sasSecret string
param sasPermissions string
@description('When the SAS ends; empty where the pipeline comes by its identity.')
param sasExpiry string
@description('The workspace in which it stands who used which key and secret.')
param workspaceId string

resource account 'Microsoft.Storage/storageAccounts@2023-01-01' existing = {
  name: accountName
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: isHsm ? 'premium' : 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 90
  }
}

resource signing 'Microsoft.KeyVault/vaults/keys@2023-07-01' = {
  parent: vault
  name: key
  properties: {
    kty: isHsm ? 'EC-HSM' : 'EC'
    curveName: 'P-384'
    keyOps: ['sign', 'verify']
    attributes: { enabled: true, exportable: false }
  }
}

resource storageSas 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(sasExpiry)) {
  parent: vault
  name: sasSecret
  properties: {
    value: '?${listServiceSas(account.id, '2023-01-01', { canonicalizedResource: '/blob/${accountName}/transfer', signedResource: 'c', signedProtocol: 'https', signedPermission: sasPermissions, signedExpiry: sasExpiry }).serviceSasToken}'
    contentType: 'SAS of the pipeline'
  }
  dependsOn: [signing]
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'audit'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'AuditEvent', enabled: true }]
  }
}

output vaultUri string = vault.properties.vaultUri
output keyId string = '${vault.properties.vaultUri}keys/${key}'
output secretId string = '${vault.properties.vaultUri}secrets/${sasSecret}'
