"""The progress of a run: one meter that every loop over bytes reports to, and the ways to show it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from offline_mover import amounts

PLAIN_INTERVAL_S = 10.0
_NARROW_COLUMNS = 72
"""Of a terminal that has no room for bars, only for figures."""
_WIDE_COLUMNS = 110
"""Of a terminal that has room for the name of the part, too."""


class Cancelled(Exception):  # noqa: N818 - not an error: the run was stopped on purpose
    """The sign that the run was stopped; raised in worker threads, never seen by the caller of a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A stretch of work that is done: what it was, how many bytes, and how many seconds it took."""

    title: str
    done_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """The progress of one volume; ``part`` is the name of the part begun last."""

    name: str
    part: str
    done_bytes: int
    total_bytes: int
    elapsed_s: float

    @property
    def rate_bytes_per_s(self) -> float:
        """The bytes a second, on average since the stretch began; 0 when that is not known yet."""
        return _rate(self.done_bytes, self.elapsed_s)

    @property
    def left_s(self) -> int | None:
        """The seconds that are left at that rate; ``None`` when that is not known yet."""
        return _left(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a stretch of work: in all, and on each volume where there are several.

    ``begun_parts`` of ``total_parts`` are done or being worked on; 0 where nobody counts.
    """

    title: str
    done_bytes: int
    total_bytes: int
    elapsed_s: float
    begun_parts: int = 0
    total_parts: int = 0
    lanes: tuple[LaneState, ...] = ()

    @property
    def rate_bytes_per_s(self) -> float:
        """The bytes a second, on average since the stretch began; 0 when that is not known yet."""
        return _rate(self.done_bytes, self.elapsed_s)

    @property
    def left_s(self) -> int | None:
        """The seconds that are left at that rate; ``None`` when that is not known yet."""
        return _left(self)


def _rate(done_bytes: int, elapsed_s: float) -> float:
    return max(0, done_bytes) / elapsed_s if elapsed_s >= 1 else 0.0


def _left(state: Progress | LaneState) -> int | None:
    rate = state.rate_bytes_per_s
    return int(max(0, state.total_bytes - state.done_bytes) / rate) if rate and state.total_bytes else None


class Display(Protocol):
    """The port to what shows progress; called from any thread, under the meter's lock."""

    def show(self, progress: Progress) -> None:
        """Show the progress; called at most once for each piece of a part. ``total_bytes`` may be 0."""

    def close(self) -> None:
        """End the display, and leave the terminal as it was."""


class Gauge(Protocol):
    """The port that is told how many bytes are done: the meter itself, or one lane of it."""

    def advance(self, size_bytes: int) -> None:
        """Report ``size_bytes`` more as done; negative when a piece has to be done again.

        Raises:
            Cancelled: the run was stopped.
        """


class Meter:
    """The meter of a run counts its bytes; since every loop over bytes reports here, it also stops them."""

    def __init__(
        self, display: Display | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._display = display
        self._clock = clock
        self._lock = threading.Lock()
        self._title = ""
        self._done_bytes = 0
        self._total_bytes = 0
        self._begun_parts = 0
        self._total_parts = 0
        self._began_at = clock()
        self._lanes: dict[str, Lane] = {}
        self._is_cancelled = False
        self.throttles = 0
        """How often the service said that it is busy."""

        self._work: dict[str, Work] = {}

    def start(
        self, title: str, total_bytes: int, lanes: Mapping[str, int] | None = None, *, parts: int = 0
    ) -> None:
        """Begin a new stretch of work.

        Args:
            title: the words for what is done; what follows `` blob `` in it is left out of the account of the
                work.
            total_bytes: how much there is to do; 0 where that is not known, and then only what is done is
                told.
            lanes: the bytes of each volume by its name.
            parts: how many parts there are on all volumes together.
        """
        with self._lock:
            self._account()
            self._title, self._done_bytes, self._total_bytes = title, 0, total_bytes
            self._begun_parts, self._total_parts = 0, parts
            self._began_at = self._clock()
            self._lanes = {name: Lane(self, name, total) for name, total in (lanes or {}).items()}
            self._show()

    def work(self) -> tuple[Work, ...]:
        """The stretches of work so far, in the order in which they began, except those without bytes."""
        with self._lock:
            self._account()
            self._title = ""
            return tuple(self._work.values())

    def _account(self) -> None:
        """Add the stretch that ends to the work that is done."""
        title = self._title.partition(" blob ")[0]
        if not title or self._done_bytes <= 0:
            return
        before = self._work.get(title, Work(title=title, done_bytes=0, seconds=0.0))
        self._work[title] = Work(
            title=title,
            done_bytes=before.done_bytes + self._done_bytes,
            seconds=before.seconds + self._clock() - self._began_at,
        )

    def lane(self, name: str, part: str) -> Gauge:
        """The gauge to which the bytes of ``part`` on the volume ``name`` are reported."""
        with self._lock:
            self._begun_parts += 1
            lane = self._lanes.get(name)
            if lane is None:
                return self
            lane.part = part
            return lane

    def advance(self, size_bytes: int, lane: Lane | None = None) -> None:
        """Report ``size_bytes`` more as done; negative when a piece has to be done again.

        Raises:
            Cancelled: the run was stopped.
        """
        with self._lock:
            if self._is_cancelled:
                raise Cancelled
            self._done_bytes += size_bytes
            if lane is not None:
                lane.done_bytes += size_bytes
            self._show()

    def throttle(self) -> None:
        """Note that the service said that it is busy, for whoever decides how much is asked of it."""
        with self._lock:
            self.throttles += 1

    def cancel(self) -> None:
        """Make every loop that reports its bytes end at its next piece."""
        with self._lock:
            self._is_cancelled = True

    def close(self) -> None:
        """End the display of the run."""
        with self._lock:
            if self._display is not None:
                self._display.close()
                self._display = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self) -> None:
        if self._display is None or not (self._total_bytes or self._done_bytes):
            return  # nobody knows yet how much it will be, if anything
        lanes = self._lanes.values() if len(self._lanes) > 1 else ()
        elapsed_s = self._clock() - self._began_at
        self._display.show(
            Progress(
                title=self._title,
                done_bytes=self._done_bytes,
                total_bytes=self._total_bytes,
                elapsed_s=elapsed_s,
                begun_parts=min(self._begun_parts, self._total_parts),
                total_parts=self._total_parts,
                lanes=tuple(lane.state(elapsed_s) for lane in lanes),
            )
        )


class Lane:
    """The share of one volume in a stretch of work; counted under the meter's lock."""

    def __init__(self, meter: Meter, name: str, total_bytes: int) -> None:
        self._meter = meter
        self._name = name
        self._total_bytes = total_bytes
        self.part = ""
        self.done_bytes = 0

    def advance(self, size_bytes: int) -> None:
        """See the port."""
        self._meter.advance(size_bytes, self)

    def state(self, elapsed_s: float) -> LaneState:
        """The progress of the volume, ``elapsed_s`` seconds after the stretch began."""
        return LaneState(
            name=self._name,
            part=self.part,
            done_bytes=self.done_bytes,
            total_bytes=self._total_bytes,
            elapsed_s=elapsed_s,
        )


class PlainDisplay:
    """A display that writes a line now and then, for logs, screen readers and programs."""

    def __init__(
        self,
        write: Callable[[Progress], None],
        *,
        interval_s: float = PLAIN_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._interval_s = interval_s
        self._clock = clock
        self._next_at = clock() + interval_s

    def show(self, progress: Progress) -> None:
        """Write a line if enough time has passed since the last one."""
        if (now := self._clock()) >= self._next_at:
            self._next_at = now + self._interval_s
            self._write(progress)

    def close(self) -> None:
        """Do nothing: lines leave nothing behind that has to be restored."""


def write_progress_lines(progress: Progress) -> None:
    """Write the lines of :func:`progress_lines` to stderr."""
    print("\n".join(progress_lines(progress)), file=sys.stderr, flush=True)


def progress_lines(progress: Progress) -> list[str]:
    """The progress in lines for a person, one for each volume where there are several.

    For example ``fetching: 12.3 MB of 114.3 MB (10 %), part 3 of 7, 41.5 MB/s, 12 s left``.
    """
    return [
        f"{progress.title}: {', '.join(_figures(progress, _part_count(progress)))}",
        *(f"  {lane.name}: {', '.join(_figures(lane))}" for lane in progress.lanes),
    ]


def _figures(state: Progress | LaneState, *more: str) -> list[str]:
    percent = f" ({100 * state.done_bytes // state.total_bytes} %)" if state.total_bytes else ""
    return [figure for figure in (f"{_amount(state)}{percent}", *more, *_pace(state)) if figure]


def _amount(state: Progress | LaneState) -> str:
    done = amounts.size(state.done_bytes)
    return f"{done} of {amounts.size(state.total_bytes)}" if state.total_bytes else done


def _part_count(progress: Progress) -> str:
    return f"part {progress.begun_parts:,} of {progress.total_parts:,}" if progress.total_parts else ""


def _pace(state: Progress | LaneState) -> list[str]:
    """Rate and time left, once they are known."""
    if state.left_s is None:
        return ["", ""]
    return [amounts.rate(state.rate_bytes_per_s), f"{amounts.duration(state.left_s)} left"]


class RichDisplay:
    """A display of bars on the terminal, one in all and one for each volume; rich is imported only here.

    On a narrow terminal the bars give way to the figures; only a wide one has the name of the part.
    """

    def __init__(self) -> None:
        from rich import progress as bars  # noqa: PLC0415 - 50 ms that only a terminal needs
        from rich.console import Console  # noqa: PLC0415 - as above
        from rich.table import Column  # noqa: PLC0415 - as above

        console = Console(stderr=True)
        name = bars.TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        )
        figures = [
            bars.TextColumn(f"{{task.fields[{field}]}}", markup=False, table_column=Column(no_wrap=True))
            for field in ("amount", "rate", "left", "part")
        ]
        amount, rate, left, part = figures
        columns: list[bars.ProgressColumn]
        self._is_narrow = console.width < _NARROW_COLUMNS
        if self._is_narrow:
            columns = [name, amount, left]
        elif console.width < _WIDE_COLUMNS:
            columns = [name, bars.BarColumn(bar_width=12), amount, rate, left]
        else:
            columns = [name, bars.BarColumn(), amount, rate, left, part]
        self._bars: Any = bars.Progress(*columns, console=console, transient=True, expand=True)
        self._title: str | None = None
        self._tasks: dict[str, Any] = {}
        self._bars.start()

    def show(self, progress: Progress) -> None:
        """Move the bars; a new title starts them anew."""
        if progress.title != self._title:
            self._title = progress.title
            for task in self._tasks.values():
                self._bars.remove_task(task)
            named = {"": "", **{lane.name: f"  {lane.name}" for lane in progress.lanes}}
            empty = {"amount": "", "rate": "", "left": "", "part": ""}
            self._tasks = {name: self._bars.add_task(words, **empty) for name, words in named.items()}
        # The count of the parts stands beside the title, where each width has room for it.
        count = _part_count(progress)
        if count and self._is_narrow:
            count = f"{progress.begun_parts}/{progress.total_parts}"
        self._move("", progress, description=f"{progress.title} {count}".rstrip())
        for lane in progress.lanes:
            self._move(lane.name, lane, part=lane.part)

    def _move(self, name: str, state: Progress | LaneState, **shown: str) -> None:
        if name not in self._tasks:
            return
        rate, left = _pace(state)
        self._bars.update(
            self._tasks[name],
            completed=state.done_bytes,
            total=state.total_bytes or None,
            amount=_amount(state),
            rate=rate,
            left=left,
            **shown,
        )

    def close(self) -> None:
        """Take the bars off the terminal."""
        self._bars.stop()
