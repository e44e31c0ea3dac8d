"""Days pass in no time: the host knows only its clock."""

# The SDK leaves its decorators untyped.
# mypy: disable-error-code="untyped-decorator"

import asyncio
from collections.abc import Generator
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
    move,
    next_timer,
    on_host,
    settle,
)

# The SDK announces its strict typing once in a process, by whichever call comes first.
pytestmark = pytest.mark.filterwarnings("ignore:azure.functions df_loads")

DAY_S = 86400.0
Steps = Generator[Any, Any, Any]


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


@pytest.mark.parametrize(("days", "legs"), [(1, [1]), (14, [3, 6, 9, 14])])
def test_timer(tmp_path: Path, days: int, legs: list[int]) -> None:
    """A timer of more than six days runs in legs of three."""

    async def scenario(host: Host, clock: Clock) -> None:
        instance_id = host.engine.start("sleep", input_text=f'"{days}"')
        for leg in legs:
            assert await next_timer(host, clock, instance_id) == NOON + leg * DAY_S
            await fire_next_timer(host, clock, instance_id)
        end = await ended(host, instance_id)
        assert (end.status, end.output) == ("Completed", str(days * DAY_S))

    on_host(tmp_path, sleepers(), scenario)


def test_event_against_a_timer_of_days(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        early = host.engine.start("event_or_days", input_text='"5"')
        late = host.engine.start("event_or_days", input_text='"5"')
        for instance_id in (early, late):
            await next_timer(host, clock, instance_id)
        move(host, clock, NOON + 4 * DAY_S)
        host.engine.send(early, EventType.EVENT_RAISED, Name="go", Input="1")
        assert (await ended(host, early)).output == "true"
        await fire_next_timer(host, clock, late)
        assert (await ended(host, late)).output == "false"

    on_host(tmp_path, sleepers(), scenario)


def test_cancelled_timer_of_more_than_six_days_holds_the_instance_until_its_leg_fires(tmp_path: Path) -> None:
    """The SDK marks only the long timer as cancelled, not the three-day leg that the host was told of."""

    async def scenario(host: Host, clock: Clock) -> None:
        instance_id = host.engine.start("event_or_days", input_text='"14"')
        await next_timer(host, clock, instance_id)
        move(host, clock, NOON + DAY_S)
        host.engine.send(instance_id, EventType.EVENT_RAISED, Name="go", Input="1")
        taken = await settle(
            host, instance_id, lambda _: has_taken(host, instance_id, EventType.EVENT_RAISED)
        )
        assert not taken.is_finished
        await fire_next_timer(host, clock, instance_id)
        end = await ended(host, instance_id)
        assert (end.output, end.updated_at) == ("true", NOON + 3 * DAY_S)

    on_host(tmp_path, sleepers(), scenario)


def test_weekly_poll_over_generations(tmp_path: Path) -> None:
    async def scenario(host: Host, clock: Clock) -> None:
        instance_id = host.engine.start("poll_daily", input_text='"7"')
        for _ in range(7):
            await fire_next_timer(host, clock, instance_id)
        end = await ended(host, instance_id)
        assert end.status == "Completed", end
        assert end.updated_at - end.created_at == 7 * DAY_S

    on_host(tmp_path, sleepers(), scenario)


@pytest.mark.parametrize("turns", range(6))
def test_host_that_was_just_woken_can_be_stopped(tmp_path: Path, turns: int) -> None:
    """Python 3.11's wait_for() swallows a cancellation that comes while what it waits for gets done."""

    async def run() -> None:
        host = Host(sleepers(), db=tmp_path / "state.db")
        await host.start()
        for _ in range(20):
            await asyncio.sleep(0)  # the host's loops wait for work by now
        host.engine.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await host.stop()

    asyncio.run(run())
