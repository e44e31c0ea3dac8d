"""The destinations of a pull: the volumes it writes to, what each will hold, and what of that is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from airgap.errors import Code, MediaError, OperatorError
from airgap.media_plan import SLACK_BYTES, MediaPlan, PayloadFile, SavedPlan
from airgap.parity import ParityLayout, ParityWish, shard_place
from airgap.parts import SignedPart
from airgap.recarry import RecarryRequest
from offline_mover.amounts import size
from offline_mover.bags import placement
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag import Bag
from offline_mover.bags.bag_texts import Place, is_parity, payload_name
from offline_mover.bags.placement import VolumeOutlook
from offline_mover.bags.volume_names import volume_name


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOrder:
    """The order for a pull: onto which volumes, by which plan, and which parts.

    Args:
        volumes: folders of mounted volumes.
        plan: a saved plan; else all of ``volumes`` are planned for now.
        number: the number in the plan of the first volume, where it does not tell that itself.
        recarry: the request for the only parts to bring; ``None`` for all.
        parity: how many parity shards to add; ``None`` for none.
        reserved_bytes: how much is to be left free, by volume.
    """

    volumes: tuple[Path, ...]
    plan: SavedPlan | None = None
    number: int | None = None
    recarry: RecarryRequest | None = None
    parity: ParityWish | None = None
    reserved_bytes: Mapping[Path, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A volume to write to: what it will hold in the end, and what of that is to be written now."""

    bag: Bag
    place: Place
    names: frozenset[str]
    kept: frozenset[str]
    """Of ``names``, those that are there already, whole and right."""
    missing: tuple[SignedPart, ...]

    def path_of(self, name: str) -> Path:
        """The path at which the file of a payload name stands, or is going to."""
        return self.bag.path_of(name) if name in self.kept else self.bag.folder / payload_name(name)


def choose_destinations(
    bundle: AcceptedBundle, order: PullOrder, bags: Sequence[Bag], whole: Sequence[frozenset[str]]
) -> tuple[list[Destination], ParityLayout | None]:
    """Decide which files of a bundle each volume of a pull is to hold, and which of them are missing.

    Raises:
        MediaError: ``MEDIA_FULL``: the volumes have not enough room.
        OperatorError: ``USAGE``: the saved plan is of another bundle, or which of its volumes this is cannot
            be told.
    """
    manifest = bundle.manifest
    outlooks = [
        _outlook(b, held, order.reserved_bytes.get(b.volume, 0)) for b, held in zip(bags, whole, strict=True)
    ]
    if order.plan is not None:
        names, places = _planned(bundle, order, order.plan, bags)
        layout = order.plan.layout or _layout_of(bags)
        _require_room(bundle, outlooks, names, places, layout)
    else:
        wanted = _wanted(bundle, order.recarry)
        decided = placement.place(
            manifest, outlooks, wanted, envelope_bytes=len(bundle.envelope), parity=order.parity
        )
        if not decided.holds:
            _refuse_full(outlooks, decided.plan)
        layout = decided.layout or _layout_of(bags)
        used = [index for index, names_here in enumerate(decided.names) if names_here]  # the rest stay blank
        bags, whole = [bags[index] for index in used], [whole[index] for index in used]
        names = [decided.names[index] for index in used]
        places = _places(bags, is_patch=order.recarry is not None)
    destinations = []
    for held_bag, place, wanted_names, held in zip(bags, places, names, whole, strict=True):
        kept = _kept(held_bag, held, layout)
        wanted_here = kept | frozenset(name for name in wanted_names if _belongs(name, layout))
        missing = tuple(
            signed for signed in manifest.parts() if signed.name in wanted_here and signed.name not in kept
        )
        destinations.append(
            Destination(bag=held_bag, place=place, names=wanted_here, kept=kept, missing=missing)
        )
    return destinations, layout


def _kept(held_bag: Bag, whole: frozenset[str], layout: ParityLayout | None) -> frozenset[str]:
    """What of the whole files stays: parity shards made for another layout are of no use with this one."""
    if layout is None or held_bag.texts.layout == layout:
        return frozenset(name for name in whole if _belongs(name, layout))
    return frozenset(name for name in whole if not is_parity(name))


def _belongs(name: str, layout: ParityLayout | None) -> bool:
    """Whether it is no parity shard, or one that the layout has."""
    place = shard_place(name)
    if place is None or layout is None:
        return True
    stripe, row = place
    return stripe < layout.stripes and row < layout.parity_shards


def _outlook(held_bag: Bag, whole: frozenset[str], reserved_bytes: int) -> VolumeOutlook:
    """The volume as it is to be planned for: what is on it and not whole gives its place back."""
    reclaimed = held_bag.reclaimable_bytes(whole)
    return placement.mounted(held_bag.volume, whole, reclaimed_bytes=reclaimed).reserving(reserved_bytes)


def _wanted(bundle: AcceptedBundle, recarry: RecarryRequest | None) -> list[PayloadFile]:
    names: Collection[str] | None = None
    if recarry is not None:
        recarry.require_matches(bundle.manifest, bundle.manifest_sha256)
        names = {part.name for part in recarry.parts}
    return [
        PayloadFile(name=part.name, size_bytes=part.size_bytes)
        for part, _ in bundle.manifest.parts()
        if names is None or part.name in names
    ]


def _refuse_full(outlooks: Sequence[VolumeOutlook], plan: MediaPlan) -> None:
    """Say what each volume needs and has; what no volume takes is counted to a single one."""
    lacking = plan.lacking_bytes
    if len(outlooks) == 1:
        needed = plan.loads[0].stored_bytes + SLACK_BYTES + outlooks[0].reserved_bytes + lacking
        told = f"{outlooks[0].name} needs {size(needed)} and has {_room(outlooks[0])}"
        # A folder or a file system may be full of something else than bytes.
        lacking = needed - outlooks[0].free_bytes if needed > outlooks[0].free_bytes else lacking
    else:
        each = "; ".join(f"{outlook.name} has {_room(outlook)}" for outlook in outlooks)
        told = f"{size(lacking)} have no place: {each}"
    raise MediaError(
        Code.MEDIA_FULL,
        f"{told}; nothing was written. Free {size(lacking)} more, add a volume, or plan for several, one at "
        "a time",
    )


def _room(outlook: VolumeOutlook) -> str:
    """What is free, and what of it is kept for the tool."""
    free = f"{size(outlook.free_bytes)} free"
    return (
        f"{free}, and the tool takes {size(outlook.reserved_bytes)} of it" if outlook.reserved_bytes else free
    )


def _require_room(
    bundle: AcceptedBundle,
    outlooks: Sequence[VolumeOutlook],
    names: Sequence[frozenset[str]],
    places: Sequence[Place],
    layout: ParityLayout | None,
) -> None:
    sizes = {part.name: part.size_bytes for part, _ in bundle.manifest.parts()}
    sizes |= {} if layout is None else dict(layout.shards(bundle.manifest))
    for outlook, wanted, place in zip(outlooks, names, places, strict=True):
        files = [PayloadFile(name=name, size_bytes=sizes[name]) for name in sorted(wanted) if name in sizes]
        decided = placement.place(
            bundle.manifest, [outlook], files, envelope_bytes=len(bundle.envelope), parity=None
        )
        if not decided.holds:
            _refuse_full([replace(outlook, name=f"{outlook.name}, {volume_name(place)}")], decided.plan)


def _planned(
    bundle: AcceptedBundle, order: PullOrder, plan: SavedPlan, bags: Sequence[Bag]
) -> tuple[list[frozenset[str]], list[Place]]:
    """Which of the saved plan's volumes each one is."""
    if plan.manifest_sha256 != bundle.manifest_sha256:
        raise OperatorError(Code.USAGE, "the plan was made for another bundle; plan again")
    shards = [name for names in plan.volumes for name in names if is_parity(name)]
    why = "" if plan.layout is None else plan.layout.misfit(bundle.manifest.part_count)
    if shards and plan.layout is None:
        why = "it has no layout"
    if why or not all(_belongs(name, plan.layout) for name in shards):
        raise OperatorError(
            Code.USAGE, f"the parity of the plan does not suit the bundle; plan again. {why}".rstrip()
        )
    if plan.layout is not None and (why := plan.layout.misfit(bundle.manifest.part_count)):
        raise OperatorError(Code.USAGE, f"the plan's parity does not suit the bundle: {why}")
    count = len(plan.volumes)
    numbers = [b.place.number if b.place is not None and b.place.of == count else None for b in bags]
    if order.number is not None:
        numbers[0] = order.number
    if len(bags) == count:  # all of them: who does not say which one it is gets a number that is left
        left = iter(sorted(set(range(1, count + 1)) - set(numbers)))
        numbers = [number or next(left, None) for number in numbers]
    known = [number for number in numbers if number is not None]
    if len(known) != len(numbers) or len(set(known)) != len(known) or max(known) > count:
        raise OperatorError(
            Code.USAGE, f"which of the plan's {count} volumes is this? Give one at a time, with --number"
        )
    return [frozenset(plan.volumes[number - 1]) for number in known], [
        Place(number=number, of=count) for number in known
    ]


def _places(bags: Sequence[Bag], *, is_patch: bool) -> list[Place]:
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
    return [Place(number=index, of=len(bags)) for index in range(1, len(bags) + 1)]


def _layout_of(bags: Sequence[Bag]) -> ParityLayout | None:
    """The layout of the parity shards that are there already."""
    return next((b.texts.layout for b in bags if b.texts.layout is not None), None)
