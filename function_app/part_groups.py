"""Groups of parts, one for each activity: bounded by bytes and by number, and hashed from the storage."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from airgap.parts import PartRange, part_count, plan_parts
from function_app.messages import Message
from function_app.ports import BlobStore

PARTS_PER_GROUP = 16
BYTES_PER_GROUP = 2 * 1024**3
"""An activity reads no more, unless a single part is larger: so it ends well within the function timeout."""


class Digests(Message, frozen=True):
    """The hex SHA-256 of consecutive parts, as a working document."""

    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartGroup:
    """A group of consecutive parts of one blob: the number of the first, from 1, and how many."""

    blob: int
    """The blob's place in the list that was divided, from 0."""
    number: int
    """The group's place in its blob, from 0."""
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartedBlob:
    """A blob divided into parts: how many, and of which size; all but the last are of full size."""

    parts: int
    part_size_bytes: int

    @property
    def group_size(self) -> int:
        """The number of parts in each group of this blob but the last."""
        return max(1, min(PARTS_PER_GROUP, BYTES_PER_GROUP // self.part_size_bytes))

    @property
    def groups(self) -> int:
        """The number of groups that the blob has."""
        return -(-self.parts // self.group_size)


def count_groups(blobs: Iterable[PartedBlob]) -> int:
    """The number of groups that the blobs have together."""
    return sum(blob.groups for blob in blobs)


def find_group(blobs: Sequence[PartedBlob], number: int) -> PartGroup:
    """The ``number``-th group, from 0, of all groups of all blobs in order.

    Raises:
        IndexError: there are not so many groups.
    """
    for index, blob in enumerate(blobs):
        if number < blob.groups:
            first = number * blob.group_size + 1
            count = min(blob.group_size, blob.parts - first + 1)
            return PartGroup(blob=index, number=number, first=first, count=count)
        number -= blob.groups
    raise IndexError(number)


def parts_of(blob: str, *, size_bytes: int, part_size_bytes: int, group: PartGroup) -> Iterator[PartRange]:
    """The parts that a group of a blob has, in order."""
    planned = plan_parts(blob, size_bytes=size_bytes, part_size_bytes=part_size_bytes)
    return itertools.islice(planned, group.first - 1, group.first - 1 + group.count)


def parted(size_bytes: int, part_size_bytes: int) -> PartedBlob:
    """The division of a blob of ``size_bytes``, all of which is there, into parts."""
    return PartedBlob(parts=part_count(size_bytes, part_size_bytes), part_size_bytes=part_size_bytes)


def hash_part(blobs: BlobStore, container: str, name: str, *, etag: str, part: PartRange) -> str:
    """The hex SHA-256 of a part, as the blob was at ``etag``; each byte is read once, a piece at a time.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: the blob has another ETag, is gone, or ends too early.
    """
    digest = hashlib.sha256()
    for piece in blobs.read_range(
        container, name, etag=etag, offset_bytes=part.offset_bytes, size_bytes=part.size_bytes
    ):
        digest.update(piece)
    return digest.hexdigest()
