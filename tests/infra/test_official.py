"""Where Microsoft's compiler is on the path, it is asked, and must say the same."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.bicep.template import compile_file
from infra.templates import FOLDER, SIDES, arm_path

ROOT = FOLDER.parent
GENERATOR = {"_generator": {"name": "bicep", "version": "0.99", "templateHash": "1"}}
Change = Callable[[dict[str, Any]], object]


def signed(template: dict[str, Any]) -> dict[str, Any]:
    """The same as the official compiler writes it: what it says of itself is in each template."""
    found = copy.deepcopy(template)
    found["metadata"] = {**found.get("metadata", {}), **GENERATOR}
    for resource in found["resources"]:
        resource.get("dependsOn", []).reverse()
        properties = resource.get("properties")
        if isinstance(properties, dict) and "template" in properties:
            properties["template"] = signed(properties["template"])
    return found


def run(tmp_path: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """``./dev infra check`` with such a ``bicep`` on the path."""
    fake = tmp_path / "bicep"
    fake.write_text(f"#!{sys.executable}\nimport sys, pathlib\n{script}", encoding="utf-8")
    fake.chmod(0o755)
    return subprocess.run(
        [sys.executable, "-m", "infra", "check"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def emitting(tmp_path: Path, change: Change) -> str:
    """The script of a ``bicep`` that compiles as ours does, and then changes something."""
    for side in SIDES:
        written = signed(compile_file(FOLDER / f"{side}.bicep"))
        change(written)
        (tmp_path / f"{side}.json").write_text(json.dumps(written), encoding="utf-8")
    return (
        "assert sys.argv[1:3] == ['build', '--stdout']\n"
        f"print(pathlib.Path({str(tmp_path)!r}, pathlib.Path(sys.argv[3]).stem + '.json').read_text())"
    )


pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake compiler is a script")


def test_compiler_that_says_the_same_is_fine(tmp_path: Path) -> None:
    done = run(tmp_path, emitting(tmp_path, lambda _: None))
    assert (done.stderr, done.returncode) == ("", 0)


def test_compiler_that_says_something_else_is_told_with_the_place(tmp_path: Path) -> None:
    def change(template: dict[str, Any]) -> None:
        template["parameters"]["evidenceDays"]["maxValue"] = 7

    done = run(tmp_path, emitting(tmp_path, change))
    assert done.returncode == 2
    assert "source.bicep.parameters.evidenceDays.maxValue: bicep says 7, ours 146000" in done.stderr


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("sys.exit('source.bicep(3,1) : Error BCP007: not recognized')", "BCP007"),
        ("print('no JSON')", "cannot be run"),
    ],
)
def test_compiler_that_fails_is_told(tmp_path: Path, script: str, told: str) -> None:
    done = run(tmp_path, script)
    assert done.returncode == 2
    assert told in done.stderr


def test_what_it_says_of_itself_is_kept_out_of_the_templates() -> None:
    assert all("_generator" not in arm_path(side).read_text(encoding="utf-8") for side in SIDES)
