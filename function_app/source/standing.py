"""The placing of standing orders at the source, by a timer, once for each of their times.

A transfer's id follows from the order's name and the time that it is for, so that of two ticks, two hosts, or
a tick that broke off and its repeat, all meet one transfer. Whether it was placed, that transfer's journal
says.
"""

import asyncio
import hashlib
import logging
from datetime import UTC, datetime
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from airgap.fields import format_time
from airgap.journal import Journal
from airgap.schedule import SCHEDULE, Schedule, due_time
from airgap.states import Kind, State
from function_app.azure.wiring import source_side
from function_app.durable.blueprint import Blueprint
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.source.placing import place_transfer
from function_app.source.standing_order import StandingOrder

bp = Blueprint()

_LOG = logging.getLogger(__name__)
_LOOKED_BACK = 5


@bp.timer_trigger(arg_name="tick", schedule="0 */5 * * * *")
@bp.durable_client_input(client_name="client")
async def place_standing_orders(tick: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """Place the standing orders that are due, every five minutes; a late round is simply the next."""
    del tick
    await place_due_orders(source_side(), client, now=datetime.now(UTC))


async def place_due_orders(side: SourceSide, client: Any, *, now: datetime) -> None:
    """Order in one round the transfer of each standing order whose time has come, unless it was ordered.

    What cannot be read or placed now is logged, and has its turn in the next round.

    Raises:
        ServiceError: the orders cannot be listed now.
    """
    journals = JournalStore(side.blobs, side.projection)
    names = await asyncio.to_thread(lambda: list(journals.ids(Kind.ORDERS)))
    for name in names:
        try:
            await _place_due(side, client, await asyncio.to_thread(journals.read, Kind.ORDERS, name), now)
        except Exception as error:  # noqa: BLE001 - the SDK raises nothing more precise
            _LOG.warning("standing order %s is not placed: %s", name, error)


async def _place_due(side: SourceSide, client: Any, journal: Journal, now: datetime) -> None:
    due = due_time(journal, now)
    if due is None:
        return
    transfer_id = transfer_id_of(side, journal.about, due)
    journals = JournalStore(side.blobs, side.projection)
    placed = await asyncio.to_thread(journals.read, Kind.TRANSFERS, transfer_id)
    if placed.state not in (None, State.REQUESTED):
        return
    entry = journal.entries[-1]
    order = StandingOrder.from_facts(entry.facts)
    facts = {"order": {"name": journal.about, "time": format_time(due), "labels": dict(order.labels)}}
    if "orderedBy" in entry.facts:
        facts["orderedBy"] = entry.facts["orderedBy"]
    await place_transfer(client, side, transfer_id, order.request, facts=facts, by=entry.by, at=now)


def last_run(side: SourceSide, journal: Journal, now: datetime) -> dict[str, str] | None:
    """The last transfer of a standing order: ``time``, ``transferId``, ``state``; ``None`` if none is found.

    Its last five times are looked at: those before, and those of a schedule that it had before, are not told.
    """
    texts = (entry.facts[SCHEDULE] for entry in reversed(journal.entries) if SCHEDULE in entry.facts)
    schedule = Schedule.parse(next(texts))
    latest = schedule.latest(now)
    if latest is None:
        return None
    for ago in range(_LOOKED_BACK):
        time = latest - ago * schedule.every
        transfer_id = transfer_id_of(side, journal.about, time)
        found = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, transfer_id)
        if found.state is not None:
            return {"time": format_time(time), "transferId": transfer_id, "state": found.state.value}
    return None


def transfer_id_of(side: SourceSide, name: str, due: datetime) -> str:
    """The id of the transfer that a standing order is placed as at one of its times.

    No ``Idempotency-Key`` has a zero byte, so that none leads to it.
    """
    about = "\0".join((side.settings.pipeline_resource_id, "orders", name, format_time(due)))
    return hashlib.sha256(about.encode()).hexdigest()[:32]
