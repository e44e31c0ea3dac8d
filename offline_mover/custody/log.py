"""The custody log of a volume: each command appends what it did, or keeps it beside if it may not write.

``custody-log.jsonl`` and ``custody-head.json`` lie at the volume's root, outside the bags. Where the medium
cannot be written, the event goes to a side file on this machine (:mod:`offline_mover.custody.side`) that
continues the volume's chain; the next command that may write to the volume brings it there first. Events of a
side file whose volume has gone on elsewhere meanwhile are chained anew, and say under which digest they were
first recorded.

Nothing here raises for a medium's sake: what a command found must not depend on whether it could be put on
record, so trouble comes back as a warning.

Several volumes of one command name each other's heads (``seen``), one after the other: what is written later
vouches for what was written before. The newest entry of the last volume is vouched for by its own head file
only, until the volumes meet again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from airgap import __version__, custody
from airgap.custody import (
    GENESIS,
    MAX_SEEN,
    Action,
    CustodyEvent,
    CustodyFinding,
    EventBody,
    Fault,
    Head,
    LoggedEvent,
    SeenLog,
    VolumeMark,
    line_sha256,
)
from airgap.errors import AirgapError, Code
from airgap.manifest import Tool
from offline_mover.custody import side as custody_side
from offline_mover.custody.bundles import CarriedBundle, carried_bundles
from offline_mover.custody.file import HEAD_NAME, LOG_NAME, OpenLog, open_log, read_head, read_log, write_head
from offline_mover.custody.side import SideFile
from offline_mover.medium import media_identity
from offline_mover.medium.media_fs import printable
from offline_mover.medium.open_folder import make_own_folder

__all__ = ["HEAD_NAME", "LOG_NAME", "CustodyLog", "event_body", "load", "merge", "record"]


def event_body(
    action: Action,
    *,
    at: datetime,
    transfer_id: str | None = None,
    manifest_sha256: str | None = None,
    code: Code | None = None,
    counts: Mapping[str, int] | None = None,
    volume_number: int | None = None,
    volume_count: int | None = None,
    who: str | None = None,
) -> EventBody:
    """The content of an event, with person, machine and program filled in; ``who`` overrides the account."""
    is_numbered = volume_number is not None or volume_count is not None
    return EventBody(
        action=action,
        at=at.replace(microsecond=0),
        who=media_identity.who({"OFFLINE_MOVER_WHO": who} if who else os.environ),
        host=media_identity.host(),
        volume=VolumeMark(number=volume_number, of=volume_count) if is_numbered else None,
        transfer_id=transfer_id,
        manifest_sha256=manifest_sha256,
        code=None if code is None else code.name,
        counts=counts or {},
        tool=Tool(name="offline-mover", version=__version__),
    )


# --- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyLog:
    """Everything that is known of a volume's custody.

    Args:
        volume: the volume's folder.
        mark: label and serial of the volume that is there now.
        log_sha256: the digest of the log's first line; ``None`` without a log.
        head: the head of the log on the volume.
        entries: the entries of the log on the volume.
        side: the events of side files on this machine that are not on the volume yet.
        chained: the log as it is, faults and all, but for a torn line; side events chained to its end.
        findings: every fault of the log, its head file and its side files.
        bundles: the bundles on the volume.
    """

    volume: Path
    mark: VolumeMark
    log_sha256: str | None
    head: Head
    entries: tuple[LoggedEvent, ...]
    side: tuple[LoggedEvent, ...]
    chained: bytes
    findings: tuple[CustodyFinding, ...]
    bundles: tuple[CarriedBundle, ...]


def load(volume: Path, side_dir: Path | None = None) -> CustodyLog:
    """Read the log of a volume and the side files that continue it.

    Args:
        volume: a folder; without a log in it there are no entries, and that is no fault.
        side_dir: the folder with side files; the default is that of the user.
    """
    mark, bundles = _mark(volume), carried_bundles(volume)
    try:
        raw = read_log(volume / LOG_NAME)
    except AirgapError as error:
        faults = {Code.MEDIA_UNREADABLE: Fault.UNREADABLE, Code.TOO_LARGE: Fault.TOO_LARGE}
        finding = CustodyFinding(
            fault=faults.get(error.code, Fault.MALFORMED), line=0, detail=printable(error.detail)
        )
        return CustodyLog(
            volume=volume,
            mark=mark,
            log_sha256=None,
            head=GENESIS,
            entries=(),
            side=(),
            chained=b"",
            findings=(finding,),
            bundles=bundles,
        )
    head, fault = read_head(volume)
    check = custody.verify_log(raw, head=head)
    findings = list(check.findings)
    if fault is not None and (fault is Fault.UNREADABLE or _is_head_lost(raw, fault)):
        detail = f"{HEAD_NAME}: without it, nothing here shows whether the end of the log was cut off"
        findings.append(CustodyFinding(fault=fault, line=0, detail=detail))
    bindings = custody_side.bindings_of(volume, bundles)
    side, strays = _read_side_files(mark, raw, check.entries, bindings, side_dir)
    resumption = custody.resume(raw, None)
    return CustodyLog(
        volume=volume,
        mark=mark,
        log_sha256=custody_side.log_sha256(raw),
        head=resumption.at,
        entries=check.entries,
        side=tuple(side),
        chained=raw[: resumption.kept_bytes] + resumption.prefix + _rechained(side, resumption.at),
        findings=tuple(findings + strays),
        bundles=bundles,
    )


def _rechained(entries: Iterable[LoggedEvent], at: Head) -> bytes:
    lines: list[bytes] = []
    for entry in entries:
        lines.append(custody.rechain(entry, at))
        at = _head_of(lines[-1])
    return b"".join(lines)


def _is_head_lost(raw: bytes, fault: Fault) -> bool:
    """Whether somebody took the head file; a crash after the very first line leaves that one without it."""
    return fault is Fault.HEAD_MALFORMED or (fault is Fault.HEAD_MISSING and raw.count(b"\n") > 1)


def _read_side_files(
    mark: VolumeMark,
    raw: bytes,
    entries: tuple[LoggedEvent, ...],
    bindings: frozenset[str],
    side_dir: Path | None,
) -> tuple[list[LoggedEvent], list[CustodyFinding]]:
    known = custody_side.known_digests(entries)
    log = custody_side.log_sha256(raw)
    pending: list[LoggedEvent] = []
    findings: list[CustodyFinding] = []
    try:
        paths = custody_side.side_files(side_dir or custody_side.default_side_dir(), mark, raw, bindings)
    except OSError as error:
        return [], [CustodyFinding(fault=Fault.UNREADABLE, line=0, detail=f"side files: {_reason(error)}")]
    for path in paths:
        try:
            side_file = SideFile.parse(path, read_log(path), bindings)
        except AirgapError as error:
            detail = printable(error.detail)
            findings.append(CustodyFinding(fault=Fault.UNREADABLE, line=0, detail=detail))
            continue
        pending += side_file.pending(known)
        if side_file.check.entries and not side_file.is_attached(known):
            # A side file that bears this very log's name speaks of entries that the log has lost.
            is_same_log = log is not None and f".{log[:16]}." in path.name
            fault = Fault.CUT if is_same_log and side_file.check.is_intact else Fault.STRAY
            detail = f"{path.name} {_why_not_attached(side_file)}"
            findings.append(CustodyFinding(fault=fault, line=0, detail=detail))
    return pending, findings


def _why_not_attached(side_file: SideFile) -> str:
    if not side_file.check.is_intact:
        return "was altered"
    if side_file.start == GENESIS:
        return "was begun beside another bundle or another volume of it; a serial alone attaches nothing"
    return f"continues entry {side_file.start.count}, which the log does not have"


# --- writing -----------------------------------------------------------------------------------------------


def record(
    bodies: Mapping[Path, EventBody], *, side_dir: Path | None = None, read_only: bool = False
) -> list[str]:
    """Append one event to the log of each volume that took part in one command.

    Args:
        bodies: the event for each volume: ``dict.fromkeys(volumes, event_body(…))`` where it is one thing.
        side_dir: the folder where side files go; the default is
            :func:`offline_mover.custody.side.default_side_dir`.
        read_only: whether to leave the media alone, and write side files only.

    Returns:
        Warnings for the operator, one line each; empty when all went well.
    """
    warnings: list[str] = []
    volumes = list(bodies)
    side_dir = side_dir or custody_side.default_side_dir()
    sights = {volume: _sight(volume, bodies[volume]) for volume in volumes} if len(volumes) > 1 else {}
    for index, volume in enumerate(volumes):
        # First those before it: they have their event of this command already.
        around = [*reversed(volumes[:index]), *reversed(volumes[index + 1 :])]
        seen = tuple(islice((sight for other in around if (sight := sights[other])), MAX_SEEN))
        pen = _Pen(volume=volume, mark=_mark(volume), side_dir=side_dir, seen=seen)
        warnings += pen.write(bodies[volume], read_only=read_only)
        if sights:
            sights[volume] = _sight(volume, bodies[volume])
    return warnings


def merge(volume: Path, body: EventBody, *, side_dir: Path | None = None) -> list[str]:
    """Bring the events that side files hold of a volume onto it, and then ``body``; nothing without any.

    :func:`record` brings them too, before it appends.

    Returns:
        Warnings for the operator, one line each.
    """
    if not load(volume, side_dir).side:
        return []
    side_dir = side_dir or custody_side.default_side_dir()
    try:
        return _Pen(volume=volume, mark=_mark(volume), side_dir=side_dir, seen=()).write_to_medium(body)
    except (OSError, AirgapError) as error:
        return [f"{printable(str(volume))}: its side files were not merged: {_reason(error)}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pen:
    """Writes one event of one volume."""

    volume: Path
    mark: VolumeMark
    side_dir: Path | None
    seen: tuple[SeenLog, ...]

    def write(self, body: EventBody, *, read_only: bool) -> list[str]:
        """Write the event to the medium, else to a side file, else say so."""
        reason = "read-only as asked"
        if not read_only:
            try:
                return self.write_to_medium(body)
            except (OSError, AirgapError) as error:
                reason = _reason(error)
        try:
            path = self._write_beside(body)
        except (OSError, AirgapError) as error:
            return [self._told(f"this is in no custody log: {reason}; beside: {_reason(error)}")]
        if read_only:
            return []
        return [self._told(f"the custody log cannot be written ({reason}); kept in {printable(str(path))}")]

    def write_to_medium(self, body: EventBody) -> list[str]:
        """Side files first, then the event, then the head file."""
        with ExitStack() as held:
            log = held.enter_context(open_log(self.volume / LOG_NAME))
            head, fault = read_head(self.volume)
            resumption = custody.resume(log.raw, head)
            is_head_lost = fault is not None and _is_head_lost(log.raw, fault)
            lines, merged = self._pending_lines(held, log.raw, resumption.at)
            at = custody.resume(lines, None, start=resumption.at).at
            found = {"tornBytes": resumption.torn_bytes, "headLost": int(is_head_lost)}
            line = custody.chain(self._marked(body, found), at, seen=self.seen)
            log.append(resumption, lines + line)
            warnings = self._write_head(_head_of(line))
            for side_log in merged:
                with suppress(OSError):  # the next merge finds that the log has these lines already
                    side_log.clear()
        if resumption.is_cut or is_head_lost:
            warnings.append(self._told("its custody log was cut short or altered since; run custody verify"))
        return warnings

    def _pending_lines(self, held: ExitStack, raw: bytes, at: Head) -> tuple[bytes, list[OpenLog]]:
        """Lines of side files, chained to ``at``, and the side files that are not needed any more then."""
        pending: list[LoggedEvent] = []
        merged: list[OpenLog] = []
        bindings = custody_side.bindings_of(self.volume, carried_bundles(self.volume))
        if not (paths := custody_side.side_files(self.side_dir, self.mark, raw, bindings)):
            return b"", merged
        known = custody_side.known_digests(custody.verify_log(raw).entries)
        for path in paths:
            try:
                side_log = held.enter_context(open_log(path))
            except (OSError, AirgapError):  # it stays where it is; load() tells
                continue
            side_file = SideFile.parse(path, side_log.raw, bindings)
            pending += side_file.pending(known)
            if side_file.is_attached(known):
                merged.append(side_log)
        return _rechained(pending, at), merged

    def _write_head(self, head: Head) -> list[str]:
        try:
            write_head(self.volume, head)
        except (OSError, AirgapError) as error:  # the event is on record; its head comes with the next one
            return [self._told(f"{HEAD_NAME} was not written: {_reason(error)}")]
        return []

    def _write_beside(self, body: EventBody) -> Path:
        if self.side_dir is None:
            raise FileNotFoundError(errno.ENOENT, "no home folder; name a folder with --custody-dir")
        try:
            raw = read_log(self.volume / LOG_NAME)
            at = custody.resume(raw, read_head(self.volume)[0]).at
        except AirgapError:
            raw, at = b"", GENESIS  # the log cannot be read; its side file begins a chain of its own
        make_own_folder(self.side_dir)
        name = custody_side.side_name(self.volume, self.mark, raw, body.transfer_id)
        path = self.side_dir / name
        with open_log(path) as log:
            resumption = custody.resume(log.raw, None, start=at)
            found = {"tornBytes": resumption.torn_bytes}
            log.append(resumption, custody.chain(self._marked(body, found), resumption.at, seen=self.seen))
        return path

    def _marked(self, body: EventBody, found: Mapping[str, int]) -> EventBody:
        """The body with the volume's marks, and with what was found of the log where there was something."""
        counts = {**body.counts, **{name: count for name, count in found.items() if count}}
        return replace(body, volume=_numbered(self.mark, body), counts=counts)

    def _told(self, text: str) -> str:
        return f"{printable(str(self.volume))}: {text}"


def _sight(volume: Path, body: EventBody) -> SeenLog | None:
    """The head of a volume's log as it is now, for its neighbours; ``None`` where there is none to see."""
    try:
        raw = read_log(volume / LOG_NAME)
    except AirgapError:
        return None
    log = custody_side.log_sha256(raw)
    if log is None:
        return None
    head = custody.resume(raw, None).at
    return SeenLog(log_sha256=log, head=head, volume=_numbered(_mark(volume), body))


def _mark(volume: Path) -> VolumeMark:
    identity = media_identity.describe(volume)
    return VolumeMark(label=identity.label, serial=identity.serial)


def _numbered(mark: VolumeMark, body: EventBody) -> VolumeMark:
    given = body.volume or VolumeMark()
    return replace(mark, number=given.number, of=given.of)


def _head_of(line: bytes) -> Head:
    return Head(count=CustodyEvent.from_line(line).number, sha256=line_sha256(line))


def _reason(error: Exception) -> str:
    if isinstance(error, AirgapError):
        return printable(error.detail) or error.code.name
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
