"""The patterns that waiting for days and working in windows are built from, through the real SDK."""

# The SDK leaves its decorators untyped.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from local_cloud.functions_host.app import App, HostSettings, index
from local_cloud.functions_host.history import EventType
from local_cloud.functions_host.host import Host
from tests.functions_host.skipping import (
    NOON,
    Clock,
    ended,
    fire_next_timer,
    has_taken,
    hosted,
    next_timer,
    on_host,
    settle,
)

# The SDK announces its strict typing once in a process, by whichever call comes first.
pytestmark = pytest.mark.filterwarnings("ignore:azure.functions df_loads")

HOUR_S = 3600.0
WIDTH = 3
Steps = Generator[Any, Any, Any]


class Work:
    """An app, and what its activities did: which of them ran, and how many at once at most."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.running = self.most_at_once = 0
        self.held: dict[int, asyncio.Event] = {}
        """Activities that go on until their event is set."""
        app: Any = df.DFApp()
        app.activity_trigger(input_name="number")(self._activity())
        for orchestrator in (
            await_outcome,
            asks,
            window,
            one,
            window_with_deadlines,
            cancels_one_and_waits,
            forgets_a_timer,
        ):
            app.orchestration_trigger(context_name="context")(orchestrator)
        self.app: App = index(app, HostSettings(max_activities=50))

    def _activity(self) -> Callable[[int], Awaitable[int]]:
        async def work(number: int) -> int:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
            await asyncio.sleep(0)
            if number in self.held:
                await self.held[number].wait()
            self.running -= 1
            self.ran.append(number)
            if number < 0:
                raise ValueError("no")
            return number * 2

        return work


def await_outcome(context: Any) -> Steps:
    """Polls once an hour, one generation for each poll."""
    order = context.get_input()
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    answer = yield context.call_activity("work", order["polls"])
    if order["polls"] < order["ends_after"]:
        context.continue_as_new({**order, "polls": order["polls"] + 1})
        return None
    if order.get("fails"):
        raise ValueError("never came")
    return {"answer": answer, "id": context.instance_id, "parent": context.parent_instance_id}


def asks(context: Any) -> Steps:
    order = context.get_input()
    outcome = yield context.call_sub_orchestrator("await_outcome", order, order.get("id"))
    after = yield context.call_activity("work", 1000)
    return {"outcome": outcome, "after": after}


def window(context: Any) -> Steps:
    """At most three at once, a new one for each that ends; some are activities, some orchestrations."""
    left: list[int] = list(context.get_input())
    open_tasks: list[Any] = []
    done = []
    while left or open_tasks:
        while left and len(open_tasks) < WIDTH:
            open_tasks.append(_task(context, left.pop(0)))
        winner = yield context.task_any(open_tasks)
        open_tasks.remove(winner)
        done.append(None if isinstance(winner.result, Exception) else winner.result)
    return done


def _task(context: Any, number: int) -> Any:
    if number % 2:
        return context.call_activity("work", number)
    return context.call_sub_orchestrator("one", number, f"{context.instance_id}-{number}")


def one(context: Any) -> Steps:
    return (yield context.call_activity("work", context.get_input()))


def window_with_deadlines(context: Any) -> Steps:
    """Each round races the open activities against a new timer, and cancels it."""
    open_tasks = [context.call_activity("work", number) for number in range(context.get_input())]
    rounds = 0
    while open_tasks:
        deadline = context.create_timer(context.current_utc_datetime + timedelta(days=5))
        winner = yield context.task_any([*open_tasks, deadline])
        if winner == deadline:
            return "too late"
        deadline.cancel()
        open_tasks.remove(winner)
        rounds += 1
    return rounds


def cancels_one_and_waits(context: Any) -> Steps:
    begin = context.current_utc_datetime
    early = context.create_timer(begin + timedelta(days=1))
    yield context.task_any([context.call_activity("work", 1), early])
    early.cancel()
    yield context.create_timer(begin + timedelta(days=3))
    return (context.current_utc_datetime - begin).total_seconds()


def forgets_a_timer(context: Any) -> Steps:
    deadline = context.create_timer(context.current_utc_datetime + timedelta(days=1))
    done = yield context.task_any([context.call_activity("work", 1), deadline])
    return done != deadline


ORCHESTRATORS = (
    *(await_outcome, asks, window, one),
    *(window_with_deadlines, cancels_one_and_waits, forgets_a_timer),
)


def order(**fields: object) -> str:
    """An input as the client sends it: JSON text that is encoded once more."""
    return json.dumps(json.dumps(fields))


@pytest.mark.parametrize("fails", [False, True])
def test_parent_gets_what_the_last_generation_of_its_child_ends_with(tmp_path: Path, fails: bool) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        parent = host.engine.start("asks", input_text=order(polls=1, ends_after=30, id="child", fails=fails))
        longest = 0
        for _ in range(30):
            await fire_next_timer(host, clock, "child")
            longest = max(longest, len(host.engine.history("child")))
        end = await ended(host, parent)
        assert clock.now == NOON + 30 * HOUR_S
        assert longest < 15  # a generation is all that its history holds
        if fails:
            assert end.status == "Failed"
            assert "never came" in str(end.output)
        else:
            outcome = {"answer": 60, "id": "child", "parent": parent}
            assert json.loads(str(end.output)) == {"outcome": outcome, "after": 2000}

    on_host(tmp_path, Work().app, scenario)


def test_waiting_goes_on_in_another_host(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with hosted(tmp_path, Work().app, clock) as (host, _):
            parent = host.engine.start("asks", input_text=order(polls=1, ends_after=6, id="child"))
            for _ in range(3):
                await fire_next_timer(host, clock, "child")
            await next_timer(host, clock, "child")
        async with hosted(tmp_path, Work().app, clock) as (host, _):
            for _ in range(3):
                await fire_next_timer(host, clock, "child")
            assert json.loads(str((await ended(host, parent)).output))["outcome"]["answer"] == 12

    asyncio.run(scenario())


def test_id_of_a_child_is_free_again_when_it_has_ended(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        for polls in (7, 8):
            parent = host.engine.start("asks", input_text=order(polls=polls, ends_after=0, id="child"))
            await fire_next_timer(host, clock, "child")
            assert json.loads(str((await ended(host, parent)).output))["outcome"]["answer"] == polls * 2

    on_host(tmp_path, Work().app, scenario)


def test_id_of_a_child_that_runs_is_refused(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        first = host.engine.start("asks", input_text=order(polls=7, ends_after=0, id="child"))
        await next_timer(host, clock, "child")
        second = host.engine.start("asks", input_text=order(polls=8, ends_after=0, id="child"))
        end = await ended(host, second)
        assert end.status == "Failed"
        assert "the id child is running already" in str(end.output)
        await fire_next_timer(host, clock, "child")
        assert (await ended(host, first)).status == "Completed"

    on_host(tmp_path, Work().app, scenario)


def test_child_of_a_terminated_parent_goes_on_alone(tmp_path: Path) -> None:
    """Termination does not go down to sub-orchestrations, and their results then go nowhere."""

    async def scenario(host: Host, clock: Clock) -> None:
        parent = host.engine.start("asks", input_text=order(polls=7, ends_after=0, id="child"))
        await next_timer(host, clock, "child")
        host.engine.send(parent, EventType.EXECUTION_TERMINATED, Input="enough")
        assert (await ended(host, parent)).status == "Terminated"
        await fire_next_timer(host, clock, "child")
        assert (await ended(host, "child")).status == "Completed"
        assert not has_taken(host, parent, EventType.SUB_ORCHESTRATION_COMPLETED)

    on_host(tmp_path, Work().app, scenario)


def test_terminated_child_fails_its_parent(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        parent = host.engine.start("asks", input_text=order(polls=7, ends_after=0, id="child"))
        await next_timer(host, clock, "child")
        host.engine.send("child", EventType.EXECUTION_TERMINATED, Input="enough")
        end = await ended(host, parent)
        assert end.status == "Failed"
        assert "enough" in str(end.output)

    on_host(tmp_path, Work().app, scenario)


@pytest.mark.parametrize("deliver_twice", [False, True])
def test_sliding_window_runs_each_task_once_and_never_more_than_its_width(
    tmp_path: Path, deliver_twice: bool
) -> None:
    async def scenario() -> None:
        work, numbers = Work(), [*range(40), -1, -2]
        async with hosted(tmp_path, work.app, Clock(), deliver_twice=deliver_twice) as (host, _):
            instance_id = host.engine.start("window", input_text=json.dumps(json.dumps(numbers)))
            end = await ended(host, instance_id)
            assert end.status == "Completed", end
            done = json.loads(str(end.output))
            assert sorted(value for value in done if value is not None) == [n * 2 for n in range(40)]
            assert done.count(None) == 2
            scheduled = [
                item
                for item in host.engine.history(instance_id)
                if item["EventType"] in {EventType.TASK_SCHEDULED, EventType.SUB_ORCHESTRATION_CREATED}
            ]
            assert len(scheduled) == len(numbers)
        if not deliver_twice:
            assert work.most_at_once <= WIDTH
            assert sorted(work.ran) == sorted(numbers)

    asyncio.run(scenario())


def test_sliding_window_collapses_to_one_task_at_a_time(tmp_path: Path) -> None:
    """A task that is added to a window has to end before the next is scheduled: why the app has lanes.

    The host waits for each action of the SDK's list in turn, and a later ``WhenAny`` names its new task only.
    See ``docs/adr/0010-lanes-instead-of-windows.md``.
    """

    work, added = Work(), 7

    def counts(host: Host, instance_id: str) -> Counter[int]:
        return Counter(item["EventType"] for item in host.engine.history(instance_id))

    async def scenario(host: Host, _: Clock) -> None:
        work.held[added] = asyncio.Event()
        numbers = json.dumps(json.dumps([1, 3, 5, added, 9, 11, 13]))
        instance_id = host.engine.start("window", input_text=numbers)
        await settle(
            host, instance_id, lambda _: counts(host, instance_id)[EventType.TASK_COMPLETED] == WIDTH
        )
        assert counts(host, instance_id)[EventType.TASK_SCHEDULED] == WIDTH + 1
        work.held[added].set()
        assert (await ended(host, instance_id)).status == "Completed"

    on_host(tmp_path, work.app, scenario)


def test_cancelled_timers_neither_fire_nor_hold_the_instance(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        instance_id = host.engine.start("window_with_deadlines", input_text=json.dumps("12"))
        end = await ended(host, instance_id)
        assert (end.status, end.output) == ("Completed", "12")
        assert clock.now == NOON
        created = [i for i in host.engine.history(instance_id) if i["EventType"] == EventType.TIMER_CREATED]
        assert len(created) == 12

    on_host(tmp_path, Work().app, scenario)


def test_cancelled_timer_is_not_taken_for_the_one_that_is_waited_for(tmp_path: Path) -> None:
    """It fires all the same, while the instance still waits for another."""

    async def scenario(host: Host, clock: Clock) -> None:
        instance_id = host.engine.start("cancels_one_and_waits")
        await settle(host, instance_id, lambda _: has_taken(host, instance_id, EventType.TASK_COMPLETED))
        for days in (1, 3):
            assert await next_timer(host, clock, instance_id) == NOON + days * 24 * HOUR_S
            assert not (await settle(host, instance_id, lambda _: True)).is_finished
            await fire_next_timer(host, clock, instance_id)
        assert (await ended(host, instance_id)).output == str(3 * 24 * HOUR_S)

    on_host(tmp_path, Work().app, scenario)


def test_forgotten_timer_keeps_the_instance_running_until_it_fires(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        instance_id = host.engine.start("forgets_a_timer")
        taken = await settle(
            host, instance_id, lambda _: has_taken(host, instance_id, EventType.TASK_COMPLETED)
        )
        assert taken.status == "Running"
        await fire_next_timer(host, clock, instance_id)
        end = await ended(host, instance_id)
        assert (end.output, end.updated_at) == ("true", NOON + 24 * HOUR_S)

    on_host(tmp_path, Work().app, scenario)
