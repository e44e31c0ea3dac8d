"""A small synchronous client for OCI registries: push blobs and manifests, ask for digests."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urljoin, urlsplit

import requests

from local_cloud.registry.manifests import MANIFEST_TYPES, MAX_MANIFEST_BYTES, OCI_INDEX

_ACCEPT = ", ".join(MANIFEST_TYPES)
_TIMEOUT_S = (10.0, 120.0)  # to connect, between two reads
_PIECE_BYTES = 64 * 1024
_NOT_FOUND = 404
_UNAUTHORIZED = 401
_MAX_ERROR_CHARS = 500


class RegistryCallError(Exception):
    """The registry's answer was not the expected one; `status` is its HTTP status."""

    def __init__(self, call: str, status: int, answer: str) -> None:
        super().__init__(f"{call}: {status} {answer[:_MAX_ERROR_CHARS]}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Content by media type, digest and size in bytes."""

    media_type: str
    digest: str
    size_bytes: int

    def to_json(self, **more: object) -> dict[str, object]:
        """The descriptor as it stands in a manifest, with `more` fields."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes, **more}


class RegistryClient:
    """A client of one registry with a user name and a password, by bearer tokens or Basic as it asks.

    Not for several threads. Nothing is read whole but manifests.
    """

    def __init__(self, login_server: str, *, username: str, password: str, ca_file: Path | str) -> None:
        self._login_server = login_server
        self._origin = f"https://{login_server}"
        self._credentials = (username, password)
        self._authorizations: dict[str, str] = {}  # by repository
        self._session = requests.Session()
        self._session.trust_env = False  # REQUESTS_CA_BUNDLE would win over `verify`
        self._session.verify = str(ca_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def push_blob(self, name: str, blob: BinaryIO, descriptor: Descriptor) -> bool:
        """Uploads `blob`, seekable and at any position; returns False if the repository has it already.

        Raises:
            RegistryCallError: The registry refuses, for one thing because digest and content differ.
        """
        address = f"/v2/{name}/blobs/{descriptor.digest}"
        if self._call("HEAD", address, name, expect=(200, _NOT_FOUND)).status_code != _NOT_FOUND:
            return False
        begun = self._call("POST", f"/v2/{name}/blobs/uploads/", name, expect=(202,))
        self._call(
            "PUT",
            _header(begun, "Location"),
            name,
            expect=(201,),
            params={"digest": descriptor.digest},
            # Not octets of an empty file: requests would send those chunked.
            data=blob if descriptor.size_bytes else b"",
            headers={"Content-Type": "application/octet-stream"},
        )
        return True

    def push_manifest(self, name: str, manifest: dict[str, Any], tag: str | None = None) -> Descriptor:
        """Stores a manifest under `tag`, or by digest only; its ``mediaType`` is what it is sent as.

        If it has a subject and the registry does not track referrers, the ``sha256-<hex>`` tag is kept up
        instead (OCI distribution specification 1.1, "Pushing Manifests with Subject").

        Raises:
            RegistryCallError: The registry refuses.
        """
        content = json.dumps(manifest, separators=(",", ":")).encode()
        media_type = manifest["mediaType"]
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        answer = self._call(
            "PUT",
            f"/v2/{name}/manifests/{tag or digest}",
            name,
            expect=(201,),
            data=content,
            headers={"Content-Type": media_type},
        )
        descriptor = Descriptor(media_type=media_type, digest=digest, size_bytes=len(content))
        if "subject" in manifest and "OCI-Subject" not in answer.headers:
            self._add_to_fallback_tag(name, manifest, descriptor)
        return descriptor

    def manifest(self, name: str, reference: str) -> tuple[str, bytes]:
        """Returns media type and content of a tag or digest; the content of a digest is checked against it.

        Raises:
            RegistryCallError: There is none (status 404), it is too large, or it has another digest.
        """
        call = f"/v2/{name}/manifests/{reference}"
        answer = self._call("GET", call, name, expect=(200,), headers={"Accept": _ACCEPT}, stream=True)
        with answer:
            content = bytearray()
            for piece in answer.iter_content(_PIECE_BYTES):
                content += piece
                if len(content) > MAX_MANIFEST_BYTES:
                    raise RegistryCallError(call, answer.status_code, "the manifest is too large")
        if ":" in reference and f"sha256:{hashlib.sha256(content).hexdigest()}" != reference:
            raise RegistryCallError(call, answer.status_code, "the manifest has another digest")
        return answer.headers.get("Content-Type", ""), bytes(content)

    def digest(self, name: str, reference: str) -> str:
        """The digest that a tag stands for, as the registry tells it.

        Raises:
            RegistryCallError: The repository does not have it (status 404).
        """
        call = f"/v2/{name}/manifests/{reference}"
        answer = self._call("HEAD", call, name, expect=(200,), headers={"Accept": _ACCEPT})
        return _header(answer, "Docker-Content-Digest")

    def _add_to_fallback_tag(self, name: str, manifest: dict[str, Any], descriptor: Descriptor) -> None:
        tag = manifest["subject"]["digest"].replace(":", "-")
        try:
            index = json.loads(self.manifest(name, tag)[1])
        except RegistryCallError as error:
            if error.status != _NOT_FOUND:
                raise
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        if any(each["digest"] == descriptor.digest for each in index["manifests"]):
            return
        described = {key: manifest[key] for key in ("artifactType", "annotations") if key in manifest}
        described.setdefault("artifactType", manifest.get("config", {}).get("mediaType"))
        index["manifests"].append(descriptor.to_json(**described))
        self.push_manifest(name, index, tag)

    def _call(
        self, method: str, address: str, name: str, *, expect: tuple[int, ...], **options: Any
    ) -> requests.Response:
        url = urljoin(self._origin, address)
        if urlsplit(url)[:2] != ("https", self._login_server):
            raise RegistryCallError(f"{method} {address}", 0, "the registry leads away from itself")
        answer = self._send(method, url, name, options)
        if answer.status_code == _UNAUTHORIZED:
            self._authorizations[name] = self._answer_challenge(answer, name)
            answer = self._send(method, url, name, options)
        if answer.status_code not in expect:
            raise RegistryCallError(f"{method} {urlsplit(url).path}", answer.status_code, answer.text)
        return answer

    def _send(self, method: str, url: str, name: str, options: dict[str, Any]) -> requests.Response:
        headers = dict(options.get("headers", {}))
        if name in self._authorizations:
            headers["Authorization"] = self._authorizations[name]
        if hasattr(options.get("data"), "seek"):
            options["data"].seek(0)
        rest = options | {"headers": headers}
        return self._session.request(method, url, timeout=_TIMEOUT_S, allow_redirects=False, **rest)

    def _answer_challenge(self, answer: requests.Response, name: str) -> str:
        """Returns the ``Authorization`` that the 401 `answer` asks for, good to pull and push in `name`."""
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        if scheme.lower() == "basic":
            prepared = requests.Request("GET", self._origin, auth=self._credentials).prepare()
            return str(prepared.headers["Authorization"])
        fields = dict(re.findall(r'([a-z]+)="([^"]*)"', rest))
        realm = fields.get("realm", "")
        # The password goes to the registry itself, wherever the challenge may point.
        if scheme.lower() != "bearer" or urlsplit(realm)[:2] != ("https", self._login_server):
            raise RegistryCallError("authentication", answer.status_code, "no challenge this client takes")
        token = self._session.get(
            realm,
            params={"service": fields.get("service", ""), "scope": f"repository:{name}:pull,push"},
            auth=self._credentials,
            timeout=_TIMEOUT_S,
            allow_redirects=False,
        )
        if not token.ok:
            raise RegistryCallError("token request", token.status_code, token.text)
        fields = token.json()
        return f"Bearer {fields.get('access_token') or fields['token']}"


def _header(answer: requests.Response, name: str) -> str:
    if name not in answer.headers:
        raise RegistryCallError(urlsplit(answer.url).path, answer.status_code, f"the answer has no {name}")
    return answer.headers[name]
