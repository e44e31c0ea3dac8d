"""The command ``pull``: from the source storage onto volumes, resumable, checked on the way and afterwards.

Nothing is written before the plan holds. A part appears under its name only when it is whole and right; the
envelope is written last. So a pull that was killed at any moment leaves parts that the next one keeps, and
never a bag that looks complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from airgap.custody_event import VolumeMark
from airgap.damage import gravest
from airgap.errors import Code
from airgap.manifest import BundleManifest
from airgap.parity import ParityLayout
from airgap.policy import TrustPolicy
from airgap.ticket import Ticket
from offline_mover.amounts import are, counted, size
from offline_mover.bags import bag_writing
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag import inspect_own_bag
from offline_mover.bags.bag_texts import Contents, ListedFile, is_parity
from offline_mover.bags.checking import whole_files
from offline_mover.bags.volume_names import medium_name, numbered_name, volume_name
from offline_mover.bags.volumes import require_volume
from offline_mover.medium import media_identity, medium_read
from offline_mover.medium.medium_read import UNPLUG_FIRST, CacheBypass
from offline_mover.outcome import Finding, NextCommand, Outcome
from offline_mover.parallel import FILES_AT_ONCE
from offline_mover.progress import Meter
from offline_mover.pulling import shards as parity_writing
from offline_mover.pulling.destinations import (
    Destination,
    PullOrder,
    choose_destinations,
)
from offline_mover.pulling.fetching import fetch_bundle, fetch_parts
from offline_mover.pulling.read_back import read_back
from offline_mover.storage.ports import ReadableContainer


def pull(
    source: ReadableContainer,
    order: PullOrder,
    *,
    transfer_id: str,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
    ticket: Ticket | None = None,
) -> Outcome:
    """Bring one transfer onto the volumes; a second run fetches only what is missing or damaged.

    ``concurrency`` is the most connections; no more are used than help (:mod:`offline_mover.tuning`).

    Raises:
        AirgapError: the bundle is not accepted, the storage or the medium refused; what is on the volumes by
            then is kept for the next run. ``MEDIA_FULL`` is raised before anything is written.
        PolicyRefusal: ``TICKET_MISMATCH``: the ``ticket`` that the storage is shown is for another bundle.
    """
    for volume in order.volumes:
        require_volume(volume)
    bundle = fetch_bundle(source, transfer_id, policy=policy, now=now)
    if ticket is not None:
        ticket.require_bundle(transfer_id, bundle.verdict.manifest_sha256 or "")
    bags = [inspect_own_bag(volume, bundle) for volume in order.volumes]
    undeclared = [Finding(damage=damage, volume=b.volume) for b in bags for damage in b.stock.damages]
    if undeclared:
        return _outcome(bundle, "other files are in the transfer's folder, nothing was fetched", undeclared)
    at_once = min(concurrency, FILES_AT_ONCE)
    whole = whole_files(bags, concurrency=at_once, meter=meter)
    destinations, layout = choose_destinations(bundle, order, bags, whole)
    for destination in destinations:
        bag_writing.prepare(destination.bag, keep=destination.kept)
        bag_writing.make_payload_folders(destination.bag, destination.names)
    if findings := fetch_parts(source, destinations, connections=concurrency, meter=meter):
        return _outcome(
            bundle,
            f"parts in the storage that are not what was signed: {len(findings):,}",
            findings,
            destinations,
        )
    shards = parity_writing.write(destinations, layout, source, concurrency=at_once, meter=meter)
    if findings := [
        *shards.findings,
        *read_back(destinations, shards, concurrency=at_once, meter=meter),
    ]:
        lied = all(finding.damage.code is Code.PART_CORRUPT for finding in findings)
        return _outcome(
            bundle,
            f"files that read back differently from what was written: {len(findings)}",
            findings,
            destinations,
            code=Code.MEDIA_LIED if lied else None,
        )
    for destination in destinations:
        contents = _contents(bundle.manifest, destination, layout, shards)
        bag_writing.complete(destination.bag, contents, now=now)
    return _finished(bundle, destinations, order)


def _contents(
    manifest: BundleManifest,
    destination: Destination,
    layout: ParityLayout | None,
    shards: parity_writing.Written,
) -> Contents:
    files = {
        part.name: ListedFile(sha256, part.size_bytes)
        for part, sha256 in manifest.parts()
        if part.name in destination.names
    }
    listed, sizes = destination.bag.texts.listed or {}, destination.bag.payload_sizes
    kept = {
        name: ListedFile(listed[name], sizes[name]) for name in sorted(destination.kept) if is_parity(name)
    }
    return Contents(
        place=destination.place,
        files={**files, **kept, **shards.on(destination.bag)},
        layout=None if layout is None else layout.to_bytes(destination.bag.verdict.manifest_sha256 or ""),
    )


# --- telling ------------------------------------------------------------------------------------------------


def _finished(bundle: AcceptedBundle, destinations: Sequence[Destination], order: PullOrder) -> Outcome:
    """Look at every volume once more, then tell."""
    findings = [
        Finding(damage=damage, volume=destination.bag.volume)
        for destination in destinations
        for damage in bag_writing.recheck(destination.bag, destination.names)
    ]
    if findings:
        return _outcome(
            bundle, "a volume does not hold what was written", findings, destinations, code=Code.MEDIA_LIED
        )
    here = len({name for destination in destinations for name in destination.names if not is_parity(name)})
    fetched = sum(len(destination.missing) for destination in destinations)
    manifest = bundle.manifest
    return _outcome(
        bundle,
        f"transfer {manifest.transfer_id}: {here:,} of {counted(manifest.part_count, 'part')} {are(here)} on "
        f"{counted(len(destinations), 'volume')}; {fetched:,} fetched, "
        f"{counted(here - fetched, 'was there', 'were there')}, all read back and right",
        [],
        destinations,
        order=order,
    )


def _volume_line(bundle: AcceptedBundle, destination: Destination) -> str:
    """Which volume is which: ``/usb: volume 2 of 3, label RED: 3 of 7 parts, 50.3 MB of 114.3 MB``."""
    bag, manifest = destination.bag, bundle.manifest
    sizes = {part.name: part.size_bytes for part, _ in manifest.parts() if part.name in destination.names}
    shards = sum(is_parity(name) for name in destination.names)
    words = [volume_name(destination.place), medium_name(media_identity.describe(bag.volume))]
    held = [
        f"{len(sizes):,} of {counted(manifest.part_count, 'part')}",
        f"{size(sum(sizes.values()))} of {size(manifest.size_bytes)}",
        counted(shards, "parity shard") if shards else "",
    ]
    return f"{bag.volume}: {_listed(words)}: {_listed(held)}"


def _removed_lines(destinations: Sequence[Destination]) -> Iterator[str]:
    """What was cleared away before anything was written."""
    for destination in destinations:
        if partials := destination.bag.stock.partials:
            count = counted(len(partials), "half-written file")
            yield (
                f"{destination.bag.volume}: removed {count} of an earlier run, {size(sum(partials.values()))}"
            )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(word for word in words if word)


def _next_step(
    code: Code | None, destinations: Sequence[Destination], order: PullOrder | None
) -> tuple[str, NextCommand | None]:
    """What the operator does after a pull, and with which command."""
    again = NextCommand(verb="pull")
    if code is Code.BLOB_MISMATCH:
        return "Start a new transfer: the stored blob is not the one that was signed.", None
    if code is Code.MEDIA_LIED:
        return f"{code.remedy} With another medium, run it again:", again
    if code is not None:
        return f"{code.remedy} Then run it again:", again
    if order is not None and order.plan is not None and len(destinations) == 1:
        place, count = destinations[0].place, len(order.plan.volumes)
        if place.number < count:
            step = f"Insert {numbered_name(place.number + 1, count)} and run:"
            return step, NextCommand(verb="pull", options={"number": str(place.number + 1)})
    verify = NextCommand.on("verify", [destination.bag.volume for destination in destinations])
    return "Carry the volumes; verify them wherever they change hands:", verify


def _outcome(
    bundle: AcceptedBundle,
    verdict: str,
    findings: Sequence[Finding],
    destinations: Sequence[Destination] = (),
    *,
    code: Code | None = None,
    order: PullOrder | None = None,
) -> Outcome:
    code = code or gravest(finding.damage for finding in findings)
    manifest = bundle.manifest
    next_step, next_command = _next_step(code, destinations, order)
    here = {name for destination in destinations for name in destination.names if not is_parity(name)}
    fetched = sum(len(destination.missing) for destination in destinations)
    written = (
        []
        if findings
        else [(destination, min(destination.names)) for destination in destinations if destination.names]
    )
    way = medium_read.read_back_way((destination.path_of(name), name) for destination, name in written)
    if way is CacheBypass.NONE:
        next_step = f"{UNPLUG_FIRST} {next_step}"
    return Outcome(
        command="pull",
        code=code,
        verdict=verdict,
        next_step=next_step,
        next_command=next_command,
        transfer_id=manifest.transfer_id,
        manifest_sha256=bundle.verdict.manifest_sha256,
        signers=bundle.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "fetchedParts": fetched,
            "keptParts": len(here) - fetched if here else 0,
        },
        findings=tuple(findings),
        places={t.bag.volume: VolumeMark(number=t.place.number, of=t.place.of) for t in destinations},
        facts={
            "volumes": [
                {
                    "path": str(t.bag.volume),
                    "name": volume_name(t.place),
                    "number": t.place.number,
                    "of": t.place.of,
                    "files": len(t.names),
                }
                for t in destinations
            ],
            "readBack": None if way is None else way.value,
            "removed": [name for t in destinations for name in t.bag.stock.partials],
        },
        lines=(
            *_removed_lines(destinations),
            *(() if findings else (_volume_line(bundle, destination) for destination in destinations)),
        ),
    )
