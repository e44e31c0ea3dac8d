"""What parity makes good: of missing parts, those that can be rebuilt and those to be brought again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from airgap.parity import ParityLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeDamage:
    """What one stripe lacks: parts by ordinal, parity shards by row."""

    stripe: int
    parts: tuple[int, ...]
    rows: tuple[int, ...]
    parity_shards: int
    """That the stripe should have."""

    @property
    def lacking(self) -> int:
        """How many of these files have to come from elsewhere before the others can be rebuilt."""
        return max(0, len(self.parts) + len(self.rows) - self.parity_shards)

    @property
    def is_repairable(self) -> bool:
        """Whether enough is left to rebuild all of it."""
        return self.lacking == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOutlook:
    """What can be rebuilt and what not; stripes that lack nothing are not listed."""

    stripes: tuple[StripeDamage, ...]

    @property
    def repairable_parts(self) -> tuple[int, ...]:
        """Ordinals of the missing parts that can be rebuilt."""
        return self._parts(is_repairable=True)

    @property
    def lost_parts(self) -> tuple[int, ...]:
        """Ordinals of the missing parts that cannot be rebuilt."""
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
    """Tell what can be rebuilt.

    Args:
        layout: that suits the bundle.
        part_count: of the bundle.
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
