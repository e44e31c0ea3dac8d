"""The mutation script itself: what it changes, and that it tells a noticed change from an unnoticed one."""

import os
import subprocess
import sys
from pathlib import Path

from tests.mutation.__main__ import BY_HAND, DEFAULT
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import mutants

ROOT = Path(__file__).parents[2]
_SOURCE = '''
LIMIT = 3

def check(size: int, names: set[str]) -> str:
    """Say whether it is allowed."""
    if size > LIMIT or not names:
        raise ValueError(f"{size + 1} is too large")
    record(size)
    return reader.read(names, least=1)
'''


def changes(source: str) -> set[tuple[str, str]]:
    return {(mutant.where, mutant.after) for mutant in mutants(source)}


def test_every_check_bound_and_call_is_changed_but_no_message() -> None:
    assert changes(_SOURCE) == {
        ("", "LIMIT = 4"),
        ("", "LIMIT = 2"),
        ("check", "if False:"),
        ("check", "if not names:"),
        ("check", "if size > LIMIT:"),
        ("check", "if size > LIMIT and (not names):"),
        ("check", "if size >= LIMIT or not names:"),
        ("check", "if size <= LIMIT or not names:"),
        ("check", "if size > LIMIT or names:"),
        ("check", "pass"),
        ("check", "return reader.read(names)"),
        ("check", "return reader.read(names, least=2)"),
        ("check", "return reader.read(names, least=0)"),
    }


def test_mutant_tells_its_line_and_leaves_the_others_as_they_are() -> None:
    found = list(mutants(_SOURCE))
    assert [mutant.line for mutant in found] == sorted(mutant.line for mutant in found)
    assert found[0].source.splitlines()[1:] == found[1].source.splitlines()[1:]


_MODULE = "def check(size: int) -> bool:\n    return size > 0\n"
_TEST_FROM_ABOVE = "from pkg.sizes import check\n\ndef test_it():\n    assert check(1)\n"
_TEST_OF_THE_BOUND = _TEST_FROM_ABOVE + "    assert not check(0)\n"


def run_script(folder: Path, test: str) -> "subprocess.CompletedProcess[str]":
    """``./dev mutate pkg/sizes.py`` in a project of one module and one file of tests."""
    for name, text in (("pkg/sizes.py", _MODULE), ("tests/pkg/test_sizes.py", test)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    return subprocess.run(
        [sys.executable, "-m", "tests.mutation", "pkg/sizes.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_unnoticed_changes_are_told_and_fail_the_run(tmp_path: Path) -> None:
    done = run_script(tmp_path, _TEST_FROM_ABOVE)
    assert done.returncode == 1
    assert "    return size >= 0\n" in done.stdout
    assert "    return size <= 0\n" not in done.stdout


def test_run_passes_when_every_change_is_noticed(tmp_path: Path) -> None:
    done = run_script(tmp_path, _TEST_OF_THE_BOUND)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 survived" in done.stdout


def test_tests_that_fail_anyway_judge_nothing(tmp_path: Path) -> None:
    done = run_script(tmp_path, "def test_it():\n    assert False\n")
    assert done.returncode == 1
    assert "its tests fail without any change" in done.stdout


def test_mutants_of_this_project_are_judged_where_its_tests_were_gathered() -> None:
    """Each in a process of its own would take ten times as long."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation", "airgap/repositories.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "; 0 judged by all the tests" in done.stdout


def test_equivalents_are_of_modules_that_are_judged() -> None:
    assert EQUIVALENT.keys() <= {*DEFAULT, *BY_HAND}
