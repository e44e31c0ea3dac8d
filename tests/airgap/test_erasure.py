"""Erasure coding, against an implementation that multiplies bit by bit."""

import hashlib
import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.erasure import UNIT_BYTES, Combination, ErasureCode
from bench import erasure as bench

Shards = dict[int, bytes]


def multiply(left: int, right: int) -> int:
    """Schoolbook, modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    for bit in range(8):
        product ^= (left << bit) if right >> bit & 1 else 0
    for bit in range(14, 7, -1):
        product ^= (0x11D << (bit - 8)) if product >> bit & 1 else 0
    return product


def divide(left: int, right: int) -> int:
    return next(quotient for quotient in range(256) if multiply(quotient, right) == left)


def elements(unit: bytes) -> list[int]:
    """The field's elements of one unit: bit t of packet b is bit b of element t."""
    size = len(unit) // 8
    return [
        sum((unit[bit * size + t // 8] >> (t % 8) & 1) << bit for bit in range(8)) for t in range(size * 8)
    ]


def slow_parity(data: Sequence[bytes], size: int, row: int) -> list[int]:
    """One parity shard of a single unit, as elements."""
    total = [0] * size
    for j, shard in enumerate(data):
        coefficient = divide(255 ^ j, 255 ^ row ^ j)
        for t, element in enumerate(elements(shard.ljust(size, b"\0"))):
            total[t] ^= multiply(coefficient, element)
    return total


def determinant(matrix: list[list[int]]) -> int:
    """By expansion along the first row; there are no signs in this field."""
    if not matrix:
        return 1
    minors = ([row[:j] + row[j + 1 :] for row in matrix[1:]] for j in range(len(matrix)))
    total = 0
    for entry, minor in zip(matrix[0], minors, strict=True):
        total ^= multiply(entry, determinant(minor))
    return total


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - content for tests


def make_shards(code: ErasureCode, size: int, seed: int = 1) -> Shards:
    """Random data shards, the last one short, and their parity, all filled up."""
    source = seeded(seed)
    data = {j: source.randbytes(size) for j in range(code.data_shards)}
    data[code.data_shards - 1] = data[code.data_shards - 1][: size // 2 - 1]
    parity = code.encoding().apply(data.items(), size)
    return {shard: piece.ljust(size, b"\0") for shard, piece in (data | parity).items()}


def rebuild(combination: Combination, shards: Shards, size: int) -> Shards:
    return combination.apply(((shard, shards[shard]) for shard in combination.inputs), size)


def test_parity_is_what_the_formula_says() -> None:
    code = ErasureCode(5, 4)
    shards = make_shards(code, 24)
    data = [shards[j] for j in range(5)]
    for row in range(4):
        assert elements(shards[5 + row]) == slow_parity(data, 24, row)


@settings(max_examples=30, deadline=None)
@given(data=st.lists(st.binary(max_size=16), min_size=1, max_size=6), parity_shards=st.integers(1, 5))
def test_parity_of_any_data(data: list[bytes], parity_shards: int) -> None:
    code = ErasureCode(len(data), parity_shards)
    found = code.encoding().apply(enumerate(data), 16)
    for row in range(parity_shards):
        assert elements(found[len(data) + row]) == slow_parity(data, 16, row)


def test_stored_format_never_changes() -> None:
    shards = make_shards(ErasureCode(7, 3), UNIT_BYTES + 4096, seed=7)
    digest = hashlib.sha256(b"".join(shards[shard] for shard in (7, 8, 9))).hexdigest()
    assert digest == "5b13d60a4b6637ac28da1718d3d4a225a08dcb354c77ef94259bd41790a04b55"


def test_first_parity_shard_is_plain_exclusive_or() -> None:
    shards = make_shards(ErasureCode(9, 2), 64)
    expected = 0
    for j in range(9):
        expected ^= int.from_bytes(shards[j], "big")
    assert shards[9] == expected.to_bytes(64, "big")


SMALL_CODES = [ErasureCode(k, m) for k, m in itertools.product(range(1, 6), range(1, 5))]


@pytest.mark.parametrize("code", SMALL_CODES, ids=str)
def test_any_shards_up_to_parity_come_back(code: ErasureCode) -> None:
    shards = make_shards(code, 16)
    for count in range(code.parity_shards + 1):
        for lost in itertools.combinations(range(code.shards), count):
            found = rebuild(code.recovery(lost), shards, 16)
            assert found == {shard: shards[shard] for shard in lost}


@pytest.mark.parametrize(
    ("k", "m"), [(254, 1), (253, 2), (239, 16), (128, 8), (200, 55), (1, 254), (100, 40)]
)
def test_shards_of_large_codes_come_back(k: int, m: int) -> None:
    code = ErasureCode(k, m)
    shards = make_shards(code, 8)
    source = seeded(k)
    for lost in [range(m), range(k, k + m), source.sample(range(k + m), m)]:
        assert rebuild(code.recovery(lost), shards, 8) == {shard: shards[shard] for shard in lost}


def test_every_small_square_of_coefficients_is_invertible() -> None:
    code = ErasureCode(239, 16)
    source = seeded(3)
    for order in (1, 2, 3, 4):
        for _ in range(300):
            rows, columns = source.sample(range(16), order), source.sample(range(239), order)
            assert determinant([[code.coefficient(i, j) for j in columns] for i in rows])


def test_every_survivor_counts_for_every_rebuilt_shard() -> None:
    """In a code that makes the most of its parity, no coefficient of a recovery is zero."""
    code = ErasureCode(20, 4)
    for lost in seeded(5).sample(list(itertools.combinations(range(20), 4)), 100):
        assert all(0 not in row for row in code.recovery(lost).rows)


def test_recovery_reads_no_more_shards_than_it_must() -> None:
    combination = ErasureCode(6, 3).recovery([1, 7])
    assert combination.inputs == (0, 2, 3, 4, 5, 6)
    assert combination.outputs == (1, 7)


def test_single_loss_needs_no_multiplication() -> None:
    assert ErasureCode(6, 3).recovery([4]).rows == (b"\x01" * 6,)


def test_more_parity_shards_and_more_data_leave_the_first_ones_alone() -> None:
    data = [seeded(j).randbytes(32) for j in range(4)]
    few = ErasureCode(4, 2).encoding().apply(enumerate(data), 32)
    many = ErasureCode(6, 5).encoding().apply(enumerate([*data, b"", b""]), 32)
    assert [many[6], many[7]] == [few[4], few[5]]


def test_portions_on_different_days_make_the_same_parity() -> None:
    code = ErasureCode(6, 3)
    shards = make_shards(code, UNIT_BYTES + 64)
    encoding = code.encoding()
    begun: Shards = {}
    for shards_at_hand in ([5, 0], [3], [], [1, 2, 4]):
        begun = rebuild_portion(encoding.portion(shards_at_hand), shards, begun)
    assert begun == {shard: shards[shard] for shard in (6, 7, 8)}


def rebuild_portion(combination: Combination, shards: Shards, begun: Shards) -> Shards:
    pieces = ((shard, shards[shard]) for shard in combination.inputs)
    return combination.apply(pieces, UNIT_BYTES + 64, begun)


def test_only_some_outputs() -> None:
    code = ErasureCode(5, 3)
    shards = make_shards(code, 32)
    found = rebuild(code.recovery([1, 3, 6]).only([3]), shards, 32)
    assert found == {3: shards[3]}


def test_pieces_of_several_units_are_units_in_turn() -> None:
    code = ErasureCode(3, 2)
    size = 2 * UNIT_BYTES + 4096
    data = {j: seeded(j).randbytes(size - j * UNIT_BYTES) for j in range(3)}
    whole = code.encoding().apply(data.items(), size)
    joined = dict.fromkeys(whole, b"")
    for begin in range(0, size, UNIT_BYTES):
        length = min(UNIT_BYTES, size - begin)
        pieces = ((shard, piece[begin : begin + length]) for shard, piece in data.items())
        for shard, piece in code.encoding().apply(pieces, length).items():
            joined[shard] += piece
    assert joined == whole


def test_short_and_empty_pieces_count_as_filled_up() -> None:
    code = ErasureCode(3, 2)
    encoding = code.encoding()
    short = encoding.apply([(2, b""), (0, b"abc"), (1, b"abcdefghijklmnop")], 16)
    filled = encoding.apply([(0, b"abc" + b"\0" * 13), (1, b"abcdefghijklmnop"), (2, b"\0" * 16)], 16)
    assert short == filled


@settings(max_examples=30, deadline=None)
@given(shard=st.integers(0, 3), bit=st.integers(0, 16 * 8 - 1))
def test_flipped_bit_never_rebuilds_the_right_shard(shard: int, bit: int) -> None:
    code = ErasureCode(5, 2)
    shards = make_shards(code, 16)
    combination = code.recovery([0, 1])
    place = combination.inputs[shard]
    damaged = shards | {place: (int.from_bytes(shards[place], "big") ^ (1 << bit)).to_bytes(16, "big")}
    found = rebuild(combination, damaged, 16)
    assert all(found[lost] != shards[lost] for lost in (0, 1))


@pytest.mark.parametrize(("k", "m"), [(0, 1), (1, 0), (-1, 5), (255, 1), (128, 128)])
def test_codes_that_the_field_cannot_have(k: int, m: int) -> None:
    with pytest.raises(ValueError, match="erasure code"):
        ErasureCode(k, m)


@pytest.mark.parametrize("lost", [[0, 1, 2], [5], [-1], [0, 17]])
def test_what_cannot_be_recovered(lost: list[int]) -> None:
    with pytest.raises(ValueError, match=r"lost|only"):
        ErasureCode(3, 2).recovery(lost)


def test_forgotten_input_makes_no_parity() -> None:
    with pytest.raises(ValueError, match=r"missing: \[1\]"):
        ErasureCode(3, 1).encoding().apply([(0, b""), (2, b"")], 8)


def test_input_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="shard 0 is not awaited"):
        ErasureCode(3, 1).encoding().apply([(0, b""), (0, b"")], 8)


def test_shard_that_is_no_input_is_refused() -> None:
    with pytest.raises(ValueError, match="shard 3 is not awaited"):
        ErasureCode(3, 1).encoding().start(8).add(3, b"")


def test_piece_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="9 bytes"):
        ErasureCode(3, 1).encoding().start(8).add(0, b"123456789")


@pytest.mark.parametrize("size", [0, -8, 7, 12])
def test_sizes_without_eight_packets_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        ErasureCode(3, 1).encoding().start(size)


@pytest.mark.parametrize("begun", [{0: b"12345678"}, {3: b"123456789"}])
def test_sums_begun_elsewhere_are_refused(begun: Shards) -> None:
    with pytest.raises(ValueError, match="begun"):
        ErasureCode(3, 1).encoding().start(8, begun)


def test_bench_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--small"]) == 0
    assert "MB/s" in capsys.readouterr().out
