"""The schedules of timer functions: NCRONTAB expressions and intervals, as the timer extension reads them.

Written here and not taken from a cron library, because each of those speaks another dialect: a day *or* a
weekday where NCRONTAB wants both, `L`, `#` and `?`, Sunday as 7, names cut to three letters. A schedule that
only the library understood would run on this machine and leave the app without a single function in Azure.
Expressions are in UTC, which is Azure's default.
"""

import datetime as dt
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ONE_DAY = dt.timedelta(days=1)
_INTERVAL = re.compile(
    r"(?:(?P<days>\d{1,7})\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2})"
)
_MINUTE_S = 60


class ScheduleError(ValueError):
    """The schedule is one that Azure would not take, or would take for another than it looks."""


class Schedule(Protocol):
    """The port to a schedule: the moments at which a timer function is due, in epoch seconds."""

    @property
    def follows_the_calendar(self) -> bool:
        """Whether the schedule names times of day; an interval does not."""

    def next_after(self, moment: float) -> float:
        """The first due moment that is later than `moment`."""


def parse_schedule(text: str) -> Schedule:
    """Read `{second} {minute} {hour} {day} {month} {weekday}` (seconds may be left out) or `hh:mm:ss`.

    Raises:
        ScheduleError: The text is neither of them, or no day ever fits it.
    """
    fields = text.split()
    if len(fields) == len(_FIELDS) - 1:
        fields = ["0", *fields]
    if len(fields) == len(_FIELDS):
        return _cron(fields)
    if match := _INTERVAL.fullmatch(text.strip()):
        return _interval(text, match)
    raise ScheduleError(f"{text!r} is neither an NCRONTAB expression nor an interval hh:mm:ss")


def is_frequent(schedule: Schedule, now: float) -> bool:
    """Whether two due moments are less than a minute apart: Azure keeps no status for such timers."""
    first = schedule.next_after(now)
    return schedule.next_after(first) - first < _MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A fixed time between one run and the next."""

    seconds: float

    @property
    def follows_the_calendar(self) -> bool:
        """See the port."""
        return False

    def next_after(self, moment: float) -> float:
        """See the port."""
        return moment + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The values that each field of an NCRONTAB expression allows, ascending; all six must fit."""

    seconds: Sequence[int]
    minutes: Sequence[int]
    hours: Sequence[int]
    days: Sequence[int]
    months: Sequence[int]
    weekdays: Sequence[int]

    @property
    def follows_the_calendar(self) -> bool:
        """See the port."""
        return True

    def next_after(self, moment: float) -> float:
        """The first due moment that is later than `moment`, in epoch seconds.

        The search ends because `parse_schedule` refuses dates that no year has.
        """
        start = dt.datetime.fromtimestamp(math.floor(moment) + 1, dt.UTC)
        day, earliest = start.date(), (start.hour, start.minute, start.second)
        while True:
            time = self._first_time(earliest) if self._has_day(day) else None
            if time is not None:
                return dt.datetime(day.year, day.month, day.day, *time, tzinfo=dt.UTC).timestamp()
            day, earliest = day + _ONE_DAY, (0, 0, 0)

    def _has_day(self, day: dt.date) -> bool:
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _first_time(self, earliest: tuple[int, int, int]) -> tuple[int, int, int] | None:
        hours = [hour for hour in self.hours if hour >= earliest[0]]
        times = itertools.product(hours, self.minutes, self.seconds)
        return next((time for time in times if time >= earliest), None)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    names: Sequence[str] = ()

    def read(self, text: str) -> list[int]:
        """All values that a comma-separated list of `*`, `a`, `a-b`, each with or without `/step`, allows."""
        values: set[int] = set()
        for item in text.split(","):
            span, slash, step = item.partition("/")
            if slash and not (step.isascii() and step.isdigit()):
                raise ScheduleError(f"{item!r} is no {self.name}: the step must be a number")
            first, dash, last = span.partition("-")
            if span == "*":
                start, end = self.least, self.most
            else:
                start = self._value(first)
                # As NCRONTAB does: `a/step` goes on to the end, and a range that is upside down is turned.
                end = self._value(last) if dash else self.most if slash else start
                start, end = sorted((start, end))
            values.update(range(start, end + 1, max(int(step or 1), 1)))
        return sorted(values)

    def _value(self, text: str) -> int:
        if text.isascii() and text.isdigit():
            value = int(text)
        else:
            # Any beginning of a name will do, as for NCRONTAB.
            starts = [name.startswith(text.lower()) for name in self.names] if text else []
            value = self.least + starts.index(True) if any(starts) else self.least - 1
        if not self.least <= value <= self.most:
            raise ScheduleError(f"{text!r} is no {self.name}: it must be from {self.least} to {self.most}")
        return value


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 6, _WEEKDAYS),
)


def _cron(fields: Sequence[str]) -> Cron:
    seconds, minutes, hours, days, months, weekdays = (
        field.read(text) for field, text in zip(_FIELDS, fields, strict=True)
    )
    if all(days[0] > _LONGEST_MONTHS[month - 1] for month in months):
        raise ScheduleError(f"{' '.join(fields)!r} never comes: no such month has that day")
    return Cron(seconds=seconds, minutes=minutes, hours=hours, days=days, months=months, weekdays=weekdays)


def _interval(text: str, match: re.Match[str]) -> Interval:
    days, hours, minutes, seconds = (
        int(match[name] or 0) for name in ("days", "hours", "minutes", "seconds")
    )
    if hours > 23:  # noqa: PLR2004 - hours of a day
        raise ScheduleError(
            f"{text!r}: Azure reads {hours}:00:00 as {hours} days; write {hours // 24}.00:00:00"
        )
    total = dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    if minutes > 59 or seconds > 59 or not total:  # noqa: PLR2004 - minutes of an hour
        raise ScheduleError(f"{text!r} is no interval hh:mm:ss")
    return Interval(seconds=total)
