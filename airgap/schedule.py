"""The schedule of a standing order: a repeating interval of ISO 8601, in UTC, and when a run is due.

A schedule is an unbounded interval that begins at a time and comes again after a duration, such as
``R/2026-12-01T02:00:00Z/P1D``: at that time, and every day after it. Durations are of a fixed length, so that
every time of a schedule is known without a calendar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from airgap.fields import parse_time
from airgap.journal import Journal
from airgap.states import State

SCHEDULE = "schedule"
"""The member of a standing order's facts that has its schedule, as text."""

MIN_EVERY = timedelta(minutes=5)
"""The app looks for what is due every five minutes."""

MAX_EVERY = timedelta(days=366)

_FORM = re.compile(
    r"R/(?P<start>[0-9TZ:-]{20})/P(?!\Z)"
    r"(?:(?P<weeks>[0-9]{1,4})W|(?:(?P<days>[0-9]{1,4})D)?"
    r"(?:T(?!\Z)(?:(?P<hours>[0-9]{1,4})H)?(?:(?P<minutes>[0-9]{1,4})M)?)?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule: the time ``start`` in UTC, and again after each ``every`` from then on."""

    text: str
    """As it was written."""
    start: datetime
    every: timedelta

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a repeating interval (ISO 8601-1, §5.6) with a start in UTC and a duration up to weeks.

        Raises:
            ValueError: it is no such interval, or comes again in less than five minutes or more than 366
                days.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(text)
        amounts = {name: int(match[name] or 0) for name in ("weeks", "days", "hours", "minutes")}
        every = timedelta(**amounts)
        if not MIN_EVERY <= every <= MAX_EVERY:
            raise ValueError(text)
        return cls(text=text, start=parse_time(match["start"]), every=every)

    def latest(self, now: datetime) -> datetime | None:
        """The last of the schedule's times that is not after ``now``; ``None`` before the first."""
        return None if now < self.start else self.start + (now - self.start) // self.every * self.every

    def following(self, now: datetime) -> datetime:
        """The first of the schedule's times that is after ``now``."""
        latest = self.latest(now)
        return self.start if latest is None else latest + self.every


def standing_since(journal: Journal) -> datetime | None:
    """The time since which a standing order has had its schedule; ``None`` while nothing is to be run.

    A change of anything else leaves its times as they are.
    """
    since: datetime | None = None
    for entry in reversed(journal.entries):
        newest = journal.entries[-1]
        if entry.state is not State.STANDING or entry.facts[SCHEDULE] != newest.facts[SCHEDULE]:
            break
        since = entry.at
    return since


def due_time(journal: Journal, now: datetime) -> datetime | None:
    """The time at which a standing order was last due and not run yet; ``None`` if nothing is to be run now.

    What was missed before it is not made up for: one run sends what several would have sent. Times from
    before the schedule was set, or from a pause, do not count.

    Args:
        journal: the standing order's journal.
        now: the current time, aware.
    """
    since = standing_since(journal)
    if since is None:
        return None
    latest = Schedule.parse(journal.entries[-1].facts[SCHEDULE]).latest(now)
    return latest if latest is not None and latest >= since else None
