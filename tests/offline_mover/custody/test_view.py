"""``custody show`` and ``custody verify``: volumes judged by themselves and by each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.custody import GENESIS, Action, CustodyEvent, Fault, Head, SeenLog, chain, line_sha256
from airgap.errors import Code, MediaError
from airgap.strict_json import dump_canonical
from offline_mover.commands import custody
from offline_mover.custody import view as custody_view
from offline_mover.custody.log import HEAD_NAME, LOG_NAME, event_body, record
from offline_mover.custody.view import CustodyView
from offline_mover.medium import media_identity
from offline_mover.medium.media_identity import MediaIdentity
from tests.bundles import Bundle
from tests.offline_mover.conftest import put_bag

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


class Shelf:
    """Three volumes that were together in three commands."""

    def __init__(self, root: Path) -> None:
        self.side_dir = root / "state"
        self.volumes = [root / name for name in ("red", "green", "blue")]
        for volume in self.volumes:
            volume.mkdir()
        for _ in range(3):
            self.record(*self.volumes)

    def record(self, *volumes: Path, read_only: bool = False, who: str = "olga") -> None:
        told = event_body(
            Action.VERIFIED, at=NOW, transfer_id="0123456789abcdef", counts={"parts": 4}, who=who
        )
        assert record(dict.fromkeys(volumes, told), side_dir=self.side_dir, read_only=read_only) == []

    def verify(self, *volumes: Path) -> CustodyView:
        return custody_view.judge(volumes or self.volumes, side_dir=self.side_dir)


def rewrite(volume: Path, change: Callable[[list[CustodyEvent]], list[CustodyEvent]]) -> None:
    """What an attacker does who may write all of the medium: chain and head file computed anew."""
    lines = (volume / LOG_NAME).read_bytes().splitlines(keepends=True)
    at, forged = GENESIS, b""
    for event in change([CustodyEvent.from_line(line) for line in lines]):
        line = chain(event.body, at, seen=event.seen)
        at = Head(count=at.count + 1, sha256=line_sha256(line))
        forged += line
    (volume / LOG_NAME).write_bytes(forged)
    (volume / HEAD_NAME).write_bytes(at.to_bytes())


def faults(view: CustodyView) -> list[list[tuple[Fault, int]]]:
    return [[(finding.fault, finding.line) for finding in volume.findings] for volume in view.volumes]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_volumes_that_nobody_touched_vouch_for_each_other(shelf: Shelf) -> None:
    view = shelf.verify()
    assert (view.code, view.absent_logs) == (None, 0)
    assert faults(view) == [[], [], []]
    assert [volume.vouched_count for volume in view.volumes] == [3, 3, 2]


def test_tail_cut_with_its_head_file_is_found_by_the_neighbours(shelf: Shelf) -> None:
    red = shelf.volumes[0]
    rewrite(red, lambda events: events[:1])
    assert shelf.verify(red).code is None  # alone, nothing shows it
    view = shelf.verify()
    assert view.code is Code.CUSTODY_BROKEN
    assert set(faults(view)[0]) == {(Fault.CUT, 2)}
    assert faults(view)[1:] == [[], []]


def test_entry_altered_and_all_computed_anew_is_found_by_the_neighbours(shelf: Shelf) -> None:
    green = shelf.volumes[1]
    forged = event_body(Action.PULLED, at=NOW, who="mallory")

    def forge(events: list[CustodyEvent]) -> list[CustodyEvent]:
        return [events[0], CustodyEvent(number=2, previous_sha256="0" * 64, body=forged), events[2]]

    rewrite(green, forge)
    assert shelf.verify(green).code is None
    view = shelf.verify()
    assert view.code is Code.CUSTODY_BROKEN
    assert {fault for fault, _ in faults(view)[1]} == {Fault.ALTERED}
    assert {line for _, line in faults(view)[1]} == {2, 3}


@pytest.mark.parametrize("is_gone", [True, False])
def test_log_begun_anew_is_found_by_the_serial_that_the_neighbours_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    monkeypatch.setattr(
        media_identity, "describe", lambda path: MediaIdentity(label=path.name, serial=f"S-{path.name}")
    )
    shelf = Shelf(tmp_path)
    blue = shelf.volumes[2]
    for name in (LOG_NAME, HEAD_NAME):
        (blue / name).unlink()
    if not is_gone:
        shelf.record(blue)
    view = shelf.verify()
    assert view.code is Code.CUSTODY_BROKEN
    assert set(faults(view)[2]) == {(Fault.REPLACED, 0)}
    assert faults(view)[:2] == [[], []]


def numbered(*volumes: Path, side_dir: Path, of: int = 3) -> None:
    """One command on volumes that say which of the transfer's they are, as ``verify`` finds out."""
    bodies = {
        volume: event_body(
            Action.VERIFIED, at=NOW, transfer_id="0123456789abcdef", volume_number=number, volume_count=of
        )
        for number, volume in enumerate(volumes, 1)
    }
    assert record(bodies, side_dir=side_dir) == []


def forget(volume: Path) -> None:
    for name in (LOG_NAME, HEAD_NAME):
        (volume / name).unlink()


@pytest.mark.parametrize("serial", ["none", "another"])
def test_log_begun_anew_is_found_by_the_place_that_the_neighbours_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: Bundle, serial: str
) -> None:
    shelf = Shelf(tmp_path)
    numbered(*shelf.volumes, side_dir=shelf.side_dir)
    blue = shelf.volumes[2]
    forget(blue)
    if serial == "another":
        monkeypatch.setattr(media_identity, "describe", lambda path: MediaIdentity(serial=f"N-{path.name}"))
    shelf.record(blue, who="mallory")
    put_bag(blue, sealed, "0123456789abcdef", "3 of 3")
    view = shelf.verify()
    assert view.code is Code.CUSTODY_BROKEN
    assert {fault for fault, _ in faults(view)[2]} == {Fault.REPLACED}
    assert faults(view)[:2] == [[], []]
    assert any("another log of this volume (3 of 3" in finding.detail for finding in view.volumes[2].findings)
    assert "(not believed)" in "\n".join(view.volumes[2].lines(with_entries=True))
    assert "(not believed)" not in "\n".join(view.volumes[0].lines(with_entries=True))


def test_log_that_was_taken_away_is_missed_where_the_volume_still_says_which_it_is(
    shelf: Shelf, sealed: Bundle
) -> None:
    numbered(*shelf.volumes, side_dir=shelf.side_dir)
    forget(shelf.volumes[2])
    put_bag(shelf.volumes[2], sealed, "0123456789abcdef", "3 of 3")
    assert shelf.verify().code is Code.CUSTODY_BROKEN


@pytest.mark.parametrize(
    ("transfer", "place"), [("0123456789abcdef", "2 of 2"), ("fedcba9876543210", "1 of 2")]
)
def test_another_volume_of_the_transfer_and_one_of_another_are_not_accused(
    tmp_path: Path, sealed: Bundle, transfer: str, place: str
) -> None:
    red, lost, other = (tmp_path / name for name in ("red", "lost", "other"))
    for volume in (red, lost, other):
        volume.mkdir()
    numbered(lost, red, side_dir=tmp_path / "state", of=3)
    put_bag(other, sealed, transfer, place)
    told = event_body(
        Action.PULLED, at=NOW, transfer_id=transfer, volume_number=int(place[0]), volume_count=2
    )
    assert record({other: told}, side_dir=tmp_path / "state") == []
    view = custody_view.judge([red, other], side_dir=tmp_path / "state")
    assert (view.code, view.absent_logs) == (None, 1)


def test_spare_copy_of_a_volume_is_not_accused_where_both_were_seen_together(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    red, green, blue = shelf.volumes
    told = {
        volume: event_body(
            Action.VERIFIED, at=NOW, transfer_id="0123456789abcdef", volume_number=number, volume_count=2
        )
        for volume, number in ((red, 1), (green, 2), (blue, 2))
    }
    assert record(told, side_dir=shelf.side_dir) == []
    assert shelf.verify(red, green).code is None


def test_copied_media_that_share_a_serial_do_not_accuse_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_identity, "describe", lambda _: MediaIdentity(serial="SAME"))
    shelf = Shelf(tmp_path)
    assert shelf.verify().code is None
    assert faults(shelf.verify(*shelf.volumes[:2])) == [[], []]


def test_volume_that_is_not_here_is_asked_for(shelf: Shelf) -> None:
    view = shelf.verify(*shelf.volumes[:2])
    assert (view.code, view.absent_logs) == (None, 1)
    assert "logs that these know of and that were not seen: 1." in view.next_step


def test_volume_named_twice_does_not_vouch_for_itself(shelf: Shelf) -> None:
    red = shelf.volumes[0]
    view = shelf.verify(red, red / ".." / "red")
    assert [volume.vouched_count for volume in view.volumes] == [0]


def test_volume_that_names_its_own_log_does_not_vouch_for_itself(shelf: Shelf) -> None:
    red = shelf.volumes[0]
    own = line_sha256((red / LOG_NAME).read_bytes().splitlines(keepends=True)[0])
    sight = SeenLog(log_sha256=own, head=Head(count=1, sha256=own), volume=None)
    rewrite(red, lambda events: [*events[:2], replace(events[2], seen=(sight,))])
    view = shelf.verify(red)
    assert (view.code, view.absent_logs) == (None, 2)
    assert [volume.vouched_count for volume in view.volumes] == [0]


def test_volumes_without_serials_are_not_taken_for_each_other(shelf: Shelf, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shelf.record(other)
    view = shelf.verify(shelf.volumes[0], other)
    assert (view.code, view.absent_logs) == (None, 2)


def test_volume_without_a_log_is_not_called_well(shelf: Shelf, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    view = shelf.verify(*shelf.volumes, bare)
    assert view.code is Code.CUSTODY_MISSING
    assert str(bare) in view.verdict


def test_missing_volume_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        custody_view.judge([tmp_path / "none"])
    assert caught.value.code is Code.VOLUME_NOT_FOUND


def test_torn_line_is_told_but_is_no_tampering(shelf: Shelf) -> None:
    with (shelf.volumes[0] / LOG_NAME).open("ab") as file:
        file.write(b'{"at":"20')
    view = shelf.verify()
    assert view.code is None
    assert "when the power went" in view.verdict
    assert faults(view) == [[(Fault.TORN, 4)], [], []]


def test_line_of_a_newer_tool_is_told_but_is_no_tampering(shelf: Shelf) -> None:
    log, head = shelf.volumes[0] / LOG_NAME, shelf.volumes[0] / HEAD_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    event = json.loads(lines[-1]) | {"number": 4, "previous": line_sha256(lines[-1]), "event": "teleported"}
    lines.append(dump_canonical(event) + b"\n")
    log.write_bytes(b"".join(lines))
    head.write_bytes(Head(count=4, sha256=line_sha256(lines[-1])).to_bytes())
    view = shelf.verify()
    assert (view.code, faults(view)) == (None, [[(Fault.NEWER, 4)], [], []])
    assert "; written by a newer tool, which can tell more of them: 1" in view.verdict
    told = "\n".join(custody.show(shelf.volumes, side_dir=shelf.side_dir).lines)
    assert "teleported" in told


def test_log_that_cannot_be_read_is_not_called_tampered_with(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise MediaError(Code.MEDIA_UNREADABLE, "custody-log.jsonl: Input/output error")

    monkeypatch.setattr("offline_mover.custody.log.read_log", refuse)
    view = shelf.verify()
    assert view.code is Code.MEDIA_UNREADABLE


def test_show_tells_a_person_everything_in_order(shelf: Shelf) -> None:
    red = shelf.volumes[0]
    assert shelf.verify(red).verdict == "3 entries on 1 volume: 1 unbroken chain"
    shelf.record(red, read_only=True, who="piet")
    lines = custody.show([red], side_dir=shelf.side_dir).lines
    assert lines[0] == f"{red}: 3 entries, 1 more on this machine only"
    assert lines[1].startswith("     1  2026-01-31T08:00:00Z  verified")
    assert "OK  olga@" in lines[1]
    assert "transfer 0123456789abcdef  parts 4" in lines[1]
    assert "piet@" in lines[4]
    assert lines[4].endswith("(on this machine only)")
    assert lines[5].startswith("  last line's SHA-256: ")


def test_show_and_verify_tell_a_program_the_same(shelf: Shelf) -> None:
    red = shelf.volumes[0]
    rewrite(red, lambda events: events[:1])
    told = json.loads(json.dumps(custody.show(shelf.volumes, side_dir=shelf.side_dir).to_json()))
    assert (told["command"], told["code"], told["exitCode"]) == ("custody show", "CUSTODY_BROKEN", 28)
    assert told["volumes"][0]["entries"][0]["who"] == "olga"
    assert told["volumes"][0]["findings"][0]["fault"] == "cut"
    verified = custody.verify(shelf.volumes, side_dir=shelf.side_dir).to_json()
    assert verified["command"] == "custody verify"
    assert [volume["findings"] for volume in verified["volumes"]] == [
        volume["findings"] for volume in told["volumes"]
    ]
    assert "entries" not in verified["volumes"][0]


def test_finding_is_told_to_a_person_with_its_line(shelf: Shelf) -> None:
    log = shelf.volumes[0] / LOG_NAME
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[2])
    assert (
        "  REMOVED  line 2: entries missing before it, after entry 1: 1"
        in custody.verify(shelf.volumes, side_dir=shelf.side_dir).lines
    )
