"""The watching of a pipeline run once it was started, on either side."""

from typing import Any

from airgap.errors import Code
from airgap.pipeline_runs import RunState, failure_cause, judge_run
from function_app.durable.blueprint import Activity
from function_app.durable.flow import Flow, Patience, awaited
from function_app.durable.outcomes import Failed, Pending, Refused, ending
from function_app.messages import Message, Result
from function_app.pipeline_sas import sas_ends_at
from function_app.ports import Ports

_MOST_TOLD = 300
"""Characters of the service's own words, so that there is room for the likely cause."""


class Started(Result, frozen=True):
    """The result of starting a run: it is looked at every ``poll_s`` seconds, for ``timeout_s`` at most."""

    run: str
    poll_s: int
    timeout_s: int


class Run(Message, frozen=True):
    """The input of ``read_pipeline_run``: the name of a run."""

    run: str


class Succeeded(Result, frozen=True):
    """The result of watching a run: it succeeded, by all signals that the service gives."""


READ_PIPELINE_RUN = Activity("read_pipeline_run", Run, Succeeded)


def started(side: Ports, run: str) -> Started:
    """The result of a step that has started a run, with this side's settings for watching it."""
    settings = side.settings
    return Started(run=run, poll_s=settings.pipeline_run_poll_s, timeout_s=settings.pipeline_run_timeout_s)


def read_pipeline_run(side: Ports, order: Run) -> Succeeded | Pending | Refused | Failed:
    """Ask how a run stands: it goes on, has succeeded, or failed with ``PIPELINE_RUN_FAILED``.

    The service's words go into history, journal and receipt, without what is secret in them, and with the
    likely cause where they tell one.
    """
    properties = side.pipelines.get_run(order.run)
    state, why = (RunState.ACTIVE, "") if properties is None else judge_run(properties)
    if state is RunState.FAILED:
        cause = failure_cause(why, properties or {}, sas_ends_at(side))
        told = f"run {order.run}: {why[:_MOST_TOLD]}"
        return ending(Code.PIPELINE_RUN_FAILED, f"{told}; likely {cause}" if cause else told)
    return Pending() if state is RunState.ACTIVE else Succeeded()


def run_succeeded(context: Any, run: Started) -> Flow[None]:
    """Wait for a run to succeed.

    Raises:
        Ended: the run failed, or was still going on after its time (``PIPELINE_RUN_TIMEOUT``).
    """
    patience = Patience(
        pause_s=run.poll_s,
        longest_pause_s=4 * run.poll_s,
        at_most_s=run.timeout_s,
        late=Code.PIPELINE_RUN_TIMEOUT,
    )
    yield from awaited(context, READ_PIPELINE_RUN, Run(run=run.run), patience)
