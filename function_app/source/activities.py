"""The source's activities: each runs one step on this process's ports."""

from typing import Any

from function_app import pipeline_runs
from function_app.azure.wiring import source_side
from function_app.durable.flow import Blueprint
from function_app.durable.outcomes import run_step
from function_app.source import exporting, planning, sealing

bp = Blueprint()


@bp.activity_trigger(input_name="order")
def resolve_artifacts(order: Any) -> dict[str, Any]:
    """See :func:`planning.resolve_artifacts`."""
    return run_step(planning.resolve_artifacts, source_side, order)


@bp.activity_trigger(input_name="order")
def plan_transfer(order: Any) -> dict[str, Any]:
    """See :func:`planning.plan_transfer`."""
    return run_step(planning.plan_transfer, source_side, order)


@bp.activity_trigger(input_name="order")
def start_export_run(order: Any) -> dict[str, Any]:
    """See :func:`exporting.start_export_run`."""
    return run_step(exporting.start_export_run, source_side, order)


@bp.activity_trigger(input_name="order")
def read_pipeline_run(order: Any) -> dict[str, Any]:
    """See :func:`pipeline_runs.read_pipeline_run`."""
    return run_step(pipeline_runs.read_pipeline_run, source_side, order)


@bp.activity_trigger(input_name="order")
def confirm_export(order: Any) -> dict[str, Any]:
    """See :func:`exporting.confirm_export`."""
    return run_step(exporting.confirm_export, source_side, order)


@bp.activity_trigger(input_name="order")
def choose_part_size(order: Any) -> dict[str, Any]:
    """See :func:`exporting.choose_part_size`."""
    return run_step(exporting.choose_part_size, source_side, order)


@bp.activity_trigger(input_name="order")
def hash_parts(order: Any) -> dict[str, Any]:
    """See :func:`exporting.hash_parts`."""
    return run_step(exporting.hash_parts, source_side, order)


@bp.activity_trigger(input_name="order")
def seal_bundle(order: Any) -> dict[str, Any]:
    """See :func:`sealing.seal_bundle`."""
    return run_step(sealing.seal_bundle, source_side, order)
