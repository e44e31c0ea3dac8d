"""The one door to the file system: files are opened, made, renamed and removed in an open folder.

Whoever prepared a medium chose what stands on it: a link where a file is expected, or a folder, a second name
(a hard link) of a file that matters, a pipe that nobody writes to. None of them leads anywhere:

* below a volume of the run (:mod:`offline_mover.medium.held_volumes`) a folder is reached name by name from
  the volume's own root, and no name on the way may be a link;
* a file is looked up in its folder, never along a path; a link is not followed, a pipe is not waited for, and
  only a regular file is ever read or written;
* what is written is a new file, which takes its name when it is whole. The one exception is a file that is
  appended to, and that must have no second name.

Windows cannot look names up in an open folder. There every name is looked at first, and what was opened is
compared with what was seen.

Outside this module nothing in the mover writes, renames or removes (``tests/architecture/test_files.py``).
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airgap.errors import Code, UntrustedInputError
from offline_mover.medium import held_volumes
from offline_mover.medium.held_volumes import HAS_OPEN_FOLDERS

_COMMON = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_READ = os.O_RDONLY | _COMMON | _NO_WAIT
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | _COMMON | _NO_WAIT
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NAME_SURROGATE = 0x2000_0000
"""Of a reparse tag: it stands for another name, as Windows' links, junctions and mount points do.

https://learn.microsoft.com/windows/win32/fileio/reparse-point-tags
"""

_OWN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FILE_MODE = 0o644


class OpenFolder:
    """A folder that is open; names are looked up in it, whatever becomes of its path."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    # --- reading ---------------------------------------------------------------------------------------

    def kind(self, name: str) -> os.stat_result | None:
        """The status of what stands under a name, links not followed; ``None`` if nothing does."""
        try:
            return self._call(os.lstat, name) if self._descriptor is None else self._stat(name)
        except FileNotFoundError:
            return None

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """All entries of the folder; each can be asked about itself as long as the folder is open."""
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as found:
            yield from found

    def read(self, name: str) -> int:
        """Open a regular file for reading; returns its descriptor.

        Raises:
            OSError: as ``open`` raises it.
            UntrustedInputError: ``UNSAFE_NAME``: a link, a pipe or a device stands there.
        """
        return self._opened(name, _READ)

    def require_regular(self, name: str, descriptor: int) -> None:
        """Refuse what was opened under ``name`` unless it is a regular file, and the one that was seen there.

        Raises:
            UntrustedInputError: ``UNSAFE_NAME``: it is a link, a pipe or a device.
        """
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _unsafe(name, "not a regular file")
        seen = None if HAS_OPEN_FOLDERS else self.kind(name)
        if seen is not None and (seen.st_dev, seen.st_ino) != (found.st_dev, found.st_ino):
            raise _unsafe(name, "a symbolic link")

    # --- writing ---------------------------------------------------------------------------------------

    def create(self, name: str) -> int:
        """Make a new, empty file, and return its descriptor.

        Raises:
            FileExistsError: something has its name.
            OSError: the medium refused.
        """
        return int(self._call(os.open, name, _NEW, _FILE_MODE))

    def append_to(self, name: str) -> int:
        """Open a regular file to read and append to, made if there is none; returns its descriptor.

        Raises:
            OSError: as ``open`` raises it.
            UntrustedInputError: ``UNSAFE_NAME``: a link, a pipe or a device stands there, or the file has
                another name too: what is appended would go into that as well.
        """
        descriptor = self._opened(name, _APPEND)
        if os.fstat(descriptor).st_nlink > 1:
            os.close(descriptor)
            raise _unsafe(name, "a hard link: the file has another name too, and would be changed there")
        return descriptor

    def name_anew(self, name: str, to: str) -> None:
        """Give a file another name, in place of what has it: a link there is replaced, never followed."""
        if self._descriptor is None:
            (self._path / name).replace(self._path / to)
        else:
            os.replace(name, to, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file; it is no error if there is none."""
        try:
            self._call(os.unlink, name)
        except FileNotFoundError:
            return

    def make_folder(self, name: str) -> None:
        """Make a folder below this one.

        Raises:
            FileExistsError: something has its name.
        """
        self._call(os.mkdir, name)

    def sync(self) -> None:
        """Make the names in the folder survive a power cut; Windows has no such call and needs none."""
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some FUSE file systems know no such thing
                raise

    # --- names -----------------------------------------------------------------------------------------

    def _stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def _call(self, function: Any, name: str, *arguments: Any) -> Any:
        if self._descriptor is None:
            return function(self._path / name, *arguments)
        return function(name, *arguments, dir_fd=self._descriptor)

    def _opened(self, name: str, flags: int) -> int:
        """Opened, if it is regular; looked at first, for opening a device alone may do something."""
        found = self.kind(name)
        if found is not None and not _is_regular(found):
            raise _unsafe(name, "a symbolic link" if _is_link(found) else "not a regular file")
        try:
            descriptor = int(self._call(os.open, name, flags, _FILE_MODE))
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _unsafe(name, "a symbolic link") from None
            raise
        try:
            self.require_regular(name, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


@contextmanager
def open_folder(path: Path) -> Iterator[OpenFolder]:
    """The folder ``path``, open for as long as the block lasts.

    Below a volume of the run no name on the way may be a link; elsewhere the path is the operator's own, and
    leads where the operator's links lead.

    Raises:
        OSError: as ``open`` raises it.
        UntrustedInputError: ``UNSAFE_NAME``: a link stands in the way.
    """
    found = held_volumes.find(path)
    if not HAS_OPEN_FOLDERS:
        if found is not None:
            _refuse_links(found[0].path, found[1])
        yield OpenFolder(path, None)
        return
    descriptor = os.open(path, _FOLDER) if found is None else _descend(found[0].descriptor, found[1])
    try:
        yield OpenFolder(path, descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_own(path: Path, *, may_wait: bool = False) -> Iterator[io.BufferedReader]:
    """A file that the operator named, open for reading; a link is followed only off the run's volumes.

    Args:
        path: the file.
        may_wait: wait for a pipe that somebody still writes to.

    Raises:
        OSError: as ``open`` raises it.
        UntrustedInputError: ``UNSAFE_NAME``: it lies on a volume of the run, and is or is reached by a link.
    """
    if held_volumes.find(path) is not None:
        with open_folder(path.parent) as folder:
            descriptor = folder.read(path.name)
    else:
        descriptor = os.open(path, _OWN if may_wait else _OWN | _NO_WAIT)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def make_own_folder(path: Path) -> None:
    """Make a folder of the operator's own, and those above it; nobody else may look into it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _descend(root: int | None, names: tuple[str, ...]) -> int:
    """A descriptor of the folder that ``names`` lead to from ``root``, none of them a link."""
    descriptor = os.open(".", _FOLDER, dir_fd=root)
    for name in names:
        folder = OpenFolder(Path(name), descriptor)
        try:
            below = os.open(name, _FOLDER | _COMMON, dir_fd=descriptor)
        except OSError as error:
            found = folder.kind(name) if error.errno in {errno.ELOOP, errno.ENOTDIR} else None
            if found is not None:
                raise _unsafe(name, "a symbolic link" if _is_link(found) else "not a folder") from None
            raise
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _refuse_links(root: Path, names: tuple[str, ...]) -> None:
    for index in range(1, len(names) + 1):
        if _is_link(root.joinpath(*names[:index]).lstat()):
            raise _unsafe(names[index - 1], "a symbolic link")


def _is_link(found: os.stat_result) -> bool:
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_reparse_tag", 0) & _NAME_SURROGATE)


def _is_regular(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and not _is_link(found)


def _unsafe(name: str, why: str) -> UntrustedInputError:
    return UntrustedInputError(Code.UNSAFE_NAME, f"{name}: {why}")
