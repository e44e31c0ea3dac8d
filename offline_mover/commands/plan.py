"""``plan``: what would go on which volume, decided with the signed bundle manifest and nothing written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from airgap.errors import Code
from airgap.media_plan import PayloadFile, SavedPlan, estimated_seconds
from airgap.parity import ParityWish
from airgap.policy import TrustPolicy
from offline_mover.bags import placement
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag import inspect_bag
from offline_mover.bags.bag_texts import is_parity
from offline_mover.bags.placement import Placement, VolumeOutlook
from offline_mover.outcome import Outcome
from offline_mover.parallel import in_parallel
from offline_mover.progress import Meter
from offline_mover.pulling.fetching import fetch_bundle, source_etag
from offline_mover.storage.ports import ReadableContainer

SAMPLE_BYTES = 32 * 1024 * 1024
"""So much is fetched, and thrown away, to measure the source's rate."""


def plan(
    source: ReadableContainer,
    outlooks: Sequence[VolumeOutlook],
    *,
    transfer_id: str,
    parity: ParityWish | None,
    rate_bytes_per_s: float | None,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Outcome, SavedPlan | None]:
    """Plan a pull onto volumes that are mounted or only described.

    The estimate is the time to fetch at the rate measured now, or at ``rate_bytes_per_s`` where that is
    lower, and to read everything back once from media that are no slower at reading.

    Returns:
        The outcome, ``MEDIA_FULL`` when it does not fit; and the plan to keep when it does.

    Raises:
        AirgapError: the bundle is not accepted, or the storage refused.
    """
    bundle = fetch_bundle(source, transfer_id, policy=policy, now=now)
    outlooks = [_with_held(outlook, bundle) for outlook in outlooks]
    wanted = [PayloadFile(name=part.name, size_bytes=part.size_bytes) for part, _ in bundle.manifest.parts()]
    decided = placement.place(
        bundle.manifest, outlooks, wanted, envelope_bytes=len(bundle.envelope), parity=parity
    )
    to_fetch = sum(
        file.size_bytes for load in decided.plan.loads for file in load.files if not is_parity(file.name)
    )
    measured = _measured_rate(source, bundle, concurrency, meter, clock) if to_fetch else 0.0
    rate = min(measured, rate_bytes_per_s or measured)
    seconds = estimated_seconds(to_fetch, rate) + estimated_seconds(
        sum(load.size_bytes for load in decided.plan.loads), rate_bytes_per_s or rate
    )
    saved = SavedPlan(
        transfer_id=transfer_id,
        manifest_sha256=bundle.manifest_sha256,
        volumes=_used(decided),
        layout=decided.layout,
    )
    return _outcome(bundle, outlooks, decided, rate, seconds), saved if decided.holds else None


def _used(decided: Placement) -> tuple[tuple[str, ...], ...]:
    """The names on each volume, without the last volumes that nothing is left for."""
    names = [tuple(sorted(on_volume)) for on_volume in decided.names]
    while len(names) > 1 and not names[-1]:
        names.pop()
    return tuple(names)


def _with_held(outlook: VolumeOutlook, bundle: AcceptedBundle) -> VolumeOutlook:
    """A mounted volume with what is on it already, by name and size; pull looks at the digests too."""
    if outlook.path is None:
        return outlook
    held = inspect_bag(outlook.path, bundle, passes_partials=True)
    names = {part.name for part, _ in bundle.manifest.parts() if held.part_damage(part) is None}
    return placement.mounted(outlook.path, names)


def _measured_rate(
    source: ReadableContainer,
    bundle: AcceptedBundle,
    concurrency: int,
    meter: Meter,
    clock: Callable[[], float],
) -> float:
    """Bytes a second that the source gives now, over a sample from the beginning of the first blob."""
    blob = bundle.manifest.blobs[0]
    etag = source_etag(source, bundle.manifest, blob)
    size = min(SAMPLE_BYTES, blob.size_bytes)
    step = -(-size // concurrency)
    ranges = [(offset, min(step, size - offset)) for offset in range(0, size, step)]
    meter.start("measuring the source", size)

    def fetch(item: tuple[int, int]) -> None:
        offset, length = item
        for piece in source.read_range(
            f"{bundle.manifest.transfer_id}/{blob.name}", offset_bytes=offset, size_bytes=length, etag=etag
        ):
            meter.advance(len(piece))

    began = clock()
    for _ in in_parallel(fetch, ranges, concurrency=concurrency, meter=meter):
        pass
    return size / max(clock() - began, 1e-6)


def _outcome(
    bundle: AcceptedBundle, outlooks: Sequence[VolumeOutlook], decided: Placement, rate: float, seconds: int
) -> Outcome:
    manifest = bundle.manifest
    loads = decided.plan.loads
    held = sum(len(outlook.held) for outlook in outlooks)
    lines = [
        f"volume {number}  {outlook.name}{_file_system(outlook)}: {len(load.files)} files, "
        f"{_size(load.size_bytes)} to write, {len(outlook.held)} there already, "
        f"{_size(outlook.capacity.free_bytes - load.stored_bytes)} stay free"
        for number, (outlook, load) in enumerate(zip(outlooks, loads, strict=True), start=1)
    ]
    if rate:
        lines.append(
            f"about {_duration(seconds)} with reading back, at {_size(int(rate))}/s measured from the source"
        )
    code = None if decided.holds else Code.MEDIA_FULL
    lacking = decided.plan.lacking_bytes
    return Outcome(
        command="plan",
        code=code,
        verdict=f"{len(decided.plan.unplaced)} files, {_size(lacking)} do not fit"
        if code
        else f"transfer {manifest.transfer_id} fits: {manifest.part_count} parts, "
        f"{_size(manifest.size_bytes)}",
        next_step=f"Add a volume with at least {_size(lacking)}, or a larger one, and plan again."
        if code
        else "Run pull with these volumes, or --save the plan and fill them one at a time.",
        transfer_id=manifest.transfer_id,
        manifest_sha256=bundle.verdict.manifest_sha256,
        signers=bundle.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "heldParts": held,
            "lackingBytes": lacking,
            "estimatedSeconds": seconds,
            "rateBytesPerSecond": int(rate),
        },
        facts={
            "volumes": [
                {
                    "number": number,
                    "name": outlook.name,
                    "fileSystem": outlook.file_system,
                    "freeBytes": outlook.capacity.free_bytes,
                    "files": len(load.files),
                    "bytes": load.size_bytes,
                    "heldFiles": len(outlook.held),
                }
                for number, (outlook, load) in enumerate(zip(outlooks, loads, strict=True), start=1)
            ],
            "parity": None
            if decided.layout is None
            else {"stripes": decided.layout.stripes, "parityShards": decided.layout.parity_shards},
        },
        lines=tuple(lines),
    )


def _file_system(outlook: VolumeOutlook) -> str:
    is_said = outlook.file_system is None or outlook.path is None
    return "" if is_said else f" ({outlook.file_system})"


_STEP = 1000


def _size(size_bytes: int) -> str:
    """``1.5 GB``, counted in thousands as media are sold."""
    amount = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(amount) < _STEP:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= _STEP
    return f"{amount:.1f} TB"


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
