"""Orchestrators are replayed: they hold order and nothing else.

The guard reads the syntax tree of every function that is decorated with ``orchestration_trigger`` or returns
a ``Flow`` (what orchestrators are composed of), and refuses what gives another answer when it runs again:
clocks, randomness, the environment, files, the network, logging.
"""

import ast
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN_NAMES = {
    "open",
    "print",
    "input",
    "logging",
    "os",
    "random",
    "requests",
    "secrets",
    "socket",
    "time",
    "uuid",
}
FORBIDDEN_CALLS = {"now", "today", "utcnow", "uuid4", "uuid1", "getenv", "sleep", "monotonic", "perf_counter"}


def orchestrators(source: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a module that are orchestrators."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (
            any("orchestration_trigger" in ast.unparse(decorator) for decorator in node.decorator_list)
            or (node.returns is not None and ast.unparse(node.returns).startswith("Flow["))
        )
    ]


def names_of_forbidden_modules(source: str) -> set[str]:
    """What a module calls the forbidden modules and what it imports from them, under whatever name."""
    return FORBIDDEN_NAMES | {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
        if (getattr(node, "module", None) or alias.name).partition(".")[0] in FORBIDDEN_NAMES
    }


def violations(source: str) -> list[str]:
    """What the orchestrators of a module do that they must not."""
    found = []
    forbidden = names_of_forbidden_modules(source)
    for function in orchestrators(source):
        if isinstance(function, ast.AsyncFunctionDef):
            found.append(f"{function.name} is async")
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id in forbidden:
                found.append(f"{function.name} uses {node.id}")
            if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_CALLS:
                found.append(f"{function.name} calls {node.attr}")
            if isinstance(node, (ast.Await, ast.Global, ast.Import, ast.ImportFrom)):
                found.append(f"{function.name} has {type(node).__name__}")
    return found


def sources(folder: Path) -> dict[str, str]:
    """The text of every module below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}


def violations_below(folder: Path) -> list[str]:
    """:func:`violations` of every module below a folder, however deep."""
    return [f"{name}: {what}" for name, text in sources(folder).items() for what in violations(text)]


def test_orchestrators_hold_order_only() -> None:
    assert violations_below(ROOT / "function_app") == []


def test_there_are_orchestrators_to_guard() -> None:
    names = {f.name for text in sources(ROOT / "function_app").values() for f in orchestrators(text)}
    assert {"export_transfer", "import_bundle"} <= names


def test_guard_sees_a_module_in_a_folder_of_a_folder(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "function_app", tmp_path / "app")
    deep = tmp_path / "app" / "newly" / "made" / "flows.py"
    deep.parent.mkdir(parents=True)
    deep.write_text("def wait(context: Any) -> Flow[None]:\n    time.sleep(1)\n    yield\n")
    assert {found.partition(": ")[0] for found in violations_below(tmp_path / "app")} == {
        "newly/made/flows.py"
    }


@pytest.mark.parametrize(
    "body",
    [
        "datetime.now()",
        "time.time()",
        "os.environ['A']",
        "logging.info('x')",
        "open('x')",
        "uuid.uuid4()",
        "import os",
    ],
)
def test_guard_sees(body: str) -> None:
    source = f"@bp.orchestration_trigger(context_name='context')\ndef flow(context):\n    {body}\n    yield\n"
    assert violations(source)


@pytest.mark.parametrize(
    ("line", "call"),
    [("from time import time as moment", "moment()"), ("import random as dice", "dice.random()")],
)
def test_guard_sees_through_another_name(line: str, call: str) -> None:
    assert violations(f"{line}\n\ndef flow(context: Any) -> Flow[None]:\n    {call}\n    yield\n")


@pytest.mark.parametrize("body", ["context.current_utc_datetime", "yield context.call_activity('x', 1)"])
def test_guard_lets_pass(body: str) -> None:
    source = f"@bp.orchestration_trigger(context_name='context')\ndef flow(context):\n    {body}\n    yield\n"
    assert violations(source) == []
