"""The ways in which a side can be deployed, and what each of them deploys."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.expansion import Expansion, Group, ImaginedCloud, Memory, Resource, expand
from infra.templates import FOLDER, SIDES

GROUP = Group(
    subscription_id="00000000-0000-0000-0000-00000000000a",
    tenant_id="00000000-0000-0000-0000-00000000000b",
    name="airgap",
    location="westeurope",
)
PREFIX = "contosogap1"
"""As long as one may be."""

WEBHOOK_KEY = "key-of-the-webhook"
WEBHOOK_URL = "https://events.contoso.com/airgap"
SAS_EXPIRY = "2027-01-31T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A way to deploy a side; the other parameters have the default, or each a value of its own."""

    side: str
    hosting: str = "dedicated"
    access: str = "ManagedIdentity"
    app_roles: str = "custom"
    pipeline_identity: str = "SystemAssigned"
    import_way: str = "direct"
    """Of the target."""
    malware_scanning: str = "none"
    """Likewise."""
    events: str = ""
    """Of blobs; where it is empty, as the hosting is."""
    told: str = "none"
    """Who is told of changes of state: ``none``, or a ``webhook``."""
    has_defaults: bool = True

    def parameters(self, cloud: str = "public") -> dict[str, Any]:
        """The values for the parameters of the side's template."""
        file = FOLDER / "parameters" / f"{cloud}.json"
        given = json.loads(file.read_text(encoding="utf-8"))["parameters"]
        chosen = {"hosting": self.hosting, "storageAccessMode": self.access, "appRoles": self.app_roles}
        if self.has_defaults:
            chosen = {name: one for name, one in chosen.items() if one not in _DEFAULTS}
        return {
            **{name: one["value"] for name, one in given.items()},
            "prefix": PREFIX,
            "registryName": "contoso",
            **chosen,
            **(
                {"pipelineIdentity": self.pipeline_identity}
                if self.pipeline_identity != "SystemAssigned"
                else {}
            ),
            **({"importWay": self.import_way} if self.import_way != "direct" else {}),
            **(
                {"malwareScanning": self.malware_scanning, "malwareScanningCapGb": 700}
                if self.malware_scanning != "none"
                else {}
            ),
            **({"blobEvents": self.events, "isSubscribed": True} if self.events else {}),
            **({"stateEvents": self.told, "stateEventsUrl": WEBHOOK_URL} if self.told != "none" else {}),
            **({"pipelineSasExpiry": SAS_EXPIRY} if self.access == "SasToken" else {}),
            **({} if self.has_defaults else _OWN_VALUES[self.side]),
        }


_DEFAULTS = frozenset({"dedicated", "ManagedIdentity", "custom"})
_OF_BOTH: Mapping[str, Any] = {
    "location": "northeurope",
    "tags": {"owner": "transfer"},
    "evidenceDays": 30,
    "isHsm": False,
    "pythonVersion": "3.12",
    "registryResourceGroup": "registries",
    "registryLocation": "westus",
    "actionGroups": ["/subscriptions/x/actionGroups/night"],
    "trustPolicy": {"schema": 1},
    "pipelineRunsAtOnce": 3,
    "hashesAtOnce": 4,
    "workDays": 200,
    "pipelineRunPollSeconds": 20,
    "pipelineRunTimeoutSeconds": 3000,
    "callers": "appServiceAuthentication",
    "ticketHours": 2,
}
_OWN_VALUES: Mapping[str, Mapping[str, Any]] = {
    "source": {
        **_OF_BOTH,
        "partSizeMib": 32,
        "endedTransferDays": 45,
        "signatureTimeoutSeconds": 3600,
        "sequenceFloors": {"prod": {"sequence": 7, "previous": f"sha256:{0:064}"}},
    },
    "target": {
        **_OF_BOTH,
        "quarantineDays": 60,
        "heldUploadDays": 7,
        "endedImportDays": 21,
        "releaseTimeoutSeconds": 3600,
        "checks": [
            {"name": "scan", "url": "https://scanner.contoso.com/check", "scope": "api://scanner/.default"}
        ],
        "checkTimeoutSeconds": 7200,
    },
}
CHOICES = tuple(
    Choice(side=side, hosting=hosting, access=access, app_roles=app_roles, has_defaults=has_defaults)
    for side, hosting, access, app_roles, has_defaults in itertools.product(
        SIDES,
        ("dedicated", "flex"),
        ("ManagedIdentity", "SasToken"),
        ("custom", "builtIn"),
        (False, True),
    )
)


class _Cloud(ImaginedCloud):
    """One in which there is nothing but a registry, and what was deployed before."""

    def __init__(self) -> None:
        self._deployed: dict[str, Mapping[str, Any]] = {}

    def put(self, resource: Resource) -> Mapping[str, Any]:
        """What it would be, from then on."""
        state = self._deployed[resource.id.lower()] = super().put(resource)
        return state

    def get(self, resource_id: str, api_version: str) -> Mapping[str, Any]:
        """What a registry would be, or a group, or what was deployed before."""
        if resource_id.lower() in self._deployed:
            return self._deployed[resource_id.lower()]
        if "/providers/" not in resource_id:
            return {"location": GROUP.location}
        if "/Microsoft.ContainerRegistry/registries/" not in resource_id:
            raise LookupError(f"{resource_id} is not there")
        return super().get(resource_id, api_version)

    def call(
        self, operation: str, resource_id: str, api_version: str, asked: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """What is asked of the host of an app, and otherwise of any cloud."""
        if operation == "listKeys" and resource_id.endswith("/host/default"):
            return {"systemKeys": {"blobs_extension": WEBHOOK_KEY}}
        return super().call(operation, resource_id, api_version, asked)


CHOICES += tuple(
    Choice(side=side, access=access, pipeline_identity="UserAssigned")
    for side, access in itertools.product(SIDES, ("ManagedIdentity", "SasToken"))
)
CHOICES += tuple(
    Choice(
        side="target",
        hosting=hosting,
        access=access,
        app_roles=app_roles,
        import_way="staged",
        has_defaults=has_defaults,
    )
    for hosting, access, app_roles, has_defaults in itertools.product(
        ("dedicated", "flex"), ("ManagedIdentity", "SasToken"), ("custom", "builtIn"), (False, True)
    )
)
CHOICES += tuple(
    Choice(side=side, hosting=hosting, events="eventGrid")
    for side, hosting in itertools.product(SIDES, ("dedicated", "flex"))
)
CHOICES += tuple(
    Choice(side=side, hosting=hosting, told="webhook", has_defaults=has_defaults)
    for side, hosting, has_defaults in itertools.product(SIDES, ("dedicated", "flex"), (False, True))
)
CHOICES += tuple(
    Choice(side="target", app_roles=app_roles, malware_scanning="defender", has_defaults=has_defaults)
    for app_roles, has_defaults in itertools.product(("custom", "builtIn"), (False, True))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A template that was deployed by a choice, with what came of it."""

    template: Mapping[str, Any]
    choice: Choice
    parameters: Mapping[str, Any]
    expansion: Expansion

    def of_type(self, kind: str) -> list[Resource]:
        """The resources of a type."""
        return self.expansion.of_type(kind)

    def one(self, kind: str, end: str = "") -> Resource:
        """The only resource of that type whose name ends with ``end``.

        Raises:
            LookupError: there is none, or there are several.
        """
        found = [resource for resource in self.of_type(kind) if resource.name.endswith(end)]
        if len(found) != 1:
            raise LookupError(f"there are {len(found)} of {kind} {end}")
        return found[0]

    def state(self, resource: Resource) -> Mapping[str, Any]:
        """The resource as it would be once deployed."""
        return _Cloud().put(resource)

    @property
    def location(self) -> str:
        """The location of the side's resources."""
        return str(self.parameters.get("location", GROUP.location))


def deploy(
    template: Mapping[str, Any], choice: Choice, *, cloud: str = "public", memory: Memory | None = None
) -> Deployed:
    """Deploy a side's template into an imagined cloud.

    Raises:
        ExpansionError: the template cannot be deployed.
    """
    parameters = choice.parameters(cloud)
    expansion = expand(template, parameters, group=GROUP, provider=_Cloud(), name=choice.side, memory=memory)
    return Deployed(template=template, choice=choice, parameters=parameters, expansion=expansion)
