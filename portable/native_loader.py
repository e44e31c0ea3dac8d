"""A loader of the mover's compiled modules, each only after its SHA-256 was checked with ``native.json``.

The bytes that were checked are the bytes that are loaded: on Linux they go through anonymous memory, which
also works from a medium mounted ``noexec`` and from inside a single-file build. Where there is no such
memory, the file is loaded where it lies or, from a single file, out of a private temporary folder; between
the check and the load it could then be exchanged by somebody who controls the medium's hardware.

``native.json`` maps targets to modules to ``[file, sha256]``, with file names relative to itself. Neither it
nor the Python code beside it is checked here: a tool cannot vouch for itself, its SHA-256 must come by
another way. What is caught is a damaged medium and a compiled file that was exchanged.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from types import ModuleType
from typing import NoReturn

MODULES = ("_cffi_backend", "cryptography.hazmat.bindings._rust")
TABLE_NAME = "native.json"
MAX_TABLE_BYTES = 64 * 1024
TEMPORARY_PREFIX = "offline-mover-native-"
STALE_S = 600
"""Temporary folders older than this are loaded from by now, or nobody's."""

Read = Callable[[str], bytes]


def install() -> None:
    """Make the compiled modules importable; nothing is read before one of them is imported."""
    app = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # The loader of this module reads files beside it, from a folder or from inside a zip.
    sys.meta_path.insert(0, NativeFinder(app, __spec__.loader.get_data))  # type: ignore[union-attr]  # both can


class NativeFinder:
    """A finder of the modules of ``native.json``, for ``sys.meta_path``.

    Args:
        app: the folder of ``native.json``, perhaps inside a zip.
        read: the content of a file, by absolute path.
    """

    def __init__(self, app: str, read: Read) -> None:
        self._app = app
        self._read = read
        self._files: Mapping[str, Sequence[str]] | None = None

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of ``native.json``, as the import system asks for it; ``None`` for any other.

        Raises:
            SystemExit: the tree carries nothing for this Python or platform, or is damaged; one line was
                written to stderr.
        """
        if name not in MODULES:
            return None
        if self._files is None:
            self._files = files_for(target_key(), self._app, self._read)
        try:
            file, sha256 = self._files[name]
            path = os.path.join(self._app, *file.split("/"))
        except (KeyError, ValueError, AttributeError):
            damaged(f"{TABLE_NAME} does not name {name}")
        return ModuleSpec(name, CheckedLoader(name, path, sha256=sha256, read=self._read), origin=path)


class CheckedLoader(ExtensionFileLoader):
    """A loader of one compiled file, if it is what was packed."""

    def __init__(self, name: str, path: str, *, sha256: str, read: Read) -> None:
        super().__init__(name, path)
        self._sha256 = sha256
        self._read = read

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: RET503 - refuse() does not return
        """Check the file, then load it from the first place that the system allows.

        Raises:
            SystemExit: as :meth:`NativeFinder.find_spec`.
        """
        content = read_checked(self.path, self._sha256, self._read)
        failures = []
        for place in (in_memory, in_tree, in_temporary_folder):
            try:
                with place(content, self.path) as path:
                    spec.origin = path
                    return super().create_module(spec)
            except (ImportError, OSError) as error:
                failures.append(str(error))
        refuse(2, f"this system does not load {self.path}: {'; '.join(failures)}")


# --- what to load ------------------------------------------------------------------------------------------


def target_key() -> str:
    """The name of this platform and Python in ``native.json``, such as ``linux-x86_64-cp311``."""
    import sysconfig  # noqa: PLC0415 - --help does without

    platform = sysconfig.get_platform()
    if platform.startswith("macosx-"):
        machine = platform.rpartition("-")[2]
        # A universal Python runs as what the machine is, or as what Rosetta pretends to be.
        platform = "macosx-" + (os.uname().machine if machine.startswith("universal") else machine)
    implementation = sys.implementation.name.replace("cpython", "cp")
    minor = f"{sys.version_info[0]}{sys.version_info[1]}"
    is_free_threaded = any(f"{minor}t-" in suffix for suffix in EXTENSION_SUFFIXES)
    return f"{platform}-{implementation}{minor}{'t' if is_free_threaded else ''}"


def files_for(key: str, app: str, read: Read) -> Mapping[str, Sequence[str]]:
    """The row of ``native.json`` for a target.

    Raises:
        SystemExit: there is no such row, or no such table.
    """
    import json  # noqa: PLC0415 - --help does without

    try:
        table = json.loads(read_packed(os.path.join(app, TABLE_NAME), read)[:MAX_TABLE_BYTES])
        pairs = [target.rpartition("-cp3") for target in table]
    except (ValueError, RecursionError, TypeError, AttributeError):
        damaged(f"{TABLE_NAME} is not what was packed")
    if key not in table:
        pythons = ", ".join(sorted({f"3.{minor}" for _, _, minor in pairs}))
        platforms = ", ".join(sorted({platform for platform, _, _ in pairs}))
        refuse(2, f"this copy has nothing for {key}. It runs with CPython {pythons} on {platforms}.")
    row = table[key]
    if not isinstance(row, dict):
        damaged(f"{TABLE_NAME} is not what was packed")
    return row


def read_packed(path: str, read: Read) -> bytes:
    """The bytes of a file of the tree.

    Raises:
        SystemExit: it is missing or cannot be read.
    """
    import zlib  # noqa: PLC0415 - --help does without

    try:
        return read(path)
    except (OSError, ImportError, EOFError, zlib.error) as error:
        damaged(f"{path}: {getattr(error, 'strerror', None) or 'cannot be read'}")


def read_checked(path: str, sha256: str, read: Read) -> bytes:
    """The bytes of a file of the tree, after their SHA-256 (hex) was compared.

    Raises:
        SystemExit: the SHA-256 is another one, or the file cannot be read.
    """
    import hashlib  # noqa: PLC0415 - --help does without

    content = read_packed(path, read)
    if hashlib.sha256(content).hexdigest() != sha256:
        damaged(f"{path}: its SHA-256 is not the one in {TABLE_NAME}, it was not loaded")
    return content


# --- where to load it from ---------------------------------------------------------------------------------


@contextmanager
def in_memory(content: bytes, path: str) -> Iterator[str]:
    """The path of the content as a file in anonymous memory, which only Linux has.

    The file stays open: if the next one got its number, and with it its path, the dynamic linker would take
    it for this one.

    Raises:
        OSError: there is no such memory here.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError("no files in memory")
    descriptor = os.memfd_create(os.path.basename(path))
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    yield f"/proc/self/fd/{descriptor}"


@contextmanager
def in_tree(_content: bytes, path: str) -> Iterator[str]:
    """The path of the file where it lies in the tree.

    Raises:
        OSError: it lies inside a zip.
    """
    if not os.path.isfile(path):
        raise OSError("inside a single file")
    yield path


@contextmanager
def in_temporary_folder(content: bytes, path: str) -> Iterator[str]:
    """The path of the content as a file in a folder that only this user may enter; removed after loading.

    Windows keeps a loaded file open: there the folder stays until a later start.

    Raises:
        OSError: there is no temporary folder to write to.
    """
    import shutil  # noqa: PLC0415 - most systems do without
    import tempfile  # noqa: PLC0415 - as above

    remove_stale_folders(tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)
    try:
        copy = os.path.join(folder, os.path.basename(path))
        with open(copy, "xb") as file:
            file.write(content)
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale_folders(temporary: str) -> None:
    """Remove the temporary folders that earlier runs on Windows could not remove."""
    import shutil  # noqa: PLC0415 - most systems do without
    import time  # noqa: PLC0415 - as above

    with os.scandir(temporary) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX) and entry.is_dir(follow_symlinks=False):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_S:
                    shutil.rmtree(entry.path, ignore_errors=True)


# --- saying no ---------------------------------------------------------------------------------------------


def damaged(what: str) -> NoReturn:
    """End the program with TOOL_DAMAGED, because this copy of the tool is not what was packed.

    Raises:
        SystemExit: always.
    """
    from airgap.errors import Code  # noqa: PLC0415 - --help does without

    refuse(Code.TOOL_DAMAGED.exit_code, f"{what}. {Code.TOOL_DAMAGED.remedy}", Code.TOOL_DAMAGED.name)


def refuse(exit_code: int, message: str, prefix: str = "offline-mover") -> NoReturn:
    """End the program with one line, past every ``except Exception`` on the way out of an import.

    Raises:
        SystemExit: always.
    """
    line = "".join(c if c.isprintable() else "?" for c in f"{prefix}: {message}")
    sys.stderr.write(line.encode("ascii", "backslashreplace").decode("ascii") + "\n")
    raise SystemExit(exit_code)
