"""A storage container in memory that keeps the mover's ports, and can lie and fail when told to."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME
from blob_wire.wire import SeekableStream
from offline_mover.storage.ports import Block, StoredBlob
from tests.bundles import Bundle

PIECE_BYTES = 1024 * 1024
_ETAGS = itertools.count(1)


@dataclass(kw_only=True)
class HeldBlob:
    content: bytes
    content_md5: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    etag: str = field(default_factory=lambda: f'"{next(_ETAGS)}"')


class MemoryContainer:
    """Blobs and staged blocks by name; ``calls`` counts what was asked, as ``(method, blob)``."""

    def __init__(self) -> None:
        self.blobs: dict[str, HeldBlob] = {}
        self.staged: dict[str, dict[str, bytes]] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        self.before: Callable[[str, str], None] = lambda _method, _name: None
        """Told of every call before it is carried out; may raise, or change what is held."""
        self.repeats_sends = False
        """Read each block's first bytes, seek back, and read it again: what a retry does."""
        self._lock = threading.Lock()

    @classmethod
    def holding(cls, bundle: Bundle) -> MemoryContainer:
        """What the source storage holds after ``bundle`` was sealed."""
        container = cls()
        for blob in bundle.manifest.blobs:
            container.blobs[f"{bundle.transfer_id}/{blob.name}"] = HeldBlob(
                content=bundle.blobs[blob.name], content_md5=blob.content_md5, metadata=blob.metadata
            )
        container.blobs[f"{bundle.transfer_id}/{ENVELOPE_NAME}"] = HeldBlob(content=bundle.envelope)
        return container

    def count(self, method: str) -> int:
        return sum(count for (called, _), count in self.calls.items() if called == method)

    def _call(self, method: str, name: str) -> None:
        with self._lock:
            self.calls[method, name] += 1
        self.before(method, name)

    def read_small(self, name: str, *, max_bytes: int) -> bytes | None:
        self._call("read_small", name)
        if name not in self.blobs:
            return None
        if len(self.blobs[name].content) > max_bytes:
            raise UntrustedInputError(Code.TOO_LARGE, name)
        return self.blobs[name].content

    def describe(self, name: str) -> StoredBlob | None:
        self._call("describe", name)
        if (held := self.blobs.get(name)) is None:
            return None
        return StoredBlob(
            size_bytes=len(held.content),
            etag=held.etag,
            content_md5=held.content_md5,
            metadata=held.metadata,
        )

    def read_range(self, name: str, *, offset_bytes: int, size_bytes: int, etag: str) -> Iterator[bytes]:
        self._call("read_range", name)
        for start in range(offset_bytes, offset_bytes + size_bytes, PIECE_BYTES):
            self.before("read_piece", name)
            if (held := self.blobs.get(name)) is None:
                raise ServiceError(Code.NOT_FOUND, name)
            if held.etag != etag:
                raise UntrustedInputError(Code.BLOB_CHANGED, name)
            end = min(start + PIECE_BYTES, offset_bytes + size_bytes)
            if len(held.content) < offset_bytes + size_bytes:
                raise UntrustedInputError(Code.BLOB_CHANGED, f"{name}: ends after {len(held.content)} bytes")
            yield held.content[start:end]

    def list_names(self, prefix: str, *, most: int) -> list[str]:
        self._call("list_names", prefix)
        return sorted(name for name in self.blobs if name.startswith(prefix))[:most]

    def committed_blocks(self, name: str) -> list[Block]:
        self._call("committed_blocks", name)
        return self.blobs[name].blocks if name in self.blobs else []

    def staged_blocks(self, name: str) -> list[Block]:
        self._call("staged_blocks", name)
        held = self.staged.get(name, {})
        return [Block(block_id=key, size_bytes=len(content)) for key, content in held.items()]

    def stage(self, name: str, block_id: str, body: SeekableStream) -> None:
        self._call("stage", name)
        if self.repeats_sends:
            body.read(1000)
            body.seek(0)
        content = b"".join(iter(lambda: body.read(16_384), b""))
        assert len(content) == len(body)
        with self._lock:
            self.staged.setdefault(name, {})[block_id] = content

    def commit(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        self._call("commit", name)
        if name in self.blobs:
            raise ServiceError(Code.CONFLICT, name)
        staged = self.staged.get(name, {})
        if not staged.keys() >= set(block_ids):
            raise ServiceError(Code.SERVICE_REJECTED, f"{name}: status 400 InvalidBlockList")
        contents = [staged[block_id] for block_id in block_ids]
        self.staged.pop(name, None)
        self.blobs[name] = HeldBlob(
            content=b"".join(contents),
            content_md5=content_md5,
            metadata=metadata,
            blocks=[
                Block(block_id=block_id, size_bytes=len(content))
                for block_id, content in zip(block_ids, contents, strict=True)
            ],
        )

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
        self._call("replace_blocks", name)
        held = self.blobs.get(name)
        if held is None or held.etag != etag:
            raise ServiceError(Code.CONFLICT, name)
        offset, had = 0, dict[str, bytes]()
        for block in held.blocks:
            had[block.block_id] = held.content[offset : offset + block.size_bytes]
            offset += block.size_bytes
        staged = self.staged.pop(name, {})
        source = {block_id: (staged if block_id in replaced else had) for block_id in block_ids}
        if any(block_id not in blocks for block_id, blocks in source.items()):
            raise ServiceError(Code.SERVICE_REJECTED, f"{name}: status 400 InvalidBlockList")
        contents = [blocks[block_id] for block_id, blocks in source.items()]
        self.blobs[name] = HeldBlob(
            content=b"".join(contents),
            content_md5=content_md5,
            metadata=metadata,
            blocks=[
                Block(block_id=block_id, size_bytes=len(content))
                for block_id, content in zip(block_ids, contents, strict=True)
            ],
        )

    def create_small(self, name: str, content: bytes) -> None:
        self._call("create_small", name)
        if name in self.blobs:
            raise ServiceError(Code.CONFLICT, name)
        md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode("ascii")
        self.blobs[name] = HeldBlob(content=content, content_md5=md5)
