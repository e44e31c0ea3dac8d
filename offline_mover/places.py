"""The connections of one lane: as many at a time as its tuner finds useful."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from offline_mover.progress import Gauge, Meter
from offline_mover.tuning import FIRST, Tuner

_WAKE_S = 0.5  # on Windows a wait without end cannot be interrupted by Ctrl-C


class Places:
    """The places of a lane: each gives the right to use one connection; used by many threads.

    Args:
        ceiling: the most connections.
        lanes: the number of lanes that share the ceiling, and the connections to begin with.
        meter: the run's meter, which says when the run is cancelled and how often the service was busy.
        clock: gives seconds that only go forward.
    """

    def __init__(
        self, ceiling: int, *, lanes: int = 1, meter: Meter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        shared = max(1, lanes)
        self._tuner = Tuner(ceiling // shared, first=FIRST // shared)
        self._meter = meter
        self._clock = clock
        self._changed = threading.Condition()
        self._taken = 0
        self._parts = 0
        self._waiting = 0
        self._throttles = meter.throttles

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait for a place for one part, and hold it for as long as the block lasts.

        Raises:
            Cancelled: the run was stopped meanwhile.
        """
        with self._changed:
            self._waiting += 1
            try:
                while self._taken >= self._tuner.width:
                    self._meter.advance(0)
                    self._changed.wait(_WAKE_S)
            finally:
                self._waiting -= 1
            self._taken += 1
            self._parts += 1
        try:
            yield
        finally:
            self._give_back(1, parts=1)

    @contextmanager
    def spare(self, most: int) -> Iterator[int]:
        """Up to ``most`` further places for a part that has one, of those that no part waits for."""
        with self._changed:
            free = 0 if self._waiting else self._tuner.width - self._taken
            extra = max(0, min(most, -(-free // max(1, self._parts))))
            self._taken += extra
        try:
            yield extra
        finally:
            self._give_back(extra)

    def _give_back(self, count: int, *, parts: int = 0) -> None:
        with self._changed:
            self._taken -= count
            self._parts -= parts
            self._changed.notify_all()

    def gauge(self, gauge: Gauge) -> Gauge:
        """A gauge that passes on the bytes to ``gauge``, and tells them to the tuner, too."""
        return _TunedGauge(self, gauge)

    def noting(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces of an answer, each noted for the tuner when it comes.

        Raises:
            Cancelled: the run was stopped meanwhile.
        """
        for piece in pieces:
            self.came(len(piece))
            self._meter.advance(0)
            yield piece

    def came(self, size_bytes: int) -> None:
        """Note for the tuner that bytes came over any of the connections."""
        with self._changed:
            before, now_s = self._tuner.width, self._clock()
            if self._throttles != (throttles := self._meter.throttles):
                self._throttles = throttles
                self._tuner.throttle(now_s)
            self._tuner.advance(now_s, size_bytes)
            if self._tuner.width > before:
                self._changed.notify_all()


class _TunedGauge:
    """A gauge whose bytes are noted by a lane's places before they are shown."""

    def __init__(self, places: Places, gauge: Gauge) -> None:
        self._places = places
        self._gauge = gauge

    def advance(self, size_bytes: int) -> None:
        """See the port."""
        self._places.came(max(0, size_bytes))  # what is taken back has come nevertheless
        self._gauge.advance(size_bytes)
