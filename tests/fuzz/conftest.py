"""Tells at the end how many inputs were tried, also where pytest-xdist spread the tests over workers."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest

from tests.fuzz.tally import TALLIES, tally_of


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["fuzz"] = {name: astuple(tally) for name, tally in TALLIES.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for name, counts in getattr(node, "workeroutput", {}).get("fuzz", {}).items():
        tally_of(name).add(*counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TALLIES:
        return
    terminalreporter.section("inputs tried")
    for name, tally in sorted(TALLIES.items()):
        terminalreporter.write_line(
            f"{tally.inputs:>9,}  {name}: {tally.accepted:,} meant what a seed means, "
            f"the others were refused; slowest {tally.slowest_s * 1000:.0f} ms"
        )
    terminalreporter.write_line(f"{sum(tally.inputs for tally in TALLIES.values()):>9,}  in all")
