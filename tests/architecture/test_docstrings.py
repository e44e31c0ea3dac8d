"""Docstrings say their result in a whole sentence first, and name the codes that are raised.

The guard reads syntax trees. What it can hold without false alarms: every public module, class and function
has a docstring; its first line begins like a sentence and ends like one, not like the middle of one ("Of …",
"By …"), nor, unless it asks, with a question's word ("What …", "Whose …"), which makes it a riddle; that of a
function that returns nothing says what it does, since it has nothing to tell; a reader of JSON or bytes says
how it refuses; a code that a public function raises in its own body stands in its ``Raises:`` section, with
its meaning. Whether the sentence is true and plain is for the reader.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("airgap", "blob_wire", "function_app", "offline_mover"),
    *("local_cloud", "portable", "bench", "infra"),
)
SEE_THE_PORT = "See the port."
"""The one short form: a method that implements a port's method, whose docstring is the contract."""
FRAGMENTS = frozenset(
    (
        *("After", "Also", "And", "As", "At", "Because", "Before", "But", "By", "For", "From", "If", "It"),
        *("Its", "Like", "Not", "Of", "On", "Or", "See", "Than", "That", "Them", "Then", "They", "To"),
        *("Twice", "Under", "When", "With", "Without"),
    )
)
"""Words that begin the middle of a sentence; a first line opens with what the thing is or does."""

RIDDLES = frozenset(
    (
        *(
            "How",
            "Since",
            "So",
            "Such",
            "That",
            "These",
            "This",
            "Those",
            "Until",
            "What",
            "Whatever",
            "Where",
        ),
        *("Which", "Who", "Whoever", "Whom", "Whose", "Why"),
    )
)
"""Words after which a newcomer has to guess what thing is meant; a question that is asked may have them."""

ANSWERS = frozenset(("A", "All", "An", "Every", "Nothing", "One", "Return", "The", "Whether"))
"""Words that promise a result, which a function that returns nothing does not have."""

READERS = frozenset(("from_bytes", "from_json", "from_line", "of_members"))
LEAST_WORDS = 2
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Documented(NamedTuple):
    """A module, class or function, by its qualified name."""

    name: str
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    is_public: bool


def documented(tree: ast.Module) -> Iterator[Documented]:
    """The module, then its classes and functions; what is private, or inside a function, is not public."""
    yield Documented("module", tree, True)
    yield from _documented_in(tree, "", is_public=True)


def _documented_in(parent: ast.AST, prefix: str, *, is_public: bool) -> Iterator[Documented]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
            name = prefix + node.name
            public = is_public and not node.name.startswith("_")
            yield Documented(name, node, public)
            inside = public and isinstance(node, ast.ClassDef)
            yield from _documented_in(node, name + ".", is_public=inside)
        else:
            yield from _documented_in(node, prefix, is_public=is_public)


def codes_raised(function: ast.AST) -> set[str]:
    """The names of the codes in the ``raise`` statements of a body, as far as they leave the function.

    Those of functions inside of it are apart; so are those in a ``try`` that catches every error of ours.
    """
    found: set[str] = set()
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.Try) and any("AirgapError" in _caught(one) for one in node.handlers):
            found |= codes_raised(ast.Try([], node.handlers, node.orelse, node.finalbody))
        elif isinstance(node, ast.Raise):
            found |= {
                part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "Code"
            }
        elif not isinstance(node, (ast.Lambda, *FUNCTIONS)):
            found |= codes_raised(node)
    return found


def _caught(handler: ast.ExceptHandler) -> str:
    return "" if handler.type is None else ast.unparse(handler.type)


def faults_of_first_line(docstring: str, *, is_public: bool) -> Iterator[str]:
    """What keeps a first line from being a sentence."""
    first = docstring.split("\n", 1)[0]
    prose = re.sub(r"``.*?``|:\w+:`.*?`|`.*?`", "", first)
    if not re.match(r"[A-Z]|:?\w*:?`", first):
        yield "does not begin with a capital letter"
    if not first.endswith((".", "?")):
        yield "does not end with a full stop"
    if first.split()[0].strip(",:;") in FRAGMENTS:
        yield f"begins like the middle of a sentence: {first.split()[0]}"
    elif is_public and first.split()[0].strip(",:;") in RIDDLES and not first.endswith("?"):
        yield f"begins like a riddle: {first.split()[0]}"
    elif len(re.findall(r"[A-Za-z]{2,}", prose)) < LEAST_WORDS:
        yield "says nothing but code"


def faults_of_function(docstring: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """What a public function's docstring promises and it does not have, or keeps from its reader."""
    word = docstring.split(maxsplit=1)[0].strip(",:;")
    if isinstance(function.returns, ast.Constant) and function.returns.value is None and word in ANSWERS:
        yield f"returns nothing, and its first line tells of a result: {word}"
    if function.name in READERS and not re.search(r"\b[Rr]efuses\b|\b[Rr]aises as\b|\bRaises:", docstring):
        yield "does not say how it refuses"


def codes_without_meaning(docstring: str) -> list[str]:
    """The clauses of a ``Raises:`` section that name codes and do not say what they mean there."""
    section = " ".join(docstring.partition("Raises:")[2].split("\n\n", 1)[0].split())
    clauses = re.split(
        r"[;.](?: |$)", re.sub(r"(?:^|(?<=\. ))(?:\w+(?:Error|Refusal)(?:, |: ))+", "; ", section)
    )
    code = r"`{0,2}[A-Z][A-Z_]{2,}`{0,2}"
    return [
        clause
        for clause in map(str.strip, clauses)
        if re.fullmatch(rf"{code}(?:(?:, |,? (?:or|and) ){code})*", clause)
    ]


def faults(source: str) -> list[str]:
    """What is wrong with the docstrings of a module, each by the name of what it belongs to."""
    found = []
    for name, node, is_public in documented(ast.parse(source)):
        docstring = ast.get_docstring(node) or ""
        if not docstring:
            if is_public:
                found.append(f"{name} has no docstring")
            continue
        if docstring == SEE_THE_PORT:
            continue
        found += [f"{name} {fault}" for fault in faults_of_first_line(docstring, is_public=is_public)]
        found += [f"{name} does not say what it means: {line}" for line in codes_without_meaning(docstring)]
        if is_public and isinstance(node, FUNCTIONS):
            found += [f"{name} {fault}" for fault in faults_of_function(docstring, node)]
            raises = docstring.partition("Raises:")[2]
            missing = {code for code in codes_raised(node) if not re.search(rf"\b{code}\b", raises)}
            found += [f"{name} raises {code} and does not say so" for code in sorted(missing)]
    return found


def faults_below(folder: Path) -> list[str]:
    """:func:`faults` of every module below a folder, however deep."""
    return [
        f"{path.relative_to(folder.parent)}: {fault}"
        for path in sorted(folder.rglob("*.py"))
        for fault in faults(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_are_at_the_bar(package: str) -> None:
    assert faults_below(ROOT / package) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("def size(): ...", "size has no docstring"),
        ("class Part:\n    '''One part.'''\n    def size(self): ...", "Part.size has no docstring"),
        ("def size():\n    '''the size in bytes.'''", "size does not begin with a capital letter"),
        ("def size():\n    '''The size\n\n    in bytes.'''", "size does not end with a full stop"),
        ("def size():\n    '''Of a part, in bytes.'''", "size begins like the middle of a sentence: Of"),
        (
            "def size():\n    '''By, that is, with, a key.'''",
            "size begins like the middle of a sentence: By,",
        ),
        ("def size():\n    '''See the port, too.'''", "size begins like the middle of a sentence: See"),
        ("def size():\n    '''What a part takes.'''", "size begins like a riddle: What"),
        ("class Part:\n    '''Whose bytes are right.'''", "Part begins like a riddle: Whose"),
        (
            "def check() -> None:\n    '''Whether the size is right.'''",
            "check returns nothing, and its first line tells of a result: Whether",
        ),
        (
            "class Part:\n    '''One part.'''\n    def from_json(cls, raw):\n        '''Read one part.'''",
            "Part.from_json does not say how it refuses",
        ),
        ("def _size():\n    '''As :meth:`other`.'''", "_size begins like the middle of a sentence: As"),
        ("def size():\n    '''``{'name', 'size'}``.'''", "size says nothing but code"),
        (
            "def size():\n    '''The size.\n\n    Raises:\n        IOError: ``GONE``, ``CUT``.\n    '''",
            "size does not say what it means: ``GONE``, ``CUT``",
        ),
        (
            "def size():\n    '''The size.\n\n    Raises:\n        OSError: ``GONE``: no; ``CUT``.\n    '''",
            "size does not say what it means: ``CUT``",
        ),
        (
            "def size():\n    '''The size in bytes; TOO_LARGE is a code.'''\n    raise Error(Code.TOO_LARGE)",
            "size raises TOO_LARGE and does not say so",
        ),
        (
            (
                "class Part:\n    '''One part.'''\n    async def read(self):\n        '''Read the part.'''\n"
                "        for _ in range(3):\n            if not self:\n                raise error(Code.GONE)"
            ),
            "Part.read raises GONE and does not say so",
        ),
    ],
)
def test_guard_sees(body: str, fault: str) -> None:
    assert faults(f"'''A module of sizes.'''\n{body}\n") == [fault]


def test_guard_sees_a_module_in_a_folder_of_a_folder(tmp_path: Path) -> None:
    deep = tmp_path / "app" / "newly" / "made"
    deep.mkdir(parents=True)
    (deep / "sizes.py").write_text("")
    assert faults_below(tmp_path / "app") == ["app/newly/made/sizes.py: module has no docstring"]


def test_guard_lets_pass() -> None:
    source = """
    '''A module of sizes.'''

    class Part:
        '''One part, its size in bytes.'''

        def __init__(self): ...

        def read(self):
            '''See the port.'''
            raise Error(Code.GONE)

        def size(self):
            '''``size_bytes`` of what was read, at least 1.

            Raises:
                MediaError: ``TOO_LARGE``: it is larger than a part may be.
            '''
            def inner(): raise Error(Code.GONE)
            try:
                raise Error(Code.MISSING)
            except AirgapError:
                if not self: raise Error(Code.TOO_LARGE)

        def right(self):
            '''What is its digest?'''

        def check(self) -> None:
            '''Refuse a part of the wrong size.'''

        def from_bytes(cls, raw):
            '''Read a part; refuses with ``TOO_LARGE``.'''

        def _helper(self):
            '''What only this module sees may be brief.'''
            raise Error(Code.GONE)
    """
    assert faults(dedent(source)) == []
