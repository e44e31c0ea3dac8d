"""One transfer on several volumes: planned, pulled, verified, damaged, brought again, pushed in any order."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bagit
import pytest

from airgap.errors import AirgapError, Code
from airgap.manifest import ENVELOPE_NAME
from airgap.media_plan import SavedPlan
from airgap.parts import MIN_PART_SIZE_BYTES
from airgap.recarry import RecarryRequest
from offline_mover.amounts import size
from offline_mover.bags.bag_group import Inspection, PartState
from offline_mover.bags.placement import mounted, nominal
from offline_mover.commands.plan import plan
from offline_mover.commands.pull import pull
from offline_mover.commands.push import push
from offline_mover.commands.verify import recarry_request, verify
from offline_mover.medium import media_fs, media_identity
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import PullOrder
from offline_mover.storage.ports import ReadableContainer, WritableContainer
from tests.bundles import Bundle, make_bundle
from tests.offline_mover.conftest import flip
from tests.offline_mover.memory_container import PIECE_BYTES, MemoryContainer

PART = MIN_PART_SIZE_BYTES
_SLACK = 2 * 1024 * 1024


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Seven parts in two blobs."""
    return make_bundle(blob_sizes=(6 * PART, PART))


class Desk:
    """A bundle, three volumes with room for two, three and five parts, and the commands on any of them."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.bundle = bundle
        self.volumes = tuple(folder / name for name in ("one", "two", "three"))
        for volume in self.volumes:
            volume.mkdir(parents=True)

    def pull(
        self,
        volumes: Sequence[Path] | None = None,
        *,
        source: ReadableContainer | None = None,
        saved: SavedPlan | None = None,
        number: int | None = None,
        recarry: RecarryRequest | None = None,
        order: PullOrder | None = None,
    ) -> Outcome:
        order = order or PullOrder(
            volumes=tuple(volumes or self.volumes), plan=saved, number=number, recarry=recarry
        )
        return pull(
            source or MemoryContainer.holding(self.bundle),
            order,
            transfer_id=self.bundle.transfer_id,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=4,
            meter=Meter(),
        )

    def plan(self, *texts: str) -> tuple[Outcome, SavedPlan | None]:
        outlooks = [nominal(text) or mounted(Path(text)) for text in texts]
        return plan(
            MemoryContainer.holding(self.bundle),
            outlooks,
            transfer_id=self.bundle.transfer_id,
            parity=None,
            rate_bytes_per_s=None,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=2,
            meter=Meter(),
        )

    def verify(self, *volumes: Path) -> tuple[Inspection, Outcome]:
        return verify(
            volumes or self.volumes,
            transfer_id=None,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=4,
            meter=Meter(),
        )

    def push(self, target: WritableContainer, *volumes: Path) -> Outcome:
        return push(
            target,
            volumes or self.volumes,
            transfer_id=None,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=4,
            meter=Meter(),
        )

    def holder(self, part: str) -> Path:
        """The volume that has a part."""
        return next(volume for volume in self.volumes if self.path(volume, part).exists())

    def path(self, volume: Path, part: str) -> Path:
        return volume / self.bundle.transfer_id / "data" / part

    def parts_on(self, volume: Path) -> list[str]:
        data = volume / self.bundle.transfer_id / "data"
        return sorted(str(path.relative_to(data)) for path in data.rglob("*.part"))


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many parts each volume takes, by its folder's name."""
    rooms = {"one": 2, "two": 3, "three": 5, "patch": 9}

    def free_bytes(path: Path) -> int:
        held = sum(file.stat().st_size for file in path.rglob("*.part"))
        return rooms[path.name] * (PART + 4096) + _SLACK - held

    monkeypatch.setattr(media_fs, "free_bytes", free_bytes)
    return rooms


@pytest.fixture
def desk(bundle: Bundle, tmp_path: Path, room: dict[str, int]) -> Desk:
    assert room
    return Desk(bundle, tmp_path)


@pytest.fixture
def carried(desk: Desk) -> Desk:
    assert desk.pull().code is None
    return desk


# --- pull ---------------------------------------------------------------------------------------------------


def test_parts_are_spread_in_order_and_each_volume_is_a_bag(carried: Desk) -> None:
    assert [len(carried.parts_on(volume)) for volume in carried.volumes] == [2, 3, 2]
    for number, volume in enumerate(carried.volumes, start=1):
        folder = volume / carried.bundle.transfer_id
        assert f"Bag-Count: {number} of 3\n" in (folder / "bag-info.txt").read_text()
        assert (folder / ENVELOPE_NAME).read_bytes() == carried.bundle.envelope


@pytest.mark.filterwarnings("ignore::DeprecationWarning:bagit", "ignore:.*count:DeprecationWarning")
def test_library_of_congress_tool_accepts_every_volume(carried: Desk) -> None:
    library: Any = bagit  # it has no types
    for volume in carried.volumes:
        library.Bag(str(volume / carried.bundle.transfer_id)).validate()


def test_nothing_is_written_when_it_does_not_fit(desk: Desk) -> None:
    with pytest.raises(AirgapError) as caught:
        desk.pull(desk.volumes[:2])
    assert caught.value.code is Code.MEDIA_FULL
    assert [list(volume.iterdir()) for volume in desk.volumes] == [[], [], []]


def test_second_pull_fetches_nothing_whatever_the_order(carried: Desk) -> None:
    source = MemoryContainer.holding(carried.bundle)
    outcome = carried.pull(list(reversed(carried.volumes)), source=source)
    assert (outcome.code, source.count("read_range")) == (None, 0)
    assert carried.verify()[1].code is None


def test_interrupted_pull_over_three_volumes_fetches_only_the_rest(desk: Desk) -> None:
    source = MemoryContainer.holding(desk.bundle)
    pieces = itertools.count()

    def unplug(method: str, _name: str) -> None:
        if method == "read_piece" and next(pieces) == 14:
            raise KeyboardInterrupt

    source.before = unplug
    with pytest.raises(KeyboardInterrupt):
        desk.pull(source=source)
    kept = sum(len(desk.parts_on(volume)) for volume in desk.volumes)
    again, calls = MemoryContainer.holding(desk.bundle), list[str]()
    again.before = lambda method, _name: calls.append(method)
    assert desk.pull(source=again).code is None
    # Not the ranges are counted: of a few parts that one volume lacks, each may come in several.
    assert calls.count("read_piece") * PIECE_BYTES == (7 - kept) * PART
    assert desk.verify()[1].code is None


def test_volume_that_is_not_needed_stays_blank(desk: Desk, room: dict[str, int]) -> None:
    room["three"] = 9
    outcome = desk.pull([desk.volumes[2], desk.volumes[0]])
    assert outcome.code is None
    assert list(desk.volumes[0].iterdir()) == []
    assert desk.verify(desk.volumes[2])[1].code is None


# --- plan ---------------------------------------------------------------------------------------------------


def test_plan_says_what_goes_where_and_writes_nothing(desk: Desk) -> None:
    outcome, saved = desk.plan(*map(str, desk.volumes))
    assert (outcome.code, outcome.counts["lackingBytes"]) == (None, 0)
    assert saved is not None
    assert [len(names) for names in saved.volumes] == [2, 3, 2]
    assert outcome.counts["estimatedSeconds"] >= 1
    assert [list(volume.iterdir()) for volume in desk.volumes] == [[], [], []]


def test_plan_for_described_volumes_counts_what_is_lacking(desk: Desk) -> None:
    outcome, saved = desk.plan("10M:fat32", "10M:exfat")
    assert (outcome.code, saved) == (Code.MEDIA_FULL, None)
    assert outcome.counts["lackingBytes"] == 3 * PART
    assert json.dumps(outcome.to_json())


def test_volumes_filled_one_at_a_time_by_a_saved_plan(desk: Desk) -> None:
    _, saved = desk.plan("10M:fat32", "14M:fat32", "32G:exfat")
    assert saved is not None
    again = SavedPlan.from_bytes(saved.to_bytes())
    assert again == saved
    for number, volume in enumerate(desk.volumes, start=1):
        assert desk.pull([volume], saved=saved, number=number).code is None
    outcome = desk.verify()[1]
    assert outcome.code is None
    source = MemoryContainer.holding(desk.bundle)
    assert desk.pull([desk.volumes[1]], saved=saved, source=source).code is None  # it knows its number
    assert source.count("read_range") == 0


def test_blank_volume_without_its_number_is_asked_for(desk: Desk) -> None:
    _, saved = desk.plan("14M:fat32", "32G:exfat")
    with pytest.raises(AirgapError, match="--number"):
        desk.pull([desk.volumes[0]], saved=saved)


def test_plan_of_another_bundle_is_refused(desk: Desk) -> None:
    _, saved = desk.plan("10M:fat32", "32G:exfat")
    assert saved is not None
    desk.bundle = make_bundle(blob_sizes=(PART,), seed=9)
    with pytest.raises(AirgapError, match="another bundle"):
        desk.pull([desk.volumes[0]], saved=saved, number=1)


def test_full_volume_of_a_plan_is_named_with_what_it_needs_and_has(desk: Desk, room: dict[str, int]) -> None:
    _, saved = desk.plan("10M:fat32", "14M:fat32", "32G:exfat")
    room["two"] = 1
    with pytest.raises(AirgapError) as caught:
        desk.pull([desk.volumes[1]], saved=saved, number=2)
    assert caught.value.code is Code.MEDIA_FULL
    said = caught.value.detail
    assert said.startswith(f"{desk.volumes[1]}, volume 2 of 3 needs ")
    assert " needs 13.7 MB and has 6.3 MB free; nothing was written. Free 7.4 MB more, " in said


def test_room_for_the_tool_counts_and_is_never_negative(desk: Desk, room: dict[str, int]) -> None:
    room["one"] = 2
    order = PullOrder(volumes=desk.volumes[:1], reserved_bytes={desk.volumes[0]: 61_000_000})
    outlook = mounted(desk.volumes[0]).reserving(61_000_000)
    assert outlook.capacity.free_bytes == 0
    with pytest.raises(AirgapError) as caught:
        desk.pull(order=order)
    assert "has 10.5 MB free, and the tool takes 61.0 MB of it" in caught.value.detail
    assert " -" not in caught.value.detail


def test_filled_volume_says_which_one_comes_next(desk: Desk) -> None:
    _, saved = desk.plan("10M:fat32", "14M:fat32", "32G:exfat")
    first = desk.pull([desk.volumes[0]], saved=saved, number=1)
    assert first.next_step == "Insert volume 2 of 3 and run:"
    assert first.next_command is not None
    assert (first.next_command.verb, first.next_command.options) == ("pull", {"number": "2"})
    assert first.lines[0].startswith(f"{desk.volumes[0]}: volume 1 of 3")
    last = desk.pull([desk.volumes[2]], saved=saved, number=3)
    assert last.next_step.startswith("Carry the volumes")


# --- verify -------------------------------------------------------------------------------------------------


def test_each_volume_is_told_with_number_label_serial_and_its_share(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = media_identity.describe
    labels = dict(zip(desk.volumes, ("RED", "GREEN", "BLUE"), strict=True))

    def labelled(volume: Path) -> media_identity.MediaIdentity:
        label = labels.get(volume)
        return replace(describe(volume), label=label, serial=f"1234-{label}")

    monkeypatch.setattr(media_identity, "describe", labelled)
    whole = size(desk.bundle.manifest.size_bytes)
    told = desk.pull().lines
    assert len(told) == 3
    for number, (volume, line) in enumerate(zip(desk.volumes, told, strict=True), start=1):
        name, parts = labels[volume], len(desk.parts_on(volume))
        medium = f"volume {number} of 3, label {name}, serial 1234-{name}"
        share = f"{parts} of 7 parts, {size(parts * PART)} of {whole}"
        assert line == f"{volume}: {medium}: {share}"


def test_volumes_are_verified_in_any_order(carried: Desk) -> None:
    for volumes in itertools.permutations(carried.volumes):
        assert carried.verify(*volumes)[1].code is None


def test_volume_whose_pull_did_not_finish_is_named_and_the_others_are_looked_at(carried: Desk) -> None:
    for volume in carried.volumes[:2]:
        (volume / carried.bundle.transfer_id / ENVELOPE_NAME).unlink()
    inspection, outcome = carried.verify()
    assert outcome.code is Code.BAG_MALFORMED
    assert [finding.volume for finding in outcome.findings] == list(carried.volumes[:2])
    assert inspection.count(PartState.WHOLE) == len(carried.parts_on(carried.volumes[2]))
    assert str(carried.volumes[0]) in outcome.next_step
    with pytest.raises(AirgapError) as caught:
        carried.verify(*carried.volumes[:2])
    assert caught.value.code is Code.BAG_MALFORMED
    assert all(str(volume) in caught.value.detail for volume in carried.volumes[:2])


def test_other_file_is_no_damage_of_parts_and_push_says_the_same(carried: Desk) -> None:
    (carried.volumes[0] / carried.bundle.transfer_id / "holiday.jpg").write_bytes(b"x")
    outcome = carried.verify()[1]
    assert outcome.code is Code.UNDECLARED_FILE
    assert outcome.verdict.startswith("all 7 parts, ")
    assert "Until then nothing is sent" in outcome.next_step
    pushed = carried.push(MemoryContainer())
    assert (pushed.code, pushed.counts["sentParts"]) == (Code.UNDECLARED_FILE, 0)


def test_one_volume_alone_is_right_but_not_all(carried: Desk) -> None:
    inspection, outcome = carried.verify(carried.volumes[1])
    assert (outcome.code, outcome.findings) == (Code.VOLUME_MISSING, ())
    assert outcome.facts["absentVolumes"] == [1, 3]
    assert (inspection.count(PartState.WHOLE), inspection.count(PartState.NOT_SEEN)) == (3, 4)
    assert recarry_request(inspection, now=datetime.now(UTC)) is None
    assert "volumes 1, 3" in outcome.next_step


def test_damage_is_located_on_its_volume(carried: Desk) -> None:
    flip(carried.path(carried.volumes[1], "001/00000004.part"))
    carried.path(carried.volumes[0], "001/00000002.part").unlink()
    outcome = carried.verify()[1]
    assert outcome.code is Code.PART_MISSING
    assert {(f.damage.code, f.damage.name, f.volume) for f in outcome.findings} == {
        (Code.PART_CORRUPT, "001/00000004.part", carried.volumes[1]),
        (Code.PART_MISSING, "001/00000002.part", carried.volumes[0]),
    }


def test_volume_that_claims_to_be_the_only_one_hides_nothing(carried: Desk) -> None:
    """Its texts are unsigned: whoever rewrites them can make parts missing, never whole."""
    for volume in carried.volumes[1:]:
        shutil.rmtree(volume / carried.bundle.transfer_id)
    info = carried.volumes[0] / carried.bundle.transfer_id / "bag-info.txt"
    info.write_text(info.read_text().replace("1 of 3", "1 of 1"))
    inspection, outcome = carried.verify(carried.volumes[0])
    assert outcome.code is Code.PART_MISSING
    assert inspection.count(PartState.MISSING) == 5


def test_same_volume_twice_is_no_second_volume(carried: Desk) -> None:
    outcome = carried.verify(carried.volumes[0], carried.volumes[0])[1]
    assert outcome.code is Code.VOLUME_MISSING


def test_volumes_of_different_bundles_do_not_mix(carried: Desk, tmp_path: Path) -> None:
    other = Desk(make_bundle(blob_sizes=(PART,), seed=5), tmp_path / "other")
    assert other.pull(other.volumes[:1]).code is None
    with pytest.raises(AirgapError) as caught:
        carried.verify(carried.volumes[0], other.volumes[0])
    assert caught.value.code is Code.VOLUME_CONFLICT


def test_upper_case_names_of_a_folding_file_system_are_read(carried: Desk) -> None:
    part = carried.path(carried.volumes[0], "001/00000001.part")
    part.rename(part.with_name("00000001.PART"))
    assert carried.verify()[1].code is None


def test_name_there_twice_in_two_spellings_is_unsafe(carried: Desk) -> None:
    part = carried.path(carried.volumes[0], "001/00000001.part")
    part.with_name("00000001.PART").write_bytes(b"")
    assert Code.UNSAFE_NAME in {finding.damage.code for finding in carried.verify()[1].findings}


# --- re-carry -----------------------------------------------------------------------------------------------


def test_patch_volume_brings_exactly_the_lost_parts(carried: Desk, tmp_path: Path) -> None:
    flip(carried.path(carried.volumes[1], "001/00000004.part"))
    carried.path(carried.volumes[2], "002/00000001.part").unlink()
    inspection, _ = carried.verify()
    request = recarry_request(inspection, now=datetime.now(UTC))
    assert request is not None
    request = RecarryRequest.from_bytes(request.to_bytes())
    patch = tmp_path / "patch"
    patch.mkdir()
    source = MemoryContainer.holding(carried.bundle)
    assert carried.pull([patch], source=source, recarry=request).code is None
    asked = {name.partition("/")[2] for method, name in source.calls if method == "read_range"}
    assert asked == {"001", "002"}
    assert carried.parts_on(patch) == ["001/00000004.part", "002/00000001.part"]
    outcome = carried.verify(patch, *carried.volumes)[1]
    assert outcome.code is None
    assert all(finding.is_replaced for finding in outcome.findings)
    target = MemoryContainer()
    assert carried.push(target, *carried.volumes, patch).code is None
    require_whole(carried.bundle, target)


def test_request_for_parts_of_another_bundle_is_refused(carried: Desk) -> None:
    other = make_bundle(blob_sizes=(PART,), seed=5)
    request = RecarryRequest.for_parts(
        other.manifest, other.manifest_sha256, ["001/00000001.part"], datetime.now(UTC)
    )
    with pytest.raises(AirgapError) as caught:
        carried.pull(recarry=request)
    assert caught.value.code is Code.RECARRY_MALFORMED


# --- push ---------------------------------------------------------------------------------------------------


def require_whole(bundle: Bundle, target: MemoryContainer) -> None:
    for name, content in bundle.blobs.items():
        assert target.blobs[f"{bundle.transfer_id}/{name}"].content == content
    assert target.blobs[f"{bundle.transfer_id}/{ENVELOPE_NAME}"].content == bundle.envelope


@pytest.mark.parametrize(
    ("pushed", "needed"),
    [
        ((0,), "volumes 2, 3"),
        ((2, 0), "volume 2"),
        ((0, 2), "volume 2"),
        ((1, 2), "volume 1"),
        ((1,), "volumes 1, 3"),
    ],
)
def test_only_the_volumes_that_are_needed_are_asked_for(
    carried: Desk, pushed: tuple[int, ...], needed: str
) -> None:
    target = MemoryContainer()
    outcomes = [carried.push(target, carried.volumes[index]) for index in pushed]
    assert outcomes[-1].code is Code.VOLUME_MISSING
    assert outcomes[-1].next_step.startswith(f"Insert {needed} and push")
    assert f" on {needed}; " in outcomes[-1].verdict


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_volumes_pushed_one_by_one_in_any_order(carried: Desk, order: tuple[int, ...]) -> None:
    target = MemoryContainer()
    first, second, third = (carried.volumes[index] for index in order)
    assert carried.push(target, first).code is Code.VOLUME_MISSING
    assert not any(name.endswith(ENVELOPE_NAME) for name in target.blobs)
    assert carried.push(target, second).code is Code.VOLUME_MISSING
    assert carried.push(target, third).code is None
    assert target.count("stage") == 7
    require_whole(carried.bundle, target)


def test_blocks_that_the_storage_dropped_are_sent_again(carried: Desk) -> None:
    target = MemoryContainer()
    assert carried.push(target, carried.volumes[0]).code is Code.VOLUME_MISSING
    target.staged.clear()
    assert carried.push(target).code is None
    require_whole(carried.bundle, target)


def test_damaged_copy_is_passed_over_for_a_whole_one(carried: Desk, tmp_path: Path) -> None:
    copy = tmp_path / "patch"
    shutil.copytree(carried.volumes[0], copy)
    flip(carried.path(carried.volumes[0], "001/00000001.part"))
    target = MemoryContainer()
    outcome = carried.push(target, *carried.volumes, copy)
    assert outcome.code is None
    assert [finding.is_replaced for finding in outcome.findings] == [True]
    require_whole(carried.bundle, target)


def test_damage_on_one_volume_does_not_keep_the_rest_from_being_sent(carried: Desk) -> None:
    flip(carried.path(carried.volumes[0], "001/00000001.part"))
    target = MemoryContainer()
    outcome = carried.push(target)
    assert (outcome.code, outcome.counts["sentParts"]) == (Code.PART_CORRUPT, 6)
    assert f"{carried.bundle.transfer_id}/001" not in target.blobs
    assert f"{carried.bundle.transfer_id}/{ENVELOPE_NAME}" not in target.blobs
