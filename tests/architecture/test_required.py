"""The switch under which no test may skip for want of a tool."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.required import SWITCH, is_excused

ROOT = Path(__file__).parents[2]
_MODULE = """
import pytest

@pytest.mark.skipif(True, reason="hammer is not installed")
def test_marked(): ...

def test_in_its_body():
    pytest.skip("no room to mount")

@pytest.fixture
def saw():
    pytest.skip("no saw here")

def test_by_its_fixture(saw): ...

def test_excused():
    pytest.skip("no Python 3.99 here")

@pytest.mark.xfail(reason="known")
def test_known(): assert False

def test_that_runs(): ...
"""
_WHOLE_MODULE = "import pytest\npytest.importorskip('not_installed_anywhere')\n"


def summary(folder: Path, switch: str) -> str:
    """What pytest says at the end of a run of these modules."""
    (folder / "test_tests.py").write_text(_MODULE)
    (folder / "test_module.py").write_text(_WHOLE_MODULE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.required", "-p", "no:cacheprovider"),
            *("-rA", "--continue-on-collection-errors", str(folder)),
        ],
        cwd=folder,
        env={**os.environ, SWITCH: switch, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def test_skips_become_failures_that_name_what_is_missing(tmp_path: Path) -> None:
    said = summary(tmp_path, "1")
    for reason in (
        "hammer is not installed",
        "no room to mount",
        "no saw here",
        "could not import 'not_installed_anywhere'",
    ):
        assert f"{SWITCH}=1, and this would have skipped: {reason}" in said
    # Errors are what fails before a test begins; one skip is excused.
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 3 errors" in said


def test_without_the_switch_they_skip(tmp_path: Path) -> None:
    assert "1 passed, 5 skipped, 1 xfailed" in summary(tmp_path, "0")


@pytest.mark.parametrize(
    "reason", ["docker-registry is not installed", "", "no namespaces here: no Python 3.1 here"]
)
def test_excuses_are_matched_as_a_whole(reason: str) -> None:
    assert not is_excused(reason)
