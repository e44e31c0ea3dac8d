"""The replay of an orchestrator: what its answer means by the Durable extension's rules. No I/O, no clock.

The SDK always answers with *all* actions since the start. Which sequence id each of them has, and which are
new, follows only from walking them while the history is fed in, event by event:

1. Actions are walked in order, each awaited before the next; how it ended does not matter here (user code
   saw it). The children of WhenAny and WhenAll start at once; WhenAll waits for every child, also after a
   failure.
2. Every activity, timer and sub-orchestration takes the next id, from 0, at the moment it is started.
3. A retry is: activity, failure, timer, activity, ..., and one more timer after the last attempt, due at
   once; the SDK surfaces the error only when that one has fired.
4. Work that the history says was scheduled must be the work the walk started under that id; anything else is
   a non-deterministic orchestrator. What the history does not know yet is new work.
5. The end counts only when no task is open: a forgotten timer or activity keeps the instance running. A
   cancelled timer is not open; it is complete at once.
6. An external event goes to the newest waiter of its name (case ignored), else it is kept. Once
   continue-as-new was reached, later events are carried over to the next generation; kept ones are dropped.

Example: history [started, scheduled 0, completed 0], actions [activity a, activity b] -> new work: b under
id 1.
"""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from local_cloud.functions_host.history import Event, EventType, completed_id


class UnsupportedActionError(Exception):
    """The orchestrator used a feature that this host does not have."""


class NonDeterministicError(Exception):
    """The orchestrator's answer contradicts its history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleActivity:
    """The command to run activity `name`; `input` is JSON text."""

    task_id: int
    name: str
    input: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSubOrchestration:
    """The command to start orchestrator `name`; `input` is JSON text, the host chooses a missing id."""

    task_id: int
    name: str
    input: str | None
    instance_id: str | None
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTimer:
    """The command to fire a timer at `fire_at`, an ISO 8601 text."""

    task_id: int
    fire_at: str


Command = ScheduleActivity | StartSubOrchestration | CreateTimer


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The end of an orchestrator that returned `output`, a JSON value."""

    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The end of an orchestrator that raised; `error` is the text of the exception."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuedAsNew:
    """The end of a generation; the next one has `input` (JSON text), and the events that came too late."""

    input: str | None
    carried: tuple[Event, ...]


End = Completed | Failed | ContinuedAsNew


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one step of an orchestration: new work, and the end if this was the last step."""

    commands: tuple[Command, ...]
    end: End | None


class _Action(IntEnum):
    CALL_ACTIVITY = 0
    CALL_ACTIVITY_WITH_RETRY = 1
    CALL_SUB_ORCHESTRATOR = 2
    CALL_SUB_ORCHESTRATOR_WITH_RETRY = 3
    CONTINUE_AS_NEW = 4
    CREATE_TIMER = 5
    WAIT_FOR_EXTERNAL_EVENT = 6
    CALL_ENTITY = 7
    CALL_HTTP = 8
    SIGNAL_ENTITY = 9
    WHEN_ANY = 11
    WHEN_ALL = 12


class _Task:
    """Settles once, then wakes everybody who waits for it, in the same call: ids depend on that order."""

    def __init__(self) -> None:
        self.is_done = False
        self.is_ok = False
        self._wake: list[Callable[[], None]] = []

    def settle(self, *, ok: bool = True) -> None:
        if self.is_done:
            return
        self.is_done, self.is_ok = True, ok
        waiting, self._wake = self._wake, []
        for wake in waiting:
            wake()

    def when_done(self, wake: Callable[[], None]) -> None:
        if self.is_done:
            wake()
        else:
            self._wake.append(wake)

    def __await__(self) -> Generator["_Task", None, bool]:
        if not self.is_done:
            yield self
        return self.is_ok


def _run_hot(walk: Coroutine[_Task, None, bool]) -> _Task:
    """Runs `walk` up to its first open task at once, and on from there whenever that task settles."""
    result = _Task()

    def step() -> None:
        try:
            walk.send(None).when_done(step)
        except StopIteration as stop:
            result.settle(ok=stop.value)

    step()
    return result


class Replay:
    """The replay of one orchestration for one step; make a new one for every step."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        """`answer` is the SDK's: isDone, actions, output, error."""
        self._answer = answer
        self._next_id = 0
        self._now = ""
        self._started: dict[int, Command] = {}  # started by the walk, not yet met in the history
        self._open: dict[int, _Task] = {}
        self._waiters: defaultdict[str, list[_Task]] = defaultdict(list)
        self._kept: defaultdict[str, int] = defaultdict(int)
        self._carried: list[Event] = []
        self._next_generation: tuple[str | None] | None = None
        self._walk: _Task | None = None

    def run(self, history: Sequence[Event]) -> Outcome:
        """Feed the whole history, past and new, and return what is to be done.

        Raises:
            NonDeterministicError: The history holds work that the answer does not lead to.
            UnsupportedActionError: Entities, durable HTTP, or an action nobody knows.
        """
        for item in history:
            self._feed(item)
        # Older first: the ids are in the order of starting.
        return Outcome(commands=tuple(self._started.values()), end=self._end())

    def _end(self) -> End | None:
        if self._walk is None or not self._walk.is_done or self._open:
            return None
        if self._answer.get("error"):
            return Failed(error=str(self._answer["error"]))
        if self._next_generation is not None:
            return ContinuedAsNew(input=self._next_generation[0], carried=tuple(self._carried))
        return Completed(output=self._answer.get("output")) if self._answer["isDone"] else None

    def _feed(self, item: Event) -> None:
        match item["EventType"]:
            case EventType.ORCHESTRATOR_STARTED:
                self._now = item["Timestamp"]
            case EventType.EXECUTION_STARTED:
                actions = [action for group in self._answer["actions"] for action in group]
                self._walk = _run_hot(self._walk_all(actions))
            case EventType.TASK_SCHEDULED:
                self._match(item, ScheduleActivity)
            case EventType.SUB_ORCHESTRATION_CREATED:
                self._match(item, StartSubOrchestration)
            case EventType.TIMER_CREATED:
                self._match(item, CreateTimer)
            case EventType.TASK_FAILED | EventType.SUB_ORCHESTRATION_FAILED:
                self._settle(item, ok=False)
            case EventType.TASK_COMPLETED | EventType.SUB_ORCHESTRATION_COMPLETED | EventType.TIMER_FIRED:
                self._settle(item, ok=True)
            case EventType.EVENT_RAISED:
                self._raise_event(item)

    def _match(self, item: Event, kind: type[Command]) -> None:
        task_id = int(item["EventId"])
        command = self._started.pop(task_id, None)
        recorded = str(item.get("Name", "")).lower()
        if isinstance(command, kind) and (
            isinstance(command, CreateTimer) or command.name.lower() == recorded
        ):
            return
        found = (
            "nothing"
            if command is None
            else f"{type(command).__name__} {getattr(command, 'name', '')}".rstrip()
        )
        raise NonDeterministicError(
            f"Non-Deterministic workflow detected: a previous execution scheduled {kind.__name__} "
            f"{item.get('Name', '')!r} with sequence id {task_id}, but the current replay has {found} there. "
            "Was the orchestrator's code changed after this instance had started running?"
        )

    def _settle(self, item: Event, *, ok: bool) -> None:
        settled = completed_id(item)
        task = self._open.pop(settled, None) if settled is not None else None
        if task is not None:
            task.settle(ok=ok)

    def _raise_event(self, item: Event) -> None:
        name = str(item["Name"]).lower()
        if self._next_generation is not None:
            self._carried.append(item)
        elif self._waiters[name]:
            self._waiters[name].pop().settle()
        else:
            self._kept[name] += 1

    async def _walk_all(self, actions: Sequence[Mapping[str, Any]]) -> bool:
        for action in actions:
            await self._start(action)
        return True

    def _start(self, action: Mapping[str, Any]) -> _Task:  # noqa: PLR0911 - one line for each kind of action
        match action["actionType"]:
            case _Action.CALL_ACTIVITY | _Action.CALL_SUB_ORCHESTRATOR:
                return self._call(action)
            case _Action.CALL_ACTIVITY_WITH_RETRY | _Action.CALL_SUB_ORCHESTRATOR_WITH_RETRY:
                return _run_hot(self._call_with_retry(action))
            case _Action.CREATE_TIMER:
                return self._timer(str(action["fireAt"]), is_cancelled=bool(action["isCanceled"]))
            case _Action.WAIT_FOR_EXTERNAL_EVENT:
                return self._wait_for_event(str(action["externalEventName"]).lower())
            case _Action.WHEN_ANY:
                return self._any([self._start(child) for child in action["compoundActions"]])
            case _Action.WHEN_ALL:
                return _run_hot(self._all([self._start(child) for child in action["compoundActions"]]))
            case _Action.CONTINUE_AS_NEW:
                self._next_generation = (action.get("input"),)
                return self._done()
        raise UnsupportedActionError(_unsupported(action["actionType"]))

    def _take_id(self, task: _Task) -> int:
        task_id = self._next_id
        self._next_id += 1
        self._open[task_id] = task
        return task_id

    def _call(self, action: Mapping[str, Any]) -> _Task:
        task = _Task()
        task_id = self._take_id(task)
        name, input_text = str(action["functionName"]), action.get("input")
        if action["actionType"] in {_Action.CALL_ACTIVITY, _Action.CALL_ACTIVITY_WITH_RETRY}:
            self._started[task_id] = ScheduleActivity(task_id=task_id, name=name, input=input_text)
        else:
            self._started[task_id] = StartSubOrchestration(
                task_id=task_id,
                name=name,
                input=input_text,
                instance_id=action.get("instanceId"),
                version=action.get("version"),
            )
        return task

    async def _call_with_retry(self, action: Mapping[str, Any]) -> bool:
        options = action["retryOptions"]
        interval = timedelta(milliseconds=options["firstRetryIntervalInMilliseconds"])
        attempts = int(options["maxNumberOfAttempts"])
        for attempt in range(1, attempts + 1):
            if await self._call(action):
                return True
            pause = interval if attempt < attempts else timedelta(0)
            fire_at = datetime.fromisoformat(self._now) + pause
            await self._timer(fire_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        return False

    def _timer(self, fire_at: str, *, is_cancelled: bool = False) -> _Task:
        task = _Task()
        task_id = self._take_id(task)
        self._started[task_id] = CreateTimer(task_id=task_id, fire_at=fire_at)
        if is_cancelled:
            del self._open[task_id]
            task.settle(ok=False)
        return task

    def _wait_for_event(self, name: str) -> _Task:
        if self._kept[name]:
            self._kept[name] -= 1
            return self._done()
        task = _Task()
        self._waiters[name].append(task)
        return task

    @staticmethod
    def _any(children: Sequence[_Task]) -> _Task:
        first = _Task()
        for child in children:
            child.when_done(first.settle)
        if not children:
            first.settle()
        return first

    @staticmethod
    async def _all(children: Sequence[_Task]) -> bool:
        results = [await child for child in children]
        return all(results)

    @staticmethod
    def _done() -> _Task:
        task = _Task()
        task.settle()
        return task


def _unsupported(action_type: object) -> str:
    named = {
        _Action.CALL_ENTITY: "call_entity",
        _Action.CALL_HTTP: "call_http",
        _Action.SIGNAL_ENTITY: "signal_entity",
    }
    feature = next(
        (name for kind, name in named.items() if kind == action_type), f"action type {action_type!r}"
    )
    return f"{feature} is not built into the local Functions host"
