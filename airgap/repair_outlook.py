"""The outlook on a repair: which missing parts parity can rebuild, and which must be brought again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from airgap.parity import ParityLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeDamage:
    """The losses of one stripe: its missing parts by ordinal, and its missing parity shards by row."""

    stripe: int
    parts: tuple[int, ...]
    rows: tuple[int, ...]
    parity_shards: int
    """That the stripe should have."""

    @property
    def lacking(self) -> int:
        """The number of its missing files that must come from elsewhere before the others can be rebuilt."""
        return max(0, len(self.parts) + len(self.rows) - self.parity_shards)

    @property
    def is_repairable(self) -> bool:
        """Whether enough shards are left to rebuild all that the stripe has lost."""
        return self.lacking == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOutlook:
    """The outlook for a whole bundle; stripes that lack nothing are not listed."""

    stripes: tuple[StripeDamage, ...]

    @property
    def repairable_parts(self) -> tuple[int, ...]:
        """The ordinals of the missing parts that can be rebuilt from what is left."""
        return self._parts(is_repairable=True)

    @property
    def lost_parts(self) -> tuple[int, ...]:
        """The ordinals of the missing parts that cannot be rebuilt from what is left."""
        return self._parts(is_repairable=False)

    @property
    def to_bring(self) -> tuple[int, ...]:
        """The fewest parts to bring again, by ordinal, with which all others can be rebuilt."""
        parts = (ordinal for stripe in self.stripes for ordinal in stripe.parts[: stripe.lacking])
        return tuple(sorted(parts))

    def _parts(self, *, is_repairable: bool) -> tuple[int, ...]:
        found = (stripe.parts for stripe in self.stripes if stripe.is_repairable == is_repairable)
        return tuple(sorted(ordinal for ordinals in found for ordinal in ordinals))


def judge_repair(
    layout: ParityLayout,
    *,
    part_count: int,
    missing_parts: Collection[int],
    missing_shards: Collection[tuple[int, int]],
) -> RepairOutlook:
    """Judge which missing parts can be rebuilt from the parts and parity shards that are left.

    Args:
        layout: the parity layout, which suits the bundle.
        part_count: how many parts the bundle has.
        missing_parts: ordinals of the parts that are missing or damaged.
        missing_shards: stripe and row of the parity shards that are missing or damaged.

    Raises:
        ValueError: a number that is no part's or no parity shard's.
    """
    parts: dict[int, list[int]] = {}
    rows: dict[int, list[int]] = {}
    for ordinal in sorted(set(missing_parts)):
        if not 0 <= ordinal < part_count:
            raise ValueError(f"there is no part {ordinal}")
        parts.setdefault(layout.stripe_of(ordinal), []).append(ordinal)
    for stripe, row in sorted(set(missing_shards)):
        if not (0 <= stripe < layout.stripes and 0 <= row < layout.parity_shards):
            raise ValueError(f"there is no parity shard {stripe}-{row}")
        rows.setdefault(stripe, []).append(row)
    return RepairOutlook(
        stripes=tuple(
            StripeDamage(
                stripe=stripe,
                parts=tuple(parts.get(stripe, ())),
                rows=tuple(rows.get(stripe, ())),
                parity_shards=layout.parity_shards,
            )
            for stripe in sorted(parts.keys() | rows.keys())
        )
    )
