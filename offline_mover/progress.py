"""How far a run is: one meter that every loop over bytes reports to, and the ways to show it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

PLAIN_INTERVAL_S = 10.0
_MIB = 1024 * 1024


class Cancelled(Exception):  # noqa: N818 - not an error: the run was stopped on purpose
    """The run was stopped; raised in worker threads, never seen by the caller of a command."""


class Display(Protocol):
    """Shows progress; called from any thread, under the meter's lock, at most once a piece of a part."""

    def show(self, title: str, done_bytes: int, total_bytes: int) -> None:
        """``title`` says what is being done; ``total_bytes`` may be 0."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Meter:
    """Counts bytes; since every loop over bytes reports here, it is also where a run is stopped."""

    def __init__(self, display: Display | None = None) -> None:
        self._display = display
        self._lock = threading.Lock()
        self._title = ""
        self._done_bytes = 0
        self._total_bytes = 0
        self._is_cancelled = False

    def start(self, title: str, total_bytes: int) -> None:
        """Begin a new stretch of work."""
        with self._lock:
            self._title, self._done_bytes, self._total_bytes = title, 0, total_bytes
            self._show()

    def advance(self, size_bytes: int) -> None:
        """Report bytes done; negative when a piece has to be done again.

        Raises:
            Cancelled: the run was stopped.
        """
        with self._lock:
            if self._is_cancelled:
                raise Cancelled
            self._done_bytes += size_bytes
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
        if self._display is not None:
            self._display.show(self._title, self._done_bytes, self._total_bytes)


class PlainDisplay:
    """A line now and then: for logs, screen readers and programs."""

    def __init__(
        self,
        write: Callable[[str, int, int], None],
        *,
        interval_s: float = PLAIN_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._interval_s = interval_s
        self._clock = clock
        self._next_at = clock() + interval_s

    def show(self, title: str, done_bytes: int, total_bytes: int) -> None:
        """Write a line when the interval has passed."""
        if (now := self._clock()) >= self._next_at:
            self._next_at = now + self._interval_s
            self._write(title, done_bytes, total_bytes)

    def close(self) -> None:
        """Nothing to restore."""


def write_progress_line(title: str, done_bytes: int, total_bytes: int) -> None:
    """``fetching: 512 of 1024 MiB (50 %)`` on stderr."""
    percent = 100 * done_bytes // total_bytes if total_bytes else 100
    print(
        f"{title}: {done_bytes // _MIB} of {total_bytes // _MIB} MiB ({percent} %)",
        file=sys.stderr,
        flush=True,
    )


class RichDisplay:
    """A bar on the terminal; rich is imported only here."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - 50 ms that only a terminal needs
        from rich.progress import (  # noqa: PLC0415 - as above
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = self._progress.add_task("", total=None)
        self._title: str | None = None
        self._progress.start()

    def show(self, title: str, done_bytes: int, total_bytes: int) -> None:
        """Move the bar; a new title starts it anew."""
        if title != self._title:
            self._title = title
            self._progress.reset(self._task, total=total_bytes, description=title)
        self._progress.update(self._task, completed=done_bytes)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()
