"""The words in which orchestrators are written: a step, a wait, many steps of one kind.

Everything here is replayed: no clock but the context's, nothing from outside. Whatever may take long happens
in a sub-orchestration that begins its history anew (:mod:`~function_app.durable.waiting`,
:mod:`~function_app.durable.lanes`), so that no history grows with the size of a transfer or the length of an
outage.
"""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import azure.durable_functions as df
import msgspec

from airgap.errors import Code
from airgap.fields import format_time
from function_app.durable.blueprint import Activity
from function_app.durable.outcomes import Ended, Outcome, end_of, read_ending
from function_app.messages import Message, Result, dump, read
from function_app.tally import EMPTY

T = TypeVar("T")
O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741 - an order
R = TypeVar("R", bound=msgspec.Struct)
Flow = Generator[Any, Any, T]

RETRY = df.RetryOptions(first_retry_interval_in_milliseconds=5_000, max_number_of_attempts=3)
"""On top of the SDKs' own retries with back-off; a longer outage is waited out by ``await_outcome``."""

AWAIT_OUTCOME = "await_outcome"
RUN_LANE = "run_lane"
OUTAGES = frozenset(
    {Code.SERVICE_UNREACHABLE, Code.SERVICE_THROTTLED, Code.PIPELINE_UNFIT, Code.STAGING_UNFIT}
)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """A way of waiting: pauses in seconds, doubled from the first to the longest, until the time is over."""

    pause_s: int
    longest_pause_s: int
    at_most_s: int | None = None
    """``None``: for as long as it takes, since somebody else bounds it."""
    late: Code = Code.SERVICE_THROTTLED
    """What it comes to when the time is over without an answer."""
    insists: bool = False
    """Whether a refusal or failure is asked again, too, until the time is over."""


OUTAGE = Patience(pause_s=30, longest_pause_s=600, at_most_s=10 * 24 * 3600)
"""Ten days, after which a cloud is taken to be down for good."""

PENDING = Patience(pause_s=5, longest_pause_s=60, at_most_s=24 * 3600)
"""A day for what the storage does by itself, such as copying."""


class Wait(Message, frozen=True):
    """The input of ``await_outcome``."""

    activity: str
    order: dict[str, Any]
    pause_s: int
    longest_pause_s: int
    deadline: str | None
    late: str
    insists: bool
    as_of: str | None = None
    """When this was written; ``None`` in an order of an earlier version."""


class Lane(Message, frozen=True, omit_defaults=True):
    """The input of ``run_lane``: the items ``next``, ``next + stride``, … below ``count``, one by one."""

    calls: str
    """Name of the activity or orchestration that each item is given to."""
    is_orchestration: bool
    owner: str
    next: int
    stride: int
    count: int
    pinned: str = ""
    """What each item's order says of the document that it is worked on by."""
    tally: str = EMPTY
    """Of what the items so far have written; see :mod:`~function_app.tally`."""


class LaneDone(Result, frozen=True, tag="done", omit_defaults=True):
    """The result of a lane: every item is done, and the documents that they wrote come to this tally."""

    tally: str = EMPTY


def attempt(context: Any, name: str, order: dict[str, Any]) -> Flow[Outcome]:
    """The outcome of an activity, whatever it is; an outage longer than its retries is waited out.

    Args:
        context: the orchestration's context.
        name: the name of the activity.
        order: its input, as JSON.
    """
    outcome: Outcome
    try:
        outcome = yield context.call_activity_with_retry(name, RETRY, order)
    except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
        ending = end_of(error)
        if Code[ending.code] not in OUTAGES:
            return dump(ending)
        outcome = yield from waited(context, name, order, OUTAGE)
    return outcome


def step(context: Any, activity: Activity[O, R], order: O) -> Flow[R]:
    """The result of an activity that is neither refused nor failed.

    Raises:
        Ended: the activity refused or failed, or an outage did not end.
    """
    return require((yield from attempt(context, activity.name, dump(order))), activity.result)


def awaited(context: Any, activity: Activity[O, R], order: O, patience: Patience) -> Flow[R]:
    """The result of an activity, asked again by durable timer as long as it answers ``pending``.

    Raises:
        Ended: the activity refused or failed, or was still pending when the patience was over.
    """
    return require((yield from waited(context, activity.name, dump(order), patience)), activity.result)


def waited(context: Any, name: str, order: dict[str, Any], patience: Patience) -> Flow[Outcome]:
    """The first outcome of an activity that is not ``pending``, whatever it is; see :func:`awaited`."""
    now = replay_clock(context)
    deadline = patience.at_most_s and now + timedelta(seconds=patience.at_most_s)
    wait = Wait(
        activity=name,
        order=order,
        pause_s=patience.pause_s,
        longest_pause_s=patience.longest_pause_s,
        deadline=format_time(deadline) if deadline else None,
        late=patience.late.name,
        insists=patience.insists,
        as_of=format_time(now),
    )
    outcome: Outcome
    try:
        outcome = yield context.call_sub_orchestrator(AWAIT_OUTCOME, dump(wait))
    except Exception as error:  # noqa: BLE001 - somebody has terminated it; end_of raises what is no outcome
        outcome = dump(end_of(error))
    return outcome


def for_each(
    context: Any, calls: Activity[Any, Any] | str, *, owner: str, count: int, at_once: int, pinned: str = ""
) -> Flow[tuple[str, ...]]:
    """Give each of ``count`` items to an activity, or to the named orchestration; ``at_once`` at a time.

    Each lane takes its next item as soon as it is done with one: no item waits for the slowest of a wave. The
    results of the items lie in the working documents of ``owner``.

    Args:
        context: the orchestration's context.
        calls: the activity, or the orchestration's name.
        owner: the orchestration that the working documents belong to.
        count: how many items there are.
        at_once: the most lanes.
        pinned: the hex SHA-256 of the working document that tells the items what to do.

    Returns:
        Each lane's tally of the documents that its items have written.

    Raises:
        Ended: an item was refused or failed; the lanes have stopped by then.
    """
    if count == 0:  # the SDK gives no list for no tasks
        return ()
    width = min(at_once, count)
    lanes = [
        Lane(
            calls=calls if isinstance(calls, str) else calls.name,
            is_orchestration=isinstance(calls, str),
            owner=owner,
            next=number,
            stride=width,
            count=count,
            pinned=pinned,
        )
        for number in range(width)
    ]
    outcomes = yield context.task_all([context.call_sub_orchestrator(RUN_LANE, dump(lane)) for lane in lanes])
    endings = [ending for outcome in outcomes if (ending := read_ending(outcome)) is not None]
    # What made the lanes stop counts, not that they were stopped.
    for ending in sorted(endings, key=lambda one: one.code == Code.TRANSITION_REFUSED.name):
        raise Ended(ending)
    return tuple(read(outcome, LaneDone).tally for outcome in outcomes)


def settled(flow: Flow[R] | Flow[None]) -> Flow[Outcome]:
    """The outcome of ``flow``, as a value also when it fails, so that the next step has its turn."""
    try:
        result = yield from flow
    except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
        return dump(end_of(error))
    return {"outcome": "done"} if result is None else dump(result)


def require(outcome: Outcome, kind: type[R]) -> R:
    """The outcome as a ``kind``, if it is neither a refusal nor a failure.

    Raises:
        Ended: it is a refusal or a failure.
    """
    ending = read_ending(outcome)
    if ending is not None:
        raise Ended(ending)
    return read(outcome, kind)


def replay_clock(context: Any) -> datetime:
    """The time of this replay step, aware; the same each time the step is replayed."""
    moment: datetime = context.current_utc_datetime
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
