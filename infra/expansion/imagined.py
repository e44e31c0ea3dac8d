"""An imagined cloud in Azure's place: values of the right form, the same for the same resource id."""

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from infra.expansion.template import Resource

_NAMESPACE = uuid.UUID("1c0f3a5e-7d0b-4a40-9b59-2f2f3f1c6b1d")


class ImaginedCloud:
    """A `Provider` that deploys nothing, and makes up what templates ask of an identity or an account."""

    def put(self, resource: Resource) -> Mapping[str, Any]:
        """The resource as it would be once deployed."""
        return self._state(resource.id, resource.type, resource.name, resource.body)

    def get(self, resource_id: str, api_version: str) -> Mapping[str, Any]:
        """A resource or a resource group as it would be if it had been there before."""
        del api_version
        if "/providers/" not in resource_id:
            return {"id": resource_id, "location": "elsewhere"}
        parts = resource_id.partition("/providers/")[2].split("/")
        return self._state(resource_id, "/".join([parts[0], *parts[1::2]]), "/".join(parts[2::2]), {})

    def call(
        self, operation: str, resource_id: str, api_version: str, asked: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """A SAS that is no secret: it tells what it was asked for.

        Raises:
            LookupError: the operation is not one that gives a SAS.
        """
        del api_version
        if operation != "listServiceSas" or asked is None:
            raise LookupError(f"{operation} of {resource_id} is not known")
        return {"serviceSasToken": urlencode(sorted({**asked, "of": resource_id}.items()))}

    def _state(self, resource_id: str, kind: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        state = {"id": resource_id, "name": name, "type": kind, **body}
        state["properties"] = {**(body.get("properties") or {}), **_properties(resource_id, kind, name)}
        identity = body.get("identity")
        if identity and identity["type"] == "SystemAssigned":
            state["identity"] = {**identity, "principalId": _id("principal", resource_id)}
        return state


def _properties(resource_id: str, kind: str, name: str) -> dict[str, Any]:
    """What is known of a resource only when it is there."""
    principal, client = _id("principal", resource_id), _id("client", resource_id)
    services = ("blob", "queue", "table")
    known: dict[str, dict[str, Any]] = {
        "Microsoft.ContainerRegistry/registries": {"loginServer": f"{name.lower()}.registry.invalid"},
        "Microsoft.Insights/components": {"ConnectionString": f"InstrumentationKey={client}"},
        "Microsoft.KeyVault/vaults": {"vaultUri": f"https://{name}.vault.invalid/"},
        "Microsoft.ManagedIdentity/userAssignedIdentities": {"principalId": principal, "clientId": client},
        "Microsoft.Storage/storageAccounts": {
            "primaryEndpoints": {one: f"https://{name}.{one}.storage.invalid/" for one in services}
        },
        "Microsoft.Web/sites": {"defaultHostName": f"{name}.sites.invalid"},
    }
    return known.get(kind, {})


def _id(what: str, resource_id: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{what}:{resource_id.lower()}"))
