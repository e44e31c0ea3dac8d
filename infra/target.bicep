// The target side, beside a registry that exists (Premium). Deployed into a resource group: infra/README.md.
targetScope = 'resourceGroup'

@description('Begins the name of everything: lower-case letters and digits, a letter first; unique in the cloud.')
@minLength(3)
@maxLength(11)
param prefix string
param location string = resourceGroup().location
param tags object = {}
@description('What differs between clouds: { name, armEndpoint, armScope, armApiVersion, registryScope }.')
param cloud object
param registryName string
param registryResourceGroup string = resourceGroup().name
param registryLocation string = location
@description('Flex Consumption, or a plan of its own where the cloud has none.')
@allowed(['flex', 'dedicated'])
param hosting string = 'dedicated'
@description('How the app learns of blobs that come. Flex Consumption does not poll for it.')
@allowed(['poll', 'eventGrid'])
param blobEvents string = hosting == 'flex' ? 'eventGrid' : 'poll'
@description('With eventGrid: subscribe the app to the events. Only once its code is there: that makes the key.')
param isSubscribed bool = false
@description('Of the worker. The package must be built for it: ./dev package --python.')
@allowed(['3.11', '3.12', '3.13'])
param pythonVersion string = '3.11'
@description('How the import pipeline comes to the storage.')
@allowed(['ManagedIdentity', 'SasToken'])
param storageAccessMode string = 'ManagedIdentity'
@description('The identity of the pipeline: its own, or one that stays when the pipeline is made anew.')
@allowed(['SystemAssigned', 'UserAssigned'])
param pipelineIdentity string = 'SystemAssigned'
@description('In SAS mode: when the SAS that the deployment makes for the pipeline ends, such as 2027-01-31T00:00:00Z.')
param pipelineSasExpiry string = ''
@description('Keep the signing key in hardware: the vault is then a premium one.')
param isHsm bool = true
@description('Into the registry at once, or first into a staging registry, from which only what was signed is brought over.')
@allowed(['direct', 'staged'])
param importWay string = 'direct'
@description('Roles of our own for the app, or the built-in ones where no role definitions can be created.')
@allowed(['custom', 'builtIn'])
param appRoles string = 'custom'
@description('The trust policy. Empty until the keys are exchanged; the app does nothing till then.')
param trustPolicy object = {}
@description('For how many days nothing in ledger, receipts, journal and custody may be changed. 0: no policy.')
@minValue(0)
@maxValue(146000)
param evidenceDays int = 365
@description('For how many days what was refused or arrived damaged is kept, to be looked at or made whole.')
@minValue(30)
@maxValue(3650)
param quarantineDays int = 180
@description('After so many days what is in progress is left over: of a transfer that takes longer, nothing is left.')
@minValue(180)
@maxValue(3650)
param workDays int = 365
@description('ARM ids of action groups that alerts go to.')
param actionGroups array = []
@minValue(1)
@maxValue(50)
param pipelineRunsAtOnce int = 5
@minValue(1)
@maxValue(64)
param hashesAtOnce int = 8
@minValue(1)
@maxValue(3600)
param pipelineRunPollSeconds int = 15
@minValue(1)
@maxValue(604800)
param pipelineRunTimeoutSeconds int = 14400
@description('Who is told of each change of state: nobody, or a webhook, by events that are signed.')
@allowed(['none', 'webhook'])
param stateEvents string = 'none'
@description('With webhook: its https address, without a query.')
param stateEventsUrl string = ''
@description('By what callers are known; App Service authentication is switched on by hand, before it is named here.')
@allowed(['functionKeys', 'appServiceAuthentication'])
param callers string = 'functionKeys'
@description('How many hours a ticket is good for.')
@minValue(1)
@maxValue(144)
param ticketHours int = 24
@description('How many days the damaged parts of an upload are waited for; what has arrived of it is kept so long.')
@minValue(1)
@maxValue(89)
param heldUploadDays int = 30

@description('How many days what is left over of an import, and the records of its runs, are kept once it has ended.')
@minValue(1)
@maxValue(89)
param endedImportDays int = 30
@description('How long people have to release a verified bundle, where the channel asks for that.')
@minValue(60)
@maxValue(3888000)
param releaseTimeoutSeconds int = 604800
@description('Services that look at a verified bundle before it is imported: [{ name, url, scope }].')
param checks array = []
@description('Who scans the copies of a verified bundle for malware before it is imported.')
@allowed(['none', 'defender'])
param malwareScanning string = 'none'
@description('With defender: so many GB are scanned in a month, and what comes after waits, then is not imported.')
@minValue(10)
@maxValue(1000000)
param malwareScanningCapGb int = 5000
@description('How long they have to answer, all of them.')
@minValue(60)
@maxValue(1209600)
param checkTimeoutSeconds int = 86400

var pipelineName = 'airgap01'
// The app removes what is in quarantine, on record; the storage's own rule is for what it could not remove.
var ruleComesLater = 30
var isScanned = malwareScanning == 'defender'
var allChecks = concat(isScanned ? [{ name: 'malware', kind: 'defenderForStorage' }] : [], checks)
var isStaged = importWay == 'staged'
var isBySas = storageAccessMode == 'SasToken'
var hasOwnIdentity = pipelineIdentity == 'UserAssigned'
var sasExpiry = isBySas ? pipelineSasExpiry : ''
// Storage Blob Data Reader, and Key Vault Secrets User
var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var isTelling = stateEvents == 'webhook'
// Put into the vault by whoever runs the receiver: docs/operations.md#have-changes-of-state-told.
var eventsSecret = 'events-webhook'

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  scope: resourceGroup(registryResourceGroup)
  name: registryName
}

module staging 'modules/staging-registry.bicep' = if (isStaged) {
  name: '${prefix}-staging-registry'
  scope: resourceGroup(registryResourceGroup)
  params: {
    name: '${prefix}staging'
    location: registryLocation
    tags: tags
  }
}

resource ownIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (hasOwnIdentity) {
  name: '${prefix}-pipeline'
  location: location
  tags: tags
}

module foundation 'modules/foundation.bicep' = {
  name: 'foundation'
  params: {
    prefix: prefix
    location: location
    tags: tags
    containers: ['incoming', 'staging', 'transfer', 'quarantine', 'receipts', 'ledger', 'work', 'journal', 'custody', 'policy']
    evidence: ['ledger', 'receipts', 'journal', 'custody']
    evidenceDays: evidenceDays
    ageing: [
      { container: 'quarantine', days: quarantineDays + ruleComesLater }
      { container: 'staging', days: workDays }
      { container: 'work', days: workDays }
    ]
    appGrants: [
      { container: 'incoming', role: 'blobWriter' }
      { container: 'staging', role: 'blobWriter' }
      { container: 'transfer', role: 'blobWriter' }
      { container: 'quarantine', role: 'blobWriter' }
      { container: 'receipts', role: 'blobAppender' }
      { container: 'ledger', role: 'blobAppender' }
      { container: 'work', role: 'blobWriter' }
      { container: 'journal', role: 'blobAppender' }
      { container: 'custody', role: 'blobAppender' }
      { container: 'policy', role: 'blobReader' }
    ]
    ticketGrant: { container: 'incoming', role: 'blobDropper' }
    appRoles: appRoles
    allowSharedKey: isBySas
    isHsm: isHsm
    sasSecret: 'acrimportsas'
    sasPermissions: 'rl'
    sasExpiry: sasExpiry
    sasRole: 'blobReader'
    registryName: registryName
    pipelineRegistryName: '${isStaged ? staging.outputs.name : registryName}'
    registryResourceGroup: registryResourceGroup
    actionGroups: actionGroups
  }
}

module appOnStaging 'modules/staging-roles.bicep' = if (isStaged) {
  name: '${prefix}-staging-roles'
  scope: resourceGroup(registryResourceGroup)
  params: {
    prefix: prefix
    registryName: registryName
    stagingName: isStaged ? staging.outputs.name : ''
    principalId: foundation.outputs.principalId
    appRoles: appRoles
  }
}

module scanning 'modules/malware-scanning.bicep' = if (isScanned) {
  name: 'malware-scanning'
  params: {
    prefix: prefix
    accountName: '${prefix}transfer'
    container: 'staging'
    others: ['incoming/', 'transfer/', 'quarantine/', 'receipts/', 'ledger/', 'work/', 'journal/', 'custody/', 'policy/']
    capGbPerMonth: malwareScanningCapGb
    principalId: foundation.outputs.principalId
    appRoles: appRoles
  }
}

module pipelineByIdentity 'modules/import-pipeline-identity.bicep' = if (!isBySas) {
  name: '${prefix}-pipeline-identity'
  scope: resourceGroup(registryResourceGroup)
  params: {
    registryName: isStaged ? staging.outputs.name : registryName
    name: pipelineName
    location: registryLocation
    identityId: hasOwnIdentity ? ownIdentity.id : ''
    containerUri: '${foundation.outputs.blob}transfer'
  }
}

module pipelineOnTransfer 'modules/role-on-container.bicep' = if (!isBySas) {
  name: 'pipeline-on-transfer'
  params: {
    accountName: '${prefix}transfer'
    container: 'transfer'
    principalId: isBySas ? '' : (hasOwnIdentity ? ownIdentity.properties.principalId : pipelineByIdentity.outputs.principalId)
    role: blobReader
  }
}

module pipelineBySas 'modules/import-pipeline-sas.bicep' = if (isBySas) {
  name: '${prefix}-pipeline-sas'
  scope: resourceGroup(registryResourceGroup)
  params: {
    registryName: isStaged ? staging.outputs.name : registryName
    name: pipelineName
    location: registryLocation
    identityId: hasOwnIdentity ? ownIdentity.id : ''
    containerUri: '${foundation.outputs.blob}transfer'
    secretId: foundation.outputs.sasSecretId
  }
}

module pipelineOnSecret 'modules/role-on-secret.bicep' = if (isBySas) {
  name: 'pipeline-on-secret'
  params: {
    vaultName: '${prefix}-keys'
    secret: 'acrimportsas'
    principalId: isBySas ? (hasOwnIdentity ? ownIdentity.properties.principalId : pipelineBySas.outputs.principalId) : ''
    role: secretsUser
  }
}

module appOnEventsSecret 'modules/role-on-secret.bicep' = if (isTelling) {
  name: 'app-on-events-secret'
  params: {
    vaultName: '${prefix}-keys'
    secret: eventsSecret
    principalId: foundation.outputs.principalId
    role: secretsUser
  }
}

module flex 'modules/app-flex.bicep' = if (hosting == 'flex') {
  name: 'app-flex'
  params: {
    name: '${prefix}-app'
    location: location
    tags: tags
    identityId: foundation.outputs.identityId
    ticketIdentityId: foundation.outputs.ticketIdentityId
    sasIdentityId: foundation.outputs.sasIdentityId
    pythonVersion: pythonVersion
    packageContainer: foundation.outputs.packageContainer
    settings: union(foundation.outputs.settings, {
      TRANSFER_ROLE: 'target'
      REGISTRY_LOGIN_SERVER: registry.properties.loginServer
      REGISTRY_RESOURCE_ID: registry.id
      IMPORT_PIPELINE: pipelineName
      STAGING_REGISTRY_LOGIN_SERVER: isStaged ? staging.outputs.loginServer : ''
      STAGING_REGISTRY_RESOURCE_ID: isStaged ? staging.outputs.id : ''
      TRUST_POLICY: empty(trustPolicy) ? '' : string(trustPolicy)
      CALLERS: callers
      TICKET_HOURS: string(ticketHours)
      HELD_UPLOAD_DAYS: string(heldUploadDays)
      ENDED_IMPORT_DAYS: string(endedImportDays)
      QUARANTINE_DAYS: string(quarantineDays)
      RELEASE_TIMEOUT_S: string(releaseTimeoutSeconds)
      CHECKS: empty(allChecks) ? '' : string(allChecks)
      CHECK_TIMEOUT_S: string(checkTimeoutSeconds)
      BLOB_EVENTS: blobEvents
      EVENTS_WEBHOOK_URL: isTelling ? stateEventsUrl : ''
      EVENTS_WEBHOOK_SECRET: isTelling ? '${foundation.outputs.vaultUri}secrets/${eventsSecret}' : ''
      ARM_ENDPOINT: cloud.armEndpoint
      ARM_SCOPE: cloud.armScope
      ARM_API_VERSION: cloud.armApiVersion
      REGISTRY_SCOPE: cloud.registryScope
      PIPELINE_SAS_EXPIRES_AT: sasExpiry
      PIPELINE_RUNS_AT_ONCE: string(pipelineRunsAtOnce)
      HASHES_AT_ONCE: string(hashesAtOnce)
      PIPELINE_RUN_POLL_S: string(pipelineRunPollSeconds)
      PIPELINE_RUN_TIMEOUT_S: string(pipelineRunTimeoutSeconds)
    })
  }
}

module dedicated 'modules/app-dedicated.bicep' = if (hosting == 'dedicated') {
  name: 'app-dedicated'
  params: {
    name: '${prefix}-app'
    location: location
    tags: tags
    identityId: foundation.outputs.identityId
    ticketIdentityId: foundation.outputs.ticketIdentityId
    sasIdentityId: foundation.outputs.sasIdentityId
    pythonVersion: pythonVersion
    settings: union(foundation.outputs.settings, {
      TRANSFER_ROLE: 'target'
      REGISTRY_LOGIN_SERVER: registry.properties.loginServer
      REGISTRY_RESOURCE_ID: registry.id
      IMPORT_PIPELINE: pipelineName
      STAGING_REGISTRY_LOGIN_SERVER: isStaged ? staging.outputs.loginServer : ''
      STAGING_REGISTRY_RESOURCE_ID: isStaged ? staging.outputs.id : ''
      TRUST_POLICY: empty(trustPolicy) ? '' : string(trustPolicy)
      CALLERS: callers
      TICKET_HOURS: string(ticketHours)
      HELD_UPLOAD_DAYS: string(heldUploadDays)
      ENDED_IMPORT_DAYS: string(endedImportDays)
      QUARANTINE_DAYS: string(quarantineDays)
      RELEASE_TIMEOUT_S: string(releaseTimeoutSeconds)
      CHECKS: empty(allChecks) ? '' : string(allChecks)
      CHECK_TIMEOUT_S: string(checkTimeoutSeconds)
      BLOB_EVENTS: blobEvents
      EVENTS_WEBHOOK_URL: isTelling ? stateEventsUrl : ''
      EVENTS_WEBHOOK_SECRET: isTelling ? '${foundation.outputs.vaultUri}secrets/${eventsSecret}' : ''
      ARM_ENDPOINT: cloud.armEndpoint
      ARM_SCOPE: cloud.armScope
      ARM_API_VERSION: cloud.armApiVersion
      REGISTRY_SCOPE: cloud.registryScope
      PIPELINE_SAS_EXPIRES_AT: sasExpiry
      PIPELINE_RUNS_AT_ONCE: string(pipelineRunsAtOnce)
      HASHES_AT_ONCE: string(hashesAtOnce)
      PIPELINE_RUN_POLL_S: string(pipelineRunPollSeconds)
      PIPELINE_RUN_TIMEOUT_S: string(pipelineRunTimeoutSeconds)
    })
  }
}

module events 'modules/blob-events.bicep' = if (blobEvents == 'eventGrid') {
  name: 'blob-events'
  params: {
    name: '${prefix}-blobs'
    location: location
    tags: tags
    accountName: '${prefix}transfer'
    container: 'incoming'
    ending: '/bundle-manifest.dsse.json'
    appName: '${prefix}-app'
    hostName: hosting == 'flex' ? flex.outputs.hostName : dedicated.outputs.hostName
    functionName: 'bundle_arrived'
    isSubscribed: isSubscribed
  }
}

@description('Where the app answers.')
output hostName string = hosting == 'flex' ? flex.outputs.hostName : dedicated.outputs.hostName
