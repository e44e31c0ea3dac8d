"""`./dev infra` on a copy of the templates: what is behind is named and mended, what breaks a rule told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.templates import FOLDER

pytestmark = pytest.mark.timeout(600)  # two seconds a run, on a core that has nothing else to do
WEAK = ("minimumTlsVersion: 'TLS1_2'", "minimumTlsVersion: 'TLS1_0'")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The folder of the templates, one's own to break."""
    copy = tmp_path / "infra"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(copied: Path, action: str) -> tuple[int, list[str]]:
    """The command's exit code, and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "infra", action],
        cwd=copied.parent,
        env={**os.environ, "PATH": ""},  # no compiler of Microsoft's
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def change(path: Path, old: str, new: str) -> None:
    """Put one text in another's place."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8", newline="\n")


def test_ci_checks_the_templates() -> None:
    commands = (FOLDER.parent / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "./dev infra check" in commands


def test_what_is_behind_is_named_and_mended(copied: Path) -> None:
    change(copied / "modules" / "vault.bicep", "SAS of the pipeline", "SAS for the pipeline")
    change(copied / "roles.json", "starts pipeline runs", "begins pipeline runs")
    behind = [
        f"{path} is behind. Run: ./dev infra compile"
        for path in (Path("infra/arm/source.json"), Path("infra/arm/target.json"), Path("infra/README.md"))
    ]
    assert run(copied, "check") == (1, behind)
    assert run(copied, "compile") == (0, [])


def test_what_breaks_a_rule_is_told_though_nothing_is_behind(copied: Path) -> None:
    change(copied / "modules" / "storage.bicep", *WEAK)
    code, told = run(copied, "compile")
    assert code == 1
    assert {line.partition(": ")[2] for line in told} == {
        "properties.minimumTlsVersion is 'TLS1_0', not 'TLS1_2': older TLS is broken"
    }


def test_what_is_no_bicep_is_told_by_file_and_line(copied: Path) -> None:
    change(copied / "modules" / "storage.bicep", "param name string", "param name strings")
    code, told = run(copied, "check")
    assert code == 2
    assert told[0].startswith("storage.bicep: line 2, column 12: ")
