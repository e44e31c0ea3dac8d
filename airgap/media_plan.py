"""The media plan: it is decided before a byte is written which part goes onto which volume.

Parts are laid onto the volumes in their order, each volume filled before the next is begun: parts of one blob
stay together, and every volume but the last is full. Limits of a file system (largest file, entries of a
directory) are limits here too. What does not fit is named, never squeezed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from airgap import fields
from airgap.errors import Code
from airgap.parity import MAX_PARITY_SHARDS, SHARD_NAME, ParityLayout
from airgap.parts import PART_NAME
from airgap.statement import MAX_SUBJECTS
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

SLACK_BYTES = 1024 * 1024
"""Kept free on every volume: the custody log grows, and folders take their clusters."""

MAX_VOLUMES = 999
MAX_PLAN_BYTES = 16 * 1024 * 1024
_READ = fields.FieldReader(Code.USAGE)
_PAYLOAD_NAME = re.compile(f"{PART_NAME.pattern}|{SHARD_NAME.pattern}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The room on a volume, and the limits of its file system.

    Args:
        free_bytes: how much may still be written.
        cluster_bytes: the unit in which the file system hands out room; every file is rounded up to it.
        max_file_bytes: the largest size of one file; ``None`` without a limit that matters.
        max_files: how many of the tool's files fit in one folder; ``None`` without a limit that matters.
    """

    free_bytes: int
    cluster_bytes: int = 64 * 1024
    max_file_bytes: int | None = None
    max_files: int | None = None

    def stored_bytes(self, size_bytes: int) -> int:
        """The room in bytes that a file of ``size_bytes`` takes up, rounded up to whole clusters."""
        return -(-max(size_bytes, 1) // self.cluster_bytes) * self.cluster_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadFile:
    """A part or a parity shard: its name below ``data/``, such as ``001/00000001.part``, and its size."""

    name: str
    size_bytes: int

    @property
    def folder(self) -> str:
        """The folder below ``data/`` in which the file is."""
        return self.name.split("/", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The files that are still to be written onto one volume, in bundle order, and the room they take up."""

    files: tuple[PayloadFile, ...]
    stored_bytes: int
    """With the bag's texts and what the file system rounds up."""

    @property
    def size_bytes(self) -> int:
        """The size of the files themselves in bytes, not rounded up to clusters."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlan:
    """A plan: one :class:`Load` for each volume, in their order, and the files that no volume can take."""

    loads: tuple[Load, ...]
    unplaced: tuple[PayloadFile, ...]

    @property
    def holds(self) -> bool:
        """Whether every file has a place on some volume."""
        return not self.unplaced

    @property
    def lacking_bytes(self) -> int:
        """The size in bytes of all files that no volume can take."""
        return sum(file.size_bytes for file in self.unplaced)


def plan_volumes(
    files: Iterable[PayloadFile],
    capacities: Sequence[Capacity],
    *,
    bag_bytes: int,
    held_files: Sequence[Mapping[str, int]] = (),
) -> MediaPlan:
    """Decide which of ``files`` goes onto which volume, each volume filled before the next is begun.

    Args:
        files: the files still to be written, in bundle order.
        capacities: the room on each volume.
        bag_bytes: the room that a bag takes up besides its payload, for its texts and the envelope.
        held_files: for each volume, how many files it holds already in each folder.

    Takes time in proportion to the number of files and volumes together.
    """
    held = held_files or [{} for _ in capacities]
    shelves = [
        _Shelf(capacity, bag_bytes, Counter(counts))
        for capacity, counts in zip(capacities, held, strict=True)
    ]
    unplaced: list[PayloadFile] = []
    first_open = 0
    for file in files:
        # Files differ in size only at the end of a blob: a volume that once had no room is passed over for
        # good, so that this stays linear.
        while first_open < len(shelves) and not shelves[first_open].has_room_for(file):
            first_open += 1
        if not any(shelves[index].take(file) for index in range(first_open, len(shelves))):
            unplaced.append(file)
    return MediaPlan(loads=tuple(shelf.load() for shelf in shelves), unplaced=tuple(unplaced))


class _Shelf:
    """A volume while it is being filled on paper."""

    def __init__(self, capacity: Capacity, bag_bytes: int, counts: Counter[str]) -> None:
        self._capacity = capacity
        self._overhead_bytes = capacity.stored_bytes(bag_bytes)
        self._room_bytes = capacity.free_bytes - self._overhead_bytes - SLACK_BYTES
        self._counts = counts
        self._files: list[PayloadFile] = []
        self._taken_bytes = 0

    def has_room_for(self, file: PayloadFile) -> bool:
        return self._taken_bytes + self._capacity.stored_bytes(file.size_bytes) <= self._room_bytes

    def take(self, file: PayloadFile) -> bool:
        """Whether the file fits; then it is taken."""
        largest, most = self._capacity.max_file_bytes, self._capacity.max_files
        if largest is not None and file.size_bytes > largest:
            return False
        if (most is not None and self._counts[file.folder] >= most) or not self.has_room_for(file):
            return False
        self._files.append(file)
        self._counts[file.folder] += 1
        self._taken_bytes += self._capacity.stored_bytes(file.size_bytes)
        return True

    def load(self) -> Load:
        overhead = self._overhead_bytes if self._files else 0
        return Load(files=tuple(self._files), stored_bytes=self._taken_bytes + overhead)


# --- a plan that is kept ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A media plan in a file, so that volumes can be filled one at a time; volume numbers count from 1.

    It is the operator's own file: it decides where a signed part goes, never what is accepted. ``volumes``
    has the payload names of each volume; ``layout`` is that of the parity shards, as it stands in their tag
    file.

    Raises:
        OperatorError: ``USAGE``, naming the field at fault: what exists can be read.
    """

    transfer_id: str
    manifest_sha256: str
    volumes: tuple[tuple[str, ...], ...]
    layout: ParityLayout | None

    def __post_init__(self) -> None:
        _READ.text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
        _READ.text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)
        _READ.each(self.volumes, "volumes", _check_volume, least=1, most=MAX_VOLUMES)
        if len(set(itertools.chain(*self.volumes))) != sum(map(len, self.volumes)):
            _READ.refuse("volumes", "a part is on two volumes")
        if self.layout is not None:
            _READ.instance(self.layout, "parity", ParityLayout)

    def to_bytes(self) -> bytes:
        """The canonical JSON that ``plan --save`` writes."""
        return dump_canonical(
            {
                "schema": 1,
                "transferId": self.transfer_id,
                "manifestDigest": f"sha256:{self.manifest_sha256}",
                "volumes": [
                    {"number": number, "files": list(names)}
                    for number, names in enumerate(self.volumes, start=1)
                ],
                "parity": None
                if self.layout is None
                else {"stripes": self.layout.stripes, "parityShards": self.layout.parity_shards},
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a plan that ``plan --save`` wrote.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any plan; ``NEWER_FORMAT``: a newer tool
                wrote it.
            OperatorError: ``USAGE``, naming the field at fault.
        """
        value = load_strict(raw, max_bytes=MAX_PLAN_BYTES, code=Code.USAGE)
        return cls(**_FORMAT.of_document(value)(value))


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`SavedPlan`; its constructor checks them."""
    value = _READ.members(raw, "plan", "schema", "transferId", "manifestDigest", "volumes", "parity")
    volumes = _READ.items(value["volumes"], "volumes", _read_volume, least=1, most=MAX_VOLUMES)
    if [number for number, _ in volumes] != list(range(1, len(volumes) + 1)):
        _READ.refuse("volumes", "not numbered from 1 on")
    return {
        "transfer_id": value["transferId"],
        "manifest_sha256": _READ.sha256(value["manifestDigest"], "manifestDigest"),
        "volumes": tuple(names for _, names in volumes),
        "layout": None if value["parity"] is None else _read_layout(value["parity"]),
    }


_FORMAT = Format(name="plan", read=_READ, readers={1: _read_v1})


def _read_volume(raw: Any, where: str) -> tuple[int, tuple[str, ...]]:
    value = _READ.members(raw, where, "number", "files")
    number = _READ.integer(value["number"], f"{where}.number", least=1, most=MAX_VOLUMES)
    return number, _READ.array(value["files"], f"{where}.files")


def _check_volume(names: Any, where: str) -> None:
    _READ.each(names, where, _check_name, most=MAX_SUBJECTS)


def _check_name(name: Any, where: str) -> None:
    _READ.text(name, where, pattern=_PAYLOAD_NAME)


def _read_layout(raw: Any) -> ParityLayout:
    value = _READ.members(raw, "parity", "stripes", "parityShards")
    return ParityLayout(
        stripes=_READ.integer(value["stripes"], "parity.stripes", least=1, most=MAX_SUBJECTS),
        parity_shards=_READ.integer(
            value["parityShards"], "parity.parityShards", least=1, most=MAX_PARITY_SHARDS
        ),
    )


def estimated_seconds(size_bytes: int, rate_bytes_per_s: float) -> int:
    """The seconds that ``size_bytes`` take at a measured rate, rounded up."""
    return math.ceil(size_bytes / rate_bytes_per_s) if rate_bytes_per_s > 0 else 0
