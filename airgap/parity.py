"""Parity: which parts and parity shards can stand in for each other, and in which files they are.

The parts of a bundle are counted in the order of its manifest: ordinals 0 … N-1. A parity layout is two
numbers, S stripes with m parity shards each. Stripe s holds the parts with ordinals s, s + S, s + 2S, …; any
m lost shards of a stripe, parts or parity shards, are rebuilt from the others (:mod:`airgap.erasure`).

Because parts are dealt out in turn, neighbours are in different stripes. A bad patch on a medium, or the loss
of a volume that holds a run of P parts, costs each stripe at most ceil(P / S) parts: with S >= P, one parity
shard a stripe makes up for the loss of a whole volume. The loss of a parity volume, too, costs each stripe
one shard where each has one row for itself; row r of a layout is the parity shards r of all stripes.

The layout stands in a small tag file, unsigned, and need not be signed. A rebuilt part counts only when its
digest is the one in the signed bundle manifest, so a wrong layout or a wrong parity shard can make a repair
fail and can do nothing else. The work that hostile numbers may cause is bounded: no more stripes than parts,
at most 16 parity shards and 255 shards in a stripe, each part in one stripe only. A repair therefore reads no
more than the bundle and its parity once, and solves at most 16 equations a stripe.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from airgap import fields
from airgap.erasure import MAX_SHARDS, PACKETS, UNIT_BYTES, Combination, ErasureCode
from airgap.errors import Code, OperatorError
from airgap.manifest import BundleManifest
from airgap.parts import PartRange
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

LAYOUT_NAME = "parity.json"
"""Tag file of a bag that says how its parity shards were made."""

PARITY_FOLDER = "parity"
"""Below ``data/``, beside the folders of the blobs."""

SHARD_NAME = re.compile(rf"{PARITY_FOLDER}/([0-9]{{8}})-([0-9]{{2}})\.parity")
MAX_PARITY_SHARDS = 16
"""In a stripe."""

MAX_LAYOUT_BYTES = 1024
_MAX_STRIPES = 10**8 - 1  # eight digits of a name
_READ = fields.FieldReader(Code.BAG_MALFORMED)
_MILLION = 10**6
_SHARE = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,4}))?%")
_VOLUMES = re.compile(r"([1-9][0-9]?)-volumes?")
_MOST_FOR_SHARE = 8
_LONGEST_FOR_SHARE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file below ``data/``: a part with its ``ordinal`` in the bundle, or a parity shard (``None``)."""

    name: str
    size_bytes: int
    ordinal: int | None

    def bytes_at(self, offset_bytes: int, most: int) -> int:
        """The number of bytes, at most ``most``, that the file has from an offset on."""
        return max(0, min(most, self.size_bytes - offset_bytes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripe:
    """A group of parts that can be rebuilt from each other and from the parity shards, which come last.

    A shard's place in ``shards`` is its number in the erasure code.
    """

    number: int
    shards: tuple[Shard, ...]
    parity_shards: int

    @property
    def size_bytes(self) -> int:
        """The size of each parity shard in bytes; parts are as long or shorter."""
        return self.shards[-1].size_bytes

    @property
    def parity(self) -> tuple[Shard, ...]:
        """The parity shards of the stripe, by row."""
        return self.shards[-self.parity_shards :]

    @property
    def code(self) -> ErasureCode:
        """The erasure code by which the shards of the stripe stand in for each other."""
        return ErasureCode(len(self.shards) - self.parity_shards, self.parity_shards)

    def encoding(self) -> Combination:
        """The combination that computes all parity shards from all parts."""
        return self.code.encoding()

    def recovery(self, lost: Collection[str]) -> Combination:
        """The combination that computes the shards named ``lost`` from the others.

        Raises:
            ValueError: too many are lost, or a name is not of this stripe.
        """
        places = {shard.name: place for place, shard in enumerate(self.shards)}
        if unknown := set(lost) - places.keys():
            raise ValueError(f"not in stripe {self.number}: {min(unknown)}")
        return self.code.recovery({places[name] for name in lost})

    def pieces(self, units: int = 1) -> Iterator[tuple[int, int]]:
        """Offset and size in bytes of each piece to work on, of ``units`` units of 256 KiB, in order.

        A part may have less than that at an offset, or nothing any more (:meth:`Shard.bytes_at`).
        """
        step = units * UNIT_BYTES
        for offset in range(0, self.size_bytes, step):
            yield offset, min(step, self.size_bytes - offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityLayout:
    """A bundle's parity layout: the number of stripes, and of parity shards in each of them.

    Part ``i`` of the bundle, counted from 0 over all its blobs, belongs to stripe ``i`` modulo ``stripes``
    (``docs/format.md`` §11).

    Raises:
        ValueError: a number is out of range. Whether the layout suits a bundle, :meth:`misfit` says.
    """

    stripes: int
    parity_shards: int

    def __post_init__(self) -> None:
        if not 1 <= self.stripes <= _MAX_STRIPES or not 1 <= self.parity_shards <= MAX_PARITY_SHARDS:
            raise ValueError(f"not 1 to {MAX_PARITY_SHARDS} parity shards in at least one stripe")

    @property
    def total_shards(self) -> int:
        """The number of parity shards of all stripes together."""
        return self.stripes * self.parity_shards

    def misfit(self, part_count: int) -> str:
        """The reason why the layout does not suit a bundle of ``part_count`` parts; empty if it does."""
        if self.stripes > part_count:
            return f"{self.stripes} stripes for {part_count} parts"
        longest = -(-part_count // self.stripes)
        if longest + self.parity_shards > MAX_SHARDS:
            return f"{longest} parts and {self.parity_shards} parity shards do not fit into one stripe"
        return ""

    def stripe_of(self, ordinal: int) -> int:
        """The number of the stripe to which the part with that ordinal belongs."""
        return ordinal % self.stripes

    def ordinals(self, stripe: int, part_count: int) -> range:
        """The ordinals of the parts of a stripe."""
        return range(stripe, part_count, self.stripes)

    def stripe(self, number: int, parts: Sequence[PartRange]) -> Stripe:
        """One stripe of a bundle; ``parts`` are all parts of the bundle, in order.

        Raises:
            ValueError: there is no such stripe, or the layout does not suit the bundle.
        """
        if why := self.misfit(len(parts)):
            raise ValueError(why)
        if not 0 <= number < self.stripes:
            raise ValueError(f"there is no stripe {number}")
        members = [
            Shard(name=parts[ordinal].name, size_bytes=parts[ordinal].size_bytes, ordinal=ordinal)
            for ordinal in self.ordinals(number, len(parts))
        ]
        size = self.shard_size_bytes(number, parts)
        parity = [
            Shard(name=shard_name(number, row), size_bytes=size, ordinal=None)
            for row in range(self.parity_shards)
        ]
        return Stripe(number=number, shards=(*members, *parity), parity_shards=self.parity_shards)

    def shard_size_bytes(self, stripe: int, parts: Sequence[PartRange]) -> int:
        """The size of a stripe's parity shards in bytes: its largest part, rounded up for the code."""
        largest = max(parts[ordinal].size_bytes for ordinal in self.ordinals(stripe, len(parts)))
        return -(-largest // PACKETS) * PACKETS

    def shards(self, manifest: BundleManifest) -> Iterator[tuple[str, int]]:
        """Name and size in bytes of each parity shard, row by row: neighbours are of different stripes.

        Raises:
            ValueError: the layout does not suit the bundle.
        """
        parts = [part for part, _ in manifest.parts()]
        if why := self.misfit(len(parts)):
            raise ValueError(why)
        sizes = [self.shard_size_bytes(stripe, parts) for stripe in range(self.stripes)]
        return (
            (shard_name(stripe, row), size)
            for row in range(self.parity_shards)
            for stripe, size in enumerate(sizes)
        )

    def most_of_one_stripe(self, ordinals: Iterable[int]) -> int:
        """The most shards that a stripe loses with these parts: so many parity shards make up for it."""
        return max(Counter(map(self.stripe_of, ordinals)).values(), default=0)

    def to_bytes(self, manifest_sha256: str) -> bytes:
        """The layout as the content of the tag file :data:`LAYOUT_NAME`, bound to one bundle manifest."""
        return dump_canonical(
            {
                "schema": 1,
                "manifestDigest": f"sha256:{manifest_sha256}",
                "stripes": self.stripes,
                "parityShards": self.parity_shards,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes, *, manifest_sha256: str, part_count: int) -> Self:
        """Read the content of the tag file :data:`LAYOUT_NAME`; it is unsigned, and the module says why.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any layout; ``NEWER_FORMAT``: a newer tool
                wrote it; ``BAG_MALFORMED``: it is malformed, of another bundle, or does not suit one of
                ``part_count`` parts.
        """
        value = load_strict(raw, max_bytes=MAX_LAYOUT_BYTES, code=Code.BAG_MALFORMED)
        sha256, numbers = _FORMAT.of_document(value)(value)
        if sha256 != manifest_sha256:
            _READ.refuse("manifestDigest", "the parity of another bundle")
        layout = cls(**numbers)
        if why := layout.misfit(part_count):
            _READ.refuse(LAYOUT_NAME, why)
        return layout


def _read_v1(raw: Any) -> tuple[str, dict[str, int]]:
    """The hex digest of the bundle manifest, and the numbers of the layout in their ranges."""
    value = _READ.members(raw, LAYOUT_NAME, "schema", "manifestDigest", "stripes", "parityShards")
    return _READ.sha256(value["manifestDigest"], "manifestDigest"), {
        "stripes": _READ.integer(value["stripes"], "stripes", least=1, most=_MAX_STRIPES),
        "parity_shards": _READ.integer(
            value["parityShards"], "parityShards", least=1, most=MAX_PARITY_SHARDS
        ),
    }


_FORMAT = Format(name="parity layout", read=_READ, readers={1: _read_v1})


def shard_name(stripe: int, row: int) -> str:
    """The name of a parity shard below ``data/``: ``parity/00000000-00.parity``."""
    return f"{PARITY_FOLDER}/{stripe:08d}-{row:02d}.parity"


def shard_place(name: str) -> tuple[int, int] | None:
    """Stripe and row of a parity shard by its name below ``data/``; ``None`` for any other name.

    Not checked: whether a layout has such a stripe and row.
    """
    match = SHARD_NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


# --- what the operator asks for -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityWish:
    """The value of ``--parity``: a share of the parts, or a number of whole volumes; the other one is 0.

    ``share`` counts in millionths of the number of parts.
    """

    share: int = 0
    lost_volumes: int = 0

    def __post_init__(self) -> None:
        is_share = 1 <= self.share <= _MILLION and self.lost_volumes == 0
        is_volumes = 1 <= self.lost_volumes <= MAX_PARITY_SHARDS and self.share == 0
        if not (is_share or is_volumes):
            raise OperatorError(
                Code.USAGE, f"--parity: more than 0% to 100%, or 1-volume to {MAX_PARITY_SHARDS}-volumes"
            )

    def __str__(self) -> str:
        if self.lost_volumes:
            return f"{self.lost_volumes}-volume{'s' if self.lost_volumes > 1 else ''}"
        whole, fraction = divmod(self.share, _MILLION // 100)
        return f"{whole}.{fraction:04d}".rstrip("0").rstrip(".") + "%"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a wish such as ``2%``, ``0.5%``, ``1-volume`` or ``2-volumes``.

        Raises:
            OperatorError: ``USAGE``: the text has none of these forms.
        """
        if match := _SHARE.fullmatch(text):
            return cls(share=int(match[1]) * (_MILLION // 100) + int((match[2] or "").ljust(4, "0")))
        if match := _VOLUMES.fullmatch(text):
            return cls(lost_volumes=int(match[1]))
        raise OperatorError(Code.USAGE, f"--parity {text[:20]!r}: neither like 2% nor like 1-volume")

    def layout(self, *, part_count: int, largest_volume_parts: int) -> ParityLayout:
        """The layout that grants the wish for a bundle of ``part_count`` parts, spread over volumes.

        Raises:
            OperatorError: ``USAGE``: more volumes than a stripe can have shards.
        """
        if self.lost_volumes:
            return layout_for_volumes(part_count, largest_volume_parts, self.lost_volumes)
        return layout_for_share(part_count, self.share)


def layout_for_share(part_count: int, share: int) -> ParityLayout:
    """The layout with about ``share`` millionths as many parity shards as parts, at least one.

    The more parity shards a stripe has, the more ways of losing parts it survives at the same cost of space;
    the longer it is, the more has to be read to rebuild one part. So: the largest m up to 8 with which
    stripes have at most 128 parts and the parity shards are at most a tenth more than asked for. Where
    nothing is (shares below 1/128), m = 1 and stripes as long as the share makes them, but at most 254 parts:
    less than 1/254 cannot be had.
    """
    asked = -(-part_count * share // _MILLION)
    for parity_shards in range(min(_MOST_FOR_SHARE, asked), 0, -1):
        stripes = max(-(-asked // parity_shards), -(-part_count // _LONGEST_FOR_SHARE))
        if 10 * stripes * parity_shards <= 11 * asked:
            return ParityLayout(stripes=stripes, parity_shards=parity_shards)
    return ParityLayout(stripes=max(asked, -(-part_count // (MAX_SHARDS - 1))), parity_shards=1)


def layout_for_volumes(part_count: int, largest_volume_parts: int, lost_volumes: int) -> ParityLayout:
    """The layout that survives the loss of any ``lost_volumes`` volumes, parity volumes among them.

    That holds where each volume has at most one part of each stripe, as with runs of at most
    ``largest_volume_parts`` parts (:meth:`ParityLayout.most_of_one_stripe` tells), and each row of parity
    shards has a volume of its own.

    Raises:
        OperatorError: ``USAGE``: more volumes than a stripe can have shards.
    """
    stripes = min(max(largest_volume_parts, 1), part_count)
    layout = ParityLayout(stripes=stripes, parity_shards=lost_volumes)
    if why := layout.misfit(part_count):
        raise OperatorError(Code.USAGE, f"--parity: {why}; use larger volumes, or a share like 2%")
    return layout
