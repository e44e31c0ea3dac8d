"""Generated documents are as generated; what the documents name exists."""

import re
from pathlib import Path

import pytest

from airgap.errors import Code
from tests.architecture import errors_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_error_page_is_as_generated() -> None:
    assert errors_page.PAGE.read_text(encoding="utf-8") == errors_page.render()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_documents_name_in_code_style_exist(page: Path) -> None:
    pattern = r"`((?:airgap|function_app|offline_mover|local_cloud|infra|tests|docs|bench)/[\w./-]+\.\w+)`"
    for name in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", ["README.md", "launchers/README.txt"])
def test_a_damaged_copy_of_the_tool_ends_with_the_exit_code_that_its_papers_promise(page: str) -> None:
    promised = re.findall(r"exit code (\d+)", (ROOT / "portable" / page).read_text(encoding="utf-8"))
    assert promised == [str(Code.TOOL_DAMAGED.exit_code)]
