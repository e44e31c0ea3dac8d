"""The cancelling of a transfer at the source, with all that it was divided into."""

import asyncio
from datetime import datetime
from typing import Any

from airgap.errors import PolicyRefusal
from airgap.journal import Journal
from airgap.states import Kind, State
from function_app.durable.instances import find_instance
from function_app.durable.stopping import stop
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.source.dividing import portions_of
from function_app.source.sealing import give_up_unsealed


async def cancel_transfer(
    client: Any, side: SourceSide, journal: Journal, *, by: str, at: datetime
) -> Journal:
    """Cancel a transfer, and those that it was divided into as far as they are not sealed.

    What is under way (pipeline runs, hashing) ends by itself: ARM has no cancel.

    Args:
        client: the Durable client.
        side: the source's settings and ports.
        journal: the transfer's journal.
        by: the words for who cancels.
        at: the time of the request, aware.

    Returns:
        The journal as it is now.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: it is too late: the transfer is being sealed, or has ended.
    """
    journal = await asyncio.to_thread(
        JournalStore(side.blobs, side.projection).record,
        *(Kind.TRANSFERS, journal.about, State.CANCELLED, {}),
        by=by,
        at=at,
    )
    # Decided: what is not reached now finds it written before its next step.
    await asyncio.to_thread(stop, side.blobs, journal.about)
    await asyncio.to_thread(give_up_unsealed, side, journal)
    instance = await find_instance(client, journal.about)
    if instance is not None and instance.is_active:
        await client.terminate(journal.about, "cancelled by request")
    for portion in await asyncio.to_thread(lambda: list(portions_of(side, journal))):
        try:
            await cancel_transfer(client, side, portion, by=by, at=at)
        except PolicyRefusal:
            continue  # it is sealed, or has ended
    return journal
