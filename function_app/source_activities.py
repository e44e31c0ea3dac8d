"""The source's activities: each runs one step on this process's ports."""

from typing import Any

from function_app import export_steps, planning_steps, sealing_steps
from function_app.flow import Blueprint
from function_app.outcomes import run_step
from function_app.wiring import source_side

bp = Blueprint()


@bp.activity_trigger(input_name="order")
def resolve_artifacts(order: Any) -> dict[str, Any]:
    """See :func:`planning_steps.resolve_artifacts`."""
    return run_step(planning_steps.resolve_artifacts, source_side, order)


@bp.activity_trigger(input_name="order")
def plan_transfer(order: Any) -> dict[str, Any]:
    """See :func:`planning_steps.plan_transfer`."""
    return run_step(planning_steps.plan_transfer, source_side, order)


@bp.activity_trigger(input_name="order")
def start_export_run(order: Any) -> dict[str, Any]:
    """See :func:`export_steps.start_export_run`."""
    return run_step(export_steps.start_export_run, source_side, order)


@bp.activity_trigger(input_name="order")
def read_pipeline_run(order: Any) -> dict[str, Any]:
    """See :func:`export_steps.read_pipeline_run`."""
    return run_step(export_steps.read_pipeline_run, source_side, order)


@bp.activity_trigger(input_name="order")
def confirm_export(order: Any) -> dict[str, Any]:
    """See :func:`export_steps.confirm_export`."""
    return run_step(export_steps.confirm_export, source_side, order)


@bp.activity_trigger(input_name="order")
def choose_part_size(order: Any) -> dict[str, Any]:
    """See :func:`export_steps.choose_part_size`."""
    return run_step(export_steps.choose_part_size, source_side, order)


@bp.activity_trigger(input_name="order")
def hash_parts(order: Any) -> dict[str, Any]:
    """See :func:`export_steps.hash_parts`."""
    return run_step(export_steps.hash_parts, source_side, order)


@bp.activity_trigger(input_name="order")
def seal_bundle(order: Any) -> dict[str, Any]:
    """See :func:`sealing_steps.seal_bundle`."""
    return run_step(sealing_steps.seal_bundle, source_side, order)
