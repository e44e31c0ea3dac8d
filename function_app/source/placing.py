"""The placing of an order at the source: it is put on record and started, for a caller or a timer."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airgap.journal import Journal
from airgap.states import Kind, State
from function_app.durable.instances import find_instance
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.source.planning import REQUEST
from function_app.source.starting import start_transfer
from function_app.source.transfer_request import TransferRequest
from function_app.storage.work_folder import WorkFolder


async def place_transfer(
    client: Any,
    side: SourceSide,
    transfer_id: str,
    request: TransferRequest,
    *,
    facts: Mapping[str, Any],
    by: str,
    at: datetime,
) -> Journal:
    """Order a transfer once, however often this is called, also where an earlier call broke off.

    Args:
        client: the Durable client.
        side: the source's settings and ports.
        transfer_id: the transfer's id, which is the same for the same order.
        request: the request. The caller has judged what the target would refuse of it.
        facts: further facts for the first entry of the journal.
        by: the words for who orders.
        at: the time of the order, aware.

    Returns:
        The transfer's journal. If its first entry has another ``requestSha256``, another order has this id
        already, and nothing was done.
    """
    document = request.to_document()
    journal = await asyncio.to_thread(
        JournalStore(side.blobs, side.projection).record,
        *(Kind.TRANSFERS, transfer_id, State.REQUESTED, {**document.facts, **facts}),
        by=by,
        at=at,
    )
    if not journal.is_active or journal.entries[0].facts["requestSha256"] != request.sha256:
        return journal
    # The entry may be older than its orchestration: whoever wrote it may have died before starting one.
    if await find_instance(client, transfer_id) is None:
        await asyncio.to_thread(WorkFolder(side.blobs, transfer_id).create, REQUEST, document)
        await start_transfer(client, side, transfer_id, request.sha256)
    return journal
