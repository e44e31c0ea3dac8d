// A key vault with the key that signs, and in SAS mode the secret that the pipeline reads.
param name string
param location string
param tags object
@description('In hardware: the vault is then a premium one.')
param isHsm bool
param key string
@description('Name of the secret with the SAS of the pipeline.')
param sasSecret string
@description('The SAS, with its leading question mark; empty where the pipeline comes by its identity.')
@secure()
param sas string
@description('The workspace in which it stands who used which key and secret.')
param workspaceId string

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

resource storageSas 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(sas)) {
  parent: vault
  name: sasSecret
  properties: {
    value: sas
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

output keyId string = '${vault.properties.vaultUri}keys/${key}'
output secretId string = '${vault.properties.vaultUri}secrets/${sasSecret}'
