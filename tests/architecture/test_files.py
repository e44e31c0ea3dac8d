"""Nothing in the mover writes to a file system but through the one door that follows no link."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_DOOR = {"open_folder.py"}
_READERS = {
    "held_volumes.py": {"open", "os.open"},  # the volumes' own folders, and /proc
    "media_identity.py": {".open"},  # /proc and /run
    "medium_read.py": {"os.open"},  # Windows, behind media_fs.open_regular
    "media_fs.py": {"io.FileIO"},  # on descriptors that the door opened
    "__init__.py": {"os.open"},  # /dev/null
}
_FUNCTIONS = {
    "os": {
        *("open", "replace", "rename", "unlink", "remove", "rmdir", "mkdir", "makedirs", "link", "symlink"),
        *("truncate", "mknod", "mkfifo", "chmod", "removedirs", "renames", "fdopen"),
    },
    "io": {"FileIO", "open"},
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move", "rmtree", "make_archive", "unpack_archive"},
    "PartStream": set[str](),  # opens by media_fs
}
_METHODS = {
    *("open", "write_bytes", "write_text", "touch", "unlink", "rename", "rmdir", "mkdir", "symlink_to"),
    *("hardlink_to", "chmod", "read_bytes", "read_text"),
}
_MODULES = {"tempfile", "fileinput"}


def _opened(tree: ast.AST) -> Iterator[str]:
    """Each call that opens, makes, renames or removes something, as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in _MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in _MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Call) and (call := _call(node)):
            yield call


def _call(node: ast.Call) -> str | None:
    match node.func:
        case ast.Name(id="open"):
            return "open"
        case ast.Attribute(value=ast.Name(id=module), attr=name) if module in _FUNCTIONS:
            return f"{module}.{name}" if name in _FUNCTIONS[module] else None
        case ast.Attribute(attr=name) if name in _METHODS:
            return f".{name}"
        # Path.replace has one argument; those of texts, dates and dataclasses have two, or named ones.
        case ast.Attribute(attr="replace") if len(node.args) == 1 and not node.keywords:
            return ".replace"
    return None


def test_nothing_but_the_door_opens_files_for_writing() -> None:
    found = {
        f"{path.relative_to(_ROOT)}: {call}"
        for path in (_ROOT / "offline_mover").rglob("*.py")
        if path.name not in _DOOR
        for call in _opened(ast.parse(path.read_text(encoding="utf-8")))
        if call not in _READERS.get(path.name, set())
    }
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        *(
            "open(path, 'wb')",
            "path.open('wb')",
            "path.write_bytes(b'')",
            "os.open(path, 1)",
            "path.unlink()",
        ),
        *("partial.replace(path)", "os.replace(a, b)", "shutil.copy(a, b)", "import tempfile", "p.touch()"),
    ],
)
def test_guard_sees_another_way_in(line: str) -> None:
    assert list(_opened(ast.parse(line)))


@pytest.mark.parametrize("line", ["text.replace('a', 'b')", "at.replace(microsecond=0)", "replace(x, a=1)"])
def test_guard_leaves_texts_alone(line: str) -> None:
    assert not list(_opened(ast.parse(line)))
