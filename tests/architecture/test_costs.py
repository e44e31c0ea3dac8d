"""The table of the costliest files, which is where to begin when the tests take too long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.costs import Costs

ROOT = Path(__file__).parents[2]
_BUSY = "import time\nwhile time.process_time() < 0.5: pass\n"
_MODULE = (
    f"import subprocess, sys\ndef test_it(): subprocess.run([sys.executable, '-c', {_BUSY!r}], check=True)\n"
)


def table(folder: Path, *options: str) -> list[str]:
    """The lines of a run of an idle file and one whose child is busy."""
    (folder / "test_busy.py").write_text(_MODULE)
    (folder / "test_idle.py").write_text("def test_it(): ...\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.costs",
            "-p",
            "no:cacheprovider",
            *options,
            str(folder),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if " s  " in line]


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")], ids=["one process", "a worker"])
def test_files_are_told_with_their_childrens_time(tmp_path: Path, workers: tuple[str, ...]) -> None:
    lines = table(tmp_path, "--durations=1", *workers)
    assert [line.split()[-1] for line in lines if "test_" in line] == ["test_busy.py", "test_idle.py"]
    (busy,) = (line for line in lines if "test_busy" in line)
    assert float(busy.split()[0]) >= 0.5
    assert sum("in all" in line for line in lines) == 1


def test_nothing_is_told_unasked(tmp_path: Path) -> None:
    assert table(tmp_path) == []


def test_only_the_costliest_are_listed_but_all_are_counted() -> None:
    costs = Costs()
    for number in range(20):
        costs.add(f"{number}.py", number, 1.0)
    costs.add("0.py", 100, 1.0)
    lines = costs.lines()
    assert [line.split()[-1] for line in lines[:2]] == ["0.py", "19.py"]
    assert (len(lines), lines[-1].split()[0]) == (11, "290.0")
