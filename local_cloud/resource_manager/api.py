"""What ARM answers: deployments, resources by their ids, role assignments, and what clients ask first.

Paths of pipelines and runs go on to ``acr_transfer``; everything stands behind the same tokens and errors.
"""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from infra.expansion import Group, Resource
from local_cloud.acr_transfer import AcrTransfer, ImageImports, TransferApi, arm_app_of
from local_cloud.acr_transfer import image_imports as imports
from local_cloud.acr_transfer.arm import caller_of, json_body, version_of
from local_cloud.acr_transfer.errors import ArmError, invalid, not_authorized, not_found
from local_cloud.resource_manager.deployments import Deployment, Deployments, Order
from local_cloud.resource_manager.resources import Resources

DEPLOYMENTS = "Microsoft.Resources/deployments"
ROLE_ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"
_VERSIONS: Mapping[str, tuple[str, ...]] = {
    DEPLOYMENTS: ("2020-10-01", "2021-04-01", "2022-09-01", "2024-03-01", "2024-11-01", "2025-04-01"),
    ROLE_ASSIGNMENTS: ("2015-07-01", "2018-01-01-preview", "2020-04-01-preview", "2022-04-01"),
    "subscriptions": ("2015-11-01", "2016-06-01", "2019-11-01", "2020-01-01", "2022-09-01", "2022-12-01"),
    "tenants": ("2016-06-01", "2019-11-01", "2020-01-01", "2022-09-01", "2022-12-01"),
    "metadata": ("2015-01-01", "2019-05-01", "2020-06-01", "2022-09-01", "2023-01-01"),
    "registries": ("2023-01-01-preview", "2023-07-01", "2025-04-01", "2025-05-01-preview", "2025-11-01"),
}
_GROUP = r"(?P<group>/subscriptions/[^/]+/resourceGroups/[^/]+)"
_READ = frozenset({"reader", "contributor", "owner"})
_WRITE = frozenset({"contributor", "owner"})
_OWN = frozenset({"owner"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """Whom the cloud belongs to, and where it says that its other parts are."""

    tenant_id: str
    subscription_id: str
    login_endpoint: str
    audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A request of somebody known, to a path that is known; ``parts`` are those of the path."""

    request: web.Request
    caller: str
    version: str
    parts: Mapping[str, str]

    def url(self, path: str) -> str:
        """An absolute URL on the host that was called."""
        return f"{self.request.scheme}://{self.request.host}{path}?api-version={self.version}"


_Answer = Callable[[_Call], Awaitable[web.StreamResponse]]


def resource_manager_app(
    *,
    tenancy: Tenancy,
    transfers: Sequence[AcrTransfer],
    image_imports: ImageImports,
    resources: Resources,
    deployments: Deployments,
) -> web.Application:
    """The whole of ARM of a cloud; serve it over HTTPS. One application at a time.

    ``transfers`` are those of its registries, the first of which is there from the beginning.
    """
    api = _Api(tenancy, transfers, image_imports, resources, deployments)
    return arm_app_of(api.answer, transfers)


class _Api:
    def __init__(
        self,
        tenancy: Tenancy,
        transfers: Sequence[AcrTransfer],
        image_imports: ImageImports,
        resources: Resources,
        deployments: Deployments,
    ) -> None:
        self._tenancy = tenancy
        self._transfers = transfers
        self._transfer = transfers[0]
        self._image_imports = image_imports
        self._resources = resources
        self._deployments = deployments
        named = rf"{_GROUP}/providers/Microsoft\.Resources/deployments/(?P<name>[-\w.()]{{1,64}})"
        assignments = r"(?P<scope>/.*)/providers/Microsoft\.Authorization/roleAssignments"
        self._routes: list[tuple[str, str, str, _Answer]] = [
            ("GET", r"/subscriptions", "subscriptions", self._subscriptions),
            ("GET", r"/subscriptions/[^/]+", "subscriptions", self._subscription),
            ("GET", r"/tenants", "tenants", self._tenants),
            ("PUT", named, DEPLOYMENTS, self._deploy),
            ("GET", named, DEPLOYMENTS, self._deployment),
            ("POST", f"{named}/validate", DEPLOYMENTS, self._validate),
            ("POST", f"{named}/whatIf", DEPLOYMENTS, self._what_if),
            ("GET", rf"{named}/operationStatuses/(?P<operation>\d+)", DEPLOYMENTS, self._operation),
            ("PUT", rf"{assignments}/(?P<name>[^/]+)", ROLE_ASSIGNMENTS, self._assign),
            ("DELETE", rf"{assignments}/(?P<name>[^/]+)", ROLE_ASSIGNMENTS, self._unassign),
            ("GET", assignments, ROLE_ASSIGNMENTS, self._assignments),
        ]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request.

        Raises:
            ArmError: it is refused.
        """
        path = request.path.rstrip("/")
        if path.lower() == "/metadata/endpoints" and request.method == "GET":
            version_of(request, "metadata", _VERSIONS["metadata"])
            return self._metadata(request)
        if re.search("/(export|import)Pipelines|/pipelineRuns", path, re.IGNORECASE) and not re.search(
            "/Microsoft.Authorization/", path, re.IGNORECASE
        ):
            return await TransferApi(self._transfer_of(path)).answer(request)
        if imports.PATH.fullmatch(path) or imports.OPERATION.fullmatch(path):
            return await self._image_imports.answer(request)
        caller = caller_of(request, self._transfer.tokens)
        methods = set()
        for method, pattern, kind, answer in self._routes:
            if match := re.fullmatch(pattern, path, re.IGNORECASE):
                methods.add(method)
                if method == request.method:
                    version = version_of(request, kind, _VERSIONS[kind])
                    call = _Call(request=request, caller=caller, version=version, parts=match.groupdict())
                    return await answer(call)
        if methods:
            raise ArmError(
                405, "MethodNotAllowed", f"The HTTP method '{request.method}' is not supported here."
            )
        return self._resource(request, caller, path)

    def _transfer_of(self, path: str) -> AcrTransfer:
        """The service of the registry that a path is of; of an unknown one the first, which says so."""
        found = (one for one in self._transfers if path.lower().startswith(f"{one.registry_id.lower()}/"))
        return next(found, self._transfer)

    # --- what clients ask first

    def _metadata(self, request: web.Request) -> web.Response:
        here = f"{request.scheme}://{request.host}/"
        authentication = {
            "loginEndpoint": self._tenancy.login_endpoint,
            "audiences": [self._tenancy.audience],
            "tenant": self._tenancy.tenant_id,
            "identityProvider": "AAD",
        }
        cloud = {
            "name": "LocalCloud",
            "resourceManager": here,
            "authentication": authentication,
            "galleryEndpoint": here,
            "graphEndpoint": here,
            "graph": here,
            "portal": here,
            "portalEndpoint": here,
            "suffixes": {},
        }
        is_one = {name.lower(): value for name, value in request.query.items()}["api-version"] == "2015-01-01"
        return web.json_response(cloud if is_one else [cloud])

    async def _tenants(self, _call: _Call) -> web.StreamResponse:
        tenant = self._tenancy.tenant_id
        return web.json_response({"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant}]})

    async def _subscriptions(self, _call: _Call) -> web.StreamResponse:
        return web.json_response({"value": [self._subscription_json()]})

    async def _subscription(self, call: _Call) -> web.StreamResponse:
        shown = self._subscription_json()
        if shown["id"].lower() != call.request.path.rstrip("/").lower():
            message = "The subscription could not be found."
            raise ArmError(404, "SubscriptionNotFound", message)
        return web.json_response(shown)

    def _subscription_json(self) -> dict[str, Any]:
        subscription = self._tenancy.subscription_id
        return {
            "id": f"/subscriptions/{subscription}",
            "subscriptionId": subscription,
            "tenantId": self._tenancy.tenant_id,
            "displayName": "local cloud",
            "state": "Enabled",
        }

    # --- deployments

    async def _deploy(self, call: _Call) -> web.StreamResponse:
        order, group = await self._ordered(call, "write")
        foreseen = self._deployments.check(order, group)
        for one in foreseen.of_type(ROLE_ASSIGNMENTS):
            self._allow(call.caller, one.scope or group.id, f"{ROLE_ASSIGNMENTS}/write", _OWN)
        deployment, is_first = self._deployments.begin(self._path(call), order, group, foreseen)
        headers = {
            "Azure-AsyncOperation": call.url(f"{deployment.id}/operationStatuses/{deployment.operation_id}")
        }
        return web.json_response(deployment.to_json(), status=201 if is_first else 200, headers=headers)

    async def _validate(self, call: _Call) -> web.StreamResponse:
        order, group = await self._ordered(call, "validate/action")
        found = self._deployments.check(order, group)
        deployment_id = self._path(call).rpartition("/")[0]
        resources = [{"id": one.id} for one in found.resources]
        properties = {
            "provisioningState": "Succeeded",
            "mode": "Incremental",
            "validatedResources": resources,
        }
        name = call.parts["name"]
        return web.json_response({"id": deployment_id, "name": name, "properties": properties})

    async def _what_if(self, call: _Call) -> web.StreamResponse:
        order, group = await self._ordered(call, "whatIf/action")
        changes = self._deployments.what_if(order, group)
        return web.json_response({"status": "Succeeded", "properties": {"changes": changes}})

    async def _deployment(self, call: _Call) -> web.StreamResponse:
        return web.json_response(self._found(call, self._path(call)).to_json())

    async def _operation(self, call: _Call) -> web.StreamResponse:
        deployment = self._found(call, self._path(call).rpartition("/operationStatuses/")[0])
        if deployment.operation_id != call.parts["operation"]:
            raise not_found(self._path(call))
        return web.json_response(deployment.operation_to_json())

    def _found(self, call: _Call, deployment_id: str) -> Deployment:
        self._allow(call.caller, call.parts["group"], f"{DEPLOYMENTS}/read", _READ)
        deployment = self._deployments.find(deployment_id)
        if deployment is None:
            message = f"Deployment '{call.parts['name']}' could not be found."
            raise ArmError(404, "DeploymentNotFound", message)
        return deployment

    async def _ordered(self, call: _Call, verb: str) -> tuple[Order, Group]:
        group_id = call.parts["group"]
        self._allow(call.caller, group_id, f"{DEPLOYMENTS}/{verb}", _WRITE)
        order = Order.from_json(await json_body(call.request))
        state = self._resources.find(group_id)
        if state is None:
            message = f"Resource group '{group_id.rpartition('/')[2]}' could not be found."
            raise ArmError(404, "ResourceGroupNotFound", message)
        _, _, subscription_id, _, name = state["id"].split("/")
        return order, Group(
            subscription_id=subscription_id,
            tenant_id=self._tenancy.tenant_id,
            name=name,
            location=state["location"],
        )

    # --- role assignments

    async def _assign(self, call: _Call) -> web.StreamResponse:
        scope, name = call.parts["scope"], call.parts["name"]
        self._allow(call.caller, scope, f"{ROLE_ASSIGNMENTS}/write", _OWN)
        body = await json_body(call.request)
        properties = body.get("properties") if isinstance(body, dict) else None
        if not isinstance(properties, dict) or not isinstance(properties.get("principalId"), str):
            raise invalid("properties.principalId is required")
        if not _is_guid(name):
            raise ArmError(400, "InvalidRoleAssignmentId", "The role assignment ID must be a GUID.")
        resource = Resource(
            id=f"{scope}/providers/{ROLE_ASSIGNMENTS}/{name}",
            type=ROLE_ASSIGNMENTS,
            name=name,
            api_version=call.version,
            scope=scope,
            place="request",
            body={"properties": properties},
        )
        return web.json_response(self._resources.put(resource), status=201)

    async def _unassign(self, call: _Call) -> web.StreamResponse:
        self._allow(call.caller, call.parts["scope"], f"{ROLE_ASSIGNMENTS}/delete", _OWN)
        removed = self._resources.delete(self._path(call))
        return web.json_response(removed) if removed else web.Response(status=204)

    async def _assignments(self, call: _Call) -> web.StreamResponse:
        scope = call.parts["scope"].lower()
        self._allow(call.caller, scope, f"{ROLE_ASSIGNMENTS}/read", _READ)
        found = self._resources.of_type(ROLE_ASSIGNMENTS)
        return web.json_response(
            {"value": [one for one in found if one["id"].lower().startswith(f"{scope}/")]}
        )

    # --- any resource

    def _resource(self, request: web.Request, caller: str, path: str) -> web.StreamResponse:
        found = self._resources.find(path)
        if request.method not in ("GET", "HEAD"):
            message = f"The HTTP method '{request.method}' is not supported here."
            raise ArmError(
                405 if found else 404, "MethodNotAllowed" if found else "InvalidResourceType", message
            )
        self._allow(caller, path, "*/read", _READ)
        if found is None:
            raise not_found(path)
        if str(found.get("type")).lower() == "microsoft.containerregistry/registries":
            version_of(request, "registries", _VERSIONS["registries"])
        return web.json_response(found)

    def _allow(self, caller: str, scope: str, action: str, needed: frozenset[str]) -> None:
        if self._transfer.roles.roles(caller, scope).isdisjoint(needed):
            raise not_authorized(caller, action, scope)

    @staticmethod
    def _path(call: _Call) -> str:
        return call.request.path.rstrip("/")


def _is_guid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
