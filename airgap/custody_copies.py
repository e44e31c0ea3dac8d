"""Copies of custody logs held against each other: was a log on a medium written anew in between?

A log only grows. Of two copies of one log the later one has every entry of the earlier one, as it stood or,
where it came from a side file and was chained anew, under the digest that it was recorded as. The rules are
those by which the mover compares the volumes that it is given; here the copies lie where no carrier writes.

Not checked: which of two copies is the later one. One that is merely behind the other says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from airgap.custody import CustodyFinding, Fault, LogCheck, LoggedEvent
from airgap.custody_event import SeenLog


def compare_copies(copy: LogCheck, other: LogCheck) -> tuple[CustodyFinding, ...]:
    """The faults that another copy of the transfer's logs reveals in this one; lines are those of ``copy``.

    ``ALTERED``: the two are of one log and each has entries that the other lacks, or an entry of one knew
    another state of the other. ``REPLACED``: they are of one volume, and begin differently.

    A read-only medium that was used on two machines has two histories, too, and is told.
    """
    if not copy.entries or not other.entries:
        return ()
    if copy.entries[0].sha256 == other.entries[0].sha256:
        return tuple(_divergence(copy, other))
    sightings = [*_contradictions(copy, other), *_contradictions(other, copy)]
    return (*sightings, *_replacement(copy, other))


def _divergence(copy: LogCheck, other: LogCheck) -> Iterator[CustodyFinding]:
    lost = _lacking(copy, other)
    if lost and _lacking(other, copy):
        number = lost[0].event.number
        line = next((entry.line for entry in copy.entries if entry.event.number == number), 0)
        yield CustodyFinding(
            fault=Fault.ALTERED, line=line, detail=f"another copy has another entry {number}"
        )


def _lacking(log: LogCheck, other: LogCheck) -> list[LoggedEvent]:
    """The entries of the other that the log does not have."""
    known = {name for entry in log.entries for name in _names(entry)}
    return [entry for entry in other.entries if known.isdisjoint(_names(entry))]


def _names(entry: LoggedEvent) -> set[str]:
    return {entry.sha256} | ({entry.event.recorded_as} if entry.event.recorded_as else set())


def _contradictions(witness: LogCheck, accused: LogCheck) -> Iterator[CustodyFinding]:
    """What the entries of a neighbour volume knew of a log, and it does not have though it goes further."""
    known = {name for entry in accused.entries for name in _names(entry)}
    for entry in witness.entries:
        for seen in _sightings(entry, accused):
            if seen.head.sha256 not in known and accused.entries[-1].event.number >= seen.head.count:
                detail = f"entry {entry.event.number} of a neighbour knew another entry {seen.head.count}"
                yield CustodyFinding(fault=Fault.ALTERED, line=0, detail=detail)


def _sightings(entry: LoggedEvent, log: LogCheck) -> list[SeenLog]:
    return [seen for seen in entry.event.seen if seen.log_sha256 == log.entries[0].sha256]


def _replacement(copy: LogCheck, other: LogCheck) -> Iterator[CustodyFinding]:
    """Two logs of one volume, by its serial or its place in the transfer. Those that have met are two."""
    have_met = any(_sightings(entry, other) for entry in copy.entries) or any(
        _sightings(entry, copy) for entry in other.entries
    )
    if not have_met and _claims(copy) & _claims(other):
        detail = "another copy is of another log of this volume; right only if it was pulled anew"
        yield CustodyFinding(fault=Fault.REPLACED, line=0, detail=detail)


def _claims(log: LogCheck) -> set[tuple[object, ...]]:
    """The volumes that its entries take the medium for: serials, and places in a transfer."""
    found: set[tuple[object, ...]] = set()
    for entry in log.entries:
        body = entry.event.body
        if body.volume is None:
            continue
        if body.volume.serial is not None:
            found.add((body.volume.serial,))
        if body.transfer_id and body.volume.number and body.volume.of:
            found.add((body.transfer_id, body.volume.number, body.volume.of))
    return found
