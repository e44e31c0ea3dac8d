"""Durable execution: the engine takes what arrived for an instance, runs its orchestrator, and commits.

A step is one transaction: the messages it used, the history it wrote, the work it scheduled. After `kill -9`
a step has happened or not. Activities run at least once: one that was running starts again.
"""

import asyncio
import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from local_cloud.functions_host.app import App
from local_cloud.functions_host.history import Event, EventType, completed_id, event, payload
from local_cloud.functions_host.instance_ids import check_instance_id, id_complaint
from local_cloud.functions_host.invoke import InvocationError, Invoker, not_found
from local_cloud.functions_host.replay import (
    Failed,
    NonDeterministicError,
    Outcome,
    Replay,
    ScheduleActivity,
    StartSubOrchestration,
    UnsupportedActionError,
)
from local_cloud.functions_host.steps import StepWriter, started, terminate
from local_cloud.functions_host.store import ActivityCall, Instance, Message, Query, Status, Step, Store

_LOG = logging.getLogger(__name__)
_MESSAGES_PER_STEP = 1000
_MAX_CUSTOM_STATUS_BYTES = 16 * 1024  # of UTF-16, as in the extension
_MAX_SLEEP_S = 1.0  # so that a wall clock that was set is noticed
_PAUSE_AFTER_FAULT_S = 1.0


class AlreadyRunningError(Exception):
    """The refusal to start an instance whose id belongs to one that has not finished yet."""


class UnknownOrchestratorError(Exception):
    """The app has no orchestrator of that name; the text is the extension's."""


@dataclass(slots=True)
class _Intake:
    """What an instance takes from its queue for one step."""

    consumed: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    is_suspended: bool = False
    termination: Event | None = None


class Engine:
    """The engine for all orchestrations of one app; every method belongs on the event loop's thread."""

    def __init__(
        self,
        app: App,
        store: Store,
        invoker: Invoker,
        *,
        clock: Callable[[], float] = time.time,
        deliver_twice: bool = False,
        note: Callable[[Instance], None] | None = None,
    ) -> None:
        """`clock` gives epoch seconds and may be moved forward (call `wake` then).

        `note` is told, in a thread, of an instance whose state changes, before that counts; a step in which
        it raises has not happened, and is tried again.
        """
        self._app = app
        self._store = store
        self._invoker = invoker
        self._clock = clock
        self._writer = StepWriter(store.get, app.settings.default_version)
        self._deliveries = 2 if deliver_twice else 1
        self._note = note
        self._wake = asyncio.Event()
        self._stepping: set[str] = set()
        self._activities: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what a client asks for ---

    def start(
        self,
        name: str,
        *,
        instance_id: str | None = None,
        input_text: str | None = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration, in place of a finished one of that id; returns its id.

        Raises:
            UnknownOrchestratorError: No orchestrator of that name.
            InstanceIdError: Not an id that Azure takes.
            AlreadyRunningError: An instance of that id is running.
        """
        function = self._app.find("orchestrationTrigger", name)
        if function is None:
            raise UnknownOrchestratorError(not_found("orchestrator", name, self._app))
        chosen = instance_id or uuid.uuid4().hex
        check_instance_id(chosen)
        current = self._store.get(chosen)
        if current is not None and not current.is_finished:
            raise AlreadyRunningError(f"An orchestration instance with the id {chosen} is {current.status}.")
        instance = self._writer.new_instance(
            function.durable_name, chosen, input_text, version, self._clock()
        )
        self._store.create(instance, started(instance))
        self.wake()
        return chosen

    def get(self, instance_id: str) -> Instance | None:
        """The instance of that id; None if there is none."""
        return self._store.get(instance_id)

    def find(self, query: Query) -> list[Instance]:
        """Matching instances in the order of their ids."""
        return self._store.find(query)

    def history(self, instance_id: str) -> list[Event]:
        """All events of the instance so far."""
        return self._store.history(instance_id)

    def send(self, instance_id: str, kind: EventType, **fields: Any) -> None:
        """Queue an event for a running instance: raised event, terminate, suspend, resume."""
        now = self._clock()
        message = Message(
            instance_id=instance_id, execution_id=None, due_at=now, event=event(kind, now, **fields)
        )
        self._store.send(message)
        self.wake()

    def purge(self, instances: Sequence[Instance]) -> int:
        """Forget those of `instances` that have finished; returns how many."""
        return self._store.purge(instance.id for instance in instances if instance.is_finished)

    # --- the loop ---

    def wake(self) -> None:
        """Look for work at once, since something may have fallen due."""
        self._wake.set()

    async def run(self) -> None:
        """Run the instances that have something to do, until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    self._dispatch()
                except sqlite3.OperationalError:
                    _LOG.exception("The state cannot be read now")
                    await asyncio.sleep(_PAUSE_AFTER_FAULT_S)
                due = self._store.next_due(self._clock())
                pause = _MAX_SLEEP_S if due is None else min(max(due - self._clock(), 0.0), _MAX_SLEEP_S)
                try:
                    # Not wait_for(): in Python 3.11 it may swallow a cancellation, and stop() would hang.
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _dispatch(self) -> None:
        for instance_id in self._store.due_instances(self._clock()):
            if len(self._stepping) >= self._app.settings.max_orchestrators:
                break
            if instance_id not in self._stepping:
                self._stepping.add(instance_id)
                self._spawn(self._step(instance_id), partial(self._stepping.discard, instance_id))
        room = self._app.settings.max_activities - len(self._activities)
        if room > 0:
            for call in self._store.waiting_activities(self._activities, room):
                self._activities.add(call.id)
                self._spawn(self._run_activity(call), partial(self._activities.discard, call.id))

    def _spawn(self, work: Coroutine[Any, Any, None], release: Callable[[], None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                # Nothing was committed, so it is tried again: but not in a tight loop.
                _LOG.error("A fault of the host itself", exc_info=error)
                done.get_loop().call_later(_PAUSE_AFTER_FAULT_S, release)
                return
            release()
            self.wake()

        task.add_done_callback(ended)

    # --- activities ---

    async def _run_activity(self, call: ActivityCall) -> None:
        try:
            result = await self._invoker.activity(call.name, call.input)
        except InvocationError as error:
            _LOG.warning("Activity %s of %s failed: %s", call.name, call.instance_id, error)
            settled = event(
                EventType.TASK_FAILED,
                self._clock(),
                TaskScheduledId=call.task_id,
                Reason=f"Activity function '{call.name}' failed:  {error}",
                Details=error.stack,
            )
        else:
            value = None if result == "null" else result
            settled = event(
                EventType.TASK_COMPLETED, self._clock(), TaskScheduledId=call.task_id, Result=value
            )
        message = Message(
            instance_id=call.instance_id, execution_id=call.execution_id, due_at=self._clock(), event=settled
        )
        self._store.end_activity(call, message, deliveries=self._deliveries)

    # --- orchestrators ---

    async def _step(self, instance_id: str) -> None:
        instance = self._store.get(instance_id)
        if instance is None or instance.is_finished:
            return
        past = self._store.history(instance_id)
        now = self._clock()
        intake = self._take(instance, past, now)
        if intake.termination is not None:
            step = Step(instance=instance, consumed=intake.consumed)
            step.new_events = [*intake.events, intake.termination]
            terminate(step, intake.termination["Input"] or "", now)
            await self._commit(step, instance.status)
        elif not intake.events:
            self._store.commit(Step(instance=instance, consumed=intake.consumed))
        else:
            new = [event(EventType.ORCHESTRATOR_STARTED, now), *intake.events]
            outcome, custom_status = await self._decide(instance, past, new)
            status: Status = "Suspended" if intake.is_suspended else "Running"
            current = replace(instance, status=status, custom_status=custom_status, updated_at=now)
            step = Step(instance=current, consumed=intake.consumed, new_events=new)
            self._writer.carry_out(step, outcome, now)
            await self._commit(step, instance.status)

    async def _commit(self, step: Step, before: Status) -> None:
        if self._note is not None and step.instance.status != before:
            await asyncio.to_thread(self._note, step.instance)
        self._store.commit(step)

    def _take(self, instance: Instance, past: Sequence[Event], now: float) -> _Intake:
        intake = _Intake(is_suspended=instance.status == "Suspended")
        settled = {completed_id(item) for item in past}
        for number, message in self._store.due_messages(
            instance.id, now, _MESSAGES_PER_STEP, control_first=intake.is_suspended
        ):
            item = message.event
            kind, task_id = item["EventType"], completed_id(item)
            stale = message.execution_id not in {None, instance.execution_id}
            if stale or (task_id is not None and task_id in settled):
                intake.consumed.append(number)
            elif kind == EventType.EXECUTION_TERMINATED:
                intake.consumed.append(number)
                intake.termination = item
                break
            elif not intake.is_suspended or kind == EventType.EXECUTION_RESUMED:
                if kind in {EventType.EXECUTION_SUSPENDED, EventType.EXECUTION_RESUMED}:
                    intake.is_suspended = kind == EventType.EXECUTION_SUSPENDED
                settled.add(task_id)
                intake.consumed.append(number)
                intake.events.append(item)
        return intake

    async def _decide(
        self, instance: Instance, past: Sequence[Event], new: Sequence[Event]
    ) -> tuple[Outcome, str | None]:
        parent_id = instance.parent.instance_id if instance.parent else None
        function = self._app.find("orchestrationTrigger", instance.name)
        if function is None:
            return _failure(not_found("orchestrator", instance.name, self._app)), None
        try:
            answer = await self._invoker.orchestrator(function, payload(instance.id, past, new, parent_id))
            custom_status = _custom_status(answer)
            outcome = Replay(answer).run([*past, *new])
        except (InvocationError, UnsupportedActionError, NonDeterministicError, _CustomStatusError) as error:
            _LOG.error("Orchestrator %s of %s: %s", instance.name, instance.id, error)
            return _failure(_orchestrator_error(instance.name, str(error))), None
        if isinstance(outcome.end, Failed):
            end = Failed(error=_orchestrator_error(instance.name, outcome.end.error))
            outcome = replace(outcome, end=end)
        return self._refuse_unknown(instance, outcome), custom_status

    def _refuse_unknown(self, instance: Instance, outcome: Outcome) -> Outcome:
        """A call of a function that does not exist fails the orchestration; user code cannot catch it."""
        for command in outcome.commands:
            text = None
            if isinstance(command, ScheduleActivity) and not self._app.find("activityTrigger", command.name):
                text = not_found("activity", command.name, self._app)
            if isinstance(command, StartSubOrchestration):
                if not self._app.find("orchestrationTrigger", command.name):
                    text = not_found("orchestrator", command.name, self._app)
                elif command.instance_id and (complaint := id_complaint(command.instance_id)):
                    text = complaint
            if text is not None:
                return _failure(_orchestrator_error(instance.name, text))
        return outcome


class _CustomStatusError(Exception):
    """The custom status is too big for the extension."""


def _custom_status(answer: Mapping[str, Any]) -> str | None:
    value = answer.get("customStatus")
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False)
    if len(text.encode("utf-16-le")) > _MAX_CUSTOM_STATUS_BYTES:
        raise _CustomStatusError("The custom status must not exceed 16 KB of UTF-16 text")
    return text


def _orchestrator_error(name: str, error: str) -> str:
    return f"Orchestrator function '{name}' failed: {error}"


def _failure(text: str) -> Outcome:
    return Outcome(commands=(), end=Failed(error=text))
