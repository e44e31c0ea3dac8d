"""Reading a file from the medium itself, not from what the operating system remembers of it.

What was just written is still in the system's cache: read from there, a stick that lies about its size or
drops writes looks whole.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from offline_mover.medium import media_identity
from offline_mover.medium.media_fs import BUFFER_BYTES, open_regular


class CacheBypass(Enum):
    """The way in which a read got around what the operating system remembers of a file."""

    DIRECT = "direct"
    """Straight from the device (``O_DIRECT``; macOS ``F_NOCACHE``, Windows ``FILE_FLAG_NO_BUFFERING``)."""
    DROPPED = "dropped"
    """The system was told to forget the file's pages first; it may decline."""
    NONE = "none"
    """Not at all: the file system offers no way."""


UNPLUG_FIRST = (
    "What was read back may have come from this computer's memory: eject the volumes, plug them in again and "
    "verify them before they leave."
)
"""What to do after :attr:`CacheBypass.NONE`."""


def hash_file(path: Path, name: str, advance: Callable[[int], None], *, from_medium: bool = False) -> str:
    """The hex SHA-256 of a file, read in constant memory.

    Args:
        path: the file.
        name: the file's name in errors.
        advance: is told the bytes done, piece by piece.
        from_medium: whether to read past the operating system's cache, as far as :func:`cache_bypass` says.

    Raises as :func:`~offline_mover.medium.media_fs.open_regular`.
    """
    digest = hashlib.sha256()
    opened = open_uncached(path, name) if from_medium else open_regular(path, name)
    # An anonymous map is aligned to pages, as reading straight from a device asks for.
    with mmap.mmap(-1, BUFFER_BYTES) as pages, memoryview(pages) as buffer, opened as file:
        size = os.fstat(file.fileno()).st_size
        done = 0
        # Past its end, a file that is read directly may no longer be asked: the position is not aligned.
        while done < size and (count := file.readinto(buffer)):
            digest.update(buffer[:count])
            done += count
            advance(count)
    return digest.hexdigest()


@contextmanager
def open_uncached(path: Path, name: str) -> Iterator[io.FileIO]:
    """A file, opened as by :func:`open_regular`, and read past the system's cache where that can be done."""
    with _opened_uncached(path, name) as (file, _):
        yield file


def cache_bypass(path: Path, name: str) -> CacheBypass:
    """The way past the cache that :func:`open_uncached` has for a file, to be told to the operator."""
    with _opened_uncached(path, name) as (_, way):
        return way


if sys.platform == "win32":
    from offline_mover.medium.windows_file import open_unbuffered

    _ERROR_INVALID_PARAMETER = 87

    @contextmanager
    def _opened_uncached(path: Path, name: str) -> Iterator[tuple[io.FileIO, CacheBypass]]:
        way = CacheBypass.DIRECT

        def opener(file: Path) -> int:
            nonlocal way
            try:
                return open_unbuffered(file)
            except OSError as error:
                if error.winerror != _ERROR_INVALID_PARAMETER:
                    raise
                way = CacheBypass.NONE
                return os.open(file, os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT)

        with open_regular(path, name, opener=opener) as file:
            yield file, way

else:
    import fcntl

    @contextmanager
    def _opened_uncached(path: Path, name: str) -> Iterator[tuple[io.FileIO, CacheBypass]]:
        with open_regular(path, name) as file:
            yield file, _bypass_cache(file.fileno())

    def _bypass_cache(descriptor: int) -> CacheBypass:
        can_drop = hasattr(os, "posix_fadvise")
        if can_drop:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            if hasattr(fcntl, "F_NOCACHE"):
                fcntl.fcntl(descriptor, fcntl.F_NOCACHE, 1)
                return CacheBypass.DIRECT
            if hasattr(os, "O_DIRECT"):
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
                return CacheBypass.DIRECT
        except OSError:  # tmpfs before Linux 6.6, many FUSE file systems
            pass
        return CacheBypass.DROPPED if can_drop else CacheBypass.NONE


def read_back_way(files: Iterable[tuple[Path, str]]) -> CacheBypass | None:
    """The weakest way in which media were read past the cache, told from one file of each volume.

    Args:
        files: path and name of one file of each volume; empty, and ``None`` is returned, if nothing was read.
    """
    ways = [
        CacheBypass.NONE if media_identity.describe(path.parent).is_user_space else cache_bypass(path, name)
        for path, name in files
    ]
    return max(ways, key=list(CacheBypass).index, default=None)
