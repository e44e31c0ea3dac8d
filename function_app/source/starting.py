"""The start of an order's orchestration at the source, once the order is on record."""

import asyncio
from typing import Any

from airgap.errors import Code, UntrustedInputError
from function_app.durable.instances import find_instance
from function_app.messages import dump
from function_app.ports import SourceSide
from function_app.source.planning import REQUEST
from function_app.source.wire import RequestDocument, TransferOrder
from function_app.storage.work_folder import WorkFolder, digest_of

EXPORT_TRANSFER = "export_transfer"


async def start_transfer(client: Any, side: SourceSide, transfer_id: str, request_sha256: str) -> None:
    """Start the export of a transfer whose request lies in its working documents, unless it was started.

    Args:
        client: the Durable client.
        side: the source's settings and ports.
        transfer_id: the id of a transfer that is on record.
        request_sha256: the hex SHA-256 of the request, as the journal has it.

    Raises:
        ServiceError: ``NOT_FOUND``: there is no such request.
        UntrustedInputError: ``BLOB_CHANGED``: the request is another than the one on record.
    """
    if await find_instance(client, transfer_id) is not None:
        return
    request = await asyncio.to_thread(WorkFolder(side.blobs, transfer_id).get, REQUEST, RequestDocument)
    if request.order_sha256 != request_sha256:
        raise UntrustedInputError(Code.BLOB_CHANGED, f"the request of {transfer_id} is not the one on record")
    order = order_of(side, transfer_id, request)
    try:
        await client.start_new(EXPORT_TRANSFER, transfer_id, dump(order))
    except Exception:  # the SDK raises nothing more precise
        if await find_instance(client, transfer_id) is None:
            raise


def order_of(side: SourceSide, transfer_id: str, request: RequestDocument) -> TransferOrder:
    """The input with which the orchestration of a transfer is started."""
    return TransferOrder(
        transfer_id=transfer_id,
        request=digest_of(request),
        artifacts=len(request.artifacts),
        runs_at_once=side.settings.pipeline_runs_at_once,
        hashes_at_once=side.settings.hashes_at_once,
        selects=bool(request.select),
        is_dry_run=request.dry_run,
        only_missing=request.only_missing,
    )
