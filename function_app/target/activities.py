"""The target's activities: each runs one step on this process's ports."""

from typing import Any

from function_app import pipeline_runs
from function_app.azure.wiring import target_side
from function_app.durable.flow import Blueprint
from function_app.durable.outcomes import run_step
from function_app.target import admission, closing, importing

bp = Blueprint()


@bp.activity_trigger(input_name="order")
def admit_bundle(order: Any) -> dict[str, Any]:
    """See :func:`admission.admit_bundle`."""
    return run_step(admission.admit_bundle, target_side, order)


@bp.activity_trigger(input_name="order")
def take_turn(order: Any) -> dict[str, Any]:
    """See :func:`admission.take_turn`."""
    return run_step(admission.take_turn, target_side, order)


@bp.activity_trigger(input_name="order")
def inspect_blobs(order: Any) -> dict[str, Any]:
    """See :func:`admission.inspect_blobs`."""
    return run_step(admission.inspect_blobs, target_side, order)


@bp.activity_trigger(input_name="order")
def hash_incoming_parts(order: Any) -> dict[str, Any]:
    """See :func:`admission.hash_incoming_parts`."""
    return run_step(admission.hash_incoming_parts, target_side, order)


@bp.activity_trigger(input_name="order")
def accept_bundle(order: Any) -> dict[str, Any]:
    """See :func:`admission.accept_bundle`."""
    return run_step(admission.accept_bundle, target_side, order)


@bp.activity_trigger(input_name="order")
def promote_blob(order: Any) -> dict[str, Any]:
    """See :func:`importing.promote_blob`."""
    return run_step(importing.promote_blob, target_side, order)


@bp.activity_trigger(input_name="order")
def start_import_run(order: Any) -> dict[str, Any]:
    """See :func:`importing.start_import_run`."""
    return run_step(importing.start_import_run, target_side, order)


@bp.activity_trigger(input_name="order")
def read_pipeline_run(order: Any) -> dict[str, Any]:
    """See :func:`pipeline_runs.read_pipeline_run`."""
    return run_step(pipeline_runs.read_pipeline_run, target_side, order)


@bp.activity_trigger(input_name="order")
def prove_artifacts(order: Any) -> dict[str, Any]:
    """See :func:`importing.prove_artifacts`."""
    return run_step(importing.prove_artifacts, target_side, order)


@bp.activity_trigger(input_name="order")
def quarantine_upload(order: Any) -> dict[str, Any]:
    """See :func:`closing.quarantine_upload`."""
    return run_step(closing.quarantine_upload, target_side, order)


@bp.activity_trigger(input_name="order")
def issue_receipt(order: Any) -> dict[str, Any]:
    """See :func:`closing.issue_receipt`."""
    return run_step(closing.issue_receipt, target_side, order)


@bp.activity_trigger(input_name="order")
def clean_up(order: Any) -> dict[str, Any]:
    """See :func:`closing.clean_up`."""
    return run_step(closing.clean_up, target_side, order)
