"""A folder of this computer is told from a medium; real mounts are in ``tests/faults/test_gone.py``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from airgap.errors import Code, MediaError
from offline_mover.medium import media_identity, system_disk
from offline_mover.medium.media_identity import Mount

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the mounts of Linux")


@linux_only
@pytest.mark.parametrize("folder", ["/", "/usr"])
def test_system_itself_is_no_medium(folder: str) -> None:
    assert system_disk.own_disk_of(Path(folder)) is not None


def test_mount_point_without_its_stick_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)  # wherever the tests' own folders lie
    (tmp_path / "usb").mkdir()
    with pytest.raises(MediaError, match="usb: not a medium, but a folder") as caught:
        system_disk.require_medium(tmp_path / "usb")
    assert caught.value.code is Code.VOLUME_ON_SYSTEM_DISK


@linux_only
@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (Mount("tmpfs", "tmpfs"), "memory"),
        (Mount("btrfs", "/dev/mapper/system"), "disk"),
        (Mount("btrfs", "/dev/sdb1"), None),
        (Mount("vfat", "/dev/sdb1"), None),
        (Mount("fuseblk", "/dev/sdb1"), None),
        (None, None),
    ],
)
def test_memory_and_subvolumes_of_the_system_disk_are_told(
    monkeypatch: pytest.MonkeyPatch, mount: Mount | None, words: str | None
) -> None:
    """As Linux tells them; ``/proc`` stands for a mount with a device number of its own."""
    folder = Path("/proc")
    system = Mount("btrfs", "/dev/mapper/system")
    monkeypatch.setattr(media_identity, "mount_of", lambda path: mount if path == folder else system)
    told = system_disk.own_disk_of(folder)
    assert (told is None) == (words is None)
    assert words is None or words in (told or "")


def test_drive_of_windows_and_a_folder_on_it_are_no_media(monkeypatch: pytest.MonkeyPatch) -> None:
    drives = {"C:\\Windows": "C:\\", "C:\\mnt\\usb": "C:\\", "C:\\Users\\op": "C:\\", "E:\\": "E:\\"}
    monkeypatch.setattr(media_identity, "windows_volume", lambda path: drives.get(str(path)))
    monkeypatch.setitem(os.environ, "SystemRoot", "C:\\Windows")
    monkeypatch.setitem(os.environ, "USERPROFILE", "C:\\Users\\op")
    assert "disk" in (system_disk._on_windows(Path("C:\\mnt\\usb")) or "")
    assert system_disk._on_windows(Path("E:\\")) is None
    assert system_disk._on_windows(Path("\\\\server\\share")) is None


def test_what_cannot_be_found_out_stops_nobody(tmp_path: Path) -> None:
    assert system_disk.own_disk_of(tmp_path / "nowhere") is None
