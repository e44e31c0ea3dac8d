"""The view of custody logs: who had each volume, and whether a log was tampered with.

A log is judged by itself (chain and head file), by the side files of this machine, and by the logs of the
other volumes that are given: what their entries knew of it must still be there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airgap.custody import CustodyFinding, Fault, LoggedEvent, SeenLog, VolumeMark
from airgap.errors import Code, MediaError
from airgap.fields import format_time
from offline_mover.amounts import counted
from offline_mover.custody import log as custody_log
from offline_mover.custody.bundles import CarriedBundle
from offline_mover.custody.log import CustodyLog
from offline_mover.medium.media_fs import printable

_SHOWN_COUNTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeHistory:
    """The log of one volume, and what is wrong with it.

    ``vouched_count`` is the number of the latest entry that another volume of the call confirms, 0 for none.
    """

    log: CustodyLog
    findings: tuple[CustodyFinding, ...]
    vouched_count: int = 0

    @property
    def is_believed(self) -> bool:
        """Whether nothing speaks against the log; else it is shown, but not as what happened."""
        return not any(finding.fault.is_tampering for finding in self.findings)

    def to_json(self, *, with_entries: bool) -> dict[str, Any]:
        """The volume as an element of ``volumes`` in the JSON result."""
        log = self.log
        told: dict[str, Any] = {
            "volume": str(log.volume),
            "label": log.mark.label,
            "serial": log.mark.serial,
            "log": log.log_sha256,
            "head": {"count": log.head.count, "sha256": log.head.sha256} if log.log_sha256 else None,
            "entryCount": len(log.entries),
            "sideCount": len(log.side),
            "vouchedCount": self.vouched_count,
            "findings": [
                {"fault": finding.fault.value, "line": finding.line, "detail": finding.detail}
                for finding in self.findings
            ],
        }
        if with_entries:
            told["entries"] = [entry.event.to_json() | {"isBeside": False} for entry in log.entries]
            told["entries"] += [entry.event.to_json() | {"isBeside": True} for entry in log.side]
        return told

    def lines(self, *, with_entries: bool) -> list[str]:
        """The log in lines for a person: the volume, its entries if asked for, and every finding."""
        log = self.log
        known_by = [name for name in (log.mark.label, log.mark.serial) if name]
        name = printable(str(log.volume)) + (f" ({', '.join(known_by)})" if known_by else "")
        beside = f", {len(log.side)} more on this machine only" if log.side else ""
        told = [f"{name}: {_entries(len(log.entries))}{beside}"]
        if with_entries:
            doubt = "" if self.is_believed else "  (not believed)"
            told += [f"  {_event_line(entry)}{doubt}" for entry in log.entries]
            told += [f"  {_event_line(entry)}  (on this machine only)" for entry in log.side]
        if log.log_sha256:
            told.append(f"  last line's SHA-256: {log.head.sha256}")
        for finding in self.findings:
            where = f"line {finding.line}: " if finding.line else ""
            told.append(f"  {finding.fault.value.upper()}  {where}{printable(finding.detail)}")
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyView:
    """The verdict on the logs of some volumes together; ``code`` is ``None`` exactly when all is well.

    ``absent_logs`` counts the logs that entries name and that are on none of the volumes given.
    """

    code: Code | None
    verdict: str
    next_step: str
    volumes: tuple[VolumeHistory, ...]
    absent_logs: int


def judge(volumes: Sequence[Path], *, side_dir: Path | None = None) -> CustodyView:
    """Judge the logs of the volumes, each by itself and by the others.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``: a volume is no folder, or not mounted.
    """
    logs = [custody_log.load(volume, side_dir) for volume in _distinct(volumes)]
    check = _cross_check(logs)
    absent = len(check.absent)
    histories = tuple(
        VolumeHistory(
            log=log,
            findings=tuple(
                sorted(dict.fromkeys((*log.findings, *check.found[index])), key=lambda finding: finding.line)
            ),
            vouched_count=check.vouched[index],
        )
        for index, log in enumerate(logs)
    )
    code, verdict = _judge(histories)
    hint = (
        f" Bring the other volumes too: logs that these know of and that were not seen: {absent}."
        if absent
        else ""
    )
    return CustodyView(
        code=code,
        verdict=verdict,
        next_step=code.remedy if code else f"Compare the last lines' SHA-256 with a printed report.{hint}",
        volumes=histories,
        absent_logs=absent,
    )


def _distinct(volumes: Sequence[Path]) -> list[Path]:
    """Each volume once: one that is named twice must not vouch for itself."""
    found: dict[Path, Path] = {}
    for volume in volumes:
        if not volume.is_dir():
            raise MediaError(Code.VOLUME_NOT_FOUND, f"{volume}: not a folder")
        found.setdefault(volume.resolve(), volume)
    return list(found.values())


def _judge(histories: Sequence[VolumeHistory]) -> tuple[Code | None, str]:
    faults = [finding.fault for history in histories for finding in history.findings]
    if broken := sum(fault.is_tampering for fault in faults):
        return Code.CUSTODY_BROKEN, f"signs of tampering: {broken}"
    if Fault.UNREADABLE in faults:
        return Code.MEDIA_UNREADABLE, "a custody log could not be read"
    empty = [printable(str(h.log.volume)) for h in histories if not h.log.entries and not h.log.side]
    if empty:
        return Code.CUSTODY_MISSING, f"without a custody log: {', '.join(empty)}"
    count = sum(len(history.log.entries) for history in histories)
    remarks = _torn(faults) + _newer(histories)
    told = f"{_entries(count)} on {counted(len(histories), 'volume')}"
    return None, f"{told}: {counted(len(histories), 'unbroken chain')}{remarks}"


def _entries(count: int) -> str:
    return counted(count, "entry", "entries")


def _torn(faults: Sequence[Fault]) -> str:
    count = faults.count(Fault.TORN)
    return f"; cut off in a line that was being written when the power went: {count}" if count else ""


def _newer(histories: Sequence[VolumeHistory]) -> str:
    count = sum(entry.event.is_newer for history in histories for entry in history.log.entries)
    return f"; written by a newer tool, which can tell more of them: {count}" if count else ""


def _event_line(entry: LoggedEvent) -> str:
    event = entry.event
    body = event.body
    shown = list(body.counts.items())[:_SHOWN_COUNTS]
    counts = ", ".join(f"{name} {count}" for name, count in shown)
    of = body.volume
    told = [
        f"{event.number:>4}",
        format_time(body.at),
        f"{body.action.value:<14}",
        body.code or "OK",
        f"{body.who}@{body.host}",
        f"volume {of.number or '?'} of {of.of or '?'}" if of and (of.number or of.of) else "",
        f"transfer {body.transfer_id}" if body.transfer_id else "",
        counts,
        f"{body.tool.name} {body.tool.version}",
        "written by a newer tool" if event.is_newer else "",
    ]
    return "  ".join(part for part in told if part)


# --- what the volumes know of each other -------------------------------------------------------------------


@dataclass(slots=True)
class _CrossCheck:
    """What entries of one volume say of another, by index of the other."""

    found: dict[int, list[CustodyFinding]] = field(default_factory=lambda: defaultdict(list))
    vouched: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    absent: set[str] = field(default_factory=set)


_Place = tuple[str, int, int]
"""Of which transfer, which volume of how many."""


def _cross_check(logs: Sequence[CustodyLog]) -> _CrossCheck:
    held = [{entry.sha256 for entry in log.entries} for log in logs]
    by_log: dict[str | None, list[int]] = defaultdict(list)
    for index, log in enumerate(logs):
        by_log[log.log_sha256].append(index)
    check = _CrossCheck()
    places = _seen_places(logs)
    for witness, log in enumerate(logs):
        for entry in (*log.entries, *log.side):
            for seen in entry.event.seen:
                accused = by_log.get(seen.log_sha256, [])
                confirming = [i for i in accused if seen.head.sha256 in held[i]]
                for index in set(confirming) - {witness}:
                    check.vouched[index] = max(check.vouched[index], seen.head.count)
                if confirming:
                    continue
                accused = accused or _replaced(logs, witness, entry, seen, places[seen.log_sha256])
                if not accused:
                    check.absent.add(seen.log_sha256)
                for index in accused:
                    check.found[index].append(_contradiction(logs[index], seen, entry, log.volume))
    return check


def _seen_places(logs: Sequence[CustodyLog]) -> dict[str, set[_Place]]:
    """Tell as which volume of which transfer each log was seen, by any entry."""
    found: dict[str, set[_Place]] = defaultdict(set)
    for log in logs:
        for entry in (*log.entries, *log.side):
            for seen in entry.event.seen:
                found[seen.log_sha256] |= _place(entry.event.body.transfer_id, seen.volume)
    return found


def _place(transfer_id: str | None, mark: CarriedBundle | VolumeMark | None) -> set[_Place]:
    """The place of a volume, or nothing: one of re-carried parts is none of so many."""
    if transfer_id is None or mark is None or mark.number is None or mark.of is None:
        return set()
    return {(transfer_id, mark.number, mark.of)}


def _replaced(
    logs: Sequence[CustodyLog], witness: int, entry: LoggedEvent, seen: SeenLog, places: set[_Place]
) -> list[int]:
    """Volumes that are what the log was seen on, by serial or by place in the transfer, with another log.

    A serial is whatever somebody formatted the medium with, so either is enough. Copied media share a serial,
    spare ones a place; where the same entry saw both logs, they are two volumes. One that was pulled anew for
    one that got lost is accused, too: nothing on it shows that it is not the old one, its log begun anew.
    """
    serial = seen.volume.serial if seen.volume else None
    seen_logs = {other.log_sha256 for other in entry.event.seen}
    return [
        index
        for index, log in enumerate(logs)
        if index != witness
        and log.log_sha256 not in seen_logs
        and ((serial and log.mark.serial == serial) or places & _claimed_places(log))
    ]


def _claimed_places(log: CustodyLog) -> set[_Place]:
    """Tell as what a volume passes itself off, by its bundles or by any entry of its log."""
    found: set[_Place] = set()
    for bundle in log.bundles:
        found |= _place(bundle.transfer_id, bundle)
    for entry in log.entries:
        found |= _place(entry.event.body.transfer_id, entry.event.body.volume)
    return found


def _contradiction(log: CustodyLog, seen: SeenLog, entry: LoggedEvent, witness: Path) -> CustodyFinding:
    knew = f"entry {entry.event.number} of {printable(str(witness))} knew"
    if log.log_sha256 != seen.log_sha256:
        detail = (
            f"{knew} another log of this volume{_known_by(seen)}, of {_entries(seen.head.count)}; right only "
            "if this medium was pulled anew in place of that one"
        )
        return CustodyFinding(fault=Fault.REPLACED, line=0, detail=detail)
    if log.head.count < seen.head.count:
        line = log.entries[-1].line + 1 if log.entries else 1
        detail = f"{knew} {_entries(seen.head.count)}, the log ends with entry {log.head.count}"
        return CustodyFinding(fault=Fault.CUT, line=line, detail=detail)
    line = next((e.line for e in log.entries if e.event.number == seen.head.count), 0)
    return CustodyFinding(fault=Fault.ALTERED, line=line, detail=f"{knew} another entry {seen.head.count}")


def _known_by(seen: SeenLog) -> str:
    mark = seen.volume
    if mark is None:
        return ""
    told = [f"{mark.number} of {mark.of}"] if mark.number and mark.of else []
    told += [mark.label] if mark.label else []
    told += [f"serial {mark.serial}"] if mark.serial else []
    return f" ({', '.join(printable(word) for word in told)})" if told else ""
