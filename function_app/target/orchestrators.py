"""The target's order of things: admit, verify, accept, import, prove, record. Replayed, as the source's."""

from typing import Any

from airgap.fields import format_time
from function_app.durable.flow import (
    PARALLEL_HASHES,
    PARALLEL_RUNS,
    Blueprint,
    Flow,
    hash_groups,
    persistently,
    pipeline_run,
    repeated,
    replay_clock,
    step,
    steps,
    sub_flows,
)
from function_app.durable.outcomes import Outcome, end_of

bp = Blueprint()

_BLOBS_HASHED_AT_ONCE = 2


@bp.orchestration_trigger(context_name="context")
def import_bundle(context: Any) -> Flow[Outcome]:
    """One upload, from the arrival of its bundle manifest to the receipt.

    Whatever it comes to: the upload is put away, and the decision is signed and stored, in this order.
    """
    received = context.get_input()
    order = {**received, "instance": context.instance_id, "manifestEtag": received["etag"]}
    order["now"] = format_time(replay_clock(context))
    try:
        end = yield from _verify_and_import(context, order)
    except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
        end = end_of(error)
    if end["outcome"] == "superseded":
        return end
    is_imported = end["outcome"] == "imported"
    decided = {
        "decidedAt": format_time(replay_clock(context)),
        "code": end.get("code"),
        "detail": end["detail"],
    }
    context.set_custom_status({"phase": "closing"})
    if not is_imported:
        moved = yield from _settled(repeated(context, "quarantine_upload", order))
        end = {**end, "quarantine": moved["outcome"]}
    # What it is made from is removed only afterwards: a vault that is away for a week costs no receipt.
    issued = yield from _settled(persistently(context, "issue_receipt", {**order, **decided}))
    if issued["outcome"] != "issued":
        return {**end, "receipt": None, "cleanUp": "put off", "receiptError": issued["code"]}
    cleaned = yield from _settled(repeated(context, "clean_up", {**order, "isImported": is_imported}))
    return {**end, "receipt": issued["receipt"], "cleanUp": cleaned["outcome"]}


def _verify_and_import(context: Any, order: dict[str, Any]) -> Flow[Outcome]:
    """``imported`` or ``superseded``; raises for anything else."""
    context.set_custom_status({"phase": "admitting"})
    admitted = yield from step(context, "admit_bundle", order)
    if admitted["outcome"] == "superseded":
        return admitted
    context.set_custom_status({"phase": "waiting"})
    yield from repeated(context, "take_turn", order)
    inspected = yield from step(context, "inspect_blobs", order)
    blobs = [{**order, **blob} for blob in inspected["blobs"]]
    yield from sub_flows(context, "hash_incoming_blob", blobs, at_once=_BLOBS_HASHED_AT_ONCE, phase="hashing")
    yield from step(context, "accept_bundle", order)
    yield from sub_flows(context, "import_blob", blobs, at_once=PARALLEL_RUNS, phase="importing")
    context.set_custom_status({"phase": "proving"})
    proven = yield from step(context, "prove_artifacts", order)
    return {"outcome": "imported", "detail": proven["detail"]}


@bp.orchestration_trigger(context_name="context")
def hash_incoming_blob(context: Any) -> Flow[Outcome]:
    """Every part of one uploaded blob against its signed digest."""
    order = context.get_input()
    groups = [
        {**order, "first": first, "count": count}
        for first, count in hash_groups(order["parts"], order["partSizeBytes"])
    ]
    try:
        yield from steps(context, "hash_incoming_parts", groups, at_once=PARALLEL_HASHES)
    except Exception as error:  # noqa: BLE001 - as above
        return end_of(error)
    return {"outcome": "hashed"}


@bp.orchestration_trigger(context_name="context")
def import_blob(context: Any) -> Flow[Outcome]:
    """One verified blob: promote it, run its import."""
    order = context.get_input()
    try:
        yield from repeated(context, "promote_blob", order)
        started = yield from step(context, "start_import_run", order)
        yield from pipeline_run(context, started["run"], started)
    except Exception as error:  # noqa: BLE001 - as above
        return end_of(error)
    return {"outcome": "imported"}


def _settled(flow: Flow[Outcome]) -> Flow[Outcome]:
    """How ``flow`` ended, as a value: its failure must not keep the next step from its turn."""
    try:
        result = yield from flow
    except Exception as error:  # noqa: BLE001 - as above
        return end_of(error)
    return result
