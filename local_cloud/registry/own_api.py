"""ACR's own API below ``/acr/v1/``: lists of repositories, tags and manifests, and their attributes.

When something was made first is not told (``createdTime``): neither store keeps it. Nothing is locked, so all
changeable attributes are true. Sources: https://learn.microsoft.com/rest/api/containerregistry/.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from aiohttp import web

from local_cloud.registry.addresses import Target, is_digest
from local_cloud.registry.errors import RegistryError
from local_cloud.registry.manifests import MAX_MANIFEST_BYTES

MAX_LISTED = 100
"""Repositories, manifests or tags on a page, as many as ACR lists."""

_CHANGEABLE = ("deleteEnabled", "writeEnabled", "readEnabled", "listEnabled")


class Shelves(Protocol):
    """The port to the files in which a store keeps its content."""

    def repositories(self) -> list[str]:
        """The repositories that hold a manifest, in order."""

    def tag_names(self, name: str) -> list[str]:
        """The tags of a repository, in order; none where there is no such repository."""

    def tag_file(self, name: str, tag: str) -> Path:
        """The path at which the store keeps a tag's digest; written anew with each push of the tag."""

    def manifests(self, name: str) -> list[str]:
        """The digests of a repository's manifests, in order; none where there is no such repository."""

    def manifest_file(self, name: str, digest: str) -> Path:
        """The path at which the store notes a repository's manifest; written anew with each push of it."""

    def content_path(self, digest: str) -> Path:
        """The path of the content with a digest, whether it is there or not."""

    def delete_repository(self, name: str) -> None:
        """Forgets a repository with all that is in it, but for those whose names begin with its own."""


class OwnApi:
    """The answers of ACR's own API to authorised requests; ``login_server`` is the registry's name."""

    def __init__(self, shelves: Shelves, login_server: str) -> None:
        self._shelves = shelves
        self._login_server = login_server
        self._answers = {
            ("own-catalog", "GET"): self._repositories,
            ("repository", "GET"): self._repository,
            ("repository", "DELETE"): self._delete_repository,
            ("tag-list", "GET"): self._tags,
            ("tag", "GET"): self._tag,
            ("manifests", "GET"): self._manifests,
            ("manifest-attributes", "GET"): self._manifest,
        }

    def is_for(self, target: Target) -> bool:
        """Whether this API answers anything for the target, by one method or another."""
        return any(kind == target.kind for kind, _ in self._answers)

    def answer(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answers `request` for `target`.

        Raises:
            RegistryError: NAME_UNKNOWN, TAG_UNKNOWN, MANIFEST_UNKNOWN: there is no such thing; UNSUPPORTED:
                attributes are not written here, and nothing but whole repositories is deleted.
        """
        answer = self._answers.get((target.kind, request.method))
        if answer is None:
            raise RegistryError("UNSUPPORTED", "the registry does not support this operation")
        if target.name and not self._shelves.manifests(target.name):
            raise RegistryError("NAME_UNKNOWN", "repository unknown to the registry")
        return answer(request, target)

    def _repositories(self, request: web.Request, target: Target) -> web.StreamResponse:
        page, headers = _page_of(self._shelves.repositories(), request, target)
        return web.json_response({"repositories": page}, headers=headers)

    def _repository(self, _request: web.Request, target: Target) -> web.StreamResponse:
        digests, tags = self._shelves.manifests(target.name), self._shelves.tag_names(target.name)
        files = [
            *(self._shelves.manifest_file(target.name, digest) for digest in digests),
            *(self._shelves.tag_file(target.name, tag) for tag in tags),
        ]
        written_ns = max(path.stat().st_mtime_ns for path in files)
        return self._told(
            target,
            lastUpdateTime=_moment(written_ns),
            manifestCount=len(digests),
            tagCount=len(tags),
            changeableAttributes=dict.fromkeys(_CHANGEABLE, True),
        )

    def _delete_repository(self, _request: web.Request, target: Target) -> web.StreamResponse:
        digests = self._shelves.manifests(target.name)
        self._shelves.delete_repository(target.name)
        return web.json_response({"manifestsDeleted": digests, "tagsDeleted": []}, status=202)

    def _tags(self, request: web.Request, target: Target) -> web.StreamResponse:
        page, headers = _page_of(self._shelves.tag_names(target.name), request, target)
        tags = [found for tag in page if (found := self._tag_of(target.name, tag)) is not None]
        return self._told(target, headers, tags=tags)

    def _tag(self, _request: web.Request, target: Target) -> web.StreamResponse:
        tag = self._tag_of(target.name, target.rest)
        if tag is None:
            raise RegistryError("TAG_UNKNOWN", "the specified tag does not exist")
        return self._told(target, tag=tag)

    def _manifests(self, request: web.Request, target: Target) -> web.StreamResponse:
        page, headers = _page_of(self._shelves.manifests(target.name), request, target)
        tags = self._tags_by_digest(target.name)
        listed = [self._manifest_of(target.name, digest, tags) for digest in page]
        return self._told(target, headers, manifests=[one for one in listed if one is not None])

    def _manifest(self, _request: web.Request, target: Target) -> web.StreamResponse:
        found = self._manifest_of(target.name, target.rest, self._tags_by_digest(target.name))
        if found is None:
            detail = {"Name": target.name, "Revision": target.rest}
            raise RegistryError("MANIFEST_UNKNOWN", f"manifest {target.rest} is not found", detail=detail)
        return self._told(target, manifest=found)

    def _told(
        self, target: Target, headers: Mapping[str, str] | None = None, **members: Any
    ) -> web.StreamResponse:
        answer = {"registry": self._login_server, "imageName": target.name, **members}
        return web.json_response(answer, headers=headers)

    def _tag_of(self, name: str, tag: str) -> dict[str, Any] | None:
        try:
            path = self._shelves.tag_file(name, tag)
            digest, written_ns = path.read_text(), path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        return {
            "name": tag,
            "digest": digest,
            "lastUpdateTime": _moment(written_ns),
            "signed": False,
            "changeableAttributes": dict.fromkeys(_CHANGEABLE, True),
        }

    def _tags_by_digest(self, name: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for tag in self._shelves.tag_names(name):
            if (told := self._tag_of(name, tag)) is not None:
                found.setdefault(told["digest"], []).append(tag)
        return found

    def _manifest_of(
        self, name: str, digest: str, tags: Mapping[str, Sequence[str]]
    ) -> dict[str, Any] | None:
        """The attributes of a manifest; of one that describes a platform, also which; ``None``: not there."""
        try:
            written_ns = self._shelves.manifest_file(name, digest).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        manifest = self._object(digest)
        config = manifest.get("config") or {}
        platform = self._object(config.get("digest", ""))
        described = [config, *manifest.get("layers", []), *manifest.get("manifests", [])]
        told = {
            "digest": digest,
            "imageSize": sum(one.get("size", 0) for one in described),
            "lastUpdateTime": _moment(written_ns),
            "mediaType": manifest.get("mediaType"),
            "configMediaType": config.get("mediaType"),
            "architecture": platform.get("architecture"),
            "os": platform.get("os"),
            "tags": tags.get(digest),
            "changeableAttributes": dict.fromkeys(_CHANGEABLE, True),
        }
        return {member: value for member, value in told.items() if value is not None}

    def _object(self, digest: str) -> dict[str, Any]:
        """The JSON object of that digest; an empty one where there is none."""
        if not is_digest(digest):
            return {}
        try:
            with self._shelves.content_path(digest).open("rb") as stream:
                found = json.loads(stream.read(MAX_MANIFEST_BYTES))
        except (FileNotFoundError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _moment(written_ns: int) -> str:
    """A time as ACR writes one: UTC, to a tenth of a microsecond."""
    written_at = datetime.fromtimestamp(written_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{written_at}.{written_ns % 10**9 // 100:07}Z"


def _page_of(
    names: Sequence[str], request: web.Request, target: Target
) -> tuple[Sequence[str], dict[str, str]]:
    """The page of an ordered list that is asked for, and the header that leads to the next one, if any."""
    asked = request.query.get("n", "")
    size = min(int(asked), MAX_LISTED) if re.fullmatch("[1-9][0-9]{0,8}", asked) else MAX_LISTED
    rest = [name for name in names if name > request.query.get("last", "")]
    if len(rest) <= size:
        return rest, {}
    query = urlencode({"last": rest[size - 1], "n": size, "orderby": ""})
    return rest[:size], {"Link": f'<{target.path}?{query}>; rel="next"'}
