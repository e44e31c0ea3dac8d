"""How many faults were injected, and how many were accepted in silence: the suite's result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


class SilentAcceptanceError(AssertionError):
    """The command said that all is well, and it is not; or something wrong is visible at the target."""


@dataclass(slots=True)
class Tally:
    """``injected`` by kind of fault; ``runs`` of the command that were judged."""

    injected: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    silent: list[str] = field(default_factory=list)

    def inject(self, kind: str) -> None:
        """Count one fault that took effect."""
        self.injected[kind] += 1

    def judge(self, what: str, wrongs: list[str], *, says_ok: bool) -> None:
        """Count one run. ``wrongs`` is what an independent look found, whatever the command said.

        Raises:
            SilentAcceptanceError: ``says_ok``, and there is something wrong.
        """
        self.runs += 1
        if says_ok and wrongs:
            self.silent.append(f"{what}: {'; '.join(wrongs[:5])}")
            raise SilentAcceptanceError(self.silent[-1])

    def add(self, other: Tally) -> None:
        """Count what another one has counted."""
        self.injected.update(other.injected)
        self.runs += other.runs
        self.silent += other.silent


TALLY = Tally()
"""Of this process."""
