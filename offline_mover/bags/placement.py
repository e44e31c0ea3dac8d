"""The placement: which file goes onto which volume, decided from what the volumes can take and hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from airgap.errors import Code, OperatorError
from airgap.manifest import BundleManifest
from airgap.media_plan import Capacity, MediaPlan, PayloadFile, plan_volumes
from airgap.parity import ParityLayout, ParityWish, shard_place
from offline_mover.bags.bag_texts import MANIFEST_LINE_BYTES, is_parity
from offline_mover.medium import media_fs, media_identity
from offline_mover.medium.media_identity import MediaIdentity

MAX_VOLUMES = 64
"""Mounted at once; one after the other there may be more."""

_BAG_TEXTS_BYTES = 64 * 1024
_NOMINAL = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?([KMGT]i?)B?:([a-z0-9+]{2,10})", re.IGNORECASE)
_RATE = re.compile(r"([0-9]{1,6})([KMG]i?)B?", re.IGNORECASE)
_SPELLINGS = {"fat": "fat32", "vfat": "fat32", "hfsplus": "hfs+"}
_CLUSTER_BYTES = 128 * 1024
"""Of a file system that was not asked: the largest default, that of exFAT from 32 GB on.

https://support.microsoft.com/topic/default-cluster-size-for-ntfs-fat-and-exfat-9772e6f1-e31a-00d7-e18f-73169155af95
"""
_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_FORMATTED_SHARE = 0.995
"""Of a nominal capacity, what is left for files after the file system's own tables and partition gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeOutlook:
    """A volume to write to: its name for the operator, the room on it, and what it holds already."""

    name: str
    path: Path | None
    file_system: str | None
    capacity: Capacity
    held: frozenset[str] = frozenset()
    """Payload names."""
    reserved_bytes: int = 0
    """To be left free; the capacity is without them."""
    lacking_bytes: int = 0
    """Of the reserved bytes, those that the volume has no room for."""

    @property
    def free_bytes(self) -> int:
        """The free bytes, those that are reserved among them."""
        return self.capacity.free_bytes + self.reserved_bytes - self.lacking_bytes

    def reserving(self, size_bytes: int) -> VolumeOutlook:
        """The volume with ``size_bytes`` less room, which are left free for something else."""
        left = self.capacity.free_bytes - size_bytes
        return replace(
            self,
            capacity=replace(self.capacity, free_bytes=max(0, left)),
            reserved_bytes=size_bytes,
            lacking_bytes=max(0, -left),
        )


def mounted(path: Path, held: Collection[str] = (), *, reclaimed_bytes: int = 0) -> VolumeOutlook:
    """The outlook of a volume that is here; the system is asked for its free space and limits.

    ``reclaimed_bytes`` are free as soon as what is in their place has been removed.

    Raises:
        MediaError: ``MEDIA_UNREADABLE``, ``VOLUME_GONE``: the system could not tell.
    """
    identity = media_identity.describe(path)
    return VolumeOutlook(
        name=str(path),
        path=path,
        file_system=identity.file_system,
        capacity=Capacity(
            free_bytes=media_fs.free_bytes(path) + reclaimed_bytes,
            cluster_bytes=identity.cluster_bytes or _CLUSTER_BYTES,
            max_file_bytes=identity.max_file_bytes,
            max_files=identity.max_folder_parts,
        ),
        held=frozenset(held),
    )


def nominal(text: str) -> VolumeOutlook | None:
    """The outlook of a volume that is only described, as by ``32G:fat32``; ``None`` for any other text.

    ``G`` counts in thousands, as makers print it on the medium; ``Gi`` in 1024.
    """
    match = _NOMINAL.fullmatch(text)
    if match is None:
        return None
    whole, fraction, unit, file_system = match[1], match[2] or "0", match[3].lower(), match[4].lower()
    size = (int(whole) * 1000 + int(fraction.ljust(3, "0"))) * _UNITS[unit] // 1000
    identity = MediaIdentity(file_system=_SPELLINGS.get(file_system, file_system))
    return VolumeOutlook(
        name=text,
        path=None,
        file_system=identity.file_system,
        capacity=Capacity(
            free_bytes=int(size * _FORMATTED_SHARE),
            cluster_bytes=_CLUSTER_BYTES,
            max_file_bytes=identity.max_file_bytes,
            max_files=identity.max_folder_parts,
        ),
    )


def read_rate(text: str) -> float:
    """The bytes a second that ``--rate`` means, as in ``20M``.

    Raises:
        OperatorError: ``USAGE``: the text is not of that form.
    """
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise OperatorError(Code.USAGE, f"--rate {text[:40]}: not like 20M")
    return float(int(match[1]) * _UNITS[match[2].lower()])


def require_known(text: str) -> VolumeOutlook:
    """The outlook of a volume given by ``--volume``: a folder that is there, or a description.

    Raises:
        OperatorError: ``USAGE``: the text is neither.
    """
    described = nominal(text)
    if described is not None:
        return described
    path = Path(text)
    if path.is_dir():
        return mounted(path)
    raise OperatorError(Code.USAGE, f"--volume {text}: neither a folder nor like 32G:fat32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The decision on a placement: for each volume, the payload names that it will hold in the end."""

    plan: MediaPlan
    names: tuple[frozenset[str], ...]
    layout: ParityLayout | None

    @property
    def holds(self) -> bool:
        """Whether every file has a place on some volume."""
        return self.plan.holds


def place(
    manifest: BundleManifest,
    outlooks: Sequence[VolumeOutlook],
    wanted: Sequence[PayloadFile],
    *,
    envelope_bytes: int,
    parity: ParityWish | None = None,
) -> Placement:
    """Plan onto which volume each of the ``wanted`` files goes; what is on a volume already stays there.

    With ``parity`` as a share of the parts, parity shards follow the parts; with whole volumes, they have the
    last volumes for themselves.

    Raises:
        OperatorError: ``USAGE``: no more volumes were given than may be lost.
    """
    overhead = envelope_bytes + _BAG_TEXTS_BYTES + MANIFEST_LINE_BYTES * manifest.part_count
    spare = parity.lost_volumes if parity is not None else 0
    if spare and spare >= len(outlooks):
        raise OperatorError(Code.USAGE, f"--parity {parity}: give more volumes than may be lost")
    data = outlooks[: len(outlooks) - spare]
    held = {name for outlook in outlooks for name in outlook.held}
    missing = [file for file in wanted if file.name not in held]
    plan = _plan(missing, data, overhead)
    layout = None
    if parity is not None:
        parts = [
            sum(1 for file in load.files if not is_parity(file.name)) + _held_parts(outlook)
            for load, outlook in zip(plan.loads, data, strict=True)
        ]
        layout = parity.layout(part_count=manifest.part_count, largest_volume_parts=max(parts))
        shards = [
            PayloadFile(name=name, size_bytes=size)
            for name, size in layout.shards(manifest)
            if name not in held
        ]
        if spare:
            plan = _joined(plan, _plan_rows(shards, outlooks[len(data) :], overhead))
        else:
            plan = _plan([*missing, *shards], data, overhead)
    names = tuple(
        outlook.held | {file.name for file in load.files}
        for outlook, load in zip(outlooks, plan.loads, strict=True)
    )
    return Placement(plan=plan, names=names, layout=layout)


def _plan(files: Sequence[PayloadFile], outlooks: Sequence[VolumeOutlook], overhead: int) -> MediaPlan:
    return plan_volumes(
        files,
        [outlook.capacity for outlook in outlooks],
        bag_bytes=overhead,
        held_files=[_held_counts(outlook) for outlook in outlooks],
    )


def _plan_rows(shards: Sequence[PayloadFile], outlooks: Sequence[VolumeOutlook], overhead: int) -> MediaPlan:
    """Each row of parity shards on a volume of its own, so that one lost volume costs a stripe one shard."""
    rows: list[list[PayloadFile]] = [[] for _ in outlooks]
    for shard in shards:
        _, row = shard_place(shard.name) or (0, 0)
        rows[row].append(shard)
    plans = [_plan(row, [outlook], overhead) for row, outlook in zip(rows, outlooks, strict=True)]
    return MediaPlan(
        loads=tuple(load for plan in plans for load in plan.loads),
        unplaced=tuple(file for plan in plans for file in plan.unplaced),
    )


def _joined(first: MediaPlan, second: MediaPlan) -> MediaPlan:
    return MediaPlan(loads=first.loads + second.loads, unplaced=first.unplaced + second.unplaced)


def _held_parts(outlook: VolumeOutlook) -> int:
    return sum(1 for name in outlook.held if not is_parity(name))


def _held_counts(outlook: VolumeOutlook) -> Mapping[str, int]:
    return Counter(name.split("/", 1)[0] for name in outlook.held)
