"""A storage account behind its front, for tests: who calls is named, and gets a token of its tenant."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from azure.core.credentials import AccessToken
from azure.data.tables import TableServiceClient
from azure.storage.blob import (
    BlobServiceClient,
    ContainerSasPermissions,
    generate_blob_sas,
    generate_container_sas,
)

from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
from local_cloud.storage_front import (
    ImmutabilityPolicy,
    RoleAssignment,
    RoleAssignments,
    StorageAccount,
    StorageFront,
)
from local_cloud.storage_front.operations import Service
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority
from tests.local_cloud.acr_transfer_harness import Clock, Loop

ACCOUNT_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/fronted"
EVIDENCE = "evidence"
DAYS = 30


class Token:
    """A credential that has one token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3000)


class Fronted:
    """An account, its tenant and its roles; each test's containers and roles are its own."""

    def __init__(self, front: StorageFront, account: StorageAccount, clock: Clock) -> None:
        self.front = front
        self.account = account
        self.blob_url = front.url("blob", account.name)
        self.azurite = front.azurite
        self.tokens = front.tokens
        self.clock = clock
        self._count = 0

    def container(self) -> str:
        """A new container."""
        self._count += 1
        name = f"container{self._count}"
        self.azurite.ensure_containers(name)
        return name

    def assign(self, principal: str, role: str, place: str = "") -> RoleAssignment:
        """Give a role on the account, or on what is below it."""
        given = RoleAssignment(principal_id=principal, role=role, scope=f"{ACCOUNT_ID}{place}")
        self.front.assignments.assign(given)
        return given

    def assign_on(self, principal: str, role: str, container: str) -> RoleAssignment:
        """Give a role on a container."""
        return self.assign(principal, role, f"/blobServices/default/containers/{container}")

    def blobs(self, principal: str) -> BlobServiceClient:
        """A client that calls as ``principal``."""
        return self.blobs_by(self.tokens.mint(principal, STORAGE_AUDIENCE))

    def blobs_by(self, token: str) -> BlobServiceClient:
        """A client that calls with a token."""
        return BlobServiceClient(
            self.blob_url,
            credential=Token(token),
            retry_total=0,
            connection_verify=str(self.azurite.ca_file),
        )

    def tables(self, principal: str) -> TableServiceClient:
        """A client for tables that calls as ``principal``."""
        return TableServiceClient(
            self.front.url("table", self.account.name),
            credential=Token(self.tokens.mint(principal, STORAGE_AUDIENCE)),
            retry_total=0,
            connection_verify=str(self.azurite.ca_file),
        )

    @contextmanager
    def later(self, *, days: int) -> Iterator[None]:
        """For the immutability policies, time goes on."""
        self.clock.ahead_s = days * 24 * 3600
        try:
            yield
        finally:
            self.clock.ahead_s = 0

    def sas(self, container: str, permissions: str, **changed: Any) -> str:
        """A SAS for a container, by the account key."""
        return str(
            generate_container_sas(
                account_name=self.azurite.account,
                container_name=container,
                account_key=changed.pop("key", self.azurite.key),
                permission=ContainerSasPermissions.from_string(permissions),
                expiry=datetime.now(UTC) + timedelta(hours=1),
                protocol="https",
                **changed,
            )
        )

    def delegated_sas(self, blobs: BlobServiceClient, container: str, permissions: str) -> str:
        """A SAS for a container, by a delegation key of whoever calls."""
        now = datetime.now(UTC)
        expiry = now + timedelta(hours=1)
        return str(
            generate_container_sas(
                account_name=self.azurite.account,
                container_name=container,
                user_delegation_key=blobs.get_user_delegation_key(now - timedelta(minutes=1), expiry),
                permission=ContainerSasPermissions.from_string(permissions),
                expiry=expiry,
                protocol="https",
            )
        )

    def blob_sas(
        self, blobs: BlobServiceClient, container: str, blob: str, permissions: str, **changed: Any
    ) -> str:
        """A SAS for one blob, by a delegation key of whoever calls."""
        now = datetime.now(UTC)
        expiry = now + timedelta(hours=1)
        return str(
            generate_blob_sas(
                self.azurite.account,
                container,
                blob,
                user_delegation_key=blobs.get_user_delegation_key(now - timedelta(minutes=5), expiry),
                **{"permission": permissions, "expiry": expiry, "protocol": "https", **changed},
            )
        )

    def send(
        self,
        method: str,
        path: str,
        principal: str | None,
        headers: Mapping[str, str] | None = None,
        *,
        service: Service = "blob",
        data: bytes | None = None,
    ) -> requests.Response:
        """A request by hand; the path begins behind the account's name."""
        sent = {"x-ms-version": "2021-12-02"}
        if principal is not None:
            sent["Authorization"] = f"Bearer {self.tokens.mint(principal, STORAGE_AUDIENCE)}"
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method,
                f"{self.front.url(service, self.account.name)}{path}",
                headers=sent | dict(headers or {}),
                data=data,
                verify=str(self.azurite.ca_file),
                timeout=30,
            )


@contextmanager
def fronted(folder: Path) -> Iterator[Fronted]:
    """An account with its front, as long as the context is open."""
    ca, clock, loop = CertificateAuthority.create(folder / "pki"), Clock(), Loop()
    try:
        with Azurite.start(account="fronted", folder=folder / "azurite", ca=ca) as azurite:
            azurite.ensure_containers(EVIDENCE)
            front = StorageFront(
                azurite=azurite, tokens=TokenAuthority(), assignments=RoleAssignments(), clock=clock
            )
            account = StorageAccount(
                resource_id=ACCOUNT_ID, immutability={EVIDENCE: ImmutabilityPolicy(days=DAYS)}
            )
            front.add(account)
            loop.run(front.start(ca))
            try:
                yield Fronted(front, account, clock)
            finally:
                loop.run(front.close())
    finally:
        loop.close()
