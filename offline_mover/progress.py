"""How far a run is: one meter that every loop over bytes reports to, and the ways to show it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

PLAIN_INTERVAL_S = 10.0
_MIB = 1024 * 1024


class Cancelled(Exception):  # noqa: N818 - not an error: the run was stopped on purpose
    """The run was stopped; raised in worker threads, never seen by the caller of a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """How far one volume is; ``part`` is the one begun last."""

    name: str
    part: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stretch of work is: in all, and on each volume where there are several."""

    title: str
    done_bytes: int
    total_bytes: int
    elapsed_s: float
    lanes: tuple[LaneState, ...] = ()

    @property
    def rate_bytes_per_s(self) -> float:
        """Bytes a second on average since the stretch began; 0 when that is not known yet."""
        return max(0, self.done_bytes) / self.elapsed_s if self.elapsed_s >= 1 else 0.0

    @property
    def left_s(self) -> int | None:
        """Seconds to go at that rate; ``None`` when that is not known yet."""
        rate = self.rate_bytes_per_s
        return int((self.total_bytes - self.done_bytes) / rate) if rate else None


class Display(Protocol):
    """Shows progress; called from any thread, under the meter's lock, at most once a piece of a part."""

    def show(self, progress: Progress) -> None:
        """Show how far it is; ``progress.total_bytes`` may be 0."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Gauge(Protocol):
    """Told bytes done: the meter itself, or one lane of it."""

    def advance(self, size_bytes: int) -> None:
        """See the port."""


class Meter:
    """Counts bytes; since every loop over bytes reports here, it is also where a run is stopped."""

    def __init__(
        self, display: Display | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._display = display
        self._clock = clock
        self._lock = threading.Lock()
        self._title = ""
        self._done_bytes = 0
        self._total_bytes = 0
        self._began_at = clock()
        self._lanes: dict[str, Lane] = {}
        self._is_cancelled = False

    def start(self, title: str, total_bytes: int, lanes: Mapping[str, int] | None = None) -> None:
        """Begin a new stretch of work; ``lanes`` has the bytes of each volume by its name."""
        with self._lock:
            self._title, self._done_bytes, self._total_bytes = title, 0, total_bytes
            self._began_at = self._clock()
            self._lanes = {name: Lane(self, name, total) for name, total in (lanes or {}).items()}
            self._show()

    def lane(self, name: str, part: str) -> Gauge:
        """Where the bytes of ``part`` on the volume ``name`` are reported."""
        with self._lock:
            lane = self._lanes.get(name)
            if lane is None:
                return self
            lane.part = part
            return lane

    def advance(self, size_bytes: int, lane: Lane | None = None) -> None:
        """Report bytes done; negative when a piece has to be done again.

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

    def cancel(self) -> None:
        """Make every loop that reports its bytes end at its next piece."""
        with self._lock:
            self._is_cancelled = True

    def close(self) -> None:
        """End the display."""
        with self._lock:
            if self._display is not None:
                self._display.close()
                self._display = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self) -> None:
        if self._display is None:
            return
        lanes = self._lanes.values() if len(self._lanes) > 1 else ()
        self._display.show(
            Progress(
                title=self._title,
                done_bytes=self._done_bytes,
                total_bytes=self._total_bytes,
                elapsed_s=self._clock() - self._began_at,
                lanes=tuple(lane.state() for lane in lanes),
            )
        )


class Lane:
    """One volume's share of a stretch of work; counted under the meter's lock."""

    def __init__(self, meter: Meter, name: str, total_bytes: int) -> None:
        self._meter = meter
        self._name = name
        self._total_bytes = total_bytes
        self.part = ""
        self.done_bytes = 0

    def advance(self, size_bytes: int) -> None:
        """See the port."""
        self._meter.advance(size_bytes, self)

    def state(self) -> LaneState:
        """How far the volume is now."""
        return LaneState(
            name=self._name, part=self.part, done_bytes=self.done_bytes, total_bytes=self._total_bytes
        )


class PlainDisplay:
    """A line now and then: for logs, screen readers and programs."""

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
        """Write a line when the interval has passed."""
        if (now := self._clock()) >= self._next_at:
            self._next_at = now + self._interval_s
            self._write(progress)

    def close(self) -> None:
        """Nothing to restore."""


def write_progress_line(progress: Progress) -> None:
    """``fetching: 512 of 1024 MiB (50 %), 40 MiB/s, 12 s left`` on stderr."""
    print(progress_line(progress), file=sys.stderr, flush=True)


def progress_line(progress: Progress) -> str:
    """What :func:`write_progress_line` writes."""
    done, total = progress.done_bytes, progress.total_bytes
    percent = 100 * done // total if total else 100
    line = f"{progress.title}: {done // _MIB} of {total // _MIB} MiB ({percent} %)"
    if progress.left_s is not None:
        line += f", {progress.rate_bytes_per_s / _MIB:.0f} MiB/s, {progress.left_s} s left"
    for lane in progress.lanes:
        line += f"; {lane.name}: {lane.done_bytes // _MIB} of {lane.total_bytes // _MIB} MiB"
    return line


class RichDisplay:
    """Bars on the terminal, one in all and one a volume; rich is imported only here."""

    def __init__(self) -> None:
        from rich import progress as bars  # noqa: PLC0415 - 50 ms that only a terminal needs
        from rich.console import Console  # noqa: PLC0415 - as above

        self._bars: Any = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.DownloadColumn(binary_units=True),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[part]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._title: str | None = None
        self._tasks: dict[str, Any] = {}
        self._bars.start()

    def show(self, progress: Progress) -> None:
        """Move the bars; a new title starts them anew."""
        if progress.title != self._title:
            self._title = progress.title
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks = {
                "": self._bars.add_task(progress.title, total=progress.total_bytes, part=""),
                **{
                    lane.name: self._bars.add_task(f"  {lane.name}", total=lane.total_bytes, part="")
                    for lane in progress.lanes
                },
            }
        self._bars.update(self._tasks[""], completed=progress.done_bytes)
        for lane in progress.lanes:
            if lane.name in self._tasks:
                self._bars.update(self._tasks[lane.name], completed=lane.done_bytes, part=lane.part)

    def close(self) -> None:
        """Take the bars away."""
        self._bars.stop()
