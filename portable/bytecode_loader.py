"""A loader of the packed folder's modules from bytecode, each only after its SHA-256 was checked.

The folder has, for each Python that it was packed with:

==================================  ==================================================================
``app/bytecode/cpython-311.index``  as `marshal` writes it: by module, whether it is a package, and where
                                    its bytecode is: offset and size in bytes, SHA-256 (hex)
``app/bytecode/cpython-311.pycs``   the bytecode of all of them, one after the other, as PEP 552 has it
==================================  ==================================================================

The index is good if ``SHA256SUMS`` says so, the bytecode if the index says so. A Python for which there is
none, and the single file, compile the sources at each start: that takes two thirds of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import NoReturn

FOLDER = "app/bytecode"
SUMS = "SHA256SUMS"
Row = tuple[bool, int, int, str]


def install(root: str) -> None:
    """Have modules loaded from bytecode, if the tree at ``root`` has some for this Python.

    Raises:
        SystemExit: the bytecode is not what was packed; one line was written to stderr.
    """
    import marshal  # noqa: PLC0415 - a single file does without

    stem = f"{FOLDER}/{sys.implementation.cache_tag}"
    path = os.path.join(root, *stem.split("/"))
    try:
        with open(os.path.join(root, SUMS), "rb") as file:
            sums = file.read()
        with open(path + ".index", "rb") as file:
            index = file.read()
    except OSError:
        return
    if f"{sha256_of(index)}  {stem}.index\n".encode() not in sums:
        damaged(f"{stem}.index is not what {SUMS} says")
    # Python looks for a module in its own places only where it is none of these.
    rows = marshal.loads(index)  # noqa: S302 - it is what was packed
    sys.meta_path.insert(0, BytecodeFinder(os.path.join(root, "app"), rows, path + ".pycs"))


def sha256_of(content: bytes) -> str:
    """The SHA-256 of the content, in hex."""
    import hashlib  # noqa: PLC0415 - the single file's --help does without

    return hashlib.sha256(content).hexdigest()


class BytecodeFinder:
    """A finder of the modules of an index, for ``sys.meta_path``.

    Args:
        app: the folder that the sources are in.
        rows: the row of each module, as the index has it.
        pycs: the file that the bytecode is in.
    """

    def __init__(self, app: str, rows: Mapping[str, Row], pycs: str) -> None:
        self._app = app
        self._rows = rows
        self._pycs = pycs

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of the index, as the import system asks for it; ``None`` for any other."""
        if name not in self._rows:
            return None
        is_package, offset, size, sha256 = self._rows[name]
        folder = os.path.join(self._app, *name.split("."))
        source = os.path.join(folder, "__init__.py") if is_package else folder + ".py"
        loader = BytecodeLoader(name, source, pycs=self._pycs, offset=offset, size=size, sha256=sha256)
        spec = ModuleSpec(name, loader, origin=source, is_package=is_package)
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(folder)
        return spec


class BytecodeLoader(SourceFileLoader):
    """A loader of one module from its place in the file with all bytecode."""

    def __init__(self, name: str, source: str, *, pycs: str, offset: int, size: int, sha256: str) -> None:
        super().__init__(name, source)
        self._pycs = pycs
        self._offset = offset
        self._size = size
        self._sha256 = sha256

    def path_stats(self, _path: str) -> Mapping[str, int]:
        """An empty status of the source: bytecode is not compared with it, and the medium is not asked."""
        return {"mtime": 0, "size": 0}

    def get_data(self, path: str) -> bytes:
        """The bytecode of the module, or the content of any other file that is asked for.

        Raises:
            SystemExit: the bytecode is not what was packed, or cannot be read.
        """
        if not path.endswith(".pyc"):
            return super().get_data(path)
        content = b""
        try:
            with open(self._pycs, "rb") as file:
                file.seek(self._offset)
                content = file.read(self._size)
        except OSError as error:
            damaged(f"{self._pycs}: {error.strerror}")
        if sha256_of(content) != self._sha256:
            damaged(f"{self._pycs}: the bytecode of {self.name} is not what was packed, it was not loaded")
        return content


def damaged(what: str) -> NoReturn:
    """End the program with TOOL_DAMAGED; the module that says so is compiled from its source.

    Raises:
        SystemExit: always.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, BytecodeFinder)]
    for name, module in list(sys.modules.items()):
        if isinstance(getattr(module, "__loader__", None), BytecodeLoader):
            del sys.modules[name]
    from portable import native_loader  # noqa: PLC0415 - nearly never

    native_loader.damaged(what)
