"""The worker wants ``function_app.py`` to exist, then imports the package of that name beside it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_COUNT_APPS = """
import function_app, azure.functions as func
apps = [name for name in dir(function_app) if isinstance(getattr(function_app, name), func.FunctionRegister)]
print(function_app.__file__, *apps)
"""


def run_worker_import(role: str | None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "TRANSFER_ROLE"}
    return subprocess.run(
        [sys.executable, "-c", _COUNT_APPS],
        cwd=ROOT,
        env=environment | ({"TRANSFER_ROLE": role} if role else {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_marker_has_a_docstring_and_no_statement() -> None:
    body = ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)


@pytest.mark.parametrize("role", ["source", "target"])
def test_package_is_what_gets_imported_with_one_app_needing_no_setting_but_the_role(role: str) -> None:
    done = run_worker_import(role)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(ROOT / "function_app" / "__init__.py"), "app"]


def test_missing_role_is_named() -> None:
    done = run_worker_import(None)
    assert done.returncode != 0
    assert "TRANSFER_ROLE" in done.stderr.splitlines()[-1]
