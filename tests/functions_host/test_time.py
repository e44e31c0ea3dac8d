"""Days pass in no time: the host knows only its clock."""

# The SDK leaves its decorators untyped.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from local_cloud.functions_host.app import App, HostSettings, index
from local_cloud.functions_host.history import EventType
from local_cloud.functions_host.host import Host
from local_cloud.functions_host.store import Instance

# The SDK announces its strict typing once in a process, by whichever call comes first.
pytestmark = pytest.mark.filterwarnings("ignore:azure.functions df_loads")

DAY_S = 86400.0
Steps = Generator[Any, Any, Any]


class SkippingClock:
    def __init__(self) -> None:
        self.skipped_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.skipped_s


def sleepers() -> App:
    app: Any = df.DFApp()

    @app.orchestration_trigger(context_name="context")
    def sleep(context: Any) -> Steps:
        begin = context.current_utc_datetime
        yield context.create_timer(begin + timedelta(days=context.get_input()))
        return (context.current_utc_datetime - begin).total_seconds()

    @app.orchestration_trigger(context_name="context")
    def event_or_days(context: Any) -> Steps:
        deadline = context.create_timer(context.current_utc_datetime + timedelta(days=context.get_input()))
        event = context.wait_for_external_event("go")
        winner = yield context.task_any([event, deadline])
        if winner == event:
            deadline.cancel()
        return winner == event

    @app.orchestration_trigger(context_name="context")
    def poll_daily(context: Any) -> Steps:
        left = context.get_input()
        yield context.create_timer(context.current_utc_datetime + timedelta(days=1))
        if left > 1:
            context.continue_as_new(left - 1)
            return None
        return context.current_utc_datetime.isoformat()

    return index(app, HostSettings())


async def settle(host: Host, instance_id: str, reached: Callable[[Instance], bool]) -> Instance:
    for _ in range(1000):
        instance = host.engine.get(instance_id)
        assert instance is not None
        if reached(instance):
            return instance
        await asyncio.sleep(0.005)
    raise AssertionError(instance)


def on_host(folder: Path, scenario: Callable[[Host, SkippingClock], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = SkippingClock()
        host = Host(sleepers(), db=folder / "state.db", clock=clock)
        await host.start()
        try:
            await scenario(host, clock)
        finally:
            await host.stop()

    asyncio.run(run())


async def skip(host: Host, clock: SkippingClock, days: float) -> None:
    """Lets whatever is due be taken in, then moves the clock."""
    await asyncio.sleep(0.05)
    clock.skipped_s += days * DAY_S
    host.engine.wake()


@pytest.mark.parametrize(("days", "legs"), [(1, [1.0]), (14, [3.0, 3.0, 3.0, 5.01])])
def test_timer(tmp_path: Path, days: int, legs: list[float]) -> None:
    """A timer of more than six days runs in legs of three."""

    async def scenario(host: Host, clock: SkippingClock) -> None:
        instance_id = host.engine.start("sleep", input_text=f'"{days}"')
        await settle(host, instance_id, lambda now: now.status == "Running")
        for leg in legs:
            assert not (await settle(host, instance_id, lambda _: True)).is_finished
            await skip(host, clock, leg)
        ended = await settle(host, instance_id, lambda now: now.is_finished)
        assert ended.status == "Completed", ended
        assert float(ended.output or 0) >= days * DAY_S
        fired = [
            item for item in host.engine.history(instance_id) if item["EventType"] == EventType.TIMER_FIRED
        ]
        assert len(fired) == len(legs)

    on_host(tmp_path, scenario)


def test_event_against_a_timer_of_days(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: SkippingClock) -> None:
        early = host.engine.start("event_or_days", input_text='"5"')
        late = host.engine.start("event_or_days", input_text='"5"')
        await skip(host, clock, 4)
        host.engine.send(early, EventType.EVENT_RAISED, Name="go", Input="1")
        assert (await settle(host, early, lambda now: now.is_finished)).output == "true"
        await skip(host, clock, 2)
        assert (await settle(host, late, lambda now: now.is_finished)).output == "false"

    on_host(tmp_path, scenario)


def test_cancelled_timer_of_more_than_six_days_holds_the_instance_until_its_leg_fires(tmp_path: Path) -> None:
    """The SDK marks only the long timer as cancelled, not the three-day leg that the host was told of."""

    async def scenario(host: Host, clock: SkippingClock) -> None:
        instance_id = host.engine.start("event_or_days", input_text='"14"')
        await skip(host, clock, 1)
        host.engine.send(instance_id, EventType.EVENT_RAISED, Name="go", Input="1")
        await settle(host, instance_id, lambda _: _has_taken(host, instance_id, EventType.EVENT_RAISED))
        await skip(host, clock, 1)
        assert not (await settle(host, instance_id, lambda _: True)).is_finished
        await skip(host, clock, 1.1)
        assert (await settle(host, instance_id, lambda now: now.is_finished)).output == "true"

    on_host(tmp_path, scenario)


def _has_taken(host: Host, instance_id: str, kind: EventType) -> bool:
    return any(item["EventType"] == kind for item in host.engine.history(instance_id))


def test_weekly_poll_over_generations(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: SkippingClock) -> None:
        instance_id = host.engine.start("poll_daily", input_text='"7"')
        for _ in range(7):
            await skip(host, clock, 1.001)
        ended = await settle(host, instance_id, lambda now: now.is_finished)
        assert ended.status == "Completed", ended
        assert ended.updated_at - ended.created_at >= 7 * DAY_S

    on_host(tmp_path, scenario)


@pytest.mark.parametrize("turns", range(6))
def test_host_that_was_just_woken_can_be_stopped(tmp_path: Path, turns: int) -> None:
    """Python 3.11's wait_for() swallows a cancellation that comes while what it waits for gets done."""

    async def run() -> None:
        host = Host(sleepers(), db=tmp_path / "state.db")
        await host.start()
        await asyncio.sleep(0.05)
        host.engine.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await host.stop()

    asyncio.run(run())
