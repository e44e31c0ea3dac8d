"""The custody log of a volume: a chain of events, and what its breaks say.

Each line names the SHA-256 of the line before it, so a line that is altered, removed, inserted or moved does
not fit the next one. A chain alone does not show that its *end* was cut off: for that there is the head file
(:class:`Head`), written after each append. The log may be ahead of its head by what a crash left, never
behind it.

The log is not signed. Whoever may write to the medium can compute the whole chain and the head file anew;
nothing on that medium alone shows it. What does show it lies elsewhere:

* the logs of the neighbour volumes, whose lines name this log's head at that time (``seen``),
* the digest of the last line where a report printed it,
* the copy of the log that push sends to the target, and side files on the machines that used the volume.

The log tells who had a volume; whether its payload is right is never judged by it, only by signatures.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, unique

from airgap.custody_event import (
    GENESIS,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_SEEN,
    Action,
    CustodyEvent,
    EventBody,
    Head,
    SeenLog,
    UnknownAction,
    VolumeMark,
    line_sha256,
)
from airgap.errors import UntrustedInputError

MAX_LOG_BYTES = 16 * 1024 * 1024
MAX_FINDINGS = 1000

__all__ = [
    "GENESIS",
    "MAX_LINES",
    "MAX_LINE_BYTES",
    "MAX_LOG_BYTES",
    "MAX_SEEN",
    "Action",
    "CustodyEvent",
    "CustodyFinding",
    "EventBody",
    "Fault",
    "Head",
    "LogCheck",
    "LoggedEvent",
    "Resumption",
    "SeenLog",
    "UnknownAction",
    "VolumeMark",
    "chain",
    "line_sha256",
    "rechain",
    "resume",
    "verify_log",
]


@unique
class Fault(Enum):
    """A kind of fault in a log; all but ``TORN`` and ``UNREADABLE`` mean that somebody wrote in it."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    MALFORMED = "malformed"
    CUT = "cut"
    HEAD_MISSING = "headMissing"
    HEAD_MALFORMED = "headMalformed"
    TOO_LARGE = "tooLarge"
    NEWER = "newer"
    """A newer tool wrote lines: what they say is not all known here; their places in the chain are judged."""
    REPLACED = "replaced"
    """A neighbour volume knows another log of this volume."""
    STRAY = "stray"
    """A side file continues a log that the volume does not have."""
    UNREADABLE = "unreadable"
    """The medium would not give it; nothing is known."""
    TORN = "torn"
    """The last line has no end: the power went while it was written. The next append mends it."""

    @property
    def is_tampering(self) -> bool:
        """Whether only tampering explains the fault; a crash or a newer tool does not cause it."""
        return self not in {Fault.TORN, Fault.UNREADABLE, Fault.NEWER}


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyFinding:
    """One fault that was found; ``line`` counts from 1, and is 0 where the fault is in no single line."""

    fault: Fault
    line: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """A well-formed line of a log: its number from 1, its hex SHA-256, and the event that it records."""

    line: int
    sha256: str
    event: CustodyEvent

    @property
    def head(self) -> Head:
        """The head that the log had when this was its last line."""
        return Head(count=self.event.number, sha256=self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheck:
    """The result of reading a log: its well-formed lines in their order, and every fault."""

    entries: tuple[LoggedEvent, ...]
    findings: tuple[CustodyFinding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether no fault was found except those that a crash or a newer tool explains."""
        return not any(finding.fault.is_tampering for finding in self.findings)


def verify_log(raw: bytes, *, head: Head | None = None, start: Head = GENESIS) -> LogCheck:
    """Judge the bytes of a custody log: which lines are well-formed, and where the chain is broken.

    Args:
        raw: the log as it is on the medium, at most 16 MiB; more is refused unread.
        head: what the head file says, if there is one.
        start: the head that the first line continues; a side file does not begin at the beginning.

    Not checked: whether the events are true, and whether the whole was computed anew (see the module).
    """
    count = raw.count(b"\n")  # before any line is split off: 16 MiB of newlines must not fill the memory
    if len(raw) > MAX_LOG_BYTES or count > MAX_LINES:
        detail = f"{len(raw)} bytes, {count} lines; at most {MAX_LOG_BYTES} and {MAX_LINES} are read"
        return LogCheck(entries=(), findings=(CustodyFinding(fault=Fault.TOO_LARGE, line=0, detail=detail),))
    *whole, torn = raw.split(b"\n")
    entries: list[LoggedEvent] = []
    findings: list[CustodyFinding] = []
    malformed: list[int] = []
    for place, text in enumerate(whole, start=1):
        try:
            entries.append(_read_line(place, text + b"\n"))
        except UntrustedInputError as error:
            malformed.append(place)
            findings.append(CustodyFinding(fault=Fault.MALFORMED, line=place, detail=error.detail))
    if torn:
        detail = f"{len(torn)} bytes without a line's end"
        findings.append(CustodyFinding(fault=Fault.TORN, line=count + 1, detail=detail))
        with suppress(UntrustedInputError):  # of a line that lost nothing but its end, the event counts
            entries.append(_read_line(count + 1, torn + b"\n"))
    if newer := [entry.line for entry in entries if entry.event.is_newer]:
        # One finding for all: however many there are, they must not crowd out what was tampered with.
        detail = f"{len(newer)} written by a newer tool; this one can't tell all that they say"
        findings.append(CustodyFinding(fault=Fault.NEWER, line=newer[0], detail=detail))
    ordered, misplaced = _put_in_order(entries, start)
    findings += misplaced + _broken_links(ordered, malformed, start)
    if head is not None:
        findings += _disagreements(head, ordered, malformed, start)
    findings.sort(key=lambda finding: finding.line)
    return LogCheck(entries=tuple(entries), findings=tuple(findings[:MAX_FINDINGS]))


def _read_line(place: int, line: bytes) -> LoggedEvent:
    return LoggedEvent(line=place, sha256=line_sha256(line), event=CustodyEvent.from_line(line))


def _put_in_order(
    entries: Sequence[LoggedEvent], start: Head
) -> tuple[list[LoggedEvent], list[CustodyFinding]]:
    """The entries that belong to the chain, by number, and those that stand where they do not belong.

    The longest run of rising numbers is taken as the log; what is not in it was moved if the chain has a
    place for it, and was put there by somebody else if not.
    """
    run = _longest_rising(entries)
    by_number = {entry.event.number: entry for entry in run}
    held = {entry.line for entry in run}
    findings: list[CustodyFinding] = []
    for entry in sorted((e for e in entries if e.line not in held), key=lambda e: e.event.number):
        number = entry.event.number
        claim, rival = _claim(entry, by_number, start), by_number.get(number)
        if rival is None and claim:
            by_number[number] = entry
            findings.append(_finding(Fault.REORDERED, entry, f"entry {number} belongs elsewhere"))
        elif rival is not None and claim > _claim(rival, by_number, start):
            by_number[number] = entry
            findings.append(_finding(Fault.INSERTED, rival, f"a second entry {number}"))
        else:
            findings.append(_finding(Fault.INSERTED, entry, f"entry {number} is not part of the chain"))
    return [by_number[number] for number in sorted(by_number)], findings


def _claim(entry: LoggedEvent, by_number: Mapping[int, LoggedEvent], start: Head) -> int:
    """How well the chain speaks for an entry: that the next one names it weighs more than whom it names."""
    number = entry.event.number
    before, after = by_number.get(number - 1), by_number.get(number + 1)
    expected = start.sha256 if number == start.count + 1 else before and before.sha256
    is_cited = after is not None and after.event.previous_sha256 == entry.sha256
    return 2 * is_cited + (entry.event.previous_sha256 == expected)


def _longest_rising(entries: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """The longest subsequence with strictly rising numbers (patience sorting, n log n)."""
    ends: list[int] = []
    places: list[int] = []
    before: list[int] = []
    for place, entry in enumerate(entries):
        length = bisect_left(ends, entry.event.number)
        before.append(places[length - 1] if length else -1)
        ends[length : length + 1] = [entry.event.number]
        places[length : length + 1] = [place]
    run: list[LoggedEvent] = []
    place = places[-1] if places else -1
    while place >= 0:
        run.append(entries[place])
        place = before[place]
    return run[::-1]


def _broken_links(
    ordered: Iterable[LoggedEvent], malformed: Sequence[int], start: Head
) -> list[CustodyFinding]:
    """Where an entry does not name the one before it: numbers tell a removal from an alteration."""
    findings: list[CustodyFinding] = []
    last, last_line = start, 0
    for entry in ordered:
        gap = entry.event.number - last.count - 1
        junk = max(0, bisect_left(malformed, entry.line) - bisect_left(malformed, last_line))
        if gap > junk:
            detail = f"entries missing before it, after entry {last.count}: {gap - junk}"
            findings.append(_finding(Fault.REMOVED, entry, detail))
        elif gap <= 0 and entry.event.previous_sha256 != last.sha256:
            detail = f"not what entry {entry.event.number} names as the one before it"
            findings.append(CustodyFinding(fault=Fault.ALTERED, line=last_line or entry.line, detail=detail))
        last, last_line = entry.head, entry.line
    return findings


def _disagreements(
    head: Head, ordered: Sequence[LoggedEvent], malformed: Sequence[int], start: Head
) -> list[CustodyFinding]:
    """What the head file knows and the log does not have."""
    last, last_line = (ordered[-1].head, ordered[-1].line) if ordered else (start, 0)
    trailing = len(malformed) - bisect_left(malformed, last_line)
    if head.count > last.count + trailing:
        detail = f"the log ends with entry {last.count}, its head file knows {head.count}"
        return [CustodyFinding(fault=Fault.CUT, line=max(last_line, *malformed, 0) + 1, detail=detail)]
    return [
        _finding(Fault.ALTERED, entry, "not the entry that the head file names")
        for entry in ordered
        if entry.event.number == head.count and entry.sha256 != head.sha256
    ]


def _finding(fault: Fault, entry: LoggedEvent, detail: str) -> CustodyFinding:
    return CustodyFinding(fault=fault, line=entry.line, detail=detail)


# --- writing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """The way to append to a log, whatever a crash may have left at its end.

    Args:
        kept_bytes: the length to which the file is cut first; what goes is a torn line, never a whole one.
        prefix: bytes to write before the event: the newline that an otherwise whole last line had lost.
        at: the head that the next event continues. Where the head file knows more than the log has, that is
            the
            head: the hole stays visible in the chain for good, instead of being papered over by the next
                append.
        torn_bytes: how many bytes of a torn line are cut off.
        is_cut: whether the log is not what its head file says.
    """

    kept_bytes: int
    prefix: bytes
    at: Head
    torn_bytes: int
    is_cut: bool


def resume(raw: bytes, head: Head | None, *, start: Head = GENESIS) -> Resumption:
    """Find where in a log, and after which head, the next event goes; only the last line is looked at."""
    kept = raw.rfind(b"\n") + 1
    torn, prefix = raw[kept:], b""
    tail = _tail(raw[:kept], start)
    if torn and _is_event(torn + b"\n"):
        tail = _tail(raw + b"\n", start)
        kept, torn, prefix = len(raw), b"", b"\n"
    is_cut = head is not None and (
        head.count > tail.count or (head.count == tail.count and head.sha256 != tail.sha256)
    )
    return Resumption(
        kept_bytes=kept,
        prefix=prefix,
        at=head if head is not None and is_cut and head.count <= tail.count + MAX_LINES else tail,
        torn_bytes=len(torn),
        is_cut=is_cut,
    )


def _tail(whole: bytes, start: Head) -> Head:
    """The head of a log of whole lines; a malformed last line counts by its place."""
    if not whole:
        return start
    line = whole[whole.rfind(b"\n", 0, -1) + 1 :]
    try:
        number = CustodyEvent.from_line(line).number
    except UntrustedInputError:
        number = start.count + whole.count(b"\n")
    return Head(count=number, sha256=line_sha256(line))


def _is_event(line: bytes) -> bool:
    try:
        CustodyEvent.from_line(line)
    except UntrustedInputError:
        return False
    return True


def chain(body: EventBody, at: Head, *, seen: tuple[SeenLog, ...] = ()) -> bytes:
    """The line, with its newline, that records ``body`` as the event after ``at``.

    Raises:
        UntrustedInputError: ``CUSTODY_BROKEN``: the line would be too long, or the log has as many lines as
            any may have.
    """
    return CustodyEvent(number=at.count + 1, previous_sha256=at.sha256, body=body, seen=seen).to_line()


def rechain(entry: LoggedEvent, at: Head) -> bytes:
    """The line for an event from a side file, as it continues ``at``; unchanged where it fits already."""
    event = entry.event
    if (event.number, event.previous_sha256) == (at.count + 1, at.sha256):
        return event.to_line()
    moved = replace(
        event,
        number=at.count + 1,
        previous_sha256=at.sha256,
        recorded_as=event.recorded_as or entry.sha256,
    )
    return moved.to_line()
