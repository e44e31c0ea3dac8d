"""The compiler: golden pairs, all that it refuses and where, two other grammars, and broken texts."""

import json
from pathlib import Path
from random import Random

import pytest
import tree_sitter_bicep
from lark.exceptions import UnexpectedInput
from pycep import BicepParser
from tree_sitter import Language, Parser

from infra.bicep.errors import BicepError
from infra.bicep.parser import parse
from infra.bicep.template import CompilationError, compile_file

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path for folder in (ROOT / "infra", GOLDEN) for path in folder.rglob("*.bicep"))
WHOLE = (GOLDEN / "whole.bicep").read_text(encoding="utf-8")

OUTSIDE = {
    "param a string[]": (1, 9, "the type"),
    "param a {\n}": (1, 9, "a name is expected"),
    "type a = string": (1, 1, "'type' is not known"),
    "func f() string => 'a'": (1, 1, "'func' is not known"),
    "import 'az@1.0.0'": (1, 1, "'import' is not known"),
    "var a = '''x'''": (1, 9, "multi-line"),
    "/* no */ var a = 1": (1, 1, "'/* no */ var a = 1' is not known"),
    "#disable-next-line x\nvar a = 1": (1, 1, "is not known here"),
    "var a = 1\nvar b = -a": (2, 9, "negative"),
    "var a = !!true": (1, 10, "doubled"),
    "var a = b": (1, 9, "b is not declared"),
    "var a = 'x\n": (1, 9, "not closed"),
    "var a = '${b\n'": (1, 12, "not closed"),
    "var a = '\\u{41}'": (1, 10, "escape"),
    "var a = {\n  b: 1\n  b: 2\n}": (3, 3, "stands there twice"),
    "var a = {\n  ...b\n}": (2, 3, "a name is expected"),
    "var a = b.?c": (1, 11, "a name is expected"),
    "var a = map([], x => x)": (1, 19, "not '='"),
    "var a = loadTextContent('x')": (1, 9, "the function loadTextContent"),
    "var a = [for x in [1]: [for y in [1]: y]]": (1, 24, "a loop is not known"),
    "var a = 12345678901234567890": (1, 9, "is not known here"),
    "var a = 1 2": (1, 11, "is one too many"),
    "var a = 1\nvar a = 2": (2, 1, "declared twice"),
    "@description('x')\nvar a = 1": (2, 1, "a decorator of a var"),
    "@secure()\n@secure()\nparam a string": (2, 2, "twice"),
    "@sealed()\nparam a string": (2, 1, "@sealed"),
    "@secure()\nparam a int": (2, 1, "@secure"),
    "targetScope = 'subscription'": (1, 1, "only resource groups"),
    "resource a 'A.B/c@1' = {\n  location: 'x'\n}": (1, 1, "a has no name"),
    "resource a 'A.B/c/d@1' = {\n  name: 'x'\n}": (1, 1, "by `parent`"),
    "resource a 'A.B/c@1' = {\n  name: 'x'\n}\noutput b object = a": (4, 19, "a is no value"),
    "resource a 'A.B/c@1' = {\n  name: 'x'\n}\nvar b = a.id": (4, 1, "b needs a"),
    "var a = {\n  b: [listKeys('x', '1').c]\n}": (1, 1, "a needs keys"),
    "module m 'br/public:x:1' = {\n  name: 'm'\n}": (1, 1, "no .bicep file"),
    "module m 'modules/grant.bicep' = {\n  name: 'm'\n}": (1, 1, "is not given its parameter container"),
    "module m 'modules/grant.bicep' = {\n  name: 'm'\n  params: { x: 1 }\n}": (1, 1, "has no parameter x"),
    "module m 'modules/grant.bicep' = {\n  name: 'm'\n  identity: {}\n}": (3, 3, "of a module, only"),
    "module m 'own.bicep' = {\n  name: 'm'\n}": (1, 1, "a module of itself"),
    "var a = " + "[" * 60: (1, 49, "more than 40 levels"),
    "var a = " + "'${" * 30: (1, 24, "strings stand in strings"),
    "//" + "x" * 300_000: (1, 1, "more than 262144 characters"),
}


def compiled(folder: Path, text: str) -> dict[str, object]:
    """What a text compiles to, with the golden modules beside it."""
    (folder / "modules").mkdir()
    for module in (GOLDEN / "modules").iterdir():
        (folder / "modules" / module.name).write_bytes(module.read_bytes())
    path = folder / "own.bicep"
    path.write_text(text, encoding="utf-8", newline="")
    return compile_file(path)


@pytest.mark.parametrize("name", ["whole"])
def test_golden_pair(name: str) -> None:
    expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert compile_file(GOLDEN / f"{name}.bicep") == expected


@pytest.mark.parametrize("text", OUTSIDE, ids=lambda text: repr(text[:40]))
def test_what_is_outside_the_subset_is_refused_where_it_stands(tmp_path: Path, text: str) -> None:
    line, column, what = OUTSIDE[text]
    with pytest.raises(CompilationError) as caught:
        compiled(tmp_path, text)
    assert str(caught.value).startswith(f"own.bicep: line {line}, column {column}: ")
    assert what in str(caught.value)


def test_line_ends_of_windows_mean_the_same(tmp_path: Path) -> None:
    expected = json.loads((GOLDEN / "whole.json").read_text(encoding="utf-8"))
    assert compiled(tmp_path, WHOLE.replace("\n", "\r\n")) == expected


def test_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = "module m 'gone.bicep' = {\n  name: 'm'\n}"
    with pytest.raises(CompilationError, match=r"gone\.bicep cannot be read"):
        compiled(tmp_path, text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_is_in_two_other_grammars_too(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert BicepParser().parse(text=text)
    tree = Parser(Language(tree_sitter_bicep.language())).parse(text.encode())
    assert not tree.root_node.has_error


@pytest.mark.parametrize("words", ["resource ", " = {", "name: "])
def test_both_other_grammars_see_what_is_no_bicep(words: str) -> None:
    broken = WHOLE.replace(words, "", 1)
    with pytest.raises(UnexpectedInput):
        BicepParser().parse(text=broken)
    tree = Parser(Language(tree_sitter_bicep.language())).parse(broken.encode())
    assert tree.root_node.has_error


@pytest.mark.parametrize("seed", range(8))
def test_broken_text_is_refused_and_nothing_else(seed: int) -> None:
    """A letter less, more or other, a piece twice: whatever comes of it is read or refused in order."""
    random = Random(seed)  # noqa: S311 - the same texts each time
    refused = []
    for _ in range(100):
        text = WHOLE
        for _ in range(random.randint(1, 3)):
            at, length = random.randrange(len(text)), random.choice([0, 1, 1, 30])
            new = random.choice(
                ["", "'", "${", "{", "}", "[", "(", "\n", "@", "é", "\x00", text[at : at + 60]]
            )
            text = text[:at] + new + text[at + length :]
        try:
            parse(text)
        except BicepError as error:
            refused.append((error.place, text.count("\n") + 1))
    assert len(refused) > 50
    assert all(1 <= place.line <= lines and place.column >= 1 for place, lines in refused)
