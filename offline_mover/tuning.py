"""The number of connections: a controller finds it from the throughput, and from nothing else.

Nobody knows before what limits a run: the line of each connection, the line as a whole, the processor, the
volume, or the service. What shows is the throughput. So the number of connections is doubled as long as that
brings something, and taken back when it does not; later it is tried again, ever more rarely, since lines
change. Pure: the time is an argument.
"""

from __future__ import annotations

FIRST = 4
"""Connections to begin with: as many as are best where the processor is the limit (bench/README.md)."""

INTERVAL_S = 0.5
"""The shortest stretch that is judged. A connection over 150 ms needs longer to give its first byte, which is
what :data:`PATIENCE` is for."""

LEAST_BYTES_EACH = 512 * 1024
"""A stretch goes on until so much came for each connection; pieces of 256 KiB say nothing one by one."""

GAIN = 1.15
"""What twice the connections must bring to be kept; less is noise."""

PATIENCE = 2
"""Stretches in which they may show it."""

FIRST_HOLD_S = 15.0
MAX_HOLD_S = 240.0
"""How long a number is kept before a larger one is tried again; twice as long after each try in vain."""

CALM_S = 5.0
"""After the service said that it is busy, others that hear it at the same time count as one."""


class Tuner:
    """The controller of the number of connections of one lane; see the module for its rule.

    Args:
        ceiling: the most connections that there may ever be.
        first: how many it begins with, where the ceiling allows it.
    """

    def __init__(self, ceiling: int, *, first: int = FIRST) -> None:
        self._ceiling = max(1, ceiling)
        self.width = max(1, min(first, self._ceiling))
        self._best_width = self.width
        self._best_rate = 0.0
        self._began_s: float | None = None
        self._came_bytes = 0
        self._stretches = 0
        self._is_holding = False
        self._hold_until_s = 0.0
        self._hold_s = FIRST_HOLD_S
        self._calm_until_s = 0.0

    def advance(self, now_s: float, size_bytes: int) -> None:
        """Note bytes that came, which may change :attr:`width`; ``now_s`` only goes forward."""
        if self._began_s is None:
            self._began_s = now_s
        self._came_bytes += size_bytes
        took_s = now_s - self._began_s
        if took_s >= INTERVAL_S and self._came_bytes >= LEAST_BYTES_EACH * self.width:
            self._judge(now_s, self._came_bytes / took_s)
            self._began_s, self._came_bytes = now_s, 0

    def throttle(self, now_s: float) -> None:
        """Note that the service is busy: the width is halved, and no more is tried for a while."""
        if now_s < self._calm_until_s:
            return
        self._calm_until_s = now_s + CALM_S
        self._best_rate = 0.0
        self._best_width = self.width = max(1, self.width // 2)
        self._hold(now_s)

    def _judge(self, now_s: float, rate: float) -> None:
        """Decide after a stretch of ``rate`` bytes a second."""
        self._stretches += 1
        if self._is_holding:
            self._best_rate = (self._best_rate + rate) / 2 if self._best_rate else rate
            if now_s >= self._hold_until_s:
                self._grow()
        elif self.width == self._best_width:  # the first stretches of all: connections are being made
            self._best_rate = max(self._best_rate, rate)
            if self._stretches >= PATIENCE:
                self._grow()
        elif rate >= self._best_rate * GAIN:
            self._best_width, self._best_rate = self.width, rate
            self._hold_s = FIRST_HOLD_S
            self._grow()
        elif self._stretches >= PATIENCE:
            self.width = self._best_width
            self._hold(now_s)

    def _grow(self) -> None:
        self._is_holding = False
        self._stretches = 0
        self.width = min(2 * self.width, self._ceiling)

    def _hold(self, now_s: float) -> None:
        self._is_holding = True
        self._hold_until_s = now_s + self._hold_s
        self._hold_s = min(2 * self._hold_s, MAX_HOLD_S)
        self._began_s, self._came_bytes, self._stretches = None, 0, 0
