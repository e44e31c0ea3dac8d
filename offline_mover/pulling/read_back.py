"""Reading back what a pull wrote, from the medium itself."""

from __future__ import annotations

from collections.abc import Sequence

from offline_mover.bags import checking
from offline_mover.bags.bag_texts import payload_name
from offline_mover.bags.checking import ExpectedFile
from offline_mover.outcome import Finding
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import Destination
from offline_mover.pulling.shards import Written


def read_back(
    destinations: Sequence[Destination], shards: Written, *, concurrency: int, meter: Meter
) -> list[Finding]:
    """Hash what was written as the medium gives it back, not as memory remembers it.

    Parts that were read in this way already, to make parity shards of them, are not read again.

    Returns:
        The files that are not as they were written.
    """
    lanes = [_written_to(destination, shards) for destination in destinations]
    return checking.read_back(lanes, concurrency=concurrency, meter=meter)


def _written_to(destination: Destination, shards: Written) -> list[ExpectedFile]:
    bag = destination.bag
    parts = [
        ExpectedFile(
            volume=bag.volume,
            path=bag.folder / payload_name(part.name),
            name=part.name,
            sha256=sha256,
            size_bytes=part.size_bytes,
            part=part,
        )
        for part, sha256 in destination.missing
        if (bag.volume, part.name) not in shards.read_back
    ]
    return parts + [
        ExpectedFile(
            volume=bag.volume,
            path=bag.folder / payload_name(name),
            name=name,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
        )
        for name, file in shards.on(bag).items()
    ]
