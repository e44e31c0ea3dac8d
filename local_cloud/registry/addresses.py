"""The meaning of a path below ``/v2/`` or ``/acr/v1/``, parsed once, for access control and either store.

Access is decided on the parsed `Target`, and the store is asked for `Target.path`, never for the path as it
came in: so the two cannot understand one request differently.
"""

import re
from dataclasses import dataclass
from typing import Literal

from local_cloud.registry.errors import RegistryError

Kind = Literal[
    "base",
    "catalog",
    "manifest",
    "blob",
    "uploads",
    "upload",
    "tags",
    "tag-list",
    "referrers",
    "tag",
    "manifests",
    "manifest-attributes",
    "repository",
    "own-catalog",
]
Action = Literal["pull", "push", "delete", "metadata_read"]

MAX_NAME_CHARS = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UPLOAD = re.compile(r"[A-Za-z0-9-]{1,64}")
_PATHS: dict[Kind, str] = {
    "base": "/v2/",
    "catalog": "/v2/_catalog",
    "manifest": "/v2/{name}/manifests/{rest}",
    "blob": "/v2/{name}/blobs/{rest}",
    "uploads": "/v2/{name}/blobs/uploads/{rest}",
    "upload": "/v2/{name}/blobs/uploads/{rest}",
    "tags": "/v2/{name}/tags/list",
    "referrers": "/v2/{name}/referrers/{rest}",
    "tag": "/acr/v1/{name}/_tags/{rest}",
    "tag-list": "/acr/v1/{name}/_tags",
    "manifests": "/acr/v1/{name}/_manifests",
    "manifest-attributes": "/acr/v1/{name}/_manifests/{rest}",
    "repository": "/acr/v1/{name}",
    "own-catalog": "/acr/v1/_catalog",
}
_OF_METADATA: tuple[Kind, ...] = ("tag", "tag-list", "manifests", "manifest-attributes")
_COLLECTIONS: dict[str, Kind] = {"manifests": "manifest", "blobs": "blob", "referrers": "referrers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The thing that a request addresses: its kind, its repository and the last segment of the path.

    `name` is "" for the base and the catalogs; `rest` is a tag, a digest, an upload's id or "".
    """

    kind: Kind
    name: str = ""
    rest: str = ""

    @property
    def path(self) -> str:
        """The one path under which the target is known."""
        return _PATHS[self.kind].format(name=self.name, rest=self.rest)

    def action(self, method: str) -> Action:
        """The action in the repository that the caller must have a right to for `method`."""
        if self.kind in _OF_METADATA or (self.kind == "repository" and method != "DELETE"):
            return "metadata_read"
        if self.kind in ("uploads", "upload") or method in ("POST", "PUT", "PATCH"):
            return "push"
        return "delete" if method == "DELETE" else "pull"


def parse_target(path: str) -> Target:
    """Reads a decoded request path.

    Raises:
        RegistryError: NAME_INVALID, DIGEST_INVALID, MANIFEST_INVALID (a malformed tag),
            BLOB_UPLOAD_UNKNOWN, or NAME_UNKNOWN when the path has none of the known shapes.
    """
    if path in ("/v2", "/v2/"):
        return Target(kind="base")
    if path == "/v2/_catalog":
        return Target(kind="catalog")
    kind: Kind
    if path.startswith("/acr/v1/"):
        return _parse_own(path)
    match path.removeprefix("/v2/").split("/"):
        case [*components, "blobs", "uploads", rest]:
            kind = "upload" if rest else "uploads"
        case [*components, "tags", "list"]:
            kind, rest = "tags", ""
        case [*components, ("manifests" | "blobs" | "referrers") as collection, rest]:
            kind = _COLLECTIONS[collection]
        case _:
            raise RegistryError("NAME_UNKNOWN", "no such address in this registry")
    name = "/".join(components)
    if not is_name(name):
        raise RegistryError("NAME_INVALID", "malformed repository name")
    _check_rest(kind, rest)
    return Target(kind=kind, name=name, rest=rest)


def _parse_own(path: str) -> Target:
    """Reads what there is here of ACR's own API: repositories, and the tags and manifests of one."""
    if path == "/acr/v1/_catalog":
        return Target(kind="own-catalog")
    match path.removeprefix("/acr/v1/").split("/"):
        case [*components, "_tags", tag] if is_name("/".join(components)) and _TAG.fullmatch(tag):
            return Target(kind="tag", name="/".join(components), rest=tag)
        case [*components, "_tags"] if is_name("/".join(components)):
            return Target(kind="tag-list", name="/".join(components))
        case [*components, "_manifests"] if is_name("/".join(components)):
            return Target(kind="manifests", name="/".join(components))
        case [*components, "_manifests", digest] if is_name("/".join(components)):
            return Target(kind="manifest-attributes", name="/".join(components), rest=check_digest(digest))
        case components if is_name("/".join(components)):
            return Target(kind="repository", name="/".join(components))
    raise RegistryError("NAME_UNKNOWN", "no such address in this registry")


def is_digest(text: str) -> bool:
    """Whether `text` is a sha256 digest, the one algorithm this registry keeps."""
    return _DIGEST.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether `text` can be the name of a repository."""
    return len(text) <= MAX_NAME_CHARS and _NAME.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """Return `text` if it is a digest.

    Raises:
        RegistryError: DIGEST_INVALID: it is none.
    """
    if not is_digest(text):
        raise RegistryError("DIGEST_INVALID", "a digest here is sha256: and 64 lower-case hex digits")
    return text


def _check_rest(kind: Kind, rest: str) -> None:
    match kind:
        case "upload" if not _UPLOAD.fullmatch(rest):
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", "malformed upload id")
        case "manifest" if ":" not in rest:
            if not _TAG.fullmatch(rest):
                raise RegistryError("MANIFEST_INVALID", "malformed tag")
        case "manifest" | "blob" | "referrers":
            check_digest(rest)
