"""What was written read back from the medium itself, not as memory remembers it."""

from __future__ import annotations

from collections.abc import Sequence

from airgap.damage import Damage
from airgap.parts import PartRange
from offline_mover.bags import checking
from offline_mover.bags.bag_texts import payload_name
from offline_mover.outcome import Finding, by_name
from offline_mover.parallel import in_lanes
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import Destination
from offline_mover.pulling.shards import Written


def read_back(
    destinations: Sequence[Destination], shards: Written, *, concurrency: int, meter: Meter
) -> list[Finding]:
    """Hash what was written as the medium gives it back, not as memory remembers it.

    Parts that were read so already, to make parity shards of them, are not read again.
    """
    lanes = [
        [
            (destination, part.name, sha256, part.size_bytes, part)
            for part, sha256 in destination.missing
            if (destination.bag.volume, part.name) not in shards.read_back
        ]
        + [
            (destination, name, sha256, size, None)
            for name, (sha256, size) in shards.on(destination.bag).items()
        ]
        for destination in destinations
    ]
    sizes = {
        str(destination.bag.volume): sum(size for _, _, _, size, _ in lane)
        for destination, lane in zip(destinations, lanes, strict=True)
    }
    meter.start("reading back", sum(sizes.values()), sizes)

    def check(item: tuple[Destination, str, str, int, PartRange | None]) -> Finding | None:
        destination, name, sha256, size, part = item
        path = destination.bag.folder / payload_name(name)
        gauge = meter.lane(str(destination.bag.volume), name)
        damage = checking.check_file(path, name, sha256, size, gauge, from_medium=True)
        if damage is not None and part is not None:
            damage = Damage.of_part(damage.code, part, damage.detail)
        return None if damage is None else Finding(damage=damage, volume=destination.bag.volume)

    return by_name(in_lanes(check, lanes, concurrency=concurrency, meter=meter))
