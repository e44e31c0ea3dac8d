"""Words that orchestrators are written in: retried steps, bounded fan-out, waiting.

Everything here is replayed: no clock but the context's, nothing from outside.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import azure.durable_functions as df

from airgap.errors import Code
from airgap.pipeline_runs import batch
from function_app.durable.outcomes import Ended, end_of, ending, has_ended

T = TypeVar("T")
Flow = Generator[Any, Any, T]
Declare = Callable[[Callable[..., Any]], Any]

RETRY = df.RetryOptions(first_retry_interval_in_milliseconds=5_000, max_number_of_attempts=12)
"""On top of the SDKs' own retries with back-off: about a minute of waiting, several minutes in all."""

PARALLEL_RUNS = 5
PARALLEL_HASHES = 8
_POLL_S = 5
_LONGEST_POLL_S = 60
_MAX_POLLS = 1500
"""A day and more of :func:`repeated`."""
_OUTAGES = frozenset({Code.SERVICE_UNREACHABLE, Code.SERVICE_THROTTLED})
_PAUSE_S = 30
_LONGEST_PAUSE_S = 600
_MAX_PAUSES = 40
"""Six hours of :func:`step`, after which a cloud is taken to be down for good."""
_LONGEST_WAIT_S = 3600
_MAX_WAITS = 240
"""Ten days of :func:`persistently`."""
_PARTS_PER_GROUP = 16
_BYTES_PER_GROUP = 2 * 1024**3
_MAX_GROUPS = 512


class Blueprint(df.Blueprint):
    """A Durable blueprint whose decorators have types."""

    def orchestration_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare an orchestrator."""
        return cast("Declare", super().orchestration_trigger(*args, **kwargs))

    def activity_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare an activity."""
        return cast("Declare", super().activity_trigger(*args, **kwargs))

    def durable_client_input(self, *args: Any, **kwargs: Any) -> Declare:
        """Bind a durable client."""
        return cast("Declare", super().durable_client_input(*args, **kwargs))


def step(context: Any, activity: str, order: Mapping[str, Any]) -> Flow[dict[str, Any]]:
    """Result of an activity; an outage of the cloud is waited out for some hours, with growing pauses.

    Raises:
        Ended: it came back as refused or failed, or the outage did not end.
    """
    pause = _PAUSE_S
    for _ in range(_MAX_PAUSES):
        try:
            result: dict[str, Any] = yield context.call_activity_with_retry(activity, RETRY, dict(order))
        except Exception as error:  # noqa: BLE001 - end_of raises again what is no outcome
            end = end_of(error)
            if Code[end["code"]] not in _OUTAGES:
                raise Ended(end) from None
        else:
            if has_ended(result):
                raise Ended(result)
            return result
        yield context.create_timer(replay_clock(context) + timedelta(seconds=pause))
        pause = min(pause * 2, _LONGEST_PAUSE_S)
    raise Ended(end)


def steps(
    context: Any, activity: str, orders: Iterable[Mapping[str, Any]], *, at_once: int
) -> Flow[list[dict[str, Any]]]:
    """Results of one activity for many orders, at most ``at_once`` of them at a time, in order."""
    results: list[dict[str, Any]] = []
    for wave in batch([dict(order) for order in orders], at_once):
        tasks = [context.call_activity_with_retry(activity, RETRY, order) for order in wave]
        results += yield context.task_all(tasks)
        _require(results)
    return results


def sub_flows(
    context: Any, name: str, orders: Sequence[Mapping[str, Any]], *, at_once: int, phase: str
) -> Flow[list[dict[str, Any]]]:
    """Results of one sub-orchestration for many orders, at most ``at_once`` of them at a time, in order.

    The custom status says how many of the ``phase`` are done.
    """
    results: list[dict[str, Any]] = []
    for wave in batch([dict(order) for order in orders], at_once):
        context.set_custom_status({"phase": phase, "blobsDone": len(results), "blobs": len(orders)})
        results += yield context.task_all([context.call_sub_orchestrator(name, order) for order in wave])
        _require(results)
    return results


def repeated(context: Any, activity: str, order: Mapping[str, Any]) -> Flow[dict[str, Any]]:
    """The first result of an activity that is not ``pending``, asked again by durable timer.

    Raises:
        Ended: refused or failed, or still pending after a day (``SERVICE_THROTTLED``).
    """
    pause = _POLL_S
    for _ in range(_MAX_POLLS):
        result = yield from step(context, activity, order)
        if result["outcome"] != "pending":
            return result
        yield context.create_timer(replay_clock(context) + timedelta(seconds=pause))
        pause = min(pause * 2, _LONGEST_POLL_S)
    raise Ended(ending(Code.SERVICE_THROTTLED, f"{activity} did not finish"))


def persistently(context: Any, activity: str, order: Mapping[str, Any]) -> Flow[dict[str, Any]]:
    """The first good result of an activity that must not be left out, whatever it fails of meanwhile.

    Raises:
        Ended: it did not succeed for ten days.
    """
    pause = _PAUSE_S
    for _ in range(_MAX_WAITS):
        try:
            result = yield from step(context, activity, order)
        except Ended as ended:
            end = ended.outcome
        else:
            return result
        yield context.create_timer(replay_clock(context) + timedelta(seconds=pause))
        pause = min(pause * 2, _LONGEST_WAIT_S)
    raise Ended(end)


def pipeline_run(context: Any, run: str, started: Mapping[str, Any]) -> Flow[dict[str, Any]]:
    """How a pipeline run ended; polled by durable timers with a growing interval.

    Args:
        context: the orchestration's.
        run: name of the run.
        started: ``pollSeconds`` and ``timeoutSeconds``.
    """
    deadline = replay_clock(context) + timedelta(seconds=started["timeoutSeconds"])
    pause, longest = started["pollSeconds"], 4 * started["pollSeconds"]
    while True:
        state = yield from step(context, "read_pipeline_run", {"run": run})
        if state["outcome"] != "active":
            return state
        if replay_clock(context) >= deadline:
            raise Ended(ending(Code.PIPELINE_RUN_TIMEOUT, f"run {run}"))
        yield context.create_timer(replay_clock(context) + timedelta(seconds=pause))
        pause = min(pause * 2, longest)


def hash_groups(part_count: int, part_size_bytes: int) -> list[tuple[int, int]]:
    """Parts 1 to ``part_count`` in groups for one activity each: (number of the first, how many).

    At most 16 parts and 2 GiB a group, so that an activity ends well within the function timeout; more only
    where there would be over 512 groups, so that the history stays small.
    """
    size = max(1, min(_PARTS_PER_GROUP, _BYTES_PER_GROUP // part_size_bytes), -(-part_count // _MAX_GROUPS))
    return [(first, min(size, part_count - first + 1)) for first in range(1, part_count + 1, size)]


def replay_clock(context: Any) -> datetime:
    """The time of this replay step: the same each time it is replayed."""
    moment: datetime = context.current_utc_datetime
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _require(results: Sequence[dict[str, Any]]) -> None:
    for result in results:
        if has_ended(result):
            raise Ended(result)
