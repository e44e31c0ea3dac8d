"""Fetching parts onto volumes, and reading back from the medium what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.manifest import BundleManifest, TransferBlob
from airgap.parts import PartRange
from offline_mover.bags import bag
from offline_mover.bags import volume as volumes
from offline_mover.bags.bag_group import Signed
from offline_mover.bags.volume import Bag
from offline_mover.medium import media_fs
from offline_mover.outcome import Finding
from offline_mover.parallel import in_lanes
from offline_mover.progress import Gauge, Meter
from offline_mover.pulling.targets import Target
from offline_mover.storage.ports import SourceContainer

if TYPE_CHECKING:
    from offline_mover.pulling.shards import Written


class _WrongBytesError(Exception):
    """The storage sent something else than was signed."""


def fetch_parts(
    source: SourceContainer, targets: Sequence[Target], *, concurrency: int, meter: Meter
) -> list[Finding]:
    """Fetch parts, each pinned to the version of its blob that was there at the start."""
    etags = _etags(source, targets, {part.blob for target in targets for part, _ in target.missing})
    sizes = {str(t.bag.volume): sum(part.size_bytes for part, _ in t.missing) for t in targets}
    meter.start("fetching", sum(sizes.values()), sizes)

    def fetch(item: tuple[Target, Signed]) -> Finding | None:
        target, (part, sha256) = item
        gauge = meter.lane(str(target.bag.volume), part.name)
        for _ in range(2):  # once more before the storage is accused
            if _fetch_part(source, target.bag, part, sha256, etag=etags[part.blob], gauge=gauge):
                return None
        damage = volumes.part_damage(Code.BLOB_MISMATCH, part, "what the storage sent is not what was signed")
        return Finding(damage=damage)

    lanes = [[(target, item) for item in target.missing] for target in targets]
    return _found(in_lanes(fetch, lanes, concurrency=concurrency, meter=meter))


def _etags(source: SourceContainer, targets: Sequence[Target], blobs: set[str]) -> dict[str, str]:
    manifest = targets[0].bag.manifest
    return {blob.name: source_etag(source, manifest, blob) for blob in manifest.blobs if blob.name in blobs}


def source_etag(source: SourceContainer, manifest: BundleManifest, blob: TransferBlob) -> str:
    """The version of a transfer blob that the storage holds now.

    Raises:
        ServiceError: ``NOT_FOUND``.
        UntrustedInputError: ``BLOB_MISMATCH`` when already its size is not the signed one.
    """
    name = f"{manifest.transfer_id}/{blob.name}"
    stored = source.describe(name)
    if stored is None:
        raise ServiceError(Code.NOT_FOUND, name)
    if stored.size_bytes != blob.size_bytes:
        raise UntrustedInputError(
            Code.BLOB_MISMATCH, f"{name}: {stored.size_bytes} bytes, not {blob.size_bytes}"
        )
    return stored.etag


def _fetch_part(
    source: SourceContainer, target: Bag, part: PartRange, sha256: str, *, etag: str, gauge: Gauge
) -> bool:
    """Write one part; whether it was the signed one. If not, or if it failed, nothing of it stays."""
    pieces = source.read_range(
        f"{target.manifest.transfer_id}/{part.blob}",
        offset_bytes=part.offset_bytes,
        size_bytes=part.size_bytes,
        etag=etag,
    )
    digest = hashlib.sha256()
    count = 0
    try:
        with media_fs.new_file(target.folder / bag.payload_name(part.name), part.name) as file:
            for piece in pieces:
                digest.update(piece)
                media_fs.write_all(file, piece)
                count += len(piece)
                gauge.advance(len(piece))
            _require_signed(digest.hexdigest() == sha256)
    except _WrongBytesError:
        gauge.advance(-count)
        return False
    return True


def _require_signed(is_signed: bool) -> None:
    if not is_signed:
        raise _WrongBytesError


def read_back(targets: Sequence[Target], shards: Written, *, concurrency: int, meter: Meter) -> list[Finding]:
    """Hash what was written as the medium gives it back, not as memory remembers it.

    Parts that were read so already, to make parity shards of them, are not read again.
    """
    lanes = [
        [
            (target, part.name, sha256, part.size_bytes, part)
            for part, sha256 in target.missing
            if (target.bag.volume, part.name) not in shards.read_back
        ]
        + [(target, name, sha256, size, None) for name, (sha256, size) in shards.on(target.bag).items()]
        for target in targets
    ]
    sizes = {
        str(target.bag.volume): sum(size for _, _, _, size, _ in lane)
        for target, lane in zip(targets, lanes, strict=True)
    }
    meter.start("reading back", sum(sizes.values()), sizes)

    def check(item: tuple[Target, str, str, int, PartRange | None]) -> Finding | None:
        target, name, sha256, size, part = item
        path = target.bag.folder / bag.payload_name(name)
        gauge = meter.lane(str(target.bag.volume), name)
        damage = volumes.check_file(path, name, sha256, size, gauge, from_medium=True)
        if damage is not None and part is not None:
            damage = volumes.part_damage(damage.code, part, damage.detail)
        return None if damage is None else Finding(damage=damage, volume=target.bag.volume)

    return _found(in_lanes(check, lanes, concurrency=concurrency, meter=meter))


def _found(results: Iterable[Finding | None]) -> list[Finding]:
    return sorted((finding for finding in results if finding), key=lambda finding: finding.damage.name)
