"""Which rights an operation needs, by Microsoft's table."""

import pytest

from local_cloud.storage_front.operations import Request, Service, UnknownOperationError, operation

HOST = "127.0.0.1:1"


def needs(service: Service, line: str, headers: dict[str, str] | None = None) -> list[str]:
    """What the operation needs, as ``resource: this or that and that``, the short way."""
    method, _, target = line.partition(" ")
    asked = Request(
        service=service, method=method, target=f"/acc{target}", headers={"host": HOST} | (headers or {})
    )
    return [
        f"{need.resource.rpartition('/')[2] or '-'}: "
        + " or ".join(" and ".join(_short(action) for action in actions) for actions in need.any_of)
        + (f", to create {_short(need.to_create)}" if need.to_create else "")
        for need in operation(asked).needs
    ]


def _short(action: str) -> str:
    return action.removeprefix("Microsoft.Storage/storageAccounts/").partition("/")[2]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET /?comp=list", "-: containers/read"),
        ("GET ?comp=list", "-: containers/read"),
        ("GET /?restype=service&comp=properties", "-: read"),
        ("PUT /?restype=service&comp=properties", "-: write"),
        ("POST /?restype=service&comp=userdelegationkey", "-: generateUserDelegationKey/action"),
        ("GET /?comp=blobs&where=x", "-: containers/blobs/filter/action"),
        ("PUT /c?restype=container", "c: containers/write"),
        ("HEAD /c?restype=container", "c: containers/read"),
        ("DELETE /c?restype=container", "c: containers/delete"),
        ("PUT /c?restype=container&comp=lease", "c: containers/write"),
        ("PUT /c?restype=container&comp=acl", "c: containers/setAcl/action"),
        ("GET /c?restype=container&comp=list&prefix=a/b", "c: containers/blobs/read"),
        ("GET /c?restype=container&comp=blobs", "c: containers/blobs/filter/action"),
        ("GET /c/b", "c: containers/blobs/read"),
        ("GET /c/b?snapshot=2026", "c: containers/blobs/read"),
        ("HEAD /c/d/b", "c: containers/blobs/read"),
        ("GET /c/b?comp=blocklist&blocklisttype=all", "c: containers/blobs/read"),
        ("POST /c/b?comp=query", "c: containers/blobs/read"),
        ("GET /c/b?comp=tags", "c: containers/blobs/tags/read"),
        ("PUT /c/b?comp=tags", "c: containers/blobs/tags/write"),
        ("PUT /c/b", "c: containers/blobs/write, to create containers/blobs/add/action"),
        ("PUT /c/b?comp=block&blockid=a", "c: containers/blobs/write"),
        ("PUT /c/b?comp=blocklist", "c: containers/blobs/write"),
        ("PUT /c/b?comp=appendblock", "c: containers/blobs/write or containers/blobs/add/action"),
        ("PUT /c/b?comp=snapshot", "c: containers/blobs/write or containers/blobs/add/action"),
        ("PUT /c/b?comp=metadata", "c: containers/blobs/write"),
        ("PUT /c/b?comp=properties", "c: containers/blobs/write"),
        ("PUT /c/b?comp=lease", "c: containers/blobs/write"),
        ("PUT /c/b?comp=tier", "c: containers/blobs/write"),
        ("PUT /c/b?comp=copy&copyid=1", "c: containers/blobs/write"),
        ("PUT /c/b?comp=undelete", "c: containers/write"),
        ("PUT /c/b?comp=immutabilityPolicies", "c: containers/blobs/immutableStorage/runAsSuperUser/action"),
        ("DELETE /c/b", "c: containers/blobs/delete"),
        ("DELETE /c/b?versionid=1", "c: containers/blobs/deleteBlobVersion/action"),
        ("GET /b", "$root: containers/blobs/read"),
    ],
)
def test_operation_on_blobs(line: str, expected: str) -> None:
    assert needs("blob", line) == [expected]


def test_tags_with_a_blob_need_the_right_to_tag() -> None:
    assert needs("blob", "PUT /c/b", {"x-ms-tags": "a=b"})[1:] == ["c: containers/blobs/tags/write"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"https://{HOST}/acc/s/a%20b", ["s: containers/blobs/read"]),
        (f"https://{HOST}/acc/s/a?sig=x", ["s: containers/blobs/read"]),
        (f"https://{HOST}/acc%2fs/a", ["s: containers/blobs/read"]),
        (f"https://{HOST}/acc/a", ["$root: containers/blobs/read"]),
        (f"https://{HOST}/other/s/a", []),
        ("https://elsewhere/acc/s/a", []),
    ],
)
def test_copy_within_the_account_reads_there(source: str, expected: list[str]) -> None:
    assert needs("blob", "PUT /c/b", {"x-ms-copy-source": source})[1:] == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET /?comp=list", "-: queues/read"),
        ("PUT /q", "q: queues/write"),
        ("DELETE /q", "q: queues/delete"),
        ("GET /q?comp=metadata", "q: queues/read"),
        ("POST /q/messages", "q: queues/messages/add/action or queues/messages/write"),
        (
            "GET /q/messages?numofmessages=2",
            "q: queues/messages/process/action or queues/messages/delete and queues/messages/read",
        ),
        ("GET /q/messages?peekonly=true", "q: queues/messages/read"),
        ("DELETE /q/messages", "q: queues/messages/delete"),
        (
            "DELETE /q/messages/1?popreceipt=a",
            "q: queues/messages/process/action or queues/messages/delete",
        ),
        ("PUT /q/messages/1?popreceipt=a", "q: queues/messages/write"),
    ],
)
def test_operation_on_queues(line: str, expected: str) -> None:
    assert needs("queue", line) == [expected]


_UPSERT = "t: tables/entities/write or tables/entities/add/action and tables/entities/update/action"
_UPDATE = "t: tables/entities/write or tables/entities/update/action"


@pytest.mark.parametrize(
    ("line", "headers", "expected"),
    [
        ("GET /Tables", {}, "-: tables/read"),
        ("POST /Tables", {}, "-: tables/write"),
        ("DELETE /Tables('t')", {}, "t: tables/delete"),
        ("GET /t()", {}, "t: tables/entities/read"),
        ("GET /t(PartitionKey='a',RowKey='b')", {}, "t: tables/entities/read"),
        ("GET /t(PartitionKey='a%2fTables',RowKey='b')", {}, "t: tables/entities/read"),
        ("POST /t", {}, "t: tables/entities/write or tables/entities/add/action"),
        ("PUT /t(PartitionKey='a',RowKey='b')", {}, _UPSERT),
        ("MERGE /t(PartitionKey='a',RowKey='b')", {}, _UPSERT),
        ("PATCH /t(PartitionKey='a',RowKey='b')", {"if-match": "*"}, _UPDATE),
        ("DELETE /t(PartitionKey='a',RowKey='b')", {"if-match": "*"}, "t: tables/entities/delete"),
        ("PUT /t?comp=acl", {}, "t: tables/setAcl/action"),
    ],
)
def test_operation_on_tables(line: str, headers: dict[str, str], expected: str) -> None:
    assert needs("table", line, headers) == [expected]


@pytest.mark.parametrize(
    ("service", "line"),
    [
        ("blob", "POST /?comp=batch"),
        ("blob", "POST /c?restype=container&comp=batch"),
        ("blob", "GET /c/b?restype=container&comp=list"),
        ("blob", "GET /c/b?comp=list"),
        ("blob", "PUT /c/b?comp=somethingNew"),
        ("blob", "PUT /c/b?comp=metadata&comp=lease"),
        ("blob", "GET /c/../d/b"),
        ("blob", "GET /c/%2e%2e/d/b"),
        ("blob", "GET //c/b"),
        ("blob", "GET /%ff/b"),
        ("queue", "GET /q/other"),
        ("queue", "GET /q/messages/1"),
        ("table", "POST /$batch"),
        ("table", "GET /a/b"),
    ],
)
def test_what_is_not_understood_is_not_let_through(service: Service, line: str) -> None:
    with pytest.raises(UnknownOperationError):
        needs(service, line)


@pytest.mark.parametrize("service", ["blob", "queue", "table"])
def test_no_request_passes_for_another_method(service: Service) -> None:
    with pytest.raises(UnknownOperationError):
        needs(service, "GET /c/b", {"x-http-method": "DELETE"})


@pytest.mark.parametrize(
    ("line", "headers", "expected"),
    [
        ("PUT /c/b", {}, "write"),
        ("PUT /c/b", {"if-none-match": "*"}, None),
        ("PUT /c/b?comp=blocklist", {}, "write"),
        ("PUT /c/b?comp=blocklist", {"if-none-match": "*"}, None),
        ("PUT /c/b?comp=block&blockid=a", {"if-none-match": "*"}, "write"),
        ("PUT /c/b?comp=appendblock", {}, "append"),
        ("PUT /c/b?comp=metadata", {}, "write"),
        ("PUT /c/b?comp=lease", {}, None),
        ("PUT /c/b?comp=tier", {}, None),
        ("DELETE /c/b", {}, "delete"),
        ("GET /c/b", {}, None),
    ],
)
def test_what_an_immutable_blob_is_asked_for(
    line: str, headers: dict[str, str], expected: str | None
) -> None:
    method, _, target = line.partition(" ")
    asked = Request(service="blob", method=method, target=f"/acc{target}", headers=headers)
    assert operation(asked).changes == expected
