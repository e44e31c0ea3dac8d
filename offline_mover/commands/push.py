"""``push``: from a volume into the target storage; the very bytes that are sent are checked.

A part becomes a block whose id holds the part's digest. The storage never takes a block that is not right
(:mod:`offline_mover.part_stream`), a blob is committed only from all its parts, and the envelope is written
last. So a second run sends only what is missing, and nothing half-done is ever visible.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap.damage import Damage, gravest
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME, TransferBlob
from airgap.parts import PartRange
from airgap.policy import TrustPolicy
from offline_mover import volume as volumes
from offline_mover.parallel import in_parallel
from offline_mover.part_stream import PartDamagedError, PartStream
from offline_mover.ports import Block, StoredBlob, TargetContainer
from offline_mover.progress import Meter
from offline_mover.report import Outcome
from offline_mover.volume import Bag, Stock

_Signed = tuple[PartRange, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the steps of one push have in common."""

    target: TargetContainer
    sent_bag: Bag
    stock: Stock
    concurrency: int
    meter: Meter

    def name_of(self, name: str) -> str:
        """A blob's name in the container."""
        return f"{self.sent_bag.manifest.transfer_id}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """What became of one blob, in parts."""

    sent: int = 0
    skipped: int = 0
    damages: tuple[Damage, ...] = ()


def push(
    target: TargetContainer,
    volume: Path,
    *,
    transfer_id: str | None,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
) -> Outcome:
    """Send one bag; a second run sends only what the storage does not have.

    Raises:
        AirgapError: the bag's envelope is not accepted, the storage refused, or it holds something else under
            this transfer's names. Blocks that were staged by then are kept for the next run.
    """
    sent_bag = volumes.open_bag(volumes.find_bag(volume, transfer_id), policy=policy, now=now)
    stock = volumes.take_stock(sent_bag.folder, sent_bag.manifest)
    run = _Run(target=target, sent_bag=sent_bag, stock=stock, concurrency=concurrency, meter=meter)
    if stock.damages:
        return _outcome(run, "other files are in the transfer's folder, nothing was sent", [], stock.damages)
    is_published = _is_published(run)
    blobs = [_push_blob(run, blob, may_send=not is_published) for blob in sent_bag.manifest.blobs]
    damages = tuple(damage for blob in blobs for damage in blob.damages)
    if damages:
        return _outcome(
            run,
            f"damaged parts: {len(damages)}; their blobs are not committed, the target sees nothing",
            blobs,
            damages,
        )
    if not is_published:
        _publish(run)
    sent = sum(blob.sent for blob in blobs)
    done = f"{sent} parts sent, {sum(blob.skipped for blob in blobs)} were there"
    return _outcome(
        run, f"transfer {sent_bag.manifest.transfer_id} is in the target storage: {done}", blobs, ()
    )


def block_id(part: PartRange, sha256: str) -> str:
    """The block's name, 52 characters for every part (Azure: at most 64, and all of one length)."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode("ascii").rstrip("=")
    return f"{part.number:08d}-{digest}"


def _blocks_of(blob: TransferBlob) -> list[Block]:
    return [
        Block(block_id=block_id(part, sha256), size_bytes=part.size_bytes) for part, sha256 in blob.parts()
    ]


def _is_published(run: _Run) -> bool:
    """Whether this very envelope is in the storage; another one under its name refuses the push."""
    name = run.name_of(ENVELOPE_NAME)
    try:
        held = run.target.read_small(name, max_bytes=MAX_ENVELOPE_BYTES)
    except UntrustedInputError as error:
        raise UntrustedInputError(Code.BLOB_MISMATCH, error.detail) from None
    if held is not None and held != run.sent_bag.envelope:
        raise UntrustedInputError(Code.BLOB_MISMATCH, f"{name}: another bundle manifest is there already")
    return held is not None


def _push_blob(run: _Run, blob: TransferBlob, *, may_send: bool) -> _Sent:
    """Stage the parts that are missing in the storage, then commit, if every part is right."""
    name = run.name_of(blob.name)
    if (stored := run.target.describe(name)) is not None:
        _require_same(run, blob, stored)
        return _Sent(skipped=len(blob.part_sha256))
    if not may_send:
        raise ServiceError(
            Code.CONFLICT,
            f"the bundle manifest is there, {name} is not: the target took it up; look for its receipt",
        )
    staged = set(run.target.staged_blocks(name))
    missing = [
        item for item, block in zip(blob.parts(), _blocks_of(blob), strict=True) if block not in staged
    ]
    run.meter.start(f"sending {blob.name}", sum(part.size_bytes for part, _ in missing))

    def send(item: _Signed) -> Damage | None:
        return _send_part(run, name, *item)

    results = list(in_parallel(send, missing, concurrency=run.concurrency, meter=run.meter))
    damages = tuple(sorted((found for found in results if found), key=lambda damage: damage.name))
    if not damages:
        _commit(run, blob)
    return _Sent(
        sent=len(missing) - len(damages),
        skipped=len(blob.part_sha256) - len(missing),
        damages=damages,
    )


def _send_part(run: _Run, name: str, part: PartRange, sha256: str) -> Damage | None:
    """Send one part; one that turns out wrong is read again, from the medium, before it is reported."""
    if damage := volumes.size_damage(part, run.stock):
        return damage
    path = run.sent_bag.path_of(part)
    for _ in range(2):
        try:
            with PartStream.open(path, part, sha256, run.meter) as stream:
                run.target.stage(name, block_id(part, sha256), stream)
        except PartDamagedError as error:
            found = volumes.check_part(path, part, sha256, run.meter, from_medium=True)
            if found is not None:
                return found
            last = error.damage
        else:
            return None
    return last


def _commit(run: _Run, blob: TransferBlob) -> None:
    name = run.name_of(blob.name)
    try:
        run.target.commit(
            name,
            [block.block_id for block in _blocks_of(blob)],
            content_md5=blob.content_md5,
            metadata=blob.metadata,
        )
    except ServiceError as error:
        stored = run.target.describe(name) if error.code is Code.CONFLICT else None
        if stored is None:
            raise
        # Either the answer to our own commit got lost, or another run was faster: the same is fine.
        _require_same(run, blob, stored)


def _require_same(run: _Run, blob: TransferBlob, stored: StoredBlob) -> None:
    """Refuse a blob that is not provably ours.

    The evidence: its blocks carry the names that only parts with the signed digests get, in order and with
    the right sizes, and Content-MD5 and metadata are those of the bundle manifest. The target hashes it all
    again.

    Raises:
        UntrustedInputError: ``BLOB_MISMATCH``.
    """
    name = run.name_of(blob.name)
    if stored.size_bytes != blob.size_bytes:
        why = f"{stored.size_bytes} bytes, not {blob.size_bytes}"
    elif run.target.committed_blocks(name) != _blocks_of(blob):
        why = "it was not put together from the signed parts"
    elif stored.content_md5 != blob.content_md5:
        why = "its Content-MD5 is another"
    elif _folded(stored.metadata) != _folded(blob.metadata):
        why = "its metadata is other"
    else:
        return
    raise UntrustedInputError(
        Code.BLOB_MISMATCH, f"{name} is there already, and is not the signed one: {why}"
    )


def _folded(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata names travel as HTTP headers: their case does not count."""
    return {name.casefold(): value for name, value in metadata.items()}


def _publish(run: _Run) -> None:
    try:
        run.target.create_small(run.name_of(ENVELOPE_NAME), run.sent_bag.envelope)
    except ServiceError as error:
        if error.code is not Code.CONFLICT or not _is_published(run):
            raise


def _outcome(run: _Run, verdict: str, blobs: list[_Sent], damages: tuple[Damage, ...]) -> Outcome:
    manifest = run.sent_bag.manifest
    code = gravest(damages)
    return Outcome(
        command="push",
        code=code,
        verdict=verdict,
        next_step=code.remedy if code else "Wait for the target's receipt; the import starts by itself.",
        transfer_id=manifest.transfer_id,
        manifest_sha256=run.sent_bag.verdict.manifest_sha256,
        signers=run.sent_bag.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "sentParts": sum(blob.sent for blob in blobs),
            "skippedParts": sum(blob.skipped for blob in blobs),
        },
        damages=damages,
    )
