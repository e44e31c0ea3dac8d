"""Timer functions: when they run, what they are told, and what a restart makes up for."""

# The SDK leaves its decorators untyped.
# mypy: disable-error-code="untyped-decorator"

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from aiohttp import ClientSession

from local_cloud.functions_host.app import AppError, HostSettings, index
from local_cloud.functions_host.host import Host
from local_cloud.functions_host.schedules import parse_schedule
from local_cloud.functions_host.timers import TimerStatus, status_at_start
from tests.functions_host.host_process import HostProcess, running_host
from tests.functions_host.skipping import NOON, Clock, hosted, move

# The SDK announces its strict typing once in a process, by whichever call comes first.
pytestmark = pytest.mark.filterwarnings("ignore:azure.functions df_loads")

HOUR_S = 3600.0
HOURLY = "0 0 * * * *"


class Ticks:
    """An app with one timer function that notes each of its runs, and what a test may do meanwhile."""

    def __init__(self, schedule: str = HOURLY, **options: Any) -> None:
        self.requests: asyncio.Queue[func.TimerRequest] = asyncio.Queue()
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.running = self.most_at_once = 0
        self.fails = False
        app: Any = df.DFApp()

        @app.timer_trigger(arg_name="tick", schedule=schedule, **options)
        async def tick(tick: func.TimerRequest) -> None:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
            await self.requests.put(tick)
            await self.let_go.wait()
            self.running -= 1
            if self.fails:
                raise ValueError("no")

        self.app = index(app, HostSettings())

    async def next(self) -> Any:
        async with asyncio.timeout(20):
            return await self.requests.get()

    async def settle(self) -> None:
        """Lets everything that is ready go on; a run that is due has begun after that."""
        for _ in range(20):
            await asyncio.sleep(0)


def to(host: Host, clock: Clock, hours: float) -> None:
    move(host, clock, NOON + hours * HOUR_S)


def test_runs_when_due_and_is_told_when(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks, clock = Ticks(), Clock()
        async with hosted(tmp_path, ticks.app, clock) as (host, _):
            to(host, clock, 0.99)
            await ticks.settle()
            assert ticks.requests.empty()
            to(host, clock, 1)
            first = await ticks.next()
            assert not first.past_due
            assert first.schedule == {"AdjustForDST": True}
            assert first.schedule_status == {
                "Last": "0001-01-01T00:00:00+00:00",
                "Next": "2026-01-31T13:00:00+00:00",
                "LastUpdated": "2026-01-31T12:00:00+00:00",
            }
            await ticks.settle()
            to(host, clock, 2)
            assert (await ticks.next()).schedule_status["Last"] == "2026-01-31T13:00:00+00:00"

    asyncio.run(scenario())


def test_days_that_were_skipped_are_one_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks, clock = Ticks(), Clock()
        async with hosted(tmp_path, ticks.app, clock) as (host, _):
            to(host, clock, 72.5)
            assert not (await ticks.next()).past_due
            await ticks.settle()
            assert ticks.requests.empty()
            to(host, clock, 73)
            assert (await ticks.next()).schedule_status["Last"] == "2026-02-03T12:30:00+00:00"

    asyncio.run(scenario())


def test_never_two_scheduled_runs_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks, clock = Ticks(), Clock()
        ticks.let_go.clear()
        async with hosted(tmp_path, ticks.app, clock) as (host, _):
            to(host, clock, 1)
            await ticks.next()
            to(host, clock, 3)
            await ticks.settle()
            assert ticks.requests.empty()
            ticks.let_go.set()
            await ticks.next()  # what fell due meanwhile, once
            assert ticks.most_at_once == 1

    asyncio.run(scenario())


def test_failed_run_is_not_tried_again_before_the_next_is_due(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks, clock = Ticks(), Clock()
        ticks.fails = True
        async with hosted(tmp_path, ticks.app, clock) as (host, _):
            to(host, clock, 1)
            await ticks.next()
            await ticks.settle()
            assert ticks.requests.empty()
            to(host, clock, 2)
            assert not (await ticks.next()).past_due

    asyncio.run(scenario())


@pytest.mark.parametrize(("missed", "runs"), [(0.5, []), (1.5, [True]), (50, [True])])
def test_restart_makes_up_for_what_was_missed_by_one_run(
    tmp_path: Path, missed: float, runs: list[bool]
) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with hosted(tmp_path, Ticks().app, clock):
            pass
        clock.now += missed * HOUR_S
        ticks = Ticks()
        async with hosted(tmp_path, ticks.app, clock) as (host, _):
            await ticks.settle()
            seen = [(await ticks.next()).past_due for _ in runs]
            await ticks.settle()
            assert ticks.requests.empty()
            assert seen == runs
            to(host, clock, missed + 1)
            assert not (await ticks.next()).past_due

    asyncio.run(scenario())


def test_timer_without_monitor_misses_what_it_missed(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with hosted(tmp_path, Ticks(use_monitor=False).app, clock):
            pass
        clock.now += 1.5 * HOUR_S
        ticks = Ticks(use_monitor=False)
        async with hosted(tmp_path, ticks.app, clock) as (host, _):
            await ticks.settle()
            assert ticks.requests.empty()
            to(host, clock, 2)
            request = await ticks.next()
            assert (request.past_due, request.schedule_status) == (False, {})

    asyncio.run(scenario())


def test_run_on_startup(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks, clock = Ticks(run_on_startup=True), Clock()
        async with hosted(tmp_path, ticks.app, clock) as (host, _):
            assert not (await ticks.next()).past_due
            await ticks.settle()
            to(host, clock, 1)
            assert (await ticks.next()).schedule_status["Last"] == "2026-01-31T12:00:00+00:00"

    asyncio.run(scenario())


def test_delivered_twice_the_second_run_is_past_due(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks, clock = Ticks(), Clock()
        async with hosted(tmp_path, ticks.app, clock, deliver_twice=True) as (host, _):
            to(host, clock, 1)
            assert [(await ticks.next()).past_due for _ in range(2)] == [False, True]
            await ticks.settle()
            assert ticks.requests.empty()

    asyncio.run(scenario())


def test_operator_starts_a_run_without_moving_the_schedule(tmp_path: Path) -> None:
    async def scenario() -> None:
        ticks, clock = Ticks(), Clock()
        async with hosted(tmp_path, ticks.app, clock) as (host, url), ClientSession(url) as session:
            async with session.post("/admin/functions/Tick", json={"input": ""}) as answer:
                assert answer.status == 202
            assert not (await ticks.next()).past_due
            to(host, clock, 1)
            assert (await ticks.next()).schedule_status["Last"].startswith("0001")

    asyncio.run(scenario())


def status(last: float | None, due: float, updated: float) -> TimerStatus:
    return TimerStatus(last=last and NOON + last, next=NOON + due, updated=NOON + updated)


@pytest.mark.parametrize(
    ("stored", "now", "expected"),
    [
        (None, 1, status(None, 3600, 1)),
        (status(None, 3600, 0), 7200, status(None, 3600, 0)),
        (status(60, 3600, 60), 7200, status(60, 3600, 60)),
        # Another schedule led to these: what it missed is not made up for.
        (status(60, 300, 60), 1200, status(None, 3600, 60)),
        (status(60, 300, 60), 7205, status(None, 10800, 7205)),
    ],
)
def test_status_at_start(stored: TimerStatus | None, now: float, expected: TimerStatus) -> None:
    assert status_at_start(stored, parse_schedule(HOURLY), NOON + now) == expected


@pytest.mark.parametrize("schedule", ["0 0 0 * * 7", "%NO_SUCH_SETTING%"])
def test_schedule_that_azure_would_not_take_is_refused_at_the_start(tmp_path: Path, schedule: str) -> None:
    with pytest.raises(AppError, match=r"tick|NO_SUCH_SETTING"):
        Host(Ticks(schedule).app, db=tmp_path / "state.db")


# --- in a host of its own process ---

TIMERS = {"SAMPLE_TIMERS": "1", "SAMPLE_SCHEDULE": "0 30 * * * *"}


@pytest.fixture(scope="module")
def timer_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with running_host(tmp_path_factory.mktemp("timers"), environment=TIMERS) as host:
        yield host


def test_host_says_that_it_runs(timer_host: HostProcess) -> None:
    assert timer_host.call("GET", "/admin/host/status").json["state"] == "Running"


def test_timer_function_with_a_durable_client_starts_an_orchestration(timer_host: HostProcess) -> None:
    assert timer_host.call("POST", "/admin/functions/swept", {"input": ""}).status == 202
    timer_host.until_noted("swept False")
    timer_host.until_noted("swept to the end")
    assert [item["name"] for item in timer_host.hook("GET", "instances").json] == ["chain"]


@pytest.mark.parametrize(
    ("name", "raw", "code"),
    [
        ("nobody", b"{}", 404),
        ("chain", b"{}", 501),
        ("hourly", b"", 400),
        ("hourly", b"[]", 400),
        ("hourly", b"{}", 202),
    ],
)
def test_answers_of_the_admin_endpoint(timer_host: HostProcess, name: str, raw: bytes, code: int) -> None:
    assert timer_host.call("POST", f"/admin/functions/{name}", raw=raw).status == code


def test_run_that_was_killed_comes_again_and_one_that_ended_does_not(tmp_path: Path) -> None:
    with running_host(tmp_path, environment=TIMERS):
        pass
    _let_pass(tmp_path / "state.db", hours=2)
    with running_host(tmp_path, environment={**TIMERS, "SAMPLE_TIMER_SECONDS": "600"}) as host:
        host.until_noted("swept True")  # and the host is killed
    with running_host(tmp_path, environment=TIMERS) as host:
        host.until_noted("swept True", 2)
        host.until_noted("swept to the end")
        assert host.terminate() == 0
    with running_host(tmp_path, environment=TIMERS) as host:
        host.result("chain", {"n": 1})  # whatever was past due has begun by now
        assert host.lines().count("swept True") == 2


def _let_pass(state: Path, *, hours: int) -> None:
    """As if the host had ended that long ago."""
    with closing(sqlite3.connect(state)) as db, db:
        changed = db.execute(
            "UPDATE timer_status SET next = next - ?, updated = updated - ?", (hours * HOUR_S, hours * HOUR_S)
        )
        assert changed.rowcount == 2
