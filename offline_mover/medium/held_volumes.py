"""The volumes of a run, held from its beginning to its end: their paths must lead to the same media.

A mount point is a folder like any other. Once a stick is unplugged, what is written to its path lands on the
computer's own disk, and what is read there is another medium's. So each volume is opened once, at the start;
everything below it is reached from there (:mod:`offline_mover.medium.open_folder`), and its path is compared
again before a file gets its name, and after every error.

One run at a time holds volumes: they belong to the process, as its working folder does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from airgap.errors import Code, MediaError

_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
HAS_OPEN_FOLDERS = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
"""Whether names can be looked up in a folder that is open: everywhere but on Windows."""

_FDINFO = "/proc/self/fdinfo"


@dataclass(frozen=True, slots=True)
class _Mount:
    """What tells one mounted file system from any other that comes to stand under the same path.

    Linux numbers its mounts (proc_pid_fdinfo(5)), so that even the same stick, plugged in again, is another
    one; elsewhere ``mount_id`` is empty, and device and inode of the volume's folder have to do.
    """

    device: int
    inode: int
    mount_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldVolume:
    """A volume that this run holds.

    Args:
        path: the path as the operator gave it.
        roots: the absolute paths under which its files may be named, as given and with links resolved.
        descriptor: the descriptor of its open folder; ``None`` on Windows, which has no open folders.
        mount: what was mounted under its path at the start.
    """

    path: Path
    roots: tuple[Path, ...]
    descriptor: int | None
    mount: _Mount

    @property
    def is_gone(self) -> bool:
        """Whether the volume's path leads elsewhere by now, or nowhere."""
        try:
            return _mount_at(self.path) != self.mount
        except OSError:
            return True


_HELD: dict[Path, HeldVolume] = {}


def hold(volume: Path) -> None:
    """Hold a volume until :func:`release_all`; one that is held already stays as it is.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``: the volume is no folder, or not mounted.
    """
    if volume in _HELD:
        return
    try:
        if not volume.is_dir():
            raise MediaError(Code.VOLUME_NOT_FOUND, f"{volume}: not a folder")
        descriptor = os.open(volume, _OPEN_FOLDER) if HAS_OPEN_FOLDERS else None
        mount = _mount_at(volume) if descriptor is None else _mount_of(descriptor)
    except OSError as error:
        raise MediaError(Code.VOLUME_NOT_FOUND, f"{volume}: {error.strerror}") from None
    roots = {_absolute(volume): None, Path(os.path.realpath(volume)): None}
    _HELD[volume] = HeldVolume(path=volume, roots=tuple(roots), descriptor=descriptor, mount=mount)


def release_all() -> None:
    """Let go of every volume, so that they can be ejected."""
    while _HELD:
        _, held = _HELD.popitem()
        if held.descriptor is not None:
            with suppress(OSError):  # some file systems tell only now that their medium is gone
                os.close(held.descriptor)


@contextmanager
def holding(*volumes: Path) -> Iterator[None]:
    """Hold volumes for as long as the block lasts.

    Raises as :func:`hold`.
    """
    try:
        for volume in volumes:
            hold(volume)
        yield
    finally:
        release_all()


def find(path: Path) -> tuple[HeldVolume, tuple[str, ...]] | None:
    """The volume that ``path`` is on, and the names that lead there from its root; ``None`` elsewhere."""
    if not _HELD:
        return None
    absolute = _absolute(path)
    found = [
        (held, absolute.relative_to(root).parts)
        for held in _HELD.values()
        for root in held.roots
        if absolute.is_relative_to(root)
    ]
    return min(found, key=lambda one: len(one[1]), default=None)


def require_there(path: Path) -> None:
    """Refuse to go on with the volume that ``path`` is on once that is gone.

    Raises:
        MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
    """
    found = find(path)
    if found is not None and found[0].is_gone:
        raise gone_error(found[0])


def first_gone() -> HeldVolume | None:
    """A volume of this run that is gone, if any is: the likeliest reason for any error of a medium."""
    return next((held for held in list(_HELD.values()) if held.is_gone), None)


def gone_error(held: HeldVolume) -> MediaError:
    """The error that tells of a volume that is gone; its code is ``VOLUME_GONE``."""
    return MediaError(Code.VOLUME_GONE, f"volume {held.path} is gone: another medium is there now, or none")


def _absolute(path: Path) -> Path:
    """The absolute path without ``.`` and ``..``, links not resolved."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


def _mount_at(path: Path) -> _Mount:
    if not HAS_OPEN_FOLDERS:
        found = path.stat()
        return _Mount(found.st_dev, found.st_ino, "")
    descriptor = os.open(path, _OPEN_FOLDER)
    try:
        return _mount_of(descriptor)
    finally:
        os.close(descriptor)


def _mount_of(descriptor: int) -> _Mount:
    found = os.fstat(descriptor)
    return _Mount(found.st_dev, found.st_ino, _mount_id(descriptor))


def _mount_id(descriptor: int) -> str:
    try:
        with open(f"{_FDINFO}/{descriptor}", encoding="ascii") as file:  # noqa: PTH123 - of the system
            lines = file.read(4096).splitlines()
    except OSError:
        return ""
    return next((line.split()[1] for line in lines if line.startswith("mnt_id:")), "")
