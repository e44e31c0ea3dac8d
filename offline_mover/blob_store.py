"""A container of Azure Blob Storage: the only module of the mover that knows Azure.

SDK exceptions end here. Their texts are never passed on, since they quote URLs and with them the SAS; what
goes on is the status, the service's error code and, for a refusal, which permission is probably missing.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from azure.core import MatchConditions
from azure.core.credentials import AzureSasCredential, TokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobProperties,
    ContainerClient,
    ContentSettings,
    ExponentialRetry,
)

from airgap.errors import AirgapError, Code, ServiceError, UntrustedInputError
from offline_mover.ports import Block, SeekableStream, StoredBlob
from offline_mover.storage_address import Sas, TransferAddress

_PIECE_BYTES = 2 * 1024 * 1024
"""Of one answer. The SDK holds it about four times over for each thread: this decides a pull's memory."""

_CONNECT_TIMEOUT_S = 20
_READ_TIMEOUT_S = 120
_ROLES = {"r": "Storage Blob Data Reader", "cw": "Storage Blob Data Contributor"}


class AzureContainer:
    """Keeps the ports of :mod:`offline_mover.ports` with azure-storage-blob.

    Args:
        address: the container.
        sas: used when given; else whoever :class:`azure.identity.DefaultAzureCredential` finds signed in.
        retries: how often a request is repeated after a transient failure, waiting 1, 3, 5, 9, … seconds.
        clock: the current time, aware; only to tell an expired SAS from a refused one.
    """

    def __init__(
        self,
        address: TransferAddress,
        *,
        sas: Sas | None,
        retries: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._address = address
        self._sas = sas
        self._clock = clock
        self._client = ContainerClient.from_container_url(
            address.container_url,
            credential=_default_credential() if sas is None else AzureSasCredential(sas.token),
            retry_policy=ExponentialRetry(
                initial_backoff=1,
                increment_base=2,
                retry_total=retries,
                retry_connect=min(retries, 3),
                retry_read=retries,
                retry_status=retries,
                random_jitter_range=1,
            ),
            max_single_get_size=_PIECE_BYTES,
            max_chunk_get_size=_PIECE_BYTES,
            connection_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # --- reading ---------------------------------------------------------------------------------------

    def read_small(self, name: str, *, max_bytes: int) -> bytes | None:
        """See :class:`~offline_mover.ports.SourceContainer`."""
        with self._errors(name, "r"):
            try:
                stream = self._blob(name).download_blob(offset=0, length=max_bytes + 1)
                size = stream.properties.size
                if size > max_bytes:
                    raise UntrustedInputError(
                        Code.TOO_LARGE, f"{name}: {size} bytes, at most {max_bytes} allowed"
                    )
                return stream.readall()
            except HttpResponseError as error:
                if _is_no_blob(error):
                    return None
                if error.status_code == 416:  # noqa: PLR2004 - an empty blob has no byte 0
                    return b""
                raise

    def describe(self, name: str) -> StoredBlob | None:
        """See :class:`~offline_mover.ports.SourceContainer`."""
        with self._errors(name, "r"):
            try:
                return _stored_blob(self._blob(name).get_blob_properties())
            except HttpResponseError as error:
                if _is_no_blob(error):
                    return None
                raise

    def read_range(self, name: str, *, offset_bytes: int, size_bytes: int, etag: str) -> Iterator[bytes]:
        """See :class:`~offline_mover.ports.SourceContainer`."""
        with self._errors(name, "r"):
            stream = self._blob(name).download_blob(
                offset=offset_bytes,
                length=size_bytes,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
            )
            yield from stream.chunks()

    # --- writing ---------------------------------------------------------------------------------------

    def committed_blocks(self, name: str) -> list[Block]:
        """See :class:`~offline_mover.ports.TargetContainer`."""
        return self._blocks(name, "committed", 0)

    def staged_blocks(self, name: str) -> list[Block]:
        """See :class:`~offline_mover.ports.TargetContainer`."""
        return self._blocks(name, "uncommitted", 1)

    def _blocks(self, name: str, kind: str, index: int) -> list[Block]:
        with self._errors(name, "r"):
            try:
                found = self._blob(name).get_block_list(kind)[index]
            except HttpResponseError as error:
                if _is_no_blob(error):
                    return []
                raise
        return [Block(block_id=block.id, size_bytes=block.size) for block in found]

    def stage(self, name: str, block_id: str, body: SeekableStream) -> None:
        """See :class:`~offline_mover.ports.TargetContainer`."""
        with self._errors(name, "cw"):
            body_bytes: Any = body  # the SDK asks for a whole IO[bytes] and uses what the port has
            self._blob(name).stage_block(block_id, body_bytes, length=len(body))

    def commit(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """See :class:`~offline_mover.ports.TargetContainer`."""
        md5 = None if content_md5 is None else bytearray(base64.b64decode(content_md5))
        with self._errors(name, "cw"):
            self._blob(name).commit_block_list(
                [BlobBlock(block_id) for block_id in block_ids],
                content_settings=ContentSettings(content_type="application/octet-stream", content_md5=md5),
                metadata=dict(metadata),
                match_condition=MatchConditions.IfMissing,
            )

    def create_small(self, name: str, content: bytes) -> None:
        """See :class:`~offline_mover.ports.TargetContainer`."""
        with self._errors(name, "cw"):
            self._blob(name).upload_blob(
                content, overwrite=False, content_settings=ContentSettings(content_type="application/json")
            )

    # --- errors ----------------------------------------------------------------------------------------

    def _blob(self, name: str) -> BlobClient:
        return self._client.get_blob_client(name)

    @contextmanager
    def _errors(self, name: str, needed: str) -> Iterator[None]:
        """``needed``: the SAS permissions of which one is enough for what is done to ``name``."""
        try:
            yield
        except AzureError as error:
            raise self._meaning(error, f"{self._address.container}/{name}", needed) from None

    def _meaning(self, error: AzureError, what: str, needed: str) -> AirgapError:
        host = self._address.host
        if isinstance(error, HttpResponseError) and error.status_code is not None:
            return self._answer_meaning(error, error.status_code, what, needed)
        if isinstance(error, ClientAuthenticationError):  # azure-identity: nobody is signed in
            return ServiceError(Code.CREDENTIAL_EXPIRED, "nobody is signed in to Azure and no SAS was given")
        if isinstance(error, ServiceRequestError | ServiceResponseError):
            return ServiceError(Code.SERVICE_UNREACHABLE, f"{host}: {_network_reason(error)}")
        return ServiceError(Code.SERVICE_UNEXPECTED, f"{host}: {type(error).__name__} for {what}")

    def _answer_meaning(self, error: HttpResponseError, status: int, what: str, needed: str) -> AirgapError:
        said = _error_code(error)
        answer = f"{what}: status {status} {said}".rstrip()
        match status:
            case 401 | 403:
                return self._refusal_meaning(status, said, what, needed)
            case 404:
                return ServiceError(Code.NOT_FOUND, answer)
            case 409:
                return ServiceError(Code.CONFLICT, answer)
            case 412:
                return UntrustedInputError(Code.BLOB_CHANGED, what)
            case 429 | 503:
                return ServiceError(Code.SERVICE_THROTTLED, answer)
        return ServiceError(Code.SERVICE_UNEXPECTED, answer)

    def _refusal_meaning(self, status: int, said: str, what: str, needed: str) -> AirgapError:
        if self._sas is not None:
            return _sas_refusal(self._sas, self._clock(), said, what, needed)
        if status == 401:  # noqa: PLR2004 - "who are you", as opposed to 403 "not you"
            return ServiceError(Code.CREDENTIAL_EXPIRED, f"{what}: the token was refused {said}".rstrip())
        return ServiceError(
            Code.SERVICE_DENIED, f"{what}: {said}; the role {_ROLES[needed]} on the container is missing"
        )


def _sas_refusal(sas: Sas, now: datetime, said: str, what: str, needed: str) -> AirgapError:
    """Why a SAS was refused, as far as it shows itself; its signature stays out of it."""
    letters = " or ".join(needed)
    if sas.is_expired(now):
        return ServiceError(
            Code.CREDENTIAL_EXPIRED, f"the SAS expired at {sas.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        )
    if sas.starts_at is not None and sas.starts_at > now:
        why = f"the SAS is valid only from {sas.starts_at:%Y-%m-%dT%H:%M:%SZ}"
    elif sas.permissions and not set(needed) & set(sas.permissions):
        why = f"the SAS has the permissions {sas.permissions}, {letters} is missing"
    elif said == "AuthenticationFailed":
        why = (
            "the SAS is not accepted: made with another key, for another account or container, "
            "withdrawn, or cut off"
        )
    else:
        granted = sas.permissions or "of its stored policy"
        why = (
            f"{said or 'refused'} although the SAS has the permissions {granted}; is it whole and for this "
            "container, and does the storage's firewall let this machine in?"
        )
    return ServiceError(Code.SERVICE_DENIED, f"{what}: {why}")


def _default_credential() -> TokenCredential:
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - 200 ms that a SAS does not need

    credential: TokenCredential = DefaultAzureCredential()
    return credential


def _stored_blob(properties: BlobProperties) -> StoredBlob:
    md5 = properties.content_settings.content_md5
    return StoredBlob(
        size_bytes=properties.size,
        etag=properties.etag,
        content_md5=base64.b64encode(md5).decode("ascii") if md5 else None,
        metadata=dict(properties.metadata),
    )


def _error_code(error: HttpResponseError) -> str:
    """The service's word for the error: letters only, so that nothing else can hide in it."""
    raw: Any = getattr(error, "error_code", None)
    if raw is None and error.response is not None:
        headers: Any = getattr(error.response, "headers", {})
        raw = headers.get("x-ms-error-code")
    text = str(getattr(raw, "value", raw) or "")
    return text if text.isascii() and text.isalnum() else ""


def _is_no_blob(error: HttpResponseError) -> bool:
    """Whether the blob is missing, as opposed to its container or account."""
    is_blob = _error_code(error) in {"BlobNotFound", "ResourceNotFound", ""}
    return error.status_code == 404 and is_blob  # noqa: PLR2004 - HTTP


def _network_reason(error: BaseException) -> str:
    """Why the network failed, in words of ours or of the operating system."""
    seen: list[BaseException] = []
    queue: list[Any] = [error]
    while queue and len(seen) < 20:  # noqa: PLR2004 - far more than requests nests
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or cause in seen:
            continue
        seen.append(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = getattr(cause, "verify_message", "verification failed")
            return f"its certificate is not trusted ({why}); REQUESTS_CA_BUNDLE names the roots"
        if type(cause).__name__ == "NameResolutionError":
            return "the name does not resolve"
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return "no answer in time"
        if isinstance(cause, OSError) and cause.strerror and cause.errno:
            return cause.strerror
        queue += [
            getattr(cause, "inner_exception", None),
            getattr(cause, "reason", None),
            cause.__cause__,
            cause.__context__,
            *cause.args,
        ]
    return "the connection failed"
