"""``await_outcome``: the one place where an orchestration waits."""

from datetime import timedelta
from typing import Any

from airgap.errors import Code
from airgap.fields import format_time, parse_time
from function_app.durable.blueprint import Blueprint
from function_app.durable.flow import AWAIT_OUTCOME, OUTAGES, RETRY, Flow, Wait, replay_clock
from function_app.durable.outcomes import Outcome, end_of, ending, read_ending
from function_app.messages import dump, read

bp = Blueprint()

_ROUNDS = 10
"""Some 80 events, or 280 in an outage; then the history begins anew. Each round replays all that came before
it in the same history, so that a long wait costs many times as much with histories as long as allowed."""
_LONGEST_ANSWER = timedelta(minutes=90)
"""Three attempts of an activity, each as long as `host.json` lets it run: longer, and the app was away."""


@bp.function_name(AWAIT_OUTCOME)
@bp.orchestration_trigger(context_name="context")
def await_outcome(context: Any) -> Flow[Outcome | None]:
    """The orchestrator that asks an activity until its outcome counts, with growing pauses, for any time.

    ``pending`` and what only a later attempt can cure do not count; nor do refusals and failures where the
    order insists. An activity that judges by a time, ``now``, is told that of each round: what it says must
    not go stale with the waiting. When the deadline has passed, the last refusal or failure is the outcome,
    else ``late``. Time in which nobody asked, since the app was away or the clock jumped, takes no patience:
    the deadline is put off by it.
    """
    wait = read(context.get_input(), Wait)
    now = replay_clock(context)
    idle = now - parse_time(wait.as_of) if wait.as_of else timedelta()
    pause_s = wait.pause_s
    for _ in range(_ROUNDS):
        asked_at = now
        outcome, is_final = yield from _ask(context, wait)
        now = replay_clock(context)
        if is_final:
            return outcome
        idle += _beyond(_LONGEST_ANSWER, now - asked_at)
        if wait.deadline is not None and now >= parse_time(wait.deadline) + idle:
            is_answer = read_ending(outcome) is not None
            return outcome if is_answer else dump(ending(Code[wait.late], f"{wait.activity} did not finish"))
        pause = timedelta(seconds=pause_s)
        yield context.create_timer(now + pause)
        woken_at = replay_clock(context)
        idle += _beyond(pause, woken_at - now)
        now = woken_at
        pause_s = min(pause_s * 2, wait.longest_pause_s)
    deadline = wait.deadline and format_time(parse_time(wait.deadline) + idle)
    following = {"pauseS": pause_s, "deadline": deadline, "asOf": format_time(now)}
    context.continue_as_new({**dump(wait), **following})
    return None


def _beyond(expected: timedelta, took: timedelta) -> timedelta:
    return max(timedelta(), took - expected)


def _ask(context: Any, wait: Wait) -> Flow[tuple[Outcome, bool]]:
    """What the activity says now, and whether that is what is waited for."""
    order = wait.order
    if "now" in order:
        order = {**order, "now": format_time(replay_clock(context))}
    try:
        outcome: Outcome = yield context.call_activity_with_retry(wait.activity, RETRY, order)
    except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
        found = end_of(error)
        return dump(found), not (wait.insists or Code[found.code] in OUTAGES)
    if outcome["outcome"] == "pending":
        return outcome, False
    return outcome, not (wait.insists and read_ending(outcome) is not None)
