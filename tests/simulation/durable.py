"""Durable orchestrations in memory: the real orchestrators, histories, and deliveries at least once.

By the rules of the Durable extension, as ``local_cloud/functions_host`` has them, but for what the product
does not use. An orchestrator lives as a generator until its worker dies; then it is made anew and its history
replayed, and must come to the same actions. There is no JSON history and no SDK in between: those are tested
in ``tests/histories`` and ``tests/replay``, at a hundred times the cost.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import SimpleNamespace
from typing import Any

from airgap.errors import AirgapError, Code, ServiceError
from function_app.durable.blueprint import Blueprint
from tests.simulation.scheduler import MINUTE, Died, Scheduler, Violation

VISIBILITY = 5 * MINUTE
"""Whoever has not answered by then is taken for dead, and the activity is delivered again."""

Flow = Callable[[Any], Generator[Any, Any, Any]]
RunActivity = Callable[[str, Any], Any]
"""Runs the activity of a name on JSON values; raises what it raises."""


class Status(Enum):
    """Where an instance stands, by the names of the SDK."""

    Running = "Running"
    Completed = "Completed"
    Failed = "Failed"
    Terminated = "Terminated"


def flows_of(blueprints: Sequence[Blueprint]) -> dict[str, Flow]:
    """Every orchestrator that the blueprints declare, by name."""
    found: dict[str, Flow] = {}
    for blueprint in blueprints:
        for builder in blueprint._function_builders:
            function = builder._function
            flow = getattr(function.get_user_function(), "orchestrator_function", None)
            if flow is not None:
                found[function._name] = flow
    return found


class Awaited:
    """What an orchestrator waits for: settled once."""

    def __init__(self) -> None:
        self.is_done = False
        self.result: Any = None
        self.error: Exception | None = None

    def settle(self, *, is_ok: bool, value: Any) -> None:
        if not self.is_done:
            self.is_done = True
            self.result = value if is_ok else None
            self.error = None if is_ok else Exception(value)


class _All(Awaited):
    """Done when all are; as the SDK has it, or as soon as one has failed."""

    def __init__(self, children: Sequence[Awaited]) -> None:
        super().__init__()
        self.children = children

    def look(self) -> None:
        failed = next((child.error for child in self.children if child.error is not None), None)
        if failed is not None:
            self.is_done, self.error = True, failed
        elif all(child.is_done for child in self.children):
            self.is_done, self.result = True, [child.result for child in self.children]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Work that an orchestrator has asked for; ``text`` is its input as JSON."""

    kind: str
    name: str
    text: str
    attempts: int = 1
    pause: timedelta = timedelta()
    instance_id: str | None = None
    fires_at: datetime | None = None


class Context:
    """What an orchestrator is given: as much of the SDK's context as the product uses."""

    def __init__(self, instance_id: str, text: str) -> None:
        self.instance_id = instance_id
        self._text = text
        self.current_utc_datetime = datetime.min.replace(tzinfo=UTC)
        self.tasks: list[Awaited] = []
        self.actions: list[Action] = []
        self.next_text: str | None = None

    def get_input(self) -> Any:
        return json.loads(self._text)

    def continue_as_new(self, order: Any) -> None:
        self.next_text = json.dumps(order)

    def call_activity_with_retry(self, name: str, retry: Any, order: Any) -> Awaited:
        pause = timedelta(milliseconds=retry.first_retry_interval_in_milliseconds)
        return self._ask(
            Action(
                kind="activity",
                name=name,
                text=json.dumps(order),
                attempts=retry.max_number_of_attempts,
                pause=pause,
            )
        )

    def call_sub_orchestrator(self, name: str, order: Any, instance_id: str | None = None) -> Awaited:
        return self._ask(Action(kind="child", name=name, text=json.dumps(order), instance_id=instance_id))

    def create_timer(self, fire_at: datetime) -> Awaited:
        return self._ask(Action(kind="timer", name="", text="", fires_at=fire_at))

    def task_all(self, tasks: Sequence[Awaited]) -> Awaited:
        return _All(tasks)

    def _ask(self, action: Action) -> Awaited:
        self.actions.append(action)
        self.tasks.append(Awaited())
        return self.tasks[-1]


Arrival = tuple[int, bool, Any]
"""Which task of a generation has ended, whether well, and with what."""


class _Live:
    """An orchestrator in a worker's memory, as far as it has come."""

    def __init__(self, flow: Flow, instance_id: str, text: str) -> None:
        self.context = Context(instance_id, text)
        self._generator = flow(self.context)
        self._waits_for: Awaited | None = None
        self.is_over = False
        self.output: Any = None
        self.error: Exception | None = None

    def advance(self, now: datetime, arrivals: Sequence[Arrival]) -> None:
        """Go on as far as it can with what has arrived."""
        self.context.current_utc_datetime = now
        for number, is_ok, value in arrivals:
            self.context.tasks[number].settle(is_ok=is_ok, value=value)
        while not self.is_over:
            waits_for = self._waits_for
            if isinstance(waits_for, _All):
                waits_for.look()
            if waits_for is not None and not waits_for.is_done:
                return
            try:
                if waits_for is not None and waits_for.error is not None:
                    self._waits_for = self._generator.throw(waits_for.error)
                else:
                    self._waits_for = self._generator.send(waits_for and waits_for.result)
            except StopIteration as end:
                self.is_over, self.output = True, end.value
            except Exception as error:  # noqa: BLE001 - the orchestration has failed
                self.is_over, self.error = True, error


@dataclass(slots=True, kw_only=True)
class Instance:
    """An orchestration: what the host keeps of it, whatever becomes of its workers."""

    id: str
    name: str
    text: str
    parent: tuple[str, int, int] | None = None
    """Its id, its execution and the number of the task there."""
    execution: int = 0
    status: Status = Status.Running
    output: Any = None
    history: list[tuple[datetime, list[Arrival]]] = field(default_factory=list)
    """Of this generation: when it went on, and what had arrived."""
    actions: list[Action] = field(default_factory=list)
    """Of this generation, all that were carried out."""
    inbox: list[Arrival] = field(default_factory=list)
    is_step_due: bool = False
    live: _Live | None = None

    @property
    def is_active(self) -> bool:
        return self.status is Status.Running


@dataclass(slots=True, kw_only=True)
class _Call:
    """One attempt at an activity."""

    instance: Instance
    execution: int
    number: int
    action: Action
    attempt: int = 1
    is_settled: bool = False


class Durable:
    """All orchestrations of one app."""

    def __init__(self, scheduler: Scheduler, flows: Mapping[str, Flow], run_activity: RunActivity) -> None:
        self._scheduler = scheduler
        self._flows = flows
        self._run_activity = run_activity
        self.instances: dict[str, Instance] = {}
        self._executions = 0

    # --- what clients ask for ---

    def start(
        self, name: str, instance_id: str, text: str, parent: tuple[str, int, int] | None = None
    ) -> bool:
        """Start an instance, in the place of one of this id that has ended; ``False`` if one runs."""
        found = self.instances.get(instance_id)
        if found is not None and found.is_active:
            return False
        instance = Instance(id=instance_id, name=name, text=text, parent=parent, execution=self._new())
        self.instances[instance_id] = instance
        self._scheduler.say(f"starts {name} {instance_id}")
        self._wake(instance)
        return True

    def terminate(self, instance_id: str) -> None:
        """End an instance at once; what it has started goes on."""
        instance = self.instances[instance_id]
        instance.live = None
        self._end(instance, Status.Terminated, "terminated")

    def purge(self, instance_id: str) -> None:
        """Forget an instance, even one that runs; what it has started goes on, for nobody."""
        del self.instances[instance_id]

    def forget_workers(self) -> None:
        """All workers are gone, and every orchestrator in their memory with them."""
        for instance in self.instances.values():
            instance.live = None

    def _new(self) -> int:
        self._executions += 1
        return self._executions

    # --- orchestrators ---

    def _wake(self, instance: Instance) -> None:
        if instance.is_active and not instance.is_step_due:
            instance.is_step_due = True
            self._scheduler.after(self._delay(), "", lambda: self._step(instance))

    def _delay(self) -> timedelta:
        scheduler = self._scheduler
        if scheduler.chance.random() < scheduler.faults.late:
            return scheduler.seconds(1, 600)
        return scheduler.seconds(0, 1)

    def _post(self, target: tuple[str, int, int], *, is_ok: bool, value: Any) -> None:
        instance_id, execution, number = target
        instance = self.instances.get(instance_id)
        if instance is not None and instance.is_active and instance.execution == execution:
            instance.inbox.append((number, is_ok, value))
            self._wake(instance)

    def _step(self, instance: Instance) -> None:
        instance.is_step_due = False
        if not instance.is_active or self.instances.get(instance.id) is not instance:
            return
        scheduler = self._scheduler
        if scheduler.chance.random() < scheduler.faults.crash:
            instance.live = None  # before it has committed anything: the same messages again
            self._wake(instance)
            return
        live = instance.live or self._replayed(instance)
        settled = {number for _, arrivals in instance.history for number, _, _ in arrivals}
        arrivals = [one for one in instance.inbox if one[0] not in settled]
        instance.inbox = []
        now = self._worker_clock()
        instance.history.append((now, arrivals))
        live.advance(now, arrivals)
        instance.live = live
        scheduler.say(f"step of {instance.name} {instance.id}")
        actions = live.context.actions[len(instance.actions) :]
        instance.actions = list(live.context.actions)
        for number, action in enumerate(actions, start=len(instance.actions) - len(actions)):
            self._carry_out(instance, number, action)
        if live.is_over:
            self._conclude(instance, live)

    def _worker_clock(self) -> datetime:
        scheduler = self._scheduler
        skew = timedelta()
        if scheduler.chance.random() < scheduler.faults.skew:
            skew = scheduler.seconds(-240, 240)
        return (scheduler.now + skew).replace(microsecond=0)

    def _replayed(self, instance: Instance) -> _Live:
        live = _Live(self._flows[instance.name], instance.id, instance.text)
        for now, arrivals in instance.history:
            live.advance(now, arrivals)
        if live.context.actions != instance.actions:
            raise Violation("an orchestrator is deterministic", f"{instance.name} {instance.id}")
        return live

    def _conclude(self, instance: Instance, live: _Live) -> None:
        if live.error is not None:
            raise Violation(
                "an orchestration ends with an outcome", f"{instance.name} {instance.id}: {live.error!r}"
            )
        if live.context.next_text is None:
            self._end(instance, Status.Completed, json.loads(json.dumps(live.output)))
            return
        instance.text, instance.execution = live.context.next_text, self._new()
        instance.history, instance.actions, instance.inbox, instance.live = [], [], [], None
        self._wake(instance)

    def _end(self, instance: Instance, status: Status, output: Any) -> None:
        instance.status, instance.output = status, output
        self._scheduler.say(f"{status.name} {instance.name} {instance.id} {output}")
        if instance.parent is not None:
            self._post(instance.parent, is_ok=status is Status.Completed, value=output)

    def _carry_out(self, instance: Instance, number: int, action: Action) -> None:
        target = (instance.id, instance.execution, number)
        if action.kind == "activity":
            self._deliver(
                _Call(instance=instance, execution=instance.execution, number=number, action=action)
            )
        elif action.fires_at is not None:
            self._scheduler.at(
                action.fires_at + self._delay(), "", lambda: self._post(target, is_ok=True, value=None)
            )
        else:
            child = action.instance_id or f"{instance.id}:{instance.execution}:{number}"
            if not self.start(action.name, child, action.text, target):
                self._post(target, is_ok=False, value=f"An instance with the id {child} is running already.")

    # --- activities ---

    def _deliver(self, call: _Call) -> None:
        """Give it to a worker, and to another one if nothing was heard by the time.

        Where its orchestration has been terminated since, it may be, as it lies in a queue of its own.
        """
        scheduler = self._scheduler
        if call.is_settled or (not call.instance.is_active and scheduler.chance.random() < 0.5):
            return
        about = call.instance.id
        name = f"{call.action.name} of {about}"
        scheduler.spawn(name, lambda: self._run(call), self._delay(), about=about)
        if scheduler.chance.random() < scheduler.faults.twice:
            scheduler.spawn(f"{name} again", lambda: self._run(call), scheduler.seconds(0, 120), about=about)
        scheduler.after(VISIBILITY, "", lambda: self._deliver(call))

    def _run(self, call: _Call) -> None:
        scheduler = self._scheduler
        target = (call.instance.id, call.execution, call.number)
        is_ok, value = self._attempt(call)
        scheduler.say(f"comes to {value}")
        if scheduler.chance.random() < scheduler.faults.lost_result:
            scheduler.say("and nobody hears of it")
            raise Died
        if call.is_settled:
            return
        call.is_settled = True
        if is_ok or call.attempt >= call.action.attempts:
            self._post(target, is_ok=is_ok, value=value)
            return
        again = replace(call, attempt=call.attempt + 1, is_settled=False)
        scheduler.after(call.action.pause, "", lambda: self._try_again(again))

    def _try_again(self, call: _Call) -> None:
        instance = call.instance
        if instance.is_active and instance.execution == call.execution:
            self._deliver(call)

    def _attempt(self, call: _Call) -> tuple[bool, Any]:
        name = call.action.name
        try:
            return True, json.loads(json.dumps(self._run_activity(name, json.loads(call.action.text))))
        except ServiceError as error:
            if not error.code.is_retryable:
                raise Violation("a step raises only what a retry can cure", f"{name}: {error}") from error
            return False, f"Activity function '{name}' failed:  {type(error).__name__}: {error}"
        except Exception as error:
            raise Violation("a step raises only what a retry can cure", f"{name}: {error!r}") from error


class Client:
    """The durable client, as the intake and the reconciler use it; the host may be away."""

    def __init__(self, scheduler: Scheduler, durable: Durable) -> None:
        self._scheduler = scheduler
        self._durable = durable

    async def get_status(self, instance_id: str, *, show_input: bool = False) -> Any:
        self._call(f"get_status {instance_id}")
        found = self._durable.instances.get(instance_id)
        if found is None:
            return SimpleNamespace(runtime_status=None, input_=None)
        return SimpleNamespace(runtime_status=found.status, input_=found.text if show_input else None)

    async def start_new(self, name: str, instance_id: str, order: Any) -> str:
        self._call(f"start_new {instance_id}")
        if not self._durable.start(name, instance_id, json.dumps(order)):
            raise Exception(f"An instance with the id {instance_id} is running already.")  # noqa: TRY002 - SDK's
        scheduler = self._scheduler
        if scheduler.chance.random() < scheduler.faults.lost_answer:
            scheduler.say("and the answer is lost")
            raise Exception("The operation failed with an unexpected status code 500")  # noqa: TRY002 - SDK's
        return instance_id

    async def terminate(self, instance_id: str, reason: str) -> None:
        del reason
        self._call(f"terminate {instance_id}")
        found = self._durable.instances.get(instance_id)
        if found is not None and found.is_active:
            self._durable.terminate(instance_id)

    def _call(self, what: str) -> None:
        scheduler = self._scheduler
        scheduler.point(what)
        if scheduler.chance.random() < scheduler.faults.refusal:
            raise Exception("The operation failed with an unexpected status code 503")  # noqa: TRY002 - SDK's


def is_expected(error: Exception) -> bool:
    """Whether a function that is no activity may end with it: it is run again, by its trigger or timer."""
    return (isinstance(error, AirgapError) and error.code is not Code.SETTING_INVALID) or type(
        error
    ) is Exception
