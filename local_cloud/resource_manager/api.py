"""The answers of ARM: deployments, resources by their ids, role assignments, and what clients ask first.

Paths of pipelines and runs go on to ``acr_transfer``; everything stands behind the same tokens and errors.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from infra.expansion import Group
from local_cloud.acr_transfer import AcrTransfer, ImageImports, TransferApi, arm_app_of
from local_cloud.acr_transfer import image_imports as imports
from local_cloud.acr_transfer.arm import API_VERSIONS, caller_of, json_body, version_of
from local_cloud.acr_transfer.errors import ArmError, invalid, not_authorized, not_found
from local_cloud.key_vault import DOMAIN
from local_cloud.resource_manager.authorization import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS, Authorization
from local_cloud.resource_manager.calls import OWN, READ, WRITE, Answer, Call
from local_cloud.resource_manager.deployments import Deployment, Deployments, Order
from local_cloud.resource_manager.resources import Resources
from local_cloud.resource_manager.templates import read_template
from local_cloud.tokens import APP_SERVICE_AUDIENCE

DEPLOYMENTS = "Microsoft.Resources/deployments"
RESOURCE_GROUPS = "Microsoft.Resources/resourceGroups"
RESOURCES = "Microsoft.Resources/resources"
_OF_DEPLOYMENTS = ("2020-10-01", "2021-04-01", "2022-09-01", "2024-03-01", "2024-11-01", "2025-04-01")
_VERSIONS: Mapping[str, tuple[str, ...]] = {
    DEPLOYMENTS: _OF_DEPLOYMENTS,
    RESOURCES: ("2015-11-01", "2018-05-01", "2019-07-01", *_OF_DEPLOYMENTS),
    ROLE_ASSIGNMENTS: ("2015-07-01", "2018-01-01-preview", "2020-04-01-preview", "2022-04-01"),
    ROLE_DEFINITIONS: ("2015-07-01", "2018-01-01-preview", "2022-04-01", "2022-05-01-preview"),
    "subscriptions": ("2015-11-01", "2016-06-01", "2019-11-01", "2020-01-01", "2022-09-01", "2022-12-01"),
    "tenants": ("2016-06-01", "2019-11-01", "2020-01-01", "2022-09-01", "2022-12-01"),
    "metadata": ("2015-01-01", "2019-05-01", "2020-06-01", "2022-09-01", "2023-01-01"),
    "registries": ("2019-05-01", "2022-12-01", "2023-07-01", "2025-04-01", "2025-11-01", *API_VERSIONS),
}
_METADATA_OF_ALL_CLOUDS = ("2019-05-01", "2020-06-01")
"""Versions that answer with a list of clouds; those before and after them tell of this one only.

`az cloud register` reads 2022-09-01 (azure-cli, command_modules/cloud/custom.py), and 2019-05-01 is what
``ARM_CLOUD_METADATA_URL`` leads to (azure-cli-core, cloud.py).
"""
_SUFFIXES = {"acrLoginServer": "azurecr.localhost", "keyVaultDns": DOMAIN, "storage": "localhost"}
"""`az acr` refuses to work without the first. Nothing here is reached by a name: each has its port."""
_SOON = {"Retry-After": "1"}
"""Clients that are not told come back after half a minute."""
_GROUP = r"(?P<group>/subscriptions/[^/]+/resourceGroups/[^/]+)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """The tenant and subscription of a cloud, and where it says that its other parts are."""

    tenant_id: str
    subscription_id: str
    login_endpoint: str
    audience: str


def resource_manager_app(
    *,
    tenancy: Tenancy,
    transfers: Sequence[AcrTransfer],
    image_imports: ImageImports,
    resources: Resources,
    deployments: Deployments,
) -> web.Application:
    """The whole ARM endpoint of a cloud, to be served over HTTPS, one application at a time.

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
        self._routes: list[tuple[str, str, str, Answer]] = [
            ("GET", r"/subscriptions", "subscriptions", self._subscriptions),
            ("GET", r"/subscriptions/[^/]+", "subscriptions", self._subscription),
            ("GET", r"(?P<scope>/subscriptions/[^/]+)/resourceGroups", RESOURCES, self._groups),
            ("GET", r"/tenants", "tenants", self._tenants),
            (
                "GET",
                r"(?P<scope>/subscriptions/[^/]+(?:/resourceGroups/[^/]+)?)/resources",
                RESOURCES,
                self._list,
            ),
            ("PUT", named, DEPLOYMENTS, self._deploy),
            ("GET", named, DEPLOYMENTS, self._deployment),
            ("GET", rf"{_GROUP}/providers/Microsoft\.Resources/deployments", DEPLOYMENTS, self._deployed),
            ("POST", f"{named}/validate", DEPLOYMENTS, self._validate),
            ("POST", f"{named}/whatIf", DEPLOYMENTS, self._what_if),
            ("GET", rf"{named}/operationStatuses/(?P<operation>\d+)", DEPLOYMENTS, self._operation),
            *Authorization(resources, self._allow).routes(),
        ]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request.

        Raises:
            ArmError: it is refused.
        """
        path = request.path.rstrip("/")
        if path.lower() == "/metadata/endpoints" and request.method == "GET":
            return self._metadata(request, version_of(request, "metadata", _VERSIONS["metadata"]))
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
                    call = Call(request=request, caller=caller, version=version, parts=match.groupdict())
                    return await answer(call)
        if methods:
            raise ArmError(
                405, "MethodNotAllowed", f"The HTTP method '{request.method}' is not supported here."
            )
        return await self._resource(request, caller, path)

    def _transfer_of(self, path: str) -> AcrTransfer:
        """The service of the registry that a path is of; of an unknown one the first, which says so."""
        found = (one for one in self._transfers if path.lower().startswith(f"{one.registry_id.lower()}/"))
        return next(found, self._transfer)

    # --- what clients ask first

    def _metadata(self, request: web.Request, version: str) -> web.Response:
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
            "appServiceResourceId": APP_SERVICE_AUDIENCE,
            "gallery": here,
            "galleryEndpoint": here,
            "microsoftGraphResourceId": f"{self._tenancy.login_endpoint}/",
            "portal": here,
            "portalEndpoint": here,
            "suffixes": _SUFFIXES,
        }
        return web.json_response([cloud] if version in _METADATA_OF_ALL_CLOUDS else cloud)

    async def _tenants(self, _call: Call) -> web.StreamResponse:
        tenant = self._tenancy.tenant_id
        return web.json_response({"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant}]})

    async def _subscriptions(self, _call: Call) -> web.StreamResponse:
        return web.json_response({"value": [self._subscription_json()]})

    async def _subscription(self, call: Call) -> web.StreamResponse:
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

    async def _deploy(self, call: Call) -> web.StreamResponse:
        order, group = await self._ordered(call, "write")
        foreseen = self._deployments.check(order, group)
        for one in foreseen.of_type(ROLE_ASSIGNMENTS):
            self._allow(call.caller, one.scope or group.id, f"{ROLE_ASSIGNMENTS}/write", OWN)
        deployment, is_first = self._deployments.begin(call.path, order, group, foreseen)
        operation = call.url(f"{deployment.id}/operationStatuses/{deployment.operation_id}")
        headers = {"Azure-AsyncOperation": operation, **_SOON}
        return web.json_response(deployment.to_json(), status=201 if is_first else 200, headers=headers)

    async def _validate(self, call: Call) -> web.StreamResponse:
        order, group = await self._ordered(call, "validate/action")
        found = self._deployments.check(order, group)
        deployment_id = call.path.rpartition("/")[0]
        resources = [{"id": one.id} for one in found.resources]
        properties = {
            "provisioningState": "Succeeded",
            "mode": "Incremental",
            "validatedResources": resources,
        }
        name = call.parts["name"]
        return web.json_response({"id": deployment_id, "name": name, "properties": properties})

    async def _what_if(self, call: Call) -> web.StreamResponse:
        order, group = await self._ordered(call, "whatIf/action")
        changes = self._deployments.what_if(order, group)
        return web.json_response({"status": "Succeeded", "properties": {"changes": changes}})

    async def _deployment(self, call: Call) -> web.StreamResponse:
        return web.json_response(self._found(call, call.path).to_json())

    async def _deployed(self, call: Call) -> web.StreamResponse:
        self._allow(call.caller, call.parts["group"], f"{DEPLOYMENTS}/read", READ)
        found = self._deployments.of_group(call.parts["group"])
        return web.json_response({"value": [one.to_json() for one in found]})

    async def _operation(self, call: Call) -> web.StreamResponse:
        deployment = self._found(call, call.path.rpartition("/operationStatuses/")[0])
        if deployment.operation_id != call.parts["operation"]:
            raise not_found(call.path)
        return web.json_response(deployment.operation_to_json(), headers=_SOON)

    def _found(self, call: Call, deployment_id: str) -> Deployment:
        self._allow(call.caller, call.parts["group"], f"{DEPLOYMENTS}/read", READ)
        deployment = self._deployments.find(deployment_id)
        if deployment is None:
            message = f"Deployment '{call.parts['name']}' could not be found."
            raise ArmError(404, "DeploymentNotFound", message)
        return deployment

    async def _ordered(self, call: Call, verb: str) -> tuple[Order, Group]:
        group_id = call.parts["group"]
        self._allow(call.caller, group_id, f"{DEPLOYMENTS}/{verb}", WRITE)
        order = Order.from_json(await json_body(call.request, read_template))
        state = self._group(group_id)
        _, _, subscription_id, _, name = state["id"].split("/")
        return order, Group(
            subscription_id=subscription_id,
            tenant_id=self._tenancy.tenant_id,
            name=name,
            location=state["location"],
        )

    def _group(self, group_id: str) -> Mapping[str, Any]:
        """A resource group that is there.

        Raises:
            ArmError: 404: it is not.
        """
        if found := self._resources.find(group_id):
            return found
        message = f"Resource group '{group_id.rpartition('/')[2]}' could not be found."
        raise ArmError(404, "ResourceGroupNotFound", message)

    # --- any resource

    async def _groups(self, call: Call) -> web.StreamResponse:
        self._allow(call.caller, call.parts["scope"], f"{RESOURCE_GROUPS}/read", READ)
        return web.json_response({"value": list(self._resources.of_type(RESOURCE_GROUPS))})

    async def _list(self, call: Call) -> web.StreamResponse:
        scope, wanted = call.parts["scope"], call.wanted()
        self._allow(call.caller, scope, f"{RESOURCES}/read", READ)
        found = [
            {name: one[name] for name in ("id", "name", "type", "location", "sku", "identity") if name in one}
            for one in self._resources.below(scope)
            if wanted.get("resourceGroup") in (None, one["id"].lower().split("/")[4])
            and wanted.get("resourceType") in (None, one["type"].lower())
            and wanted.get("name") in (None, one["name"].lower())
        ]
        return web.json_response({"value": found})

    async def _resource(self, request: web.Request, caller: str, path: str) -> web.StreamResponse:
        found = self._resources.find(path)
        if request.method == "POST" and (operation := self._resources.operation(path)):
            self._allow(caller, path, "*/action", WRITE)
            return _answer_of(operation(await _asked(request)))
        if request.method == "DELETE":
            self._allow(caller, path, "*/delete", WRITE)
            removed = await asyncio.to_thread(self._resources.delete, path)
            return web.json_response(removed) if removed else web.Response(status=204)
        if request.method not in ("GET", "HEAD"):
            message = f"The HTTP method '{request.method}' is not supported here."
            raise ArmError(
                405 if found else 404, "MethodNotAllowed" if found else "InvalidResourceType", message
            )
        if not (found and path.lower().startswith("/providers/")):  # what is the same for all tenants
            self._allow(caller, path, "*/read", READ)
        if in_group := re.match(_GROUP, path, re.IGNORECASE):
            self._group(in_group["group"])
        if found is None and (listed := self._resources.collection(path)) is not None:
            return web.json_response({"value": listed})
        if found is None:
            raise not_found(path)
        if str(found.get("type")).lower() == "microsoft.containerregistry/registries":
            version_of(request, "registries", _VERSIONS["registries"])
        return web.json_response(found)

    def _allow(self, caller: str, scope: str, action: str, needed: frozenset[str]) -> None:
        if self._transfer.roles.roles(caller, scope).isdisjoint(needed):
            raise not_authorized(caller, action, scope)


async def _asked(request: web.Request) -> Mapping[str, Any]:
    """What an operation is asked for: an object, or no body at all."""
    body = await json_body(request) if request.can_read_body else {}
    if not isinstance(body, dict):
        raise invalid("it is no object")
    return body


def _answer_of(found: Mapping[str, Any] | str) -> web.Response:
    if isinstance(found, str):
        return web.Response(text=found, content_type="text/xml")
    return web.json_response(found)
