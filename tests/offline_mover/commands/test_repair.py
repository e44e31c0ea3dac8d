from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from airgap.errors import AirgapError, Code
from airgap.manifest import ENVELOPE_NAME
from airgap.parity import LAYOUT_NAME, ParityLayout, shard_name
from airgap.parts import MIN_PART_SIZE_BYTES as PART
from offline_mover.bags.bag_texts import DECLARATION, PAYLOAD_MANIFEST, TAG_MANIFEST, is_parity
from offline_mover.commands.push import push
from offline_mover.medium import media_fs
from offline_mover.parity import repairing
from offline_mover.progress import Cancelled, Lane, Meter
from tests.bundles import Bundle, make_bundle
from tests.offline_mover.conftest import flip
from tests.offline_mover.memory_container import MemoryContainer
from tests.offline_mover.parity_desk import HookedMeter, ParityDesk, snapshot, validate_bag

pytestmark = pytest.mark.filterwarnings(  # bagit 1.9 uses what Python 3.13 deprecates
    "ignore::DeprecationWarning:bagit", "ignore:.*count:DeprecationWarning"
)
SHORT = 5
"""Ordinal of a part of 1000 bytes, in the second of two stripes: beside 1 and 3."""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Seven parts; the sixth and the last are short."""
    return make_bundle(blob_sizes=(5 * PART + 1000, 777))


@pytest.fixture(scope="module")
def pulled_single(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> ParityDesk:
    desk = ParityDesk(bundle, tmp_path_factory.mktemp("single"), ParityLayout(stripes=2, parity_shards=2))
    assert desk.pull().code is None
    return desk


@pytest.fixture(scope="module")
def pulled_spread(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> ParityDesk:
    desk = ParityDesk(
        bundle,
        tmp_path_factory.mktemp("spread"),
        ParityLayout(stripes=3, parity_shards=1),
        data_volumes=3,
        is_apart=True,
    )
    assert desk.pull().code is None
    return desk


@pytest.fixture
def single(pulled_single: ParityDesk, tmp_path: Path) -> ParityDesk:
    """One volume with all parts and two parity shards for each of two stripes."""
    return pulled_single.copied(tmp_path)


@pytest.fixture
def spread(pulled_spread: ParityDesk, tmp_path: Path) -> ParityDesk:
    """Three volumes with parts, and a fourth with one parity shard for each of three stripes."""
    return pulled_spread.copied(tmp_path)


def poison(desk: ParityDesk, name: str, offset: int = 0) -> None:
    """Alter a parity shard, and every text of its bag so that nothing on the volume contradicts it."""
    path = desk.file(name)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    flip(path, offset)
    replace_listed(path.parents[2], before, hashlib.sha256(path.read_bytes()).hexdigest())


def replace_listed(folder: Path, before: str, after: str) -> None:
    manifest = folder / PAYLOAD_MANIFEST
    manifest.write_text(manifest.read_text().replace(before, after))
    seal_texts(folder)


def seal_texts(folder: Path) -> None:
    """Write the tag manifest anew, as anybody can."""
    tags = folder / TAG_MANIFEST
    names = [line.split("  ")[1] for line in tags.read_text().splitlines()]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    tags.write_text("".join(f"{sha256}  {name}\n" for name, sha256 in digests.items()))


def assert_rebuilt(desk: ParityDesk, names: list[str]) -> None:
    on_patch = sorted(
        str(path.relative_to(desk.bag_of(desk.patch) / "data"))
        for path in (desk.bag_of(desk.patch) / "data").rglob("*")
        if path.is_file()
    )
    assert on_patch == sorted(names)
    assert all(desk.is_right(desk.patched(name), name) for name in names)


def refusal(act: Callable[[], object]) -> Code:
    with pytest.raises(AirgapError) as caught:
        act()
    return caught.value.code


# --- what is rebuilt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordinals", [(0,), (0, 2), (4, 6), (1, SHORT), (0, 6, 3, SHORT)])
def test_any_m_parts_of_a_stripe_come_back_and_originals_stay_untouched(
    single: ParityDesk, ordinals: tuple[int, ...]
) -> None:
    names = single.lose(*ordinals)
    before = snapshot(single.volumes)
    assert single.verify()[1].facts["isRepairable"] is True
    outcome = single.repair()
    assert (outcome.code, outcome.counts["rebuiltParts"]) == (None, len(names))
    assert str(single.patch) in outcome.next_step
    assert_rebuilt(single, names)
    assert snapshot(single.volumes) == before


@pytest.mark.parametrize("number", range(4))
def test_any_one_volume_may_be_left_out(spread: ParityDesk, number: int) -> None:
    lost = [name for name in spread.plan.volumes[number] if not is_parity(name)]
    left = [volume for index, volume in enumerate(spread.volumes) if index != number]
    outcome = spread.repair(*left)
    assert (outcome.code, outcome.counts["rebuiltParts"]) == (None, len(lost))
    if lost:
        assert_rebuilt(spread, lost)
    volumes = [*left, spread.patch] if lost else left
    target = MemoryContainer()
    pushed = push(
        target,
        volumes,
        transfer_id=None,
        policy=spread.bundle.policy,
        now=spread.bundle.manifest.created_at,
        concurrency=2,
        meter=Meter(),
    )
    assert pushed.code is None
    for name, content in spread.bundle.blobs.items():
        assert target.blobs[f"{spread.bundle.transfer_id}/{name}"].content == content


def test_flipped_and_truncated_files_are_rebuilt_from_the_others(single: ParityDesk) -> None:
    flipped, cut = single.part_name(0), single.part_name(3)
    flip(single.file(flipped), PART - 1)
    os.truncate(single.file(cut), 1000)
    os.truncate(single.file(shard_name(0, 0)), 8)
    flip(single.file(shard_name(1, 1)))
    outcome = single.repair()
    assert (outcome.code, outcome.counts["rebuiltParts"], outcome.counts["lostParts"]) == (None, 2, 0)
    assert {f.damage.name for f in outcome.findings if f.is_replaced} == {flipped, cut}
    assert_rebuilt(single, [flipped, cut])


def test_nothing_lost_writes_nothing(single: ParityDesk) -> None:
    outcome = single.repair()
    assert (outcome.code, outcome.counts["rebuiltParts"]) == (None, 0)
    assert list(single.patch.iterdir()) == []


def test_patch_is_a_bag_and_is_taken_with_the_damaged_volume(single: ParityDesk) -> None:
    single.lose(1, 2)
    assert single.repair().code is None
    folder = single.bag_of(single.patch)
    validate_bag(folder)
    check = ["sha256sum", "--check", "--quiet", PAYLOAD_MANIFEST]
    assert subprocess.run(check, cwd=folder, check=False).returncode == 0
    inspection, outcome = single.verify(*single.volumes, single.patch)
    assert not inspection.lost
    assert {finding.is_replaced for finding in outcome.findings} == {True}


# --- what is not --------------------------------------------------------------------------------------------


def test_more_losses_than_parity_shards_are_told_and_the_rest_is_rebuilt(single: ParityDesk) -> None:
    lost = single.lose(0, 2, 4)
    (other,) = single.lose(1)
    assert single.verify()[1].facts["isRepairable"] is False
    outcome = single.repair()
    assert outcome.code is Code.PART_MISSING
    assert (outcome.counts["rebuiltParts"], outcome.counts["lostParts"]) == (1, 3)
    assert {f.damage.name for f in outcome.findings if not f.is_replaced} == set(lost)
    assert "recarry" in outcome.next_step
    assert_rebuilt(single, [other])


def test_volumes_without_parity_are_told_so(single: ParityDesk) -> None:
    single.lose(0)
    folder = single.bag_of(single.volumes[0])
    shutil.rmtree(folder / "data" / "parity")
    (folder / LAYOUT_NAME).unlink()
    outcome = single.repair()
    assert outcome.code is Code.PART_MISSING
    assert "no parity" in outcome.verdict
    assert list(single.patch.iterdir()) == []


def test_one_volume_of_several_promises_nothing(spread: ParityDesk) -> None:
    flip(spread.file(spread.part_name(0)))
    for volumes in ([spread.volumes[0]], [spread.volumes[0], spread.volumes[3]]):
        inspection, outcome = spread.verify(*volumes)
        assert not repairing.can_rebuild(inspection, inspection.lost)
        assert outcome.facts["isRepairable"] is False
        repaired = spread.repair(*volumes)
        assert (repaired.code, repaired.counts["lostParts"]) == (Code.PART_CORRUPT, 1)
        assert not spread.patched(spread.part_name(0)).exists()
    inspection, _ = spread.verify()
    assert repairing.can_rebuild(inspection, inspection.lost)


def test_volumes_that_are_only_elsewhere_are_asked_for(spread: ParityDesk) -> None:
    outcome = spread.repair(spread.volumes[0])
    assert outcome.code is Code.VOLUME_MISSING
    assert "volumes 2, 3, 4" in outcome.next_step


@pytest.mark.parametrize("number", range(4))
def test_absent_volume_that_parity_makes_up_for_is_told_with_the_command(
    spread: ParityDesk, number: int
) -> None:
    left = [volume for index, volume in enumerate(spread.volumes) if index != number]
    has_parts = any(not is_parity(name) for name in spread.plan.volumes[number])
    _, outcome = spread.verify(*left)
    assert outcome.next_command is not None
    if not has_parts:
        assert (outcome.code, outcome.next_command.verb) == (None, "push")
        return
    assert outcome.code is Code.VOLUME_MISSING
    assert f"Should volume {number + 1} be lost, the parity shards here are enough" in outcome.next_step
    assert outcome.next_command.verb == "repair"
    assert outcome.next_command.words["volumes"] == tuple(map(str, left))


def test_absent_volumes_beyond_parity_promise_no_repair(spread: ParityDesk) -> None:
    _, outcome = spread.verify(*spread.volumes[:2])
    assert outcome.code is Code.VOLUME_MISSING
    assert "parity" not in outcome.next_step
    assert outcome.next_command is not None
    assert outcome.next_command.verb == "push"


# --- attacks ------------------------------------------------------------------------------------------------


def test_poisoned_shard_with_adapted_texts_is_left_out(single: ParityDesk) -> None:
    names = single.lose(0)
    poison(single, shard_name(0, 0))
    assert not [f for f in single.verify()[1].findings if is_parity(f.damage.name)]
    outcome = single.repair()
    assert (outcome.code, outcome.counts["rebuiltParts"]) == (None, 1)
    assert_rebuilt(single, names)


def test_poisoned_shard_that_is_needed_yields_nothing(single: ParityDesk) -> None:
    lost = single.lose(0, 2)
    poison(single, shard_name(0, 1))
    outcome = single.repair()
    assert outcome.code is Code.PART_MISSING
    assert (outcome.counts["rebuiltParts"], outcome.counts["lostParts"]) == (0, 2)
    assert not any(single.patched(name).exists() for name in lost)
    assert not list(single.patch.rglob("*.partial"))


def test_part_that_ends_before_the_poison_begins_comes_back(single: ParityDesk) -> None:
    short, long = single.part_name(SHORT), single.part_name(1)
    single.lose(SHORT, 1)
    poison(single, shard_name(1, 0), offset=PART - 1)
    outcome = single.repair()
    assert outcome.counts["lostParts"] == 1
    assert_rebuilt(single, [short])
    assert {f.damage.name for f in outcome.findings if not f.is_replaced} == {long}


@pytest.mark.parametrize(
    "numbers",
    [
        {"stripes": 10**9},
        {"stripes": 0},
        {"stripes": -1},
        {"stripes": 2.0},
        {"stripes": True},
        {"stripes": "2"},
        {"parityShards": 17},
        {"parityShards": 10**30},
        {"manifestDigest": "sha256:" + "0" * 64},
        {"schema": 0},
        {"more": 1},
    ],
)
def test_hostile_layout_is_damage_and_the_shards_still_serve_with_no_other(
    single: ParityDesk, numbers: dict[str, object]
) -> None:
    names = single.lose(0)
    folder = single.bag_of(single.volumes[0])
    layout = json.loads((folder / LAYOUT_NAME).read_text())
    (folder / LAYOUT_NAME).write_text(json.dumps(layout | numbers))
    seal_texts(folder)
    outcome = single.repair()
    assert outcome.code is Code.PART_MISSING
    assert (Code.BAG_MALFORMED, LAYOUT_NAME) in {(f.damage.code, f.damage.name) for f in outcome.findings}
    assert not single.patched(names[0]).exists()


def test_layout_of_a_newer_tool_is_called_that(single: ParityDesk) -> None:
    single.lose(0)
    folder = single.bag_of(single.volumes[0])
    layout = json.loads((folder / LAYOUT_NAME).read_text())
    (folder / LAYOUT_NAME).write_text(json.dumps(layout | {"schema": 2}))
    seal_texts(folder)
    found = {(f.damage.code, f.damage.name) for f in single.repair().findings}
    assert (Code.NEWER_FORMAT, LAYOUT_NAME) in found


@pytest.mark.parametrize("numbers", [(1, 2), (1, 16), (2, 1), (3, 2), (7, 1)])
def test_wrong_layout_that_suits_never_yields_a_wrong_part(
    single: ParityDesk, numbers: tuple[int, int]
) -> None:
    names = single.lose(0)
    folder = single.bag_of(single.volumes[0])
    wrong = ParityLayout(stripes=numbers[0], parity_shards=numbers[1])
    (folder / LAYOUT_NAME).write_bytes(wrong.to_bytes(single.bundle.manifest_sha256))
    seal_texts(folder)
    outcome = single.repair()
    if single.patched(names[0]).exists():  # two stripes with one row: the shards are the same
        assert outcome.code is None
        assert_rebuilt(single, names)
    else:
        assert outcome.code is Code.PART_MISSING


def test_layout_of_one_volume_is_enough(spread: ParityDesk) -> None:
    for volume in spread.volumes[1:]:
        (spread.bag_of(volume) / LAYOUT_NAME).write_text("nonsense")
    names = spread.lose(0)
    assert spread.repair().code is None
    assert_rebuilt(spread, names)


def test_parity_volume_whose_list_is_lost_still_serves(spread: ParityDesk) -> None:
    (spread.bag_of(spread.volumes[3]) / PAYLOAD_MANIFEST).write_bytes(b"\xff")
    names = spread.lose(0)
    inspection, _ = spread.verify()
    assert not repairing.can_rebuild(inspection, inspection.lost)
    assert spread.repair().code is None
    assert_rebuilt(spread, names)


def test_part_that_goes_bad_during_the_repair_is_left_out_and_named(single: ParityDesk) -> None:
    names = single.lose(0)
    weak = single.part_name(2)
    outcome = single.repair(meter=HookedMeter("rebuilding", lambda: flip(single.file(weak))))
    assert (outcome.code, outcome.counts["rebuiltParts"], outcome.counts["lostParts"]) == (
        Code.PART_CORRUPT,
        1,
        1,
    )
    assert (weak, single.volumes[0]) in {(f.damage.name, f.volume) for f in outcome.findings}
    assert_rebuilt(single, names)


# --- in place -----------------------------------------------------------------------------------------------


def test_in_place_replaces_what_is_damaged_and_nothing_else(single: ParityDesk) -> None:
    original = {path: content for path, (_, content) in snapshot(single.volumes).items()}
    damaged = {single.file(single.part_name(0)), single.file(shard_name(0, 1)), single.file(shard_name(1, 0))}
    single.lose(3)
    for path in damaged:
        flip(path, 5)
    before = snapshot(single.volumes)
    outcome = single.repair(in_place=True)
    assert (outcome.code, outcome.findings) == (None, ())
    assert (outcome.counts["rebuiltParts"], outcome.counts["rebuiltShards"]) == (2, 2)
    after = snapshot(single.volumes)
    assert {path: content for path, (_, content) in after.items()} == original
    assert {path for path in before if before[path] != after[path]} == damaged
    assert single.verify()[1].code is None


def test_in_place_restores_a_poisoned_shard_to_what_the_parts_say(single: ParityDesk) -> None:
    shard = single.file(shard_name(0, 0))
    content = shard.read_bytes()
    shard.unlink()
    outcome = single.repair(in_place=True)
    assert outcome.counts["rebuiltShards"] == 1
    assert shard.read_bytes() == content


def test_in_place_has_nowhere_to_put_an_absent_volumes_parts(spread: ParityDesk) -> None:
    before = snapshot(spread.volumes)
    outcome = spread.repair(*spread.volumes[1:], in_place=True)
    assert outcome.code is Code.VOLUME_MISSING
    assert outcome.counts["notSeenParts"] == 3
    assert snapshot(spread.volumes) == before


def test_in_place_mends_the_texts_too(single: ParityDesk) -> None:
    folder = single.bag_of(single.volumes[0])
    single.lose(0)
    (folder / DECLARATION).write_text("nonsense")
    assert single.repair(in_place=True).code is None
    assert single.verify()[1].code is None


# --- the volume that is written -----------------------------------------------------------------------------


def test_patch_without_room_is_refused_before_anything_is_written(
    single: ParityDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    single.lose(0, 1)
    usage = shutil.disk_usage(single.patch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2 * PART))
    assert refusal(single.repair) is Code.MEDIA_FULL
    assert list(single.patch.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=PART))
    assert refusal(lambda: single.repair(in_place=True)) is Code.MEDIA_FULL


def test_patch_must_not_be_a_volume_of_the_transfer(spread: ParityDesk) -> None:
    spread.lose(0)
    before = snapshot(spread.volumes)
    assert refusal(lambda: spread.repair(to=spread.volumes[0])) is Code.USAGE
    assert refusal(lambda: spread.repair(*spread.volumes[:3], to=spread.volumes[3])) is Code.USAGE
    assert snapshot(spread.volumes) == before


def test_patch_with_another_bundle_or_other_files_is_refused(single: ParityDesk, tmp_path: Path) -> None:
    single.lose(0)
    other = ParityDesk(make_bundle(seed=2), tmp_path / "other", ParityLayout(stripes=1, parity_shards=1))
    assert other.pull(other.volumes[0]).code is None
    assert refusal(lambda: single.repair(to=other.volumes[0])) is Code.VOLUME_CONFLICT
    single.bag_of(single.patch).mkdir()
    (single.bag_of(single.patch) / "autorun.inf").write_text("[autorun]")
    assert refusal(single.repair) is Code.UNDECLARED_FILE


def test_patch_that_does_not_keep_what_was_written_is_caught(
    single: ParityDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = single.lose(0)
    honest = media_fs.write_all
    monkeypatch.setattr(media_fs, "write_all", lambda file, content: honest(file, bytes(len(content))))
    outcome = single.repair()
    assert outcome.code is Code.MEDIA_LIED
    assert (name, single.patch) in {(f.damage.name, f.volume) for f in outcome.findings}
    assert not (single.bag_of(single.patch) / ENVELOPE_NAME).exists()
    monkeypatch.undo()
    assert single.repair().code is None
    assert_rebuilt(single, [name])


# --- interruptions ------------------------------------------------------------------------------------------


class _Stopping(Meter):
    """Stops the run after so many calls."""

    def __init__(self, calls: int, stop: Callable[[], None]) -> None:
        super().__init__()
        self._left = calls
        self._stop = stop
        self._is_rebuilding = False

    def start(
        self, title: str, total_bytes: int, lanes: Mapping[str, int] | None = None, *, parts: int = 0
    ) -> None:
        super().start(title, total_bytes, lanes, parts=parts)
        self._is_rebuilding = title != "verifying"

    def advance(self, size_bytes: int, lane: Lane | None = None) -> None:
        super().advance(size_bytes, lane)
        if self._is_rebuilding:
            self._left -= 1
            if self._left == 0:
                self._stop()


def _interrupt() -> None:
    raise Cancelled


@pytest.mark.parametrize("calls", [1, 8, 10, 17])
def test_interrupted_repair_goes_on_where_it_was(single: ParityDesk, calls: int) -> None:
    names = single.lose(0, 1)
    with pytest.raises(Cancelled):
        single.repair(meter=_Stopping(calls, _interrupt), concurrency=1)
    whole = [name for name in names if single.patched(name).exists()]
    assert all(single.is_right(single.patched(name), name) for name in whole)
    outcome = single.repair()
    assert (outcome.code, outcome.counts["keptParts"]) == (None, len(whole))
    assert_rebuilt(single, names)


@pytest.mark.parametrize("is_in_place", [False, True])
@pytest.mark.parametrize(
    "where", ["piece 1", "piece 8", "piece 10", "piece 17", "sync 1", "sync 4", "sync 6", "sync 7", "sync 12"]
)
def test_kill_leaves_nothing_or_whole_right_parts(
    single: ParityDesk, tmp_path: Path, where: str, *, is_in_place: bool
) -> None:
    names = [single.part_name(0), single.part_name(1)]
    for name in names:
        flip(single.file(name))
    policy = tmp_path / "policy.json"
    policy.write_bytes(single.bundle.policy_json)
    to = [] if is_in_place else [str(single.patch)]
    script = [sys.executable, "-c", _KILLED, where, str(policy), str(single.volumes[0]), *to]
    killed = subprocess.run(script, check=False, timeout=60)
    assert killed.returncode in {0, -signal.SIGKILL}
    places = single.file if is_in_place else single.patched
    wrong = {n for n in names if places(n).exists() and not single.is_right(places(n), n)}
    assert is_in_place or not wrong
    assert not wrong or (killed.returncode != 0)
    outcome = single.repair(in_place=is_in_place)
    assert outcome.code is None
    assert outcome.counts["rebuiltParts"] <= len(names)
    assert all(single.is_right(places(name), name) for name in names)
    assert not list(tmp_path.rglob("*.partial"))
    inspection, verified = single.verify(*single.volumes, *([] if is_in_place else [single.patch]))
    assert inspection.lost == []
    assert all(finding.is_replaced for finding in verified.findings)


_KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from airgap.policy import TrustPolicy
from offline_mover.commands.repair import repair
from offline_mover.progress import Meter
from tests.offline_mover.commands.test_repair import _Stopping

where, policy, volume, *to = sys.argv[1:]
kind, _, count = where.partition(" ")
syncs = int(count) if kind == "sync" else 0
fsync = os.fsync

def killing_fsync(descriptor):
    global syncs
    syncs -= 1
    if syncs == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)

os.fsync = killing_fsync
pieces = _Stopping(int(count), lambda: os.kill(os.getpid(), signal.SIGKILL))
repair(
    [Path(volume)],
    to=Path(to[0]) if to else None,
    transfer_id=None,
    policy=TrustPolicy.from_bytes(Path(policy).read_bytes()),
    now=datetime.now(UTC),
    concurrency=1,
    meter=pieces if kind == "piece" else Meter(),
)
"""
