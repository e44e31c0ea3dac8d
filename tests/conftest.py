import gc
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from tests.costs import (
    pytest_runtest_protocol,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.required import pytest_make_collect_report, pytest_runtest_makereport

__all__ = [
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]

LONG = (
    *("simulation", "e2e", "portable", "faults", "attacks", "histories", "bench"),
    *("functions_host", "offline_mover", "local_cloud", "contract"),
)
"""Folders whose files take long: begun last, one of them would keep one process busy after all others."""

# Started in the background, by a script or nohup, these are ignored, and children would inherit that; a
# handler that does nothing is not inherited.
for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long folders first, a file of each in turn: those of one folder wait for what they share."""
    here = Path(__file__).parent
    files: dict[str, dict[Path, int]] = defaultdict(dict)
    for item in items:
        seen = files[item.path.relative_to(here).parts[0]]
        seen.setdefault(item.path, len(seen))

    def order(item: pytest.Item) -> tuple[int, int]:
        folder = item.path.relative_to(here).parts[0]
        return (files[folder][item.path], LONG.index(folder)) if folder in LONG else (last, 0)

    last = len(items)
    items.sort(key=order)


def pytest_collection_finish() -> None:
    """What was gathered stays: no collection of garbage looks at it again. That took half of their time."""
    gc.collect()
    gc.freeze()
