"""The command ``repair``: lost parts are rebuilt from parity shards, on the spot.

The volumes given are only read, unless the operator says in place. A rebuilt part appears under its name only
when it is whole and has its signed digest, so that a repair killed at any moment leaves parts that the next
one keeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from airgap.damage import Damage, gravest
from airgap.errors import Code
from airgap.parity import ParityLayout, Stripe, shard_place
from airgap.policy import TrustPolicy
from offline_mover.amounts import are, counted
from offline_mover.bags import bag_writing, checking
from offline_mover.bags.bag_group import Inspection, PartState, inspect, open_group
from offline_mover.bags.bag_texts import ListedFile, is_parity
from offline_mover.bags.checking import ExpectedFile
from offline_mover.bags.volume_names import volumes_named
from offline_mover.medium import medium_read
from offline_mover.medium.medium_read import UNPLUG_FIRST, CacheBypass
from offline_mover.outcome import Finding, NextCommand, Outcome
from offline_mover.parity import repair_destinations, repairing
from offline_mover.parity.repair_destinations import RepairDestination
from offline_mover.parity.repairing import Rebuilt
from offline_mover.parity.stripe_coding import ShardInput, ShardOutput, file_reader, members, threads_for
from offline_mover.progress import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One repair, decided. ``other`` is the volume to write to, ``None`` in place."""

    inspection: Inspection
    layout: ParityLayout | None
    other: RepairDestination | None
    destinations: Sequence[RepairDestination]
    concurrency: int
    meter: Meter

    @property
    def where(self) -> str:
        return "in place" if self.other is None else f"onto {self.other.bag.volume}"


def repair(
    paths: Sequence[Path],
    *,
    to: Path | None,
    transfer_id: str | None,
    policy: TrustPolicy,
    now: datetime,
    concurrency: int,
    meter: Meter,
) -> Outcome:
    """Rebuild the parts that no volume here has whole onto ``to``, or in place if that is ``None``.

    In place, only what a volume says it holds is rebuilt, its damaged parity shards included.

    Exit codes: 0 when every part is whole in the end; ``VOLUME_MISSING`` when those that are not belong to
    volumes that are not here; else the code of the gravest damage that is left.

    Raises:
        AirgapError: a bag could not be found, or its envelope is not accepted, or the medium that is written
            to refused; what was rebuilt by then is kept for the next run. ``MEDIA_FULL`` is raised before
            anything is written.
    """
    group = open_group(paths, transfer_id, policy=policy, now=now)
    other = (
        None
        if to is None
        else repair_destinations.open_other(group, to, concurrency=concurrency, meter=meter)
    )
    inspection = inspect(group, concurrency=concurrency, meter=meter)
    layout = repairing.layout_of(inspection)
    run = _Run(
        inspection=inspection,
        layout=layout,
        other=other,
        destinations=[]
        if layout is None
        else _destinations(inspection, layout, other, concurrency=concurrency),
        concurrency=concurrency,
        meter=meter,
    )
    for destination in run.destinations:
        destination.make_ready()
    rebuilt = _rebuild(run)
    if findings := _read_back(run, rebuilt):
        return _outcome(run, rebuilt, findings)
    for destination in run.destinations:
        destination.complete(_files_on(destination, rebuilt), now=now)
    return _outcome(run, rebuilt, _recheck(run, rebuilt))


def _destinations(
    inspection: Inspection, layout: ParityLayout, other: RepairDestination | None, *, concurrency: int
) -> list[RepairDestination]:
    """What is rebuilt, and where."""
    shards = {
        **repairing.whole_shards(inspection, layout),
        **repairing.unlisted_shards(inspection, layout),
    }
    kept = frozenset() if other is None else other.kept
    parts = repairing.repairable_parts(inspection, layout, shards, kept)
    if other is None:
        threads = threads_for(concurrency)
        return repair_destinations.in_place(inspection, layout, frozenset(parts), threads=threads)
    return [repair_destinations.with_wanted(other, parts)] if parts or other.kept else []


# --- rebuilding ---------------------------------------------------------------------------------------------


def _rebuild(run: _Run) -> Rebuilt:
    """The parts, then the parity shards: these are made of parts only."""
    if run.layout is None:
        return Rebuilt(written={})
    left = _left(run.inspection, run.layout, run.other)
    parts, shards = _writings(run, run.layout)
    rebuilt = repairing.rebuild_parts(parts, left, concurrency=run.concurrency, meter=run.meter)
    left |= {
        writing.shard.name: ShardInput(
            sha256=writing.sha256, read=file_reader(writing.path, writing.shard.name)
        )
        for _, writings in parts
        for writing in writings
        if writing.shard.name in rebuilt.written
    }
    possible = [
        (stripe, writings)
        for stripe, writings in shards
        if all(shard.name in left for shard in members(stripe))
    ]
    if not possible:
        return rebuilt
    made = repairing.rebuild_shards(possible, left, concurrency=run.concurrency, meter=run.meter)
    return Rebuilt(written={**rebuilt.written, **made.written}, bad={**rebuilt.bad, **made.bad})


def _left(
    inspection: Inspection, layout: ParityLayout, other: RepairDestination | None
) -> dict[str, ShardInput]:
    """What there is to rebuild from; parity shards that nothing vouches for as well."""
    signed = {part.name: sha256 for part, sha256 in inspection.group.manifest.parts()}
    left = {
        name: ShardInput(sha256=None, read=file_reader(held.path_of(name), name))
        for name, held in repairing.unlisted_shards(inspection, layout).items()
    }
    for name, held in repairing.whole_shards(inspection, layout).items():
        listed = (held.texts.listed or {})[name]
        left[name] = ShardInput(sha256=listed, read=file_reader(held.path_of(name), name))
    for name, held in inspection.whole_on.items():
        left[name] = ShardInput(sha256=signed[name], read=file_reader(held.path_of(name), name))
    if other is not None:
        for name in other.kept & signed.keys():
            left[name] = ShardInput(sha256=signed[name], read=file_reader(other.path_of(name), name))
    return left


_Work = list[tuple[Stripe, list[ShardOutput]]]


def _writings(run: _Run, layout: ParityLayout) -> tuple[_Work, _Work]:
    """What is to be written, by stripe: parts, and parity shards."""
    ranges = [part for part, _ in run.inspection.group.manifest.parts()]
    stripe_of = {part.name: layout.stripe_of(ordinal) for ordinal, part in enumerate(ranges)}
    wanted: dict[int, dict[str, tuple[Path, str | None]]] = defaultdict(dict)
    for destination in run.destinations:
        for name, lost in destination.wanted.items():
            place = shard_place(name)
            wanted[place[0] if place else stripe_of[name]][name] = (destination.path_of(name), lost.sha256)
    parts: _Work = []
    shards: _Work = []
    for number, places in sorted(wanted.items()):
        stripe = layout.stripe(number, ranges)
        writings = [
            ShardOutput(shard=shard, path=places[shard.name][0], sha256=places[shard.name][1])
            for shard in stripe.shards
            if shard.name in places
        ]
        for work, takes_shards in ((parts, False), (shards, True)):
            if chosen := [w for w in writings if (w.shard.ordinal is None) == takes_shards]:
                work.append((stripe, chosen))
    return parts, shards


def _files_on(destination: RepairDestination, rebuilt: Rebuilt) -> dict[str, ListedFile]:
    """What was written to a volume, by name."""
    return {
        name: ListedFile(rebuilt.written[name], lost.size_bytes)
        for name, lost in destination.wanted.items()
        if name in rebuilt.written
    }


def _read_back(run: _Run, rebuilt: Rebuilt) -> list[Finding]:
    """Hash what was written as the medium gives it back."""
    lanes = [
        [
            ExpectedFile(
                volume=destination.bag.volume,
                path=destination.path_of(name),
                name=name,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
            )
            for name, file in _files_on(destination, rebuilt).items()
        ]
        for destination in run.destinations
    ]
    return checking.read_back(lanes, concurrency=run.concurrency, meter=run.meter)


def _recheck(run: _Run, rebuilt: Rebuilt) -> list[Finding]:
    """Everything but the digests, from the volume written; in place, there may be other damage as before."""
    if run.other is None:
        return []
    return [
        Finding(damage=damage, volume=destination.bag.volume)
        for destination in run.destinations
        for damage in bag_writing.recheck(
            destination.bag, destination.kept | _files_on(destination, rebuilt).keys()
        )
    ]


# --- telling ------------------------------------------------------------------------------------------------


def _outcome(run: _Run, rebuilt: Rebuilt, failed: Sequence[Finding]) -> Outcome:
    """The end: ``failed`` is what the medium that was written did not keep."""
    states = run.inspection.states
    kept = (frozenset() if run.other is None else run.other.kept) & states.keys()
    done = kept | (rebuilt.written.keys() & states.keys())
    gone_bad = [name for name in states if name in rebuilt.bad and name not in done]
    lost = [*(name for name in run.inspection.lost if name not in done), *gone_bad]
    not_seen = [n for n, state in states.items() if state is PartState.NOT_SEEN and n not in done]
    findings = [*failed, *_accused(run, rebuilt), *_left_over(run, done | rebuilt.written.keys())]
    code = None
    if failed:
        code = Code.MEDIA_LIED
    elif lost:
        wrong = set(lost)
        code = gravest(f.damage for f in findings if f.damage.name in wrong) or Code.PART_MISSING
    elif not_seen:
        code = Code.VOLUME_MISSING
    manifest = run.inspection.group.manifest
    way = _read_back_way(run, rebuilt)
    next_step, next_command = _next_step(run, code, way)
    written = len(rebuilt.written.keys() & states.keys())
    return Outcome(
        command="repair",
        code=code,
        verdict=_verdict(
            run, written=written, kept=len(kept), lost=len(lost) + len(not_seen), failed=len(failed)
        ),
        next_step=next_step,
        next_command=next_command,
        transfer_id=manifest.transfer_id,
        manifest_sha256=run.inspection.group.verdict.manifest_sha256,
        signers=run.inspection.group.verdict.signers,
        counts={
            "parts": manifest.part_count,
            "bytes": manifest.size_bytes,
            "rebuiltParts": written,
            "keptParts": len(kept),
            "rebuiltShards": len(rebuilt.written) - written,
            "lostParts": len(lost),
            "notSeenParts": len(not_seen),
        },
        findings=tuple(findings),
        facts={
            "to": None if run.other is None else str(run.other.bag.volume),
            "rebuilt": sorted(rebuilt.written),
            "readBack": None if way is None else way.value,
        },
    )


def _accused(run: _Run, rebuilt: Rebuilt) -> Iterator[Finding]:
    """Shards that were whole when they were inspected, and were not when they were used."""
    located = {part.name: part for part, _ in run.inspection.group.manifest.parts()}
    homes = {**run.inspection.whole_shards, **run.inspection.whole_on}
    for name, damage in sorted(rebuilt.bad.items()):
        home = homes.get(name)
        if name in located:
            damage = Damage.of_part(damage.code, located[name], damage.detail)  # noqa: PLW2901 - located
        yield Finding(damage=damage, volume=None if home is None else home.volume)


def _left_over(run: _Run, right: Collection[str]) -> Iterator[Finding]:
    """What the inspection found; in place only as far as it is still so."""
    names = set(run.inspection.states)
    written = {} if run.other is not None else {t.bag.volume: t.bag for t in run.destinations}
    for finding in run.inspection.findings:
        is_payload = finding.damage.name in names or is_parity(finding.damage.name)
        if is_payload and finding.damage.name in right:
            if run.other is not None:
                yield replace(finding, is_replaced=True)
        elif is_payload or finding.volume not in written:
            yield finding
    for volume, held in written.items():
        for damage in bag_writing.recheck(held, ()):
            yield Finding(damage=damage, volume=volume)


def _verdict(run: _Run, *, written: int, kept: int, lost: int, failed: int) -> str:
    if failed:
        return f"files that read back differently from what was written: {failed:,}"
    count = run.inspection.group.manifest.part_count
    before = f", {counted(kept, 'was there', 'were there')} from before" if kept else ""
    if lost and run.layout is None:
        gone = f"{lost:,} of {counted(count, 'part')} {are(lost)} not here"
        return f"{gone}, and there is no parity to rebuild from"
    done = f"{counted(written, 'part')} rebuilt {run.where}{before}"
    if lost:
        return f"{done}; {lost:,} cannot be rebuilt from what is here"
    if written or kept:
        return f"{done}, all read back and right; no part is lost any more"
    return f"nothing to rebuild: all {counted(count, 'part')} {are(count)} here, whole"


def _next_step(run: _Run, code: Code | None, way: CacheBypass | None) -> tuple[str, NextCommand | None]:
    volumes = [bag.volume for bag in run.inspection.group.bags]
    if code is Code.MEDIA_LIED:
        return f"{code.remedy} With another medium, run it again:", NextCommand(verb="repair")
    if code is not None:
        absent = run.inspection.group.absent
        more = f"Repair with {volumes_named(absent)} too; else verify" if absent else "Verify"
        return (
            f"{more} all volumes together, and take the recarry.json that is written to the source:",
            NextCommand.on("verify", volumes),
        )
    first = f"{UNPLUG_FIRST} " if way is CacheBypass.NONE else ""
    if run.other is not None and run.destinations:
        together = [*volumes, run.other.bag.volume]
        return f"{first}Push the volumes together with {together[-1]}:", NextCommand.on("push", together)
    return f"{first}Carry the volumes on, or push them:", NextCommand.on("push", volumes)


def _read_back_way(run: _Run, rebuilt: Rebuilt) -> CacheBypass | None:
    return medium_read.read_back_way(
        (destination.path_of(name), name)
        for destination in run.destinations
        for name in sorted(_files_on(destination, rebuilt))[:1]
    )
