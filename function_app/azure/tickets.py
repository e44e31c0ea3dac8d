"""SAS for single blobs, by a user delegation key of an identity that may do no more than a ticket may.

That identity needs Storage Blob Delegator on the account, and on the container what tickets allow:
``infra/roles.json``. The SDK makes each SAS in the version that it speaks; from 2026-04-06 on ``c`` is enough
to put a blob together from blocks.
<https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas>
"""

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from azure.core.credentials import TokenCredential
from azure.storage.blob import BlobServiceClient, generate_blob_sas

from airgap.errors import Code, OperatorError
from function_app.azure.errors import service_errors


class AzureTickets:
    """The port :class:`~function_app.ports.TicketSigner` on one storage account; without credential, none."""

    def __init__(self, account_url: str, credential: TokenCredential | None, *, retries: int = 4) -> None:
        self._account = account_of(account_url)
        self._service: BlobServiceClient | None = None
        if credential is not None:
            self._service = BlobServiceClient(account_url, credential=credential, retry_total=retries)

    def sign(
        self,
        container: str,
        allowed: Mapping[str, str],
        *,
        valid_from: datetime,
        expires_at: datetime,
    ) -> Mapping[str, str]:
        """See the port."""
        if self._service is None:
            raise OperatorError(Code.SETTING_INVALID, "TICKET_CLIENT_ID: missing: no tickets are given")
        with service_errors("the key that tickets are signed with"):
            key = self._service.get_user_delegation_key(valid_from, expires_at)
        return {
            name: str(
                generate_blob_sas(
                    self._account,
                    container,
                    name,
                    user_delegation_key=key,
                    permission=permissions,
                    start=valid_from,
                    expiry=expires_at,
                    protocol="https",
                )
            )
            for name, permissions in allowed.items()
        }


def account_of(url: str) -> str:
    """The account's name: the path, where accounts are told apart by it, else the first label of the host."""
    parts = urlsplit(url)
    name = parts.path.strip("/") or str(parts.hostname).partition(".")[0]
    return name.removesuffix("-secondary")
