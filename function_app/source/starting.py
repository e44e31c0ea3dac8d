"""The source: an order that is on record gets its orchestration."""

import asyncio
from typing import Any

from function_app.durable.instances import find_instance
from function_app.messages import dump
from function_app.ports import SourceSide
from function_app.source.planning import REQUEST
from function_app.source.wire import RequestDocument, TransferOrder
from function_app.storage.work_folder import WorkFolder

EXPORT_TRANSFER = "export_transfer"


async def start_transfer(client: Any, side: SourceSide, transfer_id: str) -> None:
    """Start the export of a transfer whose request lies in its working documents, unless it was started.

    Raises:
        ServiceError: ``NOT_FOUND``: there is no such request.
    """
    if await find_instance(client, transfer_id) is not None:
        return
    request = await asyncio.to_thread(WorkFolder(side.blobs, transfer_id).get, REQUEST, RequestDocument)
    order = TransferOrder(
        transfer_id=transfer_id,
        artifacts=len(request.artifacts),
        runs_at_once=side.settings.pipeline_runs_at_once,
        hashes_at_once=side.settings.hashes_at_once,
    )
    try:
        await client.start_new(EXPORT_TRANSFER, transfer_id, dump(order))
    except Exception:  # the SDK raises nothing more precise
        if await find_instance(client, transfer_id) is None:
            raise
