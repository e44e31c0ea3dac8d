"""The file system of a volume: its writes last, and its reads trust nothing.

Every ``OSError`` leaves here as a :class:`~airgap.errors.MediaError`, whose code tells a full, a
write-protected and a failing medium apart. Names come back as bag-relative paths with ``/``, on every
platform.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from airgap.errors import Code, MediaError, UntrustedInputError
from offline_mover.medium import held_volumes
from offline_mover.medium.open_folder import open_folder

BUFFER_BYTES = 1024 * 1024
PARTIAL_SUFFIX = ".partial"
"""Of a file that is being written; never the name of anything declared."""

_CODES = {
    errno.ENOSPC: Code.MEDIA_FULL,
    errno.EDQUOT: Code.MEDIA_FULL,
    errno.EFBIG: Code.MEDIA_FULL,
    errno.EROFS: Code.MEDIA_READ_ONLY,
    errno.EACCES: Code.MEDIA_READ_ONLY,
    errno.EPERM: Code.MEDIA_READ_ONLY,
}


@contextmanager
def media_errors(name: str, *, is_reading: bool = False) -> Iterator[None]:
    """A block whose ``OSError`` becomes a :class:`MediaError`; ``name`` says what was touched.

    Raises:
        MediaError: ``VOLUME_GONE`` if a volume of the run is gone; else ``MEDIA_FULL``, ``MEDIA_READ_ONLY``
            or
            ``MEDIA_UNREADABLE``, as the system's error says; only ``MEDIA_UNREADABLE`` while reading.
    """
    try:
        yield
    except OSError as error:
        if (gone := held_volumes.first_gone()) is not None:
            raise held_volumes.gone_error(gone) from None
        code = Code.MEDIA_UNREADABLE if is_reading else _CODES.get(error.errno or 0, Code.MEDIA_UNREADABLE)
        raise MediaError(code, f"{printable(name)}: {error.strerror or type(error).__name__}") from None


def printable(name: str) -> str:
    """The name safe to print: of bounded length, control characters and lone surrogates escaped."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
    return text if len(text) <= 1000 else f"{text[:1000]}…"  # noqa: PLR2004 - a receipt's limit is 1024


# --- reading -----------------------------------------------------------------------------------------------


@contextmanager
def open_regular(
    path: Path, name: str, *, opener: Callable[[Path], int] | None = None
) -> Iterator[io.FileIO]:
    """A regular file, open for reading, unbuffered; a link or a device is refused, never followed.

    Args:
        path: the file.
        name: the file's name in errors.
        opener: opens it where ``open`` cannot, and returns its descriptor.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME``: a link or a device stands there, or a link on the way.
        MediaError: ``MEDIA_UNREADABLE``, also for errors while the caller reads; ``VOLUME_GONE``: another
            medium is there now, or none.
    """
    with media_errors(name, is_reading=True):
        with open_folder(path.parent) as folder:
            descriptor = folder.read(path.name)
            if opener is not None:
                os.close(descriptor)
                descriptor = opener(path)
                folder.require_regular(path.name, descriptor)
        with io.FileIO(descriptor, "r") as file:
            yield file


def read_capped(path: Path, name: str, *, max_bytes: int) -> bytes:
    """Read a small file whole.

    Raises:
        UntrustedInputError: ``TOO_LARGE``: it has more than ``max_bytes``, judged by its size before reading;
            ``UNSAFE_NAME``: a link or a device stands there.
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    with open_regular(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise UntrustedInputError(Code.TOO_LARGE, f"{name}: {size} bytes, at most {max_bytes} allowed")
        content = io.BytesIO()
        while len(piece := file.read(max_bytes + 1 - content.tell()) or b"") and content.tell() <= max_bytes:
            content.write(piece)
    return content.getvalue()[: max_bytes + 1]


# --- taking stock ------------------------------------------------------------------------------------------


class Kind(Enum):
    """The kind of a directory entry, links not followed."""

    FILE = "file"
    LITTER = "litter"
    ODD = "odd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file below a folder, its name relative to it, or something that is neither file nor folder."""

    name: str
    kind: Kind
    size_bytes: int


_LITTER = frozenset(
    (
        *("system volume information", "$recycle.bin", "thumbs.db", "desktop.ini"),
        *(".trashes", ".ds_store", ".spotlight-v100", ".fseventsd"),
    )
)
_MAX_DEPTH = 8


def is_litter(name: str) -> bool:
    """Whether an entry of this name is one that operating systems leave on every volume they see."""
    return name.casefold() in _LITTER or name.startswith("._")


def walk(root: Path) -> Iterator[Entry]:
    """Find every file below ``root``; litter is named but not entered, links are never followed.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME``: a link stands on the way to ``root``.
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it; ``VOLUME_GONE``: another medium is
            there now, or none.
    """
    held_volumes.require_there(root)
    yield from _walk(root, "", depth=0)


def _walk(root: Path, prefix: str, *, depth: int) -> Iterator[Entry]:
    with media_errors(prefix or root.name, is_reading=True), open_folder(root) as folder:
        for entry in folder.entries():
            name = prefix + entry.name
            if entry.is_symlink() or _is_junction(entry):
                yield Entry(name=name, kind=Kind.ODD, size_bytes=0)
            elif is_litter(entry.name):
                yield Entry(name=name, kind=Kind.LITTER, size_bytes=0)
            elif entry.is_dir(follow_symlinks=False):
                if depth < _MAX_DEPTH:
                    yield from _walk(root / entry.name, f"{name}/", depth=depth + 1)
                else:
                    yield Entry(name=name, kind=Kind.ODD, size_bytes=0)
            elif entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                yield Entry(name=name, kind=Kind.FILE, size_bytes=size)
            else:
                yield Entry(name=name, kind=Kind.ODD, size_bytes=0)


def _is_junction(entry: os.DirEntry[str]) -> bool:
    return bool(getattr(entry, "is_junction", bool)())  # Windows' other kind of link; Python 3.12


def names_in(path: Path, *, most: int) -> list[str]:
    """The names in a folder, sorted; if there are more than ``most``, any so many of them.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME``: a link stands there or on the way.
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it; ``VOLUME_GONE``: another medium is
            there now, or none.
    """
    held_volumes.require_there(path)
    with media_errors(path.name, is_reading=True), open_folder(path) as folder:
        return sorted(entry.name for entry in itertools.islice(folder.entries(), most))


def exists(path: Path) -> bool:
    """Whether anything has that name, a link that leads nowhere included.

    Raises:
        MediaError: ``MEDIA_UNREADABLE``: a medium that does not answer is not one without it;
            ``VOLUME_GONE``: another medium is there now, or none.
    """
    held_volumes.require_there(path)
    with media_errors(path.name, is_reading=True):
        return _kind(path) is not None


def is_real_folder(path: Path) -> bool:
    """Whether ``path`` is a folder itself, not a link to one, nor below one."""
    try:
        found = _kind(path)
    except (OSError, UntrustedInputError):
        return False
    return found is not None and stat.S_ISDIR(found.st_mode)


def _kind(path: Path) -> os.stat_result | None:
    if not path.name:  # of ``.`` and ``/``
        return path.lstat()
    try:
        with open_folder(path.parent) as folder:
            return folder.kind(path.name)
    except FileNotFoundError:
        return None


def free_bytes(path: Path) -> int:
    """The bytes that an ordinary user may still write to the file system of ``path``.

    Raises:
        MediaError: ``MEDIA_UNREADABLE``: the medium does not say; ``VOLUME_GONE``: another medium is there
            now, or none.
    """
    held_volumes.require_there(path)
    with media_errors(str(path)):
        return shutil.disk_usage(path).free


# --- writing -----------------------------------------------------------------------------------------------


def make_folder(path: Path, name: str) -> None:
    """Create a folder unless it is there, durably.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME`` when something else has its name, a link to a folder included.
    """
    with media_errors(name), open_folder(path.parent) as folder:
        found = folder.kind(path.name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise UntrustedInputError(Code.UNSAFE_NAME, f"{name}: not a folder")
        if found is None:
            held_volumes.require_there(path)
            folder.make_folder(path.name)
            folder.sync()


@contextmanager
def new_file(path: Path, name: str) -> Iterator[io.FileIO]:
    """A new file, open for writing, which gets its name only when it is whole and on the medium.

    What the caller writes goes to ``<name>.partial``; at the end of the block that is flushed to the medium
    and renamed. When the block raises, nothing of it is left.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME``: a link stands on the way.
        MediaError: the medium refused: full, write-protected or failing; ``VOLUME_GONE``: another medium is
            there now, or none.
    """
    partial = path.name + PARTIAL_SUFFIX
    with media_errors(name), open_folder(path.parent) as folder:
        folder.remove(partial)
        file = io.FileIO(folder.create(partial), "w")
        try:
            with file:
                yield file
                os.fsync(file.fileno())
            held_volumes.require_there(path)
            folder.name_anew(partial, path.name)
        except BaseException:
            with suppress(
                OSError
            ):  # the medium may be gone; the error that brought us here is the one to tell
                folder.remove(partial)
            raise
        folder.sync()


def write_all(file: io.FileIO, content: bytes) -> None:
    """Write every byte; an unbuffered file may take fewer than it is given."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def write_durably(path: Path, name: str, content: bytes) -> None:
    """Write a small file as a whole, in place of one that has its name; raises as :func:`new_file`."""
    with new_file(path, name) as file:
        write_all(file, content)


def remove(path: Path, name: str) -> None:
    """Remove a file; it is no error if there is none.

    Raises:
        MediaError: the medium refused; ``VOLUME_GONE``: another medium is there now, or none.
    """
    with media_errors(name), open_folder(path.parent) as folder:
        folder.remove(path.name)


@contextmanager
def open_to_append(path: Path) -> Iterator[int]:
    """The descriptor of a file that is open to be read and appended to; made if there is none.

    Raises:
        OSError: the medium refused.
        UntrustedInputError: ``UNSAFE_NAME``: a link or a device stands there, or the file has another name,
            which would be changed with it.
        MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
    """
    held_volumes.require_there(path)
    with open_folder(path.parent) as folder:
        is_new = folder.kind(path.name) is None
        descriptor = folder.append_to(path.name)
        try:
            if is_new:
                folder.sync()
            yield descriptor
        finally:
            os.close(descriptor)
