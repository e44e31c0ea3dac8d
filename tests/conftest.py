from pathlib import Path

import pytest

from tests.required import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["pytest_collection_modifyitems", "pytest_make_collect_report", "pytest_runtest_makereport"]

LONGEST_FIRST = ("e2e", "portable", "faults", "functions_host", "offline_mover", "local_cloud")
"""Folders whose files take longest: begun last, one of them would keep one process busy after all others."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(here).parts[0], len(rank)))
