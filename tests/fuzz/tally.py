"""How many inputs were tried for each format, how many were accepted, and how long the slowest took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Of one format. What was accepted meant the same as a seed, or the test has failed."""

    inputs: int = 0
    accepted: int = 0
    slowest_s: float = 0.0

    def add(self, inputs: int, accepted: int, slowest_s: float) -> None:
        """Count further inputs."""
        self.inputs += inputs
        self.accepted += accepted
        self.slowest_s = max(self.slowest_s, slowest_s)


@dataclass(slots=True)
class Outcome:
    """Of one input."""

    is_accepted: bool = False


TALLIES: dict[str, Tally] = {}
"""By format."""


def tally_of(name: str) -> Tally:
    """The tally of a format."""
    return TALLIES.setdefault(name, Tally())


@contextmanager
def counted(name: str) -> Iterator[Outcome]:
    """Count what is done in the block as one input, whether it ends well or not."""
    outcome = Outcome()
    start_s = time.perf_counter()
    try:
        yield outcome
    finally:
        tally_of(name).add(1, int(outcome.is_accepted), time.perf_counter() - start_s)
