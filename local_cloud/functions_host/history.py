"""The history of one orchestration, in the JSON shape that the Python SDK reads.

An event is a dict with `EventType`, `EventId`, `Timestamp` and the fields of its type. `IsPlayed` is not
stored: it says on which side of the current step an event lies and is added when the payload is built.
"""

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

Event = dict[str, Any]

_MAX_SHORT_TIMER = "6.00:00:00"
_LONG_TIMER_LEG = "3.00:00:00"


class EventType(IntEnum):
    """The numbers that the Durable extension puts on the wire."""

    EXECUTION_STARTED = 0
    EXECUTION_COMPLETED = 1
    EXECUTION_TERMINATED = 3
    TASK_SCHEDULED = 4
    TASK_COMPLETED = 5
    TASK_FAILED = 6
    SUB_ORCHESTRATION_CREATED = 7
    SUB_ORCHESTRATION_COMPLETED = 8
    SUB_ORCHESTRATION_FAILED = 9
    TIMER_CREATED = 10
    TIMER_FIRED = 11
    ORCHESTRATOR_STARTED = 12
    ORCHESTRATOR_COMPLETED = 13
    EVENT_RAISED = 15
    EXECUTION_SUSPENDED = 19
    EXECUTION_RESUMED = 20


_NAMES = {
    EventType.EXECUTION_STARTED: "ExecutionStarted",
    EventType.EXECUTION_COMPLETED: "ExecutionCompleted",
    EventType.EXECUTION_TERMINATED: "ExecutionTerminated",
    EventType.TASK_COMPLETED: "TaskCompleted",
    EventType.TASK_FAILED: "TaskFailed",
    EventType.SUB_ORCHESTRATION_COMPLETED: "SubOrchestrationInstanceCompleted",
    EventType.SUB_ORCHESTRATION_FAILED: "SubOrchestrationInstanceFailed",
    EventType.TIMER_FIRED: "TimerFired",
    EventType.EVENT_RAISED: "EventRaised",
    EventType.EXECUTION_SUSPENDED: "ExecutionSuspended",
    EventType.EXECUTION_RESUMED: "ExecutionResumed",
}
_SCHEDULED = {EventType.TASK_SCHEDULED, EventType.SUB_ORCHESTRATION_CREATED, EventType.TIMER_CREATED}


def timestamp(epoch_s: float) -> str:
    """The text of epoch seconds as the SDK has it: `2026-01-31T12:00:00.000000Z`."""
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch_s(text: str) -> float:
    """The epoch seconds of such a text; one without zone counts as UTC.

    Raises:
        ValueError: The text is no ISO 8601 date and time.
    """
    moment = dt.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def event(kind: EventType, at_s: float, event_id: int = -1, **fields: Any) -> Event:
    """One event at `at_s` (epoch seconds); `event_id` is the sequence id of scheduled work."""
    return {"EventType": int(kind), "EventId": event_id, "Timestamp": timestamp(at_s), **fields}


def completed_id(item: Event) -> int | None:
    """The sequence id that `item` settles, if it settles one."""
    match item["EventType"]:
        case (
            EventType.TASK_COMPLETED
            | EventType.TASK_FAILED
            | EventType.SUB_ORCHESTRATION_COMPLETED
            | EventType.SUB_ORCHESTRATION_FAILED
        ):
            return int(item["TaskScheduledId"])
        case EventType.TIMER_FIRED:
            return int(item["TimerId"])
    return None


def payload(instance_id: str, past: Sequence[Event], new: Sequence[Event], parent_id: str | None) -> str:
    """The input of an orchestrator function: the whole history, past events marked as played."""
    started = next(item for item in (*past, *new) if item["EventType"] == EventType.EXECUTION_STARTED)
    body = {
        "history": [
            *({**item, "IsPlayed": True} for item in past),
            *({**item, "IsPlayed": False} for item in new),
        ],
        "input": None if started["Input"] is None else json.loads(started["Input"]),
        "instanceId": instance_id,
        "isReplaying": bool(past),
        "parentInstanceId": parent_id,
        # Both are needed: without the second the SDK answers with nested arrays (replay schema V1).
        "upperSchemaVersion": 1,
        "upperSchemaVersionNew": 2,
        "maximumShortTimerDuration": _MAX_SHORT_TIMER,
        "longRunningTimerIntervalDuration": _LONG_TIMER_LEG,
        "defaultHttpAsyncRequestSleepTimeMillseconds": 30000,  # the extension's own spelling
    }
    return json.dumps(body)


def history_events(history: Iterable[Event], *, show_input: bool, show_output: bool) -> list[dict[str, Any]]:
    """The history as a status query shows it: scheduled work is folded into its end."""
    scheduled: dict[int, Event] = {}
    shown: list[dict[str, Any]] = []
    for item in history:
        kind = EventType(item["EventType"])
        if kind in _SCHEDULED:
            scheduled[item["EventId"]] = item
        elif kind in _NAMES:
            line: dict[str, Any] = {"EventType": _NAMES[kind], "Timestamp": item["Timestamp"]}
            settled = completed_id(item)
            origin = scheduled.get(settled) if settled is not None else None
            if origin is not None:
                line |= {"ScheduledTime": origin["Timestamp"], "FunctionName": origin.get("Name")}
            line |= _details(kind, item, show_input=show_input, show_output=show_output)
            shown.append({key: value for key, value in line.items() if value is not None})
    return shown


def _details(kind: EventType, item: Event, *, show_input: bool, show_output: bool) -> dict[str, Any]:
    match kind:
        case EventType.EXECUTION_STARTED:
            return {"FunctionName": item["Name"], "Input": _value(item["Input"]) if show_input else None}
        case EventType.EVENT_RAISED:
            return {"Name": item["Name"], "Input": _value(item["Input"]) if show_input else None}
        case EventType.TASK_FAILED | EventType.SUB_ORCHESTRATION_FAILED:
            return {"Reason": item["Reason"], "Details": item["Details"]}
        case EventType.EXECUTION_TERMINATED | EventType.EXECUTION_SUSPENDED | EventType.EXECUTION_RESUMED:
            return {"Reason": item["Input"]}
    result = _value(item.get("Result")) if show_output else None
    return {
        "OrchestrationStatus": item.get("OrchestrationStatus"),
        "FireAt": item.get("FireAt"),
        "Result": result,
    }


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)
