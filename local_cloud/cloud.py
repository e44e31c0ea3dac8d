"""One side of the air gap on this machine: an Azure cloud with everything that the product touches there.

It is set up from the templates of `infra/`: ARM here gets the request that ``az deployment group create``
makes, or `az` itself makes it (:mod:`local_cloud.az`), and what the template says is what there is. A `Cloud`
keeps what Azure would keep (keys, role assignments, pipelines, stored content) over `disconnect` and
`connect`, on the same ports, as when a network goes and comes back.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import requests
from azure.storage.blob import (
    BlobServiceClient,
    ContainerSasPermissions,
    UserDelegationKey,
    generate_container_sas,
)

from infra.templates import FOLDER, arm_path
from local_cloud.acr_transfer import Behaviour
from local_cloud.acr_transfer.storage import MintedCredential
from local_cloud.azurite import Azurite
from local_cloud.key_vault import KeyVault
from local_cloud.machine import Machine, Service
from local_cloud.pki import CertificateAuthority
from local_cloud.registry import Registry
from local_cloud.storage_front import RoleAssignment
from local_cloud.tokens import ARM_AUDIENCES, TokenAuthority

PROJECT = Path(__file__).resolve().parent.parent
SIGNING_KEY = "bundle-signing"
_DEPLOYMENTS_API_VERSION = "2025-04-01"
_DEPLOYMENT_S = 120.0
_POLL_S = 0.05
_HOST_START_S = 60.0
_HOST_STOP_S = 15.0

Role = Literal["source", "target"]
AccessMode = Literal["ManagedIdentity", "SasToken"]
ImportWay = Literal["direct", "staged"]


class CloudError(Exception):
    """A piece of the local cloud failed to start; the message says which, and where its log is."""


@dataclass(kw_only=True)
class Cloud:
    """The services of one side; `role` decides which end of the transfer the app plays.

    ``access_mode`` says how the pipeline gets at its storage; by default with a SAS at the source and as its
    identity at the target.
    """

    role: Role
    folder: Path
    ca: CertificateAuthority
    behaviour: Behaviour = field(default_factory=Behaviour)
    access_mode: AccessMode | None = None
    import_way: ImportWay = "direct"
    """Of the target."""
    deployer: "Callable[[Cloud], None] | None" = None
    """Who deploys `parameters_file` instead of a request of our own; raises `CloudError` if that fails."""
    spawn: "ClassVar[Callable[..., subprocess.Popen[bytes]]]" = subprocess.Popen
    """Starts the Functions host: `subprocess.Popen`, or what can stand in its place."""
    machine: Machine = field(init=False)
    api_url: str = field(init=False, default="")
    _api_port: int = field(init=False, default=0)
    _host: "subprocess.Popen[bytes] | None" = field(init=False, default=None)
    _parameters: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make what is there before anything is deployed: a tenant with its owner, and an empty group."""
        self.folder.mkdir(parents=True, exist_ok=True)
        subscription = f"/subscriptions/{uuid.uuid4()}"
        self.group_id = f"{subscription}/resourceGroups/airgap"
        self.registry_id = (
            f"{subscription}/resourceGroups/registries/providers/"
            f"Microsoft.ContainerRegistry/registries/acr{self.role}"
        )
        self.machine = Machine(
            registry_id=self.registry_id,
            group_id=self.group_id,
            folder=self.folder,
            ca=self.ca,
            behaviour=self.behaviour,
        )

    @property
    def azurite(self) -> Azurite:
        """The Azurite that keeps the transfer account; it asks nobody for a role."""
        return self.machine.azurite.of(self._account)

    @property
    def registry(self) -> Registry:
        """The registry in whose resource group everything is deployed."""
        return self.machine.registry

    @property
    def staging_registry(self) -> Registry | None:
        """The registry into which imports come first; ``None`` where they are not staged."""
        others = (one for key, one in self.machine.registries.items() if key != self.registry_id.lower())
        return next(others, None)

    @property
    def vault(self) -> KeyVault:
        """The key vault of the side."""
        return self.machine.vault

    @property
    def tokens(self) -> TokenAuthority:
        """The tenant of the side, which makes and checks tokens."""
        return self.machine.tokens

    @property
    def owner_principal(self) -> str:
        """The object id of the owner of the subscription, who deploys."""
        return self.machine.owner_principal

    @property
    def public_key_pem(self) -> str:
        """The public half of the signing key, in PEM."""
        return self.vault.public_key(SIGNING_KEY)

    @property
    def blob_url(self) -> str:
        """The URL of the blob service of the transfer account."""
        return self.machine.storage_url("blob", self._account)

    @property
    def container_url(self) -> str:
        """The URL of the container that the cloud's pipeline reads or writes."""
        return f"{self.blob_url}/transfer"

    @property
    def host_log(self) -> Path:
        """The file with the log of the Functions host."""
        return self.folder / "functions-host.log"

    @property
    def parameters_file(self) -> Path:
        """The file with the parameters of the last deployment, as the template takes them."""
        return self.folder / "parameters.json"

    @property
    def prefix(self) -> str:
        """The prefix of the names of everything that is deployed."""
        return f"gap{self.role}"

    @property
    def _account(self) -> str:
        return f"{self.prefix}transfer"

    def url(self, service: Service) -> str:
        """The URL at which a service answers."""
        return self.machine.url(service)

    async def connect(self) -> None:
        """Start every service but the app; the first time, deploy."""
        await self.machine.start()
        if not self._parameters:
            await self.deploy()

    async def deploy(self, **parameters: Any) -> None:
        """Deploy the template of this side, with the parameters of before and those given.

        Raises:
            CloudError: ARM refuses it, or the deployment fails; with ARM's words.
        """
        self._parameters = {**(self._parameters or self._first_parameters()), **parameters}
        schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#"
        given = {name: {"value": value} for name, value in self._parameters.items()}
        whole = {"$schema": schema, "contentVersion": "1.0.0.0", "parameters": given}
        self.parameters_file.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        await asyncio.to_thread(self.deployer or Cloud._deploy, self)

    def _first_parameters(self) -> dict[str, Any]:
        """What somebody would give on the command line, beside the file for this cloud."""
        given = json.loads((FOLDER / "parameters" / "local.json").read_text(encoding="utf-8"))["parameters"]
        values = {name: one["value"] for name, one in given.items()}
        mode = self.access_mode or ("SasToken" if self.role == "source" else "ManagedIdentity")
        expiry = datetime.now(UTC) + timedelta(days=365)
        return {
            **values,
            "cloud": {**values["cloud"], "armEndpoint": self.url("arm")},
            "prefix": self.prefix,
            "registryName": self.registry_id.rpartition("/")[2],
            "registryResourceGroup": "registries",
            "storageAccessMode": mode,
            "pipelineSasExpiry": f"{expiry:%Y-%m-%dT%H:%M:%SZ}" if mode == "SasToken" else "",
            **({"importWay": self.import_way} if self.role == "target" else {}),
        }

    def _deploy(self) -> None:
        url = f"{self.url('arm')}{self.group_id}/providers/Microsoft.Resources/deployments/airgap"
        template = json.loads(arm_path(self.role).read_text(encoding="utf-8"))
        given = {name: {"value": value} for name, value in self._parameters.items()}
        body = {"properties": {"mode": "Incremental", "template": template, "parameters": given}}
        with requests.Session() as session:
            session.headers["Authorization"] = (
                f"Bearer {self.tokens.mint(self.owner_principal, ARM_AUDIENCES[0])}"
            )
            session.params = {"api-version": _DEPLOYMENTS_API_VERSION}
            session.verify = str(self.ca.ca_file)
            session.trust_env = False  # a certificate authority of the environment would come first
            answer = session.put(url, json=body, timeout=_DEPLOYMENT_S)
            deadline = time.monotonic() + _DEPLOYMENT_S
            while answer.ok and answer.json()["properties"]["provisioningState"] == "Running":
                if time.monotonic() > deadline:
                    raise CloudError(f"the {self.role}'s deployment did not end within {_DEPLOYMENT_S:.0f} s")
                time.sleep(_POLL_S)
                answer = session.get(url, timeout=_DEPLOYMENT_S)
            if not answer.ok or answer.json()["properties"]["provisioningState"] != "Succeeded":
                error = answer.json().get("error") or answer.json()["properties"]["error"]
                raise CloudError(f"the {self.role}'s deployment failed: {json.dumps(error)[:1000]}")

    async def start_app(self, *, is_delivering_twice: bool = False) -> str:
        """Start the Functions host with the project's app; returns the base URL of its API.

        Args:
            is_delivering_twice: whether every activity and every blob event comes twice, as in Azure they
                may.
        """
        self._host = await asyncio.to_thread(self._start_host, is_delivering_twice=is_delivering_twice)
        return self.api_url

    def _start_host(self, *, is_delivering_twice: bool) -> "subprocess.Popen[bytes]":
        ready = self.folder / "functions-host.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "local_cloud.functions_host", "--app", str(PROJECT)]
        command += ["--db", str(self.folder / "functions-host.db"), "--ready-file", str(ready)]
        command += ["--port", str(self._api_port), "--scan-interval-s", "0.5"]
        command += ["--until-stdin-closes"]
        command += ["--deliver-twice"] if is_delivering_twice else []
        with self.host_log.open("ab") as log:
            host = self.spawn(
                command,
                cwd=PROJECT,
                env=self.app_environment(),
                stdin=subprocess.PIPE,  # closes when this process dies, however it does; so the host ends
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = datetime.now(UTC) + timedelta(seconds=_HOST_START_S)
        while not ready.exists():
            if host.poll() is not None or datetime.now(UTC) > deadline:
                with host:  # closes its standard input and waits
                    host.kill()
                raise CloudError(f"the {self.role}'s Functions host did not start: see {self.host_log}")
            try:
                host.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        self.api_url = json.loads(ready.read_text())["url"]
        self._api_port = int(self.api_url.rsplit(":", 1)[1])
        self.machine.app_service.host_url = self.api_url
        return host

    def app_environment(self) -> dict[str, str]:
        """The app settings that are deployed, and what App Service or only this machine adds."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        return {**kept, **self.machine.app_settings, **self._of_app_service(), **self._of_this_machine()}

    def _of_app_service(self) -> dict[str, str]:
        return {
            "IDENTITY_ENDPOINT": f"{self.url('identity')}/msi/token",
            "IDENTITY_HEADER": self.machine.identity_header,
        }

    def _of_this_machine(self) -> dict[str, str]:
        """A certificate authority that no public client knows."""
        return {
            "REQUESTS_CA_BUNDLE": str(self.ca.ca_file),
            "SSL_CERT_FILE": str(self.ca.ca_file),
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def stop_app(self, *, kill: bool = False) -> None:
        """Stop the Functions host in order, or with ``kill`` as a power cut would."""
        if self._host is None:
            return
        host, self._host = self._host, None
        self.machine.app_service.host_url = ""
        with host:  # closes its standard input and waits
            host.kill() if kill else host.terminate()
            try:
                host.wait(_HOST_STOP_S)
            except subprocess.TimeoutExpired:
                host.kill()

    def sas(self, container: str, permissions: str, *, lifetime: timedelta = timedelta(hours=8)) -> str:
        """A SAS for a container, as the storage's owner would hand it to the operator.

        The account key signs it where the account takes its key, and a key of the owner's identity elsewhere.
        """
        takes_keys = self.machine.takes_keys(self._account)
        expiry = datetime.now(UTC) + lifetime
        return str(
            generate_container_sas(
                account_name=self._account,
                container_name=container,
                permission=ContainerSasPermissions.from_string(permissions),
                expiry=expiry,
                protocol="https",
                **(
                    {"account_key": self.machine.storage_key}
                    if takes_keys
                    else {"user_delegation_key": self._delegation_key(expiry)}
                ),
            )
        )

    def _delegation_key(self, expiry: datetime) -> UserDelegationKey:
        """A key in the name of the owner, who first takes the role for it."""
        account = f"{self.group_id}/providers/Microsoft.Storage/storageAccounts/{self._account}"
        role = RoleAssignment(
            principal_id=self.owner_principal, role="Storage Blob Data Contributor", scope=account
        )
        self.machine.assignments.assign(role)
        with BlobServiceClient(
            self.blob_url,
            credential=MintedCredential(self.tokens, self.owner_principal),
            connection_verify=str(self.ca.ca_file),
        ) as service:
            return service.get_user_delegation_key(datetime.now(UTC) - timedelta(minutes=5), expiry)

    async def disconnect(self) -> None:
        """Stop every service; what is stored stays."""
        await asyncio.to_thread(self.stop_app)
        await self.machine.stop()

    async def close(self) -> None:
        """Stop every service for good."""
        await asyncio.to_thread(self.stop_app)
        await self.machine.close()
