"""Generated documents are as generated; what the documents name exists."""

import re
from pathlib import Path

import pytest

from airgap.errors import Code
from tests.architecture import errors_page, openapi_documents

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(
        page
        for folder in ("docs", "infra", "local_cloud", "bench", "portable", "tests")
        for page in (ROOT / folder).rglob("*.md")
        if "node_modules" not in page.parts
    ),
]
_NAMED = re.compile(
    r"`((?:airgap|blob_wire|function_app|offline_mover|local_cloud|infra|tests|docs|bench|portable)/[\w./-]+\.\w+)`"
)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_ANCHOR = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link may name of a page: its headings, as GitHub and others make anchors of them."""
    found: list[str] = []
    for title in re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()
        found.append(re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-"))
    return {name if not (n := found[:at].count(name)) else f"{name}-{n}" for at, name in enumerate(found)}


def dead_references(page: Path, root: Path) -> list[str]:
    """What a page links to beside itself, or names in code style below ``root``, and is not there."""
    text = page.read_text(encoding="utf-8")
    links = _LINK.findall(re.sub(r"`[^`]*`", "", text))
    return [
        *(f"link {link}" for link in links if not (page.parent / link).exists()),
        *(
            f"link {link}#{anchor}"
            for link, anchor in _ANCHOR.findall(re.sub(r"`[^`\n]*`", "", text))
            for target in [page.parent / link if link else page]
            if target.suffix == ".md" and target.exists() and anchor not in anchors(target)
        ),
        *(f"name {name}" for name in _NAMED.findall(text) if not (root / name).exists()),
    ]


_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def gone_tests(page: Path, root: Path) -> list[str]:
    """The tests that a page names, as pytest does, and that are not there."""
    return [
        f"{file}::{name}"
        for file, name in _TEST.findall(page.read_text(encoding="utf-8"))
        if not (root / file).is_file()
        or not re.search(
            rf"^(?:async )?def {name}\(", (root / file).read_text(encoding="utf-8"), re.MULTILINE
        )
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_exist(page: Path) -> None:
    assert gone_tests(page, ROOT) == []


def test_every_line_of_the_threat_model_names_code_and_a_test() -> None:
    lines = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    rows = [row for row in cells if len(row) == 4 and row[0] != "attack" and set(row[0]) != {"-"}]
    assert len(rows) > 40
    assert [row for row in rows if not _NAMED.search(row[2]) or not _TEST.search(row[3])] == []


def test_every_part_of_the_threat_model_ends_with_what_is_left() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    parts = [one for one in re.split(r"^## ", page, flags=re.MULTILINE) if re.match(r"[A-G]\d?\. ", one)]
    assert len(parts) >= 8
    left = {part.split("\n")[0]: re.findall(r"^\*\*Left\.\*\* \w.+", part, re.MULTILINE) for part in parts}
    assert [title for title, found in left.items() if len(found) != 1] == []


def test_test_that_is_gone_is_seen(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_here() -> None: ...\n")
    page = tmp_path / "page.md"
    page.write_text("`tests/test_a.py::test_here`, `tests/test_a.py::test_her`, `tests/test_b.py::test_here`")
    assert gone_tests(page, tmp_path) == ["tests/test_a.py::test_her", "tests/test_b.py::test_here"]


def test_error_page_is_as_generated() -> None:
    assert errors_page.PAGE.read_text(encoding="utf-8") == errors_page.render()


@pytest.mark.parametrize("role", ["source", "target"])
def test_openapi_documents_are_as_generated(role: str) -> None:
    page = openapi_documents.FOLDER / f"{role}.json"
    assert page.read_text(encoding="utf-8") == openapi_documents.render()[role]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_documents_link_to_and_name_exists(page: Path) -> None:
    assert dead_references(page, ROOT) == []


def test_dead_links_and_names_are_seen(tmp_path: Path) -> None:
    (tmp_path / "airgap").mkdir()
    (tmp_path / "airgap" / "verify.py").touch()
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        "# A `part`\n[itself](page.md#a-part), [gone](../gone.md#part), [elsewhere](https://a.example/x#y), "
        "`airgap/verify.py`, `airgap/gone.py`, `[no](link.md)`, [here](#a-part), [there](#another-part)\n"
        "# A part\n[second](#a-part-1)\n```\n# Another part\n```\n"
    )
    assert dead_references(page, tmp_path) == [
        *("link ../gone.md", "link #another-part", "name airgap/gone.py")
    ]


WRITTEN: dict[str, tuple[str, ...]] = {
    "operations.md": (
        *("The daily work", "Install, and the first transfer", "Upgrading one side", "What it costs"),
        *("A bundle was refused", "A medium was lost, or fell into other hands", "A transfer was lost"),
        *("Restore after a disaster", "Rotating the signing key"),
    ),
    "threat-model.md": (
        *(
            "What is protected",
            "A. The carrier",
            "B. The holder of the upload SAS",
            "C. Whoever writes the source",
        ),
        *(
            "D. The holder of a signing key",
            "E. A weak identity",
            "F. The holder of a function key",
            "G. Time",
        ),
    ),
}
"""What people look for on a page when they need it, as its headings begin."""


@pytest.mark.parametrize("name", WRITTEN)
def test_page_tells_of_what_people_look_for_there(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    told = {begin: [one for one in sections if one.startswith(begin)] for begin in WRITTEN[name]}
    assert [begin for begin, found in told.items() if len(found) != 1 or len(found[0].split()) < 30] == []


def sections_not_listed(page: str) -> list[str]:
    """The numbered sections of a page that its own list at the top does not lead to, in the list's words."""
    wanted = [
        f"{number}. [{title}](#{number}-{title.lower().replace(' ', '-')})"
        for number, title in re.findall(r"^## (\d+)\. (.+)$", page, re.MULTILINE)
    ]
    return [entry for entry in wanted if entry not in page]


def test_every_section_of_the_formats_is_in_the_list_at_the_top() -> None:
    assert sections_not_listed((ROOT / "docs" / "format.md").read_text(encoding="utf-8")) == []


def test_section_that_is_not_listed_is_seen() -> None:
    page = "1. [Terms](#1-terms)\n\n## 1. Terms\n\n## 2. Saved plan\n"
    assert sections_not_listed(page) == ["2. [Saved plan](#2-saved-plan)"]


MAP = ROOT / "docs" / "README.md"


def pages_not_on(the_map: str, pages: list[Path]) -> list[str]:
    """The pages that no link of the map leads to, by their names from the root of the project."""
    listed = {(MAP.parent / link).resolve() for link in _LINK.findall(the_map)}
    return [str(page.relative_to(ROOT)) for page in pages if page != MAP and page not in listed]


def test_every_page_and_every_decision_is_on_the_map() -> None:
    assert pages_not_on(MAP.read_text(encoding="utf-8"), PAGES) == []


def test_page_that_is_not_on_the_map_is_seen() -> None:
    decided = ROOT / "docs" / "adr" / "0099-newly-decided.md"
    assert pages_not_on("[errors](errors.md)", [ROOT / "docs" / "errors.md", decided]) == [
        "docs/adr/0099-newly-decided.md"
    ]


def test_map_calls_each_decision_by_its_title() -> None:
    text = MAP.read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs" / "adr").glob("*.md")):
        heading = page.read_text(encoding="utf-8").split("\n", 1)[0]
        number, _, title = heading.removeprefix("# ").partition(". ")
        assert page.name.startswith(f"{int(number):04d}-")
        assert f"- [{int(number):04d}](adr/{page.name}): {title}\n" in text


@pytest.mark.parametrize("page", ["README.md", "launchers/README.txt"])
def test_a_damaged_copy_of_the_tool_ends_with_the_exit_code_that_its_papers_promise(page: str) -> None:
    promised = re.findall(r"exit code (\d+)", (ROOT / "portable" / page).read_text(encoding="utf-8"))
    assert promised == [str(Code.TOOL_DAMAGED.exit_code)]


def unpasteable(text: str) -> list[str]:
    """Lines of a page's commands that an interactive zsh reads otherwise: there a # begins no comment."""
    found = re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for line in "".join(found).splitlines() if re.search(r"(?:^|\s)#\s|shopt", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_can_be_pasted_into_an_interactive_zsh(page: Path) -> None:
    assert unpasteable(page.read_text(encoding="utf-8")) == []


def test_comment_behind_a_command_is_seen() -> None:
    assert unpasteable("```\nls  # all\ncurl a#b\n```\n```sh\n# why\nls\n```\n") == ["ls  # all", "# why"]
