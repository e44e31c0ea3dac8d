"""The resources of a subscription: every one by its id, and who makes one of each type."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from infra.expansion import Resource
from local_cloud.acr_transfer.errors import ArmError, not_found

Maker = Callable[[Resource], Mapping[str, Any]]
"""Makes a resource, or makes it anew; returns those members of it that are not as they were sent."""

Operation = Callable[[str, Mapping[str, Any]], Mapping[str, Any] | str]
"""Answers a POST to a resource, given its name and what is asked for: an object, or XML."""

_COLLECTION = re.compile(r"(?P<scope>/.*)/providers/(?P<provider>[^/]+)/(?P<kinds>[^/]+(?:/[^/]+/[^/]+)*)")
_IN_A_GROUP = re.compile(
    r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/(?!microsoft\.authorization/)[^/]+/[^/]+/[^/]+"
)

Remover = Callable[[Mapping[str, Any]], None]


class Resources:
    """The resources of a subscription, as a `Provider` that makes what it is given, like Azure's own.

    ``makers`` are there for each type, and only those types are known; ``removers`` undo what a maker did.
    ``operations`` are named by type and operation: ``Microsoft.Storage/storageAccounts/listServiceSas``.
    """

    def __init__(
        self,
        makers: Mapping[str, Maker],
        removers: Mapping[str, Remover] | None = None,
        operations: Mapping[str, Operation] | None = None,
    ) -> None:
        self._makers = {kind.lower(): maker for kind, maker in makers.items()}
        self._removers = {kind.lower(): remover for kind, remover in (removers or {}).items()}
        self._operations = {kind.lower(): one for kind, one in (operations or {}).items()}
        self._states: dict[str, Mapping[str, Any]] = {}

    def add(self, resource_id: str, state: Mapping[str, Any]) -> None:
        """Add a resource that was there before anything was deployed."""
        self._states[resource_id.lower()] = {"id": resource_id, **state}

    def put(self, resource: Resource) -> Mapping[str, Any]:
        """Make a resource; return what a GET answers.

        Raises:
            ArmError: the type is not known, or the resource that it is in or on is not there.
        """
        maker = self._makers.get(resource.type.lower())
        if maker is None:
            message = f"No registered resource provider found for type '{resource.type}'."
            raise ArmError(400, "NoRegisteredProviderFound", message)
        self._check_surroundings(resource)
        state = {
            **resource.body,
            "id": resource.id,
            "name": resource.name.rpartition("/")[2],
            "type": resource.type,
        }
        state["properties"] = {**resource.properties, "provisioningState": "Succeeded"}
        for name, value in maker(resource).items():
            old = state.get(name)
            state[name] = {**old, **value} if isinstance(old, dict) else value
        self._states[resource.id.lower()] = state
        return state

    def get(self, resource_id: str, api_version: str) -> Mapping[str, Any]:
        """The answer to a GET of a resource.

        Raises:
            LookupError: the resource is not there.
        """
        del api_version
        if found := self.find(resource_id):
            return found
        raise LookupError(f"the resource {resource_id} was not found")

    def call(
        self, operation: str, resource_id: str, api_version: str, asked: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """The answer to a POST of an operation of a resource.

        Raises:
            LookupError: the resource is not there, or it has no such operation.
        """
        state = self.get(resource_id, api_version)
        answer = self._operations.get(f"{state['type']}/{operation}".lower())
        if answer is None:
            raise LookupError(f"{state['type']} has no operation {operation} here")
        found = answer(state["name"], asked or {})
        if isinstance(found, str):
            raise LookupError(f"{operation} answers with no object")  # noqa: TRY004 - a member of none is asked
        return found

    def find(self, resource_id: str) -> Mapping[str, Any] | None:
        """The resource with that id; ``None`` if it is not there."""
        return self._states.get(resource_id.lower().rstrip("/"))

    def operation(self, path: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any] | str] | None:
        """The function that answers a POST to ``path``; ``None`` if none does."""
        parts = path.split("/")
        for end in range(len(parts) - 1, 0, -1):
            state = self.find("/".join(parts[:end]))
            kind = "/".join([str((state or {}).get("type")), *parts[end:]]).lower()
            if state and kind in self._operations:
                return partial(self._operations[kind], state["name"])
        return None

    def delete(self, resource_id: str) -> Mapping[str, Any] | None:
        """Undo a resource with all in it, roles too; returns what it was, ``None`` if it was not there.

        Raises:
            ArmError: resources of its type are not deleted here.
        """
        found = self.find(resource_id)
        if found is None:
            return None
        key = resource_id.lower().rstrip("/")
        remover = self._removers.get(found["type"].lower())
        if remover is None:
            raise ArmError(405, "MethodNotAllowed", f"The type '{found['type']}' is not deleted here.")
        for below in [one for one in self._states if one.startswith(f"{key}/")]:
            state = self._states.pop(below)
            if inner := self._removers.get(state["type"].lower()):
                inner(state)
        remover(found)
        return self._states.pop(key)

    def of_type(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """The resources of a type."""
        return (
            state for state in list(self._states.values()) if state.get("type", "").lower() == kind.lower()
        )

    def below(self, scope: str) -> Iterator[Mapping[str, Any]]:
        """The resources in a subscription or a group: no parts of others, and nobody's roles."""
        return (
            state
            for resource_id, state in list(self._states.items())
            if resource_id.startswith(f"{scope.lower()}/") and _IN_A_GROUP.fullmatch(resource_id)
        )

    def collection(self, path: str) -> list[Mapping[str, Any]] | None:
        """The resources listed under a path that ends with a type; ``None`` for any other path."""
        match = _COLLECTION.fullmatch(path.lower())
        if match is None:
            return None
        kind = "/".join([match["provider"], *match["kinds"].split("/")[::2]])
        above = match["scope"] if "/" not in match["kinds"] else path.lower()
        listed = [one for one in self.of_type(kind) if one["id"].lower().startswith(f"{above}/")]
        return listed if listed or kind in self._makers else None

    def _check_surroundings(self, resource: Resource) -> None:
        if resource.scope and not self.find(resource.scope):
            raise not_found(resource.scope)
        parent = resource.id.rpartition("/")[0].rpartition("/")[0]
        if "/" in resource.name and not self.find(parent):
            message = (
                f"Can not perform requested operation on nested resource."
                f" Parent resource '{parent}' not found."
            )
            raise ArmError(404, "ParentResourceNotFound", message)
