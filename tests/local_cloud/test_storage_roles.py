"""Role assignments, without a network."""

from local_cloud.storage_front import RoleAssignment, RoleAssignments, RoleDefinition

ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
CONTAINER = f"{ACCOUNT}/blobServices/default/containers/c"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
READER = "Storage Blob Data Reader"


def reader(scope: str, principal: str = "p") -> RoleAssignment:
    return RoleAssignment(principal_id=principal, role=READER, scope=scope)


def test_role_holds_on_its_scope_and_below() -> None:
    for scope in ("/subscriptions/s", ACCOUNT, f"{ACCOUNT}/", CONTAINER, CONTAINER.upper()):
        assert RoleAssignments([reader(scope)]).allow("p", f"{BLOBS}/read", CONTAINER), scope
    for scope in (
        "/subscriptions/t",
        f"{CONTAINER}d",
        f"{ACCOUNT}/blobServices/default/containers/d",
        f"{CONTAINER}/x",
    ):
        assert not RoleAssignments([reader(scope)]).allow("p", f"{BLOBS}/read", CONTAINER), scope


def test_role_allows_what_it_lists_to_whom_it_was_given() -> None:
    assigned = RoleAssignments([reader(ACCOUNT)])
    assert not assigned.allow("p", f"{BLOBS}/write", CONTAINER)
    assert not assigned.allow("q", f"{BLOBS}/read", CONTAINER)


def test_owner_may_all_that_begins_as_its_actions_do() -> None:
    owner = RoleAssignment(principal_id="p", role="Storage Blob Data Owner", scope=ACCOUNT)
    assigned = RoleAssignments([owner])
    assert assigned.allow("p", f"{BLOBS}/tags/write", CONTAINER)
    assert not assigned.allow("p", "Microsoft.Storage/storageAccounts/blobServices/write", ACCOUNT)


def test_custom_role_is_as_it_was_defined_last() -> None:
    first = RoleDefinition(name="own", guid="1", allows=(f"{BLOBS}/read",))
    assigned = RoleAssignments(
        [RoleAssignment(principal_id="p", role="/x/roleDefinitions/1", scope=ACCOUNT)], definitions=[first]
    )
    assert assigned.allow("p", f"{BLOBS}/read", CONTAINER)
    assigned.define(RoleDefinition(name="own", guid="1", allows=(f"{BLOBS}/write",)))
    assert not assigned.allow("p", f"{BLOBS}/read", CONTAINER)


def test_needed_is_what_alone_allowed_something_that_was_asked() -> None:
    one, everywhere, idle = reader(CONTAINER), reader(ACCOUNT), reader(CONTAINER, "idle")
    assigned = RoleAssignments([one, everywhere, idle])
    assigned.allow("p", f"{BLOBS}/read", CONTAINER)
    assert assigned.needed() == frozenset()  # each would do
    assigned.allow("p", f"{BLOBS}/read", f"{CONTAINER}2")
    assigned.allow("idle", f"{BLOBS}/write", CONTAINER)
    assert assigned.needed() == {everywhere}
    assigned.remove(everywhere)
    assert assigned.needed() == {one}
