"""The target's activities: each runs one step on this process's ports."""

from typing import Any

from function_app import admission_steps, closing_steps, export_steps, import_steps
from function_app.flow import Blueprint
from function_app.outcomes import run_step
from function_app.wiring import target_side

bp = Blueprint()


@bp.activity_trigger(input_name="order")
def admit_bundle(order: Any) -> dict[str, Any]:
    """See :func:`admission_steps.admit_bundle`."""
    return run_step(admission_steps.admit_bundle, target_side, order)


@bp.activity_trigger(input_name="order")
def take_turn(order: Any) -> dict[str, Any]:
    """See :func:`admission_steps.take_turn`."""
    return run_step(admission_steps.take_turn, target_side, order)


@bp.activity_trigger(input_name="order")
def inspect_blobs(order: Any) -> dict[str, Any]:
    """See :func:`admission_steps.inspect_blobs`."""
    return run_step(admission_steps.inspect_blobs, target_side, order)


@bp.activity_trigger(input_name="order")
def hash_incoming_parts(order: Any) -> dict[str, Any]:
    """See :func:`admission_steps.hash_incoming_parts`."""
    return run_step(admission_steps.hash_incoming_parts, target_side, order)


@bp.activity_trigger(input_name="order")
def accept_bundle(order: Any) -> dict[str, Any]:
    """See :func:`admission_steps.accept_bundle`."""
    return run_step(admission_steps.accept_bundle, target_side, order)


@bp.activity_trigger(input_name="order")
def promote_blob(order: Any) -> dict[str, Any]:
    """See :func:`import_steps.promote_blob`."""
    return run_step(import_steps.promote_blob, target_side, order)


@bp.activity_trigger(input_name="order")
def start_import_run(order: Any) -> dict[str, Any]:
    """See :func:`import_steps.start_import_run`."""
    return run_step(import_steps.start_import_run, target_side, order)


@bp.activity_trigger(input_name="order")
def read_pipeline_run(order: Any) -> dict[str, Any]:
    """See :func:`export_steps.read_pipeline_run`."""
    return run_step(export_steps.read_pipeline_run, target_side, order)


@bp.activity_trigger(input_name="order")
def prove_artifacts(order: Any) -> dict[str, Any]:
    """See :func:`import_steps.prove_artifacts`."""
    return run_step(import_steps.prove_artifacts, target_side, order)


@bp.activity_trigger(input_name="order")
def quarantine_upload(order: Any) -> dict[str, Any]:
    """See :func:`closing_steps.quarantine_upload`."""
    return run_step(closing_steps.quarantine_upload, target_side, order)


@bp.activity_trigger(input_name="order")
def issue_receipt(order: Any) -> dict[str, Any]:
    """See :func:`closing_steps.issue_receipt`."""
    return run_step(closing_steps.issue_receipt, target_side, order)


@bp.activity_trigger(input_name="order")
def clean_up(order: Any) -> dict[str, Any]:
    """See :func:`closing_steps.clean_up`."""
    return run_step(closing_steps.clean_up, target_side, order)
