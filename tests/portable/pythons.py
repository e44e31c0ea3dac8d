"""The Pythons of this machine, by version, and how a packed mover is run with one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
TOO_OLD = ("2.7", "3.6", "3.8", "3.9", "3.10")
RUN_TIMEOUT_S = 120


@cache
def find_python(version: str) -> str | None:
    """An interpreter of this version outside of any virtual environment."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return str(Path(sys.base_prefix) / "bin" / f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in filter(None, candidates):
        code = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
        probe = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if probe.stdout == version:
            return str(candidate)
    return None


def python(version: str) -> str:
    """As :func:`find_python`; skips the test where there is none."""
    return find_python(version) or pytest.skip(f"no Python {version} here")


def run(
    shape: Path,
    *arguments: str,
    interpreter: str | None = None,
    prefix: Sequence[str] = (),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a packed mover with an empty environment, from nowhere in particular, warnings shown."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return subprocess.run(
        [*prefix, interpreter or python(version), str(shape), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
        timeout=RUN_TIMEOUT_S,
    )
