"""The identity of volume, person and machine, as custody log and planner want to know it.

Nothing here raises: what cannot be found out is ``None``, and no subprocess is started. What is found out
describes, it proves nothing: whoever formats a medium chooses its label and its serial.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

GIB = 1024**3
_NAME_LIMIT = 128

FAT32_MAX_FILE_BYTES = 4 * GIB - 1
"""A file's size is a 32-bit field: DIR_FileSize in Microsoft's FAT32 File System Specification 1.03."""

FAT_FOLDER_ENTRIES = 65_536 - 2
"""Entries of 32 bytes that a folder has, without ``.`` and ``..``: it is at most 2 MiB long.

Same specification, and FAT_MAX_DIR_ENTRIES in Linux' include/uapi/linux/msdos_fs.h.
"""

_LONG_NAME_UNITS = 13
"""UTF-16 units of a long name that one further entry holds (same specification, "Long Directory Entries")."""

_SHORT_NAME = re.compile(r"[A-Z0-9_$%'@~`!(){}^#&-]{1,8}(?:\.[A-Z0-9_$%'@~`!(){}^#&-]{1,3})?")
_MOST_UNFINISHED = 32
"""Parts that are written at a time, each under a longer, temporary name."""

_FILE_SYSTEMS = {
    "fat": "fat16",
    "msdos": "fat32",  # what macOS calls every FAT
    "vfat": "fat32",  # what Linux calls every FAT
    "fuse.exfat": "exfat",
    "ntfs3": "ntfs",
    "ntfs-3g": "ntfs",
    "fuse.ntfs-3g": "ntfs",
    "cdfs": "iso9660",
    "cd9660": "iso9660",
    "hfs": "hfs+",
    "hfsplus": "hfs+",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaIdentity:
    """The identity of the volume that a path is on; ``None`` is unknown.

    Args:
        file_system: ``fat32``, ``exfat``, ``ntfs``, ``ext4``, ``udf``, ``iso9660``, ``apfs``, ``hfs+``,
            ``tmpfs`` or whatever else the system calls it, in lower case.
        label: the label given when the file system was made.
        serial: the serial of the file system: ``1A2B-3C4D`` for FAT, exFAT and NTFS, else its UUID.
        is_read_only: whether it is mounted so or write-protected.
        total_bytes: the size of the file system.
        free_bytes: how much an ordinary user may still write.
        cluster_bytes: the unit to which the room of every file is rounded up.
        is_user_space: whether a program serves the file system, not the kernel: it has a memory of its own,
            which nothing asks it to read past.
    """

    file_system: str | None = None
    label: str | None = None
    serial: str | None = None
    is_read_only: bool | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    cluster_bytes: int | None = None
    is_user_space: bool = False

    @property
    def max_file_bytes(self) -> int | None:
        """The largest size of a file; ``None`` where no part can reach the limit, or nothing is known."""
        return {"fat32": FAT32_MAX_FILE_BYTES, "fat16": 2 * GIB - 1, "iso9660": FAT32_MAX_FILE_BYTES}.get(
            self.file_system or ""
        )

    @property
    def max_folder_parts(self) -> int | None:
        """The most parts that one folder can hold while they are being written; ``None`` without a limit."""
        if self.file_system not in {"fat32", "fat16"}:
            return None
        unfinished = _MOST_UNFINISHED * fat_entries("00000001.part.partial")
        return (FAT_FOLDER_ENTRIES - unfinished) // fat_entries("00000001.part")


def fat_entries(name: str) -> int:
    """The number of directory entries that a file of this name takes on FAT.

    One for the short name, and one more for each 13 UTF-16 units of a name that is not a short name of
    capital letters; ``00000001.part`` takes 2. Windows marks an all lower-case short name in its single
    entry, Linux does not: the larger number counts.
    """
    if _SHORT_NAME.fullmatch(name):
        return 1
    units = len(name.encode("utf-16-le", "surrogatepass")) // 2
    return 1 + -(-units // _LONG_NAME_UNITS)


def describe(path: Path) -> MediaIdentity:
    """The identity of the volume that ``path`` is on, as far as the system tells it; raises nothing."""
    try:
        if os.name == "nt":
            return _describe_windows(path, _kernel32())
        return _describe_mac(path) if sys.platform == "darwin" else _describe_linux(path)
    except (OSError, ValueError, AttributeError, ImportError):
        return MediaIdentity()


def who(environment: Mapping[str, str] = os.environ) -> str:
    """The person: ``OFFLINE_MOVER_WHO`` or else the account's name; at most 128 printable characters."""
    for name in ("OFFLINE_MOVER_WHO", "LOGNAME", "USER", "LNAME", "USERNAME"):
        if found := _capped(environment.get(name)):
            return found
    try:
        import pwd  # noqa: PLC0415 - not on Windows

        return _capped(pwd.getpwuid(os.getuid()).pw_name) or "unknown"
    except (ImportError, KeyError, AttributeError):
        return "unknown"


def host() -> str:
    """The machine's name; at most 128 printable characters."""
    try:
        return _capped(socket.gethostname()) or "unknown"
    except OSError:
        return "unknown"


def _capped(text: str | None) -> str | None:
    """``text`` as a custody event may hold it; ``None`` when nothing is left of it."""
    shown = "".join(c if c.isprintable() else "?" for c in (text or "").strip())[:_NAME_LIMIT]
    return shown or None


def _named(file_system: str | None) -> str | None:
    name = (_capped(file_system) or "").lower()
    return _FILE_SYSTEMS.get(name, name) or None


def _serial(raw: str | None) -> str | None:
    """One form for all systems: of the 64 bits that only NTFS has, Windows tells the lower half."""
    text = _capped(raw)
    if text and re.fullmatch(r"[0-9A-Fa-f]{16}", text):
        text = f"{text[8:12]}-{text[12:]}".upper()
    return text


# --- Linux -------------------------------------------------------------------------------------------------

_MOUNTS = Path("/proc/self/mountinfo")
_UDEV = Path("/run/udev/data")
_DISKS = Path("/dev/disk")
_READ_LIMIT = 4 * 1024 * 1024
_MOST_LINKS = 10_000


def _describe_linux(path: Path) -> MediaIdentity:
    numbers = os.statvfs(path)
    device = path.stat().st_dev
    mount = mount_of(path)
    kind = mount and mount.kind
    known = _udev_properties(device)
    file_system = _named(known.get("ID_FS_TYPE") or kind)
    if kind == "vfat" and known.get("ID_FS_VERSION") in {"FAT12", "FAT16"}:
        file_system = "fat16"
    serial = known.get("ID_FS_UUID") or _disk_name("by-uuid", device)
    label = _unescaped(
        known.get("ID_FS_LABEL_ENC") or known.get("ID_FS_LABEL") or _disk_name("by-label", device)
    )
    return MediaIdentity(
        file_system=file_system,
        label=_capped(label),
        serial=_serial(serial),
        is_read_only=bool(numbers.f_flag & os.ST_RDONLY),
        total_bytes=numbers.f_blocks * numbers.f_frsize,
        free_bytes=numbers.f_bavail * numbers.f_frsize,
        cluster_bytes=numbers.f_frsize or None,
        is_user_space=kind is not None and kind.startswith("fuse"),
    )


class Mount(NamedTuple):
    """A mount of Linux: the type of its file system, and what was mounted, often a device."""

    kind: str
    source: str


def mount_of(folder: Path) -> Mount | None:
    """The mount that a path is on, by device or else by the longest prefix; ``None`` where none fits.

    The form of the table is that of proc_pid_mountinfo(5). btrfs and overlayfs show another device number
    there than ``stat`` does.

    Raises:
        OSError: there is no such path.
    """
    path, device = os.path.realpath(folder), folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    best: tuple[bool, int] = (False, -1)
    found = None
    for line in _read_text(_MOUNTS).splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) < 5 or not rest:  # noqa: PLR2004 - the mount point is the fifth field
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), parts[4])
        if path == point or path.startswith(point.rstrip("/") + "/"):
            rank = (parts[2] == wanted, len(point))
            if rank >= best:  # of two mounts on one point the later one is seen
                kind, source, *_ = [*rest.split(" "), ""]
                best, found = rank, Mount(kind, source)
    return found


def _udev_properties(device: int) -> dict[str, str]:
    """What udev found out when the device came; anyone may read it."""
    text = _read_text(_UDEV / f"b{os.major(device)}:{os.minor(device)}")
    lines = (line[2:].partition("=") for line in text.splitlines() if line.startswith("E:"))
    return {name: value for name, _, value in lines}


def _disk_name(folder: str, device: int) -> str | None:
    """The name under which ``/dev/disk/<folder>`` links to the device."""
    try:
        with os.scandir(_DISKS / folder) as links:
            for link, _ in zip(links, range(_MOST_LINKS), strict=False):
                found = os.stat(link.path)  # noqa: PTH116 - of the device, through the link
                if stat.S_ISBLK(found.st_mode) and found.st_rdev == device:
                    return _unescaped(link.name)
    except OSError:
        pass
    return None


def _unescaped(text: str | None) -> str | None:
    r"""Undo udev's ``\x20``."""
    if text is None:
        return None
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), os.fsencode(text))
    return raw.decode("utf-8", "replace")


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_READ_LIMIT).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


# --- Windows and macOS -------------------------------------------------------------------------------------

_FILE_READ_ONLY_VOLUME = 0x0008_0000
_BUFFER_UNITS = 261  # MAX_PATH + 1, as GetVolumeInformationW asks for


def _kernel32() -> Any:
    import ctypes  # noqa: PLC0415 - 10 ms that Linux does not need

    return vars(ctypes)["WinDLL"]("kernel32")


def windows_volume(path: Path, kernel32: Any = None) -> str | None:
    """The mount point of a path's volume, by GetVolumePathNameW; ``None`` if Windows cannot tell."""
    import ctypes  # noqa: PLC0415 - as above

    root = ctypes.create_unicode_buffer(32_768)
    is_known = (kernel32 or _kernel32()).GetVolumePathNameW(str(path.absolute()), root, len(root))
    return str(root.value) if is_known else None


def _describe_windows(path: Path, kernel32: Any) -> MediaIdentity:
    """What Windows says, by GetVolumePathNameW, GetVolumeInformationW and GetDiskFreeSpaceW."""
    import ctypes  # noqa: PLC0415 - as above

    root = windows_volume(path, kernel32)
    if root is None:
        return MediaIdentity()
    label, kind = (ctypes.create_unicode_buffer(_BUFFER_UNITS) for _ in range(2))
    serial, longest, flags = ctypes.c_uint32(), ctypes.c_uint32(), ctypes.c_uint32()
    references = [ctypes.byref(number) for number in (serial, longest, flags)]
    is_known = kernel32.GetVolumeInformationW(root, label, len(label), *references, kind, len(kind))
    sectors, sector_bytes, free, total = (ctypes.c_uint32() for _ in range(4))
    references = [ctypes.byref(number) for number in (sectors, sector_bytes, free, total)]
    has_clusters = kernel32.GetDiskFreeSpaceW(root, *references)
    usage = _usage(path)
    return MediaIdentity(
        file_system=_named(kind.value) if is_known else None,
        label=_capped(label.value) if is_known else None,
        serial=f"{serial.value >> 16:04X}-{serial.value & 0xFFFF:04X}" if is_known else None,
        is_read_only=bool(flags.value & _FILE_READ_ONLY_VOLUME) if is_known else None,
        total_bytes=usage[0],
        free_bytes=usage[1],
        cluster_bytes=sectors.value * sector_bytes.value or None if has_clusters else None,
    )


def _usage(path: Path) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None, None
    return usage.total, usage.free


def _describe_mac(path: Path) -> MediaIdentity:
    """What macOS says, by statvfs and statfs(2); the label is the name below ``/Volumes``."""
    numbers = os.statvfs(path)
    kind, point = _mac_mount(path)
    is_volume = point is not None and point.startswith("/Volumes/")
    return MediaIdentity(
        file_system=_named(kind),
        label=_capped(Path(point).name) if point is not None and is_volume else None,
        is_read_only=bool(numbers.f_flag & os.ST_RDONLY),
        total_bytes=numbers.f_blocks * numbers.f_frsize,
        free_bytes=numbers.f_bavail * numbers.f_frsize,
        cluster_bytes=numbers.f_frsize or None,
    )


def _mac_mount(path: Path) -> tuple[str | None, str | None]:
    """File system type and mount point out of ``struct statfs`` with 64-bit inodes (sys/mount.h).

    ======  =====  ==============
    offset  bytes  member
    ======  =====  ==============
    72      16     f_fstypename
    88      1024   f_mntonname
    ======  =====  ==============
    """
    import ctypes  # noqa: PLC0415 - 10 ms that Linux does not need

    library: Any = ctypes.CDLL(None)
    statfs = getattr(library, "statfs$INODE64", None) or library.statfs  # the name on x86_64, on arm64
    buffer = ctypes.create_string_buffer(4096)
    if statfs(os.fsencode(path), buffer) != 0:
        return None, None
    kind, point = (buffer.raw[at : at + size].split(b"\0")[0] for at, size in ((72, 16), (88, 1024)))
    return kind.decode("ascii", "replace"), os.fsdecode(point)
