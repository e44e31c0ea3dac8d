"""What is found out about the volume that a path is on; nothing of it may raise."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from offline_mover.medium import media_identity
from offline_mover.medium.media_identity import MediaIdentity, describe, fat_entries, host, who

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the files of Linux")


# --- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("001", 1),
        ("MANIFEST.TXT", 1),
        ("data", 2),
        ("bagit.txt", 2),
        ("00000001.part", 2),
        ("00000001.part.partial", 3),
        ("a" * 13, 2),
        ("a" * 14, 3),
        ("ä" * 14, 3),
        ("\U0001f4be" * 7, 3),
    ],
)
def test_directory_entries_that_a_name_takes_on_fat(name: str, entries: int) -> None:
    assert fat_entries(name) == entries


@pytest.mark.parametrize(
    ("file_system", "max_file_bytes", "max_folder_parts"),
    [
        ("fat32", 4 * 1024**3 - 1, 32_719),
        ("fat16", 2 * 1024**3 - 1, 32_719),
        ("exfat", None, None),
        ("ext4", None, None),
        (None, None, None),
    ],
)
def test_limits_that_the_planner_keeps(
    file_system: str | None, max_file_bytes: int | None, max_folder_parts: int | None
) -> None:
    identity = MediaIdentity(file_system=file_system)
    assert identity.max_file_bytes == max_file_bytes
    assert identity.max_folder_parts == max_folder_parts


# --- Linux -------------------------------------------------------------------------------------------------


@linux_only
def test_what_is_told_of_a_real_folder_is_what_the_system_says(tmp_path: Path) -> None:
    identity = describe(tmp_path)
    numbers = os.statvfs(tmp_path)
    assert identity.file_system
    assert identity.total_bytes == numbers.f_blocks * numbers.f_frsize
    assert identity.cluster_bytes == numbers.f_frsize
    assert identity.is_read_only is False


@pytest.mark.parametrize("path", ["/nowhere/at/all", "\0", "x" * 5000])
def test_path_that_is_none_is_unknown(path: str) -> None:
    assert describe(Path(path)) == MediaIdentity()


class FakeLinux:
    """A stick as ``/dev/sdb1``: the files of udev and of the kernel, made up."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.root = root
        device = path.stat().st_dev
        self.device = f"{os.major(device)}:{os.minor(device)}"
        for name in ("_MOUNTS", "_UDEV", "_DISKS"):
            monkeypatch.setattr(media_identity, name, root / name)
        (root / "_UDEV").mkdir()

    def mounted(self, *lines: str) -> None:
        (self.root / "_MOUNTS").write_text("".join(f"{line}\n" for line in lines))

    def udev(self, **properties: str) -> None:
        text = "".join(f"E:{name}={value}\n" for name, value in properties.items())
        (self.root / "_UDEV" / f"b{self.device}").write_text("S:disk/by-id/x\n" + text)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "my stick"
    path.mkdir()
    return path


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: Path) -> FakeLinux:
    root = tmp_path / "fake"
    root.mkdir()
    return FakeLinux(root, monkeypatch, volume)


@linux_only
@pytest.mark.parametrize(
    ("kind", "properties", "expected"),
    [
        ("vfat", {"ID_FS_VERSION": "FAT32"}, "fat32"),
        ("vfat", {"ID_FS_VERSION": "FAT16"}, "fat16"),
        ("vfat", {}, "fat32"),
        ("msdos", {}, "fat32"),
        ("exfat", {}, "exfat"),
        ("fuseblk", {"ID_FS_TYPE": "ntfs"}, "ntfs"),
        ("fuseblk", {}, "fuseblk"),
        ("ntfs3", {}, "ntfs"),
        ("udf", {}, "udf"),
        ("iso9660", {}, "iso9660"),
        ("hfsplus", {}, "hfs+"),
    ],
)
def test_file_systems_have_one_name(
    linux: FakeLinux, volume: Path, kind: str, properties: dict[str, str], expected: str
) -> None:
    point = str(volume).replace(" ", r"\040")
    linux.mounted(
        "no mount line",
        f"20 1 {linux.device} / / rw - ext4 /dev/sda1 rw",
        f"36 20 {linux.device} / {point} rw,nosuid shared:1 - {kind} /dev/sdb1 rw",
        f"37 20 9:9 / {point}-other rw - tmpfs none rw",
    )
    linux.udev(**properties)
    assert describe(volume / ".").file_system == expected


@linux_only
def test_mount_on_top_of_another_is_the_one_that_is_seen(linux: FakeLinux, volume: Path) -> None:
    point = str(volume).replace(" ", r"\040")
    linux.mounted(
        f"36 20 9:8 / {point} rw - ext4 /dev/sdb1 rw",
        f"37 20 9:9 / {point} rw - btrfs /dev/sdc1 rw",  # whose device number stat does not tell
    )
    assert describe(volume).file_system == "btrfs"


@linux_only
def test_label_and_serial_come_from_udev(linux: FakeLinux, volume: Path) -> None:
    linux.udev(
        ID_FS_TYPE="vfat", ID_FS_UUID="1A2B-3C4D", ID_FS_LABEL="RED_1", ID_FS_LABEL_ENC=r"RED\x20\xc3\xa4"
    )
    identity = describe(volume)
    assert (identity.file_system, identity.label, identity.serial) == ("fat32", "RED ä", "1A2B-3C4D")


@linux_only
def test_serial_of_ntfs_is_what_windows_would_tell(linux: FakeLinux, volume: Path) -> None:
    linux.udev(ID_FS_TYPE="ntfs", ID_FS_UUID="01D5F0A61A2B3C4D")
    assert describe(volume).serial == "1A2B-3C4D"


@linux_only
def test_label_that_nobody_could_print_is_made_printable(linux: FakeLinux, volume: Path) -> None:
    linux.udev(ID_FS_LABEL_ENC=r"a\x0ab\xff" + "c" * 500)
    label = describe(volume).label
    assert label is not None
    assert label.startswith("a?b")
    assert label.isprintable()
    assert len(label) == 128


@linux_only
@pytest.mark.parametrize("uuid", ["1A2B-3C4D", "01D5F0A61A2B3C4D"])  # FAT or exFAT; NTFS
def test_without_udev_the_links_of_dev_disk_are_asked(
    linux: FakeLinux, volume: Path, monkeypatch: pytest.MonkeyPatch, uuid: str
) -> None:
    device = volume.stat().st_dev
    real_stat = os.stat

    def stat(path: Any, **options: Any) -> Any:
        found = real_stat(path, **options)
        if str(path).endswith(r"GREEN\x20ONE") or str(path).endswith(uuid):
            return type("Found", (), {"st_mode": 0o60660, "st_rdev": device})()
        return found

    for folder, name in (("by-label", r"GREEN\x20ONE"), ("by-label", "OTHER"), ("by-uuid", uuid)):
        (linux.root / "_DISKS" / folder).mkdir(parents=True, exist_ok=True)
        (linux.root / "_DISKS" / folder / name).write_bytes(b"")
    monkeypatch.setattr(os, "stat", stat)
    identity = describe(volume)
    assert (identity.label, identity.serial) == ("GREEN ONE", "1A2B-3C4D")


# --- Windows, by its interface ----------------------------------------------------------------------------


class Kernel32:
    """The three calls, answering for a write-protected FAT32 stick."""

    def __init__(self, *, is_known: bool = True) -> None:
        self.is_known = is_known

    def GetVolumePathNameW(self, path: str, root: Any, size: int) -> int:  # noqa: N802 - Windows' name
        assert Path(path).is_absolute()
        assert size >= 261
        root.value = "E:\\"
        return 1

    def GetVolumeInformationW(  # noqa: N802 - Windows' name
        self, root: str, label: Any, label_size: int, *rest: Any
    ) -> int:
        serial, _, flags, kind, kind_size = rest
        assert (root, label_size, kind_size) == ("E:\\", 261, 261)
        if not self.is_known:
            return 0
        label.value, kind.value = "RED", "FAT32"
        ctypes.cast(serial, ctypes.POINTER(ctypes.c_uint32))[0] = 0x1A2B3C4D
        ctypes.cast(flags, ctypes.POINTER(ctypes.c_uint32))[0] = 0x00080000 | 0x6
        return 1

    def GetDiskFreeSpaceW(self, root: str, sectors: Any, sector_bytes: Any, *_: Any) -> int:  # noqa: N802 - as above
        assert root == "E:\\"
        if not self.is_known:
            return 0
        ctypes.cast(sectors, ctypes.POINTER(ctypes.c_uint32))[0] = 64
        ctypes.cast(sector_bytes, ctypes.POINTER(ctypes.c_uint32))[0] = 512
        return 1


def test_windows_tells_type_label_serial_and_write_protection(tmp_path: Path) -> None:
    identity = media_identity._describe_windows(tmp_path, Kernel32())
    assert (identity.file_system, identity.label, identity.serial) == ("fat32", "RED", "1A2B-3C4D")
    assert (identity.is_read_only, identity.cluster_bytes) == (True, 32 * 1024)
    assert identity.total_bytes


def test_windows_that_tells_nothing_leaves_it_unknown(tmp_path: Path) -> None:
    identity = media_identity._describe_windows(tmp_path, Kernel32(is_known=False))
    assert (identity.file_system, identity.serial, identity.is_read_only) == (None, None, None)


# --- who and where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OFFLINE_MOVER_WHO": "Olga, seal 4711", "USER": "olga"}, "Olga, seal 4711"),
        ({"LOGNAME": "", "USER": "olga"}, "olga"),
        ({"USERNAME": "OLGA"}, "OLGA"),
        ({"USER": "a\nb\udcff"}, "a?b?"),
        ({"USER": "x" * 500}, "x" * 128),
    ],
)
def test_person_is_named_by_the_environment(environment: dict[str, str], expected: str) -> None:
    assert who(environment) == expected


def test_person_without_environment_and_account_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    pwd = pytest.importorskip("pwd")

    def refuse(_: int) -> None:
        raise KeyError("uid not found")

    assert who({}) == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(pwd, "getpwuid", refuse)
    assert who({}) == "unknown"


def test_machine_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host()

    def refuse() -> str:
        raise OSError

    monkeypatch.setattr("socket.gethostname", refuse)
    assert host() == "unknown"
