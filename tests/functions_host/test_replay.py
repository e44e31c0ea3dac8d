"""History in, commands out: one table row for each rule."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from local_cloud.functions_host.history import Event, EventType, event, history_events, payload
from local_cloud.functions_host.replay import (
    Command,
    Completed,
    ContinuedAsNew,
    CreateTimer,
    End,
    Failed,
    NonDeterministicError,
    Outcome,
    Replay,
    ScheduleActivity,
    StartSubOrchestration,
    UnsupportedActionError,
)

Json = dict[str, Any]
T0 = 1_700_000_000.0
START = [
    event(EventType.ORCHESTRATOR_STARTED, T0),
    event(EventType.EXECUTION_STARTED, T0, Name="o", Input=None),
]


def activity(name: str) -> Json:
    return {"actionType": 0, "functionName": name, "input": "1"}


def retried(name: str, attempts: int) -> Json:
    options = {"firstRetryIntervalInMilliseconds": 5000, "maxNumberOfAttempts": attempts}
    return {"actionType": 1, "functionName": name, "input": "1", "retryOptions": options}


def child(name: str) -> Json:
    return {"actionType": 2, "functionName": name, "input": "1", "instanceId": None, "version": None}


def timer(at: str = "2023-11-14T22:13:30.000000Z", *, cancelled: bool = False) -> Json:
    return {"actionType": 5, "fireAt": at, "isCanceled": cancelled}


def wait(name: str) -> Json:
    return {"actionType": 6, "externalEventName": name, "reason": "ExternalEvent"}


def any_of(*actions: Json) -> Json:
    return {"actionType": 11, "compoundActions": list(actions)}


def all_of(*actions: Json) -> Json:
    return {"actionType": 12, "compoundActions": list(actions)}


def again(value: str) -> Json:
    return {"actionType": 4, "input": value}


def scheduled(task_id: int, name: str) -> Event:
    return event(EventType.TASK_SCHEDULED, T0, task_id, Name=name, Input="1")


def completed(task_id: int) -> Event:
    return event(EventType.TASK_COMPLETED, T0, TaskScheduledId=task_id, Result="1")


def failed(task_id: int) -> Event:
    return event(EventType.TASK_FAILED, T0, TaskScheduledId=task_id, Reason="r", Details="d")


def created(task_id: int) -> Event:
    return event(EventType.TIMER_CREATED, T0, task_id, FireAt="2023-11-14T22:13:30.000000Z")


def fired(task_id: int) -> Event:
    return event(EventType.TIMER_FIRED, T0, TimerId=task_id, FireAt="2023-11-14T22:13:30.000000Z")


def raised(name: str) -> Event:
    return event(EventType.EVENT_RAISED, T0, Name=name, Input="1")


def replay(actions: Sequence[Json], *events: Event, done: bool = False, **answer: Any) -> Outcome:
    return Replay({"isDone": done, "actions": [list(actions)], **answer}).run([*START, *events])


def call(task_id: int, name: str) -> ScheduleActivity:
    return ScheduleActivity(task_id=task_id, name=name, input="1")


def firing(task_id: int, at: str) -> CreateTimer:
    return CreateTimer(task_id=task_id, fire_at=at)


A_B = [activity("a"), activity("b")]
RACE = any_of(wait("go"), timer())
TICK = raised("tick")

WORK: dict[str, tuple[list[Json], list[Event], list[Command]]] = {
    "first action only": (A_B, [], [call(0, "a")]),
    "next after completion": (A_B, [scheduled(0, "a"), completed(0)], [call(1, "b")]),
    "next after a failure that user code caught": (A_B, [scheduled(0, "a"), failed(0)], [call(1, "b")]),
    "name ignoring case": (A_B, [scheduled(0, "A"), completed(0)], [call(1, "b")]),
    "all children at once": ([all_of(*A_B)], [], [call(0, "a"), call(1, "b")]),
    "all waits for siblings of a failure": (
        [all_of(*A_B), activity("c")],
        [scheduled(0, "a"), scheduled(1, "b"), failed(0)],
        [],
    ),
    "all goes on when the last sibling ended": (
        [all_of(*A_B), activity("c")],
        [scheduled(0, "a"), scheduled(1, "b"), failed(0), completed(1)],
        [call(2, "c")],
    ),
    "any goes on with the first": (
        [any_of(*A_B), activity("c")],
        [scheduled(0, "a"), scheduled(1, "b"), completed(1)],
        [call(2, "c")],
    ),
    "nested any in all": (
        [all_of(any_of(activity("a"), timer()), activity("b")), activity("c")],
        [scheduled(0, "a"), created(1), scheduled(2, "b"), completed(0), completed(2)],
        [call(3, "c")],
    ),
    "retry waits for its interval": (
        [retried("a", 2)],
        [scheduled(0, "a"), failed(0)],
        [firing(1, "2023-11-14T22:13:25.000000Z")],
    ),
    "retry calls again": (
        [retried("a", 2)],
        [scheduled(0, "a"), failed(0), created(1), fired(1)],
        [call(2, "a")],
    ),
    "one more timer, due at once, after the last attempt": (
        [retried("a", 1)],
        [scheduled(0, "a"), failed(0)],
        [firing(1, "2023-11-14T22:13:20.000000Z")],
    ),
    "after the last timer the walk goes on": (
        [retried("a", 1), activity("b")],
        [scheduled(0, "a"), failed(0), created(1), fired(1)],
        [call(2, "b")],
    ),
    "sub-orchestration": (
        [child("k")],
        [],
        [StartSubOrchestration(task_id=0, name="k", input="1", instance_id=None, version=None)],
    ),
    "event before anybody waits is kept": (
        [activity("a"), wait("go"), activity("b")],
        [scheduled(0, "a"), raised("go"), completed(0)],
        [call(1, "b")],
    ),
    "event name ignoring case": ([wait("Go"), activity("b")], [raised("gO")], [call(0, "b")]),
    "event of another name wakes nobody": ([wait("go"), activity("b")], [raised("stop")], []),
    "cancelled timer is still created": (
        [timer(cancelled=True), activity("a")],
        [],
        [firing(0, "2023-11-14T22:13:30.000000Z"), call(1, "a")],
    ),
    "duplicate completion changes nothing": (
        A_B,
        [scheduled(0, "a"), completed(0), scheduled(1, "b"), completed(0)],
        [],
    ),
    "nothing new": (A_B, [scheduled(0, "a")], []),
}

ENDS: dict[str, tuple[list[Json], list[Event], Json, End | None]] = {
    "returned": ([], [], {"done": True, "output": {"n": 1}}, Completed(output={"n": 1})),
    "returned nothing": ([], [], {"done": True}, Completed(output=None)),
    "waits": ([activity("a")], [scheduled(0, "a")], {}, None),
    "raised": ([activity("a")], [scheduled(0, "a"), failed(0)], {"error": "boom"}, Failed(error="boom")),
    "forgotten timer keeps it running": ([RACE], [created(0), raised("go")], {"done": True}, None),
    "until that timer fires": (
        [RACE],
        [created(0), raised("go"), fired(0)],
        {"done": True},
        Completed(output=None),
    ),
    "forgotten activity keeps a failure back": (
        [any_of(*A_B)],
        [scheduled(0, "a"), scheduled(1, "b"), completed(0)],
        {"error": "boom"},
        None,
    ),
    "cancelled timer does not": (
        [any_of(wait("go"), timer(cancelled=True))],
        [created(0), raised("go")],
        {"done": True},
        Completed(output=None),
    ),
    "continue-as-new carries later events, drops kept ones": (
        [activity("a"), again("7")],
        [scheduled(0, "a"), raised("lost"), completed(0), TICK],
        {"done": True},
        ContinuedAsNew(input="7", carried=(TICK,)),
    ),
    "event that beat a cancelled timer is carried over once more (extension bug 2606)": (
        [any_of(wait("tick"), timer(cancelled=True)), again("7")],
        [created(0), TICK],
        {"done": True},
        ContinuedAsNew(input="7", carried=(TICK,)),
    ),
}


@pytest.mark.parametrize("case", WORK)
def test_new_work(case: str) -> None:
    actions, events, commands = WORK[case]
    assert replay(actions, *events) == Outcome(commands=tuple(commands), end=None)


@pytest.mark.parametrize("case", ENDS)
def test_end(case: str) -> None:
    actions, events, answer, end = ENDS[case]
    assert replay(actions, *events, **answer).end == end


def test_events_go_to_the_newest_waiter() -> None:
    actions = [any_of(all_of(wait("x"), activity("a")), wait("x")), activity("b")]
    assert replay(actions, scheduled(0, "a"), raised("x")).commands == (call(1, "b"),)


@pytest.mark.parametrize(
    ("actions", "events"),
    [
        ([activity("b")], [scheduled(0, "a")]),
        ([], [scheduled(0, "a")]),
        ([timer()], [scheduled(0, "a")]),
        ([activity("a")], [created(0)]),
        ([activity("a")], [scheduled(1, "a")]),
    ],
    ids=["other name", "nothing there", "timer there", "activity there", "other id"],
)
def test_history_that_the_code_does_not_lead_to(actions: list[Json], events: list[Event]) -> None:
    with pytest.raises(NonDeterministicError, match="Non-Deterministic workflow detected"):
        replay(actions, *events)


@pytest.mark.parametrize(
    ("kind", "name"), [(7, "call_entity"), (8, "call_http"), (9, "signal_entity"), (99, "99")]
)
def test_actions_that_are_not_built_raise(kind: int, name: str) -> None:
    with pytest.raises(UnsupportedActionError, match=name):
        replay([{"actionType": kind}])


def test_payload_divides_old_from_new_and_decodes_the_input_once() -> None:
    started = event(EventType.EXECUTION_STARTED, T0, Name="o", Input=json.dumps('{"n": 1}'))
    body = json.loads(payload("id", [START[0], started], [completed(0)], "mother"))
    assert [item["IsPlayed"] for item in body["history"]] == [True, True, False]
    assert body["input"] == '{"n": 1}'
    assert body["isReplaying"]
    assert body["parentInstanceId"] == "mother"


def test_shown_history_folds_scheduled_work_into_its_end() -> None:
    shown = history_events([*START, scheduled(0, "a"), completed(0)], show_input=False, show_output=True)
    assert [line["EventType"] for line in shown] == ["ExecutionStarted", "TaskCompleted"]
    assert shown[1]["FunctionName"] == "a"
    assert shown[1]["Result"] == 1
