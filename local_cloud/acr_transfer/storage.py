"""A pipeline's way to its container: with the SAS in its Key Vault secret, or as its own identity.

Azurite asks for no roles, so those of an identity are checked here. All failures become the text of a failed
run; none of them holds a URL, because a URL may hold a SAS.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.credentials import AccessToken, AzureSasCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobBlock, BlobProperties, ContainerClient, ContentSettings

from local_cloud.acr_transfer.errors import RunError
from local_cloud.acr_transfer.resources import Container
from local_cloud.tokens import TokenAuthority

CATEGORY = {"category": "acr-transfer-blob"}
_BLOCK_BYTES = 8 * 1024 * 1024
_TOKEN_LIFE_S = 3600
_CLIENT_OPTIONS: dict[str, Any] = {"retry_total": 1, "connection_timeout": 5, "read_timeout": 60}
_MAX_LISTED_BLOBS = 5000
_VAULT_PATH_PARTS = (2, 3)  # secrets/NAME, secrets/NAME/VERSION
NOT_AUTHORIZED = (
    "Failed to access storage.  Service request failed.  Status: 403"
    " (This request is not authorized to perform this operation)"
)


class MintedCredential:
    """A credential with tokens for one principal and any service, as a managed identity has inside Azure."""

    def __init__(self, tokens: TokenAuthority, principal_id: str) -> None:
        self._tokens = tokens
        self._principal_id = principal_id

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """Return a token for the audience of the first scope."""
        audience = scopes[0].removesuffix("/.default")
        token = self._tokens.mint(self._principal_id, audience, lifetime_s=_TOKEN_LIFE_S)
        return AccessToken(token, int(time.time()) + _TOKEN_LIFE_S)


class PipelineStorage:
    """The container of a pipeline, opened once for each run.

    ``roles`` are those of its identity on the container; ``None`` where the storage itself asks for them.
    """

    def __init__(
        self,
        container: Container,
        *,
        credential: MintedCredential,
        roles: frozenset[str] | None,
        ca_file: Path,
        is_firewalled: bool,
    ) -> None:
        self._is_by_identity = container.access_mode == "ManagedIdentity"
        self._roles = roles if self._is_by_identity else None
        self._container = container
        self._credential = credential
        self._ca_file = ca_file
        if is_firewalled:
            raise RunError(NOT_AUTHORIZED)

    @contextmanager
    def _client(self, *needed: str) -> Iterator[ContainerClient]:
        """Open the container; with an identity, one of the roles ``needed`` must be there.

        Raises:
            RunError: The access is refused, or fails while the client is in use.
        """
        if self._roles is not None and self._roles.isdisjoint(needed):
            raise RunError(NOT_AUTHORIZED)
        secret = self._credential if self._is_by_identity else AzureSasCredential(self._sas())
        try:
            with ContainerClient.from_container_url(
                self._container.uri,
                credential=secret,
                connection_verify=str(self._ca_file),
                **_CLIENT_OPTIONS,
            ) as client:
                yield client
        except HttpResponseError as error:
            raise RunError(_service_failure("storage", error)) from None
        except AzureError as error:
            raise RunError(f"Failed to access storage.  {type(error).__name__}") from None

    def upload(self, name: str, pieces: Iterable[bytes], *, overwrites: bool) -> tuple[bool, str]:
        """Write a blob in blocks, with its MD5 and the category that marks transfer blobs.

        Returns:
            Whether it was written (not, if it existed and ``overwrites`` is false), and the digest of the
            bytes.
        """
        with self._client("storage blob data contributor", "storage blob data owner") as container:
            blob = container.get_blob_client(name)
            sha256, md5, ids = hashlib.sha256(), hashlib.md5(usedforsecurity=False), []
            prefix = uuid.uuid4().hex  # another run's blocks for the same name must not get in between
            for index, block in enumerate(_blocks(pieces)):
                sha256.update(block)
                md5.update(block)
                ids.append(BlobBlock(f"{prefix}-{index:06d}"))
                blob.stage_block(ids[-1].id, block)
            condition: dict[str, Any] = {} if overwrites else {"match_condition": MatchConditions.IfMissing}
            written = True
            try:
                blob.commit_block_list(
                    ids,
                    content_settings=ContentSettings(
                        content_type="application/x-tar", content_md5=bytearray(md5.digest())
                    ),
                    metadata=CATEGORY,
                    **condition,
                )
            except ResourceExistsError:
                written = False
            return written, f"sha256:{sha256.hexdigest()}"

    def download(self, name: str, file: BinaryIO, checkpoint: Callable[[], None]) -> str:
        """Copy a blob into ``file``; return its digest."""
        with self._client(
            "storage blob data reader", "storage blob data contributor", "storage blob data owner"
        ) as container:
            sha256 = hashlib.sha256()
            for piece in container.get_blob_client(name).download_blob(max_concurrency=1).chunks():
                checkpoint()
                sha256.update(piece)
                file.write(piece)
            return f"sha256:{sha256.hexdigest()}"

    def delete(self, name: str) -> None:
        """Delete a blob of the container."""
        with self._client("storage blob data contributor", "storage blob data owner") as container:
            container.delete_blob(name)

    def candidates(self, *, not_before: datetime) -> list[tuple[str, str, datetime]]:
        """Return name, ETag and time of the blobs that a source trigger sees, oldest first."""
        with self._client(
            "storage blob data reader", "storage blob data contributor", "storage blob data owner"
        ) as container:
            found: list[tuple[str, str, datetime]] = []
            for count, blob in enumerate(container.list_blobs(include=["metadata"])):
                if count >= _MAX_LISTED_BLOBS:
                    break
                if _is_transfer_blob(blob) and blob.last_modified >= not_before:
                    found.append((blob.name, blob.etag, blob.last_modified))
            return sorted(found, key=lambda each: each[2])

    def _sas(self) -> str:
        parts = urlsplit(self._container.key_vault_uri or "")
        path = parts.path.strip("/").split("/")
        if len(path) not in _VAULT_PATH_PARTS or path[0] != "secrets":
            raise RunError("Failed to access Key Vault.  keyVaultUri does not name a secret")
        try:
            with SecretClient(
                f"https://{parts.netloc}",
                self._credential,
                connection_verify=str(self._ca_file),
                **_CLIENT_OPTIONS,
            ) as vault:
                value = vault.get_secret(
                    path[1], path[2] if len(path) == max(_VAULT_PATH_PARTS) else None
                ).value
        except HttpResponseError as error:
            raise RunError(_service_failure("Key Vault", error)) from None
        except (AzureError, ValueError) as error:
            raise RunError(f"Failed to access Key Vault.  {type(error).__name__}") from None
        sas = (value or "").strip().removeprefix("?")
        if "sig=" not in sas:
            raise RunError("Failed to access storage.  The Key Vault secret does not hold a SAS token")
        return sas


def _is_transfer_blob(blob: BlobProperties) -> bool:
    has_md5 = bool(blob.content_settings.content_md5)
    return has_md5 and (blob.metadata or {}).get("category") == CATEGORY["category"]


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup pieces of any size into blocks of 8 MiB."""
    block = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = rest[: _BLOCK_BYTES - len(block)]
            block += taken
            rest = rest[len(taken) :]
            if len(block) == _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    if block:
        yield bytes(block)


def _service_failure(service: str, error: HttpResponseError) -> str:
    reason = {
        "AuthorizationPermissionMismatch": (
            "This request is not authorized to perform this operation using this permission"
        ),
        "AuthorizationFailure": "This request is not authorized to perform this operation",
    }.get(str(getattr(error, "error_code", "")), error.reason or "no reason given")
    return f"Failed to access {service}.  Service request failed.  Status: {error.status_code} ({reason})"
