"""Standing orders: when they are due, whatever was missed, paused or changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.journal import Journal
from airgap.schedule import MAX_EVERY, MIN_EVERY, Schedule, due_time, standing_since
from airgap.states import Kind, State

START = datetime(2026, 12, 1, 2, 0, tzinfo=UTC)
DAY, HOUR, MINUTE, SECOND = (timedelta(**{unit: 1}) for unit in ("days", "hours", "minutes", "seconds"))
DAILY, HOURLY = "R/2026-12-01T02:00:00Z/P1D", "R/2026-12-01T02:00:00Z/PT1H"


@pytest.mark.parametrize(
    ("duration", "every"),
    [
        ("PT5M", 5 * MINUTE),
        ("P366D", 366 * DAY),
        ("P2W", 14 * DAY),
        ("P1DT12H30M", DAY + 12 * HOUR + 30 * MINUTE),
        ("P0DT90M", 90 * MINUTE),
        ("PT36H", 36 * HOUR),
    ],
)
def test_schedule_is_a_repeating_interval(duration: str, every: timedelta) -> None:
    schedule = Schedule.parse(f"R/2026-12-01T02:00:00Z/{duration}")
    assert (schedule.start, schedule.every) == (START, every)


@pytest.mark.parametrize(
    "text",
    [
        *("", "P1D", "R/P1D", "daily", "0 2 * * *", "R3/2026-12-01T02:00:00Z/P1D"),
        *("R/2026-12-01T02:00:00/P1D", "R/2026-12-01T02:00:00+01:00/P1D", "R/2026-13-01T02:00:00Z/P1D"),
        *("R/2026-12-01T02:00:00Z/P", "R/2026-12-01T02:00:00Z/P1DT", "R/2026-12-01T02:00:00Z/PT"),
        *("R/2026-12-01T02:00:00Z/P1M", "R/2026-12-01T02:00:00Z/P1Y", "R/2026-12-01T02:00:00Z/PT1S"),
        *("R/2026-12-01T02:00:00Z/P1W1D", "R/2026-12-01T02:00:00Z/P-1D", "R/2026-12-01T02:00:00Z/P0D"),
        *("R/2026-12-01T02:00:00Z/PT4M", "R/2026-12-01T02:00:00Z/P367D", "R/2026-12-01T02:00:00Z/P366DT1M"),
        *("R/2026-12-01T02:00:00Z/P1D ", "R/2026-12-01T02:00:00Z/P99999D", "R/2026-12-01T02:00:00Z/P\u0661D"),
    ],
)
def test_what_is_no_such_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Schedule.parse(text)


@given(
    every=st.integers(5, 366 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes)),
    after=st.integers(0, 10**9).map(lambda seconds: timedelta(seconds=seconds)),
)
def test_every_moment_lies_between_two_times_of_a_schedule(every: timedelta, after: timedelta) -> None:
    schedule = Schedule(text="", start=START, every=every)
    latest, following = schedule.latest(START + after), schedule.following(START + after)
    assert latest is not None
    assert latest <= START + after < following
    assert following - latest == every
    assert (latest - START) % every == timedelta()
    assert MIN_EVERY <= every <= MAX_EVERY


def test_schedule_has_no_time_before_its_start() -> None:
    schedule = Schedule.parse(DAILY)
    assert schedule.latest(START - SECOND) is None
    assert schedule.following(START - SECOND) == START
    assert schedule.latest(START) == START


class Order:
    """The journal of a standing order, entry by entry."""

    def __init__(self) -> None:
        self.journal = Journal(kind=Kind.ORDERS, about="nightly")

    def set(self, at: datetime, schedule: str = DAILY, state: State = State.STANDING, **facts: Any) -> None:
        facts |= {"revision": len(self.journal.entries)}
        facts |= {} if state is State.DELETED else {"schedule": schedule}
        entry = self.journal.next(state, facts, by="test", at=at)
        assert entry is not None
        self.journal = self.journal.extended(entry)

    def due(self, now: datetime) -> datetime | None:
        return due_time(self.journal, now)


@pytest.fixture
def order() -> Order:
    made = Order()
    made.set(START - HOUR)
    return made


def test_order_is_due_at_each_of_its_times(order: Order) -> None:
    assert order.due(START - SECOND) is None
    assert order.due(START) == START
    assert order.due(START + DAY - SECOND) == START
    assert order.due(START + DAY) == START + DAY


def test_what_was_missed_is_run_once(order: Order) -> None:
    assert order.due(START + 30 * DAY + 5 * HOUR) == START + 30 * DAY


def test_times_from_before_the_order_was_set_do_not_count() -> None:
    order = Order()
    order.set(START + 10 * DAY + SECOND)
    assert order.due(START + 10 * DAY + HOUR) is None
    assert order.due(START + 11 * DAY) == START + 11 * DAY


def test_time_at_which_the_order_is_set_counts() -> None:
    order = Order()
    order.set(START)
    assert order.due(START) == START


def test_nothing_is_due_while_paused_nor_for_what_fell_into_the_pause(order: Order) -> None:
    order.set(START - MINUTE, state=State.PAUSED)
    assert order.due(START) is None
    assert order.due(START + 40 * DAY) is None
    order.set(START + 40 * DAY + HOUR)
    assert order.due(START + 41 * DAY - SECOND) is None
    assert order.due(START + 41 * DAY) == START + 41 * DAY


def test_other_schedule_counts_from_its_being_set(order: Order) -> None:
    order.set(START + 10 * MINUTE, HOURLY)
    assert order.due(START + HOUR - SECOND) is None
    assert order.due(START + HOUR) == START + HOUR


def test_change_of_anything_else_loses_no_time(order: Order) -> None:
    order.set(START + SECOND, labels={"team": "a"})
    assert order.due(START + MINUTE) == START
    assert standing_since(order.journal) == START - HOUR


def test_nothing_is_due_of_what_is_deleted_or_never_was(order: Order) -> None:
    order.set(START - MINUTE, state=State.DELETED)
    assert order.due(START + DAY) is None
    assert Order().due(START) is None
    order.set(START + HOUR)
    assert order.due(START + 2 * HOUR) is None
