"""``pull``: from the source storage onto a volume, resumable, checked on the way and on the medium.

A part appears under its name only when it is whole and right; the envelope is written last. So a pull that
was killed at any moment leaves parts that the next one keeps, and never a bag that looks complete.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap.damage import Damage, gravest
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code, MediaError, ServiceError, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME, TransferBlob
from airgap.parts import PartRange
from airgap.policy import TrustPolicy
from airgap.verify import verify_bundle
from offline_mover import bag, media_fs
from offline_mover import volume as volumes
from offline_mover.parallel import in_parallel
from offline_mover.ports import SourceContainer
from offline_mover.progress import Meter
from offline_mover.report import Outcome
from offline_mover.volume import Bag

_SLACK_BYTES = 1024 * 1024
_CLUSTER_BYTES = 64 * 1024
"""What a file may take beyond its size: the clusters of large FAT32 and exFAT volumes are at most so big."""

_Signed = tuple[PartRange, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the steps of one pull have in common."""

    source: SourceContainer
    wanted: Bag
    concurrency: int
    meter: Meter


class _WrongBytesError(Exception):
    """The storage sent something else than was signed."""


def pull(
    source: SourceContainer,
    volume: Path,
    *,
    transfer_id: str,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
) -> Outcome:
    """Bring one transfer onto ``volume``; a second run fetches only what is missing or damaged.

    Raises:
        AirgapError: the bundle is not accepted, the storage or the medium refused; what is on the volume by
        then
            is kept for the next run.
    """
    volumes.require_volume(volume)
    run = _Run(
        source=source,
        wanted=_accepted_bundle(source, volume / transfer_id, policy=policy, now=now),
        concurrency=concurrency,
        meter=meter,
    )
    _prepare_folder(run.wanted)
    stock = volumes.take_stock(run.wanted.folder, run.wanted.manifest)
    if stock.damages:
        return _outcome(run, "other files are in the transfer's folder, nothing was fetched", stock.damages)
    missing = _missing_parts(run, stock)
    _require_space(run.wanted, missing)
    if damages := _fetch(run, missing):
        return _outcome(
            run,
            f"parts in the storage that are not what was signed: {len(damages)}",
            damages,
            fetched=len(missing),
        )
    if damages := _read_back(run, missing):
        lied = all(damage.code is Code.PART_CORRUPT for damage in damages)
        return _outcome(
            run,
            f"parts that read back differently from what was written: {len(damages)}",
            damages,
            code=Code.MEDIA_LIED if lied else gravest(damages),
            fetched=len(missing),
        )
    _write_tag_files(run.wanted, now=now)
    if damages := _recheck(run.wanted):
        return _outcome(
            run,
            "the volume does not hold what was written",
            damages,
            code=Code.MEDIA_LIED,
            fetched=len(missing),
        )
    return _outcome(
        run,
        f"transfer {transfer_id} is on {volume}: {len(missing)} parts fetched, "
        f"{run.wanted.manifest.part_count - len(missing)} were there, all read back and right",
        (),
        fetched=len(missing),
    )


def _accepted_bundle(source: SourceContainer, folder: Path, *, policy: TrustPolicy, now: datetime) -> Bag:
    """The bundle as the source offers it, accepted by the trust policy: nothing else is ever written."""
    name = f"{folder.name}/{ENVELOPE_NAME}"
    envelope = source.read_small(name, max_bytes=MAX_ENVELOPE_BYTES)
    if envelope is None:
        raise ServiceError(Code.NOT_FOUND, f"{name}: no such transfer, or it is not sealed yet")
    verdict = verify_bundle(envelope, policy=policy, now=now)
    manifest = verdict.require()
    if manifest.transfer_id != folder.name:
        raise UntrustedInputError(
            Code.MANIFEST_MALFORMED, f"{name} is the bundle manifest of transfer {manifest.transfer_id}"
        )
    return Bag(folder=folder, envelope=envelope, verdict=verdict, manifest=manifest)


def _prepare_folder(wanted: Bag) -> None:
    """Make the bag's folders, refuse another bundle's, remove what a killed run left half written."""
    folder = wanted.folder
    media_fs.make_folder(folder, folder.name)
    if os.path.lexists(folder / ENVELOPE_NAME) and _is_other_bundle(folder, wanted.envelope):
        raise UntrustedInputError(Code.VOLUME_CONFLICT, str(folder))
    declared = {bag.payload_name(part.name) for part, _ in wanted.manifest.parts()} | set(bag.TAG_FILES)
    partials = [
        entry.name
        for entry in media_fs.walk(folder)
        if entry.kind is media_fs.Kind.FILE and entry.name.removesuffix(media_fs.PARTIAL_SUFFIX) in declared
        if entry.name not in declared
    ]
    for name in partials:
        with media_fs.media_errors(name):
            (folder / name).unlink()
    media_fs.make_folder(folder / bag.PAYLOAD_FOLDER, bag.PAYLOAD_FOLDER)
    for blob in wanted.manifest.blobs:
        name = f"{bag.PAYLOAD_FOLDER}/{blob.name}"
        media_fs.make_folder(folder / name, name)


def _is_other_bundle(folder: Path, envelope: bytes) -> bool:
    """Whether the envelope on the volume is a sound one with another payload; a broken one is replaced."""
    try:
        held = media_fs.read_capped(folder / ENVELOPE_NAME, ENVELOPE_NAME, max_bytes=MAX_ENVELOPE_BYTES)
        return Envelope.from_bytes(held).payload != Envelope.from_bytes(envelope).payload
    except UntrustedInputError:
        return False


def _missing_parts(run: _Run, stock: volumes.Stock) -> list[_Signed]:
    """The parts that are not on the volume whole and right; what stood in their place is removed."""
    wanted = run.wanted
    sized = [item for item in wanted.manifest.parts() if volumes.size_damage(item[0], stock) is None]
    run.meter.start("checking what is there", sum(part.size_bytes for part, _ in sized))

    def check(item: _Signed) -> str | None:
        part, sha256 = item
        damage = volumes.check_part(wanted.path_of(part), part, sha256, run.meter)
        return None if damage else part.name

    whole = set(in_parallel(check, sized, concurrency=run.concurrency, meter=run.meter))
    missing = [(part, sha256) for part, sha256 in wanted.manifest.parts() if part.name not in whole]
    for part, _ in missing:
        if bag.payload_name(part.name) in stock.sizes:
            with media_fs.media_errors(part.name):
                wanted.path_of(part).unlink()
    return missing


def _require_space(wanted: Bag, missing: list[_Signed]) -> None:
    files = len(missing) + len(bag.TAG_FILES)
    needed = sum(part.size_bytes for part, _ in missing) + files * _CLUSTER_BYTES + _SLACK_BYTES
    if missing and (free := media_fs.free_bytes(wanted.folder)) < needed:
        raise MediaError(Code.MEDIA_FULL, f"{needed} bytes are needed, {free} are free")


def _fetch(run: _Run, missing: list[_Signed]) -> tuple[Damage, ...]:
    """Fetch parts in parallel, each pinned to the version of its blob that was there at the start."""
    etags = _etags(run, {part.blob for part, _ in missing})
    run.meter.start("fetching", sum(part.size_bytes for part, _ in missing))

    def fetch(item: _Signed) -> Damage | None:
        part, sha256 = item
        for _ in range(2):  # once more before the storage is accused
            if _fetch_part(run, part, sha256, etag=etags[part.blob]):
                return None
        return volumes.part_damage(Code.BLOB_MISMATCH, part, "what the storage sent is not what was signed")

    return _found(in_parallel(fetch, missing, concurrency=run.concurrency, meter=run.meter))


def _etags(run: _Run, blobs: set[str]) -> dict[str, str]:
    return {blob.name: _etag(run, blob) for blob in run.wanted.manifest.blobs if blob.name in blobs}


def _etag(run: _Run, blob: TransferBlob) -> str:
    name = f"{run.wanted.manifest.transfer_id}/{blob.name}"
    stored = run.source.describe(name)
    if stored is None:
        raise ServiceError(Code.NOT_FOUND, name)
    if stored.size_bytes != blob.size_bytes:
        raise UntrustedInputError(
            Code.BLOB_MISMATCH, f"{name}: {stored.size_bytes} bytes, not {blob.size_bytes}"
        )
    return stored.etag


def _fetch_part(run: _Run, part: PartRange, sha256: str, *, etag: str) -> bool:
    """Write one part; whether it was the signed one. If not, or if it failed, nothing of it stays."""
    pieces = run.source.read_range(
        f"{run.wanted.manifest.transfer_id}/{part.blob}",
        offset_bytes=part.offset_bytes,
        size_bytes=part.size_bytes,
        etag=etag,
    )
    digest = hashlib.sha256()
    count = 0
    try:
        with media_fs.new_file(run.wanted.path_of(part), part.name) as file:
            for piece in pieces:
                digest.update(piece)
                media_fs.write_all(file, piece)
                count += len(piece)
                run.meter.advance(len(piece))
            _require_signed(digest.hexdigest() == sha256)
    except _WrongBytesError:
        run.meter.advance(-count)
        return False
    return True


def _require_signed(is_signed: bool) -> None:
    if not is_signed:
        raise _WrongBytesError


def _read_back(run: _Run, written: list[_Signed]) -> tuple[Damage, ...]:
    """Hash what was written as the medium gives it back, not as memory remembers it."""
    run.meter.start("reading back", sum(part.size_bytes for part, _ in written))

    def check(item: _Signed) -> Damage | None:
        part, sha256 = item
        return volumes.check_part(run.wanted.path_of(part), part, sha256, run.meter, from_medium=True)

    return _found(in_parallel(check, written, concurrency=run.concurrency, meter=run.meter))


def _write_tag_files(wanted: Bag, *, now: datetime) -> None:
    """Complete the bag; the envelope comes last. A bag that is complete already is not touched."""
    if not _recheck(wanted):
        return
    for name, content in bag.bag_texts(wanted.manifest, wanted.envelope, now=now).items():
        media_fs.write_durably(wanted.folder / name, name, content)
    media_fs.write_durably(wanted.folder / ENVELOPE_NAME, ENVELOPE_NAME, wanted.envelope)


def _recheck(wanted: Bag) -> tuple[Damage, ...]:
    """Everything but the parts' digests, from the volume: names, sizes, tag files, envelope."""
    stock = volumes.take_stock(wanted.folder, wanted.manifest)
    damages = [*stock.damages, *volumes.check_tag_files(wanted, stock)]
    damages += [damage for part, _ in wanted.manifest.parts() if (damage := volumes.size_damage(part, stock))]
    if ENVELOPE_NAME not in stock.sizes or wanted.envelope != media_fs.read_capped(
        wanted.folder / ENVELOPE_NAME, ENVELOPE_NAME, max_bytes=stock.sizes[ENVELOPE_NAME]
    ):
        damages.append(
            Damage(code=Code.BAG_MALFORMED, name=ENVELOPE_NAME, detail="not the source's envelope")
        )
    return tuple(damages)


def _found(results: Iterable[Damage | None]) -> tuple[Damage, ...]:
    return tuple(sorted((damage for damage in results if damage), key=lambda damage: damage.name))


def _outcome(
    run: _Run, verdict: str, damages: tuple[Damage, ...], *, code: Code | None = None, fetched: int = 0
) -> Outcome:
    code = code or gravest(damages)
    manifest = run.wanted.manifest
    steps = {
        None: "Carry the volume; verify it wherever it changes hands.",
        Code.BLOB_MISMATCH: "Start a new transfer: the stored blob is not the one that was signed.",
    }
    return Outcome(
        command="pull",
        code=code,
        verdict=verdict,
        next_step=steps[code] if code is None or code in steps else code.remedy,
        transfer_id=manifest.transfer_id,
        manifest_sha256=run.wanted.verdict.manifest_sha256,
        signers=run.wanted.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "fetchedParts": fetched,
            "keptParts": manifest.part_count - fetched,
        },
        damages=damages,
    )
