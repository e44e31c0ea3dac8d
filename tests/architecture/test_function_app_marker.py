"""The worker wants ``function_app.py`` to exist, then imports the package of that name beside it."""

import ast
import os
import re
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


def apps_made(folder: Path) -> list[str]:
    """Where the modules below a folder, however deep, make an app object: ``df.DFApp(…)``."""
    return [
        f"{path.relative_to(folder)}:{node.lineno}"
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and re.search(r"\b(DFApp|FunctionApp)$", ast.unparse(node.func))
    ]


def folders_that_are_no_packages(folder: Path) -> list[str]:
    """Folders with modules, at any depth, whose ``__init__.py`` is missing: the marker would hide them."""
    return [
        str(parent.relative_to(folder))
        for parent in sorted({path.parent for path in folder.rglob("*.py")})
        if not (parent / "__init__.py").exists()
    ]


def test_one_app_is_made_and_every_folder_is_a_package() -> None:
    assert len(apps_made(ROOT / "function_app")) == 1
    assert folders_that_are_no_packages(ROOT / "function_app") == []


def test_second_app_and_a_folder_that_is_no_package_are_seen_at_any_depth(tmp_path: Path) -> None:
    deep = tmp_path / "source" / "newly"
    deep.mkdir(parents=True)
    (deep / "flows.py").write_text("import azure.functions as func\n\napp = func.FunctionApp()\n")
    assert apps_made(tmp_path) == ["source/newly/flows.py:3"]
    assert folders_that_are_no_packages(tmp_path) == ["source/newly"]


@pytest.mark.parametrize("role", ["source", "target"])
def test_package_is_what_gets_imported_with_one_app_needing_no_setting_but_the_role(role: str) -> None:
    done = run_worker_import(role)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(ROOT / "function_app" / "__init__.py"), "app"]


def test_missing_role_is_named() -> None:
    done = run_worker_import(None)
    assert done.returncode != 0
    assert "TRANSFER_ROLE" in done.stderr.splitlines()[-1]
