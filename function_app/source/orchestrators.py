"""The source's order of things: plan, export, hash, seal. Replayed: no I/O, no clock but the context's."""

from typing import Any

from airgap.errors import Code
from airgap.fields import format_time
from airgap.parts import blob_name, part_count
from airgap.pipeline_runs import batch
from function_app.durable.flow import (
    PARALLEL_HASHES,
    PARALLEL_RUNS,
    Blueprint,
    Flow,
    hash_groups,
    pipeline_run,
    replay_clock,
    step,
    steps,
    sub_flows,
)
from function_app.durable.outcomes import Outcome, end_of, ending

bp = Blueprint()

MAX_EXPORT_ATTEMPTS = 3
_REFERENCES_PER_GROUP = 50
_BLOBS_HASHED_AT_ONCE = 2


@bp.orchestration_trigger(context_name="context")
def export_transfer(context: Any) -> Flow[Outcome]:
    """One transfer, from its order to the sealed bundle."""
    order = context.get_input()
    transfer = {"transferId": order["transferId"]}
    try:
        context.set_custom_status({"phase": "planning"})
        groups = [
            {**transfer, "group": number, "artifacts": references}
            for number, references in enumerate(batch(order["artifacts"], _REFERENCES_PER_GROUP))
        ]
        yield from steps(context, "resolve_artifacts", groups, at_once=PARALLEL_RUNS)
        plan = yield from step(context, "plan_transfer", transfer)
        names = [{**transfer, "blob": blob_name(number + 1)} for number in range(plan["blobs"])]
        exported = yield from sub_flows(
            context, "export_blob", names, at_once=PARALLEL_RUNS, phase="exporting"
        )
        sizes = [blob["sizeBytes"] for blob in exported]
        chosen = yield from step(context, "choose_part_size", {"sizes": sizes})
        blobs = [
            {**blob, **transfer, "partSizeBytes": part_size}
            for blob, part_size in zip(exported, chosen["partSizes"], strict=True)
        ]
        yield from sub_flows(context, "hash_blob", blobs, at_once=_BLOBS_HASHED_AT_ONCE, phase="hashing")
        context.set_custom_status({"phase": "sealing"})
        terms = {name: order[name] for name in ("channel", "audience", "expiresInSeconds")}
        created_at = format_time(replay_clock(context))
        sealed = yield from step(
            context, "seal_bundle", {**transfer, **terms, "createdAt": created_at, "blobs": blobs}
        )
    except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
        return end_of(error)
    return sealed


@bp.orchestration_trigger(context_name="context")
def export_blob(context: Any) -> Flow[Outcome]:
    """One batch: run its export until no tag has moved under it, three times at most."""
    order = context.get_input()
    try:
        for attempt in range(1, MAX_EXPORT_ATTEMPTS + 1):
            this = {**order, "attempt": attempt}
            started = yield from step(context, "start_export_run", this)
            yield from pipeline_run(context, started["run"], started)
            confirmed = yield from step(context, "confirm_export", {**this, "run": started["run"]})
            if confirmed["outcome"] == "exported":
                return confirmed
    except Exception as error:  # noqa: BLE001 - as above
        return end_of(error)
    return ending(Code.EXPORT_INCONSISTENT, f"{confirmed['reference']} moved in each of {attempt} exports")


@bp.orchestration_trigger(context_name="context")
def hash_blob(context: Any) -> Flow[Outcome]:
    """All part digests of one blob."""
    blob = context.get_input()
    fixed = {name: blob[name] for name in ("transferId", "etag", "sizeBytes", "partSizeBytes")}
    groups = [
        {**fixed, "blob": blob["name"], "first": first, "count": count}
        for first, count in hash_groups(
            part_count(blob["sizeBytes"], blob["partSizeBytes"]), blob["partSizeBytes"]
        )
    ]
    try:
        yield from steps(context, "hash_parts", groups, at_once=PARALLEL_HASHES)
    except Exception as error:  # noqa: BLE001 - as above
        return end_of(error)
    return {"outcome": "hashed"}
