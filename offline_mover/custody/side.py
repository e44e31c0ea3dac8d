"""Side files: custody events of volumes that could not be written, kept on this machine until they can.

A side file is one chain that continues the log of its volume, or that began when the volume had none. It is
found again by the volume's serial and by the log's first line, both in its name.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from airgap import custody, fields
from airgap.custody import GENESIS, CustodyEvent, Head, LogCheck, LoggedEvent, VolumeMark, line_sha256
from airgap.errors import UntrustedInputError

SIDE_SUFFIX = ".custody.jsonl"
_MOST_FILES = 10_000


def default_side_dir(environment: Mapping[str, str] = os.environ) -> Path | None:
    """This user's folder for side files; ``None`` where the user has no home."""
    try:
        if os.name == "nt":
            base = Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        else:
            # A relative path is to be ignored: XDG Base Directory Specification 0.8.
            state = Path(environment.get("XDG_STATE_HOME") or "")
            base = state if state.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return base / "offline-mover" / "custody"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFile:
    """A side file read and judged by itself; ``start`` is what its first line continues."""

    path: Path
    start: Head
    check: LogCheck

    @classmethod
    def parse(cls, path: Path, raw: bytes) -> Self:
        """Read the content of a side file."""
        try:
            event = CustodyEvent.from_line(raw[: raw.find(b"\n") + 1])
            start = Head(count=event.number - 1, sha256=event.previous_sha256)
        except UntrustedInputError:
            start = GENESIS
        return cls(path=path, start=start, check=custody.verify_log(raw, start=start))

    def is_attached(self, known: frozenset[str]) -> bool:
        """Whether it is whole and continues an entry of the log; see :func:`known_digests`."""
        return self.check.is_intact and (self.start == GENESIS or self.start.sha256 in known)

    def pending(self, known: frozenset[str]) -> list[LoggedEvent]:
        """The events that the log does not have yet; none unless it is attached."""
        if not self.is_attached(known):
            return []
        return [entry for entry in self.check.entries if entry.sha256 not in known]


def known_digests(entries: tuple[LoggedEvent, ...]) -> frozenset[str]:
    """Every digest under which an entry of a log was recorded, on the volume or beside it."""
    recorded = (entry.event.recorded_as for entry in entries)
    return frozenset(entry.sha256 for entry in entries) | frozenset(name for name in recorded if name)


def log_sha256(raw: bytes) -> str | None:
    """What tells one log from another: the digest of its first line; ``None`` where there is no line."""
    return line_sha256(raw[: raw.index(b"\n") + 1]) if b"\n" in raw else None


def side_name(volume: Path, mark: VolumeMark, raw: bytes) -> str:
    """``<serial>.<log>.custody.jsonl``; by path and transfers where there is neither.

    Args:
        volume: the volume's folder.
        mark: its serial, if known.
        raw: its log, empty if there is none.
    """
    log, serial = log_sha256(raw), _slug(mark)
    if log is None and serial is None:
        return f"unknown.new-{_fingerprint(volume)}{SIDE_SUFFIX}"
    return f"{serial or 'unknown'}.{log[:16] if log else 'new'}{SIDE_SUFFIX}"


def side_files(side_dir: Path | None, volume: Path, mark: VolumeMark, raw: bytes) -> list[Path]:
    """The side files that may belong to a volume: by its serial or by its log; arguments as above.

    Raises:
        OSError: the folder cannot be read.
    """
    if side_dir is None or not side_dir.is_dir():
        return []
    log, serial = log_sha256(raw), _slug(mark)
    found = []
    with os.scandir(side_dir) as entries:
        for name in (entry.name for entry in islice(entries, _MOST_FILES)):
            is_by_serial = serial is not None and name.startswith(f"{serial}.")
            is_by_log = log is not None and f".{log[:16]}." in name
            is_own = is_by_serial or is_by_log or name == side_name(volume, mark, b"")
            if is_own and name.endswith(SIDE_SUFFIX):
                found.append(side_dir / name)
    return sorted(found)


def _slug(mark: VolumeMark) -> str | None:
    return re.sub(r"[^A-Za-z0-9-]", "_", mark.serial)[:64] if mark.serial else None


def _fingerprint(volume: Path) -> str:
    try:
        names = sorted(child.name for child in volume.iterdir() if fields.TRANSFER_ID.fullmatch(child.name))
    except OSError:
        names = []
    return hashlib.sha256(os.fsencode("\n".join([str(volume.absolute()), *names]))).hexdigest()[:16]
