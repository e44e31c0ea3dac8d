"""What Azure's own management SDK knows of a resource: members, types, values, what must and what may not be.

The models of an ``azure-mgmt-*`` package are generated from the service's specification. A package knows one
api-version; what a template sends at another one is held against that one all the same.
"""

import types
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

_STORAGE = "Microsoft.Storage/storageAccounts"
MODELS: Mapping[str, tuple[str, str]] = {
    "Microsoft.ContainerRegistry/registries": ("containerregistry", "Registry"),
    "Microsoft.ContainerRegistry/registries/exportPipelines": ("containerregistry", "ExportPipeline"),
    "Microsoft.ContainerRegistry/registries/importPipelines": ("containerregistry", "ImportPipeline"),
    "Microsoft.Authorization/roleAssignments": ("authorization", "RoleAssignmentCreateParameters"),
    "Microsoft.Authorization/roleDefinitions": ("authorization", "RoleDefinition"),
    "Microsoft.EventGrid/systemTopics": ("eventgrid", "SystemTopic"),
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": ("eventgrid", "EventSubscription"),
    "Microsoft.Insights/components": ("applicationinsights", "ApplicationInsightsComponent"),
    "Microsoft.Insights/scheduledQueryRules": ("monitor", "ScheduledQueryRuleResource"),
    "Microsoft.Insights/workbooks": ("applicationinsights", "Workbook"),
    "Microsoft.KeyVault/vaults": ("keyvault", "VaultCreateOrUpdateParameters"),
    "Microsoft.KeyVault/vaults/keys": ("keyvault", "KeyCreateParameters"),
    "Microsoft.KeyVault/vaults/secrets": ("keyvault", "SecretCreateOrUpdateParameters"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": ("msi", "Identity"),
    "Microsoft.OperationalInsights/workspaces": ("loganalytics", "Workspace"),
    _STORAGE: ("storage", "StorageAccountCreateParameters"),
    f"{_STORAGE}/blobServices": ("storage", "BlobServiceProperties"),
    f"{_STORAGE}/blobServices/containers": ("storage", "BlobContainer"),
    f"{_STORAGE}/blobServices/containers/immutabilityPolicies": ("storage", "ImmutabilityPolicy"),
    f"{_STORAGE}/managementPolicies": ("storage", "ManagementPolicy"),
    f"{_STORAGE}/queueServices": ("storage", "QueueServiceProperties"),
    f"{_STORAGE}/queueServices/queues": ("storage", "StorageQueue"),
    f"{_STORAGE}/tableServices": ("storage", "TableServiceProperties"),
    f"{_STORAGE}/tableServices/tables": ("storage", "Table"),
    "Microsoft.Web/serverfarms": ("web", "AppServicePlan"),
    "Microsoft.Web/sites": ("web", "Site"),
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": (
        "web",
        "CsmPublishingCredentialsPoliciesEntity",
    ),
    "Microsoft.Web/sites/config": ("web", "StringDictionary"),
}
"""By type of resource: the package behind ``azure.mgmt``, and the model of what is sent."""

WITHOUT: frozenset[str] = frozenset(
    {"Microsoft.Insights/diagnosticSettings", "Microsoft.Security/defenderForStorageSettings"}
)
"""What is deployed besides. ``azure-mgmt-monitor`` 8.0.0b3 has no model of the first, earlier ones none of
this make; ``azure-mgmt-security`` 8.0.0b2 knows the second at 2025-09-01-preview only, not at the version
that is deployed. What is sent is held by `infra/rules/values.py`, member by member."""

_IN_JSON: Mapping[type, type] = {datetime: str, timedelta: str, float: int}
"""What stands in JSON for a type that JSON does not have, or may."""


class Member(NamedTuple):
    """A member of a model, by the name that it has in JSON."""

    type: Any
    is_required: bool
    is_read_only: bool


def model_of(kind: str) -> type:
    """The model of a type of resource."""
    package, name = MODELS[kind]
    found: type = getattr(import_module(f"azure.mgmt.{package}.models"), name)
    return found


@cache
def members(model: type) -> Mapping[str, Member]:
    """The members of a model, those of its bases too."""
    package = import_module(model.__module__.rpartition(".")[0])
    hints = get_type_hints(model, localns={"_models": package})
    found = {}
    for base in reversed(model.__mro__):
        for attribute, field in vars(base).items():
            if type(field).__name__ == "_RestField":
                is_read_only = field._visibility == ["read"]
                is_optional = type(None) in get_args(hints[attribute])
                found[field._rest_name_input or attribute] = Member(
                    type=hints[attribute],
                    is_required=not is_optional and not is_read_only,
                    is_read_only=is_read_only,
                )
    return found


def faults(expected: Any, value: Any, path: str = "") -> Iterator[str]:
    """What of a value of JSON is not as a type of the SDK has it, each with its path."""
    options = get_args(expected) if get_origin(expected) in (Union, types.UnionType) else (expected,)
    known = [one for one in options if isinstance(one, type) and issubclass(one, Enum)]
    if known:
        yield from _unknown(value, [one.value for one in known[0]], path)
        return
    expected = next(one for one in options if one is not type(None))
    match get_origin(expected) or expected:
        case kind if kind is Literal:
            yield from _unknown(value, get_args(expected), path)
        case kind if kind is list:
            yield from _not_a(list, value, path)
            for at, one in enumerate(value if isinstance(value, list) else []):
                yield from faults(get_args(expected)[0], one, f"{path}[{at}]")
        case kind if kind is dict:
            yield from _not_a(dict, value, path)
            for name, one in value.items() if isinstance(value, dict) else []:
                yield from faults(get_args(expected)[1], one, f"{path}.{name}")
        case kind if isinstance(kind, type) and kind.__module__.startswith("azure."):
            yield from _faults_of_object(kind, value, path)
        case kind if isinstance(kind, type):
            yield from _not_a(_IN_JSON.get(kind, kind), value, path)


def _faults_of_object(model: type, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path} is no object"
        return
    known = members(_form_of(model, value))
    for name, one in value.items():
        if name not in known:
            yield f"{path}.{name} is not known"
        elif known[name].is_read_only:
            yield f"{path}.{name} is read-only"
        else:
            yield from faults(known[name].type, one, f"{path}.{name}")
    yield from (
        f"{path}.{name} is missing" for name, one in known.items() if one.is_required and name not in value
    )


def _form_of(model: type, value: Mapping[str, Any]) -> type:
    """Of a model that has several forms, the one that a member of the value names."""
    forms: Mapping[str, type] = getattr(model, "__mapping__", {})
    return next((forms[one] for one in value.values() if isinstance(one, str) and one in forms), model)


def _unknown(value: Any, known: Any, path: str) -> Iterator[str]:
    if value not in known:
        yield f"{path} is {value!r}, none of {', '.join(map(str, known))}"


def _not_a(kind: type, value: Any, path: str) -> Iterator[str]:
    is_one = isinstance(value, kind) and isinstance(value, bool) is (kind is bool)
    if kind is not Any and not is_one:
        yield f"{path} is {value!r}, no {kind.__name__}"
