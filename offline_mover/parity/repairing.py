"""Rebuilding lost parts from what volumes hold: which can be rebuilt, and how it is done.

A rebuilt part counts only when its SHA-256 is the signed one, so nothing here has to trust the layout or the
parity shards. A parity shard that was tampered with along with its listed digest shows in a wrong result;
then others are tried in its place, as far as there are more than needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from airgap.damage import Damage
from airgap.parity import ParityLayout, Stripe, shard_place
from airgap.repair_outlook import judge_repair
from offline_mover.bags.bag import Bag
from offline_mover.bags.bag_group import Inspection, PartState
from offline_mover.bags.bag_texts import payload_name
from offline_mover.parallel import in_parallel
from offline_mover.parity.stripe_coding import (
    ShardInput,
    ShardOutput,
    StripeError,
    code_stripe,
    combination_of,
    members,
    threads_for,
    units_for,
)
from offline_mover.progress import Gauge, Meter

MAX_TRIES = 16
"""Of a stripe, with other parity shards each time: it has no more of them (``MAX_PARITY_SHARDS``)."""


# --- what can be rebuilt ------------------------------------------------------------------------------------


def can_rebuild(inspection: Inspection, names: Collection[str]) -> bool:
    """Whether the parts of these names can be rebuilt from what is here; volumes elsewhere do not count."""
    layout = layout_of(inspection)
    if layout is None:
        return False
    shards = whole_shards(inspection, layout)
    return set(names) <= set(repairable_parts(inspection, layout, shards))


def repairable_parts(
    inspection: Inspection,
    layout: ParityLayout,
    shards: Collection[str],
    kept: Collection[str] = frozenset(),
) -> list[str]:
    """The names of parts that are not here whole nor ``kept``, and can be rebuilt, in bundle order.

    Not checked: whether the parity ``shards`` are what they should be; a wrong one makes the rebuilding fail.
    """
    names = list(inspection.states)
    places = {shard_place(name) for name in shards}
    outlook = judge_repair(
        layout,
        part_count=len(names),
        missing_parts=[
            ordinal
            for ordinal, (name, state) in enumerate(inspection.states.items())
            if state is not PartState.WHOLE and name not in kept
        ],
        missing_shards=[
            (stripe, row)
            for stripe in range(layout.stripes)
            for row in range(layout.parity_shards)
            if (stripe, row) not in places
        ],
    )
    return [names[ordinal] for ordinal in outlook.repairable_parts]


def layout_of(inspection: Inspection) -> ParityLayout | None:
    """The layout that most of the whole parity shards were made for; any, where there is no such shard."""
    votes = Counter(
        held.texts.layout
        for held in (*inspection.whole_shards.values(), *inspection.group.bags)
        if held.texts.layout is not None
    )
    return votes.most_common(1)[0][0] if votes else None


def whole_shards(inspection: Inspection, layout: ParityLayout) -> dict[str, Bag]:
    """The parity shards of the layout that have the digest their bag lists, and the right size, by name.

    Shards of a bag that lost its layout are taken to be of this one.
    """
    sizes = dict(layout.shards(inspection.group.manifest))
    return {
        name: held
        for name, held in inspection.whole_shards.items()
        if _is_of(layout, held) and sizes.get(name) == held.stock.sizes[payload_name(name)]
    }


def unlisted_shards(inspection: Inspection, layout: ParityLayout) -> dict[str, Bag]:
    """The parity shards of bags that lost their list of digests: they are unproven, yet may be right."""
    sizes = dict(layout.shards(inspection.group.manifest))
    return {
        name: held
        for held in inspection.group.bags
        if held.texts.listed is None and _is_of(layout, held)
        for name, size in held.payload_sizes.items()
        if sizes.get(name) == size
    }


def _is_of(layout: ParityLayout, held: Bag) -> bool:
    return held.texts.layout in {None, layout}


# --- rebuilding ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The result of rebuilding: hex SHA-256 of each file written, and damage found on the way, by name."""

    written: Mapping[str, str]
    bad: Mapping[str, Damage] = field(default_factory=dict)


def rebuild_parts(
    stripes: Sequence[tuple[Stripe, Sequence[ShardOutput]]],
    left: Mapping[str, ShardInput],
    *,
    concurrency: int,
    meter: Meter,
) -> Rebuilt:
    """Rebuild parts, each with its signed digest or not at all.

    Args:
        stripes: each stripe with the parts of it that are to be written.
        left: the parts and parity shards to rebuild from, by name.
        concurrency: how many stripes are worked on at a time.
        meter: is told the bytes that are read.

    Raises:
        MediaError: the medium that is written to refused.
    """
    threads = threads_for(concurrency)
    units = units_for(max((len(writings) for _, writings in stripes), default=1), threads)
    meter.start("rebuilding", sum(len(members(stripe)) * stripe.size_bytes for stripe, _ in stripes))

    def rebuild(item: tuple[Stripe, Sequence[ShardOutput]]) -> Rebuilt:
        return _StripeRepair(*item, left, units=units, gauge=meter).run()

    return _together(in_parallel(rebuild, stripes, concurrency=threads, meter=meter))


def rebuild_shards(
    stripes: Sequence[tuple[Stripe, Sequence[ShardOutput]]],
    left: Mapping[str, ShardInput],
    *,
    concurrency: int,
    meter: Meter,
) -> Rebuilt:
    """Make parity shards anew for stripes whose parts are all ``left``; raises as :func:`rebuild_parts`."""
    threads = threads_for(concurrency)
    units = units_for(max((len(writings) for _, writings in stripes), default=1), threads)
    meter.start("making parity", sum(shard.size_bytes for stripe, _ in stripes for shard in members(stripe)))

    def encode(item: tuple[Stripe, Sequence[ShardOutput]]) -> Rebuilt:
        stripe, writings = item
        combination = combination_of(stripe, {writing.shard.name for writing in writings})
        try:
            written = code_stripe(stripe, combination, left, writings, units=units, gauge=meter)
        except StripeError as error:
            return Rebuilt(written={}, bad=error.unreadable)
        return Rebuilt(written=written)

    return _together(in_parallel(encode, stripes, concurrency=threads, meter=meter))


def _together(results: Iterator[Rebuilt]) -> Rebuilt:
    written: dict[str, str] = {}
    bad: dict[str, Damage] = {}
    for result in results:
        written.update(result.written)
        bad.update(result.bad)
    return Rebuilt(written=written, bad=bad)


class _StripeRepair:
    """The tries at one stripe."""

    def __init__(
        self,
        stripe: Stripe,
        writings: Sequence[ShardOutput],
        left: Mapping[str, ShardInput],
        *,
        units: int,
        gauge: Gauge,
    ) -> None:
        self._stripe = stripe
        self._pending = list(writings)
        self._left = left
        self._units = units
        self._gauge = gauge
        self._suspects: set[str] = set()
        self._bad: dict[str, Damage] = {}
        self._written: dict[str, str] = {}

    def run(self) -> Rebuilt:
        """Try with one choice of parity shards after the other, at most ``MAX_TRIES`` times."""
        choice = 0
        aim = self._pending
        for _ in range(MAX_TRIES):
            inputs = self._inputs(choice)
            if not aim or inputs is None:
                break
            try:
                self._written |= self._code(inputs, aim)
                self._pending = aim = [w for w in self._pending if w.shard.name not in self._written]
                choice += 1
            except StripeError as error:
                if error.unreadable:
                    self._accuse(error.unreadable)
                    choice, aim = 0, self._pending
                    continue
                # Nothing of a try is kept when a part of it is wrong: those that are right come once more.
                right = [writing for writing in aim if writing.shard.name not in error.wrong]
                choice, aim = (choice, right) if right else (choice + 1, self._pending)
        return Rebuilt(written=self._written, bad=self._bad)

    def _accuse(self, unreadable: Mapping[str, Damage]) -> None:
        """A shard that was whole before is read a second time before it is left out."""
        self._bad |= {name: damage for name, damage in unreadable.items() if name in self._suspects}
        self._suspects |= unreadable.keys()

    def _inputs(self, choice: int) -> set[str] | None:
        """All parts that are left, and just enough parity shards: other neighbours for each choice.

        With neighbours in a ring, each shard is left out of some choice. ``None`` when there is no other.
        """
        parts = [shard.name for shard in members(self._stripe) if self._is_usable(shard.name)]
        rows = [shard.name for shard in self._stripe.parity if self._is_usable(shard.name)]
        needed = len(members(self._stripe)) - len(parts)
        choices = len(rows) if needed < len(rows) else int(needed == len(rows))
        if choice >= choices:
            return None
        return {*parts, *(rows * 2)[choice : choice + needed]}

    def _is_usable(self, name: str) -> bool:
        return name in self._left and name not in self._bad

    def _code(self, inputs: set[str], writings: Sequence[ShardOutput]) -> dict[str, str]:
        wanted = {writing.shard.name for writing in writings}
        names = [shard.name for shard in self._stripe.shards]
        combination = self._stripe.recovery(set(names) - inputs).only(
            {place for place, name in enumerate(names) if name in wanted}
        )
        return code_stripe(
            self._stripe, combination, self._left, writings, units=self._units, gauge=self._gauge
        )
