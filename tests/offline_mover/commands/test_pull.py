from __future__ import annotations

import os
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.errors import AirgapError, Code, ServiceError
from airgap.manifest import ENVELOPE_NAME
from offline_mover.commands.pull import pull
from offline_mover.medium import media_fs
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import PullOrder
from tests.bundles import make_bundle, new_key
from tests.offline_mover.conftest import Bench, flip
from tests.offline_mover.memory_container import HeldBlob, MemoryContainer


def refusal(bench: Bench, source: MemoryContainer) -> Code:
    with pytest.raises(AirgapError) as caught:
        bench.pull(source)
    return caught.value.code


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def snapshot(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in files(folder)}


def test_pull_writes_exactly_the_bag(empty: Bench) -> None:
    outcome = empty.pull()
    assert (outcome.code, outcome.counts["fetchedParts"]) == (None, 4)
    for part in empty.bundle.parts:
        assert empty.part(part.name).read_bytes() == empty.bundle.part_bytes(part)
    assert files(empty.volume) == {
        *(f"{empty.bundle.transfer_id}/data/{part.name}" for part in empty.bundle.parts),
        *(f"{empty.bundle.transfer_id}/{name}" for name in ("bagit.txt", "bag-info.txt")),
        *(f"{empty.bundle.transfer_id}/{m}-sha256.txt" for m in ("manifest", "tagmanifest")),
        f"{empty.bundle.transfer_id}/{ENVELOPE_NAME}",
    }
    assert empty.verify().code is None


def test_second_pull_fetches_nothing_and_writes_nothing(loaded: Bench) -> None:
    before = snapshot(loaded.volume)
    source = MemoryContainer.holding(loaded.bundle)
    outcome = loaded.pull(source)
    assert (outcome.code, outcome.counts["fetchedParts"], outcome.counts["keptParts"]) == (None, 0, 4)
    assert source.count("read_range") == 0
    assert snapshot(loaded.volume) == before


def test_pull_repairs_what_is_damaged_and_only_that(loaded: Bench) -> None:
    flip(loaded.part("001/00000001.part"))
    os.truncate(loaded.part("002/00000001.part"), 1)
    (loaded.bag / "bag-info.txt").write_text("nonsense")
    source = MemoryContainer.holding(loaded.bundle)
    outcome = loaded.pull(source)
    assert (outcome.code, outcome.counts["fetchedParts"]) == (None, 2)
    assert source.count("read_range") == 2
    assert loaded.verify().code is None


def test_part_that_is_left_alone_comes_over_two_connections_at_once(loaded: Bench) -> None:
    flip(loaded.part("001/00000001.part"))
    source = MemoryContainer.holding(loaded.bundle)
    meeting = threading.Barrier(2)

    def meet(method: str, _: str) -> None:
        if method == "read_range":
            meeting.wait(timeout=10)

    source.before = meet
    outcome = loaded.pull(source)
    assert (outcome.code, outcome.counts["fetchedParts"], source.count("read_range")) == (None, 1, 2)
    assert loaded.verify().code is None


def test_parts_that_are_as_many_as_connections_come_by_one_request_each(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)
    assert empty.pull(source, concurrency=4).code is None
    assert source.count("read_range") == 4


@pytest.mark.parametrize("broken", [1, 2])
def test_range_that_fails_fails_the_pull_and_leaves_nothing_of_its_part(loaded: Bench, broken: int) -> None:
    flip(loaded.part("001/00000001.part"))
    source = MemoryContainer.holding(loaded.bundle)

    def fail(method: str, name: str) -> None:
        if method == "read_range" and source.calls[method, name] == broken:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "gone")

    source.before = fail
    with pytest.raises(ServiceError):
        loaded.pull(source)
    assert not [name for name in files(loaded.volume) if name.endswith("001/00000001.part")]
    assert loaded.pull().code is None


def test_interrupted_pull_keeps_whole_parts_and_never_looks_complete(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)

    def unplug(method: str, _name: str) -> None:
        if source.count("read_range") >= 3 and method == "read_piece":  # a stick once pulled stays pulled
            raise KeyboardInterrupt

    source.before = unplug
    with pytest.raises(KeyboardInterrupt):
        empty.pull(source, concurrency=1)
    assert not (empty.bag / ENVELOPE_NAME).exists()
    assert files(empty.bag / "data") == {"001/00000001.part", "001/00000002.part"}
    again = MemoryContainer.holding(empty.bundle)
    assert empty.pull(again).counts["fetchedParts"] == 2
    assert again.count("read_range") == 2


def test_leftovers_of_a_killed_pull_are_removed(empty: Bench) -> None:
    folder = empty.bag / "data" / "001"
    folder.mkdir(parents=True)
    (folder / "00000002.part.partial").write_bytes(b"half")
    (empty.bag / f"{ENVELOPE_NAME}.partial").write_bytes(b"half")
    assert empty.pull().code is None
    assert not [name for name in files(empty.volume) if name.endswith(".partial")]
    (folder / "00000001.part.partial").write_bytes(b"of a part that is whole, and not written again")
    assert empty.pull().counts["fetchedParts"] == 0
    assert not [name for name in files(empty.volume) if name.endswith(".partial")]


def test_leftovers_of_a_killed_pull_give_their_room_back_and_are_named(
    empty: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stick that the bundle just fits on is full of half-written files."""
    needed = 0
    folder = empty.bag / "data" / "001"
    folder.mkdir(parents=True)
    for number in (1, 2):
        needed += (folder / f"0000000{number}.part.partial").write_bytes(bytes(4 * 2**20))
    usage = shutil.disk_usage(empty.volume)
    room = empty.bundle.manifest.size_bytes + 4 * 2**20 - needed
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=room))
    outcome = empty.pull()
    assert outcome.code is None
    assert outcome.facts["removed"] == ["data/001/00000001.part.partial", "data/001/00000002.part.partial"]
    assert outcome.lines[0] == f"{empty.volume}: removed 2 half-written files of an earlier run, 8.4 MB"


def test_bundle_by_an_unknown_key_writes_nothing(empty: Bench) -> None:
    stranger = make_bundle(keys=[new_key()])
    assert refusal(empty, MemoryContainer.holding(stranger)) is Code.SIGNER_UNKNOWN
    assert files(empty.volume) == set()
    assert not empty.bag.exists()


def test_bundle_manifest_of_100_mb_is_refused(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)
    source.blobs[f"{empty.bundle.transfer_id}/{ENVELOPE_NAME}"] = HeldBlob(content=bytes(100_000_000))
    assert refusal(empty, source) is Code.TOO_LARGE


def test_transfer_that_is_not_sealed_is_not_found(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)
    del source.blobs[f"{empty.bundle.transfer_id}/{ENVELOPE_NAME}"]
    assert refusal(empty, source) is Code.NOT_FOUND


def test_bundle_manifest_moved_under_another_transfer_is_refused(empty: Bench) -> None:
    source = MemoryContainer()
    source.blobs[f"other0transfer/{ENVELOPE_NAME}"] = HeldBlob(content=empty.bundle.envelope)
    with pytest.raises(AirgapError) as caught:
        pull(
            source,
            PullOrder(volumes=(empty.volume,)),
            transfer_id="other0transfer",
            policy=empty.bundle.policy,
            now=datetime.now(UTC),
            concurrency=1,
            meter=Meter(),
        )
    assert caught.value.code is Code.MANIFEST_MALFORMED


def test_blob_swapped_before_the_pull_is_refused_and_named(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)
    held = source.blobs[f"{empty.bundle.transfer_id}/001"]
    held.content = held.content[:5] + bytes([held.content[5] ^ 1]) + held.content[6:]
    outcome = empty.pull(source)
    assert [(damage.code, damage.name) for damage in outcome.damages] == [
        (Code.BLOB_MISMATCH, "001/00000001.part")
    ]
    assert outcome.code is Code.BLOB_MISMATCH
    assert not empty.part("001/00000001.part").exists()
    assert not (empty.bag / ENVELOPE_NAME).exists()


def test_blob_of_another_size_is_refused_before_it_is_fetched(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)
    source.blobs[f"{empty.bundle.transfer_id}/001"].content += b"x"
    assert refusal(empty, source) is Code.BLOB_MISMATCH
    assert source.count("read_range") == 0


def test_blob_written_to_during_the_pull_is_noticed(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)

    def overwrite(method: str, name: str) -> None:
        if method == "read_piece":
            source.blobs[name].etag = '"another"'

    source.before = overwrite
    assert refusal(empty, source) is Code.BLOB_CHANGED


def test_one_bad_answer_is_asked_again_before_the_storage_is_accused(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)
    held = source.blobs[f"{empty.bundle.transfer_id}/002"]
    good, held.content = held.content, bytes(len(held.content))

    def recover(method: str, name: str) -> None:
        if method == "read_range" and source.calls[method, name] == 2:
            held.content = good

    source.before = recover
    assert empty.pull(source).code is None


def test_storage_that_goes_away_leaves_whole_parts(empty: Bench) -> None:
    source = MemoryContainer.holding(empty.bundle)

    def cut(method: str, name: str) -> None:
        if method == "read_piece" and name.endswith("002"):
            raise ServiceError(Code.SERVICE_UNREACHABLE, name)

    source.before = cut
    with pytest.raises(ServiceError):
        empty.pull(source, concurrency=1)
    assert files(empty.bag / "data") == {f"001/0000000{number}.part" for number in (1, 2, 3)}


def test_other_bundle_under_the_same_transfer_id_is_a_conflict(loaded: Bench) -> None:
    other = Bench(make_bundle(seed=2), loaded.volume)
    before = snapshot(loaded.volume)
    assert refusal(other, MemoryContainer.holding(other.bundle)) is Code.VOLUME_CONFLICT
    assert snapshot(loaded.volume) == before


def test_same_bundle_signed_once_more_gets_the_new_envelope(loaded: Bench) -> None:
    key = new_key()
    countersigned = make_bundle(keys=[*loaded.bundle.keys, key], created_at=loaded.bundle.manifest.created_at)
    assert countersigned.payload == loaded.bundle.payload
    bench = Bench(countersigned, loaded.volume)
    source = MemoryContainer.holding(countersigned)
    assert bench.pull(source).code is None
    assert source.count("read_range") == 0
    assert (loaded.bag / ENVELOPE_NAME).read_bytes() == countersigned.envelope
    assert bench.verify().code is None


def test_foreign_file_in_the_transfers_folder_stops_the_pull(empty: Bench) -> None:
    empty.bag.mkdir()
    (empty.bag / "autorun.inf").write_text("[autorun]")
    source = MemoryContainer.holding(empty.bundle)
    outcome = empty.pull(source)
    assert [(damage.code, damage.name) for damage in outcome.damages] == [
        (Code.UNDECLARED_FILE, "autorun.inf")
    ]
    assert source.count("read_range") == 0


@pytest.mark.parametrize("name", ["", "data", "data/001"])
def test_link_in_place_of_a_folder_is_not_written_through(empty: Bench, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trap = empty.bag / name
    trap.parent.mkdir(parents=True, exist_ok=True)
    trap.symlink_to(elsewhere)
    source = MemoryContainer.holding(empty.bundle)
    code = empty.pull(source).code if name else refusal(empty, source)
    assert code is Code.UNSAFE_NAME
    assert files(elsewhere) == set()


def test_full_volume_is_noticed_before_the_first_byte(empty: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(empty.volume)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1_000_000))
    source = MemoryContainer.holding(empty.bundle)
    assert refusal(empty, source) is Code.MEDIA_FULL
    assert source.count("read_range") == 0


def test_medium_that_does_not_keep_what_was_written_is_caught(
    empty: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counterfeit stick: writing succeeds, reading gives something else."""
    honest = media_fs.write_all

    def lossy(file: object, content: bytes) -> None:
        honest(file, bytes(len(content)))  # type: ignore[arg-type] # the stand-in has the same parameters

    monkeypatch.setattr(media_fs, "write_all", lossy)
    outcome = empty.pull()
    assert outcome.code is Code.MEDIA_LIED
    assert len(outcome.damages) == 4
    assert not (empty.bag / ENVELOPE_NAME).exists()
