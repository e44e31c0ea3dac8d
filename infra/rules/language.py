"""The rules for a template as a text, before anything is deployed by it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from infra.bicep.expressions import OF_THE_DEPLOYED
from infra.expansion.errors import LanguageError
from infra.expansion.parameters import check_parameter
from infra.rules.order import references

DEPLOYMENTS = "Microsoft.Resources/deployments"
API_VERSIONS = {
    "Microsoft.Authorization/roleAssignments": {"2022-04-01"},
    "Microsoft.Authorization/roleDefinitions": {"2022-04-01"},
    "Microsoft.ContainerRegistry/registries": {"2023-07-01"},
    "Microsoft.ContainerRegistry/registries/exportPipelines": {"2019-12-01-preview", "2025-06-01-preview"},
    "Microsoft.ContainerRegistry/registries/importPipelines": {"2019-12-01-preview", "2025-06-01-preview"},
    "Microsoft.EventGrid/systemTopics": {"2022-06-15"},
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": {"2022-06-15"},
    "Microsoft.Insights/components": {"2020-02-02"},
    "Microsoft.Insights/diagnosticSettings": {"2021-05-01-preview"},
    "Microsoft.Insights/scheduledQueryRules": {"2021-08-01"},
    "Microsoft.Insights/workbooks": {"2022-04-01"},
    "Microsoft.KeyVault/vaults": {"2023-07-01"},
    "Microsoft.KeyVault/vaults/keys": {"2023-07-01"},
    "Microsoft.KeyVault/vaults/secrets": {"2023-07-01"},
    "Microsoft.ManagedIdentity/userAssignedIdentities": {"2023-01-31"},
    "Microsoft.OperationalInsights/workspaces": {"2023-09-01"},
    DEPLOYMENTS: {"2025-04-01"},
    "Microsoft.Security/defenderForStorageSettings": {"2025-06-01"},
    "Microsoft.Storage/storageAccounts": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/blobServices": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/blobServices/containers": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/managementPolicies": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/queueServices": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/queueServices/queues": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/tableServices": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/tableServices/tables": {"2023-01-01"},
    "Microsoft.Web/serverfarms": {"2024-04-01"},
    "Microsoft.Web/sites": {"2024-04-01"},
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"2024-04-01"},
    "Microsoft.Web/sites/config": {"2024-04-01"},
}
"""All exist, by https://github.com/Azure/bicep-types-az at 1f896de; old enough for the other clouds, too."""

_HEAD = {
    "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
    "contentVersion": "1.0.0.0",
}
_MODULE = {"expressionEvaluationOptions": {"scope": "inner"}, "mode": "Incremental"}
_OF_A_RESOURCE = frozenset(
    {
        *("apiVersion", "condition", "copy", "dependsOn", "identity", "kind", "location", "name"),
        *("properties", "resourceGroup", "scope", "sku", "tags", "type"),
    }
)
LIMITS: dict[str, tuple[Any, ...]] = {
    "prefix": ("ab", "a" * 12),
    "hosting": ("elasticPremium",),
    "pythonVersion": ("3.10",),
    "storageAccessMode": ("AccountKey",),
    "appRoles": ("owner",),
    "pipelineIdentity": ("None",),
    "evidenceDays": (-1, 146_001),
    "partSizeMib": (3, 4001),
    "quarantineDays": (29, 3651),
    "workDays": (179, 3651),
    "pipelineRunsAtOnce": (0, 51),
    "hashesAtOnce": (0, 65),
    "pipelineRunPollSeconds": (0, 3601),
    "pipelineRunTimeoutSeconds": (0, 604_801),
    "heldUploadDays": (0, 90),
    "releaseTimeoutSeconds": (59, 3_888_001),
    "checkTimeoutSeconds": (59, 1_209_601),
    "ticketHours": (0, 145),
    "endedTransferDays": (0, 3651),
    "endedImportDays": (0, 90),
    "signatureTimeoutSeconds": (59, 3_888_001),
    "importWay": ("sideways",),
    "malwareScanning": ("perhaps",),
    "malwareScanningCapGb": (9, 1_000_001),
    "blobEvents": ("push",),
    "callers": ("anybody",),
    "stateEvents": ("shout",),
}
"""Values that a parameter of that name must not take in the template of a side."""

CHOSEN: dict[str, tuple[Any, ...]] = {
    "hosting": ("dedicated", "flex"),
    "pythonVersion": ("3.11", "3.12", "3.13"),
    "storageAccessMode": ("ManagedIdentity", "SasToken"),
    "appRoles": ("builtIn", "custom"),
    "pipelineIdentity": ("SystemAssigned", "UserAssigned"),
    "blobEvents": ("eventGrid", "poll"),
    "callers": ("appServiceAuthentication", "functionKeys"),
    "stateEvents": ("none", "webhook"),
    "importWay": ("direct", "staged"),
    "malwareScanning": ("defender", "none"),
}
"""Values that it must take."""

_TYPES = frozenset({"array", "bool", "int", "object", "string"})


def faults(template: dict[str, Any]) -> Iterator[str]:
    """The faults of a template and its modules, each as a text."""
    yield from faults_of_one(template)
    for resource in template["resources"]:
        if inner := _properties(resource).get("template"):
            yield from faults(inner)


def faults_of_one(template: dict[str, Any]) -> Iterator[str]:
    """The faults of a template without its modules, each as a text."""
    unread = list(_faults_of_form(template))
    if unread:
        yield from unread
        return
    texts = {id(one): json.dumps(_without_template(one)) for one in template["resources"]}
    rest = {name: part for name, part in template.items() if name != "resources"}
    own = json.dumps(rest) + "".join(texts.values())
    yield from _faults_of_names(template, own)
    yield from _faults_of_parameters(template.get("parameters", {}))
    heads = Counter((one["type"], one["name"], one.get("scope")) for one in template["resources"])
    yield from (f"{head} is there twice" for head, count in heads.items() if count > 1)
    for resource in template["resources"]:
        yield from _faults_of_resource(resource)
        if resource["type"] == DEPLOYMENTS:
            yield from _faults_of_module(resource, own)
        for other in references(template["resources"], resource, texts[id(resource)]):
            yield f"{resource['name']} does not wait for {other}"


def _faults_of_form(template: dict[str, Any]) -> Iterator[str]:
    """What keeps a template from being read at all."""
    if not template.get("resources"):
        yield "there are no resources"
    for resource in template.get("resources", ()):
        missing = {"apiVersion", "name", "type"} - resource.keys()
        missing |= {"name", "count"} - resource.get("copy", {"name": "", "count": ""}).keys()
        yield from (f"{resource.get('type', 'a resource')} has no {name}" for name in missing)
    for loop in template.get("variables", {}).get("copy", []):
        missing = {"count", "input", "name"} - loop.keys()
        yield from (f"a loop of a variable has no {name}" for name in missing)
    yield from (f"{name} is not {value}" for name, value in _HEAD.items() if template.get(name) != value)
    for name, output in template.get("outputs", {}).items():
        if output.get("type") not in _TYPES:
            yield f"the output {name} has no type"


def _faults_of_parameters(declared: dict[str, Any]) -> Iterator[str]:
    """Each has a type, and those that a person gives take nothing out of bounds."""
    limits, chosen = (LIMITS, CHOSEN) if "cloud" in declared else ({}, {})
    for name, parameter in declared.items():
        if "type" not in parameter:
            yield f"the parameter {name} has no type"
            continue
        for value in limits.get(name, ()):
            if _takes(parameter, value):
                yield f"the parameter {name} takes {value!r}"
        for value in chosen.get(name, ()):
            if not _takes(parameter, value):
                yield f"the parameter {name} does not take {value!r}"


def _takes(parameter: dict[str, Any], value: object) -> bool:
    try:
        check_parameter(value, parameter)
    except LanguageError:
        return False
    return True


def _faults_of_names(template: dict[str, Any], own: str) -> Iterator[str]:
    """Parameters and variables: each is declared, and each is there for something."""
    for kind in ("parameters", "variables"):
        declared = template.get(kind, {})
        names = {name for name in declared if name != "copy"} | {
            one["name"] for one in declared.get("copy", [])
        }
        used = set(re.findall(rf"{kind}\('(\w+)'\)", own))
        yield from (f"{kind} {name} is not declared" for name in used - names)
        yield from (f"{kind} {name} is not used" for name in names - used)


def _faults_of_module(resource: dict[str, Any], own: str) -> Iterator[str]:
    """A module is given what it asks for and no more, and what it tells is of use."""
    inner = _properties(resource).get("template", {})
    arguments = _properties(resource).get("parameters", {})
    declared = inner.get("parameters", {})
    wanted = {name for name, one in declared.items() if "defaultValue" not in one}
    yield from (f"{resource['name']} is not given {name}" for name in wanted - arguments.keys())
    yield from (f"{resource['name']} takes no {name}" for name in arguments.keys() - declared.keys())
    for name, argument in arguments.items():
        if isinstance(argument, dict) and argument.keys() != {"value"}:
            yield f"{resource['name']}: its {name} has no value"
    for name, value in _MODULE.items():
        if _properties(resource).get(name) != value:
            yield f"{resource['name']}: its {name} is not {value}"
    for name in inner.get("outputs", {}):
        if f".outputs.{name}.value" not in own:
            yield f"{resource['name']}: nobody asks for its output {name}"


def _faults_of_resource(resource: dict[str, Any]) -> Iterator[str]:
    kind = resource["type"]
    if resource.get("apiVersion") not in API_VERSIONS.get(kind, set()):
        yield f"{kind}@{resource.get('apiVersion')} is not known"
    yield from (f"{kind} has no member {name}" for name in resource.keys() - _OF_A_RESOURCE)
    segments = re.match(r"\[format\('((?:\{\d\}/)*\{\d\})'", resource["name"])
    if (segments[1].count("/") if segments else 0) + 1 != kind.count("/"):
        yield f"{kind} is named {resource['name']}"
    early = json.dumps([resource["name"], resource.get("scope"), resource.get("condition")])
    if any(f"{function}(" in early for function in ("reference", *OF_THE_DEPLOYED)):
        yield f"{kind} is named by what is not known before it is deployed"


def _properties(resource: dict[str, Any]) -> dict[str, Any]:
    """The properties of a resource, but for those that an expression is for as a whole."""
    found = resource.get("properties")
    return found if isinstance(found, dict) else {}


def _without_template(resource: dict[str, Any]) -> dict[str, Any]:
    """A module without what is written in its own file."""
    kept = {name: value for name, value in _properties(resource).items() if name != "template"}
    return {**resource, "properties": kept or resource.get("properties")}
