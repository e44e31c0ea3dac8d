"""The activity by which an orchestration says in the journal where it stands."""

from typing import Any

from airgap.fields import format_time, parse_time
from airgap.states import Kind, State
from function_app.durable.blueprint import Activity
from function_app.durable.flow import Flow, replay_clock, step
from function_app.journal.store import JournalStore
from function_app.messages import Message, Result
from function_app.ports import Ports

BY_APP = "app"


class Record(Message, frozen=True):
    """The order to record the state that a transfer or an import has reached; ``at`` is RFC 3339, UTC."""

    kind: Kind
    about: str
    state: State
    facts: dict[str, Any]
    at: str


class Recorded(Result, frozen=True):
    """The result of recording a state: the entry is in the journal."""


RECORD_STATE = Activity("record_state", Record, Recorded)


def record_state(side: Ports, order: Record) -> Recorded:
    """Write the journal entry that the order asks for, unless it was written before.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer or import has come to another state meanwhile,
            such as cancelled.
    """
    journals = JournalStore(side.blobs, side.projection)
    journals.record(order.kind, order.about, order.state, order.facts, by=BY_APP, at=parse_time(order.at))
    return Recorded()


def recorded(
    context: Any, kind: Kind, about: str, state: State, facts: dict[str, Any] | None = None
) -> Flow[None]:
    """Record in the journal that ``about`` has come to ``state``, at the time of this step.

    Raises:
        Ended: ``about`` has come to something else meanwhile, such as cancelled.
    """
    record = Record(
        kind=kind, about=about, state=state, facts=facts or {}, at=format_time(replay_clock(context))
    )
    yield from step(context, RECORD_STATE, record)
