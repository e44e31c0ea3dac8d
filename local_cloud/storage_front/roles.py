"""Azure's roles for data in storage: what each allows, and who has which of them where.

The definitions are those of
<https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/storage>. Azure Storage asks for
actions (on containers, queues and tables) and data actions (on what is in them) in the same way, so that both
stand in one list here.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_ACCOUNT = "Microsoft.Storage/storageAccounts"
BLOB_SERVICE = f"{_ACCOUNT}/blobServices"
CONTAINERS = f"{BLOB_SERVICE}/containers"
BLOBS = f"{CONTAINERS}/blobs"
QUEUE_SERVICE = f"{_ACCOUNT}/queueServices"
QUEUES = f"{QUEUE_SERVICE}/queues"
MESSAGES = f"{QUEUES}/messages"
TABLE_SERVICE = f"{_ACCOUNT}/tableServices"
TABLES = f"{TABLE_SERVICE}/tables"
ENTITIES = f"{TABLES}/entities"
_DELEGATION = f"{BLOB_SERVICE}/generateUserDelegationKey/action"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleDefinition:
    """The definition of a role: the actions that it allows; one ending with ``*`` is a prefix."""

    name: str
    guid: str
    allows: tuple[str, ...]

    def has(self, action: str) -> bool:
        """Whether the role allows an action."""
        return any(
            action.startswith(allowed[:-1]) if allowed.endswith("*") else action == allowed
            for allowed in self.allows
        )


BUILT_IN = (
    RoleDefinition(
        name="Storage Blob Data Owner",
        guid="b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
        allows=(f"{CONTAINERS}/*", f"{BLOBS}/*", _DELEGATION),
    ),
    RoleDefinition(
        name="Storage Blob Data Contributor",
        guid="ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        allows=(
            *(f"{CONTAINERS}/{verb}" for verb in ("read", "write", "delete")),
            *(f"{BLOBS}/{verb}" for verb in ("read", "write", "delete", "add/action", "move/action")),
            _DELEGATION,
        ),
    ),
    RoleDefinition(
        name="Storage Blob Data Reader",
        guid="2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
        allows=(f"{CONTAINERS}/read", f"{BLOBS}/read", _DELEGATION),
    ),
    RoleDefinition(
        name="Storage Blob Delegator",
        guid="db58b8e5-c6ad-4a2a-8342-4190687cbf4a",
        allows=(_DELEGATION,),
    ),
    RoleDefinition(
        name="Storage Queue Data Contributor",
        guid="974c5e8b-45b9-4653-ba55-5f855dd0fb88",
        allows=(
            *(f"{QUEUES}/{verb}" for verb in ("read", "write", "delete")),
            *(f"{MESSAGES}/{verb}" for verb in ("read", "write", "delete", "process/action")),
        ),
    ),
    RoleDefinition(
        name="Storage Queue Data Message Sender",
        guid="c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
        allows=(f"{MESSAGES}/add/action",),
    ),
    RoleDefinition(
        name="Storage Queue Data Message Processor",
        guid="8a0f0c08-91a1-4084-bc3d-661d67233fed",
        allows=(f"{MESSAGES}/read", f"{MESSAGES}/process/action"),
    ),
    RoleDefinition(
        name="Storage Queue Data Reader",
        guid="19e7f393-937e-4f77-808e-94535e297925",
        allows=(f"{QUEUES}/read", f"{MESSAGES}/read"),
    ),
    RoleDefinition(
        name="Storage Table Data Contributor",
        guid="0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
        allows=(
            *(f"{TABLES}/{verb}" for verb in ("read", "write", "delete")),
            *(f"{ENTITIES}/{verb}" for verb in ("read", "write", "delete", "add/action", "update/action")),
        ),
    ),
    RoleDefinition(
        name="Storage Table Data Reader",
        guid="76199698-9eea-4c19-bc75-cec21354c6b6",
        allows=(f"{TABLES}/read", f"{ENTITIES}/read"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleAssignment:
    """A role of a principal on a resource and everything below it.

    Attributes:
        principal_id: object id of the identity, as in its tokens.
        role: name or GUID of a role, or the resource id of its definition.
        scope: ARM id of a storage account, container, queue or table, or of what is above them.
    """

    principal_id: str
    role: str
    scope: str


class RoleAssignments:
    """The role assignments for storage, which can be changed at any time."""

    def __init__(
        self, assignments: Iterable[RoleAssignment] = (), *, definitions: Iterable[RoleDefinition] = BUILT_IN
    ) -> None:
        """``definitions`` are the roles that there are: custom ones beside those that Azure has."""
        self._definitions: dict[str, RoleDefinition] = {}
        self._assigned: set[RoleAssignment] = set()
        self._asked: set[tuple[str, str, str]] = set()
        for definition in definitions:
            self.define(definition)
        for assignment in assignments:
            self.assign(assignment)

    def __iter__(self) -> Iterator[RoleAssignment]:
        return iter(tuple(self._assigned))

    def define(self, definition: RoleDefinition) -> None:
        """Make a custom role, or change it."""
        self._definitions[definition.name.lower()] = self._definitions[definition.guid.lower()] = definition

    def knows(self, role: str) -> bool:
        """Whether a role, as in an assignment, is one for data in storage."""
        return _last_part(role) in self._definitions

    def name_of(self, assignment: RoleAssignment) -> str:
        """The name of the role that is assigned."""
        return self._definitions[_last_part(assignment.role)].name

    def assign(self, assignment: RoleAssignment) -> None:
        """Give a role; nothing happens if it is given already.

        Raises:
            ValueError: There is no such role.
        """
        if not self.knows(assignment.role):
            raise ValueError(f"not a role for data in storage: {assignment.role!r}")
        self._assigned.add(assignment)

    def remove(self, assignment: RoleAssignment) -> None:
        """Take a role away, from the next request on.

        Raises:
            KeyError: The role was not given.
        """
        self._assigned.remove(assignment)

    def allow(self, principal_id: str, action: str, resource_id: str) -> bool:
        """Whether a principal may carry out an action on a resource; it is noted that this was asked."""
        self._asked.add((principal_id, action, resource_id))
        return next(self._allowing(principal_id, action, resource_id), None) is not None

    def needed(self) -> frozenset[RoleAssignment]:
        """The assignments without which something that was asked so far would have been refused."""
        allowing = (tuple(itertools.islice(self._allowing(*asked), 2)) for asked in tuple(self._asked))
        return frozenset(found[0] for found in allowing if len(found) == 1)

    def _allowing(self, principal_id: str, action: str, resource_id: str) -> Iterator[RoleAssignment]:
        resource = f"{resource_id.lower()}/"
        return (
            assigned
            for assigned in tuple(self._assigned)
            if assigned.principal_id == principal_id
            and resource.startswith(f"{assigned.scope.lower().rstrip('/')}/")
            and self._definitions[_last_part(assigned.role)].has(action)
        )


def _last_part(role: str) -> str:
    return role.rpartition("/")[2].lower()
