"""What both sides ask of a pipeline run once it was started."""

from collections.abc import Mapping
from typing import Any

from airgap.errors import Code
from airgap.pipeline_runs import RunState, judge_run
from function_app.durable.outcomes import Outcome, ending
from function_app.ports import Ports


def started(poll_s: int, timeout_s: int, run: str) -> Outcome:
    """The outcome of a step that has started a run."""
    return {"outcome": "started", "run": run, "pollSeconds": poll_s, "timeoutSeconds": timeout_s}


def read_pipeline_run(side: Ports, order: Mapping[str, Any]) -> Outcome:
    """State of a run: ``{"run"}`` → ``active``, ``succeeded`` or ``PIPELINE_RUN_FAILED``."""
    properties = side.pipelines.get_run(order["run"])
    state, why = (RunState.ACTIVE, "") if properties is None else judge_run(properties)
    if state is RunState.FAILED:
        return ending(Code.PIPELINE_RUN_FAILED, f"run {order['run']}: {why}")
    return {"outcome": state.value}
