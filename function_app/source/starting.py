"""The source: an order that is on record gets its orchestration."""

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
        client: of Durable.
        side: the source.
        transfer_id: of a transfer that is on record.
        request_sha256: the request's, as the journal has it.

    Raises:
        ServiceError: ``NOT_FOUND``: there is no such request.
        UntrustedInputError: ``BLOB_CHANGED``: it is another one than is on record.
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
    """What the orchestration of a transfer is started with."""
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
