"""The parts of a transfer blob: where each begins, how long it is, and what it is called.

One part is the unit of hashing, one file on the medium, one block of the block blob, the unit of damage and
of re-carrying. Parts are of one size but for the last of a blob, which may be shorter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

MIB = 1024 * 1024
DEFAULT_PART_SIZE_BYTES = 64 * MIB
MIN_PART_SIZE_BYTES = 4 * MIB
MAX_PART_SIZE_BYTES = 4000 * MIB
"""The largest block of a block blob, and less than the largest file of FAT32 (4 GiB - 1).

https://learn.microsoft.com/azure/storage/blobs/scalability-targets
"""
MAX_PARTS_PER_BLOB = 50_000
"""A block blob has at most 50,000 committed blocks (same page)."""

MAX_BLOBS = 999
BLOB_NAME = re.compile(r"(?!000)[0-9]{3}")
PART_NAME = re.compile(r"(?!000)[0-9]{3}/(?!00000000)[0-9]{8}\.part")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRange:
    """A part by its place: the bytes ``offset_bytes`` to ``offset_bytes + size_bytes`` of blob ``blob``."""

    blob: str
    number: int
    offset_bytes: int
    size_bytes: int

    @property
    def name(self) -> str:
        """The part's name in the bundle manifest and below ``data/`` on a volume: ``001/00000001.part``."""
        return part_name(self.blob, self.number)


class SignedPart(NamedTuple):
    """A part, and the hex SHA-256 that the signed bundle manifest gives for it."""

    part: PartRange
    sha256: str

    @property
    def name(self) -> str:
        """The part's name, as :attr:`PartRange.name`."""
        return self.part.name

    @property
    def size_bytes(self) -> int:
        """The part's size in bytes."""
        return self.part.size_bytes


def blob_name(number: int) -> str:
    """The name of the ``number``-th blob of a transfer, counted from 1: ``001``.

    Raises:
        ValueError: no transfer has a blob of that number.
    """
    if not 1 <= number <= MAX_BLOBS:
        raise ValueError(f"a transfer has 1 to {MAX_BLOBS} blobs, not {number}")
    return f"{number:03d}"


def part_name(blob: str, number: int) -> str:
    """The name of the ``number``-th part of a blob, counted from 1: ``001/00000001.part``."""
    return f"{blob}/{number:08d}.part"


def part_count(size_bytes: int, part_size_bytes: int) -> int:
    """The number of parts that a blob of ``size_bytes`` has."""
    return -(-size_bytes // part_size_bytes)


def plan_parts(blob: str, *, size_bytes: int, part_size_bytes: int) -> Iterator[PartRange]:
    """The parts of one blob in order; together they cover each byte exactly once."""
    for index in range(part_count(size_bytes, part_size_bytes)):
        offset = index * part_size_bytes
        yield PartRange(
            blob=blob,
            number=index + 1,
            offset_bytes=offset,
            size_bytes=min(part_size_bytes, size_bytes - offset),
        )


def fitting_part_size(size_bytes: int, wished_bytes: int = DEFAULT_PART_SIZE_BYTES) -> int:
    """The smallest part size, doubled from ``wished_bytes``, with which a blob keeps to 50,000 parts.

    Raises:
        ValueError: the blob is larger than a block blob can be (50,000 parts of 4000 MiB).
    """
    part_size = max(wished_bytes, MIN_PART_SIZE_BYTES)
    while part_count(size_bytes, part_size) > MAX_PARTS_PER_BLOB:
        part_size *= 2
    if part_size > MAX_PART_SIZE_BYTES:
        if part_count(size_bytes, MAX_PART_SIZE_BYTES) > MAX_PARTS_PER_BLOB:
            raise ValueError(f"a blob of {size_bytes} bytes has no valid part size")
        part_size = MAX_PART_SIZE_BYTES
    return part_size
