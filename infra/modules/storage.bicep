// A storage account with its containers and tables: nothing public, TLS 1.2, versions kept for a while.
param name string
param location string
param tags object
param containers array
@description('Those of the containers in which nothing is ever changed or deleted.')
param evidence array = []
@description('For how long nothing in them may be changed; the policy is never unchanging by this template. 0: no policy.')
param evidenceDays int = 0
@description('Containers whose blobs are deleted so many days after they were last written: { container, days }.')
param ageing array = []
param tables array = []
param queues array = []
@description('Only for SAS that the account key signs; without it only Entra identities have access.')
param allowSharedKey bool = false
@description('Versions of what is overwritten or deleted are kept for so many days, too.')
param keepsVersions bool = false

// What is deleted or overwritten can be had back for so many days.
var keptDays = 7
var aged = [for one in ageing: {
  name: 'old-${one.container}'
  enabled: true
  type: 'Lifecycle'
  definition: {
    filters: { blobTypes: ['blockBlob'], prefixMatch: ['${one.container}/'] }
    actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: one.days } } }
  }
}]
var unchanging = evidenceDays > 0 ? evidence : []

resource account 'Microsoft.Storage/storageAccounts@2023-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: allowSharedKey
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-01-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: keepsVersions
    deleteRetentionPolicy: { enabled: true, days: keptDays }
    containerDeleteRetentionPolicy: { enabled: true, days: keptDays }
  }
}

resource made 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-01-01' = [for container in containers: {
  parent: blobs
  name: container
  properties: { publicAccess: 'None' }
}]

resource kept 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-01-01' existing = [for container in unchanging: {
  parent: blobs
  name: container
}]

resource unchanged 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2023-01-01' = [for (container, at) in unchanging: {
  parent: kept[at]
  name: 'default'
  properties: {
    allowProtectedAppendWrites: false
    immutabilityPeriodSinceCreationInDays: evidenceDays
  }
  dependsOn: [made]
}]

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-01-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: concat(aged, [
        {
          name: 'old-versions'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: { blobTypes: ['blockBlob'] }
            actions: { version: { delete: { daysAfterCreationGreaterThan: keptDays } } }
          }
        }
      ])
    }
  }
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2023-01-01' = {
  parent: account
  name: 'default'
}

resource madeTables 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-01-01' = [for table in tables: {
  parent: tableService
  name: table
}]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2023-01-01' = {
  parent: account
  name: 'default'
}

resource madeQueues 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-01-01' = [for queue in queues: {
  parent: queueService
  name: queue
}]

output name string = account.name
output blob string = account.properties.primaryEndpoints.blob
output queue string = account.properties.primaryEndpoints.queue
output table string = account.properties.primaryEndpoints.table
