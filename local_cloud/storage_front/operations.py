"""The operation of Azure Storage that a request is, and what it must be allowed: decided without a network.

After "Permissions for calling data operations",
<https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory>.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from local_cloud.storage_front.roles import (
    BLOB_SERVICE,
    BLOBS,
    CONTAINERS,
    ENTITIES,
    MESSAGES,
    QUEUE_SERVICE,
    QUEUES,
    TABLE_SERVICE,
    TABLES,
)

Service = Literal["blob", "queue", "table"]
SERVICES: tuple[Service, ...] = ("blob", "queue", "table")
_Actions = tuple[str, ...]
_ALL_TABLES = re.compile(r"Tables(\('(?P<table>[^']*)'\)|\(\))?")
_ONE_TABLE = re.compile(r"(?P<table>[A-Za-z][A-Za-z0-9]*)(\(.*\))?", re.DOTALL)  # a key may hold anything


class UnknownOperationError(Exception):
    """A request that the front cannot read the way Azurite will: it is not let through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A need of a request: what must be allowed on a resource, given by its path below the account's id.

    Attributes:
        any_of: sets of actions; all of one of them are needed.
        to_create: an action that is enough if the operation makes something new and overwrites nothing.
    """

    resource: str
    any_of: tuple[_Actions, ...]
    to_create: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A request that was understood: what it needs, and what it changes."""

    needs: tuple[Need, ...]
    container: str | None = None
    blob: str | None = None
    changes: Literal["write", "append", "delete"] | None = None
    """What the blob's immutability may stand against."""
    source: str | None = None
    """Path and query of the blob of the same account that is copied; a SAS for the copy allows no reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The parts of a request that decide about it: all but its body."""

    service: Service
    method: str
    target: str
    headers: Mapping[str, str]  # its names may be written in any case

    def query(self) -> dict[str, str]:
        """The query's fields.

        Raises:
            UnknownOperationError: One of them is there twice.
        """
        pairs = parse_qsl(urlsplit(self.target).query, keep_blank_values=True)
        if len(dict(pairs)) != len(pairs):
            raise UnknownOperationError("a query parameter is there twice")
        return dict(pairs)

    def path(self) -> list[str]:
        """Account, container and blob, decoded: Azurite decodes before it splits, so the front does, too.

        Raises:
            UnknownOperationError: Somebody on the way may read the path differently.
        """
        path = self.target.partition("?")[0]
        try:
            decoded = unquote(path, errors="strict").replace("\\", "/")
        except UnicodeDecodeError:
            raise UnknownOperationError("the path is not UTF-8") from None
        parts = decoded.removeprefix("/").split("/")
        if not path.startswith("/") or "#" in path or {".", ".."} & set(parts):
            raise UnknownOperationError("the path is ambiguous")
        if len(parts) > 1 and not parts[1] and any(parts[2:]):
            raise UnknownOperationError("the path has an empty segment")
        return parts


def operation(request: Request) -> Operation:
    """The operation that a request is, with what it needs.

    Raises:
        UnknownOperationError: It is none of the operations that are known here.
    """
    if "x-http-method" in request.headers:
        raise UnknownOperationError("it asks for another method than its own")  # Azurite would follow
    match request.service:
        case "blob":
            return _of_blobs(request)
        case "queue":
            return Operation(needs=(_of_queues(request),))
        case "table":
            return Operation(needs=(_of_tables(request),))


# -- blobs

_BLOB_SERVICE: Mapping[tuple[str, str | None, str | None], str] = {
    ("GET", None, "list"): f"{CONTAINERS}/read",
    ("GET", None, "blobs"): f"{BLOBS}/filter/action",
    ("GET", "service", "properties"): f"{BLOB_SERVICE}/read",
    ("PUT", "service", "properties"): f"{BLOB_SERVICE}/write",
    ("GET", "service", "stats"): f"{BLOB_SERVICE}/read",
    ("GET", "account", "properties"): f"{BLOB_SERVICE}/getInfo/action",
    ("HEAD", "account", "properties"): f"{BLOB_SERVICE}/getInfo/action",
    ("POST", "service", "userdelegationkey"): f"{BLOB_SERVICE}/generateUserDelegationKey/action",
}
_CONTAINER: Mapping[tuple[str, str | None], str] = {
    ("PUT", None): f"{CONTAINERS}/write",
    ("GET", None): f"{CONTAINERS}/read",
    ("HEAD", None): f"{CONTAINERS}/read",
    ("DELETE", None): f"{CONTAINERS}/delete",
    ("GET", "metadata"): f"{CONTAINERS}/read",
    ("HEAD", "metadata"): f"{CONTAINERS}/read",
    ("PUT", "metadata"): f"{CONTAINERS}/write",
    ("GET", "acl"): f"{CONTAINERS}/getAcl/action",
    ("HEAD", "acl"): f"{CONTAINERS}/getAcl/action",
    ("PUT", "acl"): f"{CONTAINERS}/setAcl/action",
    ("PUT", "lease"): f"{CONTAINERS}/write",
    ("PUT", "undelete"): f"{CONTAINERS}/write",
    ("GET", "list"): f"{BLOBS}/read",
    ("GET", "blobs"): f"{BLOBS}/filter/action",
}
_WRITE, _READ, _ADD = f"{BLOBS}/write", f"{BLOBS}/read", f"{BLOBS}/add/action"
_BLOB: Mapping[tuple[str, str | None], str] = {
    ("GET", None): _READ,
    ("HEAD", None): _READ,
    ("GET", "metadata"): _READ,
    ("HEAD", "metadata"): _READ,
    ("GET", "blocklist"): _READ,
    ("GET", "pagelist"): _READ,
    ("POST", "query"): _READ,
    ("GET", "tags"): f"{BLOBS}/tags/read",
    ("PUT", "tags"): f"{BLOBS}/tags/write",
    ("DELETE", None): f"{BLOBS}/delete",
    ("PUT", "undelete"): f"{CONTAINERS}/write",
    ("PUT", "legalhold"): f"{CONTAINERS}/write",
    ("PUT", "immutabilityPolicies"): f"{BLOBS}/immutableStorage/runAsSuperUser/action",
    ("DELETE", "immutabilityPolicies"): f"{BLOBS}/immutableStorage/runAsSuperUser/action",
}
_ADDING = {"snapshot", "appendblock"}
"""Of PUT, what `blobs/add/action` is enough for; so it is for a blob that is new."""
_WRITING = {
    *(None, "snapshot", "appendblock", "block", "blocklist", "properties", "metadata", "page", "tier"),
    *("lease", "seal", "expiry", "copy", "incrementalcopy"),
}
_IMMUTABLE = {
    *(None, "snapshot", "appendblock", "block", "blocklist", "properties", "metadata", "page"),
    "incrementalcopy",
}
"""Of PUT, what a time-based retention policy does not let happen to a blob that is there.

<https://learn.microsoft.com/azure/storage/blobs/immutable-storage-overview>
"""


def _of_blobs(request: Request) -> Operation:
    query, (_, *path) = request.query(), request.path()
    restype, comp = query.get("restype"), query.get("comp")
    container, blob = path[0] if path else "", "/".join(path[1:])
    if not container:
        return Operation(needs=(_plain("", _BLOB_SERVICE.get((request.method, restype, comp))),))
    if not blob and restype == "container":
        needed = _CONTAINER.get((request.method, comp))
        return Operation(needs=(_plain(_container(container), needed),), container=container)
    if restype is not None:
        raise UnknownOperationError(f"restype {restype}")
    if not blob:
        container, blob = "$root", container
    source = _source(request) if request.method == "PUT" and comp in {None, "incrementalcopy"} else None
    return Operation(
        needs=_of_one_blob(request, _container(container), query, source),
        container=container,
        blob=blob,
        changes=_change(request, comp),
        source=source,
    )


def _of_one_blob(
    request: Request, resource: str, query: Mapping[str, str], source: str | None
) -> tuple[Need, ...]:
    comp = query.get("comp")
    if request.method != "PUT" or comp not in _WRITING:
        needed = _BLOB.get((request.method, comp))
        if needed == f"{BLOBS}/delete" and "versionid" in query:
            needed = f"{BLOBS}/deleteBlobVersion/action"
        return (_plain(resource, needed),)
    alternatives: tuple[_Actions, ...] = ((_WRITE,), (_ADD,)) if comp in _ADDING else ((_WRITE,),)
    needs = [Need(resource=resource, any_of=alternatives, to_create=_ADD if comp is None else None)]
    if request.headers.get("x-ms-tags"):
        needs.append(_plain(resource, f"{BLOBS}/tags/write"))
    if source is not None:
        needs.append(_plain(_container(_container_of(source)), _READ))
    return tuple(needs)


def _source(request: Request) -> str | None:
    """Return path and query of what is copied within the account; Azurite copies from no other account.

    What is put block by block from a URL needs a SAS there, which Azurite checks.
    """
    source = request.headers.get("x-ms-copy-source")
    if source is None:
        return None
    url = urlsplit(source)
    target = f"{url.path}?{url.query}" if url.query else url.path
    path = Request(service="blob", method="GET", target=target, headers={}).path()
    is_here = url.netloc.lower() == request.headers.get("host", "").lower() and path[0] == request.path()[0]
    return target if is_here else None


def unsigned(url: str) -> str:
    """A blob's address without the SAS in it."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name in {"snapshot", "versionid"}]
    return urlunsplit(parts._replace(query=urlencode(kept)))


def with_query(target: str, is_kept: Callable[[str], bool]) -> str:
    """The path and query of a request, with only those parameters whose names are kept."""
    path, _, query = target.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if is_kept(name)]
    return f"{path}?{urlencode(kept)}" if kept else path


def _container_of(target: str) -> str:
    path = Request(service="blob", method="GET", target=target, headers={}).path()
    return "$root" if len(path) < 3 else path[1]  # noqa: PLR2004 - account, container, blob


def _change(request: Request, comp: str | None) -> Literal["write", "append", "delete"] | None:
    if request.method == "DELETE" and comp is None:
        return "delete"
    if request.method != "PUT" or comp not in _IMMUTABLE:
        return None
    if comp in {None, "blocklist"} and request.headers.get("if-none-match") == "*":
        return None  # it creates or nothing happens; that a blob is there is Azurite's to say
    return "append" if comp == "appendblock" else "write"


def _container(name: str) -> str:
    return f"/blobServices/default/containers/{name}"


# -- queues

_QUEUE_SERVICE: Mapping[tuple[str, str | None], str] = {
    ("GET", "list"): f"{QUEUES}/read",
    ("GET", "properties"): f"{QUEUE_SERVICE}/read",
    ("PUT", "properties"): f"{QUEUE_SERVICE}/write",
    ("GET", "stats"): f"{QUEUE_SERVICE}/read",
}
_QUEUE: Mapping[tuple[str, str | None], str] = {
    ("PUT", None): f"{QUEUES}/write",
    ("DELETE", None): f"{QUEUES}/delete",
    ("GET", "metadata"): f"{QUEUES}/read",
    ("HEAD", "metadata"): f"{QUEUES}/read",
    ("PUT", "metadata"): f"{QUEUES}/write",
    ("GET", "acl"): f"{QUEUES}/getAcl/action",
    ("HEAD", "acl"): f"{QUEUES}/getAcl/action",
    ("PUT", "acl"): f"{QUEUES}/setAcl/action",
}
_MESSAGES: Mapping[str, tuple[_Actions, ...]] = {
    "POST": ((f"{MESSAGES}/add/action",), (f"{MESSAGES}/write",)),
    "GET": ((f"{MESSAGES}/process/action",), (f"{MESSAGES}/delete", f"{MESSAGES}/read")),
    "DELETE": ((f"{MESSAGES}/delete",),),
}
_MESSAGE: Mapping[str, tuple[_Actions, ...]] = {
    "DELETE": ((f"{MESSAGES}/process/action",), (f"{MESSAGES}/delete",)),
    "PUT": ((f"{MESSAGES}/write",),),
}


def _of_queues(request: Request) -> Need:
    query, (_, *path) = request.query(), request.path()
    method, comp = request.method, query.get("comp")
    match [part for part in path if part]:
        case []:
            return _plain("", _QUEUE_SERVICE.get((method, comp)))
        case [queue]:
            return _plain(_queue(queue), _QUEUE.get((method, comp)))
        case [queue, "messages"]:
            if method == "GET" and query.get("peekonly", "").lower() == "true":
                return _plain(_queue(queue), f"{MESSAGES}/read")
            return _need(_queue(queue), _MESSAGES.get(method))
        case [queue, "messages", _]:
            return _need(_queue(queue), _MESSAGE.get(method))
    raise UnknownOperationError("the path of a queue")


def _queue(name: str) -> str:
    return f"/queueServices/default/queues/{name}"


# -- tables

_TABLE_SERVICE: Mapping[tuple[str, str | None], str] = {
    ("GET", "properties"): f"{TABLE_SERVICE}/read",
    ("PUT", "properties"): f"{TABLE_SERVICE}/write",
    ("GET", "stats"): f"{TABLE_SERVICE}/read",
}
_TABLES_OF_ACCOUNT = {"GET": f"{TABLES}/read", "POST": f"{TABLES}/write", "DELETE": f"{TABLES}/delete"}
_TABLE_ACL = {
    "GET": f"{TABLES}/getAcl/action",
    "HEAD": f"{TABLES}/getAcl/action",
    "PUT": f"{TABLES}/setAcl/action",
}


def _of_tables(request: Request) -> Need:
    query, (_, *path) = request.query(), request.path()
    method = request.method
    place = "/".join(path)
    if not place:
        return _plain("", _TABLE_SERVICE.get((method, query.get("comp"))))
    if found := _ALL_TABLES.fullmatch(place):
        name = found["table"]
        return _plain(_table(name) if name else "", _TABLES_OF_ACCOUNT.get(method))
    if not (found := _ONE_TABLE.fullmatch(place)):
        raise UnknownOperationError("the path of a table")
    resource = _table(found["table"])
    if query.get("comp") == "acl":
        return _plain(resource, _TABLE_ACL.get(method))
    return _need(resource, _of_entities(method, is_conditional="if-match" in request.headers))


def _of_entities(method: str, *, is_conditional: bool) -> tuple[_Actions, ...] | None:
    add, update = f"{ENTITIES}/add/action", f"{ENTITIES}/update/action"
    match method:
        case "GET" | "HEAD":
            return ((f"{ENTITIES}/read",),)
        case "POST":
            return ((f"{ENTITIES}/write",), (add,))
        case "DELETE":
            return ((f"{ENTITIES}/delete",),)
        case "PUT" | "MERGE" | "PATCH":
            # Without a condition it is "insert or …".
            return ((f"{ENTITIES}/write",), (update,) if is_conditional else (add, update))
    return None


def _table(name: str) -> str:
    return f"/tableServices/default/tables/{name}"


# -- needs


def _plain(resource: str, action: str | None) -> Need:
    return _need(resource, ((action,),) if action else None)


def _need(resource: str, any_of: tuple[_Actions, ...] | None) -> Need:
    if any_of is None:
        raise UnknownOperationError("no operation with this method and these parameters")
    return Need(resource=resource, any_of=any_of)
