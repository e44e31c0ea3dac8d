"""Blob storage over HTTPS, connected the way Azure Functions reads a connection name."""

import base64
import os
from collections.abc import Mapping
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobProperties, BlobServiceClient

from local_cloud.functions_host.app import AppError
from local_cloud.functions_host.blobs import (
    POISON_QUEUE,
    Blob,
    BlobTooLargeError,
    ListedBlob,
    Page,
    StorageOutageError,
)
from local_cloud.functions_host.storage_queue import StorageQueue

_PAGE = 1000
_MAX_BLOB_BYTES = 128 * 1024 * 1024
# The triggers pause and retry themselves; the SDK's own pauses start at 15 s.
OPTIONS: Mapping[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 60}


def connect(name: str, environment: Mapping[str, str] = os.environ) -> "AzureBlobStorage":
    """The storage of the account that a connection name stands for.

    `<name>__blobServiceUri` means managed identity; else `<name>` is a connection string.

    Raises:
        AppError: Neither setting exists, or the connection string is malformed.
    """
    uri = environment.get(f"{name}__blobServiceUri") or environment.get(f"{name}__serviceUri")
    if uri:
        client_id = environment.get(f"{name}__clientId")
        credential = (
            ManagedIdentityCredential(client_id=client_id) if client_id else ManagedIdentityCredential()
        )
        queues = environment.get(f"{name}__queueServiceUri")
        poison = StorageQueue(queues, POISON_QUEUE, credential) if queues else None
        return AzureBlobStorage(BlobServiceClient(uri, credential=credential, **OPTIONS), poison)
    text = environment.get(name)
    if not text:
        raise AppError(f"Connection {name}: set {name}__blobServiceUri or {name}")
    try:
        return AzureBlobStorage(BlobServiceClient.from_connection_string(text, **OPTIONS))
    except ValueError:
        # The text holds a key: neither it nor the SDK's error is repeated.
        raise AppError(f"Connection {name}: the setting is not a connection string") from None


class AzureBlobStorage:
    """A `BlobStorage`; the client is thread-safe. ``poison`` is its account's poison queue, if known."""

    def __init__(self, service: BlobServiceClient, poison: StorageQueue | None = None) -> None:
        self._service = service
        self._poison = poison

    def list_page(self, container: str, prefix: str, marker: str | None) -> Page:
        """See the port."""
        client = self._service.get_container_client(container)
        pages = client.list_blobs(name_starts_with=prefix or None, results_per_page=_PAGE).by_page(marker)
        try:
            blobs = [ListedBlob(name=item.name, etag=_etag(item.etag)) for item in next(pages)]
        except (ResourceNotFoundError, StopIteration):
            return Page(blobs=())
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error
        return Page(blobs=tuple(blobs), marker=pages.continuation_token or None)  # type: ignore[attr-defined] # PageIterator

    def stat(self, container: str, name: str) -> Blob | None:
        """See the port."""
        client = self._service.get_blob_client(container, name)
        try:
            properties = client.get_blob_properties()
        except ResourceNotFoundError:
            return None
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error
        return Blob(
            etag=_etag(properties.etag),
            uri=str(client.url).partition("?")[0],
            properties=_dotnet_properties(properties),
            metadata=properties.metadata or {},
        )

    def read(self, container: str, name: str) -> bytes | None:
        """The blob's content, which is held in memory: at most 128 MiB.

        Raises:
            BlobTooLargeError: It is larger.
            StorageOutageError: The storage does not answer, or refuses.
        """
        client = self._service.get_blob_client(container, name)
        try:
            stream = client.download_blob(max_concurrency=1)
            if stream.size > _MAX_BLOB_BYTES:
                raise BlobTooLargeError(f"{stream.size} bytes are too many for a local blob trigger")
            return stream.readall()
        except ResourceNotFoundError:
            return None
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error

    def put_aside(self, message: str) -> None:
        """See the port."""
        if self._poison is None:
            return
        # The queue is deployed: who puts something there may do no more than that.
        try:
            self._poison.put(message)
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error


def _dotnet_properties(properties: BlobProperties) -> dict[str, Any]:
    settings = properties.content_settings
    md5 = settings.content_md5
    return {
        "LastModified": properties.last_modified.isoformat(),
        "CreatedOn": properties.creation_time.isoformat(),
        "ETag": properties.etag,
        "BlobType": str(properties.blob_type),
        "ContentLength": properties.size,
        "ContentType": settings.content_type,
        "ContentEncoding": settings.content_encoding,
        "ContentHash": md5 and base64.b64encode(bytes(md5)).decode(),
    }


def _etag(text: str) -> str:
    return text.strip('"')


def reason(error: AzureError) -> str:
    """The reason for an error, in a word or two without any address."""
    code = getattr(error, "error_code", None) or getattr(error, "status_code", None) or ""
    return f"{type(error).__name__} {code}".rstrip()
