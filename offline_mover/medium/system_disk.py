"""The test whether a folder is a medium at all, or only the place where one would be mounted.

The folder of a stick that is not plugged in lies on the computer's own disk, or in its memory where mount
points are kept there (``/run/media``). What is written to it never leaves the room.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from airgap.errors import Code, MediaError
from offline_mover.medium import media_identity

_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_LINUX = ("/", "/usr", "/var", "/home")
_MAC = ("/", "/System/Volumes/Data")
_WINDOWS = ("SystemRoot", "USERPROFILE", "ProgramData")


def require_medium(volume: Path) -> None:
    """Refuse a folder of this computer as a volume to fill.

    Raises:
        MediaError: ``VOLUME_ON_SYSTEM_DISK``: it lies on the computer's own disk or in its memory.
    """
    if where := own_disk_of(volume):
        raise MediaError(Code.VOLUME_ON_SYSTEM_DISK, f"{volume}: not a medium, but {where}")


def own_disk_of(folder: Path) -> str | None:
    """The words for what of this computer a folder lies on; ``None`` for a medium, or if nobody knows."""
    try:
        if os.name == "nt":
            return _on_windows(folder)
        if sys.platform == "darwin":
            return _on_devices(folder, _MAC)
        return _on_linux(folder)
    except (OSError, ValueError, AttributeError, ImportError):
        return None


_DISK = "a folder on this computer's own disk"


def _on_linux(folder: Path) -> str | None:
    mount = media_identity.mount_of(folder)
    if mount is not None and mount.kind in _MEMORY:
        return "a folder in this computer's memory"
    if found := _on_devices(folder, _LINUX):
        return found
    # Subvolumes of one btrfs have device numbers of their own, and one device.
    if mount is None or not mount.source.startswith("/dev/"):
        return None
    sources = {own.source for path in _existing(_LINUX) if (own := media_identity.mount_of(path))}
    return _DISK if mount.source in sources else None


def _on_devices(folder: Path, paths: tuple[str, ...]) -> str | None:
    return _DISK if folder.stat().st_dev in {path.stat().st_dev for path in _existing(paths)} else None


def _existing(paths: tuple[str, ...]) -> Iterator[Path]:
    """Those that are there, and the home folder."""
    try:
        home = [Path.home()]
    except RuntimeError:
        home = []
    for path in (*map(Path, paths), *home):
        if path.exists():
            yield path


def _on_windows(folder: Path) -> str | None:
    own = {media_identity.windows_volume(Path(os.environ[name])) for name in _WINDOWS if os.environ.get(name)}
    volume = media_identity.windows_volume(folder)
    return _DISK if volume is not None and volume in own else None
