"""The file system of a volume: writes that last, reads that trust nothing.

Every ``OSError`` leaves here as a :class:`~airgap.errors.MediaError`, whose code tells a full, a
write-protected and a failing medium apart. Names come back as bag-relative paths with ``/``, on every
platform.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from airgap.errors import Code, MediaError, UntrustedInputError

BUFFER_BYTES = 1024 * 1024
PARTIAL_SUFFIX = ".partial"
"""Of a file that is being written; never the name of anything declared."""

_OPEN_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO in place of a file must not block the open
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_OPEN_NEW = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
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
    """Turn an ``OSError`` into the :class:`MediaError` it means; ``name`` says what was touched."""
    try:
        yield
    except OSError as error:
        code = Code.MEDIA_UNREADABLE if is_reading else _CODES.get(error.errno or 0, Code.MEDIA_UNREADABLE)
        raise MediaError(code, f"{printable(name)}: {error.strerror or type(error).__name__}") from None


def printable(name: str) -> str:
    """``name`` safe to print: of bounded length, with control characters and lone surrogates escaped."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
    return text if len(text) <= 1000 else f"{text[:1000]}…"  # noqa: PLR2004 - a receipt's limit is 1024


# --- reading -----------------------------------------------------------------------------------------------


def open_to_read(path: str, _flags: int) -> int:
    """The file descriptor of a file or a device; never follows a symbolic link, never waits for a FIFO."""
    return os.open(path, _OPEN_READ)


@contextmanager
def open_regular(
    path: Path, name: str, *, opener: Callable[[str, int], int] = open_to_read
) -> Iterator[io.FileIO]:
    """A regular file opened for reading, unbuffered; a symbolic link or a device is refused, never followed.

    Args:
        path: the file.
        name: what to call it in errors.
        opener: opens it, as ``opener`` of :func:`open` does.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME``: a link or a device stands there.
        MediaError: ``MEDIA_UNREADABLE``, also for errors while the caller reads.
    """
    with media_errors(name, is_reading=True):
        try:
            opened = io.FileIO(path, opener=opener)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UntrustedInputError(Code.UNSAFE_NAME, f"{name}: a symbolic link") from None
            raise
        with opened as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UntrustedInputError(Code.UNSAFE_NAME, f"{name}: not a regular file")
            yield file


def read_capped(path: Path, name: str, *, max_bytes: int) -> bytes:
    """A small file, whole.

    Raises:
        UntrustedInputError: ``TOO_LARGE`` (judged by the size, before reading), ``UNSAFE_NAME``.
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
    """What a directory entry is, links not followed."""

    FILE = "file"
    LITTER = "litter"
    ODD = "odd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file below a folder, or something that is neither file nor folder."""

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
    """Whether operating systems leave an entry of this name on every volume they see."""
    return name.casefold() in _LITTER or name.startswith("._")


def walk(root: Path) -> Iterator[Entry]:
    """Every file below ``root``; litter is named but not entered, links are never followed.

    Raises:
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    yield from _walk(root, "", depth=0)


def _walk(folder: Path, prefix: str, *, depth: int) -> Iterator[Entry]:
    with media_errors(prefix or folder.name, is_reading=True), os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_symlink() or _is_junction(entry):
                yield Entry(name=name, kind=Kind.ODD, size_bytes=0)
            elif is_litter(entry.name):
                yield Entry(name=name, kind=Kind.LITTER, size_bytes=0)
            elif entry.is_dir(follow_symlinks=False):
                if depth < _MAX_DEPTH:
                    yield from _walk(Path(entry.path), f"{name}/", depth=depth + 1)
                else:
                    yield Entry(name=name, kind=Kind.ODD, size_bytes=0)
            elif entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                yield Entry(name=name, kind=Kind.FILE, size_bytes=size)
            else:
                yield Entry(name=name, kind=Kind.ODD, size_bytes=0)


def _is_junction(entry: os.DirEntry[str]) -> bool:
    return bool(getattr(entry, "is_junction", bool)())  # Windows' other kind of link; Python 3.12


def is_real_folder(path: Path) -> bool:
    """Whether ``path`` is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def free_bytes(path: Path) -> int:
    """Bytes an ordinary user may still write to the file system of ``path``."""
    with media_errors(str(path)):
        return shutil.disk_usage(path).free


# --- writing -----------------------------------------------------------------------------------------------


def make_folder(path: Path, name: str) -> None:
    """Create a folder unless it is there, durably.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME`` when something else has its name, a link to a folder included.
    """
    if is_real_folder(path):
        return
    with media_errors(name):
        try:
            path.mkdir()
        except FileExistsError:
            raise UntrustedInputError(Code.UNSAFE_NAME, f"{name}: not a folder") from None
        sync_folder(path.parent)


@contextmanager
def new_file(path: Path, name: str) -> Iterator[io.FileIO]:
    """A file that appears under its name only when it is whole and on the medium.

    What the caller writes goes to ``<name>.partial``; at the end of the block that is flushed to the medium
    and renamed. When the block raises, nothing of it is left.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with media_errors(name):
        partial.unlink(missing_ok=True)
        file = io.FileIO(os.open(partial, _OPEN_NEW, 0o644), "w")
        try:
            with file:
                yield file
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            _unlink_quietly(partial)
            raise
        sync_folder(path.parent)


def write_all(file: io.FileIO, content: bytes) -> None:
    """Write every byte; an unbuffered file may take fewer than it is given."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def write_durably(path: Path, name: str, content: bytes) -> None:
    """A small file, replaced as a whole."""
    with new_file(path, name) as file:
        write_all(file, content)


def sync_folder(path: Path) -> None:
    """Make the names in a folder last; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some FUSE file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def _unlink_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the medium may be gone; the error that brought us here is the one to tell
