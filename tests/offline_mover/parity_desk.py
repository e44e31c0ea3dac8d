"""A bundle on volumes with parity shards, and the commands on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bagit

from airgap.media_plan import SavedPlan
from airgap.parity import ParityLayout
from offline_mover.bags.bag_group import Inspection
from offline_mover.bags.bag_texts import payload_name
from offline_mover.commands.pull import pull
from offline_mover.commands.repair import repair
from offline_mover.commands.verify import verify
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter
from offline_mover.pulling.destinations import PullOrder
from offline_mover.storage.ports import ReadableContainer
from tests.bundles import Bundle
from tests.offline_mover.memory_container import MemoryContainer


class HookedMeter(Meter):
    """Calls back when a stretch of work begins, and remembers how much each one was."""

    def __init__(self, title: str = "", callback: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._awaited = title
        self._callback = callback
        self.totals: dict[str, int] = {}

    def start(
        self, title: str, total_bytes: int, lanes: Mapping[str, int] | None = None, *, parts: int = 0
    ) -> None:
        super().start(title, total_bytes, lanes, parts=parts)
        self.totals[title] = total_bytes
        if title == self._awaited:
            self._callback()


class ParityDesk:
    """Parts dealt out to data volumes in runs, and each row of parity shards on a volume after them.

    With ``data_volumes=1`` and ``is_apart=False`` everything is on one volume.
    """

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        layout: ParityLayout,
        *,
        data_volumes: int = 1,
        is_apart: bool = False,
    ) -> None:
        self.bundle = bundle
        self.layout = layout
        names = [part.name for part in bundle.parts]
        run = -(-len(names) // data_volumes)
        runs = [tuple(names[start : start + run]) for start in range(0, len(names), run)]
        shards = [name for name, _ in layout.shards(bundle.manifest)]
        rows = [
            tuple(shards[start : start + layout.stripes]) for start in range(0, len(shards), layout.stripes)
        ]
        spread = (*runs, *rows) if is_apart else (*runs[:-1], (*runs[-1], *shards))
        self.plan = SavedPlan(
            transfer_id=bundle.transfer_id,
            manifest_sha256=bundle.manifest_sha256,
            volumes=spread,
            layout=layout,
        )
        self.volumes = tuple(folder / f"volume{number}" for number in range(1, len(spread) + 1))
        self.patch = folder / "patch"
        for volume in (*self.volumes, self.patch):
            volume.mkdir(parents=True, exist_ok=True)

    def copied(self, folder: Path) -> ParityDesk:
        """The same, with its files, in another folder."""
        other = object.__new__(ParityDesk)
        other.bundle, other.layout, other.plan = self.bundle, self.layout, self.plan
        other.volumes = tuple(folder / volume.name for volume in self.volumes)
        other.patch = folder / "patch"
        for volume, copy in zip(self.volumes, other.volumes, strict=True):
            shutil.copytree(volume, copy)
        other.patch.mkdir()
        return other

    def pull(
        self,
        *volumes: Path,
        source: ReadableContainer | None = None,
        plan: SavedPlan | None = None,
        number: int | None = None,
        meter: Meter | None = None,
    ) -> Outcome:
        return pull(
            source or MemoryContainer.holding(self.bundle),
            PullOrder(volumes=volumes or self.volumes, plan=plan or self.plan, number=number),
            transfer_id=self.bundle.transfer_id,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=4,
            meter=meter or Meter(),
        )

    def repair(
        self,
        *volumes: Path,
        to: Path | None = None,
        in_place: bool = False,
        meter: Meter | None = None,
        concurrency: int = 4,
    ) -> Outcome:
        return repair(
            volumes or self.volumes,
            to=None if in_place else (to or self.patch),
            transfer_id=None,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=concurrency,
            meter=meter or Meter(),
        )

    def verify(self, *volumes: Path) -> tuple[Inspection, Outcome]:
        return verify(
            volumes or self.volumes,
            transfer_id=None,
            policy=self.bundle.policy,
            now=datetime.now(UTC),
            concurrency=4,
            meter=Meter(),
        )

    def bag_of(self, volume: Path) -> Path:
        return volume / self.bundle.transfer_id

    def file(self, name: str) -> Path:
        """Where the plan puts a payload file."""
        number = next(index for index, names in enumerate(self.plan.volumes) if name in names)
        return self.bag_of(self.volumes[number]) / payload_name(name)

    def patched(self, name: str) -> Path:
        """A payload file on the patch volume."""
        return self.bag_of(self.patch) / payload_name(name)

    def part_name(self, ordinal: int) -> str:
        return self.bundle.parts[ordinal].name

    def lose(self, *ordinals: int) -> list[str]:
        """Remove parts; returns their names."""
        names = [self.part_name(ordinal) for ordinal in ordinals]
        for name in names:
            self.file(name).unlink()
        return names

    def is_right(self, path: Path, name: str) -> bool:
        """Whether a file has the bytes of the part of that name."""
        part = next(part for part in self.bundle.parts if part.name == name)
        return path.read_bytes() == self.bundle.part_bytes(part)


def snapshot(folders: Sequence[Path]) -> dict[Path, tuple[int, bytes]]:
    """Modification time and content of every file."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def validate_bag(folder: Path) -> None:
    """As ``bagit.py --validate`` does."""
    library: Any = bagit  # it has no types
    library.Bag(str(folder)).validate(processes=1)
