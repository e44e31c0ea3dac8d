"""An order that is more than one bundle takes is divided by a stated rule."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.division import MAX_PLANNED_ARTIFACTS, MAX_REFERENCES, PORTION_ARTIFACTS, divide
from airgap.manifest import MAX_ARTIFACTS


@pytest.mark.parametrize(
    ("sizes", "starts"),
    [
        ([], ()),
        ([1], (0,)),
        ([0, 0], (0,)),
        ([4, 6], (0,)),
        ([4, 7], (0, 1)),
        ([4, 6, 0, 1], (0, 3)),
        ([11, 1], (0, 1)),
        ([1, 11, 1], (0, 1, 2)),
        ([5] * 5, (0, 2, 4)),
    ],
)
def test_each_portion_takes_as_many_as_fit(sizes: list[int], starts: tuple[int, ...]) -> None:
    assert divide(sizes, 10) == starts


@given(st.lists(st.integers(0, 8), min_size=1), st.integers(8, 30))
def test_portions_are_in_order_whole_and_as_few_as_can_be_so(sizes: list[int], most: int) -> None:
    starts = divide(sizes, most)
    assert starts[0] == 0
    portions = [sizes[begin:end] for begin, end in zip(starts, (*starts[1:], len(sizes)), strict=True)]
    assert [size for portion in portions for size in portion] == sizes
    assert all(portion and sum(portion) <= most for portion in portions)
    for portion, after in pairwise(portions):
        assert sum(portion) + after[0] > most


def test_referrers_that_come_meanwhile_have_room() -> None:
    assert PORTION_ARTIFACTS < MAX_ARTIFACTS
    assert divide([1] * 20_000) == (0, 4500, 9000, 13500, 18000)


def test_page_tells_how_much_one_order_may_name_and_come_to() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"1 to {MAX_REFERENCES:,} references" in page
    assert f"an order that comes to over {MAX_PLANNED_ARTIFACTS:,}" in page
