"""Files on a volume hashed against what they should be; what is wrong comes back as damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airgap.damage import Damage
from airgap.errors import AirgapError, Code
from airgap.parts import PartRange
from offline_mover.bags.bag import Bag
from offline_mover.bags.bag_texts import is_parity
from offline_mover.medium import medium_read
from offline_mover.parallel import in_lanes
from offline_mover.progress import Gauge, Meter


def check_part(
    path: Path, part: PartRange, sha256: str, gauge: Gauge, *, from_medium: bool = False
) -> Damage | None:
    """Hash a part whose size is right; a wrong digest is read once more before it is reported."""
    found = check_file(path, part.name, sha256, part.size_bytes, gauge, from_medium=from_medium)
    return found and Damage.of_part(found.code, part, found.detail)


def check_file(
    path: Path, name: str, sha256: str, size_bytes: int, gauge: Gauge, *, from_medium: bool = False
) -> Damage | None:
    """As :func:`check_part`, for a file that is not a part of the bundle."""
    try:
        for is_again in (False, True):
            found = medium_read.hash_file(path, name, gauge.advance, from_medium=from_medium or is_again)
            if found == sha256:
                return None
            gauge.advance(-size_bytes)
    except AirgapError as error:
        return Damage(code=error.code, name=name, detail=error.detail)
    return Damage(code=Code.PART_CORRUPT, name=name, detail=f"its SHA-256 is {found}")


def whole_files(bags: Sequence[Bag], *, concurrency: int, meter: Meter) -> list[frozenset[str]]:
    """For each volume, the payload names that are on it, whole and right."""
    checks = [_checks(b) for b in bags]
    meter.start(
        "checking what is there",
        sum(size for lane in checks for *_, size in lane),
        {str(b.volume): sum(size for *_, size in lane) for b, lane in zip(bags, checks, strict=True)},
    )

    def check(item: tuple[int, str, str, int]) -> tuple[int, str] | None:
        number, name, sha256, size = item
        gauge = meter.lane(str(bags[number].volume), name)
        damage = check_file(bags[number].path_of(name), name, sha256, size, gauge)
        return None if damage else (number, name)

    lanes = [[(number, *item) for item in lane] for number, lane in enumerate(checks)]
    whole: list[set[str]] = [set() for _ in bags]
    for found in in_lanes(check, lanes, concurrency=concurrency, meter=meter):
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
    listed = held.texts.listed or {}
    return checks + [
        (name, listed[name], sizes[name]) for name in sizes if is_parity(name) and name in listed
    ]
