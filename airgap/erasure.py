"""Erasure coding: of k + m shards any k suffice to compute all of them.

A systematic Reed-Solomon code over GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d). Data shards
are numbered 0 … k-1 and stay as they are, parity shards k … k+m-1. Parity shard k+i is the sum over j of
c(i, j) · (data shard j), where::

    c(i, j) = (255 + j) / (255 + i + j)        sums are exclusive or, the quotient is the field's

That is a Cauchy matrix over the points 255, 254, … and 0, 1, …, its columns scaled so that c(0, j) = 1: one
parity shard is plain exclusive or. Every square submatrix of a Cauchy matrix is invertible and scaling keeps
that, so any m lost shards come back. A coefficient depends on neither k nor m.

An element of the field is not a byte. A shard is cut into units of 256 KiB, the last one shorter, and a unit
into eight packets of one size; bit t of packet 0, bit t of packet 1, … bit t of packet 7 are the bits of one
element, lowest first. So a shard's size is a multiple of eight; one that is shorter than the others counts as
filled up with zero bytes. This layout is part of the stored format::

    unit    packet 0 | packet 1 | … | packet 7        element t = sum over b of (bit t of packet b) · x^b

Thus multiplying by a constant is nothing but exclusive or of whole packets, and that Python's integers do at
the pace of the processor's cache, twenty times as fast as anything in Python that looks at single bytes. Most
of the time goes into making integers of bytes, once for an input, however many outputs there are.

Callers work piece by piece, all shards at one offset, so memory is bound by the size of a piece: that many
bytes for each output and a few units. Nothing here releases the interpreter's lock: threads do not make it
faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

MAX_SHARDS = 255
UNIT_BYTES = 256 * 1024
"""Chosen with bench/erasure.py: larger ones leave the processor's caches, smaller ones cost more calls."""

PACKETS = 8
"""Of a unit: as many as an element has bits. A shard's size is a multiple of it."""

_POLYNOMIAL = 0x11D
_NON_ZERO = 255
"""Elements of the field but for zero; all are powers of two."""


def _powers_of_two() -> bytes:
    """The powers of two of the field, twice over, so that a sum of two logarithms needs no remainder."""
    powers = [1]
    while len(powers) < _NON_ZERO:
        double = powers[-1] << 1
        powers.append(min(double, double ^ _POLYNOMIAL))
    return bytes(powers * 2)


_POWER = _powers_of_two()
_LOGARITHM = {element: exponent for exponent, element in enumerate(_POWER[:_NON_ZERO])}
_Row = list[int]
"""One coefficient a shard of the code, in the order of the shards."""


def _multiply(left: int, right: int) -> int:
    return _POWER[_LOGARITHM[left] + _LOGARITHM[right]] if left and right else 0


def _invert(element: int) -> int:
    return _POWER[_NON_ZERO - _LOGARITHM[element]]


def _add_scaled(target: _Row, source: _Row, factor: int) -> None:
    """Add a multiple to a row: ``target += factor · source``."""
    if factor:
        target[:] = [left ^ _multiply(factor, right) for left, right in zip(target, source, strict=True)]


@dataclass(frozen=True, slots=True)
class ErasureCode:
    """An erasure code: ``data_shards`` (k) shards, and ``parity_shards`` (m) to make good as many losses.

    Raises:
        ValueError: not 1 <= k, 1 <= m, k + m <= 255.
    """

    data_shards: int
    parity_shards: int

    def __post_init__(self) -> None:
        if self.data_shards < 1 or self.parity_shards < 1:
            raise ValueError("an erasure code has at least one data shard and one parity shard")
        if self.data_shards + self.parity_shards > MAX_SHARDS:
            raise ValueError(f"an erasure code has at most {MAX_SHARDS} shards")

    @property
    def shards(self) -> int:
        """The number of shards in all, k + m."""
        return self.data_shards + self.parity_shards

    def coefficient(self, parity_row: int, data_shard: int) -> int:
        """The coefficient c(i, j) of the module's formula, for row i of the parity and data shard j."""
        return _multiply(255 ^ data_shard, _invert(255 ^ parity_row ^ data_shard))

    def encoding(self) -> Combination:
        """The combination that computes all parity shards from all data shards."""
        return self.recovery(range(self.data_shards, self.shards))

    def recovery(self, lost: Collection[int]) -> Combination:
        """The combination that computes the ``lost`` shards from k of those that are left.

        Its inputs are the data shards that are left, and as many parity shards as are needed besides.

        Raises:
            ValueError: more than m shards are lost, or a number is not a shard's.
        """
        outputs = sorted(set(lost))
        if outputs and not 0 <= outputs[0] <= outputs[-1] < self.shards:
            raise ValueError(f"there are the shards 0 to {self.shards - 1} only")
        if len(outputs) > self.parity_shards:
            raise ValueError(f"{len(outputs)} shards are lost, {self.parity_shards} can be rebuilt")
        lost_data = [shard for shard in outputs if shard < self.data_shards]
        left = [shard for shard in range(self.shards) if shard not in outputs]
        inputs = left[: self.data_shards]
        rebuilt = self._rebuilt_rows(lost_data, inputs[self.data_shards - len(lost_data) :])
        for shard in outputs[len(lost_data) :]:
            rebuilt[shard] = self._without(lost_data, self._parity_row(shard), rebuilt)
        return Combination(
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            rows=tuple(bytes(rebuilt[shard][source] for source in inputs) for shard in outputs),
        )

    def _parity_row(self, shard: int) -> _Row:
        coefficients = [self.coefficient(shard - self.data_shards, j) for j in range(self.data_shards)]
        return coefficients + [0] * self.parity_shards

    def _rebuilt_rows(self, lost_data: list[int], parity: list[int]) -> dict[int, _Row]:
        """Each lost data shard as a sum of shards that are left, by Gauss-Jordan elimination.

        Each of the ``parity`` shards used gives an equation, a row whose sum over all shards is zero; in it
        the lost data shards are the unknowns.
        """
        equations = []
        for shard in parity:
            row = self._parity_row(shard)
            row[shard] = 1
            equations.append(row)
        for place, unknown in enumerate(lost_data):
            # No search for a pivot: leading minors of a Cauchy matrix are not zero.
            equation = equations[place]
            factor = _invert(equation[unknown])
            equation[:] = [_multiply(factor, coefficient) for coefficient in equation]
            for other, row in enumerate(equations):
                if other != place:
                    _add_scaled(row, equation, row[unknown])
        # The field has characteristic two: what stands beside the unknown is the sum it equals.
        return dict(zip(lost_data, equations, strict=True))

    @staticmethod
    def _without(lost_data: list[int], row: _Row, rebuilt: Mapping[int, _Row]) -> _Row:
        """``row`` with the lost shards replaced by what they are rebuilt from."""
        for shard in lost_data:
            _add_scaled(row, rebuilt[shard], row[shard])
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Output shards as weighted sums of input shards; the weights are the same at every offset.

    ``rows[o][i]`` is the coefficient of the shard ``inputs[i]`` in the shard ``outputs[o]``.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    rows: tuple[bytes, ...]

    def portion(self, shards: Collection[int]) -> Combination:
        """The combination that only sums up what ``shards`` contribute, for inputs at hand on different days.

        Its outputs are sums that are not finished; hand them on as ``begun`` to the next portion.
        """
        places = [place for place, shard in enumerate(self.inputs) if shard in shards]
        return Combination(
            inputs=tuple(self.inputs[place] for place in places),
            outputs=self.outputs,
            rows=tuple(bytes(row[place] for place in places) for row in self.rows),
        )

    def only(self, shards: Collection[int]) -> Combination:
        """The combination that computes only those outputs that are in ``shards``."""
        places = [place for place, shard in enumerate(self.outputs) if shard in shards]
        return Combination(
            inputs=self.inputs,
            outputs=tuple(self.outputs[place] for place in places),
            rows=tuple(self.rows[place] for place in places),
        )

    def start(self, size_bytes: int, begun: Mapping[int, bytes] | None = None) -> Accumulator:
        """An accumulator for the pieces of all shards at one offset, which is a multiple of 256 KiB.

        Args:
            size_bytes: the size of each output piece: a multiple of 256 KiB, or all that is left of a shard.
                Not
                checked: what callers make with another size, nobody can read.
            begun: output pieces that other portions have begun at the same offset, by shard.

        Raises:
            ValueError: the size is no multiple of eight bytes, or ``begun`` is of another size or shard.
        """
        return Accumulator(self, size_bytes, begun or {})

    def apply(
        self, pieces: Iterable[tuple[int, bytes]], size_bytes: int, begun: Mapping[int, bytes] | None = None
    ) -> dict[int, bytes]:
        """The piece of each output, by shard, from one (shard, piece) pair for each input, in any order.

        Arguments are those of :meth:`start`.

        Raises:
            ValueError: a piece is too long, comes twice, is missing or is no input.
        """
        accumulator = self.start(size_bytes, begun)
        for shard, piece in pieces:
            accumulator.add(shard, piece)
        return accumulator.finish()


class Accumulator:
    """Output pieces of one offset in the making, while the inputs come in; for one thread and for one use."""

    def __init__(self, combination: Combination, size_bytes: int, begun: Mapping[int, bytes]) -> None:
        if size_bytes < 1 or size_bytes % PACKETS:
            raise ValueError(f"a piece has a multiple of {PACKETS} bytes, not {size_bytes}")
        if not begun.keys() <= set(combination.outputs):
            raise ValueError("a sum was begun that is no output")
        if any(len(piece) > size_bytes for piece in begun.values()):
            raise ValueError("a sum was begun with a longer piece")
        self._outputs = combination.outputs
        self._rows = combination.rows
        self._awaited = {shard: place for place, shard in enumerate(combination.inputs)}
        self._size_bytes = size_bytes
        self._sums = [list(self._units(begun.get(shard, b""))) for shard in combination.outputs]

    def add(self, shard: int, piece: bytes) -> None:
        """Take one input's piece; a piece that is short, or empty, counts as filled up with zero bytes.

        Raises:
            ValueError: the piece is too long, came already, or is no input.
        """
        if len(piece) > self._size_bytes:
            raise ValueError(f"a piece of {len(piece)} bytes, at most {self._size_bytes} are awaited")
        place = self._awaited.pop(shard, None)
        if place is None:
            raise ValueError(f"shard {shard} is not awaited")
        coefficients = [row[place] for row in self._rows]
        for number, packets in enumerate(self._units(piece)):
            _add_multiples(packets, coefficients, [sums[number] for sums in self._sums])

    def finish(self) -> dict[int, bytes]:
        """The finished piece of each output, by shard, each ``size_bytes`` long.

        Raises:
            ValueError: an input has not come.
        """
        if self._awaited:
            raise ValueError(f"shards are missing: {sorted(self._awaited)}")
        return {
            shard: b"".join(
                packet.to_bytes(size, "little")
                for size, packets in zip(self._packet_sizes(), units, strict=True)
                for packet in packets
            )
            for shard, units in zip(self._outputs, self._sums, strict=True)
        }

    def _packet_sizes(self) -> list[int]:
        """The size of a packet in bytes, for each unit of the piece."""
        return [
            min(UNIT_BYTES, self._size_bytes - offset) // PACKETS
            for offset in range(0, self._size_bytes, UNIT_BYTES)
        ]

    def _units(self, piece: bytes) -> Iterator[list[int]]:
        """The packets of each unit; little-endian, so that zeros at the end need not be there."""
        for number, size in enumerate(self._packet_sizes()):
            begin = number * UNIT_BYTES
            yield [
                int.from_bytes(piece[offset : offset + size], "little")
                for offset in range(begin, begin + PACKETS * size, size)
            ]


def _add_multiples(packets: list[int], coefficients: list[int], targets: list[list[int]]) -> None:
    """Add the multiple of one unit that each coefficient says to its target, a unit as well."""
    low = high = [0]
    if any(coefficient > 1 for coefficient in coefficients):
        low, high = _sums_of_subsets(packets[:4]), _sums_of_subsets(packets[4:])
    for coefficient, target in zip(coefficients, targets, strict=True):
        if coefficient == 1:
            for bit, packet in enumerate(packets):
                target[bit] ^= packet
        elif coefficient:
            for bit, sources in enumerate(_sources(coefficient)):
                target[bit] ^= low[sources & 0xF] ^ high[sources >> 4]


def _sums_of_subsets(packets: list[int]) -> list[int]:
    """The sum of packets b of which bit b is set in the index: few additions that serve every output."""
    sums = [0]
    for packet in packets:
        sums += [packet, *(total ^ packet for total in sums[1:])]
    return sums


@cache
def _sources(coefficient: int) -> bytes:
    """Multiplication by a constant as a matrix of bits: for each bit of the product, the bits it sums up."""
    columns = [_multiply(coefficient, 1 << bit) for bit in range(8)]
    return bytes(
        sum((column >> bit & 1) << source for source, column in enumerate(columns)) for bit in range(8)
    )
