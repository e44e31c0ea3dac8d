"""Fetching from the source storage: the bundle manifest, and the parts onto volumes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from airgap.damage import Damage
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME, BundleManifest, TransferBlob
from airgap.parts import PartRange, SignedPart
from airgap.policy import TrustPolicy
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag import Bag
from offline_mover.bags.bag_texts import payload_name
from offline_mover.medium import media_fs
from offline_mover.outcome import Finding, by_name
from offline_mover.parallel import in_lanes
from offline_mover.places import Places
from offline_mover.progress import Gauge, Meter
from offline_mover.pulling.destinations import Destination
from offline_mover.pulling.part_ranges import ReadRange, in_ranges
from offline_mover.storage.ports import ReadableContainer


class _WrongBytesError(Exception):
    """The storage sent something else than was signed."""


def fetch_bundle(
    source: ReadableContainer, transfer_id: str, *, policy: TrustPolicy, now: datetime
) -> AcceptedBundle:
    """Fetch the bundle manifest from the source, and accept it by the trust policy or refuse it.

    Raises:
        ServiceError: ``NOT_FOUND``: there is no such transfer, or it is not sealed yet.
        UntrustedInputError: the envelope is not what it should be; ``MANIFEST_MALFORMED`` if it is of another
            transfer.
        PolicyRefusal: the trust policy does not accept it.
    """
    name = f"{transfer_id}/{ENVELOPE_NAME}"
    envelope = source.read_small(name, max_bytes=MAX_ENVELOPE_BYTES)
    if envelope is None:
        raise ServiceError(Code.NOT_FOUND, f"{name}: no such transfer, or it is not sealed yet")
    bundle = AcceptedBundle.judge(envelope, policy=policy, now=now)
    if bundle.manifest.transfer_id != transfer_id:
        raise UntrustedInputError(
            Code.MANIFEST_MALFORMED,
            f"{name} is the bundle manifest of transfer {bundle.manifest.transfer_id}",
        )
    return bundle


def fetch_parts(
    source: ReadableContainer, destinations: Sequence[Destination], *, connections: int, meter: Meter
) -> list[Finding]:
    """Fetch parts, each pinned to the version of its blob that was there at the start.

    At most ``connections`` are used; each volume has its own, so that a slow one holds up no other. Where
    there are more connections than parts, a part may come over several.

    Returns:
        The parts that are not as they were signed, also after they were fetched again.
    """
    etags = _etags(
        source, destinations, {part.blob for destination in destinations for part, _ in destination.missing}
    )
    sizes = {str(t.bag.volume): sum(part.size_bytes for part, _ in t.missing) for t in destinations}
    parts = sum(len(destination.missing) for destination in destinations)
    meter.start("fetching", sum(sizes.values()), sizes, parts=parts)

    folder = destinations[0].bag.manifest.transfer_id
    filled = [destination for destination in destinations if destination.missing]

    def fetch(item: tuple[Destination, Places, SignedPart]) -> Finding | None:
        destination, places, (part, sha256) = item
        read = _reader(source, f"{folder}/{part.blob}", part, etag=etags[part.blob], places=places)
        is_one_of_few = len(destination.missing) < connections // len(filled)
        with places.place():
            gauge = meter.lane(str(destination.bag.volume), part.name)
            for _ in range(2):  # once more before the storage is accused
                pieces = (
                    in_ranges(read, part.size_bytes, places=places, pool=pool)
                    if is_one_of_few
                    else read(0, part.size_bytes)
                )
                if _write_part(pieces, destination.bag, part, sha256, gauge=gauge):
                    return None
        damage = Damage.of_part(Code.BLOB_MISMATCH, part, "what the storage sent is not what was signed")
        return Finding(damage=damage)

    lanes = []
    for destination in filled:
        places = Places(connections, lanes=len(filled), meter=meter)
        lanes.append([(destination, places, item) for item in destination.missing])
    with ThreadPoolExecutor(connections, "range") as pool:
        return by_name(in_lanes(fetch, lanes, concurrency=connections, meter=meter))


def _reader(source: ReadableContainer, name: str, part: PartRange, *, etag: str, places: Places) -> ReadRange:
    """Gives ranges of a part, as the blob was at ``etag``."""

    def read(offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
        pieces = source.read_range(
            name, offset_bytes=part.offset_bytes + offset_bytes, size_bytes=size_bytes, etag=etag
        )
        return places.noting(pieces)

    return read


def _etags(source: ReadableContainer, destinations: Sequence[Destination], blobs: set[str]) -> dict[str, str]:
    manifest = destinations[0].bag.manifest
    return {blob.name: source_etag(source, manifest, blob) for blob in manifest.blobs if blob.name in blobs}


def source_etag(source: ReadableContainer, manifest: BundleManifest, blob: TransferBlob) -> str:
    """The ETag of the version of a transfer blob that the storage holds now.

    Raises:
        ServiceError: ``NOT_FOUND``: it is gone.
        UntrustedInputError: ``BLOB_MISMATCH``: its size is not the signed one.
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


def _write_part(
    pieces: Iterator[bytes], destination: Bag, part: PartRange, sha256: str, *, gauge: Gauge
) -> bool:
    """Write one part; whether it was the signed one. If not, or if it failed, nothing of it stays."""
    digest = hashlib.sha256()
    count = 0
    try:
        with media_fs.new_file(destination.folder / payload_name(part.name), part.name) as file:
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
