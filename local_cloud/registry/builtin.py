"""The built-in store: the OCI distribution specification 1.1, pull, push, listing and referrers."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from local_cloud.pki import CertificateAuthority
from local_cloud.registry.addresses import Target, check_digest, is_digest, is_name
from local_cloud.registry.content_host import ContentHost
from local_cloud.registry.errors import RegistryError
from local_cloud.registry.manifests import MAX_MANIFEST_BYTES, OCI_INDEX, parse_manifest
from local_cloud.registry.storage import Storage, Upload

PAGE_ITEMS = 1000
_PIECE_BYTES = 256 * 1024
_CONTENT_RANGE = re.compile(r"(?:bytes )?([0-9]{1,15})-([0-9]{1,15})(?:/.*)?")

_Answer = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]


class BuiltinStore:
    """A store that answers authorised requests from a `Storage`; a `ContentHost`, if any, gives out blobs."""

    label = "builtin"

    def __init__(self, storage: Storage, content_host: ContentHost | None) -> None:
        self._storage = storage
        self._content_host = content_host
        self._answers: Mapping[tuple[str, str], _Answer] = {
            ("catalog", "GET"): self._catalog,
            ("tags", "GET"): self._tags,
            ("referrers", "GET"): self._referrers,
            ("blob", "GET"): self._get_blob,
            ("manifest", "GET"): self._get_manifest,
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("uploads", "POST"): self._begin_upload,
            ("upload", "GET"): self._upload_status,
            ("upload", "PATCH"): self._append,
            ("upload", "PUT"): self._complete_upload,
            ("upload", "DELETE"): self._drop_upload,
        }

    async def answer(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answers `request` for `target`.

        Raises:
            RegistryError: The specification's refusals.
        """
        method = "GET" if request.method == "HEAD" else request.method
        answer = self._answers.get((target.kind, method))
        if answer is None:
            raise RegistryError("UNSUPPORTED", "the registry does not support this operation")
        return await answer(request, target)

    def tag_file(self, name: str, tag: str) -> Path:
        """The path of the file with a tag's digest, whether it is there or not."""
        return self._storage.tag_file(name, tag)

    @classmethod
    async def start(
        cls,
        folder: Path,
        *,
        name: str,
        ca: CertificateAuthority,
        is_redirecting: bool,
        clock: Callable[[], float],
    ) -> "BuiltinStore":
        """A store in `folder`; with `is_redirecting` blobs are had from a host of their own."""
        storage = Storage(folder)
        if not is_redirecting:
            return cls(storage, None)
        content_host = ContentHost(storage.content_path, clock)
        await content_host.start(ca, name)
        return cls(storage, content_host)

    def tag_names(self, name: str) -> list[str]:
        """The tags of a repository, in order."""
        return self._storage.tags(name) if self._storage.manifests(name) else []

    def manifests(self, name: str) -> list[str]:
        """The digests of a repository's manifests, in order."""
        return self._storage.manifests(name)

    def repositories(self) -> list[str]:
        """The repositories that hold a manifest, in order."""
        return self._storage.repositories()

    def manifest_file(self, name: str, digest: str) -> Path:
        """The path of the file with a manifest's media type, whether it is there or not."""
        return self._storage.manifest_file(name, digest)

    def content_path(self, digest: str) -> Path:
        """The path of the content with a digest, whether it is there or not."""
        return self._storage.content_path(digest)

    def delete_repository(self, name: str) -> None:
        """Forgets a repository."""
        self._storage.delete_repository(name)

    async def close(self) -> None:
        """Stops giving out blobs; all state is on disk."""
        if self._content_host:
            await self._content_host.close()

    async def _catalog(self, request: web.Request, target: Target) -> web.StreamResponse:
        page, headers = _page(self._storage.repositories(), request, target)
        return web.json_response({"repositories": page}, headers=headers)

    async def _tags(self, request: web.Request, target: Target) -> web.StreamResponse:
        page, headers = _page(self._storage.tags(target.name), request, target)
        return web.json_response({"name": target.name, "tags": page}, headers=headers)

    async def _referrers(self, request: web.Request, target: Target) -> web.StreamResponse:
        descriptors = {each["digest"]: each for each in self._storage.referrers(target.name, target.rest)}
        headers = {}
        if artifact_type := request.query.get("artifactType"):
            headers["OCI-Filters-Applied"] = "artifactType"
            descriptors = {
                digest: each
                for digest, each in descriptors.items()
                if each.get("artifactType") == artifact_type
            }
        page, link = _page(list(descriptors), request, target)
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [descriptors[digest] for digest in page],
        }
        # Not json_response: that would add a charset to the media type.
        body = json.dumps(index).encode()
        return web.Response(body=body, content_type=OCI_INDEX, headers={**headers, **link})

    async def _get_blob(self, request: web.Request, target: Target) -> web.StreamResponse:
        if not self._storage.has_blob(target.name, target.rest):
            raise RegistryError("BLOB_UNKNOWN", "blob unknown to registry", detail=target.rest)
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": target.rest}
        if self._content_host and request.method == "GET":
            headers["Location"] = self._content_host.address(target.rest)
            return web.Response(status=307, headers=headers)
        return web.FileResponse(
            self._storage.content_path(target.rest), chunk_size=_PIECE_BYTES, headers=headers
        )

    async def _get_manifest(self, _request: web.Request, target: Target) -> web.StreamResponse:
        digest, media_type, content = self._storage.manifest(target.name, target.rest)
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        return web.Response(body=content, content_type=media_type, headers=headers)

    async def _put_manifest(self, request: web.Request, target: Target) -> web.StreamResponse:
        manifest = parse_manifest(await _read_at_most(request, MAX_MANIFEST_BYTES), request.content_type)
        tag = None if is_digest(target.rest) else target.rest
        if tag is None and target.rest != manifest.digest:
            raise RegistryError("DIGEST_INVALID", "the manifest does not have the digest it was sent under")
        self._storage.put_manifest(target.name, manifest, tag)
        headers = {
            "Location": Target(kind="manifest", name=target.name, rest=manifest.digest).path,
            "Docker-Content-Digest": manifest.digest,
        }
        if manifest.subject:
            headers["OCI-Subject"] = manifest.subject
        return web.Response(status=201, headers=headers)

    async def _delete_manifest(self, _request: web.Request, target: Target) -> web.StreamResponse:
        self._storage.delete_manifest(target.name, target.rest)
        return web.Response(status=202)

    async def _begin_upload(self, request: web.Request, target: Target) -> web.StreamResponse:
        mount, source = request.query.get("mount", ""), request.query.get("from", "")
        if is_digest(mount) and is_name(source) and self._storage.has_blob(source, mount):
            self._storage.link_blob(target.name, mount)
            return _blob_created(target.name, mount)
        upload = self._storage.begin_upload(target.name)
        if "digest" not in request.query:
            return _upload_state(upload, 202)
        return await self._receive_last(upload, request)

    async def _upload_status(self, _request: web.Request, target: Target) -> web.StreamResponse:
        return _upload_state(self._storage.upload(target.name, target.rest), 204)

    async def _append(self, request: web.Request, target: Target) -> web.StreamResponse:
        async with self._storage.upload(target.name, target.rest).lock:
            # Looked up again: while this request waited, another may have completed the upload.
            upload = self._storage.upload(target.name, target.rest)
            await _receive(upload, request)
        return _upload_state(upload, 202)

    async def _complete_upload(self, request: web.Request, target: Target) -> web.StreamResponse:
        return await self._receive_last(self._storage.upload(target.name, target.rest), request)

    async def _drop_upload(self, _request: web.Request, target: Target) -> web.StreamResponse:
        upload = self._storage.upload(target.name, target.rest)
        async with upload.lock:
            self._storage.drop_upload(upload)
        return web.Response(status=204)

    async def _receive_last(self, upload: Upload, request: web.Request) -> web.StreamResponse:
        digest = check_digest(request.query.get("digest", ""))
        async with upload.lock:
            self._storage.upload(upload.name, upload.upload_id)
            await _receive(upload, request)
            self._storage.commit_upload(upload, digest)
        return _blob_created(upload.name, digest)


async def _receive(upload: Upload, request: web.Request) -> None:
    if stated := request.headers.get("Content-Range"):
        match = _CONTENT_RANGE.fullmatch(stated)
        if not match or int(match[1]) != upload.size_bytes:
            raise RegistryError(
                "RANGE_INVALID", "the range does not continue the upload", headers=_range(upload)
            )
    async for piece in request.content.iter_chunked(_PIECE_BYTES):
        upload.append(piece)


async def _read_at_most(request: web.Request, limit_bytes: int) -> bytes:
    content = bytearray()
    async for piece in request.content.iter_chunked(_PIECE_BYTES):
        content += piece
        if len(content) > limit_bytes:
            raise RegistryError("SIZE_INVALID", f"at most {limit_bytes} bytes are accepted here")
    return bytes(content)


def _blob_created(name: str, digest: str) -> web.Response:
    headers = {"Location": Target(kind="blob", name=name, rest=digest).path, "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _upload_state(upload: Upload, status: int) -> web.Response:
    location = Target(kind="upload", name=upload.name, rest=upload.upload_id).path
    headers = {"Location": location, "Docker-Upload-UUID": upload.upload_id, **_range(upload)}
    return web.Response(status=status, headers=headers)


def _range(upload: Upload) -> dict[str, str]:
    # Inclusive, so an upload with nothing in it cannot be told from one byte: the specification's own quirk.
    return {"Range": f"0-{max(upload.size_bytes - 1, 0)}"}


def _page(names: Sequence[str], request: web.Request, target: Target) -> tuple[list[str], dict[str, str]]:
    """One page of sorted `names` after the query's ``last``, and the Link header to the next one, if any."""
    asked = request.query.get("n", str(PAGE_ITEMS))
    if not re.fullmatch(r"[0-9]{1,9}", asked):
        raise RegistryError("PAGINATION_NUMBER_INVALID", "n is a whole number", detail={"n": asked})
    size = min(int(asked), PAGE_ITEMS)
    last = request.query.get("last", "")
    rest = [name for name in names if name > last]
    page = rest[:size]
    if not page or len(rest) == len(page):
        return page, {}
    query: dict[str, Any] = {**request.query, "n": size, "last": page[-1]}
    return page, {"Link": f'<{target.path}?{urlencode(query)}>; rel="next"'}
