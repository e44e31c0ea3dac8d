"""The real app of one side on the local Functions host's engine, in this process, with the ports in memory.

Everything is the product's and the host's own: the app object, the activities' converters, the Durable SDK,
the replay rules. Two things are not. The clock stands still until nothing is left to do, and is then moved to
whatever falls due next, so that weeks pass in seconds. And functions run one at a time on the event loop's
thread, so that every run of a scenario writes the same histories, event by event.
"""

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import pytest

from function_app.azure import adapters, wiring
from function_app.ports import Ports, TargetSide
from function_app.roles import build_app
from function_app.settings import Role
from local_cloud.functions_host import invoke, steps
from local_cloud.functions_host.app import App, Function, HostSettings, index
from local_cloud.functions_host.engine import Engine
from local_cloud.functions_host.history import Event, event
from local_cloud.functions_host.history import EventType as Kind
from local_cloud.functions_host.invoke import Invoker
from local_cloud.functions_host.store import Query, Step, Store
from tests.function_app.memory import START

P = ParamSpec("P")
T = TypeVar("T")

MAX_EVENTS = 2000
MAX_BYTES = 1_000_000
MAX_PAYLOAD_BYTES = 64 * 1024
_SDK_TIMES = import_module("azure.durable_functions.models.history.HistoryEvent")
_TEXTS = ("Input", "Result", "Reason", "Details")


class Clock:
    """The host's time in epoch seconds; only ever moved forward.

    Args:
        start: what it shows first.
        alarm: a moment, and what happens then.
    """

    def __init__(
        self, start: datetime = START, *, alarm: tuple[datetime, Callable[[], None]] | None = None
    ) -> None:
        self.epoch_s = start.timestamp()
        self._alarm = alarm

    def move(self, epoch_s: float) -> None:
        """Show another time."""
        self.epoch_s = epoch_s
        if self._alarm is not None and self.now >= self._alarm[0]:
            (_, ring), self._alarm = self._alarm, None
            ring()

    def __call__(self) -> float:
        return self.epoch_s

    @property
    def now(self) -> datetime:
        """The time, aware."""
        return datetime.fromtimestamp(self.epoch_s, UTC)


@dataclass(slots=True)
class Generation:
    """What the history of an instance has come to since it was started or began anew."""

    name: str
    events: int = 0
    size_bytes: int = 0

    def add(self, items: Sequence[Event]) -> None:
        self.events += len(items)
        self.size_bytes += sum(len(json.dumps(item).encode()) + 2 for item in items)


@dataclass(slots=True)
class Probe:
    """What was seen of all histories of a scenario."""

    open: dict[str, Generation] = field(default_factory=dict)
    ended: list[Generation] = field(default_factory=list)
    payload_bytes: int = 0
    """Of the largest input, result, failure or custom status."""
    payload_of: str = ""

    def see_payload(self, name: str, text: object) -> None:
        if isinstance(text, str) and (size := len(text.encode())) > self.payload_bytes:
            self.payload_bytes, self.payload_of = size, name

    def generations(self) -> Iterator[Generation]:
        yield from self.ended
        yield from self.open.values()

    def assert_bounded(self) -> None:
        """No history and no payload was larger than promised."""
        longest = max(self.generations(), key=lambda one: one.events)
        assert longest.events <= MAX_EVENTS, longest
        largest = max(self.generations(), key=lambda one: one.size_bytes)
        assert largest.size_bytes <= MAX_BYTES, largest
        assert self.payload_bytes <= MAX_PAYLOAD_BYTES, (self.payload_of, self.payload_bytes)

    def by_name(self) -> dict[str, tuple[int, int, int]]:
        """For each orchestrator: how many generations, and the most events and bytes of one."""
        found: dict[str, list[Generation]] = defaultdict(list)
        for one in self.generations():
            found[one.name].append(one)
        return {
            name: (len(all_), max(one.events for one in all_), max(one.size_bytes for one in all_))
            for name, all_ in found.items()
        }


class SkippingStore(Store):
    """The host's store, in memory; tells the probe what is committed, moves the clock when all is still."""

    def __init__(self, clock: Clock, probe: Probe) -> None:
        super().__init__(":memory:")
        self.still = asyncio.Event()
        """Set when nothing is left to do, now or later."""
        self._clock = clock
        self._probe = probe

    def next_due(self, now: float) -> float | None:
        """What the host asks before it pauses. Under way is whatever still has its message or call here."""
        due = super().next_due(now)
        if self.due_instances(now) or self.waiting_activities((), 1):
            return due
        if due is None:
            self.still.set()
            return None
        self._clock.move(due)
        return due

    def commit(self, step: Step) -> None:
        me = step.instance
        generation = self._probe.open.setdefault(me.id, Generation(me.name))
        generation.add(self._consumed(step) if step.restarts_history else step.new_events)
        for item in step.new_events:
            for text in _TEXTS:
                self._probe.see_payload(me.name, item.get(text))
        for kept in (me.input, me.output, me.custom_status):
            self._probe.see_payload(me.name, kept)
        if step.restarts_history or me.is_finished:
            self._probe.ended.append(self._probe.open.pop(me.id))
        super().commit(step)

    def _consumed(self, step: Step) -> list[Event]:
        """The events of a generation's last step, which the host does not keep when all begins anew."""
        numbers = json.dumps(list(step.consumed))
        rows = self.db.execute(
            "SELECT event FROM message WHERE id IN (SELECT value FROM json_each(?))", (numbers,)
        )
        now = self._clock()
        begin, end = event(Kind.ORCHESTRATOR_STARTED, now), event(Kind.ORCHESTRATOR_COMPLETED, now)
        renewal = event(Kind.EXECUTION_COMPLETED, now, Result=step.instance.input)
        return [begin, *(json.loads(row["event"]) for row in rows), end, renewal]


Tap = Callable[[str, Mapping[str, Any]], None]
"""Is given what an orchestrator was called with, as JSON text, and what the SDK answered."""


def unseen(payload: str, answer: Mapping[str, Any]) -> None:
    """A tap that looks at nothing."""


class _TappedInvoker(Invoker):
    def __init__(self, app: App, tap: Tap) -> None:
        super().__init__(app, lambda: "{}")
        self._tap = tap

    async def orchestrator(self, function: Function, payload: str) -> dict[str, Any]:
        answer = await super().orchestrator(function, payload)
        self._tap(payload, answer)
        return answer


class _Inline(Executor):
    """Runs what it is given at once, where it is given."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            future.set_exception(error)
        return future


@cache
def indexed(role: Role) -> App:
    """The app of a side; the SDK lets functions be listed once in a process."""
    return index(build_app(role), HostSettings(max_activities=1000, max_orchestrators=1000))


Start = tuple[str, str, Mapping[str, Any]]
"""Name, instance id and input of an orchestration."""


@dataclass(frozen=True, slots=True)
class Played:
    """What a scenario came to."""

    outcomes: Sequence[dict[str, Any]]
    """What each of the orchestrations that were started came back with."""
    probe: Probe


def play(
    side: Ports,
    clock: Clock,
    *starts: Start,
    environment: Mapping[str, str],
    tap: Tap = unseen,
) -> Played:
    """Run orchestrations side by side, with all that they start, until nothing is left to do.

    Args:
        side: whose app it is, and the ports that its steps work with.
        clock: the host's; it is moved.
        starts: what is started.
        environment: the app's settings.
        tap: sees every call of an orchestrator.
    """
    with _in_place_of_azure(side, environment):
        probe = Probe()
        outcomes = asyncio.run(
            _play("target" if isinstance(side, TargetSide) else "source", clock, starts, probe, tap)
        )
    probe.assert_bounded()
    return Played(outcomes, probe)


async def _play(
    role: Role, clock: Clock, starts: Sequence[Start], probe: Probe, tap: Tap
) -> list[dict[str, Any]]:
    store, app = SkippingStore(clock, probe), indexed(role)
    engine = Engine(app, store, _TappedInvoker(app, tap), clock=clock)
    for name, instance_id, order in starts:
        engine.start(name, instance_id=instance_id, input_text=json.dumps(json.dumps(order)))
    working = asyncio.create_task(engine.run())
    still = asyncio.create_task(store.still.wait())
    await asyncio.wait([working, still], return_when=asyncio.FIRST_COMPLETED)
    for task in (working, still):
        task.cancel()
    await asyncio.gather(working, still, return_exceptions=True)
    unfinished = [one.id for one in store.find(Query()) if not one.is_finished]
    assert unfinished == []
    ended = [store.get(instance_id) for _, instance_id, _ in starts]
    store.close()
    return [json.loads(str(one.output)) for one in ended if one is not None]


@contextmanager
def _in_place_of_azure(side: Ports, environment: Mapping[str, str]) -> Iterator[None]:
    """The ports of ``side`` where the app would connect to Azure's."""
    ids = (uuid.UUID(int=number) for number in range(1, 10**9))
    ports = {
        name: getattr(side, name)
        for name in (
            *("blobs", "projection", "registry", "pipelines", "signing", "tickets", "poison", "events"),
            "pipeline_sas",
        )
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(adapters, "ports_of", lambda _: ports)
        if isinstance(side, TargetSide):  # its checks, and its staging registry
            patch.setattr(adapters, "target_side_of", lambda settings: replace(side, settings=settings))
        patch.setattr(invoke, "ThreadPoolExecutor", _Inline)
        # Nine tenths of a replay go into reading the same times again and again; the function is pure.
        patch.setattr(_SDK_TIMES, "dt_parse", lru_cache(maxsize=100_000)(_SDK_TIMES.dt_parse))
        patch.setattr(steps, "uuid", SimpleNamespace(uuid4=lambda: next(ids)))
        _forget_ports()
        yield
    _forget_ports()


def _forget_ports() -> None:
    for cached in (wiring.source_settings, wiring.source_side, wiring.target_side):
        cached.cache_clear()
