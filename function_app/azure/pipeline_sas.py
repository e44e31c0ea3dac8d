"""The SAS of the pipeline: signed with a user delegation key, and put into a Key Vault secret.

The identity needs Storage Blob Delegator on the account; on the container what the SAS allows, which is never
more than that; and on the secret ``secretRenewer`` of our own (``infra/roles.json``): it writes a secret that
it cannot read. The pipeline takes the newest version at each run.
<https://learn.microsoft.com/azure/container-registry/container-registry-transfer-prerequisites>
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import TokenCredential
from azure.core.exceptions import ResourceNotFoundError
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient, UserDelegationKey, generate_container_sas

from airgap.errors import Code, ServiceError
from airgap.pipeline_sas import SasVersion
from function_app.azure.errors import CONNECT_S, READ_S, service_errors
from function_app.azure.tickets import account_of
from function_app.storage.paths import TRANSFER

_MOST_VERSIONS = 2500
"""Versions of the secret that are looked at, 25 in each answer; 120 come in a year, and a vault keeps all."""


class VaultPipelineSas:
    """The port :class:`~function_app.ports.PipelineSas` on one secret and one storage account."""

    def __init__(
        self, secret_id: str, account_url: str, credential: TokenCredential, *, retries: int = 4
    ) -> None:
        address = urlsplit(secret_id)
        self._name = address.path.rpartition("/")[2]
        self._vault_url = f"https://{address.netloc}"
        self._account_url = account_url
        self._credential = credential
        self._limits: dict[str, Any] = {
            "retry_total": retries,
            "connection_timeout": CONNECT_S,
            "read_timeout": READ_S,
        }

    def newest(self) -> SasVersion | None:
        """See the port."""
        with self._errors(), self._vault() as vault:
            try:
                listed = vault.list_properties_of_secret_versions(self._name)
                found = list(islice(listed, _MOST_VERSIONS + 1))
            except ResourceNotFoundError:
                return None
        if len(found) > _MOST_VERSIONS:
            raise ServiceError(
                Code.SERVICE_UNEXPECTED, f"secret {self._name}: over {_MOST_VERSIONS} versions"
            )
        versions = [
            SasVersion(
                created_at=one.created_on, expires_at=one.expires_on, is_enabled=one.enabled is not False
            )
            for one in found
            if one.created_on is not None
        ]
        # Times are in whole seconds: of two versions of the same one, that which is disabled decides.
        return max(versions, key=lambda one: (one.created_at, not one.is_enabled), default=None)

    def require_key(self, *, valid_from: datetime, expires_at: datetime) -> None:
        """See the port."""
        self._key(valid_from, expires_at)

    def renew(self, permissions: str, *, valid_from: datetime, expires_at: datetime) -> None:
        """See the port."""
        key = self._key(valid_from, expires_at)
        sas = generate_container_sas(
            account_of(self._account_url),
            TRANSFER,
            user_delegation_key=key,
            permission=permissions,
            start=valid_from,
            expiry=expires_at,
            protocol="https",
        )
        with self._errors(), self._vault() as vault:
            vault.set_secret(self._name, f"?{sas}", content_type="SAS of the pipeline", expires_on=expires_at)

    def _key(self, valid_from: datetime, expires_at: datetime) -> UserDelegationKey:
        """A key to sign with, of an identity that is let into the container."""
        with BlobServiceClient(self._account_url, credential=self._credential, **self._limits) as service:
            with service_errors(f"{TRANSFER}, as the identity that signs the SAS of the pipeline"):
                _require_access(service)
            with service_errors("the key that the SAS of the pipeline is signed with"):
                return service.get_user_delegation_key(valid_from, expires_at)

    def _vault(self) -> SecretClient:
        return SecretClient(self._vault_url, self._credential, **self._limits)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        what = f"Key Vault secret {self._name}"
        with service_errors(what):
            try:
                yield
            except ValueError as error:  # the vault's challenge names an audience of another domain
                raise ServiceError(Code.SERVICE_UNEXPECTED, f"{what}: {type(error).__name__}") from None


def _require_access(service: BlobServiceClient) -> None:
    """List the container, as the identity: a SAS that it signs opens nothing that it may not open itself.

    Whether it may write there, too, is not tried.

    Raises:
        AzureError: it may not, or the storage does not answer.
    """
    next(iter(service.get_container_client(TRANSFER).list_blob_names(results_per_page=1)), None)
