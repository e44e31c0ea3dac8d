"""The values that must be set on what is deployed, each with its reason and its source."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from infra.expansion import ImaginedCloud, Resource
from infra.rules.choices import SAS_EXPIRY, WEBHOOK_KEY, Deployed

_LEARN = "https://learn.microsoft.com/azure/"
_APP_SETTINGS = f"{_LEARN}azure-functions/functions-app-settings"
_IDENTITY = f"{_LEARN}azure-functions/functions-reference#connecting-to-host-storage-with-an-identity"
_FLEX = f"{_LEARN}azure-functions/functions-infrastructure-as-code?pivots=flex-consumption-plan"
_TRANSFER = f"{_LEARN}container-registry/container-registry-transfer-prerequisites"
_TYPES = "https://github.com/Azure/bicep-types-az"
_OURS = "docs/adr/0015-custody-first.md"

Value = Callable[[Deployed, Resource], Any]
ABSENT = object()
"""Stands for a value that must not be there."""


class Must(NamedTuple):
    """A line of the table: a member of every resource of a type, its value, the reason and the source."""

    kind: str
    path: str
    value: Any
    why: str
    source: str

    def faults(self, deployed: Deployed) -> Iterator[str]:
        """The places at which the member has another value, each as a text."""
        for resource in deployed.of_type(self.kind):
            expected = self.value(deployed, resource) if callable(self.value) else self.value
            found = _at(resource.body, self.path)
            if found != expected or isinstance(found, bool) is not isinstance(expected, bool):
                said = f"{self.path} is {_told(found)}, not {_told(expected)}: {self.why}"
                yield f"{self.kind} {resource.name}: {said}"


def _at(body: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(body, Mapping) or name not in body:
            return ABSENT
        body = body[name]
    return body


def _told(value: Any) -> str:
    return "not there" if value is ABSENT else repr(value)


# --- values that depend on what was chosen


def _location(deployed: Deployed, _resource: Resource) -> str:
    return deployed.location


def _tags(deployed: Deployed, _resource: Resource) -> Any:
    return deployed.parameters.get("tags", {})


def _is_transfer(resource: Resource) -> bool:
    return resource.name.split("/")[0].endswith("transfer")


def _takes_key(deployed: Deployed, resource: Resource) -> bool:
    return deployed.choice.access == "SasToken" and _is_transfer(resource)


def _on(hosting: str, value: Any) -> Value:
    """The value where the app is hosted so; elsewhere the member must be absent."""

    def chosen(deployed: Deployed, resource: Resource) -> Any:
        if deployed.choice.hosting != hosting:
            return ABSENT
        return value(deployed, resource) if callable(value) else value

    return chosen


def _of(kind: str, end: str, *path: str) -> Value:
    """What another resource says of itself, once it is deployed."""

    def asked(deployed: Deployed, _resource: Resource) -> Any:
        found: Any = deployed.state(deployed.one(kind, end))
        for name in path:
            found = found[name]
        return found

    return asked


def _endpoint(account: str, service: str) -> Value:
    return _of(_ACCOUNT, account, "properties", "primaryEndpoints", service)


def _container(account: str, container: str) -> Value:
    of = _endpoint(account, "blob")
    return lambda deployed, resource: f"{of(deployed, resource)}{container}"


def _own_lifecycle(deployed: Deployed, resource: Resource) -> list[dict[str, Any]]:
    """Old versions are deleted, and what is left over; nothing of what was sealed, promoted or decided."""
    work = deployed.parameters.get("workDays", 365)
    ageing = {
        "source": {"work": work},
        "target": {
            "quarantine": deployed.parameters.get("quarantineDays", 180) + 30,  # the app comes first
            "staging": work,
            "work": work,
        },
    }[deployed.choice.side]
    return [
        *(
            _lifecycle(
                f"old-{container}",
                {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}},
                {"prefixMatch": [f"{container}/"]},
            )
            for container, days in (ageing if _is_transfer(resource) else {}).items()
        ),
        _lifecycle("old-versions", {"version": {"delete": {"daysAfterCreationGreaterThan": 7}}}, {}),
    ]


def _lifecycle(name: str, actions: dict[str, Any], filters: dict[str, Any]) -> dict[str, Any]:
    definition = {"filters": {"blobTypes": ["blockBlob"], **filters}, "actions": actions}
    return {"name": name, "enabled": True, "type": "Lifecycle", "definition": definition}


def _python(deployed: Deployed) -> str:
    return str(deployed.parameters.get("pythonVersion", "3.11"))


def _is_hsm(deployed: Deployed) -> bool:
    return bool(deployed.parameters.get("isHsm", True))


def _sas(deployed: Deployed, _resource: Resource) -> str:
    """The SAS that the imagined storage makes of what it is asked for."""
    account = deployed.one(_ACCOUNT, "transfer")
    asked = {
        "canonicalizedResource": f"/blob/{account.name}/transfer",
        "signedResource": "c",
        "signedProtocol": "https",
        "signedPermission": {"source": "rawl", "target": "rl"}[deployed.choice.side],
        "signedExpiry": SAS_EXPIRY,
    }
    token = ImaginedCloud().call("listServiceSas", account.id, "", asked)["serviceSasToken"]
    return f"?{token}"


def _secret_id(deployed: Deployed, resource: Resource) -> str:
    name = {"source": "acrexportsas", "target": "acrimportsas"}[deployed.choice.side]
    return f"{_of(_VAULT, '', 'properties', 'vaultUri')(deployed, resource)}secrets/{name}"


def _by(access: str, value: Any) -> Value:
    """The value where the pipeline comes to the storage so; elsewhere the member must be absent."""

    def chosen(deployed: Deployed, resource: Resource) -> Any:
        if deployed.choice.access != access:
            return ABSENT
        return value(deployed, resource) if callable(value) else value

    return chosen


def _plan(of_flex: Any, of_dedicated: Any) -> Value:
    return lambda deployed, _resource: of_flex if deployed.choice.hosting == "flex" else of_dedicated


def _pipeline_identity(deployed: Deployed, _resource: Resource) -> Any:
    if deployed.choice.pipeline_identity == "SystemAssigned":
        return {"type": "SystemAssigned"}
    own = deployed.one(_APP_IDENTITY, "-pipeline").id
    return {"type": "UserAssigned", "userAssignedIdentities": {own: {}}}


def _webhook(deployed: Deployed, _resource: Resource) -> Any:
    host = deployed.state(deployed.one(_SITE))["properties"]["defaultHostName"]
    function = f"Host.Functions.{_WATCHED[deployed.choice.side][2]}"
    url = f"https://{host}/runtime/webhooks/blobs?functionName={function}&code={WEBHOOK_KEY}"
    return {"endpointType": "WebHook", "properties": {"endpointUrl": url}}


# --- the table

_ACCOUNT = "Microsoft.Storage/storageAccounts"
_VAULT = "Microsoft.KeyVault/vaults"
_APP_IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"
_INSIGHTS = "Microsoft.Insights/components"
_SITE = "Microsoft.Web/sites"
_TOPIC = "Microsoft.EventGrid/systemTopics"
_LOCATED = (
    *(_ACCOUNT, _VAULT, _APP_IDENTITY, _INSIGHTS, _SITE, "Microsoft.Insights/scheduledQueryRules"),
    *("Microsoft.Insights/workbooks", "Microsoft.OperationalInsights/workspaces"),
    *("Microsoft.Web/serverfarms", _TOPIC),
)
_WATCHED = {
    "source": ("receipts", ".dsse.json", "receipt_arrived"),
    "target": ("incoming", "/bundle-manifest.dsse.json", "bundle_arrived"),
}
_CLIENT = _of(_APP_IDENTITY, "-app", "properties", "clientId")
_APP_ID = _of(_APP_IDENTITY, "-app", "id")
_TICKET_ID = _of(_APP_IDENTITY, "-tickets", "id")
_SAS_ID = _of(_APP_IDENTITY, "-sas", "id")

_DEFENDER = "Microsoft.Security/defenderForStorageSettings"


def _all_but_staging(deployed: Deployed, _resource: Resource) -> list[str]:
    """The other containers, each with a slash: without it those that begin so are left out, too."""
    accounts = (one.name.split("/") for one in deployed.of_type(f"{_ACCOUNT}/blobServices/containers"))
    names = [container for account, _, container in accounts if account.endswith("transfer")]
    return [f"{name}/" for name in names if name != "staging"]


_TABLE: Mapping[tuple[str, str], tuple[tuple[str, Any, str], ...]] = {
    (_ACCOUNT, f"{_LEARN}storage/blobs/security-recommendations"): (
        ("kind", "StorageV2", "the others have no tables, no queues or no versions"),
        ("sku.name", "Standard_LRS", "a transfer is made anew, and what counts is on both sides of the gap"),
        ("properties.allowBlobPublicAccess", False, "nothing is for everybody"),
        ("properties.allowCrossTenantReplication", False, "nothing leaves the tenant unseen"),
        ("properties.allowSharedKeyAccess", _takes_key, "a key opens all; only a SAS of it needs it"),
        ("properties.defaultToOAuthAuthentication", True, "the portal asks who looks, and takes no key"),
        ("properties.minimumTlsVersion", "TLS1_2", "older TLS is broken"),
        ("properties.supportsHttpsTrafficOnly", True, "tokens and SAS never travel in the clear"),
    ),
    ("Microsoft.Storage/storageAccounts/blobServices", f"{_LEARN}storage/blobs/data-protection-overview"): (
        (
            "properties.isVersioningEnabled",
            lambda _deployed, resource: _is_transfer(resource),
            "what is overwritten by mistake can be had back; the host overwrites its locks all day",
        ),
        (
            "properties.deleteRetentionPolicy",
            {"enabled": True, "days": 7},
            "what is deleted by mistake can be had back, for a week",
        ),
        (
            "properties.containerDeleteRetentionPolicy",
            {"enabled": True, "days": 7},
            "so can a whole container",
        ),
    ),
    (
        "Microsoft.Storage/storageAccounts/blobServices/containers",
        f"{_LEARN}storage/blobs/anonymous-read-access-prevent",
    ): (("properties.publicAccess", "None", "nothing is for everybody"),),
    (
        "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies",
        f"{_LEARN}storage/blobs/immutable-time-based-retention-policy-overview",
    ): (
        (
            "properties.immutabilityPeriodSinceCreationInDays",
            lambda deployed, _resource: deployed.parameters.get("evidenceDays", 365),
            "evidence is kept for as long as was said",
        ),
        ("properties.allowProtectedAppendWrites", False, "evidence is not added to either"),
    ),
    (
        "Microsoft.Storage/storageAccounts/managementPolicies",
        f"{_LEARN}storage/blobs/lifecycle-management-overview",
    ): (("properties.policy.rules", _own_lifecycle, "what nobody needs any more costs nothing"),),
    (_VAULT, f"{_LEARN}key-vault/general/secure-key-vault"): (
        ("properties.tenantId", lambda *_: "00000000-0000-0000-0000-00000000000b", "whose tokens it takes"),
        ("properties.sku.family", "A", "it must be"),
        (
            "properties.sku.name",
            lambda deployed, _resource: "premium" if _is_hsm(deployed) else "standard",
            "only a premium vault has hardware",
        ),
        (
            "properties.enableRbacAuthorization",
            True,
            "access policies are for the whole vault, roles for a key",
        ),
        (
            "properties.enableSoftDelete",
            True,
            "a key that is gone takes all signatures of the future with it",
        ),
        ("properties.enablePurgeProtection", True, "nor can it be deleted twice"),
        ("properties.softDeleteRetentionInDays", 90, "for as long as can be"),
    ),
    ("Microsoft.KeyVault/vaults/keys", f"{_LEARN}key-vault/keys/about-keys"): (
        (
            "properties.kty",
            lambda deployed, _resource: "EC-HSM" if _is_hsm(deployed) else "EC",
            "in hardware, unless software was asked for",
        ),
        ("properties.curveName", "P-384", "what the trust policy and the app's ECDSA expect"),
        ("properties.keyOps", ["sign", "verify"], "it does nothing else"),
        (
            "properties.attributes",
            {"enabled": True, "exportable": False},
            "it never leaves the vault; an expiry that a template computes would move with each deployment",
        ),
    ),
    ("Microsoft.KeyVault/vaults/secrets", _TRANSFER): (
        (
            "properties.value",
            _sas,
            "the pipeline comes by it, may do what it must and no more, and never in the clear",
        ),
    ),
    (
        "Microsoft.OperationalInsights/workspaces",
        f"{_LEARN}azure-monitor/logs/cost-logs",
    ): (
        ("properties.sku.name", "PerGB2018", "every other one is of the past"),
        ("properties.retentionInDays", 90, "a transfer may be under way for weeks; without it, 30"),
    ),
    (_INSIGHTS, f"{_LEARN}azure-monitor/app/azure-ad-authentication"): (
        ("kind", "web", "required"),
        ("properties.Application_Type", "web", "required"),
        (
            "properties.WorkspaceResourceId",
            _of("Microsoft.OperationalInsights/workspaces", "", "id"),
            "classic ones cannot be made any more",
        ),
        ("properties.DisableLocalAuth", True, "telemetry is taken from the app's identity alone"),
    ),
    ("Microsoft.Insights/scheduledQueryRules", f"{_LEARN}azure-monitor/alerts/alerts-types#log-alerts"): (
        ("properties.enabled", True, "an alert that is off tells nobody"),
        ("properties.severity", 2, "a warning: somebody has to look, today"),
        (
            "properties.scopes",
            lambda deployed, _resource: [deployed.one(_INSIGHTS).id],
            "where the lines are",
        ),
        (
            "properties.actions.actionGroups",
            lambda deployed, _resource: deployed.parameters.get("actionGroups", []),
            "who is told",
        ),
    ),
    (_TOPIC, f"{_LEARN}azure-functions/functions-event-grid-blob-trigger"): (
        (
            "properties",
            lambda deployed, _resource: {
                "source": deployed.one(_ACCOUNT, "transfer").id,
                "topicType": "Microsoft.Storage.StorageAccounts",
            },
            "of what happens in the transfer account",
        ),
    ),
    (f"{_TOPIC}/eventSubscriptions", f"{_LEARN}azure-functions/functions-event-grid-blob-trigger"): (
        ("properties.eventDeliverySchema", "EventGridSchema", "what the host reads"),
        ("properties.destination", _webhook, "the host's webhook, for one function, with its key"),
        (
            "properties.filter",
            lambda deployed, _resource: {
                "includedEventTypes": ["Microsoft.Storage.BlobCreated"],
                "subjectBeginsWith": f"/blobServices/default/containers/{_WATCHED[deployed.choice.side][0]}/",
                "subjectEndsWith": _WATCHED[deployed.choice.side][1],
            },
            "the webhook compares no names: whatever is sent starts the function",
        ),
        (
            "properties.retryPolicy",
            {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440},
            "an app that is down for a day is told afterwards",
        ),
    ),
    (_DEFENDER, f"{_LEARN}defender-for-cloud/defender-for-storage-infrastructure-as-code-enablement"): (
        ("properties.isEnabled", True, "it scans nothing else"),
        ("properties.overrideSubscriptionLevelSettings", True, "whatever the subscription says"),
        (
            "properties.malwareScanning.blobScanResultsOptions",
            ABSENT,
            "by default the tags are written that the app reads, and the API's versions spell it differently",
        ),
        ("properties.malwareScanning.onUpload.isEnabled", True, "each copy, when it is made"),
        (
            "properties.malwareScanning.onUpload.capGBPerMonth",
            lambda deployed, _resource: deployed.parameters["malwareScanningCapGb"],
            "what it may cost",
        ),
        (
            "properties.malwareScanning.onUpload.filters.excludeBlobsWithPrefix",
            _all_but_staging,
            "what is not asked about is not paid for; and the copies are scanned",
        ),
        ("properties.sensitiveDataDiscovery", {"isEnabled": False}, "nobody asked for it"),
    ),
    ("Microsoft.Insights/workbooks", f"{_LEARN}azure-monitor/visualize/workbooks-automate"): (
        ("kind", "shared", "everybody who may look at the telemetry sees it"),
        ("properties.category", "workbook", "else the portal does not list it"),
        ("properties.sourceId", _of(_INSIGHTS, "", "id"), "it stands with the telemetry it is about"),
        (
            "properties.displayName",
            lambda deployed, _resource: f"{deployed.one(_INSIGHTS).name}: transfers",
            "what it is listed as",
        ),
    ),
    ("Microsoft.Insights/diagnosticSettings", f"{_LEARN}key-vault/general/logging"): (
        (
            "properties.workspaceId",
            _of("Microsoft.OperationalInsights/workspaces", "", "id"),
            "who used which key stands where the app's telemetry is",
        ),
        ("properties.logs", [{"category": "AuditEvent", "enabled": True}], "each use of a key and secret"),
    ),
    ("Microsoft.Web/serverfarms", _FLEX): (
        ("kind", _plan("functionapp", "linux"), "what the portal takes it for"),
        ("sku.name", _plan("FC1", "P0v3"), "Elastic Premium wants a file share that a key opens"),
        ("sku.tier", _plan("FlexConsumption", "Premium0V3"), "the tier of that size"),
        ("properties.reserved", True, "Linux: Python runs nowhere else"),
    ),
    (_SITE, f"{_LEARN}app-service/overview-security"): (
        ("kind", "functionapp,linux", "else it is a web app, and has no functions"),
        (
            "identity",
            lambda deployed, resource: {
                "type": "UserAssigned",
                "userAssignedIdentities": {
                    _APP_ID(deployed, resource): {},
                    _TICKET_ID(deployed, resource): {},
                    **({_SAS_ID(deployed, resource): {}} if deployed.choice.access == "SasToken" else {}),
                },
            },
            "who the app is, who signs tickets, and who renews the SAS of the pipeline where it has one",
        ),
        ("properties.serverFarmId", _of("Microsoft.Web/serverfarms", "", "id"), "the plan it runs on"),
        ("properties.httpsOnly", True, "function keys and tokens never travel in the clear"),
        ("properties.keyVaultReferenceIdentity", _APP_ID, "a reference is resolved by the identity that may"),
        ("properties.siteConfig.minTlsVersion", "1.2", "older TLS is broken"),
        ("properties.siteConfig.ftpsState", _on("dedicated", "Disabled"), "code comes one way only"),
        ("properties.siteConfig.alwaysOn", _on("dedicated", True), "timers and triggers run, calls or not"),
        (
            "properties.siteConfig.linuxFxVersion",
            _on("dedicated", lambda deployed, _: f"PYTHON|{_python(deployed)}"),
            "what the package is for",
        ),
    ),
    (f"{_SITE} ", _FLEX): (
        (
            "properties.functionAppConfig",
            _on(
                "flex",
                lambda deployed, resource: {
                    "deployment": {
                        "storage": {
                            "type": "blobContainer",
                            "value": _container("host", "app-package")(deployed, resource),
                            "authentication": {
                                "type": "UserAssignedIdentity",
                                "userAssignedIdentityResourceId": _APP_ID(deployed, resource),
                            },
                        }
                    },
                    "runtime": {"name": "python", "version": _python(deployed)},
                    "scaleAndConcurrency": {"maximumInstanceCount": 40, "instanceMemoryMB": 2048},
                },
            ),
            "where packages lie and by whom they are read, what runs them, and how many at most",
        ),
    ),
    (
        "Microsoft.Web/sites/basicPublishingCredentialsPolicies",
        f"{_LEARN}app-service/configure-basic-auth-disable",
    ): (("properties.allow", False, "no password deploys code"),),
    ("Microsoft.Web/sites/config", _IDENTITY): tuple(
        (
            f"properties.{connection}__{member}",
            value,
            "the app comes by its identity, to this cloud's address",
        )
        for connection, account in (("AzureWebJobsStorage", "host"), ("TransferStorage", "transfer"))
        for member, value in (
            ("credential", "managedidentity"),
            ("clientId", _CLIENT),
            *(
                (f"{service}ServiceUri", _endpoint(account, service))
                for service in ("blob", "queue", "table")
            ),
        )
    ),
    ("Microsoft.Web/sites/config ", _APP_SETTINGS): (
        (
            "properties.APPLICATIONINSIGHTS_CONNECTION_STRING",
            _of(_INSIGHTS, "", "properties", "ConnectionString"),
            "where telemetry goes",
        ),
        (
            "properties.APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
            lambda deployed, resource: f"ClientId={_CLIENT(deployed, resource)};Authorization=AAD",
            "nothing is taken there without an identity",
        ),
        ("properties.FUNCTIONS_EXTENSION_VERSION", _on("dedicated", "~4"), "the host that Python v2 needs"),
        ("properties.FUNCTIONS_WORKER_RUNTIME", _on("dedicated", "python"), "Flex refuses it"),
        ("properties.WEBSITE_RUN_FROM_PACKAGE", _on("dedicated", "1"), "the package is mounted, read only"),
    ),
    (
        "Microsoft.Authorization/roleAssignments",
        f"{_LEARN}role-based-access-control/role-assignments-template",
    ): (("properties.principalType", "ServicePrincipal", "else a new identity is not found at first"),),
    ("Microsoft.ContainerRegistry/registries/exportPipelines", _TRANSFER): (
        ("identity", _pipeline_identity, "who comes to the storage or the vault"),
        (
            "location",
            lambda deployed, _resource: deployed.parameters.get("registryLocation", deployed.location),
            "that of the registry",
        ),
        ("properties.target.type", "AzureStorageBlobContainer", "required"),
        ("properties.target.uri", _container("transfer", "transfer"), "where the transfer blobs go"),
        (
            "properties.target.storageAccessMode",
            _by("ManagedIdentity", "ManagedIdentity"),
            "else it asks for a SAS",
        ),
        ("properties.target.keyVaultUri", _by("SasToken", _secret_id), "where the SAS is"),
        ("properties.options", ["OverwriteBlobs"], "a run that is made anew writes over what the first left"),
    ),
    ("Microsoft.ContainerRegistry/registries", _TRANSFER): (
        ("sku", {"name": "Premium"}, "only such a registry has pipelines"),
        ("properties.adminUserEnabled", False, "nobody comes by a password"),
        (
            "properties.anonymousPullEnabled",
            ABSENT,
            "this version does not know it (Azure/bicep-types-az#2244); it is off in a new registry",
        ),
        (
            "location",
            lambda deployed, _resource: deployed.parameters.get("registryLocation", deployed.location),
            "that of the registry",
        ),
        ("tags", _tags, "who pays for it"),
    ),
    ("Microsoft.ContainerRegistry/registries/importPipelines", _TRANSFER): (
        ("identity", _pipeline_identity, "who comes to the storage or the vault"),
        (
            "location",
            lambda deployed, _resource: deployed.parameters.get("registryLocation", deployed.location),
            "that of the registry",
        ),
        ("properties.source.type", "AzureStorageBlobContainer", "required"),
        ("properties.source.uri", _container("transfer", "transfer"), "what was promoted, and nothing else"),
        (
            "properties.source.storageAccessMode",
            _by("ManagedIdentity", "ManagedIdentity"),
            "else it asks for a SAS",
        ),
        ("properties.source.keyVaultUri", _by("SasToken", _secret_id), "where the SAS is"),
        (
            "properties.options",
            ["OverwriteTags"],
            "a tag that moved at the source moves here; no blob is deleted",
        ),
        (
            "properties.trigger",
            {"sourceTrigger": {"status": "Disabled"}},
            f"only the app starts imports: {_OURS}",
        ),
    ),
}
VALUES = (
    *(
        Must(kind.strip(), path, value, why, source)
        for (kind, source), rows in _TABLE.items()
        for path, value, why in rows
    ),
    *(Must(kind, "location", _location, "where all of it is", _TYPES) for kind in _LOCATED),
    *(Must(kind, "tags", _tags, "who pays for it and who runs it", _TYPES) for kind in _LOCATED),
)
"""The whole table."""
