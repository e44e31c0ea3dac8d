"""TEMPORARY: filled in with the parity engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from airgap.parity import ParityLayout
from offline_mover.ports import SourceContainer
from offline_mover.progress import Meter
from offline_mover.volume import Bag


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Parity shards that were written now: hex SHA-256 and size in bytes by name, for each volume."""

    files: Mapping[object, Mapping[str, tuple[str, int]]]

    def on(self, held: Bag) -> Mapping[str, tuple[str, int]]:
        """Those on the volume of a bag."""
        return self.files.get(held.volume, {})


def write(
    bags: Sequence[tuple[Bag, Collection[str]]],
    layout: ParityLayout | None,
    source: SourceContainer,
    *,
    concurrency: int,
    meter: Meter,
) -> Written:
    """Write the parity shards that are not there."""
    return Written(files={})
