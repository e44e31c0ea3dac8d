"""With ``AIRGAP_REQUIRE_ALL=1`` a test that would skip for want of something fails instead, and names it.

``.ci/run`` sets it: a suite that is silently not run there proves nothing. Without it, as on a laptop, such
tests skip. What may skip even so is listed here, in one place, each with its reason.
"""

import os
import re
import sys
from collections.abc import Generator, Mapping
from typing import Any

import pytest

SWITCH = "AIRGAP_REQUIRE_ALL"
MAY_SKIP: Mapping[str, str] = {
    r"no Python \S+ here": "other Pythons than the one that runs the tests are not everywhere",
    r"no az here": "the Azure CLI is no part of what is set up, and its parts are not in the lock",
    r"by hand only, see the file": "Wine and a genuine Windows Python are set up by hand",
    r"root, Linux 6\.3 or later": "a rule of newer kernels",
}
"""Reasons for skipping, as regular expressions that match them wholly: why they are good ones."""

if sys.version_info < (3, 13):
    MAY_SKIP = {**MAY_SKIP, r"azure-functions-runtime needs Python 3\.13": "it cannot be installed with this"}


def is_excused(reason: str) -> bool:
    """Whether a test may skip for this reason even where everything is required."""
    return any(re.fullmatch(pattern, reason) for pattern in MAY_SKIP)


def refuse_to_skip(report: Any) -> None:
    """Turn the report of a skipped test or module into that of a failed one, unless it is excused."""
    if os.environ.get(SWITCH) != "1" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2]).removeprefix("Skipped: ")
    if not is_excused(reason):
        report.outcome = "failed"
        report.longrepr = f"{SWITCH}=1, and this would have skipped: {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_to_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_to_skip(report)
    return report
