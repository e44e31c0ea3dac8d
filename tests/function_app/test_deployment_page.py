"""``infra/README.md`` tells whoever deploys all that the app asks for: settings, functions, containers."""

import re
from pathlib import Path

import pytest

from function_app.roles import build_app
from function_app.settings import Role
from function_app.storage import paths

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "infra" / "README.md").read_text(encoding="utf-8")
SETTING = re.compile(r"read\.\w+\(\s*\"(\w+)\"")
STARTING: set[object] = {"timerTrigger", "blobTrigger"}
SIDES = {"source": {"source", "both"}, "target": {"target", "both"}}


def rows(section: str) -> list[list[str]]:
    """The cells of the rows of a section's table, its heading left out."""
    text = PAGE.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names_in(cell: str) -> set[str]:
    """The names in code style."""
    return set(re.findall(r"`([^`]+)`", cell))


def test_every_setting_that_is_read_is_on_the_page() -> None:
    read = set(SETTING.findall((ROOT / "function_app" / "settings.py").read_text(encoding="utf-8")))
    assert len(read) > 10
    assert read - {name for row in rows("App settings") for name in names_in(row[0])} == set()


@pytest.mark.parametrize("role", ["source", "target"])
def test_every_function_that_nobody_calls_is_on_the_page_under_its_role(role: Role) -> None:
    started = {
        function.get_function_name()
        for function in build_app(role).get_functions()
        if (trigger := function.get_trigger()) is not None and trigger.type in STARTING
    }
    told = {
        name for row in rows("Timers and blob triggers") if row[1] in SIDES[role] for name in names_in(row[0])
    }
    assert started == told


def test_every_container_has_a_role_on_it() -> None:
    containers = {
        value for name, value in vars(paths).items() if name.isupper() and re.fullmatch("[a-z]+", value)
    }
    assert {"transfer", "journal"} <= containers
    assert containers - {name for row in rows("Least privilege") for name in names_in(row[1])} == set()
