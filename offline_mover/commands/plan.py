"""The command ``plan``: it decides what would go on which volume, and writes nothing to any."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from airgap.errors import Code
from airgap.media_plan import Load, PayloadFile, SavedPlan, estimated_seconds
from airgap.parity import ParityWish
from airgap.policy import TrustPolicy
from offline_mover.amounts import counted, duration, size
from offline_mover.amounts import rate as per_second
from offline_mover.bags import placement
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag import inspect_bag
from offline_mover.bags.bag_texts import is_parity
from offline_mover.bags.placement import Placement, VolumeOutlook
from offline_mover.bags.volume_names import numbered_name
from offline_mover.outcome import NextCommand, Outcome, Placeholder
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
    saved_as: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Outcome, SavedPlan | None]:
    """Plan a pull onto volumes that are mounted or only described.

    The estimate is the time to fetch at the rate measured now, or at ``rate_bytes_per_s`` where that is
    lower, and to read everything back once from media that are no slower at reading. ``saved_as`` is where
    the plan is going to be kept.

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
    outcome = _outcome(bundle, outlooks, decided, rate, seconds, saved_as=saved_as, parity=parity)
    return outcome, saved if decided.holds else None


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
    kept = names | {name for name in held.payload_sizes if is_parity(name)}
    there = placement.mounted(outlook.path, names, reclaimed_bytes=held.reclaimable_bytes(kept))
    return there.reserving(outlook.reserved_bytes)


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


def _next_step(
    outlooks: Sequence[VolumeOutlook],
    decided: Placement,
    lacking_bytes: int,
    saved_as: Path | None,
    parity: ParityWish | None,
) -> tuple[str, NextCommand]:
    """What the operator does with the plan, and with which command."""
    if not decided.holds:
        step = f"Add a volume with at least {size(lacking_bytes)}, or a larger one, and plan again:"
        names = (*(outlook.name for outlook in outlooks), Placeholder("VOLUME"))
        return step, NextCommand(verb="plan", options={"volume": names})
    paths = tuple(str(outlook.path) for outlook in outlooks if outlook.path is not None)
    tool = {"with-tool": ""} if any(outlook.reserved_bytes for outlook in outlooks) else {}
    if saved_as is not None:
        first = paths[:1] or (Placeholder("VOLUME"),)
        step = f"Insert {numbered_name(1, len(_used(decided)))} and run:"
        options = {"plan": str(saved_as), "number": "1", **tool}
        return step, NextCommand(verb="pull", words={"volumes": first}, options=options)
    if len(paths) == len(outlooks):
        options = tool if parity is None else {"parity": str(parity), **tool}
        return "Fill these volumes:", NextCommand(verb="pull", words={"volumes": paths}, options=options)
    step = "Save the plan, then fill the volumes one at a time:"
    return step, NextCommand(verb="plan", options={"save": "plan.json"})


def _outcome(
    bundle: AcceptedBundle,
    outlooks: Sequence[VolumeOutlook],
    decided: Placement,
    rate: float,
    seconds: int,
    *,
    saved_as: Path | None,
    parity: ParityWish | None,
) -> Outcome:
    manifest = bundle.manifest
    loads = decided.plan.loads
    held = sum(len(outlook.held) for outlook in outlooks)
    lines = [
        _volume_line(number, len(_used(decided)), outlook, load)
        for number, (outlook, load) in enumerate(zip(outlooks, loads, strict=True), start=1)
    ]
    if rate:
        lines.append(
            f"about {duration(seconds)} with reading back, at {per_second(rate)} measured from the source"
        )
    code = None if decided.holds else Code.MEDIA_FULL
    lacking = decided.plan.lacking_bytes
    next_step, next_command = _next_step(outlooks, decided, lacking, saved_as, parity)
    return Outcome(
        command="plan",
        code=code,
        verdict=f"{counted(len(decided.plan.unplaced), 'file does', 'files do')} not fit, {size(lacking)}"
        if code
        else f"transfer {manifest.transfer_id} fits: {counted(manifest.part_count, 'part')}, "
        f"{size(manifest.size_bytes)}",
        next_step=next_step,
        next_command=next_command,
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


def _volume_line(number: int, count: int, outlook: VolumeOutlook, load: Load) -> str:
    """What is to go onto a volume and what is left of it."""
    name = f"{outlook.name}{_file_system(outlook)}"
    if number > count:
        return f"{name}: not needed"
    tool = f", {size(outlook.reserved_bytes)} kept for the tool" if outlook.reserved_bytes else ""
    left = size(max(0, outlook.capacity.free_bytes - load.stored_bytes))
    return (
        f"{numbered_name(number, count)}, {name}: {counted(len(load.files), 'file')}, "
        f"{size(load.size_bytes)} to write, {len(outlook.held):,} there already{tool}, {left} stay free"
    )


def _file_system(outlook: VolumeOutlook) -> str:
    is_said = outlook.file_system is None or outlook.path is None
    return "" if is_said else f" ({outlook.file_system})"
