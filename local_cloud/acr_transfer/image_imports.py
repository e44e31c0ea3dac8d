"""The operation ``registries/{name}/importImage``: a registry copies an artifact out of another, by itself.

https://learn.microsoft.com/rest/api/containerregistry/registries/import-image. The POST is answered with 202
and a Location, which answers 202 while it goes on, 200 when it is done, and with ARM's error body when it has
failed. What must be allowed to the caller: ``importImage/action`` on the one registry, ``read`` on the other,
which ARM asks for (https://github.com/Azure/acr/issues/237), and to pull from it. How the service words that
an image is not there, or a tag is there already, is not known.
"""

import re
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from local_cloud.acr_transfer.access import RoleAssignments
from local_cloud.acr_transfer.arm import API_VERSIONS, caller_of, json_body, version_of
from local_cloud.acr_transfer.content import contents_of
from local_cloud.acr_transfer.errors import ArmError, RunError, invalid, not_authorized, not_found
from local_cloud.acr_transfer.registry_client import RegistryAccess, RegistryClient
from local_cloud.acr_transfer.resources import Reference
from local_cloud.tokens import TokenAuthority

PATH = re.compile(
    r"(?P<registry>/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerRegistry"
    r"/registries/[^/]+)/importImage/?",
    re.IGNORECASE,
)
OPERATION = re.compile(
    r"/subscriptions/[^/]+/providers/Microsoft\.ContainerRegistry/locations/local"
    r"/operationResults/registries-(?P<operation>[0-9a-f-]{36})/?",
    re.IGNORECASE,
)
_REGISTRIES = "Microsoft.ContainerRegistry/registries"
_IMPORT = f"{_REGISTRIES}/importImage/action"
_VERSIONS = (*API_VERSIONS, "2023-07-01", "2025-04-01", "2025-11-01")
_MAX_TARGETS = 100
_MAX_MANIFESTS = 50
_WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """The body of an image import: what is copied from where, and under which names."""

    source_id: str
    image: Reference
    tags: tuple[Reference, ...]
    untagged: tuple[str, ...]
    is_forced: bool

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Parse the body of an image import.

        Raises:
            ArmError: 400, saying which field.
        """
        body: dict[str, Any] = raw if isinstance(raw, dict) else {}
        match body:
            case {"source": {"resourceId": str(source_id), "sourceImage": str(image)}}:
                pass
            case _:
                raise invalid("source.resourceId and source.sourceImage are required here")
        mode = str(body.get("mode") or "NoForce").lower()
        if mode not in ("force", "noforce"):
            raise invalid("mode must be Force or NoForce")
        try:
            return cls(
                source_id=source_id.rstrip("/"),
                image=Reference.parse(image),
                tags=tuple(Reference.parse(one) for one in _names(body, "targetTags")),
                untagged=tuple(
                    Reference.parse(one).repository for one in _names(body, "untaggedTargetRepositories")
                ),
                is_forced=mode == "force",
            )
        except ValueError as error:
            raise invalid(str(error)) from None


def _names(raw: Mapping[str, Any], member: str) -> list[str]:
    value = raw.get(member) or []
    if not isinstance(value, list) or len(value) > _MAX_TARGETS or not all(type(one) is str for one in value):
        raise invalid(f"{member} must be a list of at most {_MAX_TARGETS} names")
    return value


class ImageImports:
    """The image imports between the registries of one cloud.

    ``registries`` are known by their ids, in lower case; ``pulls`` tells whether somebody may pull from one.
    """

    def __init__(
        self,
        *,
        registries: Mapping[str, RegistryAccess],
        tokens: TokenAuthority,
        roles: RoleAssignments,
        pulls: Callable[[str, str], bool],
    ) -> None:
        self._registries = registries
        self._tokens = tokens
        self._roles = roles
        self._pulls = pulls
        self._workers = ThreadPoolExecutor(_WORKERS, "import-image")
        self._operations: dict[str, Future[None]] = {}
        self._hold = threading.Event()
        self._hold.set()
        self.failing: list[str] = []
        """Messages with which the next ones fail, one each."""

    def hold(self, *, is_held: bool = True) -> None:
        """Let every import that is asked for go on for ever, or, with ``is_held=False``, end as usual."""
        self._hold.clear() if is_held else self._hold.set()

    def close(self) -> None:
        """Wait for the imports that are under way."""
        self._hold.set()
        self._workers.shutdown()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to one of the two paths.

        Raises:
            ArmError: the request is refused.
        """
        caller = caller_of(request, self._tokens)
        version = version_of(request, "registries", _VERSIONS)
        if found := OPERATION.fullmatch(request.path):
            return self._progress(request, found["operation"])
        match = PATH.fullmatch(request.path)
        assert match is not None  # noqa: S101 - whoever calls has compared the path
        if request.method != "POST":
            raise ArmError(
                405, "MethodNotAllowed", f"The HTTP method '{request.method}' is not supported here."
            )
        target_id = match["registry"].lower()
        if not self._roles.allows(caller, _IMPORT, target_id):
            raise not_authorized(caller, _IMPORT, match["registry"])
        if target_id not in self._registries:
            raise not_found(match["registry"])
        wanted = ImageRequest.from_json(await json_body(request))
        self._require_source(caller, wanted, match["registry"])
        operation = str(uuid.uuid4())
        self._operations[operation] = self._workers.submit(self._copy, caller, target_id, wanted)
        subscription = match["registry"].split("/")[2]
        path = (
            f"/subscriptions/{subscription}/providers/Microsoft.ContainerRegistry/locations/local"
            f"/operationResults/registries-{operation}?api-version={version}"
        )
        headers = {"Location": f"{request.scheme}://{request.host}{path}", "Retry-After": "0"}
        return web.Response(status=202, headers=headers)

    def _require_source(self, caller: str, wanted: ImageRequest, target: str) -> None:
        source = wanted.source_id.lower()
        if not self._roles.allows(caller, f"{_REGISTRIES}/read", source):
            message = (
                f"The client '{caller}' with object id '{caller}' has permission to perform action"
                f" '{_IMPORT}' on scope '{target}'; however, it does not have permission to perform action"
                f" 'read' on the linked scope(s) '{wanted.source_id}' or the linked scope(s) are invalid."
            )
            raise ArmError(403, "LinkedAuthorizationFailed", message)
        if source not in self._registries:
            raise not_found(wanted.source_id)

    def _progress(self, request: web.Request, operation: str) -> web.StreamResponse:
        work = self._operations.get(operation)
        if work is None:
            raise not_found(request.path)
        if not work.done():
            headers = {"Location": str(request.url), "Retry-After": "0"}
            return web.Response(status=202, headers=headers)
        error = work.exception()
        if error is None:
            return web.Response(status=200)
        raise ArmError(400, "ImportImageFailed", str(error)[:2000])

    def _copy(self, caller: str, target_id: str, wanted: ImageRequest) -> None:
        self._hold.wait()
        if self.failing:
            raise RunError(self.failing.pop(0))
        source_id = wanted.source_id.lower()
        if not self._pulls(caller, source_id):
            raise RunError(f"{wanted.image}: the caller is not authorized to pull from the source registry")
        with (
            RegistryClient(self._registries[source_id], self._tokens) as source,
            RegistryClient(self._registries[target_id], self._tokens) as target,
        ):
            _Copying(source, target, wanted).carry_out()


@dataclass(frozen=True, slots=True)
class _Copying:
    source: RegistryClient
    target: RegistryClient
    wanted: ImageRequest

    def carry_out(self) -> None:
        wanted, image = self.wanted, self.wanted.image
        top = self.source.resolve(image.repository, image.digest or image.tag or "")
        if top is None:
            raise RunError(f"The image {image} was not found in the source registry")
        if not wanted.is_forced:
            for tag in wanted.tags:
                if self.target.resolve(tag.repository, tag.tag or ""):
                    raise RunError(f"The tag {tag} already exists and mode is NoForce")
        contents = contents_of(top, lambda one: self.source.manifest(image.repository, one))
        if len(contents.manifests) > _MAX_MANIFESTS:
            raise RunError(
                f"{image} has {len(contents.manifests)} manifests, at most {_MAX_MANIFESTS} are imported"
            )
        names = [
            *((name, None) for name in wanted.untagged),
            *((one.repository, one.tag) for one in wanted.tags),
        ]
        for repository, name in names:
            for blob in contents.blobs:
                if not self.target.has_blob(repository, blob.digest):
                    pieces = self.source.open_blob(image.repository, blob, lambda: None)
                    self.target.push_blob(repository, blob, pieces)
            for manifest in contents.manifests:
                content = self.source.manifest(image.repository, manifest)
                reference = name if name and manifest is contents.manifests[-1] else manifest.digest
                self.target.push_manifest(repository, reference, manifest, content)
