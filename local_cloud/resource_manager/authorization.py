"""Role assignments and role definitions, as ``az role`` asks for them."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from infra.expansion import Resource
from local_cloud.acr_transfer.arm import json_body
from local_cloud.acr_transfer.errors import ArmError, invalid
from local_cloud.resource_manager.calls import OWN, READ, Allow, Answer, Call
from local_cloud.resource_manager.resources import Resources

ROLE_ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"
ROLE_DEFINITIONS = "Microsoft.Authorization/roleDefinitions"


class Authorization:
    """The calls about role assignments and definitions; ``allow`` refuses whoever may not ask."""

    def __init__(self, resources: Resources, allow: Allow) -> None:
        self._resources = resources
        self._allow = allow

    def routes(self) -> Iterable[tuple[str, str, str, Answer]]:
        """The method, path, type and answer of each call."""
        assignments = r"(?P<scope>/.*)/providers/Microsoft\.Authorization/roleAssignments"
        definitions = r"(?P<scope>/.*)/providers/Microsoft\.Authorization/roleDefinitions"
        return (
            ("PUT", rf"{assignments}/(?P<name>[^/]+)", ROLE_ASSIGNMENTS, self._assign),
            ("DELETE", rf"{assignments}/(?P<name>[^/]+)", ROLE_ASSIGNMENTS, self._unassign),
            ("GET", assignments, ROLE_ASSIGNMENTS, self._assignments),
            ("GET", definitions, ROLE_DEFINITIONS, self._definitions),
        )

    async def _assign(self, call: Call) -> web.StreamResponse:
        scope, name = call.parts["scope"], call.parts["name"]
        self._allow(call.caller, scope, f"{ROLE_ASSIGNMENTS}/write", OWN)
        body = await json_body(call.request)
        properties = body.get("properties") if isinstance(body, dict) else None
        if not isinstance(properties, dict) or not isinstance(properties.get("principalId"), str):
            raise invalid("properties.principalId is required")
        if not isinstance(properties.get("roleDefinitionId"), str):
            raise invalid("properties.roleDefinitionId is required")
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

    async def _unassign(self, call: Call) -> web.StreamResponse:
        self._allow(call.caller, call.parts["scope"], f"{ROLE_ASSIGNMENTS}/delete", OWN)
        removed = self._resources.delete(call.path)
        return web.json_response(removed) if removed else web.Response(status=204)

    async def _assignments(self, call: Call) -> web.StreamResponse:
        """Those at a scope and above it; unless ``atScope()`` is asked for, those below it, too.

        https://learn.microsoft.com/azure/role-based-access-control/role-assignments-list-rest
        """
        scope = call.parts["scope"].lower()
        self._allow(call.caller, scope, f"{ROLE_ASSIGNMENTS}/read", READ)
        principal = call.wanted().get("principalId")
        found = [
            one
            for one in self._resources.of_type(ROLE_ASSIGNMENTS)
            if principal in (None, one["properties"]["principalId"].lower())
            and (
                f"{scope}/".startswith(f"{_scope_of(one)}/")
                or ("atScope()" not in call.filter and _scope_of(one).startswith(f"{scope}/"))
            )
        ]
        return web.json_response({"value": found})

    async def _definitions(self, call: Call) -> web.StreamResponse:
        """Those that can be given at a scope, or the one that ``$filter`` names."""
        self._allow(call.caller, call.parts["scope"], f"{ROLE_DEFINITIONS}/read", READ)
        name = call.wanted().get("roleName")
        subscription = "/".join(call.path.split("/")[:3])
        found = [
            {**one, "id": f"{subscription}/providers/{ROLE_DEFINITIONS}/{one['name']}"}
            for one in self._resources.of_type(ROLE_DEFINITIONS)
            if name in (None, one["properties"]["roleName"].lower())
        ]
        return web.json_response({"value": found})


def check_unique(resources: Resources, resource: Resource) -> None:
    """Refuse a role assignment that another one repeats, or that changes who has the role.

    Raises:
        ArmError: 409: another assignment says the same; 400: the one of this name said something else.
    """

    def said(scope: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
        role = properties["roleDefinitionId"].rpartition("/")[2]
        return tuple(part.lower() for part in (scope, properties["principalId"], role))

    wanted = said(resource.scope or "", resource.properties)
    for one in resources.of_type(ROLE_ASSIGNMENTS):
        is_same = said(_scope_of(one), one["properties"]) == wanted
        is_same_name = one["id"].lower() == resource.id.lower()
        if is_same_name and not is_same:
            message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            raise ArmError(400, "RoleAssignmentUpdateNotPermitted", message)
        if is_same and not is_same_name:
            raise ArmError(409, "RoleAssignmentExists", "The role assignment already exists.")


def _scope_of(assignment: Any) -> str:
    return str(assignment["id"]).lower().partition(f"/providers/{ROLE_ASSIGNMENTS.lower()}/")[0]


def _is_guid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
