"""One cloud's side for tests: Azurite, a registry, a vault and the transfer service."""

import asyncio
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import requests
from azure.mgmt.containerregistry import ContainerRegistryManagementClient
from azure.storage.blob import BlobClient, ContainerSasPermissions, generate_container_sas

from local_cloud.acr_transfer import AcrTransfer, Behaviour, RegistryAccess, arm_app
from local_cloud.acr_transfer.layout import Descriptor
from local_cloud.acr_transfer.registry_client import RegistryClient
from local_cloud.acr_transfer.storage import MintedCredential
from local_cloud.azurite import Azurite, is_installed
from local_cloud.key_vault import KeyVault
from local_cloud.pki import CertificateAuthority
from local_cloud.registry import Registry
from local_cloud.tokens import ARM_AUDIENCES, TokenAuthority
from local_cloud.web import Server, serve

GROUP, VERSION = "rg-transfer", "2026-09-01-preview"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CALLER = "11111111-1111-1111-1111-111111111111"
SERVICE = "22222222-2222-2222-2222-222222222222"
RUN_TIMEOUT_S = 30
_T = TypeVar("_T")

needs_azurite = pytest.mark.skipif(not is_installed(), reason="python -m local_cloud.azurite install")


class Loop:
    """An event loop in a thread of its own, as the local cloud has one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T], timeout_s: float = 60) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Clock:
    """Real time, plus what a test adds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Side:
    """A cloud's side. ``behaviour`` and ``clock`` may be changed while it runs."""

    registry: Registry
    transfer: AcrTransfer

    def __init__(self, name: str, folder: Path, loop: Loop) -> None:
        self.name = name
        self.folder = folder
        self.loop = loop
        self.ca = CertificateAuthority.create(folder / "ca")
        self.tokens = TokenAuthority()
        self.vault = KeyVault(self.tokens)
        self.azurite = Azurite.start(account=f"{name}acct", folder=folder / "azurite", ca=self.ca)
        self.azurite.ensure_containers("transfer")
        self.subscription = str(uuid.uuid4())
        self.registry_id = (
            f"/subscriptions/{self.subscription}/resourceGroups/{GROUP}"
            f"/providers/Microsoft.ContainerRegistry/registries/{name}reg"
        )
        self._servers: list[Server] = []

    def open(self) -> Self:
        self.registry = self.loop.run(
            Registry.start(
                name=f"{self.name}reg",
                folder=self.folder / "registry",
                ca=self.ca,
                tokens=self.tokens,
            )
        )
        self.registry.grant(SERVICE, "AcrPull", "AcrPush")
        self.vault_url = self._serve(self.vault.app(), "vault").url
        self.start_transfer()
        return self

    def start_transfer(self) -> None:
        self.behaviour, self.clock = Behaviour(retry_after_s=0), Clock()
        access = RegistryAccess(
            login_server=self.registry.login_server, principal_id=SERVICE, ca_file=self.ca.ca_file
        )
        self.transfer = AcrTransfer(
            tokens=self.tokens,
            registry_id=self.registry_id,
            registry=access,
            ca_file=self.ca.ca_file,
            behaviour=self.behaviour,
            clock=self.clock,
        )
        self.transfer.grant(CALLER, "Container Registry Transfer Pipeline Contributor", self.registry_id)
        self.arm = self._serve(arm_app(self.transfer), "arm")

    def stop_transfer(self) -> None:
        self.loop.run(self.arm.close())
        self._servers.remove(self.arm)

    def close(self) -> None:
        for server in self._servers:
            self.loop.run(server.close())
        self.loop.run(self.registry.close())
        self.azurite.stop()

    def _serve(self, app: Any, name: str) -> Server:
        async def start() -> Server:
            return await serve(app, ssl_context=self.ca.server_context(f"{self.name}-{name}"))

        server = self.loop.run(start())
        self._servers.append(server)
        return server

    # -- ARM

    @property
    def container_url(self) -> str:
        return f"{self.azurite.blob_url}/transfer"

    def sdk(self) -> ContainerRegistryManagementClient:
        return ContainerRegistryManagementClient(
            MintedCredential(self.tokens, CALLER),
            self.subscription,
            base_url=self.arm.url,
            credential_scopes=["https://management.azure.com/.default"],
            connection_verify=str(self.ca.ca_file),
            polling_interval=0,
        )

    def call(
        self, method: str, path: str, body: object = None, *, version: str | None = VERSION, **options: Any
    ) -> requests.Response:
        """Call ARM below the registry; ``token`` replaces the caller's."""
        token = options.pop("token", self.tokens.mint(CALLER, ARM_AUDIENCES[0]))
        url = path if path.startswith("https:") else f"{self.arm.url}{self.registry_id}/{path}"
        return requests.request(
            method,
            url,
            json=body,
            params={"api-version": version} if version and not path.startswith("https:") else None,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=str(self.ca.ca_file),
            timeout=20,
            **options,
        )

    def put_pipeline(self, kind: str, name: str, *, options: Iterable[str] = (), **more: Any) -> str:
        """Make a pipeline with a managed identity that has its role; return its resource id."""
        end = "source" if kind == "importPipelines" else "target"
        properties: dict[str, Any] = {
            end: {
                "type": "AzureStorageBlobContainer",
                "uri": self.container_url,
                "storageAccessMode": "ManagedIdentity",
            },
            "options": list(options),
        }
        if kind == "importPipelines":
            properties["trigger"] = {"sourceTrigger": {"status": "Disabled"}}
        properties |= more
        made = self.call("PUT", f"{kind}/{name}", {"properties": properties})
        assert made.status_code == 200, made.text
        principal = made.json()["identity"]["principalId"]
        self.transfer.grant(principal, "Storage Blob Data Contributor", self.container_url)
        return f"{self.registry_id}/{kind}/{name}"

    def run(self, name: str, pipeline_id: str, blob: str, *artifacts: str, **more: Any) -> dict[str, Any]:
        """Start a run, wait for its end, return its properties."""
        put = self.call("PUT", f"pipelineRuns/{name}", run_body(pipeline_id, blob, *artifacts, **more))
        assert put.status_code in (200, 201), put.text
        return self.await_run(name)

    def await_run(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while time.monotonic() < deadline:
            properties: dict[str, Any] = self.call("GET", f"pipelineRuns/{name}").json()["properties"]
            if properties["response"]["status"] != "Running":
                return properties
            time.sleep(0.02)
        raise AssertionError(f"the run {name} did not end")

    # -- registry and storage

    def push_image(self, repository: str, tag: str | None, *layers: bytes, **more: Any) -> str:
        config = json.dumps({"architecture": "amd64", "os": "linux", "name": repository}).encode()
        fields = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        }
        self.push_blobs(repository, config, *layers)
        return self.push_manifest(repository, tag, {**fields, **more})

    def push_blobs(self, repository: str, *contents: bytes) -> None:
        with self._registry_client() as client:
            for content in contents:
                client.push_blob(
                    repository, Descriptor("", digest_of(content), len(content)), iter([content])
                )

    def push_manifest(self, repository: str, tag: str | None, fields: dict[str, Any]) -> str:
        content = json.dumps(fields).encode()
        top = Descriptor(fields["mediaType"], digest_of(content), len(content))
        with self._registry_client() as client:
            client.push_manifest(repository, tag or top.digest, top, content)
        return top.digest

    def registry_get(self, path: str) -> requests.Response:
        """Read from the registry as its admin: not with the code under test."""
        return requests.get(
            f"https://{self.registry.login_server}/v2/{path}",
            auth=(self.registry.admin_username, self.registry.admin_password),
            headers={"Accept": f"{MANIFEST}, {INDEX}"},
            verify=str(self.ca.ca_file),
            timeout=20,
        )

    def digest_at(self, repository: str, reference: str) -> str | None:
        answer = self.registry_get(f"{repository}/manifests/{reference}")
        return answer.headers["Docker-Content-Digest"] if answer.ok else None

    def blob(self, name: str) -> BlobClient:
        return BlobClient.from_connection_string(
            self.azurite.connection_string, "transfer", name, connection_verify=str(self.ca.ca_file)
        )

    def read_blob(self, name: str) -> bytes:
        with self.blob(name) as client:
            return client.download_blob().readall()

    def write_blob(self, name: str, content: bytes, **options: Any) -> None:
        with self.blob(name) as client:
            client.upload_blob(content, overwrite=True, **options)

    def sas(self, permission: str, *, hours: float = 1) -> str:
        return generate_container_sas(
            self.azurite.account,
            "transfer",
            account_key=self.azurite.key,
            permission=ContainerSasPermissions.from_string(permission),
            expiry=datetime.now(UTC) + timedelta(hours=hours),
            protocol="https",
        )

    def _registry_client(self) -> RegistryClient:
        access = RegistryAccess(
            login_server=self.registry.login_server, principal_id=SERVICE, ca_file=self.ca.ca_file
        )
        return RegistryClient(access, self.tokens)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def run_body(pipeline_id: str, blob: str, *artifacts: str, **more: Any) -> dict[str, Any]:
    end = "target" if "/exportPipelines/" in pipeline_id else "source"
    request: dict[str, Any] = {
        "pipelineResourceId": pipeline_id,
        end: {"type": "AzureStorageBlob", "name": blob},
    }
    if artifacts:
        request["artifacts"] = list(artifacts)
    return {"properties": {"request": request, **more}}


def run_name() -> str:
    return f"run{uuid.uuid4().hex}"
