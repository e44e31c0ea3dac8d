"""Schedules as the timer extension reads them, and refuses them."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_cloud.functions_host.schedules import Cron, ScheduleError, is_frequent, parse_schedule


def moment(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        ("0 */5 * * * *", "2026-01-31 23:55:00", "2026-02-01 00:00:00"),
        ("*/5 * * * *", "2026-01-31 23:54:59.9", "2026-01-31 23:55:00"),  # five fields: at second 0
        ("30 0 * * * *", "2026-01-31 23:00:30", "2026-02-01 00:00:30"),
        ("* * * * * *", "2026-01-31 12:00:00.5", "2026-01-31 12:00:01"),
        ("0 30 9 * * 1-5", "2026-01-30 09:30:00", "2026-02-02 09:30:00"),  # Friday, then Monday
        ("0 0 0 13 * Fri", "2026-01-01 00:00:00", "2026-02-13 00:00:00"),  # the day and the weekday
        ("0 0 0 1 Jan,JULY *", "2026-02-01 00:00:00", "2026-07-01 00:00:00"),
        ("0 0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00:00"),
        ("0 0 0 29 2 0", "2028-03-01 00:00:00", "2032-02-29 00:00:00"),
        ("0 50/5 * * * *", "2026-01-31 10:51:00", "2026-01-31 10:55:00"),  # 50, 55
        ("0 0 20-22/2 * * *", "2026-01-31 20:00:00", "2026-01-31 22:00:00"),
        ("0 0 22-20 * * *", "2026-01-31 20:00:00", "2026-01-31 21:00:00"),  # turned round
        ("00:15:00", "2026-01-31 20:00:07", "2026-01-31 20:15:07"),
        ("7.00:00:01", "2026-01-31 20:00:00", "2026-02-07 20:00:01"),
    ],
)
def test_next(schedule: str, now: str, due: str) -> None:
    assert parse_schedule(schedule).next_after(moment(now)) == moment(due)


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        ("", "neither"),
        ("@hourly", "neither"),
        ("0 0 0 * * * 2026", "neither"),
        ("60 * * * * *", "no second"),
        ("0 0 24 * * *", "no hour"),
        ("0 0 0 0 * *", "no day"),
        ("0 0 0 L * *", "no day"),
        ("0 0 0 ? * *", "no day"),
        ("0 0 0 * * 7", "no weekday"),  # Sunday is 0
        ("0 0 0 * * 1#2", "no weekday"),
        ("0 0 0 * Foo *", "no month"),
        ("0 0 Noon * * *", "no hour"),
        ("0 */x * * * *", "step must be a number"),
        ("0 1,,2 * * * *", "no minute"),
        ("0 0 0 30 2 *", "never comes"),
        ("0 0 0 31 4,6,9,11 *", "never comes"),
        ("24:00:00", "write 1.00:00:00"),
        ("00:60:00", "no interval"),
        ("00:00:00", "no interval"),
    ],
)
def test_refused(schedule: str, complaint: str) -> None:
    with pytest.raises(ScheduleError, match=complaint):
        parse_schedule(schedule)


@pytest.mark.parametrize(
    ("schedule", "frequent"),
    [
        ("*/30 * * * * *", True),
        ("0,59 * * * * *", True),
        ("0 * * * * *", False),
        ("00:00:29", True),
        ("00:01:00", False),
    ],
)
def test_more_than_once_a_minute(schedule: str, frequent: bool) -> None:
    assert is_frequent(parse_schedule(schedule), moment("2026-01-31 12:00:00")) == frequent


def items(least: int, most: int) -> st.SearchStrategy[str]:
    value = st.integers(least, most).map(str)
    spans = st.tuples(value, value).map("-".join)
    steps = st.tuples(st.one_of(value, spans, st.just("*")), st.integers(1, most).map(str)).map("/".join)
    return st.lists(st.one_of(value, spans, steps, st.just("*")), min_size=1, max_size=3).map(",".join)


@settings(deadline=None)
@given(st.tuples(items(0, 59), items(0, 59), items(0, 23)), st.integers(0, 2**32))
def test_next_is_the_first_second_that_fits(times: tuple[str, str, str], now: int) -> None:
    schedule = parse_schedule(" ".join(times) + " * * *")
    assert isinstance(schedule, Cron)
    due = int(schedule.next_after(now))
    assert now < due <= now + 86400
    for second in (due, *range(now + 1, min(due, now + 1000))):
        time = dt.datetime.fromtimestamp(second, dt.UTC)
        fits = (
            time.second in schedule.seconds
            and time.minute in schedule.minutes
            and time.hour in schedule.hours
        )
        assert fits == (second == due)
