"""The blob port on Azure Storage. The app itself writes small blobs only; large ones it has copied.

What is read to be hashed comes by :mod:`blob_wire`, a range in one request; all else by azure-storage-blob.

Needs Storage Blob Data Contributor on the containers it writes to, or the narrower roles of our own:
``infra/roles.json``.
"""

import base64
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobProperties, BlobServiceClient, ContentSettings

from airgap import __version__
from airgap.errors import AirgapError, Code, ServiceError, UntrustedInputError
from blob_wire.answers import PassingError, Refusal, network_reason
from blob_wire.ranges import back_off_s, range_headers, range_pieces, range_statuses, resumed
from blob_wire.wire import NETWORK_ERRORS, Wire
from function_app.azure.errors import code_of, code_of_status, service_errors
from function_app.ports import BlobStat
from function_app.storage.paths import is_safe_name

_CHUNK_BYTES = 1024 * 1024
"""Of a small blob that is read whole: azure-storage-blob holds each chunk four times over."""
_COPIED_FROM = "airgapcopiedfrom"
"""Metadata of a copy: the ETag of its source, so that the same copy is not started twice."""

_NO_BLOB = "preflight-writes-nothing"
_NO_MD5 = base64.b64encode(bytes(16)).decode("ascii")
_TRIES = 3
_HTTP_FORBIDDEN = 403
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
_HTTP_NO_SUCH_RANGE = 416
_CHANGED = frozenset({412, _HTTP_NO_SUCH_RANGE})
"""The condition does not hold; or the range begins behind the end, thus the blob is another."""


class AzureBlobs:
    """The port :class:`~function_app.ports.BlobStore` on one Azure storage account.

    Args:
        account_url: the URL of the account's blob service.
        credential: the identity that asks.
        retries: how often a call, or a range that comes no further, is tried again after a passing failure.
        pause: sleeps that many seconds before such a range is asked for again.
    """

    def __init__(
        self,
        account_url: str,
        credential: TokenCredential,
        *,
        retries: int = 4,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retries = retries
        self._pause = pause
        self._wire = Wire(account_url, user_agent=f"acr-airgap-transfer/{__version__}", credential=credential)
        self._service = BlobServiceClient(
            account_url,
            credential=credential,
            max_single_get_size=_CHUNK_BYTES,
            max_chunk_get_size=_CHUNK_BYTES,
            retry_total=retries,
            initial_backoff=1,
            increment_base=2,
        )

    def close(self) -> None:
        """Close all connections to the storage account."""
        self._wire.close()
        self._service.close()

    def _client(self, container: str, name: str) -> BlobClient:
        _require_safe(container, name)
        return self._service.get_blob_client(container, name)

    def _properties(self, container: str, name: str) -> BlobProperties | None:
        try:
            return self._client(container, name).get_blob_properties()
        except HttpResponseError as error:
            if _is_missing_blob(error):
                return None
            raise

    def stat(self, container: str, name: str) -> BlobStat | None:
        """See the port."""
        with service_errors(f"blob {container}/{name}"):
            found = self._properties(container, name)
        if found is None:
            return None
        md5 = found.content_settings.content_md5
        return BlobStat(
            name=name,
            size_bytes=found.size,
            etag=_bare(found.etag),
            last_modified=found.last_modified,
            content_md5=base64.b64encode(md5).decode("ascii") if md5 else None,
            metadata=dict(found.metadata or {}),
        )

    def read(self, container: str, name: str, *, max_bytes: int, etag: str | None = None) -> bytes | None:
        """See the port."""
        for _ in range(_TRIES):
            try:
                return self._read_once(container, name, max_bytes=max_bytes, etag=etag)
            except UntrustedInputError as error:
                if etag is not None or error.code is not Code.BLOB_CHANGED:
                    raise
                # Whichever state it is in will do; it was written to between two of our requests.
        raise ServiceError(Code.SERVICE_THROTTLED, f"blob {container}/{name} is written to without end")

    def _read_once(self, container: str, name: str, *, max_bytes: int, etag: str | None) -> bytes | None:
        pinned: dict[str, Any] = {}
        if etag is not None:
            pinned = {"etag": _quoted(etag), "match_condition": MatchConditions.IfNotModified}
        client = self._client(container, name)
        with service_errors(f"blob {container}/{name}"):
            try:
                # The first answer names the size and the ETag that the client pins the further ones to.
                download = client.download_blob(offset=0, length=max_bytes + 1, max_concurrency=1, **pinned)
                if download.size > max_bytes:
                    raise UntrustedInputError(Code.TOO_LARGE, f"{name} has over {max_bytes} bytes")
                return b"".join(download.chunks())
            except HttpResponseError as error:
                if _is_missing_blob(error):
                    return None
                if error.status_code == _HTTP_NO_SUCH_RANGE and self._is_empty(container, name, etag):
                    return b""
                if error.status_code in _CHANGED:
                    raise _changed(container, name) from None
                raise

    def _is_empty(self, container: str, name: str, etag: str | None) -> bool:
        """Whether a blob, in that state if one is given, has no bytes: the storage has no range of it."""
        found = self._properties(container, name)
        return found is not None and found.size == 0 and etag in {None, _bare(found.etag)}

    def read_range(
        self, container: str, name: str, *, etag: str, offset_bytes: int, size_bytes: int
    ) -> Iterator[bytes]:
        """See the port."""
        return resumed(
            lambda done: self._range(
                container,
                name,
                etag=_quoted(etag),
                offset_bytes=offset_bytes + done,
                size_bytes=size_bytes - done,
            ),
            size_bytes,
            self._wait_for,
        )

    def _range(
        self, container: str, name: str, *, etag: str, offset_bytes: int, size_bytes: int
    ) -> Iterator[bytes]:
        """The range in one request, as far as it comes."""
        what = f"{container}/{name}"
        _require_safe(container, name)
        try:
            answer = self._wire.send(
                *("GET", what),
                headers=range_headers(offset_bytes=offset_bytes, size_bytes=size_bytes, etag=etag),
            )
            if answer.status_code not in range_statuses(offset_bytes=offset_bytes):
                answer.close()
                raise _refused(Refusal.of(answer), what)
            yield from range_pieces(answer, what, offset_bytes=offset_bytes, size_bytes=size_bytes, etag=etag)
        except NETWORK_ERRORS as error:
            code = code_of(error) if isinstance(error, AzureError) else Code.SERVICE_UNREACHABLE
            raise ServiceError(code, f"blob {what}: {network_reason(error)}") from None

    def _wait_for(self, error: ServiceError, tries: int) -> None:
        """Wait before the ``tries``-th repetition, or raise ``error`` if there is none."""
        if tries > self._retries or not error.code.is_retryable:
            raise error
        self._pause(back_off_s(error, tries, random.random()))  # noqa: S311 - spreads, hides nothing

    def create(self, container: str, name: str, content: bytes) -> bool:
        """See the port."""
        with service_errors(f"blob {container}/{name}"):
            try:
                self._client(container, name).upload_blob(content, overwrite=False)
            except ResourceExistsError as error:
                if _error_code(error) != "BlobAlreadyExists":
                    raise
                return False
            except HttpResponseError as error:
                # Whoever may add blobs and not write them may be told that before the condition is looked at.
                if error.status_code != _HTTP_FORBIDDEN or self._properties(container, name) is None:
                    raise
                return False
        return True

    def put(self, container: str, name: str, content: bytes) -> None:
        """See the port."""
        with service_errors(f"blob {container}/{name}"):
            self._client(container, name).upload_blob(content, overwrite=True)

    def require_write(self, container: str) -> None:
        """See the port."""
        with service_errors(f"container {container}"):
            try:
                # A new blob, for which the right to add is enough, with a digest that is not its own. Storage
                # looks at the rights first, then refuses it (Md5Mismatch, at Put Blob in its REST reference).
                self._client(container, _NO_BLOB).upload_blob(
                    b"", overwrite=False, headers={"Content-MD5": _NO_MD5}
                )
            except HttpResponseError as error:
                if _error_code(error) == "Md5Mismatch":
                    return
                raise
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"container {container}: a wrong digest was taken")

    def list_names(self, container: str, prefix: str) -> Iterator[str]:
        """See the port."""
        with service_errors(f"container {container}"):
            client = self._service.get_container_client(container)
            yield from client.list_blob_names(name_starts_with=prefix)

    def list_page(
        self, container: str, prefix: str, *, marker: str | None, limit: int
    ) -> tuple[Sequence[str], str | None]:
        """See the port."""
        with service_errors(f"container {container}"):
            client = self._service.get_container_client(container)
            pages = client.list_blob_names(name_starts_with=prefix, results_per_page=limit).by_page(marker)
            names = list(next(pages))
        following: str | None = pages.continuation_token  # type: ignore[attr-defined]  # a PageIterator
        return names, following or None

    def copy(
        self, source: tuple[str, str], target: tuple[str, str], *, etag: str, metadata: Mapping[str, str]
    ) -> str | None:
        """See the port."""
        for _ in range(_TRIES):
            found = self._own_copy(source, target, etag)
            if found is not None:
                return _bare(found.etag) if found.copy.status == "success" else None
            # Copy Blob: within one account the token of the request also authorises the source.
            # https://learn.microsoft.com/rest/api/storageservices/copy-blob
            with _blob_errors(*source):
                try:
                    started = self._client(*target).start_copy_from_url(
                        self._client(*source).url,
                        metadata={**metadata, _COPIED_FROM: etag},
                        source_etag=_quoted(etag),
                        source_match_condition=MatchConditions.IfNotModified,
                        match_condition=MatchConditions.IfMissing,
                    )
                except ResourceExistsError as error:
                    if _error_code(error) != "BlobAlreadyExists":
                        raise
                    continue  # another delivery of the same step was faster
            return _bare(str(started["etag"])) if started["copy_status"] == "success" else None
        raise ServiceError(Code.SERVICE_THROTTLED, f"blob {'/'.join(target)} comes and goes")

    def _own_copy(self, source: tuple[str, str], target: tuple[str, str], etag: str) -> BlobProperties | None:
        """Our copy of that state, complete or under way; ``None`` if there is none, or it failed.

        The metadata says which state was copied, and anybody who may write could say so; which blob was
        copied is said by the storage itself, until the target is written to.
        """
        with service_errors(f"blob {'/'.join(target)}"):
            found = self._properties(*target)
        if found is None:
            return None
        if (found.metadata or {}).get(_COPIED_FROM) != etag:
            raise ServiceError(Code.CONFLICT, f"blob {'/'.join(target)} is there, and not a copy of {etag}")
        if found.copy.status not in {"success", "pending"}:
            self.delete(*target, etag=_bare(found.etag))
            return None
        if _address(found.copy.source or "") != _address(self._client(*source).url):
            raise ServiceError(
                Code.CONFLICT, f"blob {'/'.join(target)} is there, and not a copy of {'/'.join(source)}"
            )
        return found

    def tags(self, container: str, name: str) -> Mapping[str, str] | None:
        """See the port."""
        with service_errors(f"tags of {container}/{name}"):
            try:
                return self._client(container, name).get_blob_tags()
            except HttpResponseError as error:
                if _is_missing_blob(error):
                    return None
                raise

    def set_content_md5(self, container: str, name: str, content_md5: str, *, etag: str) -> str:
        """See the port."""
        settings = ContentSettings(content_md5=bytearray(base64.b64decode(content_md5)))
        with _blob_errors(container, name):
            answer = self._client(container, name).set_http_headers(
                settings, etag=_quoted(etag), match_condition=MatchConditions.IfNotModified
            )
        return _bare(answer["etag"])

    def delete(self, container: str, name: str, *, etag: str | None = None) -> None:
        """See the port."""
        pinned: dict[str, Any] = {}
        if etag is not None:
            pinned = {"etag": _quoted(etag), "match_condition": MatchConditions.IfNotModified}
        client = self._client(container, name)
        with service_errors(f"blob {container}/{name}", http_412=Code.CONFLICT):
            for is_last in (False, True):
                try:
                    client.delete_blob(delete_snapshots="include", **pinned)
                except HttpResponseError as error:
                    if _error_code(error) == "LeaseIdMissing" and not is_last:
                        _break_lease(client)
                        continue
                    is_another = error.status_code in _CHANGED and _error_code(error) != "LeaseIdMissing"
                    if not _is_missing_blob(error) and not is_another:
                        raise
                return


def _require_safe(container: str, name: str) -> None:
    if not is_safe_name(name):
        raise UntrustedInputError(Code.UNSAFE_NAME, f"{container}/{name}")


def _refused(refusal: Refusal, what: str) -> AirgapError:
    """The error for an answer to a pinned read that is not success; a blob that is gone has changed."""
    if refusal.is_no_blob or refusal.is_other_version:
        return UntrustedInputError(Code.BLOB_CHANGED, what)
    detail = f"blob {what}: HTTP {refusal.status} {refusal.said}".rstrip()
    code = code_of_status(refusal.status)
    return (
        PassingError(code, detail, wait_s=refusal.wait_s) if code.is_retryable else ServiceError(code, detail)
    )


def _break_lease(client: BlobClient) -> None:
    """End the lease that somebody holds; nothing happens if there is none any more."""
    try:
        BlobLeaseClient(client).break_lease(lease_break_period=0)
    except HttpResponseError as error:
        if error.status_code not in {_HTTP_NOT_FOUND, _HTTP_CONFLICT}:
            raise


@contextmanager
def _blob_errors(container: str, name: str) -> Iterator[None]:
    """Turn errors as :func:`service_errors` does; a blob gone, or of another ETag, is ``BLOB_CHANGED``."""
    with service_errors(f"blob {container}/{name}"):
        try:
            yield
        except HttpResponseError as error:
            if _is_missing_blob(error) or error.status_code in _CHANGED:
                raise _changed(container, name) from None
            raise


def _address(url: str) -> tuple[str, str]:
    """Host and path of a blob, however its name is escaped."""
    parts = urlsplit(url)
    return parts.netloc, unquote(parts.path)


def _changed(container: str, name: str) -> UntrustedInputError:
    return UntrustedInputError(Code.BLOB_CHANGED, f"{container}/{name}")


def _is_missing_blob(error: HttpResponseError) -> bool:
    """Whether a blob is missing. A missing container is 404 too, but it is a fault of the deployment."""
    return error.status_code == _HTTP_NOT_FOUND and _error_code(error) != "ContainerNotFound"


def _error_code(error: HttpResponseError) -> str:
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def _bare(etag: str) -> str:
    return etag.strip('"')


def _quoted(etag: str) -> str:
    return f'"{etag}"'
