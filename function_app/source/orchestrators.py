"""The source's order of things: plan, export, hash, seal. Replayed: no I/O, no clock but the context's."""

from typing import Any

from msgspec.structs import replace

from airgap.errors import Code
from airgap.fields import format_time
from airgap.states import Kind, State
from function_app.durable.blueprint import Blueprint
from function_app.durable.flow import Flow, Patience, awaited, for_each, replay_clock, settled, step
from function_app.durable.outcomes import Outcome, Refused, end_of, ending
from function_app.journal.recording import recorded
from function_app.messages import Item, dump, read
from function_app.pipeline_runs import run_succeeded
from function_app.source import wire

bp = Blueprint()

REFERENCES_PER_GROUP = 50
_SIGNATURES = Patience(pause_s=5, longest_pause_s=60)
"""The activity knows the time that people have, and says what is missing when it is over."""


@bp.orchestration_trigger(context_name="context")
def export_transfer(context: Any) -> Flow[Outcome]:
    """The orchestrator of one transfer, from its order to the sealed bundle; its journal tells its state."""
    return (yield from _transfer(context, read(context.get_input(), wire.TransferOrder)))


def _transfer(context: Any, order: wire.TransferOrder) -> Flow[Outcome]:
    """The whole of a transfer; however it ends, its journal says so."""
    try:
        planned = yield from _plan(context, order)
        if order.is_dry_run:
            yield from recorded(context, Kind.TRANSFERS, order.transfer_id, State.PREVIEWED)
            return {"outcome": State.PREVIEWED.value}
        if not planned.blobs:
            yield from recorded(context, Kind.TRANSFERS, order.transfer_id, State.NOTHING_MISSING)
            return {"outcome": State.NOTHING_MISSING.value}
        if planned.portions:
            yield from _divide(context, order, planned)
            return {"outcome": State.DIVIDED.value}
        sealed = yield from _export(context, order, planned)
    except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
        end = end_of(error)
        state = State.REFUSED if isinstance(end, Refused) else State.FAILED
        facts = {"code": end.code, "detail": end.detail, "artifacts": list(end.artifacts)}
        yield from settled(recorded(context, Kind.TRANSFERS, order.transfer_id, state, facts))
        return dump(end)
    return dump(sealed)


def _plan(context: Any, order: wire.TransferOrder) -> Flow[wire.Planned]:
    """Raises for anything but a plan."""
    owner, now = order.transfer_id, format_time(replay_clock(context))
    references, request = order.artifacts, order.request
    if order.selects:
        gathered = yield from _select(context, order)
        references, request = gathered.references, gathered.document_sha256
    resolved = yield from for_each(
        context,
        wire.RESOLVE_ARTIFACTS,
        owner=owner,
        count=-(-references // REFERENCES_PER_GROUP),
        at_once=order.runs_at_once,
        pinned=request,
    )
    planning = wire.Planning(
        transfer_id=owner, request=request, resolved=resolved, at=now, is_dry_run=order.is_dry_run
    )
    found = None
    if order.only_missing:
        found = yield from step(context, wire.FIND_HELD, planning)
        planning = replace(planning, held=found.document_sha256)
    plan = yield from step(context, wire.PLAN_TRANSFER, planning)
    facts: dict[str, Any] = {"blobs": plan.blobs, "artifacts": plan.artifacts}
    if found is not None:
        facts["held"] = {"artifacts": found.artifacts, "receipts": list(found.receipts)}
    if plan.referrers:
        facts["referrers"] = list(plan.referrers)
    yield from recorded(context, Kind.TRANSFERS, owner, State.PLANNED, facts)
    return plan


def _divide(context: Any, order: wire.TransferOrder, planned: wire.Planned) -> Flow[None]:
    """One transfer after the other: their bundles are numbered in the order in which the references stand."""
    owner = order.transfer_id
    yield from recorded(context, Kind.TRANSFERS, owner, State.DIVIDING, {"transfers": planned.portions})
    yield from for_each(
        context,
        "export_portion",
        owner=owner,
        count=planned.portions,
        at_once=1,
        pinned=planned.document_sha256,
    )
    yield from recorded(context, Kind.TRANSFERS, owner, State.DIVIDED)


@bp.orchestration_trigger(context_name="context")
def export_portion(context: Any) -> Flow[Outcome]:
    """The orchestrator of one portion of a divided transfer; however it ends, the next one has its turn."""
    try:
        item = read(context.get_input(), Item)
        this = wire.PortionOrder(
            whole=item.owner, number=item.number, pinned=item.pinned, at=format_time(replay_clock(context))
        )
        portion = yield from step(context, wire.ORDER_PORTION, this)
    except Exception as error:  # noqa: BLE001 - as above
        return dump(end_of(error))
    yield from _transfer(context, portion.order)
    return {"outcome": "done"}


def _select(context: Any, order: wire.TransferOrder) -> Flow[wire.Gathered]:
    """Look through the registry for what the order selects."""
    owner = order.transfer_id
    selecting = wire.Selecting(transfer_id=owner, request=order.request)
    listed = yield from step(context, wire.LIST_REPOSITORIES, selecting)
    selected = yield from for_each(
        context,
        wire.SELECT_TAGS,
        owner=owner,
        count=listed.groups,
        at_once=order.runs_at_once,
        pinned=listed.document_sha256,
    )
    gathering = wire.Gathering(transfer_id=owner, request=order.request, selected=selected)
    return (yield from step(context, wire.GATHER_REFERENCES, gathering))


def _export(context: Any, order: wire.TransferOrder, plan: wire.Planned) -> Flow[wire.Sealed]:
    """Raises for anything but a sealed bundle."""
    owner = order.transfer_id
    yield from recorded(context, Kind.TRANSFERS, owner, State.EXPORTING)
    exported = yield from for_each(
        context,
        "export_blob",
        owner=owner,
        count=plan.blobs,
        at_once=order.runs_at_once,
        pinned=plan.document_sha256,
    )
    dividing = wire.Dividing(transfer_id=owner, exported=exported)
    division = yield from step(context, wire.DIVIDE_BLOBS, dividing)
    yield from recorded(context, Kind.TRANSFERS, owner, State.HASHING, {"groups": division.groups})
    hashed = yield from for_each(
        context,
        wire.HASH_PARTS,
        owner=owner,
        count=division.groups,
        at_once=order.hashes_at_once,
        pinned=division.document_sha256,
    )
    sealing = wire.Sealing(
        transfer_id=owner,
        request=order.request,
        division=division.document_sha256,
        hashed=hashed,
        created_at=format_time(replay_clock(context)),
    )
    sealed = yield from step(context, wire.SEAL_BUNDLE, sealing)
    if sealed.awaits_until is None:
        return sealed
    publishing = wire.Publishing(
        transfer_id=owner, until=sealed.awaits_until, now=format_time(replay_clock(context))
    )
    return (yield from awaited(context, wire.PUBLISH_BUNDLE, publishing, _SIGNATURES))


@bp.orchestration_trigger(context_name="context")
def export_blob(context: Any) -> Flow[Outcome]:
    """The orchestrator of one batch: it exports, up to three times, until its tags stand still meanwhile."""
    try:
        item = read(context.get_input(), Item)
        batch: str | None = None
        for attempt in range(1, wire.MAX_EXPORT_ATTEMPTS + 1):
            this = wire.BlobAttempt(
                transfer_id=item.owner, number=item.number, attempt=attempt, plan=item.pinned, batch=batch
            )
            run = yield from step(context, wire.START_EXPORT_RUN, this)
            yield from run_succeeded(context, run)
            confirmed = yield from step(context, wire.CONFIRM_EXPORT, this)
            if confirmed.moved is None:
                return dump(confirmed)
            batch = confirmed.document_sha256
    except Exception as error:  # noqa: BLE001 - as above
        return dump(end_of(error))
    about = f"{confirmed.moved} was pushed anew during each of {attempt} exports"
    return dump(ending(Code.EXPORT_INCONSISTENT, about))
