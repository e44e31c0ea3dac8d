"""``run_lane``: many items one after the other, as one of several lanes side by side."""

from typing import Any

import msgspec

from function_app.durable.blueprint import Blueprint
from function_app.durable.flow import PENDING, RUN_LANE, Flow, Lane, LaneDone, attempt, waited
from function_app.durable.outcomes import Outcome, end_of, read_ending
from function_app.durable.stopping import STOP_WORK, Stop
from function_app.messages import Item, dump, read
from function_app.tally import extend

bp = Blueprint()

_ITEMS = 20
"""Some 80 events, or 400 if an outage meets every item; then the history begins anew. Shorter histories cost
less to replay, see :mod:`~function_app.durable.waiting`."""


@bp.function_name(RUN_LANE)
@bp.orchestration_trigger(context_name="context")
def run_lane(context: Any) -> Flow[Outcome | None]:
    """The orchestrator of a lane: its items one by one; the first that refuses or fails ends all lanes."""
    lane = read(context.get_input(), Lane)
    numbers = range(lane.next, lane.count, lane.stride)
    tally = lane.tally
    for number in numbers[:_ITEMS]:
        order = dump(Item(owner=lane.owner, number=number, pinned=lane.pinned))
        if lane.is_orchestration:
            try:
                outcome: Outcome = yield context.call_sub_orchestrator(lane.calls, order)
            except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
                outcome = dump(end_of(error))
        else:
            outcome = yield from attempt(context, lane.calls, order)
            if outcome["outcome"] == "pending":
                outcome = yield from waited(context, lane.calls, order, PENDING)
        if read_ending(outcome) is not None:
            yield from attempt(context, STOP_WORK.name, dump(Stop(owner=lane.owner)))
            return outcome
        tally = extend(tally, outcome)
    if len(numbers) > _ITEMS:
        context.continue_as_new(dump(msgspec.structs.replace(lane, next=numbers[_ITEMS], tally=tally)))
        return None
    return dump(LaneDone(tally=tally))
