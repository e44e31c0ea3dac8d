"""``pull``: from the source storage onto volumes, resumable, checked on the way and on the medium.

Nothing is written before the plan holds. A part appears under its name only when it is whole and right; the
envelope is written last. So a pull that was killed at any moment leaves parts that the next one keeps, and
never a bag that looks complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from airgap.damage import gravest
from airgap.errors import Code
from airgap.manifest import BundleManifest
from airgap.parity import ParityLayout
from airgap.policy import TrustPolicy
from offline_mover.bags import bag, bag_writing
from offline_mover.bags import volume as volumes
from offline_mover.medium.medium_read import UNPLUG_FIRST, CacheBypass
from offline_mover.outcome import Finding, Outcome
from offline_mover.progress import Meter
from offline_mover.pulling import shards as parity_writing
from offline_mover.pulling.fetching import fetch_parts, read_back
from offline_mover.pulling.targets import (
    Bundle,
    PullOrder,
    Target,
    accepted_bundle,
    choose_targets,
    inspect_volume,
    whole_files,
)
from offline_mover.storage.ports import SourceContainer


def pull(
    source: SourceContainer,
    order: PullOrder,
    *,
    transfer_id: str,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
) -> Outcome:
    """Bring one transfer onto the volumes; a second run fetches only what is missing or damaged.

    Raises:
        AirgapError: the bundle is not accepted, the storage or the medium refused; what is on the volumes by
            then is kept for the next run. ``MEDIA_FULL`` is raised before anything is written.
    """
    for volume in order.volumes:
        volumes.require_volume(volume)
    bundle = accepted_bundle(source, transfer_id, policy=policy, now=now)
    bags = [inspect_volume(bundle, volume) for volume in order.volumes]
    undeclared = [Finding(damage=damage, volume=b.volume) for b in bags for damage in b.stock.damages]
    if undeclared:
        return _outcome(bundle, "other files are in the transfer's folder, nothing was fetched", undeclared)
    whole = whole_files(bags, concurrency=concurrency, meter=meter)
    targets, layout = choose_targets(bundle, order, bags, whole)
    for target in targets:
        bag_writing.prepare(target.bag, keep=target.kept)
        bag_writing.make_payload_folders(target.bag, target.names)
    if findings := fetch_parts(source, targets, concurrency=concurrency, meter=meter):
        return _outcome(
            bundle, f"parts in the storage that are not what was signed: {len(findings)}", findings, targets
        )
    shards = parity_writing.write(targets, layout, source, concurrency=concurrency, meter=meter)
    if findings := [
        *shards.findings,
        *read_back(targets, shards, concurrency=concurrency, meter=meter),
    ]:
        lied = all(finding.damage.code is Code.PART_CORRUPT for finding in findings)
        return _outcome(
            bundle,
            f"files that read back differently from what was written: {len(findings)}",
            findings,
            targets,
            code=Code.MEDIA_LIED if lied else None,
        )
    for target in targets:
        contents = _contents(bundle.manifest, target, layout, shards)
        bag_writing.complete(target.bag, contents, now=now)
    return _finished(bundle, targets)


def _contents(
    manifest: BundleManifest, target: Target, layout: ParityLayout | None, shards: parity_writing.Written
) -> bag.Contents:
    files = {
        part.name: (sha256, part.size_bytes) for part, sha256 in manifest.parts() if part.name in target.names
    }
    listed, sizes = target.bag.reading.listed or {}, target.bag.payload_sizes
    kept = {name: (listed[name], sizes[name]) for name in sorted(target.kept) if bag.is_parity(name)}
    return bag.Contents(
        place=target.place,
        files={**files, **kept, **shards.on(target.bag)},
        layout=None if layout is None else layout.to_bytes(target.bag.verdict.manifest_sha256 or ""),
    )


# --- telling ------------------------------------------------------------------------------------------------


def _finished(bundle: Bundle, targets: Sequence[Target]) -> Outcome:
    """Look at every volume once more, then tell."""
    findings = [
        Finding(damage=damage, volume=target.bag.volume)
        for target in targets
        for damage in bag_writing.recheck(target.bag, target.names)
    ]
    if findings:
        return _outcome(
            bundle, "a volume does not hold what was written", findings, targets, code=Code.MEDIA_LIED
        )
    fetched = sum(len(target.missing) for target in targets)
    here = len({name for target in targets for name in target.names if not bag.is_parity(name)})
    shards = sum(bag.is_parity(name) for target in targets for name in target.names)
    held = f"{here} of {bundle.manifest.part_count} parts{f' and {shards} parity shards' if shards else ''}"
    where = ", ".join(str(target.bag.volume) for target in targets)
    return _outcome(
        bundle,
        f"transfer {bundle.manifest.transfer_id}: {held} are on {where}; "
        f"{fetched} fetched, {here - fetched} were there, all read back and right",
        [],
        targets,
    )


def _outcome(
    bundle: Bundle,
    verdict: str,
    findings: Sequence[Finding],
    targets: Sequence[Target] = (),
    *,
    code: Code | None = None,
) -> Outcome:
    code = code or gravest(finding.damage for finding in findings)
    manifest = bundle.manifest
    steps = {
        None: "Carry the volumes; verify them wherever they change hands.",
        Code.BLOB_MISMATCH: "Start a new transfer: the stored blob is not the one that was signed.",
    }
    here = {name for target in targets for name in target.names if not bag.is_parity(name)}
    fetched = sum(len(target.missing) for target in targets)
    written = [] if findings else [(target, min(target.names)) for target in targets if target.names]
    way = bag_writing.read_back_way((target.path_of(name), name) for target, name in written)
    if way is CacheBypass.NONE:
        steps[None] = f"{UNPLUG_FIRST} {steps[None]}"
    return Outcome(
        command="pull",
        code=code,
        verdict=verdict,
        next_step=steps[code] if code is None or code in steps else code.remedy,
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
        facts={
            "volumes": [
                {"path": str(t.bag.volume), "number": t.place.number, "of": t.place.of, "files": len(t.names)}
                for t in targets
            ],
            "readBack": None if way is None else way.value,
        },
    )
