"""Parity layouts, what they survive, and how they are read."""

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.erasure import MAX_SHARDS
from airgap.errors import Code, OperatorError, UntrustedInputError
from airgap.parity import (
    MAX_LAYOUT_BYTES,
    MAX_PARITY_SHARDS,
    SHARD_NAME,
    ParityLayout,
    ParityWish,
    layout_for_share,
    layout_for_volumes,
    shard_name,
    shard_place,
)
from airgap.parts import MIN_PART_SIZE_BYTES, PartRange
from airgap.repair_outlook import judge_repair
from tests.bundles import Bundle, make_bundle

DIGEST = "ab" * 32
MIB = 1024 * 1024
ARABIC_ZERO = "\N{ARABIC-INDIC DIGIT ZERO}"


def part_list(sizes: list[int]) -> list[PartRange]:
    return [
        PartRange(blob="001", number=number, offset_bytes=0, size_bytes=size)
        for number, size in enumerate(sizes, start=1)
    ]


# --- stripes ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(part_count=st.integers(1, 400), stripes=st.integers(1, 400))
def test_every_part_is_in_exactly_one_stripe(part_count: int, stripes: int) -> None:
    layout = ParityLayout(stripes=stripes, parity_shards=1)
    dealt = [ordinal for stripe in range(stripes) for ordinal in layout.ordinals(stripe, part_count)]
    assert sorted(dealt) == list(range(part_count))
    assert all(
        layout.stripe_of(ordinal) == stripe
        for stripe in range(stripes)
        for ordinal in layout.ordinals(stripe, part_count)
    )


@settings(deadline=None)
@given(part_count=st.integers(1, 400), stripes=st.integers(1, 60), data=st.data())
def test_run_of_parts_is_spread_over_the_stripes(part_count: int, stripes: int, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, part_count - 1))
    end = data.draw(st.integers(begin, part_count))
    layout = ParityLayout(stripes=stripes, parity_shards=1)
    assert layout.most_of_one_stripe(range(begin, end)) == -(-(end - begin) // stripes)


def test_stripe_lists_its_parts_then_its_parity_shards() -> None:
    stripe = ParityLayout(stripes=2, parity_shards=2).stripe(1, part_list([100, 90, 100, 70, 100]))
    assert [(shard.name, shard.size_bytes, shard.ordinal) for shard in stripe.shards] == [
        ("001/00000002.part", 90, 1),
        ("001/00000004.part", 70, 3),
        ("parity/00000001-00.parity", 96, None),
        ("parity/00000001-01.parity", 96, None),
    ]
    assert stripe.parity == stripe.shards[2:]
    assert stripe.size_bytes == 96
    assert (stripe.code.data_shards, stripe.code.parity_shards) == (2, 2)


def test_pieces_cover_a_stripe_once() -> None:
    stripe = ParityLayout(stripes=1, parity_shards=1).stripe(0, part_list([MIB + 5, 300]))
    pieces = list(stripe.pieces(units=2))
    assert pieces == [(0, MIB // 2), (MIB // 2, MIB // 2), (MIB, 8)]
    assert [stripe.shards[0].bytes_at(*piece) for piece in pieces] == [MIB // 2, MIB // 2, 5]
    assert [stripe.shards[1].bytes_at(*piece) for piece in pieces] == [300, 0, 0]


def test_parity_shards_are_listed_row_by_row(bundle: Bundle) -> None:
    listed = list(ParityLayout(stripes=2, parity_shards=2).shards(bundle.manifest))
    assert listed == [
        ("parity/00000000-00.parity", MIN_PART_SIZE_BYTES),
        ("parity/00000001-00.parity", MIN_PART_SIZE_BYTES),
        ("parity/00000000-01.parity", MIN_PART_SIZE_BYTES),
        ("parity/00000001-01.parity", MIN_PART_SIZE_BYTES),
    ]


@pytest.mark.parametrize(("stripes", "parity_shards"), [(0, 1), (1, 0), (-1, 1), (1, 17), (10**8, 1)])
def test_numbers_that_no_layout_has(stripes: int, parity_shards: int) -> None:
    with pytest.raises(ValueError, match="parity shards"):
        ParityLayout(stripes=stripes, parity_shards=parity_shards)


@pytest.mark.parametrize(
    ("stripes", "parity_shards", "part_count", "fits"),
    [(5, 1, 4, False), (4, 1, 4, True), (1, 1, 254, True), (1, 1, 255, False), (2, 16, 479, False)],
)
def test_layout_must_suit_the_bundle(
    stripes: int, parity_shards: int, part_count: int, *, fits: bool, bundle: Bundle
) -> None:
    layout = ParityLayout(stripes=stripes, parity_shards=parity_shards)
    assert (layout.misfit(part_count) == "") == fits
    if not fits:
        with pytest.raises(ValueError, match=r"parts"):
            layout.stripe(0, part_list([1] * part_count))
    if layout.misfit(bundle.manifest.part_count):
        with pytest.raises(ValueError, match=r"parts"):
            layout.shards(bundle.manifest)


def test_stripe_that_is_not_there() -> None:
    layout = ParityLayout(stripes=2, parity_shards=1)
    with pytest.raises(ValueError, match="no stripe 2"):
        layout.stripe(2, part_list([8, 8]))
    with pytest.raises(ValueError, match="not in stripe 0: 001/00000002"):
        layout.stripe(0, part_list([8, 8])).recovery(["001/00000002.part"])


@settings(deadline=None)
@given(stripe=st.integers(0, 99_999_999), row=st.integers(0, 15))
def test_shard_names_tell_their_place(stripe: int, row: int) -> None:
    assert SHARD_NAME.fullmatch(shard_name(stripe, row))
    assert shard_place(shard_name(stripe, row)) == (stripe, row)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "001/00000001.part",
            "parity/0-0.parity",
            "parity/00000000-00.parity\n",
            "parity/00000000-00.PARITY",
        ),
        *(
            "../parity/00000000-00.parity",
            "parity/00000000-000.parity",
            f"parity/{ARABIC_ZERO * 8}-00.parity",
            "",
        ),
    ],
)
def test_other_names_are_no_shards(name: str) -> None:
    assert shard_place(name) is None


# --- what is survived ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    volume_parts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    lost_volumes=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_any_volumes_may_be_lost_parity_volumes_among_them(
    volume_parts: list[int], lost_volumes: int, seed: int
) -> None:
    part_count = sum(volume_parts)
    layout = layout_for_volumes(part_count, max(volume_parts), lost_volumes)
    begins = [0, *itertools.accumulate(volume_parts)]
    data_volumes = [set(range(*span)) for span in itertools.pairwise(begins)]
    parity_volumes = [{(stripe, row) for stripe in range(layout.stripes)} for row in range(lost_volumes)]
    source = random.Random(seed)  # noqa: S311 - a choice for a test
    lost = source.sample(range(len(volume_parts) + lost_volumes), lost_volumes)
    outlook = judge_repair(
        layout,
        part_count=part_count,
        missing_parts=set().union(*(data_volumes[n] for n in lost if n < len(data_volumes))),
        missing_shards=set().union(
            *(parity_volumes[n - len(data_volumes)] for n in lost if n >= len(data_volumes))
        ),
    )
    assert outlook.lost_parts == outlook.to_bring == ()


def test_outlook_tells_what_can_be_rebuilt_and_what_must_be_brought() -> None:
    layout = ParityLayout(stripes=3, parity_shards=2)
    outlook = judge_repair(
        layout, part_count=12, missing_parts=[0, 3, 6, 1, 8], missing_shards={(1, 0), (2, 0), (2, 1)}
    )
    assert outlook.repairable_parts == (1,)
    assert outlook.lost_parts == (0, 3, 6, 8)
    assert outlook.to_bring == (0, 8)
    assert [(s.stripe, s.parts, s.rows, s.is_repairable) for s in outlook.stripes] == [
        (0, (0, 3, 6), (), False),
        (1, (1,), (0,), True),
        (2, (8,), (0, 1), False),
    ]


def test_lost_parity_alone_needs_no_part() -> None:
    layout = ParityLayout(stripes=1, parity_shards=1)
    outlook = judge_repair(layout, part_count=3, missing_parts=[], missing_shards=[(0, 0)])
    assert outlook.stripes[0].is_repairable
    assert judge_repair(layout, part_count=3, missing_parts=[], missing_shards=[]).stripes == ()


@pytest.mark.parametrize(
    ("parts", "shards"), [([12], []), ([-1], []), ([], [(3, 0)]), ([], [(0, 2)]), ([], [(-1, 0)])]
)
def test_outlook_on_what_is_not_there(parts: list[int], shards: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="there is no"):
        judge_repair(
            ParityLayout(stripes=3, parity_shards=2),
            part_count=12,
            missing_parts=parts,
            missing_shards=shards,
        )


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle()


def test_lost_parts_are_rebuilt_from_files(bundle: Bundle) -> None:
    parts = bundle.parts
    files = {part.name: bundle.part_bytes(part) for part in parts}
    layout = ParityLayout(stripes=2, parity_shards=2)
    for number in range(layout.stripes):
        stripe = layout.stripe(number, parts)
        encoding = stripe.encoding()
        for offset, size in stripe.pieces(units=4):
            pieces = (
                (place, files[stripe.shards[place].name][offset : offset + size]) for place in encoding.inputs
            )
            for place, piece in encoding.apply(pieces, size).items():
                name = stripe.shards[place].name
                files[name] = files.get(name, b"") + piece

    lost = {name: files.pop(name) for name in list(files) if name.startswith("001/")}
    del lost["001/00000002.part"]
    files["001/00000002.part"] = bundle.part_bytes(parts[1])
    for stripe in (layout.stripe(number, parts) for number in range(layout.stripes)):
        names = [shard.name for shard in stripe.shards if shard.name in lost]
        recovery = stripe.recovery(names)
        rebuilt = dict.fromkeys(recovery.outputs, b"")
        for offset, size in stripe.pieces():
            pieces = (
                (place, files[stripe.shards[place].name][offset : offset + size]) for place in recovery.inputs
            )
            for place, piece in recovery.apply(pieces, size).items():
                rebuilt[place] += piece
        for place, content in rebuilt.items():
            shard = stripe.shards[place]
            assert content[: shard.size_bytes] == lost.pop(shard.name)
            assert not any(content[shard.size_bytes :])
    assert not lost


# --- layouts for a wish -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part_count", "percent", "expected"),
    [
        (20_000, "2%", (200, 2)),
        (20_000, "5%", (157, 7)),
        (20_000, "0.5%", (100, 1)),
        (20_000, "0.01%", (79, 1)),
        (500, "2%", (5, 2)),
        (100, "2%", (1, 2)),
        (16, "2%", (1, 1)),
        (1, "2%", (1, 1)),
        (3, "100%", (1, 3)),
        (100, "100%", (13, 8)),
    ],
)
def test_layout_for_a_share(part_count: int, percent: str, expected: tuple[int, int]) -> None:
    layout = ParityWish.from_text(percent).layout(part_count=part_count, largest_volume_parts=1)
    assert (layout.stripes, layout.parity_shards) == expected


@settings(deadline=None)
@given(part_count=st.integers(1, 120_000), share=st.integers(1, 1_000_000))
def test_share_is_given_and_hardly_more(part_count: int, share: int) -> None:
    layout = layout_for_share(part_count, share)
    asked = -(-part_count * share // 1_000_000)
    assert layout.misfit(part_count) == ""
    assert layout.total_shards >= asked
    assert layout.total_shards <= max(1.1 * asked, -(-part_count // (MAX_SHARDS - 1)))
    assert layout.parity_shards <= 8


@pytest.mark.parametrize(
    ("part_count", "largest", "lost", "expected"),
    [(100, 40, 1, (40, 1)), (100, 40, 2, (40, 2)), (5, 9, 1, (5, 1)), (5, 0, 1, (1, 1)), (1, 1, 16, (1, 16))],
)
def test_layout_for_volumes(part_count: int, largest: int, lost: int, expected: tuple[int, int]) -> None:
    layout = ParityWish(lost_volumes=lost).layout(part_count=part_count, largest_volume_parts=largest)
    assert (layout.stripes, layout.parity_shards) == expected


def test_more_volumes_than_a_stripe_has_room_for() -> None:
    with pytest.raises(OperatorError, match="use larger volumes") as refusal:
        layout_for_volumes(1000, 3, 1)
    assert refusal.value.code is Code.USAGE


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("2%", ParityWish(share=20_000)),
        ("0.5%", ParityWish(share=5_000)),
        ("12.25%", ParityWish(share=122_500)),
        ("0.0001%", ParityWish(share=1)),
        ("100%", ParityWish(share=1_000_000)),
        ("1-volume", ParityWish(lost_volumes=1)),
        ("2-volumes", ParityWish(lost_volumes=2)),
        (f"{MAX_PARITY_SHARDS}-volumes", ParityWish(lost_volumes=MAX_PARITY_SHARDS)),
    ],
)
def test_wish_is_read_and_written(text: str, wish: ParityWish) -> None:
    assert ParityWish.from_text(text) == wish
    assert str(wish) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "2",
            "%",
            "0%",
            "0.0000%",
            "100.1%",
            "101%",
            "-1%",
            "1e1%",
            "2 %",
            "+2%",
            f"{ARABIC_ZERO}%",
            ".5%",
            "1.%",
        ),
        *("0.00001%", "0-volumes", "17-volumes", "volume", "1-volumen", "1volume", "2%\n", "9" * 5000 + "%"),
    ],
)
def test_wish_that_cannot_be_read(text: str) -> None:
    with pytest.raises(OperatorError) as refusal:
        ParityWish.from_text(text)
    assert refusal.value.code is Code.USAGE


@pytest.mark.parametrize(("share", "lost"), [(0, 0), (1, 1), (-1, 0), (0, 17), (1_000_001, 0)])
def test_wish_for_both_or_nothing(share: int, lost: int) -> None:
    with pytest.raises(OperatorError):
        ParityWish(share=share, lost_volumes=lost)


# --- the tag file -------------------------------------------------------------------------------------------


def layout_json(**changes: Any) -> bytes:
    members: dict[str, Any] = {
        "schema": 1,
        "manifestDigest": f"sha256:{DIGEST}",
        "stripes": 4,
        "parityShards": 2,
    }
    members |= changes
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def test_layout_is_written_and_read() -> None:
    layout = ParityLayout(stripes=4, parity_shards=2)
    raw = layout.to_bytes(DIGEST)
    assert raw == (
        b'{"manifestDigest":"sha256:' + DIGEST.encode() + b'","parityShards":2,"schema":1,"stripes":4}'
    )
    assert ParityLayout.from_bytes(raw, manifest_sha256=DIGEST, part_count=10) == layout


INVALID = {
    "not json": b"stripes",
    "not an object": b"[4, 2]",
    "key twice": b'{"schema":1,"schema":1}',
    "too deep": b"[" * 1000,
    "earlier schema": layout_json(schema=0),
    "schema true": layout_json(schema=True),
    "another bundle's": layout_json(manifestDigest="sha256:" + "cd" * 32),
    "digest without algorithm": layout_json(manifestDigest=DIGEST),
    "no digest": layout_json(manifestDigest=...),
    "unknown member": layout_json(matrix="vandermonde"),
    "no stripes": layout_json(stripes=0),
    "stripes as text": layout_json(stripes="4"),
    "more stripes than parts": layout_json(stripes=11),
    "stripes without end": layout_json(stripes=2**53 - 1),
    "no parity": layout_json(parityShards=0),
    "too much parity": layout_json(parityShards=17),
    "fractions": layout_json(parityShards=1.5),
}


@pytest.mark.parametrize("raw", INVALID.values(), ids=INVALID.keys())
def test_hostile_layout_is_refused(raw: bytes) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        ParityLayout.from_bytes(raw, manifest_sha256=DIGEST, part_count=10)
    assert refusal.value.code is Code.BAG_MALFORMED


def test_layout_with_stripes_too_long_is_refused() -> None:
    with pytest.raises(UntrustedInputError, match="do not fit"):
        ParityLayout.from_bytes(layout_json(stripes=1), manifest_sha256=DIGEST, part_count=254)


def test_oversized_layout_is_refused_unread() -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        ParityLayout.from_bytes(b" " * (MAX_LAYOUT_BYTES + 1), manifest_sha256=DIGEST, part_count=10)
    assert refusal.value.code is Code.TOO_LARGE
