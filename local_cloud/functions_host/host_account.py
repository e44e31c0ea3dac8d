"""The host's own storage account, used by the app's identity: as in Azure, as far as this host needs one.

============================================================= ==========================================
blobs ``blobreceipts/…`` in ``azure-webjobs-hosts``           for which blob a function was called
queue ``azure-webjobs-blobtrigger-local``                     the blobs on their way to a function
table ``<hub>Instances``                                      the states of orchestrations
============================================================= ==========================================

All else, histories above all, is in the host's own file (``store``). What is refused here does not happen:
without its roles on this account the host does not start, no blob starts anything, and no orchestration runs.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from azure.core.exceptions import AzureError, ResourceExistsError
from azure.data.tables import TableServiceClient
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient

from local_cloud.functions_host.app import AppError
from local_cloud.functions_host.azure_storage import OPTIONS, reason
from local_cloud.functions_host.blobs import BlobEvent, StorageOutageError
from local_cloud.functions_host.storage_queue import QueueMessage, StorageQueue
from local_cloud.functions_host.store import Instance

_CONNECTION = "AzureWebJobsStorage"
_CONTAINER = "azure-webjobs-hosts"
_HOST_ID = "local"
_HIDDEN_S = 5


class HostAccount:
    """The storage account behind ``AzureWebJobsStorage``, which is a `BlobQueue`, too."""

    def __init__(self, task_hub: str, environment: Mapping[str, str]) -> None:
        credential = ManagedIdentityCredential(client_id=environment.get(f"{_CONNECTION}__clientId"))
        blob, queue, table = (
            environment[f"{_CONNECTION}__{service}ServiceUri"] for service in ("blob", "queue", "table")
        )
        self._blobs = BlobServiceClient(blob, credential=credential, **OPTIONS).get_container_client(
            _CONTAINER
        )
        self._queue = StorageQueue(queue, f"azure-webjobs-blobtrigger-{_HOST_ID}", credential)
        tables = TableServiceClient(endpoint=table.rstrip("/"), credential=credential, retry_total=0)
        self._instances = tables.get_table_client(f"{task_hub}Instances")

    @classmethod
    def connect(cls, task_hub: str, environment: Mapping[str, str]) -> "HostAccount | None":
        """The account that the settings name by its services; ``None`` where they name none.

        Raises:
            AppError: The settings name only some of its services.
        """
        named = [f"{_CONNECTION}__{service}ServiceUri" for service in ("blob", "queue", "table")]
        missing = [name for name in named if not environment.get(name)]
        if len(missing) == len(named):
            return None
        if missing:
            raise AppError(f"Connection {_CONNECTION}: set {', '.join(missing)}")
        return cls(task_hub, environment)

    def open(self) -> None:
        """Make the containers, the queue and the table that the host needs, unless they are there.

        Raises:
            AppError: The account does not let the host in.
        """
        try:
            with suppress(ResourceExistsError):
                self._blobs.create_container()
            self._queue.make()
            with suppress(ResourceExistsError):
                self._instances.create_table()
        except AzureError as error:
            told = f"Connection {_CONNECTION}: {reason(error)}"
            raise AppError(f"{told}: has the app's identity its roles on this account?") from error

    def queue_blob(self, event: BlobEvent) -> None:
        """See the port."""
        place = f"blobreceipts/{_HOST_ID}/Host.Functions.{event.function}/{event.etag}"
        receipt = self._blobs.get_blob_client(f"{place}/{event.container}/{event.blob}")
        try:
            if not receipt.exists():  # a crash before there is one puts the blob there twice
                self._queue.put(event.to_message())
                receipt.upload_blob(b"", overwrite=True)
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error

    def take_blobs(self) -> Sequence[tuple[BlobEvent, QueueMessage]]:
        """See the port."""
        try:
            taken = self._queue.take(hidden_s=_HIDDEN_S)
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error
        return [(BlobEvent.from_message(one.text), one) for one in taken]

    def forget(self, taken: QueueMessage) -> None:
        """See the port."""
        try:
            self._queue.delete(taken)
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error

    def note(self, instance: Instance) -> None:
        """Keep the state of an orchestration, in the place of an earlier one.

        Raises:
            StorageOutageError: The state was not kept.
        """
        row = {
            "PartitionKey": instance.id,
            "RowKey": "",
            "Name": instance.name,
            "RuntimeStatus": instance.status,
        }
        try:
            self._instances.upsert_entity(row)
        except AzureError as error:
            raise StorageOutageError(reason(error)) from error
