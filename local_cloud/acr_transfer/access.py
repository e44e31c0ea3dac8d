"""Role assignments, as far as ACR Transfer depends on them."""

import re

_TRANSFER = "container registry transfer pipeline contributor"
_DATA_ROLES = ("storage blob data reader", "storage blob data contributor", "storage blob data owner")
_ALL = frozenset({_TRANSFER, "reader", "contributor", "owner", "key vault secrets user", *_DATA_ROLES})
_MAY_READ = frozenset({_TRANSFER, "reader", "contributor", "owner"})
_MAY_WRITE = frozenset({_TRANSFER, "contributor", "owner"})
_OF_PIPELINES = re.compile("/(export|import)Pipelines/|/pipelineRuns/")


class RoleAssignments:
    """The role assignments of a cloud; a role holds for its scope and everything below it."""

    def __init__(self) -> None:
        self._assigned: set[tuple[str, str, str]] = set()

    def grant(self, principal_id: str, role: str, scope: str) -> None:
        """Assign a built-in role, by its name, on a resource id or on a container's URL.

        Raises:
            ValueError: Transfer has nothing to do with that role.
        """
        if role.lower() not in _ALL:
            raise ValueError(f"not a role that matters here: {role!r}")
        self._assigned.add((principal_id.lower(), role.lower(), _plain(scope)))

    def roles(self, principal_id: str, scope: str) -> frozenset[str]:
        """Return the roles, in lower case, that a principal has on ``scope``."""
        wanted = _plain(scope)
        return frozenset(
            role
            for principal, role, granted in self._assigned
            if principal == principal_id.lower() and (wanted == granted or wanted.startswith(f"{granted}/"))
        )

    def allows(self, principal_id: str, action: str, scope: str) -> bool:
        """Tell whether a caller may do something (``…/read``, ``…/action``, …) on a resource."""
        needed = _MAY_READ if action.endswith("/read") else _MAY_WRITE
        if not _OF_PIPELINES.search(action):
            needed -= {_TRANSFER}
        return not self.roles(principal_id, scope).isdisjoint(needed)


def _plain(scope: str) -> str:
    return scope.lower().rstrip("/")
