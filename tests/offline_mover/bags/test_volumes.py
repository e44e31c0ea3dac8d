"""One transfer on several volumes: planned, pulled, verified, damaged, brought again, pushed in any order."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
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
from offline_mover.bags.bag_group import Inspection, PartState
from offline_mover.bags.placement import mounted, nominal
from offline_mover.commands.plan import plan
from offline_mover.commands.pull import pull
from offline_mover.commands.push import push
from offline_mover.commands.verify import recarry_request, verify
from offline_mover.medium import media_fs
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import PullOrder
from offline_mover.storage.ports import ReadableContainer, WritableContainer
from tests.bundles import Bundle, make_bundle
from tests.offline_mover.conftest import flip
from tests.offline_mover.memory_container import MemoryContainer

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
    ) -> Outcome:
        order = PullOrder(volumes=tuple(volumes or self.volumes), plan=saved, number=number, recarry=recarry)
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
    again = MemoryContainer.holding(desk.bundle)
    assert desk.pull(source=again).code is None
    assert again.count("read_range") == 7 - kept
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


# --- verify -------------------------------------------------------------------------------------------------


def test_volumes_are_verified_in_any_order(carried: Desk) -> None:
    for volumes in itertools.permutations(carried.volumes):
        assert carried.verify(*volumes)[1].code is None


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
    assert source.count("read_range") == 2
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
