"""Timer triggers as the timer extension runs them, on the host's own clock.

Each timer has a loop of its own, so a scheduled run begins when the one before has ended: never two at once.
What was missed while a run took too long, or while the clock was moved, is made up for by one run, not by
many. After each run, failed or not, the status (last, next, updated) is stored; nothing is tried again.

A timer with a monitor (the default) whose stored next run is over when the host starts was missed: it runs
at once, and is told that it is past due. A host that is killed during a run has stored nothing of it, so that
run comes again: at least once. Without a monitor, and for schedules that fall due more than once a minute,
nothing is stored and nothing is made up for.
"""

import asyncio
import datetime as dt
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local_cloud.functions_host.app import App, AppError, Function, resolve_settings
from local_cloud.functions_host.invoke import InvocationError, Invoker
from local_cloud.functions_host.schedules import Schedule, ScheduleError, is_frequent, parse_schedule
from local_cloud.functions_host.store import Store

_LOG = logging.getLogger(__name__)
_MAX_SLEEP_S = 1.0  # so that a wall clock that was set is noticed
_NEVER = "0001-01-01T00:00:00+00:00"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS timer_status (
    function TEXT PRIMARY KEY, last REAL, next REAL NOT NULL, updated REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerStatus:
    """The status of a timer's runs, in epoch seconds; `last` is None before the first one."""

    last: float | None
    next: float
    updated: float

    def as_json(self) -> dict[str, str]:
        """The status as the ScheduleStatus of the timer request that a function gets."""
        last = _NEVER if self.last is None else _iso(self.last)
        return {"Last": last, "Next": _iso(self.next), "LastUpdated": _iso(self.updated)}


def status_at_start(stored: TimerStatus | None, schedule: Schedule, now: float) -> TimerStatus:
    """The status from which a timer goes on when the host starts; if `next` is past, it is past due.

    A stored status of another schedule is replaced, and runs that it missed are not made up for.
    """
    if stored is None:
        return TimerStatus(last=None, next=schedule.next_after(now), updated=now)
    since = stored.updated if stored.last is None else stored.last
    expected = schedule.next_after(since)
    if stored.next == expected:
        return stored
    if expected < now:
        since, expected = now, schedule.next_after(now)
    return TimerStatus(last=None, next=expected, updated=since)


@dataclass(slots=True, kw_only=True)
class _Timer:
    function: Function
    schedule: Schedule
    is_monitored: bool
    runs_at_start: bool
    was_missed: bool
    status: TimerStatus
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def request(self, *, is_past_due: bool) -> dict[str, Any]:
        return {
            "Schedule": {"AdjustForDST": self.schedule.follows_the_calendar},
            "ScheduleStatus": self.status.as_json() if self.is_monitored else None,
            "IsPastDue": is_past_due,
        }


class TimerTriggers:
    """The timer triggers of all functions of an app; every method belongs on the event loop's thread."""

    def __init__(
        self,
        app: App,
        store: Store,
        invoker: Invoker,
        *,
        clock: Callable[[], float],
        deliver_twice: bool = False,
    ) -> None:
        """`clock` gives epoch seconds and may be moved forward (call `wake` then).

        Raises:
            AppError: A schedule that Azure would not take, or one that names a setting which does not exist.
        """
        self._store = store
        self._invoker = invoker
        self._clock = clock
        self._is_twice = deliver_twice
        self._asked_for: set[asyncio.Task[None]] = set()
        store.db.executescript(_SCHEMA)
        self._timers = {function.name: self._timer(function) for function in app.of("timerTrigger")}
        for timer in self._timers.values():
            self._save(timer)  # so that even a host that is killed at once has a next run to be late for

    def _timer(self, function: Function) -> _Timer:
        text = resolve_settings(str(function.settings["schedule"]))
        try:
            schedule = parse_schedule(text)
        except ScheduleError as error:
            raise AppError(f"Function {function.name}: {error}") from error
        now = self._clock()
        is_monitored = function.settings.get("useMonitor") is not False and not is_frequent(schedule, now)
        status = status_at_start(self._stored(function) if is_monitored else None, schedule, now)
        return _Timer(
            function=function,
            schedule=schedule,
            is_monitored=is_monitored,
            runs_at_start=bool(function.settings.get("runOnStartup")),
            was_missed=status.next < now,
            status=status,
        )

    def wake(self) -> None:
        """Look for due timers at once, since the clock was moved."""
        for timer in self._timers.values():
            timer.moved.set()

    def run_now(self, name: str) -> None:
        """Start a function now, as an operator may, beside its schedule, which stays as it is.

        Only scheduled runs wait for each other: this run may overlap with a scheduled one, as in Azure.

        Raises:
            KeyError: The app has no timer function of that name.
        """
        task = asyncio.get_running_loop().create_task(self._call(self._timers[name], is_past_due=False))
        self._asked_for.add(task)
        task.add_done_callback(self._asked_for.discard)

    async def run(self) -> None:
        """Run the functions that fall due, until cancelled."""
        if not self._timers:
            await asyncio.Event().wait()  # nothing to do, but the loop goes on until cancelled
        try:
            async with asyncio.TaskGroup() as group:
                for timer in self._timers.values():
                    group.create_task(self._run_on(timer))
        finally:
            for task in tuple(self._asked_for):
                task.cancel()
            await asyncio.gather(*self._asked_for, return_exceptions=True)

    async def _run_on(self, timer: _Timer) -> None:
        if timer.was_missed:
            await self._run_once(timer, is_past_due=True)
        elif timer.runs_at_start:
            await self._run_once(timer)
        while True:
            await self._until(timer)
            await self._run_once(timer)

    async def _until(self, timer: _Timer) -> None:
        while (left := timer.status.next - self._clock()) > 0:
            timer.moved.clear()
            try:
                async with asyncio.timeout(min(left, _MAX_SLEEP_S)):  # not wait_for(), see the engine
                    await timer.moved.wait()
            except TimeoutError:
                continue

    async def _run_once(self, timer: _Timer, *, is_past_due: bool = False) -> None:
        began = self._clock()
        await self._call(timer, is_past_due=is_past_due)
        if self._is_twice:
            # What a host does that was killed between the run and the storing of its status.
            await self._call(timer, is_past_due=True)
        timer.status = TimerStatus(last=began, next=timer.schedule.next_after(began), updated=began)
        self._save(timer)

    async def _call(self, timer: _Timer, *, is_past_due: bool) -> None:
        try:
            await self._invoker.timer(timer.function, timer.request(is_past_due=is_past_due))
        except InvocationError as error:
            _LOG.error("Timer function %s failed: %s\n%s", timer.function.name, error, error.stack)

    def _stored(self, function: Function) -> TimerStatus | None:
        row = self._store.db.execute(
            "SELECT last, next, updated FROM timer_status WHERE function = ?", (function.name,)
        ).fetchone()
        return None if row is None else TimerStatus(**row)

    def _save(self, timer: _Timer) -> None:
        if not timer.is_monitored:
            return
        status = timer.status
        try:
            self._store.db.execute(
                "INSERT OR REPLACE INTO timer_status VALUES (?, ?, ?, ?)",
                (timer.function.name, status.last, status.next, status.updated),
            )
        except sqlite3.OperationalError:
            # The run counts all the same; if the host ends now, it comes again.
            _LOG.exception("The status of timer %s cannot be stored now", timer.function.name)


def _iso(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat()
