"""The target's order of things: admit, verify, accept, import, prove, record. Replayed, as the source's."""

from datetime import timedelta
from typing import Any

import msgspec

from airgap.errors import Code
from airgap.fields import format_time
from airgap.states import Kind, State
from function_app.durable.blueprint import Activity, Blueprint
from function_app.durable.flow import (
    OUTAGE,
    PENDING,
    Flow,
    Patience,
    awaited,
    for_each,
    replay_clock,
    settled,
    step,
)
from function_app.durable.outcomes import Ended, Ending, Outcome, end_of, read_ending
from function_app.durable.stopping import STOP_WORK, Stop
from function_app.journal.recording import recorded
from function_app.messages import Item, dump, read
from function_app.pipeline_runs import run_succeeded
from function_app.target import wire
from function_app.target.importing import RUN_ATTEMPTS

bp = Blueprint()

CLOSE_IMPORT = "close_import"
_TURN = Patience(pause_s=5, longest_pause_s=60)
"""Whoever has the turn ends, and else the reconciler frees it; the activity knows how long one may wait."""

_RELEASE = Patience(pause_s=5, longest_pause_s=60)
"""The activity knows the time that people have, and says what is missing when it is over."""

_CHECK = Patience(pause_s=5, longest_pause_s=60)
"""Likewise."""

_SOON = Patience(pause_s=5, longest_pause_s=60, at_most_s=900)
"""So long a receipt waits for the upload to be put away, since whoever reads it may push again at once; and,
of an import that broke off, for the registry to say what it holds."""

_RECEIPT = Patience(pause_s=30, longest_pause_s=3600, at_most_s=10 * 24 * 3600, insists=True)


_BEFORE_ANOTHER_RUN = timedelta(minutes=1)


def closing_instance(instance: str) -> str:
    """The id of the orchestration that closes the import of ``instance``."""
    return f"{instance}-closing"


@bp.orchestration_trigger(context_name="context")
def import_bundle(context: Any) -> Flow[Outcome]:
    """The orchestrator of one upload, from its bundle manifest's arrival to the decision, and its closing."""
    order = read(context.get_input(), wire.ImportOrder)
    upload = wire.Upload(
        incoming=order.incoming,
        manifest_etag=order.manifest_etag,
        envelope_sha256=order.envelope_sha256,
        instance=context.instance_id,
    )
    ending: Ending | None = None
    detail = ""
    try:
        facts = wire.received_facts(upload)
        yield from recorded(context, Kind.IMPORTS, upload.instance, State.RECEIVED, facts)
        admitted = yield from step(context, wire.ADMIT_BUNDLE, _judging(context, upload))
        if not admitted.is_current:
            yield from recorded(context, Kind.IMPORTS, upload.instance, State.SUPERSEDED)
            return {"outcome": "superseded"}
        detail = yield from _verify_and_import(context, upload, order)
    except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
        ending = end_of(error)
        detail = ending.detail
    end: Outcome = {"outcome": "imported", "detail": detail} if ending is None else dump(ending)
    closing = wire.Closing(
        **msgspec.structs.asdict(upload),
        decided_at=format_time(replay_clock(context)),
        outcome=end["outcome"],
        code=None if ending is None else ending.code,
        detail=detail,
    )
    try:
        yield from step(context, wire.RECORD_DECISION, closing)
        closed: Outcome = yield context.call_sub_orchestrator(
            CLOSE_IMPORT, dump(closing), closing_instance(upload.instance)
        )
    except Exception as error:  # noqa: BLE001 - as above
        closed = {"closing": "put off", "closingError": end_of(error).code}
    return {**end, **closed}


def _verify_and_import(context: Any, upload: wire.Upload, order: wire.ImportOrder) -> Flow[str]:
    """What was proven; raises for anything but a proven import."""
    owner = upload.instance
    inspected = yield from step(context, wire.INSPECT_BLOBS, upload)
    yield from for_each(
        context, wire.TAKE_CUSTODY, owner=owner, count=inspected.blobs, at_once=order.runs_at_once
    )
    yield from recorded(context, Kind.IMPORTS, owner, State.WAITING)
    yield from awaited(context, wire.TAKE_TURN, _judging(context, upload), _TURN)
    yield from for_each(
        context, wire.HASH_STAGED_PARTS, owner=owner, count=inspected.groups, at_once=order.hashes_at_once
    )
    accepted = yield from step(context, wire.ACCEPT_BUNDLE, _judging(context, upload))
    yield from recorded(context, Kind.IMPORTS, owner, State.VERIFIED)
    facts = yield from _cleared(context, upload, order, accepted)
    yield from recorded(context, Kind.IMPORTS, owner, State.PROMOTING, facts)
    yield from for_each(
        context, wire.PROMOTE_BLOB, owner=owner, count=inspected.blobs, at_once=order.runs_at_once
    )
    yield from recorded(context, Kind.IMPORTS, owner, State.IMPORTING)
    remark = ""
    if order.is_staged:
        remark = yield from _import_staged(context, upload, order, inspected)
    else:
        yield from _import_blobs(context, order, upload, inspected)
    yield from _for_groups(context, wire.PROVE_ARTIFACTS, upload, order, inspected)
    proven = yield from step(context, wire.CONCLUDE_IMPORT, upload)
    return proven.detail + remark


def _import_blobs(
    context: Any, order: wire.ImportOrder, upload: wire.Upload, inspected: wire.Inspected
) -> Flow[None]:
    yield from for_each(
        context, "import_blob", owner=upload.instance, count=inspected.blobs, at_once=order.runs_at_once
    )


def _for_groups(
    context: Any,
    activity: Activity[Any, Any],
    upload: wire.Upload,
    order: wire.ImportOrder,
    inspected: wire.Inspected,
) -> Flow[None]:
    """Give each group of declared artifacts to an activity."""
    yield from for_each(
        context,
        activity,
        owner=upload.instance,
        count=inspected.artifact_groups,
        at_once=order.runs_at_once,
    )


def _import_staged(
    context: Any, upload: wire.Upload, order: wire.ImportOrder, inspected: wire.Inspected
) -> Flow[str]:
    """Import into the staging registry, and bring over what is proven there; a remark on what was left there.

    All digests before any tag: what fails on the way moves no tag.
    """
    yield from awaited(context, wire.TAKE_STAGING, _judging(context, upload), _TURN)
    try:
        yield from awaited(context, wire.EMPTY_STAGING, upload, OUTAGE)
        yield from _import_blobs(context, order, upload, inspected)
        yield from _for_groups(context, wire.PROVE_STAGED, upload, order, inspected)
        yield from awaited(context, wire.SURVEY_STAGING, upload, PENDING)
        yield from step(context, wire.CONCLUDE_STAGED, upload)
        yield from _for_groups(context, wire.BRING_DIGESTS, upload, order, inspected)
        yield from _for_groups(context, wire.BRING_TAGS, upload, order, inspected)
    except Exception:
        # What goes on beside it starts no run any more once the registry is another import's.
        yield from settled(step(context, STOP_WORK, Stop(owner=upload.instance)))
        yield from settled(awaited(context, wire.LEAVE_STAGING, upload, _SOON))
        raise
    left = read_ending((yield from settled(awaited(context, wire.LEAVE_STAGING, upload, _SOON))))
    return "" if left is None else f"; the staging registry is not empty: {left.code}"


def _cleared(
    context: Any, upload: wire.Upload, order: wire.ImportOrder, accepted: wire.Accepted
) -> Flow[dict[str, Any]]:
    """Have others look at the bundle and people release it, where that is asked for; what they said.

    Both may take days, so it is judged again afterwards. The channel's turn is kept, so its order is, too.
    """
    facts: dict[str, Any] = {}
    if accepted.checks:
        facts["checks"] = yield from _checked(context, upload, order, accepted.checks)
    if not accepted.checks and not accepted.needs_release:
        return facts
    until = format_time(replay_clock(context) + timedelta(seconds=order.release_timeout_s))
    if accepted.needs_release:
        yield from recorded(context, Kind.IMPORTS, upload.instance, State.AWAITING_RELEASE, {"until": until})
    judging = _judging(context, upload)
    clearing = wire.Clearing(**msgspec.structs.asdict(judging), until=until)
    cleared = yield from awaited(context, wire.CLEAR_BUNDLE, clearing, _RELEASE)
    if accepted.needs_release:
        facts["releases"] = list(cleared.releases)
    return facts


def _checked(
    context: Any, upload: wire.Upload, order: wire.ImportOrder, checks: tuple[str, ...]
) -> Flow[list[dict[str, Any]]]:
    """Ask one check after the other; what each has looked with."""
    until = format_time(replay_clock(context) + timedelta(seconds=order.check_timeout_s))
    facts = {"checks": list(checks), "until": until}
    yield from recorded(context, Kind.IMPORTS, upload.instance, State.CHECKING, facts)
    passed: list[dict[str, Any]] = []
    for name in checks:
        judging = _judging(context, upload)
        checking = wire.Checking(**msgspec.structs.asdict(judging), check=name, until=until)
        checked = yield from awaited(context, wire.RUN_CHECK, checking, _CHECK)
        signers = [msgspec.structs.asdict(signer) for signer in checked.signers]
        told = {"scanner": checked.scanner, "answerSha256": checked.answer_sha256, "signers": signers}
        passed.append({"name": name, **told})
    return passed


def _judging(context: Any, upload: wire.Upload) -> wire.Judging:
    return wire.Judging(**msgspec.structs.asdict(upload), now=format_time(replay_clock(context)))


@bp.orchestration_trigger(context_name="context")
def import_blob(context: Any) -> Flow[Outcome]:
    """The orchestrator that imports one promoted blob, and notes what the run brought, failed or not.

    A run that failed is repeated under another name; one that is still going on after its time is not.
    """
    item = read(context.get_input(), Item)
    outcome: Outcome = {}
    for attempt in range(RUN_ATTEMPTS):
        order = wire.RunOrder(owner=item.owner, number=item.number, attempt=attempt)
        outcome = yield from settled(_run_import(context, order))
        if outcome.get("code") != Code.PIPELINE_RUN_FAILED.name or attempt == RUN_ATTEMPTS - 1:
            break
        yield context.create_timer(replay_clock(context) + _BEFORE_ANOTHER_RUN)
    noted = yield from settled(step(context, wire.NOTE_REPORT, item))
    ending = read_ending(outcome) or read_ending(noted)
    return {"outcome": "imported"} if ending is None else dump(ending)


def _run_import(context: Any, order: wire.RunOrder) -> Flow[None]:
    run = yield from step(context, wire.START_IMPORT_RUN, order)
    yield from run_succeeded(context, run)


@bp.orchestration_trigger(context_name="context")
def close_import(context: Any) -> Flow[Outcome]:
    """The orchestrator that puts the upload away, signs the decision and cleans up, without holding the turn.

    An upload that takes long to put away holds up no receipt. The documents that a receipt is made from are
    removed only after it is out, so that no receipt is lost when the vault is away for a week. If something
    could not be done, the reconciler starts this orchestration again.
    """
    closing = read(context.get_input(), wire.Closing)
    done: Outcome = {"receipt": None, "closing": "put off"}
    try:
        yield from settled(awaited(context, wire.PUT_AWAY, closing, _SOON))
        if not closing.is_imported:
            yield from settled(awaited(context, wire.TAKE_STOCK, closing, _SOON))
        issued = yield from awaited(context, wire.ISSUE_RECEIPT, closing, _RECEIPT)
        done["receipt"] = issued.receipt
        away = yield from awaited(context, wire.PUT_AWAY, closing, PENDING)
        yield from awaited(context, wire.CLEAN_UP, closing, PENDING)
        state = State.CLOSED if closing.is_imported else State.QUARANTINED
        facts: dict[str, Any] = {"receipt": issued.receipt}
        if away.held_until is not None:
            state = State.HELD
            facts["until"] = away.held_until
        if away.left_count:
            facts |= {"left": list(away.left), "leftCount": away.left_count}
        yield from _closed(context, closing.instance, state, facts)
        yield from step(context, wire.FORGET_CLOSING, closing)
        done["closing"] = "closed"
    except Exception as error:  # noqa: BLE001 - as above
        done["closingError"] = end_of(error).code
    return done


def _closed(context: Any, instance: str, state: State, facts: dict[str, Any]) -> Flow[None]:
    """Say that it is closed, unless the journal has ended otherwise: then its end stays.

    Raises:
        Ended: it could not be said. What is still known of the import is needed to close it again.
    """
    ending = read_ending((yield from settled(recorded(context, Kind.IMPORTS, instance, state, facts))))
    if ending is not None and ending.code != Code.TRANSITION_REFUSED.name:
        raise Ended(ending)
