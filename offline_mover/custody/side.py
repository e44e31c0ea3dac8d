"""Side files: custody events of volumes that could not be written, kept on this machine until they can.

A side file is one chain that continues the log of its volume, or that began when the volume had none. Its
name has what the volume was known by: serial, the log's first line, and the bundle's fingerprint
(:mod:`offline_mover.custody.bundles`). Any of them finds it; it is *attached*, that is, told as the volume's
own history, only where the log has the entry that it continues, or, of a volume without a log, where the
bundle is the same one. A serial attaches nothing: whoever formats a medium chooses it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from airgap import custody
from airgap.custody import GENESIS, CustodyEvent, Head, LogCheck, LoggedEvent, VolumeMark, line_sha256
from airgap.errors import UntrustedInputError
from offline_mover.custody.bundles import CarriedBundle, carried_bundles

SIDE_SUFFIX = ".custody.jsonl"
_MOST_FILES = 10_000


def default_side_dir(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The user's own folder for side files; ``None`` where the user has no home folder."""
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
    """A side file, read and judged by itself; ``start`` is the head that its first line continues.

    ``is_bound`` tells that it was begun beside one of the volume's own bundles.
    """

    path: Path
    start: Head
    check: LogCheck
    is_bound: bool

    @classmethod
    def parse(cls, path: Path, raw: bytes, bindings: frozenset[str]) -> Self:
        """Read a side file; ``bindings`` are those of the volume (:func:`bindings_of`).

        It refuses nothing: what is wrong with its lines is among the findings of ``check``.
        """
        try:
            event = CustodyEvent.from_line(raw[: raw.find(b"\n") + 1])
            start = Head(count=event.number - 1, sha256=event.previous_sha256)
        except UntrustedInputError:
            start = GENESIS
        check = custody.verify_log(raw, start=start)
        return cls(path=path, start=start, check=check, is_bound=_binding_in(path.name) in bindings)

    def is_attached(self, known: frozenset[str]) -> bool:
        """Whether the file is whole and tells this volume's history; ``known`` is :func:`known_digests`."""
        is_own = self.is_bound if self.start == GENESIS else self.start.sha256 in known
        return self.check.is_intact and is_own

    def pending(self, known: frozenset[str]) -> list[LoggedEvent]:
        """The events that the volume's log does not have yet; none unless the file is attached."""
        if not self.is_attached(known):
            return []
        return [entry for entry in self.check.entries if entry.sha256 not in known]


def known_digests(entries: tuple[LoggedEvent, ...]) -> frozenset[str]:
    """Every hex digest under which an entry of a log was recorded, on the volume or beside it."""
    recorded = (entry.event.recorded_as for entry in entries)
    return frozenset(entry.sha256 for entry in entries) | frozenset(name for name in recorded if name)


def log_sha256(raw: bytes) -> str | None:
    """The hex SHA-256 of a log's first line, by which logs are told apart; ``None`` without a line."""
    return line_sha256(raw[: raw.index(b"\n") + 1]) if b"\n" in raw else None


def side_name(volume: Path, mark: VolumeMark, raw: bytes, transfer_id: str | None) -> str:
    """The name of a new side file: ``<serial>.<log>.<binding>.custody.jsonl``.

    ``unknown`` stands for a missing serial, ``new`` for a missing log.

    Args:
        volume: the volume's folder.
        mark: the volume's marks, of which the serial is used.
        raw: the content of its log, empty if there is none.
        transfer_id: the transfer that the event is about, if it is about one.
    """
    log = log_sha256(raw)
    bundles = carried_bundles(volume)
    about = [bundle.fingerprint for bundle in bundles if bundle.transfer_id == transfer_id]
    binding = about[0] if about else _binding_of_all(volume, bundles)
    return f"{_slug(mark) or 'unknown'}.{log[:16] if log else 'new'}.{binding}{SIDE_SUFFIX}"


def bindings_of(volume: Path, bundles: Sequence[CarriedBundle]) -> frozenset[str]:
    """The bindings in the names of all side files that may have been begun beside these bundles."""
    return frozenset({*(bundle.fingerprint for bundle in bundles), _binding_of_all(volume, bundles)})


def _binding_of_all(volume: Path, bundles: Sequence[CarriedBundle]) -> str:
    """What binds an event that is about no bundle here: all of them or, without any, the folder."""
    told = "\n".join(bundle.fingerprint for bundle in bundles) or os.path.realpath(volume)
    return hashlib.sha256(os.fsencode(told)).hexdigest()[:16]


def _binding_in(name: str) -> str:
    return name.removesuffix(SIDE_SUFFIX).rpartition(".")[2]


def side_files(side_dir: Path | None, mark: VolumeMark, raw: bytes, bindings: frozenset[str]) -> list[Path]:
    """The side files that may belong to a volume: by its serial, its log or its bundles.

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
            is_own = is_by_serial or is_by_log or _binding_in(name) in bindings
            if is_own and name.endswith(SIDE_SUFFIX):
                found.append(side_dir / name)
    return sorted(found)


def _slug(mark: VolumeMark) -> str | None:
    return re.sub(r"[^A-Za-z0-9-]", "_", mark.serial)[:64] if mark.serial else None
