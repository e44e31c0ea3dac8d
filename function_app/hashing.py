"""Digests of parts, straight from the storage: each byte once, a chunk in memory at a time."""

import hashlib
import itertools

from airgap.errors import Code, UntrustedInputError
from airgap.parts import PartRange, plan_parts
from function_app.ports import BlobStore


def parts_of(blob: str, *, size_bytes: int, part_size_bytes: int, first: int, count: int) -> list[PartRange]:
    """``count`` parts of a blob, beginning with number ``first`` (from 1)."""
    planned = plan_parts(blob, size_bytes=size_bytes, part_size_bytes=part_size_bytes)
    return list(itertools.islice(planned, first - 1, first - 1 + count))


def hash_part(blobs: BlobStore, container: str, name: str, *, etag: str, part: PartRange) -> str:
    """Hex SHA-256 of a part, as the blob was at ``etag``.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED`` if it has another ETag, is gone, or ends too early.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    for chunk in blobs.read_range(
        container, name, etag=etag, offset_bytes=part.offset_bytes, size_bytes=part.size_bytes
    ):
        digest.update(chunk)
        size_bytes += len(chunk)
    if size_bytes != part.size_bytes:
        raise UntrustedInputError(
            Code.BLOB_CHANGED, f"{name}: {size_bytes} bytes came for part {part.name} of {part.size_bytes}"
        )
    return digest.hexdigest()
