"""Which files of tests cost most processor time, told at the end wherever ``--durations`` is asked for.

Unlike the time on the clock, it is nearly the same on a machine that does other things, too. Counted is what
the process of the tests used from a file's first test to the next file's, with all its children: those that
have ended, and those that still run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

LISTED = 10
_GATHERING = "gathering"


def used_s() -> float:
    """Processor time of this process and its children so far, in seconds."""
    total_s = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # ended meanwhile: it is among its parent's from now on
            continue
        total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


@dataclass(kw_only=True)
class Costs:
    """Seconds of processor and clock, by file; what comes before the first test is gathering."""

    files: dict[str, tuple[float, float]] = field(default_factory=dict)
    _file: str = _GATHERING
    _used_s: float = 0.0
    _clock_s: float = field(default_factory=time.monotonic)

    def turn_to(self, file: str) -> None:
        """Whatever is used from now on is another file's."""
        if file != self._file:
            now_used_s, now_s = used_s(), time.monotonic()
            self.add(self._file, now_used_s - self._used_s, now_s - self._clock_s)
            self._file, self._used_s, self._clock_s = file, now_used_s, now_s

    def end(self) -> None:
        """No file's test comes any more. Where none ran here, they ran in workers, who tell it."""
        if self._file != _GATHERING:
            self.turn_to("")

    def add(self, file: str, used_s: float, clock_s: float) -> None:
        """What a file has cost, besides what is known of it."""
        known = self.files.get(file, (0.0, 0.0))
        self.files[file] = (known[0] + used_s, known[1] + clock_s)

    def lines(self) -> list[str]:
        """The costliest files, and the sum of all."""
        costliest = sorted(self.files.items(), key=lambda one: -one[1][0])[:LISTED]
        told = [f"{used:7.1f} s {clock:7.1f} s  {file}" for file, (used, clock) in costliest]
        sums = [sum(one[which] for one in self.files.values()) for which in (0, 1)]
        return [*told, f"{sums[0]:7.1f} s {sums[1]:7.1f} s  in all"]


COSTS = Costs()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    COSTS.turn_to(item.nodeid.partition("::")[0])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    COSTS.end()
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["costs"] = COSTS.files


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for file, (used, clock) in getattr(node, "workeroutput", {}).get("costs", {}).items():
        COSTS.add(file, used, clock)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.getoption("durations") is None:
        return
    terminalreporter.section(f"costliest {LISTED} files: processor, clock")
    for line in COSTS.lines():
        terminalreporter.write_line(line)
