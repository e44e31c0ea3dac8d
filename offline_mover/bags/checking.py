"""Checking files on a volume: each is hashed, and compared with what it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.damage import Damage
from airgap.errors import AirgapError, Code
from airgap.parts import PartRange
from offline_mover.bags.bag import Bag
from offline_mover.bags.bag_texts import is_parity
from offline_mover.medium import medium_read
from offline_mover.outcome import Finding, by_name
from offline_mover.parallel import in_lanes
from offline_mover.progress import Gauge, Meter


def check_part(
    path: Path, part: PartRange, sha256: str, gauge: Gauge, *, from_medium: bool = False
) -> Damage | None:
    """Hash a part whose size is right; ``None`` if its digest is, else the damage, after a second reading."""
    found = check_file(path, part.name, sha256, part.size_bytes, gauge, from_medium=from_medium)
    return found and Damage.of_part(found.code, part, found.detail)


def check_file(
    path: Path, name: str, sha256: str, size_bytes: int, gauge: Gauge, *, from_medium: bool = False
) -> Damage | None:
    """Hash a file that is not a part of the bundle, in the way in which :func:`check_part` does it."""
    try:
        for is_again in (False, True):
            found = medium_read.hash_file(path, name, gauge.advance, from_medium=from_medium or is_again)
            if found == sha256:
                return None
            gauge.advance(-size_bytes)
    except AirgapError as error:
        return Damage(code=error.code, name=name, detail=error.detail)
    return Damage(code=Code.PART_CORRUPT, name=name, detail=f"its SHA-256 is {found}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFile:
    """A payload file that is on a volume, or should be, and what it has to be.

    Args:
        volume: the volume it is on.
        path: the path of the file.
        name: its name below ``data/``.
        sha256: the hex SHA-256 that it must have: of a part the signed one, of a parity shard the listed one.
        size_bytes: the size that it must have.
        part: the part that it is; ``None`` for a parity shard.
    """

    volume: Path
    path: Path
    name: str
    sha256: str
    size_bytes: int
    part: PartRange | None = None

    def check(self, meter: Meter, *, from_medium: bool = False) -> Damage | None:
        """Hash the file, on its volume's lane of the meter; ``None`` when it is right."""
        gauge = meter.lane(str(self.volume), self.name)
        if self.part is not None:
            return check_part(self.path, self.part, self.sha256, gauge, from_medium=from_medium)
        return check_file(self.path, self.name, self.sha256, self.size_bytes, gauge, from_medium=from_medium)


def _start(meter: Meter, title: str, lanes: Sequence[Sequence[ExpectedFile]]) -> None:
    sizes: Counter[str] = Counter()
    for lane in lanes:
        for file in lane:
            sizes[str(file.volume)] += file.size_bytes
    meter.start(title, sizes.total(), dict(sizes), parts=sum(map(len, lanes)))


def read_back(lanes: Sequence[Sequence[ExpectedFile]], *, concurrency: int, meter: Meter) -> list[Finding]:
    """Hash files as the media themselves give them back; there is one lane of files for each volume.

    Returns:
        The files that are not as they were written, by name.
    """
    _start(meter, "reading back", lanes)

    def check(file: ExpectedFile) -> Finding | None:
        damage = file.check(meter, from_medium=True)
        return None if damage is None else Finding(damage=damage, volume=file.volume)

    return by_name(in_lanes(check, lanes, concurrency=concurrency, meter=meter))


def whole_files(bags: Sequence[Bag], *, concurrency: int, meter: Meter) -> list[frozenset[str]]:
    """The names of the payload files that are whole and right on each volume, in the order of the volumes."""
    lanes = [_worth_hashing(bag) for bag in bags]
    _start(meter, "checking what is there", lanes)

    def check(item: tuple[int, ExpectedFile]) -> tuple[int, str] | None:
        number, file = item
        return None if file.check(meter) else (number, file.name)

    numbered = [[(number, file) for file in lane] for number, lane in enumerate(lanes)]
    whole: list[set[str]] = [set() for _ in bags]
    for found in in_lanes(check, numbered, concurrency=concurrency, meter=meter):
        if found is not None:
            whole[found[0]].add(found[1])
    return [frozenset(names) for names in whole]


def _worth_hashing(held: Bag) -> list[ExpectedFile]:
    """The parts of the right size, and the parity shards whose digest the bag lists."""
    sizes = held.payload_sizes
    parts = [
        ExpectedFile(
            volume=held.volume,
            path=held.path_of(part.name),
            name=part.name,
            sha256=sha256,
            size_bytes=part.size_bytes,
            part=part,
        )
        for part, sha256 in held.manifest.parts()
        if sizes.get(part.name) == part.size_bytes
    ]
    listed = held.texts.listed or {}
    return parts + [
        ExpectedFile(
            volume=held.volume,
            path=held.path_of(name),
            name=name,
            sha256=listed[name],
            size_bytes=size,
        )
        for name, size in sizes.items()
        if is_parity(name) and name in listed
    ]
