"""``pull``: from the source storage onto volumes, resumable, checked on the way and on the medium.

Nothing is written before the plan holds. A part appears under its name only when it is whole and right; the
envelope is written last. So a pull that was killed at any moment leaves parts that the next one keeps, and
never a bag that looks complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap.damage import gravest
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code, MediaError, OperatorError, ServiceError, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME, BundleManifest, TransferBlob
from airgap.media_plan import PayloadFile, SavedPlan
from airgap.parity import ParityLayout, ParityWish
from airgap.parts import PartRange
from airgap.policy import TrustPolicy
from airgap.recarry import RecarryRequest
from airgap.verify import Verdict, verify_bundle
from offline_mover import bag, bag_writing, media_fs, parity_writing, placement
from offline_mover import volume as volumes
from offline_mover.bag import Place
from offline_mover.bag_group import Signed
from offline_mover.parallel import in_lanes
from offline_mover.placement import VolumeOutlook
from offline_mover.ports import SourceContainer
from offline_mover.progress import Meter
from offline_mover.report import Finding, Outcome
from offline_mover.volume import Bag


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOrder:
    """What is to be brought where.

    Args:
        volumes: folders of mounted volumes.
        plan: a saved plan; else all of ``volumes`` are planned for now.
        number: which of the plan's volumes the first one is, where it does not say so itself.
        recarry: bring only these parts.
        parity: add parity shards.
    """

    volumes: tuple[Path, ...]
    plan: SavedPlan | None = None
    number: int | None = None
    recarry: RecarryRequest | None = None
    parity: ParityWish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle as the source offers it, accepted by the trust policy."""

    envelope: bytes
    verdict: Verdict
    manifest: BundleManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A volume, what it will hold in the end, and what of that is to be written now."""

    bag: Bag
    place: Place
    names: frozenset[str]
    missing: tuple[Signed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the steps of one pull have in common."""

    source: SourceContainer
    bundle: Bundle
    concurrency: int
    meter: Meter


class _WrongBytesError(Exception):
    """The storage sent something else than was signed."""


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
    run = _Run(source=source, bundle=bundle, concurrency=concurrency, meter=meter)
    bags = [_inspect(bundle, volume) for volume in order.volumes]
    undeclared = [Finding(damage=damage, volume=b.volume) for b in bags for damage in b.stock.damages]
    if undeclared:
        return _outcome(run, "other files are in the transfer's folder, nothing was fetched", undeclared)
    whole = _whole_files(run, bags)
    targets, layout = _targets(run, order, bags, whole)
    for target, names in zip(targets, whole, strict=True):
        bag_writing.prepare(target.bag, keep=names)
        bag_writing.make_payload_folders(target.bag, target.names)
    if findings := _fetch(run, targets):
        return _outcome(
            run, f"parts in the storage that are not what was signed: {len(findings)}", findings, targets
        )
    shards = parity_writing.write(
        [(target.bag, target.names) for target in targets],
        layout,
        source,
        concurrency=concurrency,
        meter=meter,
    )
    if findings := _read_back(run, targets, shards):
        lied = all(finding.damage.code is Code.PART_CORRUPT for finding in findings)
        return _outcome(
            run,
            f"files that read back differently from what was written: {len(findings)}",
            findings,
            targets,
            code=Code.MEDIA_LIED if lied else None,
        )
    for target in targets:
        contents = _contents(bundle.manifest, target, layout, shards)
        bag_writing.complete(target.bag, contents, now=now)
    return _finished(run, targets)


# --- what is there, what goes where --------------------------------------------------------------------------


def accepted_bundle(
    source: SourceContainer, transfer_id: str, *, policy: TrustPolicy, now: datetime
) -> Bundle:
    """The bundle as the source offers it, accepted by the trust policy: nothing else is ever written.

    Raises:
        ServiceError: ``NOT_FOUND``.
        UntrustedInputError: the envelope is not what it should be.
        PolicyRefusal: the trust policy does not accept it.
    """
    name = f"{transfer_id}/{ENVELOPE_NAME}"
    envelope = source.read_small(name, max_bytes=MAX_ENVELOPE_BYTES)
    if envelope is None:
        raise ServiceError(Code.NOT_FOUND, f"{name}: no such transfer, or it is not sealed yet")
    verdict = verify_bundle(envelope, policy=policy, now=now)
    manifest = verdict.require()
    if manifest.transfer_id != transfer_id:
        raise UntrustedInputError(
            Code.MANIFEST_MALFORMED, f"{name} is the bundle manifest of transfer {manifest.transfer_id}"
        )
    return Bundle(envelope=envelope, verdict=verdict, manifest=manifest)


def _inspect(bundle: Bundle, volume: Path) -> Bag:
    """What is on a volume of this bundle; another bundle under its name refuses."""
    folder = volume / bundle.manifest.transfer_id
    if (folder / ENVELOPE_NAME).is_file():
        try:
            held = volumes.read_envelope(folder)
            is_other = Envelope.from_bytes(held).payload != Envelope.from_bytes(bundle.envelope).payload
        except UntrustedInputError:
            is_other = False  # a broken one is replaced
        if is_other:
            raise UntrustedInputError(Code.VOLUME_CONFLICT, str(folder))
    # A file that a killed run left half written is no finding: it is removed before anything is fetched.
    return volumes.inspect_bag(volume, bundle.envelope, bundle.verdict, bundle.manifest, passes_partials=True)


def _whole_files(run: _Run, bags: Sequence[Bag]) -> list[frozenset[str]]:
    """For each volume, the payload names that are on it, whole and right."""
    checks = [_checks(b) for b in bags]
    run.meter.start("checking what is there", sum(size for lane in checks for *_, size in lane))

    def check(item: tuple[int, str, str, int]) -> tuple[int, str] | None:
        number, name, sha256, size = item
        damage = volumes.check_file(bags[number].path_of(name), name, sha256, size, run.meter)
        return None if damage else (number, name)

    lanes = [[(number, *item) for item in lane] for number, lane in enumerate(checks)]
    whole: list[set[str]] = [set() for _ in bags]
    for found in in_lanes(check, lanes, concurrency=run.concurrency, meter=run.meter):
        if found is not None:
            whole[found[0]].add(found[1])
    return [frozenset(names) for names in whole]


def _checks(held: Bag) -> list[tuple[str, str, int]]:
    """Name, expected hex SHA-256 and size of the payload files worth hashing."""
    sizes = held.payload_sizes
    checks = [
        (part.name, sha256, part.size_bytes)
        for part, sha256 in held.manifest.parts()
        if sizes.get(part.name) == part.size_bytes
    ]
    listed = held.reading.listed or {}
    return checks + [
        (name, listed[name], sizes[name]) for name in sizes if bag.is_parity(name) and name in listed
    ]


def _targets(
    run: _Run, order: PullOrder, bags: Sequence[Bag], whole: Sequence[frozenset[str]]
) -> tuple[list[Target], ParityLayout | None]:
    """Decide what goes where.

    Raises:
        MediaError: ``MEDIA_FULL`` when it does not fit.
        OperatorError: the saved plan is of another bundle, or which of its volumes this is cannot be told.
    """
    manifest = run.bundle.manifest
    outlooks = [placement.mounted(b.volume, held) for b, held in zip(bags, whole, strict=True)]
    if order.plan is not None:
        names, places = _planned(run.bundle, order, order.plan, bags)
        layout = order.plan.layout
        _require_room(run.bundle, outlooks, names)
    else:
        wanted = _wanted(run.bundle, order.recarry)
        decided = placement.place(
            manifest, outlooks, wanted, envelope_bytes=len(run.bundle.envelope), parity=order.parity
        )
        if not decided.holds:
            _refuse_full(outlooks, decided.plan.lacking_bytes)
        names, layout = list(decided.names), decided.layout or _layout_of(bags)
        places = _places(bags, names, is_patch=order.recarry is not None)
    targets = []
    for held_bag, place, wanted_names, held in zip(bags, places, names, whole, strict=True):
        missing = tuple(
            (part, sha256)
            for part, sha256 in manifest.parts()
            if part.name in wanted_names and part.name not in held
        )
        targets.append(Target(bag=held_bag, place=place, names=wanted_names | held, missing=missing))
    return targets, layout


def _wanted(bundle: Bundle, recarry: RecarryRequest | None) -> list[PayloadFile]:
    names: Collection[str] | None = None
    if recarry is not None:
        recarry.require_matches(bundle.manifest, bundle.verdict.manifest_sha256 or "")
        names = {part.name for part in recarry.parts}
    return [
        PayloadFile(name=part.name, size_bytes=part.size_bytes)
        for part, _ in bundle.manifest.parts()
        if names is None or part.name in names
    ]


def _refuse_full(outlooks: Sequence[VolumeOutlook], lacking_bytes: int) -> None:
    free = sum(outlook.capacity.free_bytes for outlook in outlooks)
    raise MediaError(
        Code.MEDIA_FULL,
        f"{lacking_bytes} bytes have no place, {free} are free; nothing was written. Add a volume, or plan for "
        "several, one at a time",
    )


def _require_room(bundle: Bundle, outlooks: Sequence[VolumeOutlook], names: Sequence[frozenset[str]]) -> None:
    sizes = {part.name: part.size_bytes for part, _ in bundle.manifest.parts()}
    for outlook, wanted in zip(outlooks, names, strict=True):
        files = [PayloadFile(name=name, size_bytes=sizes[name]) for name in sorted(wanted) if name in sizes]
        decided = placement.place(
            bundle.manifest, [outlook], files, envelope_bytes=len(bundle.envelope), parity=None
        )
        if not decided.holds:
            _refuse_full([outlook], decided.plan.lacking_bytes)


def _planned(
    bundle: Bundle, order: PullOrder, plan: SavedPlan, bags: Sequence[Bag]
) -> tuple[list[frozenset[str]], list[Place]]:
    """Which of the saved plan's volumes each one is."""
    if plan.manifest_sha256 != bundle.verdict.manifest_sha256:
        raise OperatorError(Code.USAGE, "the plan was made for another bundle; plan again")
    count = len(plan.volumes)
    numbers = [b.place.number if b.place is not None and b.place.of == count else None for b in bags]
    if order.number is not None:
        numbers[0] = order.number
    if len(bags) == count and not any(numbers):
        numbers = list(range(1, count + 1))
    known = [number for number in numbers if number is not None]
    if len(known) != len(numbers) or len(set(known)) != len(known) or max(known) > count:
        raise OperatorError(
            Code.USAGE, f"which of the plan's {count} volumes is this? Give one at a time, with --number"
        )
    return [frozenset(plan.volumes[number - 1]) for number in known], [
        Place(number=number, of=count) for number in known
    ]


def _places(bags: Sequence[Bag], names: Sequence[frozenset[str]], *, is_patch: bool) -> list[Place]:
    """The volumes' numbers: kept where all that have one agree, else counted in the order given."""
    held = [b.place for b in bags]
    if is_patch:
        return [place or Place(number=index, of=None) for index, place in enumerate(held, start=1)]
    numbers = [place.number for place in held if place is not None]
    totals = {place.of for place in held if place is not None}
    if totals and len(set(numbers)) == len(numbers) and None not in totals and len(totals) == 1:
        total = totals.pop() or 0
        if total >= len(bags):
            free = iter(sorted(set(range(1, total + 1)) - set(numbers)))
            return [place or Place(number=next(free), of=total) for place in held]
    return [Place(number=index, of=len(names)) for index in range(1, len(names) + 1)]


def _layout_of(bags: Sequence[Bag]) -> ParityLayout | None:
    """The layout of the parity shards that are there already."""
    return next((b.reading.layout for b in bags if b.reading.layout is not None), None)


# --- fetching -----------------------------------------------------------------------------------------------


def _fetch(run: _Run, targets: Sequence[Target]) -> list[Finding]:
    """Fetch parts, each pinned to the version of its blob that was there at the start; volumes side by side."""
    etags = _etags(run, {part.blob for target in targets for part, _ in target.missing})
    run.meter.start("fetching", sum(part.size_bytes for target in targets for part, _ in target.missing))

    def fetch(item: tuple[Target, Signed]) -> Finding | None:
        target, (part, sha256) = item
        for _ in range(2):  # once more before the storage is accused
            if _fetch_part(run, target.bag, part, sha256, etag=etags[part.blob]):
                return None
        damage = volumes.part_damage(Code.BLOB_MISMATCH, part, "what the storage sent is not what was signed")
        return Finding(damage=damage)

    lanes = [[(target, item) for item in target.missing] for target in targets]
    return _found(in_lanes(fetch, lanes, concurrency=run.concurrency, meter=run.meter))


def _etags(run: _Run, blobs: set[str]) -> dict[str, str]:
    manifest = run.bundle.manifest
    return {
        blob.name: source_etag(run.source, manifest, blob) for blob in manifest.blobs if blob.name in blobs
    }


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


def _fetch_part(run: _Run, target: Bag, part: PartRange, sha256: str, *, etag: str) -> bool:
    """Write one part; whether it was the signed one. If not, or if it failed, nothing of it stays."""
    pieces = run.source.read_range(
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
                run.meter.advance(len(piece))
            _require_signed(digest.hexdigest() == sha256)
    except _WrongBytesError:
        run.meter.advance(-count)
        return False
    return True


def _require_signed(is_signed: bool) -> None:
    if not is_signed:
        raise _WrongBytesError


def _read_back(run: _Run, targets: Sequence[Target], shards: parity_writing.Written) -> list[Finding]:
    """Hash what was written as the medium gives it back, not as memory remembers it."""
    lanes = [
        [(target, part.name, sha256, part.size_bytes, part) for part, sha256 in target.missing]
        + [(target, name, sha256, size, None) for name, (sha256, size) in shards.on(target.bag).items()]
        for target in targets
    ]
    run.meter.start("reading back", sum(size for lane in lanes for _, _, _, size, _ in lane))

    def check(item: tuple[Target, str, str, int, PartRange | None]) -> Finding | None:
        target, name, sha256, size, part = item
        path = target.bag.folder / bag.payload_name(name)
        damage = volumes.check_file(path, name, sha256, size, run.meter, from_medium=True)
        if damage is not None and part is not None:
            damage = volumes.part_damage(damage.code, part, damage.detail)
        return None if damage is None else Finding(damage=damage, volume=target.bag.volume)

    return _found(in_lanes(check, lanes, concurrency=run.concurrency, meter=run.meter))


def _contents(
    manifest: BundleManifest, target: Target, layout: ParityLayout | None, shards: parity_writing.Written
) -> bag.Contents:
    files = {
        part.name: (sha256, part.size_bytes) for part, sha256 in manifest.parts() if part.name in target.names
    }
    listed, sizes = target.bag.reading.listed or {}, target.bag.payload_sizes
    kept = {
        name: (listed[name], sizes[name])
        for name in sorted(target.names)
        if bag.is_parity(name) and name in listed
    }
    return bag.Contents(
        place=target.place,
        files={**files, **kept, **shards.on(target.bag)},
        layout=None if layout is None else layout.to_bytes(target.bag.verdict.manifest_sha256 or ""),
    )


# --- telling ------------------------------------------------------------------------------------------------


def _found(results: Iterable[Finding | None]) -> list[Finding]:
    return sorted((finding for finding in results if finding), key=lambda finding: finding.damage.name)


def _finished(run: _Run, targets: Sequence[Target]) -> Outcome:
    """Look at every volume once more, then tell."""
    findings = [
        Finding(damage=damage, volume=target.bag.volume)
        for target in targets
        for damage in bag_writing.recheck(target.bag, target.names)
    ]
    if findings:
        return _outcome(
            run, "a volume does not hold what was written", findings, targets, code=Code.MEDIA_LIED
        )
    fetched = sum(len(target.missing) for target in targets)
    here = len({name for target in targets for name in target.names if not bag.is_parity(name)})
    where = ", ".join(str(target.bag.volume) for target in targets)
    return _outcome(
        run,
        f"transfer {run.bundle.manifest.transfer_id}: {here} of {run.bundle.manifest.part_count} parts are on "
        f"{where}; {fetched} fetched, {here - fetched} were there, all read back and right",
        [],
        targets,
    )


def _outcome(
    run: _Run,
    verdict: str,
    findings: Sequence[Finding],
    targets: Sequence[Target] = (),
    *,
    code: Code | None = None,
) -> Outcome:
    code = code or gravest(finding.damage for finding in findings)
    manifest = run.bundle.manifest
    steps = {
        None: "Carry the volumes; verify them wherever they change hands.",
        Code.BLOB_MISMATCH: "Start a new transfer: the stored blob is not the one that was signed.",
    }
    here = {name for target in targets for name in target.names if not bag.is_parity(name)}
    fetched = sum(len(target.missing) for target in targets)
    return Outcome(
        command="pull",
        code=code,
        verdict=verdict,
        next_step=steps[code] if code is None or code in steps else code.remedy,
        transfer_id=manifest.transfer_id,
        manifest_sha256=run.bundle.verdict.manifest_sha256,
        signers=run.bundle.verdict.signers,
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
            "readBack": None if findings else _read_back_way(targets),
        },
    )


def _read_back_way(targets: Sequence[Target]) -> str | None:
    """How the medium itself was read, as far as the platform can: the weakest of the volumes."""
    ways = [bag_writing.read_back_way(target.bag, target.names) for target in targets if target.names]
    return max(ways, key=list(media_fs.CacheBypass).index).value if ways else None
