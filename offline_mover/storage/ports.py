"""The ports to a storage container; :mod:`offline_mover.storage.blob_store` keeps them for Azure.

Every method may be called from several threads and may raise :class:`~airgap.errors.ServiceError`. Nothing is
tried twice in here: :mod:`offline_mover.storage.retrying` does that, round any container, and keeps the same
ports. Blob names are relative to the container: ``<transferId>/001``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from blob_wire.wire import SeekableStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a block blob, which holds one part."""

    block_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """A blob as the storage describes it; ``content_md5`` in base64."""

    size_bytes: int
    etag: str
    content_md5: str | None
    metadata: Mapping[str, str]


class ReadableContainer(Protocol):
    """The port to a container that is only read."""

    def read_small(self, name: str, *, max_bytes: int) -> bytes | None:
        """Read a small blob whole; ``None`` if there is none.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it has more than ``max_bytes``, judged before it is read.
        """

    def describe(self, name: str) -> StoredBlob | None:
        """The properties of a blob; ``None`` if there is none."""

    def read_range(self, name: str, *, offset_bytes: int, size_bytes: int, etag: str) -> Iterator[bytes]:
        """The bytes of a range, in pieces of at most a few MiB, of exactly this version of the blob.

        Never more than ``size_bytes``; fewer end in a :class:`~blob_wire.answers.PassingError`.

        Raises:
            UntrustedInputError: ``BLOB_CHANGED`` when the blob has another ETag by now, or ends before the
                range does; ``TOO_LARGE`` when more is sent than was asked for.
            ServiceError: ``NOT_FOUND`` when the blob is gone; some storages say ``BLOB_CHANGED`` then too.
        """

    def list_names(self, prefix: str, *, most: int) -> list[str]:
        """The names of the blobs that begin with ``prefix``, ascending; of more than ``most`` the first.

        Whoever must know whether there are more asks for one more than is wanted. A SAS needs ``l``.
        """


class WritableContainer(ReadableContainer, Protocol):
    """The port to a container that is written to.

    Staged blocks stay invisible until they are committed, and are dropped after a week.
    """

    def committed_blocks(self, name: str) -> list[Block]:
        """The blocks of which a blob consists, in order; empty if there is no blob, or it has no blocks."""

    def staged_blocks(self, name: str) -> list[Block]:
        """The blocks of a blob that are staged and not committed yet."""

    def stage(self, name: str, block_id: str, body: SeekableStream) -> None:
        """Send one block, whole or not at all; to send it again under the same id is harmless.

        What ``body.read`` raises passes through unchanged, and the block is not taken.
        """

    def commit(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Put a blob together from staged blocks, in this order, atomically; other staged blocks are dropped.

        Raises:
            ServiceError: ``CONFLICT`` if there is a blob already; ``SERVICE_REJECTED`` if one of the blocks
                is not staged, as when it was dropped meanwhile. The blob is as it was then.
        """

    def replace_blocks(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        replaced: Collection[str],
        etag: str,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Put a blob together anew, atomically, from blocks it has and staged ones in place of some of them.

        Args:
            name: the blob's name.
            block_ids: the ids of all blocks, in order.
            replaced: the ids whose staged blocks count; of any other id, the block that the blob has counts,
                whatever somebody may have staged under it.
            etag: the ETag that the blob must have.
            content_md5: the MD5 of the whole blob as it will be, in base64.
            metadata: the blob's metadata as it will be.

        Raises:
            ServiceError: ``CONFLICT`` if the blob has another ETag or is gone; ``SERVICE_REJECTED`` as
                :meth:`commit`. The blob is as it was then.
        """

    def create_small(self, name: str, content: bytes) -> None:
        """Write a small blob, atomically.

        Raises:
            ServiceError: ``CONFLICT``: there is a blob of that name already.
        """
