"""Small rules of our own for ARM JSON, and for each of them a template that breaks it."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.templates import SIDES, arm_path

API_VERSIONS = {
    "Microsoft.Authorization/roleAssignments": {"2022-04-01"},
    "Microsoft.ContainerRegistry/registries/exportPipelines": {"2019-12-01-preview", "2025-06-01-preview"},
    "Microsoft.ContainerRegistry/registries/importPipelines": {"2019-12-01-preview", "2025-06-01-preview"},
    "Microsoft.Insights/components": {"2020-02-02"},
    "Microsoft.Insights/scheduledQueryRules": {"2021-08-01"},
    "Microsoft.KeyVault/vaults": {"2023-07-01"},
    "Microsoft.KeyVault/vaults/keys": {"2023-07-01"},
    "Microsoft.KeyVault/vaults/secrets": {"2023-07-01"},
    "Microsoft.ManagedIdentity/userAssignedIdentities": {"2023-01-31"},
    "Microsoft.OperationalInsights/workspaces": {"2023-09-01"},
    "Microsoft.Resources/deployments": {"2025-04-01"},
    "Microsoft.Storage/storageAccounts": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/blobServices": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/blobServices/containers": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/managementPolicies": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/tableServices": {"2023-01-01"},
    "Microsoft.Storage/storageAccounts/tableServices/tables": {"2023-01-01"},
    "Microsoft.Web/serverfarms": {"2024-04-01"},
    "Microsoft.Web/sites": {"2024-04-01"},
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"2024-04-01"},
    "Microsoft.Web/sites/config": {"2024-04-01"},
}
"""All exist, by https://github.com/Azure/bicep-types-az at 1f896de; old enough for the other clouds, too."""

OF_A_RESOURCE = frozenset(
    {
        *("apiVersion", "condition", "copy", "dependsOn", "identity", "kind", "location", "name"),
        *("properties", "resourceGroup", "scope", "sku", "tags", "type"),
    }
)
LOCATED = frozenset(
    {
        "Microsoft.Insights/components",
        "Microsoft.Insights/scheduledQueryRules",
        "Microsoft.KeyVault/vaults",
        "Microsoft.ManagedIdentity/userAssignedIdentities",
        "Microsoft.OperationalInsights/workspaces",
        "Microsoft.Storage/storageAccounts",
        "Microsoft.Web/serverfarms",
        "Microsoft.Web/sites",
    }
)

REQUIRED = {
    "Microsoft.Authorization/roleAssignments": "scope principalId principalType roleDefinitionId",
    "Microsoft.ContainerRegistry/registries/exportPipelines": "identity target options",
    "Microsoft.ContainerRegistry/registries/importPipelines": "identity source options trigger",
    "Microsoft.KeyVault/vaults": "tenantId sku softDeleteRetentionInDays enableSoftDelete",
    "Microsoft.KeyVault/vaults/keys": "kty curveName keyOps attributes",
    "Microsoft.KeyVault/vaults/secrets": "value",
    "Microsoft.Insights/components": "Application_Type WorkspaceResourceId DisableLocalAuth",
    "Microsoft.Insights/scheduledQueryRules": "scopes enabled severity windowSize actions",
    "Microsoft.Storage/storageAccounts": "kind sku allowCrossTenantReplication allowSharedKeyAccess",
    "Microsoft.Web/serverfarms": "kind sku reserved",
    "Microsoft.Web/sites": "kind identity serverFarmId httpsOnly siteConfig",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": "allow",
}
"""Members of a resource, or of its properties, without which it is another one."""


def faults(template: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a template and those of its modules, each fault as a text."""
    own = json.dumps({**template, "resources": [without_template(one) for one in template["resources"]]})
    for kind in ("parameters", "variables"):
        declared = template.get(kind, {})
        names = {name for name in declared if name != "copy"} | {
            one["name"] for one in declared.get("copy", [])
        }
        used = set(re.findall(rf"{kind}\('(\w+)'\)", own))
        yield from (f"{kind} {name} is not declared" for name in used - names)
        yield from (f"{kind} {name} is not used" for name in names - used)
    heads = [(one["type"], one["name"], one.get("scope")) for one in template["resources"]]
    yield from (f"{one} is there twice" for one in heads if heads.count(one) > 1)
    for resource in template["resources"]:
        yield from faults_of(resource)
        if inner := properties(resource).get("template"):
            yield from faults(inner)


def faults_of(resource: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one resource."""
    kind = resource["type"]
    if resource["apiVersion"] not in API_VERSIONS.get(kind, set()):
        yield f"{kind}@{resource['apiVersion']} is not known"
    yield from (f"{kind} has no member {name}" for name in resource.keys() - OF_A_RESOURCE)
    if kind in LOCATED and not {"location", "tags"} <= resource.keys():
        yield f"{kind} has no location or no tags"
    present = resource.keys() | properties(resource).keys()
    missing = set(REQUIRED.get(kind, "").split()) - present
    yield from (f"{kind} has no {name}" for name in missing)
    segments = re.match(r"\[format\('((?:\{\d\}/)*\{\d\})'", resource["name"])
    if (segments[1].count("/") if segments else 0) + 1 != kind.count("/"):
        yield f"{kind} is named {resource['name']}"
    early = json.dumps([resource["name"], resource.get("scope"), resource.get("condition")])
    if "reference(" in early:
        yield f"{kind} is named by what is not known before it is deployed"


def properties(resource: dict[str, Any]) -> dict[str, Any]:
    """The properties of a resource, but for those that an expression is for as a whole."""
    found = resource.get("properties")
    return found if isinstance(found, dict) else {}


def without_template(resource: dict[str, Any]) -> dict[str, Any]:
    """A module without what is written in its own file."""
    kept = {name: value for name, value in properties(resource).items() if name != "template"}
    return {**resource, "properties": kept or resource.get("properties")}


def template(side: str) -> dict[str, Any]:
    """The ARM template of a side."""
    found: dict[str, Any] = json.loads(arm_path(side).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("side", SIDES)
def test_template_keeps_the_rules(side: str) -> None:
    assert list(faults(template(side))) == []


def test_every_version_that_is_listed_is_used() -> None:
    text = "".join(arm_path(side).read_text(encoding="utf-8") for side in SIDES)
    used = set(re.findall(r'"type": "(Microsoft\.[^"]+)",\s+"apiVersion": "([^"]+)"', text))
    assert used == {(kind, version) for kind, versions in API_VERSIONS.items() for version in versions}


BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "parameters prefix is not declared": lambda it: it["parameters"].pop("prefix"),
    "parameters more is not used": lambda it: it["parameters"].update(more={"type": "string"}),
    "variables pipelineName is not declared": lambda it: it["variables"].pop("pipelineName"),
    "is there twice": lambda it: it["resources"].append(it["resources"][0]),
    "Microsoft.Resources/deployments@2025-04-02 is not known": lambda it: it["resources"][0].update(
        apiVersion="2025-04-02"
    ),
    "has no member propertes": lambda it: it["resources"][0].update(propertes={}),
    "Microsoft.Authorization/roleAssignments has no scope": lambda it: it["resources"][2]["properties"][
        "template"
    ]["resources"][0].pop("scope"),
    "has no location or no tags": lambda it: foundation(it)[0].pop("tags"),
    "is named [parameters('prefix')]": lambda it: foundation(it)[1].update(
        type="Microsoft.Storage/storageAccounts/blobServices", name="[parameters('prefix')]"
    ),
    "is named by what is not known": lambda it: foundation(it)[0].update(condition="[reference('x').y]"),
}


def foundation(template: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of the module that both sides have."""
    found: list[dict[str, Any]] = template["resources"][0]["properties"]["template"]["resources"]
    return found


@pytest.mark.parametrize("fault", BREAKS)
def test_broken_rule_is_told(fault: str) -> None:
    broken = copy.deepcopy(template("source"))
    BREAKS[fault](broken)
    assert [one for one in faults(broken) if fault in one] != []
