"""The bags of one transfer on any number of volumes, and what they hold together.

BagIt calls bags with one ``Bag-Group-Identifier`` a group; ours is the transfer id. Volumes come in any
order, some may be elsewhere, and one part may be on several: a re-carried part beside the damaged one.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path

from airgap.damage import Damage, gravest
from airgap.errors import Code, UnknownCode, UntrustedInputError
from airgap.manifest import BundleManifest
from airgap.policy import TrustPolicy
from airgap.verify import Verdict
from offline_mover.bags.bag import Bag, open_bag
from offline_mover.bags.checking import ExpectedFile
from offline_mover.bags.volumes import choose_transfer
from offline_mover.outcome import Finding
from offline_mover.parallel import in_parallel
from offline_mover.progress import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class BagGroup:
    """The bags of one bundle, each accepted by the trust policy, in the order in which volumes were given."""

    bags: tuple[Bag, ...]

    @property
    def manifest(self) -> BundleManifest:
        """The bundle manifest that all the bags share."""
        return self.bags[0].manifest

    @property
    def verdict(self) -> Verdict:
        """The verdict of the trust policy, the same for every bag."""
        return self.bags[0].verdict

    @property
    def absent(self) -> tuple[int, ...]:
        """The numbers of the group's volumes that are not here, ascending, as far as those here tell."""
        places = [bag.place for bag in self.bags if bag.place is not None and bag.place.of is not None]
        count = max((place.of or 0 for place in places), default=0)
        return tuple(sorted(set(range(1, count + 1)) - {place.number for place in places}))


def open_group(
    paths: Sequence[Path], transfer_id: str | None, *, policy: TrustPolicy, now: datetime
) -> BagGroup:
    """Open the bag of the same transfer on each volume.

    Raises:
        UntrustedInputError: ``VOLUME_CONFLICT`` when two of them hold different bundles; else as
            :func:`offline_mover.bags.bag.open_bag`.
        PolicyRefusal: the trust policy does not accept it.
        MediaError: a volume, or the transfer on it, is not there or cannot be read.
    """
    chosen = choose_transfer(paths, transfer_id)
    bags = tuple(open_bag(path, chosen, policy=policy, now=now) for path in paths)
    for other in bags[1:]:
        if other.verdict.manifest_sha256 != bags[0].verdict.manifest_sha256:
            raise UntrustedInputError(
                Code.VOLUME_CONFLICT,
                f"{bags[0].volume} and {other.volume} hold different bundles of {chosen}",
            )
    return BagGroup(bags=bags)


def volumes_with(group: BagGroup, missing: Collection[str]) -> tuple[int, ...]:
    """The numbers of absent volumes that may hold the ``missing`` parts, all others being in the target.

    A pull lays the parts onto the volumes in their order: each run of missing parts, and each run of others,
    lies on volumes of its own. Where the volumes that are here were filled otherwise, all are named.
    """
    order = [part.name for part, _ in group.manifest.parts()]
    places = {name: index for index, name in enumerate(order)}
    spans = sorted(
        (bag.place.number, min(held), max(held))
        for bag in group.bags
        if bag.place is not None
        and bag.place.of is not None
        and (held := [places[name] for name in bag.payload_sizes if name in places])
    )
    edges = [(0, -1, -1), *spans, (max(group.absent, default=0) + 1, len(order), len(order))]
    found: set[int] = set()
    for (low, _, after), (high, before, _) in itertools.pairwise(edges):
        if before <= after:
            return group.absent
        numbers = [number for number in group.absent if low < number < high]
        runs = [lost for lost, _ in itertools.groupby(name in missing for name in order[after + 1 : before])]
        spare = len(numbers) - len(runs)
        if spare < 0:
            return group.absent
        found |= {n for at, is_lost in enumerate(runs) if is_lost for n in numbers[at : at + spare + 1]}
    return tuple(sorted(found)) or group.absent


class PartState(Enum):
    """The state of a part once every copy of it had been looked at."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    MISSING = "missing"
    NOT_SEEN = "notSeen"
    """On no volume that is here, and other volumes of the group are still elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The result of looking at every file on the volumes once.

    ``states`` and ``whole_on`` are by part name; ``whole_shards`` has the volume of each parity shard whose
    digest is the one its bag lists (which proves nothing, but saves rebuilding from a shard that is bad).
    """

    group: BagGroup
    states: dict[str, PartState]
    whole_on: dict[str, Bag]
    whole_shards: dict[str, Bag]
    findings: tuple[Finding, ...]
    unfinished: tuple[Path, ...] = ()
    """Volumes whose pull did not finish; nothing of them was looked at."""

    @property
    def code(self) -> Code | None:
        """The gravest finding that nothing makes good; ``VOLUME_MISSING`` when all that is here is right."""
        if code := gravest(finding.damage for finding in self.findings if not finding.is_replaced):
            return code
        return Code.VOLUME_MISSING if self.count(PartState.NOT_SEEN) else None

    def count(self, state: PartState) -> int:
        """The number of parts in that state."""
        return sum(found is state for found in self.states.values())

    @property
    def is_all_whole(self) -> bool:
        """Whether every part is here, whole and right; any finding then is about other files."""
        return self.count(PartState.WHOLE) == len(self.states)

    @property
    def lost(self) -> list[str]:
        """The names of the parts that would have to be brought again, in bundle order."""
        lost = {PartState.DAMAGED, PartState.MISSING}
        return [name for name, state in self.states.items() if state in lost]


def inspect(group: BagGroup, *, concurrency: int, meter: Meter) -> Inspection:
    """Hash every copy of every part, and every parity shard; all damage is found in one pass.

    Volumes are read side by side. Nothing is written.
    """
    findings = [
        Finding(damage=damage, volume=bag.volume)
        for bag in group.bags
        for damage in (*bag.stock.damages, *bag.texts.damages)
    ]
    by_volume = [list(_to_check(bag)) for bag in group.bags]
    findings += [
        Finding(damage=check.damage, volume=check.bag.volume)
        for checks in by_volume
        for check in checks
        if check.damage
    ]
    pending = [check for check in _side_by_side(by_volume) if check.damage is None]
    sizes = {str(bag.volume): 0 for bag in group.bags}
    for check in pending:
        sizes[str(check.bag.volume)] += check.file.size_bytes
    meter.start("verifying", sum(sizes.values()), sizes, parts=len(pending))
    whole_on: dict[str, Bag] = {}
    whole_shards: dict[str, Bag] = {}
    results = in_parallel(
        lambda check: (check, check.file.check(meter)), pending, concurrency=concurrency, meter=meter
    )
    for check, damage in results:
        if damage is not None:
            findings.append(Finding(damage=damage, volume=check.bag.volume))
        elif check.file.part is None:
            whole_shards.setdefault(check.file.name, check.bag)
        else:
            whole_on.setdefault(check.file.name, check.bag)
    return _settle(group, findings, whole_on, whole_shards)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One file to hash, or what is wrong with it already."""

    bag: Bag
    file: ExpectedFile
    damage: Damage | None = None


def _to_check(bag: Bag) -> Iterator[_Check]:
    sizes = bag.payload_sizes
    for part, sha256 in bag.manifest.parts():
        if bag.claims(part):
            yield _Check(
                bag=bag,
                file=ExpectedFile(
                    volume=bag.volume,
                    path=bag.path_of(part.name),
                    name=part.name,
                    sha256=sha256,
                    size_bytes=part.size_bytes,
                    part=part,
                ),
                damage=bag.part_damage(part),
            )
    signed = {part.name for part, _ in bag.manifest.parts()}
    for name, sha256 in (bag.texts.listed or {}).items():
        if name not in signed:
            missing = Damage(code=Code.PART_MISSING, name=name, detail="a parity shard")
            yield _Check(
                bag=bag,
                file=ExpectedFile(
                    volume=bag.volume,
                    path=bag.path_of(name),
                    name=name,
                    sha256=sha256,
                    size_bytes=sizes.get(name, 0),
                ),
                damage=None if name in sizes else missing,
            )


def _side_by_side(by_volume: Iterable[Sequence[_Check]]) -> list[_Check]:
    """One file of each volume in turn, so that all devices are read at once."""
    return [check for turn in itertools.zip_longest(*by_volume) for check in turn if check is not None]


def _settle(
    group: BagGroup, findings: list[Finding], whole_on: dict[str, Bag], whole_shards: dict[str, Bag]
) -> Inspection:
    """Judge the parts over all volumes."""
    kinds: dict[str, set[Code | UnknownCode]] = {}
    for finding in findings:
        if finding.damage.offset_bytes is not None:
            kinds.setdefault(finding.damage.name, set()).add(finding.damage.code)
    is_rest_elsewhere = bool(group.absent)
    states: dict[str, PartState] = {}
    for part, _ in group.manifest.parts():
        if part.name in whole_on:
            states[part.name] = PartState.WHOLE
        elif part.name in kinds:
            is_gone = kinds[part.name] == {Code.PART_MISSING}
            states[part.name] = PartState.MISSING if is_gone else PartState.DAMAGED
        elif is_rest_elsewhere:
            states[part.name] = PartState.NOT_SEEN
        else:
            states[part.name] = PartState.MISSING
            damage = Damage.of_part(Code.PART_MISSING, part, "on no volume")
            findings.append(Finding(damage=damage, volume=None))
    settled = [
        replace(finding, is_replaced=states.get(finding.damage.name) is PartState.WHOLE)
        for finding in findings
    ]
    settled.sort(key=lambda finding: (str(finding.volume or ""), finding.damage.name))
    return Inspection(
        group=group,
        states=states,
        whole_on=whole_on,
        whole_shards=whole_shards,
        findings=tuple(settled),
    )
