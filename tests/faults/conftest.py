"""The storage, the command and one bundle; at the end, the count of faults, over all workers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.site import Site
from tests.faults.tally import TALLY, Tally

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_SLOWEST_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(_SLOWEST_S))


@pytest.fixture(scope="session")
def fast_folder() -> Iterator[Path]:
    """Where thousands of fsyncs cost nothing: what a kill leaves behind is the same on every file system."""
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=_MEMORY if _MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def site(fast_folder: Path) -> Iterator[Site]:
    with Site.start(fast_folder, TALLY) as started:
        yield started


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = [dict(TALLY.injected), TALLY.runs, TALLY.silent]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    found = getattr(node, "workeroutput", {}).get("faults")
    if found is not None:
        other = Tally(runs=found[1], silent=found[2])
        other.injected.update(found[0])
        TALLY.add(other)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TALLY.runs:
        return
    terminalreporter.section("faults")
    for kind, count in sorted(TALLY.injected.items()):
        terminalreporter.write_line(f"{count:>6,}  {kind}")
    for what in TALLY.silent:
        terminalreporter.write_line(f"SILENT  {what}", red=True)
    terminalreporter.write_line(
        f"faults injected: {TALLY.injected.total():,}, silent acceptances: {len(TALLY.silent)} "
        f"({TALLY.runs:,} runs of the command, each judged by the bytes themselves)"
    )
