"""One side of the air gap on this machine: an Azure cloud with everything that the product touches there.

A `Cloud` keeps what Azure would keep (keys, role assignments, pipelines, stored content) over `disconnect`
and `connect`, on the same ports, as when a network goes and comes back.
"""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import requests
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from local_cloud import web
from local_cloud.acr_transfer import AcrTransfer, Behaviour, RegistryAccess, arm_app
from local_cloud.azurite import Azurite
from local_cloud.identity import identity_app
from local_cloud.key_vault import KeyVault
from local_cloud.pki import CertificateAuthority
from local_cloud.registry import Registry
from local_cloud.tokens import TokenAuthority

PROJECT = Path(__file__).resolve().parent.parent
CONTAINERS: Mapping[str, tuple[str, ...]] = {
    "source": ("transfer", "ledger", "work", "receipts", "journal"),
    "target": (
        *("incoming", "staging", "transfer", "quarantine", "receipts", "ledger", "work", "journal"),
        "custody",
    ),
}
JOURNAL_TABLE = "journal"
PIPELINE = "airgap01"
SIGNING_KEY = "bundle-signing"
_ARM = "https://management.azure.com/"
_API_VERSION = "2025-06-01-preview"
_HOST_START_S = 60.0
_HOST_STOP_S = 15.0

Role = Literal["source", "target"]


class CloudError(Exception):
    """A piece of the local cloud did not start; the message says which and where its log is."""


@dataclass(kw_only=True)
class Cloud:
    """The services of one side; `role` decides which end of the transfer the app plays."""

    role: Role
    folder: Path
    ca: CertificateAuthority
    behaviour: Behaviour = field(default_factory=Behaviour)
    azurite: Azurite = field(init=False)
    registry: Registry = field(init=False)
    vault: KeyVault = field(init=False)
    api_url: str = field(init=False, default="")
    _ports: dict[str, int] = field(init=False, default_factory=dict)
    _servers: list[web.Server] = field(init=False, default_factory=list)
    _host: "subprocess.Popen[bytes] | None" = field(init=False, default=None)
    _app_settings: dict[str, str] = field(init=False, default_factory=dict)
    _storage_key: str | None = field(init=False, default=None)
    _acr: AcrTransfer | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Make what outlives a disconnection: identities, keys, tokens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokens = TokenAuthority()
        self.vault = KeyVault(self.tokens)
        self.app_principal = str(uuid.uuid4())
        self.app_client = str(uuid.uuid4())
        self.acr_principal = str(uuid.uuid4())
        self.owner_principal = str(uuid.uuid4())
        self.identity_header = uuid.uuid4().hex
        self.public_key_pem = self.vault.create_ec_key(SIGNING_KEY, "P-384")
        self.vault.grant(self.app_principal, "keys/get", "keys/sign")
        self.registry_id = (
            f"/subscriptions/{uuid.uuid4()}/resourceGroups/airgap/providers/"
            f"Microsoft.ContainerRegistry/registries/acr{self.role}"
        )

    @property
    def container_url(self) -> str:
        """The container that the cloud's pipeline reads or writes."""
        return f"{self.azurite.blob_url}/transfer"

    @property
    def host_pid(self) -> int | None:
        """Process id of the Functions host."""
        return self._host.pid if self._host else None

    @property
    def host_log(self) -> Path:
        """What the Functions host wrote."""
        return self.folder / "functions-host.log"

    async def connect(self) -> None:
        """Start every service but the app, and deploy: containers, roles, the pipeline."""
        await self._connect_storage()
        await self._connect_registry()
        await self._serve("vault", self.vault.app())
        identity = identity_app(
            self.tokens,
            principal_id=self.app_principal,
            client_id=self.app_client,
            header_secret=self.identity_header,
        )
        await self._serve("identity", identity, tls=False)
        if self._acr is None:
            self._acr = AcrTransfer(
                tokens=self.tokens,
                registry_id=self.registry_id,
                registry=RegistryAccess(
                    login_server=self.registry.login_server,
                    principal_id=self.acr_principal,
                    ca_file=self.ca.ca_file,
                ),
                ca_file=self.ca.ca_file,
                behaviour=self.behaviour,
            )
            await self._serve("arm", arm_app(self._acr))
            await asyncio.to_thread(self._deploy_pipeline)
        else:
            await self._serve("arm", arm_app(self._acr))

    async def _connect_storage(self) -> None:
        self.azurite = await asyncio.to_thread(
            Azurite.start,
            account=f"stor{self.role}",
            folder=self.folder / "storage",
            ca=self.ca,
            port=self._ports.get("storage", 0),
            table_port=self._ports.get("tables", 0),
            key=self._storage_key,
        )
        self._storage_key = self.azurite.key
        self._ports["storage"] = int(self.azurite.blob_url.split(":")[2].split("/")[0])
        self._ports["tables"] = int(self.azurite.table_url.split(":")[2].split("/")[0])
        await asyncio.to_thread(self.azurite.ensure_containers, *CONTAINERS[self.role])
        await asyncio.to_thread(self.azurite.ensure_table, JOURNAL_TABLE)

    async def _connect_registry(self) -> None:
        self.registry = await Registry.start(
            name=f"acr{self.role}",
            folder=self.folder / "registry",
            ca=self.ca,
            tokens=self.tokens,
            port=self._ports.get("registry", 0),
        )
        self._ports["registry"] = int(self.registry.login_server.split(":")[1])
        self.registry.grant(self.app_principal, "AcrPull")
        self.registry.grant(self.acr_principal, "AcrPull", "AcrPush")

    async def _serve(self, name: str, app: Any, *, tls: bool = True) -> None:
        context = self.ca.server_context(f"{self.role}-{name}") if tls else None
        server = await web.serve(app, ssl_context=context, port=self._ports.get(name, 0))
        self._ports[name] = server.port
        self._servers.append(server)

    def url(self, service: Literal["vault", "identity", "arm"]) -> str:
        """Where a service answers."""
        return f"{'http' if service == 'identity' else 'https'}://127.0.0.1:{self._ports[service]}"

    def _deploy_pipeline(self) -> None:
        """What a deployment does: roles and the pipeline; by SAS at the source, by identity at the target."""
        acr = self._acr
        assert acr is not None  # noqa: S101 - made by the caller
        for principal in (self.owner_principal, self.app_principal):
            acr.grant(principal, "Container Registry Transfer Pipeline Contributor", self.registry_id)
        if self.role == "source":
            sas = self.sas("transfer", "racwl", lifetime=timedelta(days=365))
            self.vault.set_secret("export-sas", "?" + sas)
            storage = {
                "type": "AzureStorageBlobContainer",
                "uri": self.container_url,
                "storageAccessMode": "SasToken",
                "keyVaultUri": f"{self.url('vault')}/secrets/export-sas",
            }
            body = {"target": storage, "options": ["OverwriteBlobs"]}
        else:
            storage = {
                "type": "AzureStorageBlobContainer",
                "uri": self.container_url,
                "storageAccessMode": "ManagedIdentity",
            }
            body = {"source": storage, "trigger": {"sourceTrigger": {"status": "Disabled"}}}
            body["options"] = ["OverwriteTags"]
        kind = "exportPipelines" if self.role == "source" else "importPipelines"
        answer = requests.put(
            f"{self.url('arm')}{self.registry_id}/{kind}/{PIPELINE}",
            params={"api-version": _API_VERSION},
            headers={"Authorization": f"Bearer {self.tokens.mint(self.owner_principal, _ARM)}"},
            json={"identity": {"type": "SystemAssigned"}, "properties": body},
            verify=str(self.ca.ca_file),
            timeout=30,
        )
        if not answer.ok:
            raise CloudError(f"{kind} was refused: {answer.text[:300]}")
        pipeline_principal = answer.json()["identity"]["principalId"]
        # Grants come second: a system-assigned identity exists only once its pipeline does.
        self.vault.grant(pipeline_principal, "secrets/get")
        role = "Contributor" if self.role == "source" else "Reader"
        acr.grant(pipeline_principal, f"Storage Blob Data {role}", self.container_url)

    async def start_app(
        self, settings: Mapping[str, str] | None = None, *, is_delivering_twice: bool = False
    ) -> str:
        """Start the Functions host with the project's app; returns the base URL of its API.

        Args:
            settings: further app settings, beside those that name the cloud's services.
            is_delivering_twice: every activity and every blob event comes twice, as Azure may do.
        """
        if settings is not None:
            self._app_settings = dict(settings)
        self._host = await asyncio.to_thread(self._start_host, is_delivering_twice=is_delivering_twice)
        return self.api_url

    def _start_host(self, *, is_delivering_twice: bool) -> "subprocess.Popen[bytes]":
        ready = self.folder / "functions-host.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "local_cloud.functions_host", "--app", str(PROJECT)]
        command += ["--db", str(self.folder / "functions-host.db"), "--ready-file", str(ready)]
        command += ["--port", str(self._ports.get("api", 0)), "--scan-interval-s", "0.5"]
        command += ["--until-stdin-closes"]
        command += ["--deliver-twice"] if is_delivering_twice else []
        with self.host_log.open("ab") as log:
            host = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=self.app_environment() | self._app_settings,
                stdin=subprocess.PIPE,  # closes when this process dies, however it does; so the host ends
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = datetime.now(UTC) + timedelta(seconds=_HOST_START_S)
        while not ready.exists():
            if host.poll() is not None or datetime.now(UTC) > deadline:
                host.kill()
                host.wait()
                raise CloudError(f"the {self.role}'s Functions host did not start: see {self.host_log}")
            try:
                host.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        self.api_url = json.loads(ready.read_text())["url"]
        self._ports["api"] = int(self.api_url.rsplit(":", 1)[1])
        return host

    def app_environment(self) -> dict[str, str]:
        """The app settings that infra/ would deploy, and what App Service adds."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        return kept | {
            "TRANSFER_ROLE": self.role,
            "AzureWebJobsStorage": self.azurite.connection_string,
            "TransferStorage__blobServiceUri": self.azurite.blob_url,
            "TransferStorage__tableServiceUri": self.azurite.table_url,
            "REGISTRY_LOGIN_SERVER": self.registry.login_server,
            "REGISTRY_RESOURCE_ID": self.registry_id,
            "SIGNING_KEYS": f"{self.url('vault')}/keys/{SIGNING_KEY}",
            "ARM_ENDPOINT": self.url("arm"),
            "ARM_SCOPE": f"{_ARM}.default",
            "ARM_API_VERSION": _API_VERSION,
            "PIPELINE_RUN_POLL_S": "1",
            "EXPORT_PIPELINE" if self.role == "source" else "IMPORT_PIPELINE": PIPELINE,
            "CLOUD_NAME": "LocalCloud",
            "IDENTITY_ENDPOINT": f"{self.url('identity')}/msi/token",
            "IDENTITY_HEADER": self.identity_header,
            "REQUESTS_CA_BUNDLE": str(self.ca.ca_file),
            "SSL_CERT_FILE": str(self.ca.ca_file),
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def stop_app(self, *, kill: bool = False) -> None:
        """End the Functions host in order, or as a power cut would."""
        if self._host is None:
            return
        host, self._host = self._host, None
        with host:  # closes its standard input and waits
            host.kill() if kill else host.terminate()
            try:
                host.wait(_HOST_STOP_S)
            except subprocess.TimeoutExpired:
                host.kill()

    def sas(self, container: str, permissions: str, *, lifetime: timedelta = timedelta(hours=8)) -> str:
        """A SAS for a container, as the storage's owner would hand it to the operator."""
        return str(
            generate_container_sas(
                account_name=self.azurite.account,
                container_name=container,
                account_key=self.azurite.key,
                permission=ContainerSasPermissions.from_string(permissions),
                expiry=datetime.now(UTC) + lifetime,
                protocol="https",
            )
        )

    async def disconnect(self) -> None:
        """Stop everything that answers; what is stored stays."""
        await asyncio.to_thread(self.stop_app)
        while self._servers:
            await self._servers.pop().close()
        if hasattr(self, "registry"):
            await self.registry.close()
        if hasattr(self, "azurite"):
            await asyncio.to_thread(self.azurite.stop)

    async def close(self) -> None:
        """Stop for good."""
        await self.disconnect()
        if self._acr is not None:
            await self._acr.close()
