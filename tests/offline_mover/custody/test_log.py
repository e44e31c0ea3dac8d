"""The custody log on real folders: appended to, kept beside, merged, and never in the way."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airgap.custody import MAX_LOG_BYTES, Action, CustodyEvent, EventBody, Fault, line_sha256, verify_log
from airgap.errors import Code
from offline_mover.custody import file as custody_file
from offline_mover.custody import log as custody_log
from offline_mover.custody import side as custody_side
from offline_mover.custody.log import HEAD_NAME, LOG_NAME, event_body, load, merge, record
from offline_mover.medium import file_lock, media_fs, media_identity
from offline_mover.medium.media_identity import MediaIdentity
from tests.bundles import Bundle
from tests.offline_mover.conftest import put_bag

_ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


def body(action: Action = Action.VERIFIED, *, who: str = "olga") -> EventBody:
    return event_body(action, at=NOW, transfer_id="0123456789abcdef", who=who)


class Place:
    """A volume and this machine's folder for side files."""

    def __init__(self, root: Path) -> None:
        self.volume = root / "usb"
        self.side_dir = root / "state"
        self.volume.mkdir()

    @property
    def log(self) -> Path:
        return self.volume / LOG_NAME

    @property
    def head(self) -> Path:
        return self.volume / HEAD_NAME

    def record(self, *, read_only: bool = False, who: str = "olga") -> list[str]:
        return record({self.volume: body(who=who)}, side_dir=self.side_dir, read_only=read_only)

    def load(self) -> custody_log.CustodyLog:
        return load(self.volume, self.side_dir)

    def side_file(self) -> Path:
        (path,) = self.side_dir.iterdir()
        return path

    def told(self) -> tuple[list[str], list[str], list[Fault]]:
        """Who wrote which entry on the volume, who beside it, and what is wrong."""
        log = self.load()
        return (
            [entry.event.body.who for entry in log.entries],
            [entry.event.body.who for entry in log.side],
            [finding.fault for finding in log.findings],
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_volume_that_is_gone_is_kept_beside(place: Place) -> None:
    place.volume.rmdir()
    (warning,) = place.record()
    assert "No such file or directory" in warning
    assert not place.volume.exists()
    assert place.side_file().stat().st_size


@pytest.mark.parametrize("name", [LOG_NAME, HEAD_NAME])
def test_medium_that_does_not_answer_is_not_one_without_a_log(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place.record()
    real = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if path == name:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert place.told()[2] == [Fault.UNREADABLE]


# --- on the medium -----------------------------------------------------------------------------------------


def test_each_command_adds_one_entry_and_moves_the_head(place: Place) -> None:
    for count in (1, 2, 3):
        assert place.record(who=f"w{count}") == []
        last = place.log.read_bytes().splitlines(keepends=True)[-1]
        assert custody_file.read_head(place.volume) == (place.load().head, None)
        assert place.load().head.sha256 == line_sha256(last)
    assert place.told() == (["w1", "w2", "w3"], [], [])
    assert sorted(path.name for path in place.volume.iterdir()) == [HEAD_NAME, LOG_NAME]
    assert not place.side_dir.exists()


def test_entry_says_who_where_and_by_which_volume(place: Place) -> None:
    told = event_body(
        Action.PULLED,
        at=NOW,
        transfer_id="0123456789abcdef",
        manifest_sha256="a" * 64,
        code=Code.PART_CORRUPT,
        counts={"parts": 3},
        volume_number=2,
        volume_count=3,
        who="olga\n",
    )
    record({place.volume: told}, side_dir=place.side_dir)
    (entry,) = place.load().entries
    assert entry.event.body.who == "olga"
    assert entry.event.body.code == "PART_CORRUPT"
    assert entry.event.body.counts == {"parts": 3}
    mark = entry.event.body.volume
    assert mark is not None
    assert (mark.number, mark.of) == (2, 3)


def test_volume_without_a_log_has_no_entries_and_no_fault(place: Place) -> None:
    assert place.told() == ([], [], [])


@pytest.mark.parametrize("cut", [1, 2, 100, -2])
def test_torn_last_line_is_set_aside_and_said(place: Place, cut: int) -> None:
    place.record(who="w1")
    whole = place.log.read_bytes()
    head = place.head.read_bytes()
    place.record(who="lost")
    line = place.log.read_bytes()[len(whole) :]
    place.log.write_bytes(whole + line[:cut])
    place.head.write_bytes(head)
    assert place.told() == (["w1"], [], [Fault.TORN])
    assert place.record(who="w2") == []
    assert place.told() == (["w1", "w2"], [], [])
    assert place.log.read_bytes().startswith(whole)
    assert place.load().entries[-1].event.body.counts == {"tornBytes": len(line[:cut])}


def test_last_line_that_lost_only_its_end_is_kept(place: Place) -> None:
    place.record(who="w1")
    place.record(who="w2")
    place.log.write_bytes(place.log.read_bytes()[:-1])
    assert place.told() == (["w1", "w2"], [], [Fault.TORN])
    assert place.record(who="w3") == []
    assert place.told() == (["w1", "w2", "w3"], [], [])


def test_log_ahead_of_its_head_is_what_a_crash_leaves(place: Place) -> None:
    place.record(who="w1")
    head = place.head.read_bytes()
    place.record(who="w2")
    place.head.write_bytes(head)
    assert place.told() == (["w1", "w2"], [], [])
    assert place.record(who="w3") == []
    assert place.told() == (["w1", "w2", "w3"], [], [])


def test_crash_before_the_very_first_head_file(place: Place) -> None:
    place.record(who="w1")
    place.head.unlink()
    assert place.told() == (["w1"], [], [])


def test_cut_tail_is_told_at_the_next_command_and_stays_visible(place: Place) -> None:
    for who in ("w1", "w2", "w3"):
        place.record(who=who)
    lines = place.log.read_bytes().splitlines(keepends=True)
    place.log.write_bytes(b"".join(lines[:1]))
    assert place.told()[2] == [Fault.CUT]
    (warning,) = place.record(who="w4")
    assert "cut short" in warning
    assert place.record(who="w5") == []
    assert place.told() == (["w1", "w4", "w5"], [], [Fault.REMOVED])


@pytest.mark.parametrize("content", [None, b"{}"])
def test_head_file_that_was_taken_is_told_and_put_on_record(place: Place, content: bytes | None) -> None:
    for who in ("w1", "w2"):
        place.record(who=who)
    place.head.unlink()
    if content is not None:
        place.head.write_bytes(content)
    assert place.told()[2] == [Fault.HEAD_MISSING if content is None else Fault.HEAD_MALFORMED]
    assert len(place.record(who="w3")) == 1
    assert place.load().entries[-1].event.body.counts == {"headLost": 1}


def test_log_that_was_removed_whole_is_found_by_its_head(place: Place) -> None:
    place.record()
    place.log.unlink()
    assert place.told() == ([], [], [Fault.CUT])


def test_link_in_place_of_the_log_is_not_written_through(place: Place, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious\n")
    place.log.symlink_to(victim)
    (warning,) = place.record()
    assert "symbolic link" in warning
    assert victim.read_bytes() == b"precious\n"
    assert place.told()[2] == [Fault.MALFORMED]


def test_device_in_place_of_the_log_does_not_block(place: Place) -> None:
    os.mkfifo(place.log)
    (warning,) = place.record()
    assert "not a regular file" in warning
    assert place.told()[2] == [Fault.MALFORMED]


def test_log_too_large_to_be_read_is_left_alone(place: Place) -> None:
    with place.log.open("wb") as file:
        file.truncate(MAX_LOG_BYTES + 1)
    (warning,) = place.record()
    assert "kept in" in warning
    assert place.told()[2] == [Fault.TOO_LARGE]


def test_full_log_is_kept_beside(place: Place) -> None:
    place.record()
    room = MAX_LOG_BYTES - place.log.stat().st_size
    with place.log.open("ab") as file:
        file.write(b"x" * (room - 1) + b"\n")
    (warning,) = place.record()
    assert "cannot grow" in warning
    assert place.log.stat().st_size == MAX_LOG_BYTES


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_append_that_fails_leaves_the_log_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    place.record(who="w1")
    before = place.log.read_bytes()
    real_write, real_fsync, calls = os.write, os.fsync, [0]

    def write(descriptor: int, content: memoryview) -> int:
        calls[0] += 1
        if failing == "write" and calls[0] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, content[:100] if failing == "write" else content)

    def fsync(descriptor: int) -> None:
        if failing == "fsync":
            raise OSError(errno.EIO, "Input/output error")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "fsync", fsync)
    warnings = place.record(who="w2")
    monkeypatch.undo()
    assert len(warnings) == 1
    assert place.log.read_bytes() == before


def test_head_that_cannot_be_written_is_only_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(media_fs, "write_durably", refuse)
        (warning,) = place.record(who="w1")
    assert HEAD_NAME in warning
    assert place.record(who="w2") == []
    assert place.told() == (["w1", "w2"], [], [])


def test_nothing_can_be_written_anywhere(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place.log.mkdir()
    place.side_dir = tmp_path / "file" / "state"
    (warning,) = place.record()
    assert "in no custody log" in warning


def test_user_without_a_home_is_told_of_the_option(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody_side, "default_side_dir", lambda: None)
    (warning,) = record({place.volume: body()}, read_only=True)
    assert "--custody-dir" in warning
    assert load(place.volume).findings == ()


# --- beside it ---------------------------------------------------------------------------------------------


def test_read_only_leaves_the_medium_alone_and_the_event_is_merged_later(place: Place) -> None:
    place.record(who="w1")
    before = {path.name: path.read_bytes() for path in place.volume.iterdir()}
    assert place.record(who="w2", read_only=True) == []
    assert place.record(who="w3", read_only=True) == []
    assert {path.name: path.read_bytes() for path in place.volume.iterdir()} == before
    assert place.told() == (["w1"], ["w2", "w3"], [])
    beside = place.side_file().read_bytes()
    assert place.record(who="w4") == []
    assert place.told() == (["w1", "w2", "w3", "w4"], [], [])
    assert place.log.read_bytes().startswith(before[LOG_NAME] + beside)
    assert place.side_file().read_bytes() == b""


def test_merge_brings_side_events_and_says_who_did(place: Place) -> None:
    place.record(who="w1")
    place.record(who="w2", read_only=True)
    assert merge(place.volume, body(Action.MERGED, who="w3"), side_dir=place.side_dir) == []
    assert place.told() == (["w1", "w2", "w3"], [], [])
    assert place.load().entries[-1].event.body.action is Action.MERGED
    assert merge(place.volume, body(Action.MERGED, who="w4"), side_dir=place.side_dir) == []
    assert place.told() == (["w1", "w2", "w3"], [], [])


def test_write_protected_disc_without_a_log_begins_one_beside(place: Place) -> None:
    for who in ("w1", "w2"):
        place.record(who=who, read_only=True)
    assert place.told() == ([], ["w1", "w2"], [])
    place.record(who="w3")
    assert place.told() == (["w1", "w2", "w3"], [], [])
    assert CustodyEvent.from_line(place.log.read_bytes().splitlines(keepends=True)[0]).number == 1


def test_side_events_of_two_machines_are_chained_one_after_the_other(place: Place, tmp_path: Path) -> None:
    place.record(who="w1")
    place.record(who="here", read_only=True)
    recorded = place.side_file().read_bytes()
    record({place.volume: body(who="there")}, side_dir=tmp_path / "other machine")
    assert place.told() == (["w1", "there"], ["here"], [])
    chained = verify_log(place.load().chained)
    assert [entry.event.body.who for entry in chained.entries] == ["w1", "there", "here"]
    assert chained.findings == ()
    assert place.record(who="w2") == []
    assert place.told() == (["w1", "there", "here", "w2"], [], [])
    moved = place.load().entries[2].event
    assert (moved.number, moved.recorded_as) == (3, line_sha256(recorded))


@pytest.mark.parametrize("is_chained_anew", [False, True])
def test_merge_that_was_cut_short_is_not_done_twice(
    place: Place, tmp_path: Path, *, is_chained_anew: bool
) -> None:
    place.record(who="w1")
    place.record(who="w2", read_only=True)
    path, recorded = place.side_file(), place.side_file().read_bytes()
    if is_chained_anew:
        record({place.volume: body(who="there")}, side_dir=tmp_path / "other machine")
    place.record(who="w3")
    path.write_bytes(recorded)  # as if the power had gone before the side file was cleared
    before = place.told()
    assert before[1:] == ([], [])
    place.record(who="w4")
    assert place.told() == ([*before[0], "w4"], [], [])


def test_side_file_that_knows_entries_the_log_lost_shows_the_cut(place: Place) -> None:
    for who in ("w1", "w2"):
        place.record(who=who)
    place.record(who="w3", read_only=True)
    lines = place.log.read_bytes().splitlines(keepends=True)
    place.log.write_bytes(lines[0])
    place.head.unlink()  # even where the attacker took the head file too
    assert place.told() == (["w1"], [], [Fault.CUT])
    beside = place.side_file().read_bytes()
    place.record(who="w4")
    assert place.side_file().read_bytes() == beside
    assert place.told()[2] == [Fault.CUT]


def test_side_file_of_another_log_with_that_serial_is_reported_not_merged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_identity, "describe", lambda _: MediaIdentity(label="RED", serial="1A2B-3C4D"))
    place.record(who="w1")
    place.record(who="w2", read_only=True)
    assert place.side_file().name.startswith("1A2B-3C4D.")
    for path in (place.log, place.head):
        path.unlink()
    place.record(who="w3")
    assert place.told() == (["w3"], [], [Fault.STRAY])
    assert place.side_file().stat().st_size


@pytest.mark.parametrize("has_log", [True, False])
def test_chosen_serial_neither_attaches_nor_takes_away_anothers_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: Bundle, *, has_log: bool
) -> None:
    monkeypatch.setattr(media_identity, "describe", lambda _: MediaIdentity(serial="1A2B-3C4D"))
    disc, forged = Place(tmp_path), tmp_path / "forged"
    forged.mkdir()
    put_bag(disc.volume, sealed, "0123456789abcdef", "1 of 2")
    put_bag(forged, sealed, "0123456789abcdef", "2 of 2")
    if has_log:
        disc.record(who="w1")
    disc.record(who="olga", read_only=True)
    beside = disc.side_file().read_bytes()
    found = load(forged, disc.side_dir)
    assert (found.side, [finding.fault for finding in found.findings]) == ((), [Fault.STRAY])
    record({forged: body(who="mallory")}, side_dir=disc.side_dir)
    assert disc.side_file().read_bytes() == beside
    assert disc.told()[1:] == (["olga"], [])


def test_history_of_a_write_protected_disc_is_found_though_its_serial_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: Bundle
) -> None:
    disc = Place(tmp_path)
    put_bag(disc.volume, sealed, "0123456789abcdef", "1 of 2")
    for serial in ("1A2B-3C4D", "5E6F-7A8B"):
        monkeypatch.setattr(media_identity, "describe", lambda _, serial=serial: MediaIdentity(serial=serial))
        disc.record(who=serial[:4], read_only=True)
    assert disc.told() == ([], ["1A2B", "5E6F"], [])


def test_side_file_that_was_altered_is_not_merged(place: Place) -> None:
    place.record(who="w1")
    for who in ("w2", "w3"):
        place.record(who=who, read_only=True)
    path = place.side_file()
    path.write_bytes(path.read_bytes().replace(b'"w2"', b'"xx"'))
    place.record(who="w4")
    assert place.told() == (["w1", "w4"], [], [Fault.STRAY])


def test_side_file_torn_by_a_power_cut_goes_on(place: Place) -> None:
    for who in ("w1", "w2"):
        place.record(who=who, read_only=True)
    path = place.side_file()
    path.write_bytes(path.read_bytes()[:-10])
    place.record(who="w3", read_only=True)
    assert place.told() == ([], ["w1", "w3"], [])


def test_side_file_that_cannot_be_opened_does_not_keep_the_event_off_the_medium(place: Place) -> None:
    place.record(who="w1")
    place.record(who="w2", read_only=True)
    path = place.side_file()
    path.unlink()
    path.mkdir()
    assert place.record(who="w3") == []
    assert place.told() == (["w1", "w3"], [], [Fault.UNREADABLE])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/s"}, "/s/offline-mover/custody"),
        ({"XDG_STATE_HOME": "relative"}, "/h/.local/state/offline-mover/custody"),
        ({}, "/h/.local/state/offline-mover/custody"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the rules of Linux")
def test_side_files_have_their_place(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], expected: str
) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert custody_side.default_side_dir(environment) == Path(expected)


# --- the power goes ----------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """Nothing of the program runs after it."""


def cut_power_at(step: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Let the calls that change a medium work up to ``step``; a write before the end comes to half."""
    count = [0]

    def cutting(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            count[0] += 1
            if count[0] == step:
                raise PowerCut
            return real(*arguments, **options)

        return call

    real_write = os.write

    def write(descriptor: int, content: memoryview) -> int:
        count[0] += 1
        if count[0] == step:
            real_write(descriptor, content[: len(content) // 2])
            raise PowerCut
        return real_write(descriptor, content)

    patch.setattr(os, "write", write)
    for name in ("fsync", "ftruncate", "open"):
        patch.setattr(os, name, cutting(getattr(os, name)))
    patch.setattr(Path, "replace", cutting(Path.replace))
    return count


def test_power_cut_at_any_step_loses_no_event_and_doubles_none(tmp_path: Path) -> None:
    for step in range(1, 100):
        root = tmp_path / str(step)
        root.mkdir()
        place = Place(root)
        place.record(who="w1")
        place.record(who="side", read_only=True)
        record({place.volume: body(who="there")}, side_dir=root / "other machine")
        with pytest.MonkeyPatch.context() as patch:
            count = cut_power_at(step, patch)
            with suppress(PowerCut):
                place.record(who="w2")
        names, beside, found = place.told()
        assert set(found) <= {Fault.TORN}, step
        assert [*names, *beside].count("side") == 1, step
        assert place.record(who="w3") == []
        names, beside, found = place.told()
        assert names in (["w1", "there", "side", "w2", "w3"], ["w1", "there", "side", "w3"]), step
        assert (beside, found) == ([], []), step
        if count[0] < step:
            assert step > 10
            return
    pytest.fail("it never came to an end")


# --- several at once ---------------------------------------------------------------------------------------


def test_volumes_of_one_command_name_each_others_heads(tmp_path: Path) -> None:
    volumes = [tmp_path / name for name in "abc"]
    for volume in volumes:
        volume.mkdir()
    for _ in range(2):
        assert record(dict.fromkeys(volumes, body()), side_dir=tmp_path / "state") == []
    logs = [load(volume, tmp_path / "state") for volume in volumes]
    seen = [
        [(sight.log_sha256, sight.head.count) for sight in entry.event.seen]
        for log in logs
        for entry in log.entries
    ]
    a, b, c = (log.log_sha256 for log in logs)
    assert seen == [[], [(c, 1), (b, 1)], [(a, 1)], [(a, 2), (c, 1)], [(b, 1), (a, 1)], [(b, 2), (a, 2)]]


_APPEND = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from airgap.custody import Action
from offline_mover.custody.log import event_body, record
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    body = event_body(Action.VERIFIED, at=datetime.now(UTC), who=sys.argv[3])
    print(record({Path(sys.argv[1]): body}, side_dir=Path(sys.argv[1]) / "state"))
"""


def _run(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ended(processes: Iterable[subprocess.Popen[str]]) -> Iterator[str]:
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        yield said


def test_two_processes_at_once_make_one_chain(place: Place) -> None:
    processes = [_run(_APPEND, str(place.volume), "15", who) for who in ("w1", "w2")]
    for process in processes:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert list(_ended(processes)) == ["[]\n" * 15] * 2
    names, side, found = place.told()
    assert (sorted(names), side, found) == (["w1"] * 15 + ["w2"] * 15, [], [])


def test_log_that_somebody_else_keeps_locked_is_waited_for_within_bounds(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.record(who="w1")
    monkeypatch.setattr(custody_file, "LOCK_WAIT_S", 0.0)
    with custody_file.open_log(place.log):
        (warning,) = place.record(who="w2")
    assert "another program is writing" in warning
    assert place.told() == (["w1"], ["w2"], [])


def test_file_system_without_locks_is_written_without(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert place.record(who="w1") == []
    with file_lock.exclusive_lock(0, wait_s=0):
        pass
    assert place.told() == (["w1"], [], [])


# --- media that really cannot be written -------------------------------------------------------------------

_ON_MOUNT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from airgap.custody import Action
from offline_mover.custody.log import event_body, load, record
volume, side = Path(sys.argv[1]), Path(sys.argv[2])
told = set()
for number in range(12):
    body = event_body(Action.VERIFIED, at=datetime.now(UTC), who=f"w{number}")
    told |= {line.split(": ", 1)[1].split(str(side))[0] for line in record({volume: body}, side_dir=side)}
log = load(volume, side)
names = [entry.event.body.who for entry in (*log.entries, *log.side)]
print(sorted(told))
print(len(log.side) > 0, names == ["before", *(f"w{number}" for number in range(12))], log.findings)
"""


def _on_mount(place: Place, mount: str) -> list[str]:
    """Run some commands where ``mount`` was done to ``$1``, in a namespace of their own."""
    arguments = [str(place.volume), sys.executable, _ON_MOUNT, str(place.side_dir)]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$2" -c "$3" "$1" "$4"', "sh", *arguments],  # noqa: S607 - PATH
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces to mount a volume")
def test_volume_mounted_read_only_is_kept_beside_and_merged_when_it_is_writable(place: Place) -> None:
    place.record(who="before")
    assert _on_mount(place, 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"') == [
        "['the custody log cannot be written (Read-only file system); kept in ']",
        "True True ()",
    ]
    assert place.record(who="after") == []
    assert place.told() == (["before", *(f"w{number}" for number in range(12)), "after"], [], [])


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces to mount a volume")
def test_volume_that_fills_up_in_the_middle_of_a_line_keeps_whole_lines_only(place: Place) -> None:
    place.record(who="before")
    small = (
        'cp -r "$1" "$1.kept" && mount -t tmpfs -o size=64k none "$1" && cp "$1.kept"/* "$1"',
        '{ cat /dev/zero > "$1/filling" 2>/dev/null || true; }',
    )
    told, state = _on_mount(place, " && ".join(small))
    assert "the custody log cannot be written (No space left on device); kept in " in told
    assert state == "True True ()"


class Msvcrt:
    """Windows' locks on a range of bytes, of one other holder."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self, *, is_free: bool) -> None:
        self.is_free = is_free
        self.calls: list[tuple[int, int, int]] = []

    def locking(self, descriptor: int, mode: int, size: int) -> None:
        self.calls.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, size))
        if not self.is_free:
            raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("is_free", [True, False])
def test_windows_locks_one_byte_far_behind_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_free: bool
) -> None:
    msvcrt = Msvcrt(is_free=is_free)
    windows = SimpleNamespace(name="nt", lseek=os.lseek, SEEK_SET=os.SEEK_SET)
    monkeypatch.setattr(file_lock, "os", windows)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    with (tmp_path / "log").open("wb") as file:
        if is_free:
            with file_lock.exclusive_lock(file.fileno(), wait_s=0):
                pass
            assert msvcrt.calls == [(2**30, 2, 1), (2**30, 0, 1)]
        else:
            with pytest.raises(TimeoutError), file_lock.exclusive_lock(file.fileno(), wait_s=0):
                pass
            assert msvcrt.calls == [(2**30, 2, 1)]
