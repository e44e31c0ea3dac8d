"""Copies of custody logs: what was written anew in between is found, and what only grew is not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from airgap import custody
from airgap.custody import GENESIS, EventBody, Fault, Head, SeenLog, VolumeMark, line_sha256, verify_log
from airgap.custody_copies import compare_copies
from tests.airgap.test_custody import BODY
from tests.vectors.generate import NOW


def mark(number: int, serial: str | None = None) -> VolumeMark:
    return VolumeMark(label=None, serial=serial or f"000{number}", number=number, of=3)


def event(minute: int, *, who: str = "Åsa", volume: VolumeMark | None = None) -> EventBody:
    return replace(BODY, at=NOW + timedelta(minutes=minute), who=who, volume=volume or mark(1))


def log_of(*events: EventBody, seen: tuple[SeenLog, ...] = (), at: Head = GENESIS) -> bytes:
    raw = b""
    for one in events:
        line = custody.chain(one, at, seen=seen)
        at = Head(count=at.count + 1, sha256=line_sha256(line))
        raw += line
    return raw


def head_of(raw: bytes) -> Head:
    return verify_log(raw).entries[-1].head


def seen_at(raw: bytes, volume: VolumeMark) -> SeenLog:
    first = raw[: raw.index(b"\n") + 1]
    return SeenLog(log_sha256=line_sha256(first), head=head_of(raw), volume=volume)


def faults(copy: bytes, other: bytes) -> list[tuple[Fault, int]]:
    return [(one.fault, one.line) for one in compare_copies(verify_log(copy), verify_log(other))]


EARLY = log_of(event(0), event(1), event(2))
LATE = log_of(event(0), event(1), event(2), event(3))


def test_log_that_has_only_grown_is_not_told_whichever_copy_came_first() -> None:
    for copy, other in ((LATE, EARLY), (EARLY, LATE), (LATE, LATE)):
        assert faults(copy, other) == []


def test_entry_altered_and_all_computed_anew_is_told_with_its_line() -> None:
    forged = log_of(event(0), event(1, who="mallory"), event(2), event(3))
    assert faults(forged, EARLY) == [(Fault.ALTERED, 2)]
    assert faults(EARLY, forged) == [(Fault.ALTERED, 2)]


def test_entries_cut_off_and_others_written_in_their_place_are_told() -> None:
    shortened = log_of(event(0), event(9))
    assert faults(shortened, EARLY) == [(Fault.ALTERED, 2)]


def test_log_begun_anew_is_told_by_the_volume_that_it_is_of() -> None:
    anew = log_of(event(5))
    assert faults(anew, EARLY) == [(Fault.REPLACED, 0)]
    by_serial = log_of(event(5, volume=mark(2, serial="0001")))
    assert faults(by_serial, EARLY) == [(Fault.REPLACED, 0)]


def test_logs_of_two_volumes_are_two() -> None:
    assert faults(log_of(event(5, volume=mark(2))), EARLY) == []
    unmarked = log_of(event(5, volume=VolumeMark()), event(6, volume=VolumeMark(number=1)))
    assert faults(unmarked, EARLY) == []
    assert faults(log_of(replace(event(5, volume=mark(2)), volume=None)), EARLY) == []


def test_volumes_of_which_nobody_knows_serial_or_place_are_not_taken_for_one() -> None:
    places = [log_of(event(n, volume=VolumeMark(number=n, of=3))) for n in (1, 2)]
    serials = [log_of(event(n, volume=VolumeMark(serial=f"A{n}"))) for n in (1, 2)]
    assert faults(*places) == faults(*serials) == []


def test_spare_volume_that_was_seen_beside_the_other_is_no_replacement() -> None:
    spare = log_of(event(5), seen=(seen_at(EARLY, mark(1)),))
    assert faults(spare, EARLY) == faults(EARLY, spare) == []


def test_neighbour_that_knew_another_state_of_a_log_is_believed() -> None:
    neighbour = log_of(event(5, volume=mark(2)), seen=(seen_at(EARLY, mark(1)),))
    forged = log_of(event(0), event(1, who="mallory"), event(2), event(3))
    assert faults(forged, neighbour) == faults(neighbour, forged) == [(Fault.ALTERED, 0)]
    assert faults(LATE, neighbour) == []


def test_copy_from_before_a_neighbour_saw_the_log_says_nothing() -> None:
    neighbour = log_of(event(5, volume=mark(2)), seen=(seen_at(LATE, mark(1)),))
    assert faults(EARLY, neighbour) == []
    forged = log_of(event(0), event(1), event(2), event(3, who="mallory"))
    assert faults(forged, neighbour) == [(Fault.ALTERED, 0)]


def test_entry_of_a_side_file_that_was_chained_anew_is_the_same_entry() -> None:
    side = verify_log(log_of(event(7), at=head_of(EARLY)), start=head_of(EARLY))
    merged_early = EARLY + side.entries[0].event.to_line()
    moved = custody.rechain(side.entries[0], head_of(LATE))
    assert faults(LATE + moved, merged_early) == faults(merged_early, LATE + moved) == []


@pytest.mark.parametrize("nothing", [b"", b"junk\n"])
def test_copy_without_an_entry_is_compared_with_nothing(nothing: bytes) -> None:
    assert faults(nothing, EARLY) == faults(EARLY, nothing) == []
