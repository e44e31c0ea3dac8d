from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from airgap.erasure import UNIT_BYTES
from airgap.errors import AirgapError, Code
from airgap.manifest import ENVELOPE_NAME
from airgap.parity import LAYOUT_NAME, ParityLayout, shard_name
from airgap.parts import MIN_PART_SIZE_BYTES as PART
from offline_mover.bags.bag_texts import PAYLOAD_MANIFEST, is_parity
from offline_mover.parity.stripe_coding import MAX_THREADS, units_for
from tests.bundles import Bundle, make_bundle
from tests.offline_mover.conftest import flip
from tests.offline_mover.memory_container import MemoryContainer
from tests.offline_mover.parity_desk import HookedMeter, ParityDesk, snapshot, validate_bag

pytestmark = pytest.mark.filterwarnings(  # bagit 1.9 uses what Python 3.13 deprecates
    "ignore::DeprecationWarning:bagit", "ignore:.*count:DeprecationWarning"
)
TWO_ROWS = ParityLayout(stripes=2, parity_shards=2)
ONE_ROW = ParityLayout(stripes=3, parity_shards=1)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Seven parts; the sixth and the last are short."""
    return make_bundle(blob_sizes=(5 * PART + 1000, 777))


@pytest.fixture(scope="module")
def pulled(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> ParityDesk:
    """Three data volumes and one with parity shards only."""
    desk = ParityDesk(bundle, tmp_path_factory.mktemp("pulled"), ONE_ROW, data_volumes=3, is_apart=True)
    assert desk.pull().code is None
    return desk


@pytest.fixture
def desk(pulled: ParityDesk, tmp_path: Path) -> ParityDesk:
    return pulled.copied(tmp_path)


def encoded(bundle: Bundle, layout: ParityLayout) -> dict[str, bytes]:
    """Every parity shard, from the parts in memory."""
    shards: dict[str, bytes] = {}
    for number in range(layout.stripes):
        stripe = layout.stripe(number, bundle.parts)
        contents = [
            bundle.part_bytes(bundle.parts[s.ordinal]) for s in stripe.shards if s.ordinal is not None
        ]
        made = stripe.encoding().apply(enumerate(contents), stripe.size_bytes)
        shards.update(zip((shard.name for shard in stripe.parity), made.values(), strict=True))
    return shards


def test_shards_are_what_the_code_says(bundle: Bundle, tmp_path: Path) -> None:
    desk = ParityDesk(bundle, tmp_path, TWO_ROWS)
    assert desk.pull().code is None
    for name, content in encoded(bundle, TWO_ROWS).items():
        assert desk.file(name).read_bytes() == content


def test_every_volume_is_a_bag_also_one_of_parity_shards_only(desk: ParityDesk) -> None:
    for volume in desk.volumes:
        validate_bag(desk.bag_of(volume))
        check = ["sha256sum", "--check", "--quiet", PAYLOAD_MANIFEST]
        assert subprocess.run(check, cwd=desk.bag_of(volume), check=False).returncode == 0
        assert (desk.bag_of(volume) / LAYOUT_NAME).is_file()
    assert {path.parent.name for path in desk.volumes[3].rglob("data/*/*")} == {"parity"}
    assert desk.verify()[1].code is None


def test_parts_on_a_volume_that_is_away_come_from_the_storage(bundle: Bundle, tmp_path: Path) -> None:
    desk = ParityDesk(bundle, tmp_path, ONE_ROW, data_volumes=3, is_apart=True)
    assert desk.pull(desk.volumes[3], number=4).code is None
    for name, content in encoded(bundle, ONE_ROW).items():
        assert desk.file(name).read_bytes() == content


def test_parts_read_for_parity_are_not_read_back_once_more(bundle: Bundle, tmp_path: Path) -> None:
    desk = ParityDesk(bundle, tmp_path, TWO_ROWS)
    meter = HookedMeter()
    assert desk.pull(meter=meter).code is None
    shards = sum(size for _, size in TWO_ROWS.shards(bundle.manifest))
    assert meter.totals["making parity"] == bundle.manifest.size_bytes
    assert meter.totals["reading back"] == shards


def test_part_that_flips_after_it_was_written_poisons_no_shard(bundle: Bundle, tmp_path: Path) -> None:
    desk = ParityDesk(bundle, tmp_path, TWO_ROWS)
    flipped = desk.part_name(2)
    outcome = desk.pull(meter=HookedMeter("making parity", lambda: flip(desk.file(flipped), PART - 1)))
    assert outcome.code is Code.MEDIA_LIED
    assert [finding.damage.name for finding in outcome.findings] == [flipped]
    assert not any(desk.file(shard_name(0, row)).exists() for row in range(2))
    assert not (desk.bag_of(desk.volumes[0]) / ENVELOPE_NAME).exists()
    assert desk.pull().code is None
    assert desk.verify()[1].code is None


def test_storage_that_sends_other_bytes_poisons_no_shard(bundle: Bundle, tmp_path: Path) -> None:
    desk = ParityDesk(bundle, tmp_path, ONE_ROW, data_volumes=3, is_apart=True)
    source = MemoryContainer.holding(bundle)
    held = source.blobs[f"{bundle.transfer_id}/001"]
    held.content = held.content[:7] + bytes([held.content[7] ^ 1]) + held.content[8:]
    outcome = desk.pull(desk.volumes[3], number=4, source=source)
    assert [(f.damage.code, f.damage.name) for f in outcome.findings] == [
        (Code.BLOB_MISMATCH, desk.part_name(0))
    ]
    assert outcome.code is Code.BLOB_MISMATCH
    assert not desk.file(shard_name(0, 0)).exists()


def test_second_pull_writes_nothing(desk: ParityDesk) -> None:
    before = snapshot(desk.volumes)
    source = MemoryContainer.holding(desk.bundle)
    assert desk.pull(source=source).code is None
    assert source.count("read_range") == 0
    assert snapshot(desk.volumes) == before


@pytest.mark.parametrize("is_gone", [True, False])
def test_damaged_shard_is_made_again_and_nothing_else(desk: ParityDesk, *, is_gone: bool) -> None:
    name = shard_name(1, 0)
    before = snapshot(desk.volumes)
    if is_gone:
        desk.file(name).unlink()
    else:
        flip(desk.file(name))
    source = MemoryContainer.holding(desk.bundle)
    assert desk.pull(source=source).code is None
    assert source.count("read_range") == 0
    after = snapshot(desk.volumes)
    assert {path for path in before if before[path] != after[path]} == {desk.file(name)}
    assert {path: content for path, (_, content) in before.items()} == {
        path: content for path, (_, content) in after.items()
    }


def test_shards_of_another_layout_are_replaced(bundle: Bundle, tmp_path: Path) -> None:
    first = ParityDesk(bundle, tmp_path, ParityLayout(stripes=3, parity_shards=2))
    assert first.pull().code is None
    second = ParityDesk(bundle, tmp_path, TWO_ROWS)
    source = MemoryContainer.holding(bundle)
    assert second.pull(source=source).code is None
    assert source.count("read_range") == 0
    assert not first.file(shard_name(2, 0)).exists()
    for name, content in encoded(bundle, TWO_ROWS).items():
        assert second.file(name).read_bytes() == content
    assert second.verify()[1].code is None


@pytest.mark.parametrize(
    "layout",
    [
        ParityLayout(stripes=1, parity_shards=2),
        ParityLayout(stripes=3, parity_shards=1),
        ParityLayout(stripes=50, parity_shards=2),
    ],
)
def test_plan_whose_layout_does_not_suit_is_refused(
    bundle: Bundle, tmp_path: Path, layout: ParityLayout
) -> None:
    desk = ParityDesk(bundle, tmp_path, TWO_ROWS)
    without_shards = tuple(
        tuple(name for name in names if not is_parity(name)) for names in desk.plan.volumes
    )
    plans = [replace(desk.plan, layout=layout)]
    if layout.misfit(bundle.manifest.part_count):
        plans.append(replace(desk.plan, layout=layout, volumes=without_shards))
    for plan in plans:
        with pytest.raises(AirgapError) as caught:
            desk.pull(plan=plan)
        assert caught.value.code is Code.USAGE


def test_planned_parity_volume_without_room_is_refused_before_anything_is_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = ParityDesk(bundle, tmp_path, ONE_ROW, data_volumes=3, is_apart=True)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=3 * PART))
    source = MemoryContainer.holding(bundle)
    with pytest.raises(AirgapError) as caught:
        desk.pull(desk.volumes[3], number=4, source=source)
    assert caught.value.code is Code.MEDIA_FULL
    assert source.count("read_range") == 0
    assert list(desk.volumes[3].iterdir()) == []


@pytest.mark.parametrize("threads", [1, 2, MAX_THREADS])
def test_sums_keep_to_their_bound(threads: int) -> None:
    for outputs in range(1, 17):
        held = outputs * threads * units_for(outputs, threads) * UNIT_BYTES
        assert held <= max(8 * 1024 * 1024, outputs * threads * UNIT_BYTES)
