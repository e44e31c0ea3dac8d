"""One registry for one test: started in an event loop, used by synchronous clients in a thread."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import requests

from local_cloud.pki import CertificateAuthority
from local_cloud.registry import Registry
from local_cloud.tokens import TokenAuthority

Backend = Literal["builtin", "docker-registry"]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_T = TypeVar("_T")


def needs(binary: str) -> pytest.MarkDecorator:
    """Skips where `binary` is missing."""
    return pytest.mark.skipif(not shutil.which(binary), reason=f"{binary} is not installed")


BACKENDS = [
    pytest.param("builtin", id="builtin"),
    pytest.param("docker-registry", id="docker-registry", marks=needs("docker-registry")),
]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Harness:
    """`run` starts the registry, gives it to a function in a thread, and ends it.

    Whoever starts the registry in another way closes ``session`` at the end.
    """

    registry: Registry

    def __init__(self, folder: Path, backend: Backend, *, is_redirecting: bool = True) -> None:
        self.folder = folder
        self.backend = backend
        self.is_redirecting = is_redirecting
        self.ca = CertificateAuthority.create(folder / "ca")
        self.clock = Clock()
        self.tokens = TokenAuthority(clock=self.clock)
        self.session = requests.Session()

    def run(self, use: Callable[[], _T]) -> _T:
        async def scenario() -> _T:
            self.registry = await Registry.start(
                name="srcreg",
                folder=self.folder / "registry",
                ca=self.ca,
                tokens=self.tokens,
                backend=self.backend,
                is_redirecting=self.is_redirecting,
                clock=self.clock,
            )
            try:
                return await asyncio.to_thread(use)
            finally:
                self.session.close()
                await self.registry.close()

        return asyncio.run(scenario())

    @property
    def origin(self) -> str:
        return f"https://{self.registry.login_server}"

    def call(self, method: str, address: str, **options: Any) -> requests.Response:
        """Calls as the admin user, unless `token` (or None, for nobody) says otherwise."""
        # docker-registry answers 404 to whoever does not say that OCI manifests are welcome.
        headers = {"Accept": f"{MANIFEST}, {INDEX}"} | options.pop("headers", {})
        if "token" in options:
            if token := options.pop("token"):
                headers["Authorization"] = f"Bearer {token}"
        else:
            options.setdefault("auth", (self.registry.admin_username, self.registry.admin_password))
        url = address if address.startswith("https:") else self.origin + address
        return self.session.request(
            method,
            url,
            headers=headers,
            verify=str(self.ca.ca_file),
            timeout=20,
            **{"allow_redirects": True} | options,
        )

    def exchange(self, entra_token: str, **form: str) -> requests.Response:
        form = {
            "grant_type": "access_token",
            "service": self.registry.login_server,
            "tenant": self.tokens.tenant_id,
            "access_token": entra_token,
        } | form
        return self.call("POST", "/oauth2/exchange", data=form, token=None)

    def access_token(self, refresh_token: str, scope: str) -> str:
        form = {
            "grant_type": "refresh_token",
            "service": self.registry.login_server,
            "scope": scope,
            "refresh_token": refresh_token,
        }
        answer = self.call("POST", "/oauth2/token", data=form, token=None)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def token_of(self, principal_id: str, scope: str) -> str:
        """An access token by ACR's flow: Entra token, exchange, refresh token, access token."""
        answer = self.exchange(self.tokens.mint(principal_id, "https://management.azure.com/"))
        assert answer.status_code == 200, answer.text
        return self.access_token(answer.json()["refresh_token"], scope)

    def push_blob(self, name: str, content: bytes, **options: Any) -> requests.Response:
        begun = self.call("POST", f"/v2/{name}/blobs/uploads/", **options)
        if begun.status_code != 202:
            return begun
        location = self.origin + begun.headers["Location"]
        return self.call("PUT", location, params={"digest": digest_of(content)}, data=content, **options)

    def push_image(self, name: str, tag: str, *, layer: bytes = b"layer", **more: Any) -> str:
        """Pushes a two-blob image; returns its digest."""
        config = b'{"architecture":"amd64","os":"linux"}'
        for blob in (config, layer):
            assert self.push_blob(name, blob).status_code == 201
        manifest = image_manifest(config, layer, **more)
        answer = self.put_manifest(name, tag, manifest)
        assert answer.status_code == 201, answer.text
        return digest_of(manifest)

    def put_manifest(self, name: str, reference: str, content: bytes, **options: Any) -> requests.Response:
        media_type = options.pop("media_type", MANIFEST)
        headers = {"Content-Type": media_type}
        return self.call("PUT", f"/v2/{name}/manifests/{reference}", data=content, headers=headers, **options)


def image_manifest(config: bytes, *layers: bytes, **more: Any) -> bytes:
    fields = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
    }
    return json.dumps(fields | more).encode()


def _descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
