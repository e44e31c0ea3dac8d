"""Rules between resources: which there must be, in which order, under which names, and who may do what."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from infra import roles
from infra.expansion import Resource
from infra.expansion.functions import guid
from infra.roles import Grant
from infra.rules.choices import GROUP, SAS_EXPIRY, WEBHOOK_URL, Deployed
from infra.rules.order import waits

_LEARN = "https://learn.microsoft.com/azure/"
_STORAGE = "Microsoft.Storage/storageAccounts"
_CONTAINER = f"{_STORAGE}/blobServices/containers"
_ASSIGNMENT = "Microsoft.Authorization/roleAssignments"
_ALERT = "Microsoft.Insights/scheduledQueryRules"
_DEFINITION = "Microsoft.Authorization/roleDefinitions"
_REGISTRY = "Microsoft.ContainerRegistry/registries"
_EVIDENCE = frozenset({"ledger", "receipts", "journal", "custody"})
_PIPELINES = {"source": f"{_REGISTRY}/exportPipelines", "target": f"{_REGISTRY}/importPipelines"}
_IDENTITIES = frozenset({"Microsoft.ManagedIdentity/userAssignedIdentities", *_PIPELINES.values()})
_LIMITS: Mapping[str, str] = {
    _STORAGE: r"[a-z0-9]{3,24}",
    _CONTAINER: r"[a-z0-9-]{3,63}",
    "Microsoft.EventGrid/systemTopics": r"[A-Za-z0-9-]{3,50}",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": r"[A-Za-z0-9-]{3,64}",
    "Microsoft.KeyVault/vaults": r"[A-Za-z](?:-?[A-Za-z0-9]){2,23}",
    "Microsoft.ManagedIdentity/userAssignedIdentities": r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}",
    "Microsoft.OperationalInsights/workspaces": r"[A-Za-z0-9](?:-?[A-Za-z0-9]){3,62}",
    "Microsoft.Insights/components": r"[^%&\\?/]{1,260}(?<! )",
    "Microsoft.Insights/scheduledQueryRules": r"[^*<>%{}&:\\?/#]{1,260}(?<![ .])",
    "Microsoft.Web/serverfarms": r"[A-Za-z0-9-]{1,60}",
    "Microsoft.Web/sites": r"[A-Za-z0-9](?:-?[A-Za-z0-9]){1,59}",
    _REGISTRY: r"[A-Za-z0-9]{5,50}",
    _PIPELINES["source"]: r"[A-Za-z0-9]{5,50}",
    _PIPELINES["target"]: r"[A-Za-z0-9]{5,50}",
}


ALERTS: Mapping[str, tuple[str, int, str]] = {
    "function-failed": ("GreaterThan", 0, "PT15M"),
    "refused": ("GreaterThan", 0, "PT15M"),
    "failed": ("GreaterThan", 0, "PT15M"),
    "no-receipt": ("GreaterThan", 0, "PT6H"),
    "sas-expires": ("GreaterThan", 0, "PT6H"),
    "sas-not-renewed": ("GreaterThan", 0, "PT6H"),
    "reconciler-behind": ("LessThan", 1, "PT30M"),
    "custody-tampered": ("GreaterThan", 0, "PT15M"),
    "events-behind": ("GreaterThan", 0, "PT30M"),
    "poison": ("GreaterThan", 0, "PT15M"),
}
"""By the end of its name: how many lines are too many, or too few, in what time."""


class Relation(NamedTuple):
    """A rule between resources: how faults are found, why they matter, and the source of the rule."""

    faults: Callable[[Deployed], Iterator[str]]
    why: str
    source: str


def _inventory(deployed: Deployed) -> Iterator[str]:
    """Exactly these resources are there, whatever of them there may be several of left aside."""
    choice = deployed.choice
    expected = Counter(
        {
            **dict.fromkeys((_STORAGE, "Microsoft.KeyVault/vaults/keys"), 1),
            _STORAGE: 2,
            f"{_STORAGE}/blobServices": 2,
            f"{_STORAGE}/managementPolicies": 2,
            f"{_STORAGE}/queueServices": 2,
            f"{_STORAGE}/queueServices/queues": 1,
            f"{_STORAGE}/tableServices": 2,
            f"{_STORAGE}/tableServices/tables": 1,
            "Microsoft.Insights/components": 1,
            "Microsoft.Insights/diagnosticSettings": 1,
            "Microsoft.Insights/scheduledQueryRules": len(ALERTS),
            "Microsoft.Insights/workbooks": 1,
            "Microsoft.KeyVault/vaults": 1,
            "Microsoft.ManagedIdentity/userAssignedIdentities": 2,
            "Microsoft.OperationalInsights/workspaces": 1,
            "Microsoft.Web/serverfarms": 1,
            "Microsoft.Web/sites": 1,
            "Microsoft.Web/sites/basicPublishingCredentialsPolicies": 2,
            "Microsoft.Web/sites/config": 1,
            _PIPELINES[choice.side]: 1,
        }
    )
    expected["Microsoft.ManagedIdentity/userAssignedIdentities"] += choice.pipeline_identity == "UserAssigned"
    expected["Microsoft.ManagedIdentity/userAssignedIdentities"] += choice.access == "SasToken"
    if choice.import_way == "staged":
        expected[_REGISTRY] = 1
    expected["Microsoft.Security/defenderForStorageSettings"] = int(choice.malware_scanning == "defender")
    if choice.events or choice.hosting == "flex":
        expected["Microsoft.EventGrid/systemTopics"] = 1
    if choice.events:
        expected["Microsoft.EventGrid/systemTopics/eventSubscriptions"] = 1
    if choice.access == "SasToken":
        expected["Microsoft.KeyVault/vaults/secrets"] = 1
    several = {_ASSIGNMENT, _DEFINITION, _CONTAINER, f"{_CONTAINER}/immutabilityPolicies"}
    found = Counter(one.type for one in deployed.expansion.resources if one.type not in several)
    for kind in expected | found:
        if found[kind] != expected[kind]:
            yield f"there are {found[kind]} of {kind}, not {expected[kind]}"
    for end in ("/ftp", "/scm"):
        if not any(
            one.name.endswith(end)
            for one in deployed.of_type("Microsoft.Web/sites/basicPublishingCredentialsPolicies")
        ):
            yield f"nothing is said of passwords at {end}"


def _containers(deployed: Deployed) -> Iterator[str]:
    """Those on which somebody has a role, and that of packages."""
    rows = [row for row in roles.rows() if row["identity"].startswith(deployed.choice.side)]
    granted = {on for row in rows for on in row["on"] if "Storage Blob" in row.get("builtIn", row["role"])}
    found = {one.name.rpartition("/")[2] for one in deployed.of_type(_CONTAINER)}
    expected = {one for one in granted if " " not in one} | {"app-package"}
    yield from (f"the container {name} is not there" for name in expected - found)
    yield from (f"nobody has a role on the container {name}" for name in found - expected)


def _evidence(deployed: Deployed) -> Iterator[str]:
    """Every container of evidence has a policy, and no other; none is locked."""
    found = {one.name.split("/")[2] for one in deployed.of_type(f"{_CONTAINER}/immutabilityPolicies")}
    there = {one.name.rpartition("/")[2] for one in deployed.of_type(_CONTAINER)}
    expected = _EVIDENCE & there if deployed.parameters.get("evidenceDays", 365) else set()
    yield from (f"{name} can be changed" for name in expected - found)
    yield from (f"{name} cannot be changed, and must be" for name in found - expected)
    for one in deployed.of_type(f"{_CONTAINER}/immutabilityPolicies"):
        if "state" in one.properties:
            yield f"{one.name} is locked by the template"


def _order(deployed: Deployed) -> Iterator[str]:
    """Each resource waits for what it is a part of, is on, or is the role of."""
    everything = {one.id.lower(): one for one in deployed.expansion.resources}
    own_roles = {one.name: one for one in deployed.of_type(_DEFINITION)}
    for one in deployed.expansion.resources:
        needed = [everything.get((one.scope or "").lower())]
        if one.type == "Microsoft.KeyVault/vaults/secrets":
            needed += deployed.of_type(
                "Microsoft.KeyVault/vaults/keys"
            )  # one after the other: Azure/bicep#4364
        needed.append(own_roles.get(str(one.properties.get("roleDefinitionId", "")).rpartition("/")[2]))
        if one.type.count("/") > 1:
            parent = one.id.rpartition("/")[0].rpartition("/")[0]
            needed.append(everything.get(parent.lower()))
            if needed[-1] is None and _REGISTRY not in parent:
                yield f"{parent}, of which {one.name} is a part, is not deployed"
        for other in needed:
            if other is not None and not waits(deployed.template, one, other):
                yield f"{one.type} {one.name} does not wait for {other.type} {other.name}"


def _names(deployed: Deployed) -> Iterator[str]:
    """Each name is one that its type may have, with the longest prefix."""
    for one in deployed.expansion.resources:
        if one.type in _LIMITS and not re.fullmatch(_LIMITS[one.type], one.name.rpartition("/")[2]):
            yield f"{one.type} cannot be named {one.name}"


def _groups(deployed: Deployed) -> Iterator[str]:
    """What is of the registry is in the registry's group, all else in our own."""
    registry_group = deployed.parameters.get("registryResourceGroup", GROUP.name)
    for one in deployed.expansion.resources:
        is_of_registry = _REGISTRY in one.id or _is_for_registry(one)
        expected = registry_group if is_of_registry else GROUP.name
        if one.id.split("/")[4] != expected:
            yield f"{one.type} {one.name} is not in the group {expected}"


def _is_for_registry(resource: Resource) -> bool:
    permissions = resource.properties.get("permissions", [])
    return any(_REGISTRY in action for one in permissions for action in one.get("actions", []))


def _own_roles(deployed: Deployed) -> Iterator[str]:
    """The roles of our own allow what is written down, where they are used, and nothing else."""
    found = {
        one.properties.get("roleName", "").rpartition(" ")[2]: one for one in deployed.of_type(_DEFINITION)
    }
    expected = {grant.role: roles.OWN[grant.role] for grant in _expected(deployed) if grant.role in roles.OWN}
    if found.keys() != expected.keys() or len(found) != len(deployed.of_type(_DEFINITION)):
        yield f"the roles of our own are {sorted(found)}, not {sorted(expected)}"
        return
    for name, role in expected.items():
        said = dict(found[name].properties)
        said.pop("description", None)
        permissions = {
            "actions": [*role.actions],
            "notActions": [],
            "dataActions": [*role.data_actions],
            "notDataActions": [],
        }
        group = found[name].id.partition("/providers/")[0]
        if said != {
            "roleName": f"{deployed.parameters['prefix']} {name}",
            "type": "CustomRole",
            "permissions": [permissions],
            "assignableScopes": [group],
        }:
            yield f"{name} allows {said}"


def granted(deployed: Deployed) -> list[Grant]:
    """The role assignments that were deployed, in the words of ``roles.json``."""
    names = {role_id: name for name, role_id in roles.BUILT_IN.items()}
    for one in deployed.of_type(_DEFINITION):
        names[one.name] = str(one.properties.get("roleName", "")).rpartition(" ")[2]
    return [
        Grant(
            _who(deployed, str(one.properties.get("principalId"))),
            _place(one.scope or "nothing"),
            names.get(str(one.properties.get("roleDefinitionId", "")).rpartition("/")[2], "unknown"),
        )
        for one in deployed.of_type(_ASSIGNMENT)
    ]


def _who(deployed: Deployed, principal: str) -> str:
    for one in deployed.expansion.resources:
        if one.type in _IDENTITIES:
            state = deployed.state(one)
            known = (state["properties"].get("principalId"), state.get("identity", {}).get("principalId"))
            if principal in known:
                if one.type in _PIPELINES.values():
                    return "pipeline"
                return one.name.rpartition("-")[2]
    return principal


def _place(scope: str) -> str:
    kind, name = ("/" + scope).split("/")[-2:]
    match kind:
        case "storageAccounts":
            return f"{name.removeprefix('contosogap1')} account"
        case "tables":
            return f"{name} table"
        case "registries":
            return "staging registry" if name.endswith("staging") else "registry"
        case "components":
            return "telemetry"
    return name


def _expected(deployed: Deployed) -> set[Grant]:
    choice = deployed.choice
    return roles.expected(
        choice.side,
        access=choice.access,
        app_roles=choice.app_roles,
        import_way=choice.import_way,
        malware_scanning=choice.malware_scanning,
        state_events=choice.told,
    )


def _grants(deployed: Deployed) -> Iterator[str]:
    """The roles of ``roles.json``, each once, and no others."""
    found = Counter(granted(deployed))
    expected = Counter(_expected(deployed))
    yield from (f"{' '.join(one)} is not granted" for one in expected - found)
    yield from (f"{' '.join(one)} is granted" for one in found - expected)
    for one in deployed.of_type(_ASSIGNMENT):
        properties = one.properties
        role = str(properties.get("roleDefinitionId", "")).rpartition("/")[2]
        if one.name != guid(one.scope or "", str(properties.get("principalId")), role):
            yield f"the assignment {one.name} is not named by what it is"


def _alerts(deployed: Deployed) -> Iterator[str]:
    """Each looks at all since it looked before, and at a number that is there without lines, too."""
    prefix = f"{deployed.parameters['prefix']}-telemetry-"
    found = {one.name.removeprefix(prefix): one for one in deployed.of_type(_ALERT)}
    if found.keys() != ALERTS.keys():
        yield f"the alerts are {sorted(found)}"
        return
    for name, (operator, threshold, minutes) in ALERTS.items():
        properties = found[name].properties
        times = (properties.get("evaluationFrequency"), properties.get("windowSize"))
        criteria = properties.get("criteria", {}).get("allOf", [])
        query = str(criteria[0].get("query")) if criteria else ""
        expected = {
            "query": query,
            "metricMeasureColumn": "lines",
            "timeAggregation": "Total",
            "operator": operator,
            "threshold": threshold,
        }
        if times != (minutes, minutes):
            yield f"{name} does not look at all that there was in {minutes}"
        if criteria != [expected] or not query.endswith("| summarize lines = count()"):
            yield f"{name} is {criteria}, not {operator} {threshold} lines"
        if not properties.get("displayName"):
            yield f"{name} says nothing to whom it wakes"


def _audit(deployed: Deployed) -> Iterator[str]:
    """The vault keeps a log of its own, and nothing else does."""
    if (
        deployed.one("Microsoft.Insights/diagnosticSettings").scope
        != deployed.one("Microsoft.KeyVault/vaults").id
    ):
        yield "nobody writes down who used the signing key"


def _scanning(deployed: Deployed) -> Iterator[str]:
    """Defender scans the account that bundles come into, and no other."""
    accounts = {one.id for one in deployed.of_type(_STORAGE) if one.name.endswith("transfer")}
    for one in deployed.of_type("Microsoft.Security/defenderForStorageSettings"):
        if one.scope not in accounts:
            yield "Defender does not scan the account that bundles come into"


def _workbook(deployed: Deployed) -> Iterator[str]:
    """The workbook asks the telemetry three things: states, codes, durations."""
    told = json.loads(deployed.one("Microsoft.Insights/workbooks").properties.get("serializedData", "{}"))
    if told.get("fallbackResourceIds") != [deployed.one("Microsoft.Insights/components").id]:
        yield "the workbook asks nobody"
    if [one.get("name") for one in told.get("items", [])] != ["states", "codes", "durations"]:
        yield "the workbook does not show states, codes and durations"


PARAMETER_OF_SETTING: Mapping[str, str] = {
    "CALLERS": "callers",
    "CHECKS": "checks",
    "CHECK_TIMEOUT_S": "checkTimeoutSeconds",
    "ENDED_IMPORT_DAYS": "endedImportDays",
    "ENDED_TRANSFER_DAYS": "endedTransferDays",
    "HASHES_AT_ONCE": "hashesAtOnce",
    "PART_SIZE_MIB": "partSizeMib",
    "PIPELINE_RUNS_AT_ONCE": "pipelineRunsAtOnce",
    "PIPELINE_RUN_POLL_S": "pipelineRunPollSeconds",
    "PIPELINE_RUN_TIMEOUT_S": "pipelineRunTimeoutSeconds",
    "HELD_UPLOAD_DAYS": "heldUploadDays",
    "QUARANTINE_DAYS": "quarantineDays",
    "RELEASE_TIMEOUT_S": "releaseTimeoutSeconds",
    "SEQUENCE_FLOORS": "sequenceFloors",
    "SIGNATURE_TIMEOUT_S": "signatureTimeoutSeconds",
    "TICKET_HOURS": "ticketHours",
    "TRUST_POLICY": "trustPolicy",
}
"""By setting of the app, the parameter that it is made from."""

_OF_THE_CLOUD: Mapping[str, str] = {
    "ARM_API_VERSION": "armApiVersion",
    "ARM_ENDPOINT": "armEndpoint",
    "ARM_SCOPE": "armScope",
    "CLOUD_NAME": "name",
    "REGISTRY_SCOPE": "registryScope",
}
_OF_A_SIDE = {
    "source": {
        "CLOUD_NAME",
        "EXPORT_PIPELINE",
        "ENDED_TRANSFER_DAYS",
        "PART_SIZE_MIB",
        "SEQUENCE_FLOORS",
        "SIGNATURE_TIMEOUT_S",
    },
    "target": {"IMPORT_PIPELINE", "STAGING_REGISTRY_LOGIN_SERVER", "STAGING_REGISTRY_RESOURCE_ID"},
}
_PIPELINE_SETTING = {"source": "EXPORT_PIPELINE", "target": "IMPORT_PIPELINE"}


def _outputs(deployed: Deployed) -> Iterator[str]:
    """Whoever deployed it is told where the app answers."""
    host = deployed.state(deployed.one("Microsoft.Web/sites"))["properties"]["defaultHostName"]
    if deployed.expansion.outputs != {"hostName": host}:
        yield f"the outputs are {dict(deployed.expansion.outputs)}"


def _settings(deployed: Deployed) -> Iterator[str]:
    """The app is told what was chosen, and where all of it is."""
    side, parameters = deployed.choice.side, deployed.parameters
    found = deployed.one("Microsoft.Web/sites/config", "appsettings").properties
    registry_group = parameters.get("registryResourceGroup", GROUP.name)
    registry_id = (
        f"/subscriptions/{GROUP.subscription_id}/resourceGroups/{registry_group}"
        f"/providers/{_REGISTRY}/{parameters['registryName']}"
    )
    vault = deployed.state(deployed.one("Microsoft.KeyVault/vaults"))["properties"]["vaultUri"]
    client, tickets = (
        deployed.state(deployed.one("Microsoft.ManagedIdentity/userAssignedIdentities", end))
        for end in ("-app", "-tickets")
    )
    is_told = deployed.choice.told == "webhook"
    expected = {
        **_sas_settings(deployed, vault),
        "PIPELINE_SAS_EXPIRES_AT": SAS_EXPIRY if deployed.choice.access == "SasToken" else "",
        "BLOB_EVENTS": deployed.choice.events or {"flex": "eventGrid"}.get(deployed.choice.hosting, "poll"),
        "TRANSFER_ROLE": side,
        "REGISTRY_LOGIN_SERVER": f"{parameters['registryName']}.registry.invalid",
        "REGISTRY_RESOURCE_ID": registry_id,
        **_staging_settings(deployed, registry_group),
        "EVENTS_WEBHOOK_URL": WEBHOOK_URL if is_told else "",
        "EVENTS_WEBHOOK_SECRET": f"{vault}secrets/events-webhook" if is_told else "",
        "SIGNING_KEYS": f"{vault}keys/bundle-signing",
        "AZURE_CLIENT_ID": client["properties"]["clientId"],
        "TICKET_CLIENT_ID": tickets["properties"]["clientId"],
        _PIPELINE_SETTING[side]: deployed.one(_PIPELINES[side]).name.rpartition("/")[2],
        **{name: parameters["cloud"][member] for name, member in _OF_THE_CLOUD.items()},
        **{name: _text(parameters[one]) for name, one in PARAMETER_OF_SETTING.items() if one in parameters},
    }
    if deployed.choice.malware_scanning == "defender":
        defender = {"name": "malware", "kind": "defenderForStorage"}
        expected["CHECKS"] = _text([defender, *parameters.get("checks", [])])
    for name, value in expected.items():
        is_here = name not in _OF_A_SIDE["target" if side == "source" else "source"]
        if is_here and found.get(name) != value:
            yield f"the setting {name} is {found.get(name)!r}, not {value!r}"


def _sas_settings(deployed: Deployed, vault: str) -> dict[str, str]:
    """Where the SAS of the pipeline lies, and who renews it; nothing where there is none."""
    if deployed.choice.access != "SasToken":
        return {"PIPELINE_SAS_CLIENT_ID": "", "PIPELINE_SAS_SECRET": ""}
    renewer = deployed.state(deployed.one("Microsoft.ManagedIdentity/userAssignedIdentities", "-sas"))
    secret = {"source": "acrexportsas", "target": "acrimportsas"}[deployed.choice.side]
    return {
        "PIPELINE_SAS_CLIENT_ID": renewer["properties"]["clientId"],
        "PIPELINE_SAS_SECRET": f"{vault}secrets/{secret}",
    }


def _staging_settings(deployed: Deployed, group: str) -> dict[str, str]:
    name = f"{deployed.parameters['prefix']}staging"
    is_staged = deployed.choice.import_way == "staged"
    staging = f"/subscriptions/{GROUP.subscription_id}/resourceGroups/{group}/providers/{_REGISTRY}/{name}"
    return {
        "STAGING_REGISTRY_LOGIN_SERVER": f"{name}.registry.invalid" if is_staged else "",
        "STAGING_REGISTRY_RESOURCE_ID": staging if is_staged else "",
    }


def _pipeline_place(deployed: Deployed) -> Iterator[str]:
    """The pipeline is of the registry that it is to work on: at the target perhaps the staging registry."""
    pipeline = deployed.one(_PIPELINES[deployed.choice.side])
    is_staged = deployed.choice.import_way == "staged"
    name = f"{deployed.parameters['prefix']}staging" if is_staged else deployed.parameters["registryName"]
    if pipeline.name.split("/")[0] != name:
        yield f"the pipeline is of {pipeline.name.split('/')[0]}, not of {name}"
    for registry in deployed.of_type(_REGISTRY):
        if registry.name != name:
            yield f"the registry {registry.name} is not named {name}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


RELATIONS = (
    Relation(
        _alerts,
        "somebody is told of what needs somebody",
        f"{_LEARN}azure-monitor/alerts/alerts-types#log-alerts",
    ),
    Relation(_audit, "a signature that nobody asked for is seen", f"{_LEARN}key-vault/general/logging"),
    Relation(
        _scanning,
        "what is not scanned is not imported",
        f"{_LEARN}defender-for-cloud/on-upload-malware-scanning",
    ),
    Relation(_workbook, "what happened is seen at a glance", "infra/README.md"),
    Relation(_outputs, "nobody has to look for it in the portal", "infra/README.md"),
    Relation(_settings, "the app does what was chosen", "infra/README.md"),
    Relation(_inventory, "nothing is missing, and nothing is there that nobody asked for", "infra/README.md"),
    Relation(_containers, "a container for each stage of trust", "docs/adr/0015-custody-first.md"),
    Relation(
        _evidence,
        "what was decided cannot be undone; and a locked policy can never be taken away",
        f"{_LEARN}storage/blobs/immutable-time-based-retention-policy-overview",
    ),
    Relation(
        _order,
        "what is deployed too early fails, on some days",
        f"{_LEARN}azure-resource-manager/templates/resource-dependency",
    ),
    Relation(
        _names,
        "a name that is too long fails, with the longest prefixes only",
        f"{_LEARN}azure-resource-manager/management/resource-name-rules",
    ),
    Relation(_groups, "the registry is there, and may be elsewhere", "infra/README.md"),
    Relation(
        _own_roles,
        "a role allows what is needed",
        f"{_LEARN}role-based-access-control/custom-roles",
    ),
    Relation(
        _pipeline_place,
        "nothing comes into the real registry that was not proven in the staging registry",
        "docs/adr/0018-staged-import.md",
    ),
    Relation(
        _grants,
        "nobody may do more than they must",
        "infra/roles.json",
    ),
)
"""All of them."""
