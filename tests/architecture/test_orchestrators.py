"""Orchestrators are replayed: they hold order and nothing else.

The guard reads the syntax tree of every function that is decorated with ``orchestration_trigger`` or returns
a ``Flow`` (what orchestrators are composed of), and refuses what gives another answer when it runs again:
clocks, randomness, the environment, files, the network, logging.
"""

import ast
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


def violations(source: str) -> list[str]:
    """What the orchestrators of a module do that they must not."""
    found = []
    for function in orchestrators(source):
        if isinstance(function, ast.AsyncFunctionDef):
            found.append(f"{function.name} is async")
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
                found.append(f"{function.name} uses {node.id}")
            if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_CALLS:
                found.append(f"{function.name} calls {node.attr}")
            if isinstance(node, (ast.Await, ast.Global, ast.Import, ast.ImportFrom)):
                found.append(f"{function.name} has {type(node).__name__}")
    return found


MODULES = sorted((ROOT / "function_app").rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_orchestrators_hold_order_only(module: Path) -> None:
    assert violations(module.read_text(encoding="utf-8")) == []


def test_there_are_orchestrators_to_guard() -> None:
    names = {f.name for module in MODULES for f in orchestrators(module.read_text(encoding="utf-8"))}
    assert {"export_transfer", "import_bundle"} <= names


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


@pytest.mark.parametrize("body", ["context.current_utc_datetime", "yield context.call_activity('x', 1)"])
def test_guard_lets_pass(body: str) -> None:
    source = f"@bp.orchestration_trigger(context_name='context')\ndef flow(context):\n    {body}\n    yield\n"
    assert violations(source) == []
