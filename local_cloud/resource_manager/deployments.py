"""Deployments: a template is expanded twice, once to check all of it, then to make every resource."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.expansion import Expansion, ExpansionError, Group, ImaginedCloud, Resource, expand
from local_cloud.acr_transfer.errors import ArmError, invalid
from local_cloud.acr_transfer.records import timestamp
from local_cloud.resource_manager.resources import Resources

_LOG = logging.getLogger(__name__)
_MODES = ("incremental",)
_KINDS = {str: "String", bool: "Bool", int: "Int", list: "Array", dict: "Object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order for a deployment: the body of its request, read."""

    template: Mapping[str, Any]
    parameters: Mapping[str, Any]

    @classmethod
    def from_json(cls, raw: object) -> "Order":
        """Read the body of a deployment's request.

        Raises:
            ArmError: 400: it is malformed, or has to be fetched from elsewhere, which a closed cloud cannot
                do.
        """
        properties = raw.get("properties") if isinstance(raw, dict) else None
        if not isinstance(properties, dict):
            raise invalid("properties must be an object")
        if properties.get("templateLink") or properties.get("parametersLink"):
            raise invalid("only a template and parameters that are in the request are known here")
        template, given = properties.get("template"), properties.get("parameters") or {}
        if not isinstance(template, dict) or not isinstance(given, dict):
            raise invalid("properties.template and properties.parameters must be objects")
        if str(properties.get("mode")).lower() not in _MODES:
            raise invalid("properties.mode must be Incremental")
        for name, one in given.items():
            if not isinstance(one, dict) or "value" not in one:
                raise ArmError(400, "InvalidTemplate", f"The parameter '{name}' has no value.")
        return cls(template=template, parameters={name: one["value"] for name, one in given.items()})

    def secure(self) -> frozenset[str]:
        """The names of the parameters whose values are never shown."""
        declared = self.template.get("parameters", {})
        return frozenset(name for name, one in declared.items() if one["type"].lower().startswith("secure"))


@dataclass(slots=True, kw_only=True)
class Deployment:
    """A deployment of some name, and how far it is."""

    id: str
    order: Order
    started_s: float
    finished_s: float | None = None
    state: str = "Running"
    error: ArmError | None = None
    expansion: Expansion | None = None
    correlation_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    operation_id: str = field(default_factory=lambda: str(uuid.uuid4().int)[:20])

    def to_json(self) -> dict[str, Any]:
        """The resource as ARM shows it; what is secret is not in it."""
        secret = self.order.secure()
        declared = self.order.template.get("parameters", {})
        properties: dict[str, Any] = {
            "provisioningState": self.state,
            "mode": "Incremental",
            "correlationId": self.correlation_id,
            "timestamp": timestamp(self.finished_s or self.started_s),
            "parameters": {
                name: {"type": declared[name]["type"]} | ({} if name in secret else {"value": value})
                for name, value in self.order.parameters.items()
                if name in declared
            },
        }
        if self.expansion:
            properties["outputs"] = {
                name: {"type": _KINDS.get(type(value), "Object"), "value": value}
                for name, value in self.expansion.outputs.items()
            }
            properties["outputResources"] = [{"id": one.id} for one in self.expansion.resources]
        if self.error:
            properties["error"] = self.error.to_json()
        kind = "Microsoft.Resources/deployments"
        return {"id": self.id, "name": self.id.rpartition("/")[2], "type": kind, "properties": properties}

    def operation_to_json(self) -> dict[str, Any]:
        """The asynchronous operation as ARM shows it."""
        return {"status": self.state} | ({"error": self.error.to_json()} if self.error else {})


class Deployments:
    """The deployments of a subscription.

    ``prepare`` is called with what a template will make, once it is known to be right, before the first
    resource; in a thread of its own like all the making.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        prepare: Callable[[Expansion], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resources = resources
        self._prepare = prepare
        self._clock = clock
        self._deployments: dict[str, Deployment] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, deployment_id: str) -> Deployment | None:
        """The last deployment under an id."""
        return self._deployments.get(deployment_id.lower())

    def of_group(self, group_id: str) -> list[Deployment]:
        """The last deployment under each id of a group."""
        begin = f"{group_id.lower()}/"
        return [one for resource_id, one in self._deployments.items() if resource_id.startswith(begin)]

    def check(self, order: Order, group: Group) -> Expansion:
        """The expansion that an order would deploy.

        Raises:
            ArmError: 400, ``InvalidTemplate``: with the place and the reason.
        """
        try:
            return expand(order.template, order.parameters, group=group, provider=_Foreseen(self._resources))
        except ExpansionError as error:
            raise ArmError(
                400, "InvalidTemplate", f"Deployment template validation failed: '{error}'."
            ) from None
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            message = f"Deployment template validation failed: 'not a template: {error!r:.200}'."
            raise ArmError(400, "InvalidTemplate", message) from None

    def begin(
        self, deployment_id: str, order: Order, group: Group, foreseen: Expansion
    ) -> tuple[Deployment, bool]:
        """Start a deployment of what was checked; returns it, and whether it is the first under its id.

        Raises:
            ArmError: a deployment under that id is going on.
        """
        old = self.find(deployment_id)
        if old and old.state == "Running":
            raise ArmError(409, "DeploymentActive", f"The deployment '{deployment_id}' is going on.")
        deployment = Deployment(id=deployment_id, order=order, started_s=self._clock())
        self._deployments[deployment_id.lower()] = deployment
        task = asyncio.get_running_loop().create_task(self._deploy(deployment, foreseen, group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return deployment, old is None

    async def settle(self) -> None:
        """Wait until no deployment is going on."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _deploy(self, deployment: Deployment, foreseen: Expansion, group: Group) -> None:
        order = deployment.order

        def make() -> Expansion:
            self._prepare(foreseen)
            return expand(order.template, order.parameters, group=group, provider=self._resources)

        try:
            deployment.expansion = await asyncio.to_thread(make)
            deployment.state = "Succeeded"
        except (ArmError, ExpansionError) as error:
            deployment.error, deployment.state = _failed(error), "Failed"
        except Exception as error:  # noqa: BLE001 - else the deployment would seem to go on for ever
            _LOG.exception("what was to be deployed did not start")
            deployment.error, deployment.state = _failed(error), "Failed"
        finally:
            deployment.finished_s = self._clock()

    def what_if(self, order: Order, group: Group) -> list[dict[str, Any]]:
        """The changes that an order would make, as ARM shows them."""
        return [
            {
                "resourceId": one.id,
                "changeType": "Deploy" if self._resources.find(one.id) else "Create",
                "after": {**one.body, "id": one.id, "type": one.type, "apiVersion": one.api_version},
            }
            for one in self.check(order, group).resources
        ]


class _LaterKnown(dict[str, Any]):
    """Properties of what is not deployed yet: those that nobody can foresee are a text that says so."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return f"{name}: known after the deployment"


class _Foreseen(ImaginedCloud):
    """Imagines what is to be deployed, and knows what is there."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def put(self, resource: Resource) -> Mapping[str, Any]:
        state, there = super().put(resource), self._resources.find(resource.id) or {}
        known = {**state["properties"], **there.get("properties", {}), **resource.properties}
        return {**state, **there, "properties": _LaterKnown(known)}

    def get(self, resource_id: str, api_version: str) -> Mapping[str, Any]:
        return self._resources.find(resource_id) or super().get(resource_id, api_version)


class DeploymentError(ArmError):
    """A deployment that failed, and the refusal that made it fail."""

    def __init__(self, cause: ArmError) -> None:
        message = (
            "At least one resource deployment operation failed. Please list deployment operations for"
            " details. Please see https://aka.ms/arm-deployment-operations for usage details."
        )
        super().__init__(409, "DeploymentFailed", message)
        self.cause = cause

    def to_json(self) -> dict[str, Any]:
        """The body of the refusal, with the cause."""
        return super().to_json() | {"details": [self.cause.to_json()]}


def _failed(error: Exception) -> ArmError:
    match error:
        case ArmError():
            return DeploymentError(error)
        case ExpansionError():
            return DeploymentError(ArmError(400, "InvalidTemplate", str(error)))
    return DeploymentError(ArmError(500, "InternalServerError", f"{type(error).__name__}: {error}"[:500]))
