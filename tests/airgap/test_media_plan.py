from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import AirgapError, Code
from airgap.media_plan import (
    SLACK_BYTES,
    Capacity,
    PayloadFile,
    SavedPlan,
    estimated_seconds,
    plan_volumes,
)
from airgap.parity import ParityLayout

_KIB = 1024
_BAG = 10_000


def files(count: int, size_bytes: int = 100 * _KIB, blob: str = "001") -> list[PayloadFile]:
    return [
        PayloadFile(name=f"{blob}/{number:08d}.part", size_bytes=size_bytes) for number in range(1, count + 1)
    ]


def room(file_count: int, **limits: int) -> Capacity:
    """A volume with clusters of 4 KiB that takes exactly so many files of 100 KiB."""
    return Capacity(
        free_bytes=file_count * 100 * _KIB + 12 * _KIB + SLACK_BYTES, cluster_bytes=4 * _KIB, **limits
    )


def test_volumes_are_filled_in_their_order() -> None:
    plan = plan_volumes(files(10), [room(2), room(5), room(9)], bag_bytes=_BAG)
    assert [len(load.files) for load in plan.loads] == [2, 5, 3]
    assert [file.name for load in plan.loads for file in load.files] == [f.name for f in files(10)]
    assert plan.holds


def test_what_does_not_fit_is_named() -> None:
    plan = plan_volumes(files(10), [room(2), room(5)], bag_bytes=_BAG)
    assert [file.name for file in plan.unplaced] == [file.name for file in files(10)[7:]]
    assert (plan.holds, plan.lacking_bytes) == (False, 300 * _KIB)


def test_files_are_counted_in_whole_clusters() -> None:
    capacity = Capacity(free_bytes=SLACK_BYTES + 3 * 64 * _KIB, cluster_bytes=64 * _KIB)
    assert len(plan_volumes(files(5, 1), [capacity], bag_bytes=1).loads[0].files) == 2


def test_file_larger_than_the_file_system_allows_goes_elsewhere() -> None:
    fat, exfat = room(9, max_file_bytes=50 * _KIB), room(9)
    plan = plan_volumes(files(3), [fat, exfat], bag_bytes=_BAG)
    assert [len(load.files) for load in plan.loads] == [0, 3]


def test_full_folder_of_fat_sends_the_rest_to_the_next_volume() -> None:
    wanted = [*files(5), *files(2, blob="002")]
    plan = plan_volumes(
        wanted, [room(20, max_files=3), room(20)], bag_bytes=_BAG, held_files=[{"001": 1}, {}]
    )
    assert [Counter(f.folder for f in load.files) for load in plan.loads] == [
        {"001": 2, "002": 2},
        {"001": 3},
    ]


def test_volume_that_takes_nothing_costs_no_bag() -> None:
    plan = plan_volumes(files(1), [room(1), room(1)], bag_bytes=_BAG)
    assert [load.stored_bytes for load in plan.loads] == [100 * _KIB + 12 * _KIB, 0]


@given(
    sizes=st.lists(st.integers(0, 400 * _KIB), max_size=40),
    rooms=st.lists(st.integers(0, 4000 * _KIB), min_size=1, max_size=6),
)
def test_every_file_has_one_place_and_no_volume_is_overfilled(sizes: list[int], rooms: list[int]) -> None:
    wanted = [
        PayloadFile(name=f"001/{number:08d}.part", size_bytes=size)
        for number, size in enumerate(sizes, start=1)
    ]
    capacities = [Capacity(free_bytes=free, cluster_bytes=4 * _KIB) for free in rooms]
    plan = plan_volumes(wanted, capacities, bag_bytes=_BAG)
    placed = [file for load in plan.loads for file in load.files]
    assert sorted(file.name for file in (*placed, *plan.unplaced)) == [file.name for file in wanted]
    for load, capacity in zip(plan.loads, capacities, strict=True):
        assert not load.files or load.stored_bytes + SLACK_BYTES <= capacity.free_bytes


# --- a plan that is kept ------------------------------------------------------------------------------------

_SAVED = SavedPlan(
    transfer_id="k3v9x2m7q1",
    manifest_sha256="ab" * 32,
    volumes=(("001/00000001.part",), ("001/00000002.part", "parity/00000000-00.parity")),
    layout=ParityLayout(stripes=1, parity_shards=1),
)


def test_saved_plan_reads_back() -> None:
    assert SavedPlan.from_bytes(_SAVED.to_bytes()) == _SAVED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"schema":1', b'"schema":0'),
        (b'"number":2', b'"number":3'),
        (b"001/00000002.part", b"001/00000001.part"),
        (b"001/00000002.part", b"../etc/passwd"),
        (b'"parityShards":1', b'"parityShards":99'),
        (b"k3v9x2m7q1", b"k3v9x2m7q1\\u0000"),
        (b"{", b"["),
    ],
)
def test_plan_that_was_tampered_with_is_a_usage_error(old: bytes, new: bytes) -> None:
    raw = _SAVED.to_bytes()
    assert old in raw
    with pytest.raises(AirgapError) as caught:
        SavedPlan.from_bytes(raw.replace(old, new, 1))
    assert caught.value.code is Code.USAGE


def test_estimate_rounds_up() -> None:
    assert (estimated_seconds(101, 10.0), estimated_seconds(0, 10.0), estimated_seconds(5, 0.0)) == (11, 0, 0)
