"""The volumes to which a repair writes: one other volume, or those that are damaged themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from airgap.damage import gravest
from airgap.errors import Code, MediaError, OperatorError, UntrustedInputError
from airgap.media_plan import PayloadFile
from airgap.parity import LAYOUT_NAME, ParityLayout
from offline_mover.amounts import size
from offline_mover.bags import bag_writing, placement
from offline_mover.bags.bag import Bag, inspect_own_bag
from offline_mover.bags.bag_group import BagGroup, Inspection
from offline_mover.bags.bag_texts import Contents, ListedFile, Place, is_parity, payload_name
from offline_mover.bags.checking import whole_files
from offline_mover.bags.volumes import require_volume
from offline_mover.medium import media_fs
from offline_mover.progress import Meter


class LostFile(NamedTuple):
    """A payload file to be made anew; ``sha256`` is ``None`` for a parity shard, which nothing signs."""

    sha256: str | None
    """In hex, where it is known."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairDestination:
    """A volume that takes what is rebuilt.

    Args:
        bag: the bag on it as it is now.
        place: the place that its texts will tell; ``None`` when they cannot be written anew.
        files: the files that its texts will list besides those rebuilt, by name; ``None`` in the same case.
        kept: the payload names that stay.
        layout: the parity layout that its texts will tell, if they will tell one.
        wanted: the files to be rebuilt there, by name.
    """

    bag: Bag
    place: Place | None
    files: Mapping[str, ListedFile] | None
    kept: frozenset[str]
    layout: ParityLayout | None
    wanted: Mapping[str, LostFile]

    def path_of(self, name: str) -> Path:
        """The path at which a payload file stands, or is going to."""
        return self.bag.path_of(name) if name in self.kept else self.bag.folder / payload_name(name)

    def make_ready(self) -> None:
        """Make its folders, and remove what a killed run left half written.

        Raises:
            UntrustedInputError: ``UNSAFE_NAME`` when something else has a folder's name.
            MediaError: the medium refused.
        """
        bag_writing.prepare(self.bag, keep=self.kept)
        bag_writing.make_payload_folders(self.bag, self.wanted.keys())

    def complete(self, rebuilt: Mapping[str, ListedFile], *, now: datetime) -> None:
        """Write the bag's texts and envelope, unless they are right already.

        Raises:
            MediaError: the medium refused.
        """
        if self.place is None or self.files is None:
            return
        files = {**self.files, **rebuilt}
        order = [part.name for part, _ in self.bag.manifest.parts() if part.name in files]
        order += sorted(files.keys() - set(order))
        layout = self.layout and self.layout.to_bytes(self.bag.verdict.manifest_sha256 or "")
        contents = Contents(
            place=self.place, files={name: files[name] for name in order}, layout=layout or None
        )
        bag_writing.complete(self.bag, contents, now=now)


def open_other(group: BagGroup, to: Path, *, concurrency: int, meter: Meter) -> RepairDestination:
    """The volume ``to`` as a destination, with what an earlier run rebuilt there, and nothing wanted yet.

    Raises:
        OperatorError: ``USAGE``: it is one of the volumes that are only read, or another volume of the
            transfer.
        UntrustedInputError: ``VOLUME_CONFLICT``: it holds another bundle of this transfer;
            ``UNDECLARED_FILE``, ``UNSAFE_NAME``: other files are in the transfer's folder.
        MediaError: ``VOLUME_NOT_FOUND``: ``to`` is no folder, or not mounted;
            ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    require_volume(to)
    if any(to.samefile(held.volume) for held in group.bags):
        raise OperatorError(Code.USAGE, f"--to {to}: give another volume than those that are repaired")
    found = inspect_own_bag(to, group.bags[0].bundle)
    if found.place is not None and found.place.of is not None:
        raise OperatorError(
            Code.USAGE,
            f"--to {to}: volume {found.place} of the transfer; give an empty one, or repair in place",
        )
    if foreign := found.stock.damages:
        code = gravest(foreign[:1]) or Code.UNDECLARED_FILE
        raise UntrustedInputError(code, f"{to}: {foreign[0].name}: {foreign[0].detail}")
    (whole,) = whole_files([found], concurrency=concurrency, meter=meter)
    listed = found.texts.listed or {}
    signed = {part.name: sha256 for part, sha256 in found.manifest.parts()}
    sizes = found.payload_sizes
    return RepairDestination(
        bag=found,
        place=found.place or Place(number=1, of=None),
        files={name: ListedFile(signed.get(name) or listed[name], sizes[name]) for name in whole},
        kept=whole,
        layout=found.texts.layout,
        wanted={},
    )


def with_wanted(destination: RepairDestination, names: Sequence[str]) -> RepairDestination:
    """The destination with the parts that are to be rebuilt there.

    Raises:
        MediaError: ``MEDIA_FULL``: there is not room for all of it.
    """
    manifest = destination.bag.manifest
    wanted = set(names)
    signed = {
        part.name: LostFile(sha256, part.size_bytes)
        for part, sha256 in manifest.parts()
        if part.name in wanted
    }
    reclaimed = sum(
        size for name, size in destination.bag.payload_sizes.items() if name not in destination.kept
    )
    decided = placement.place(
        manifest,
        [placement.mounted(destination.bag.volume, destination.kept, reclaimed_bytes=reclaimed)],
        [PayloadFile(name=name, size_bytes=lost.size_bytes) for name, lost in signed.items()],
        envelope_bytes=len(destination.bag.envelope),
    )
    if not decided.holds:
        raise MediaError(
            Code.MEDIA_FULL,
            f"{destination.bag.volume}: {size(decided.plan.lacking_bytes)} more are needed; "
            "nothing was written",
        )
    return replace(destination, wanted=signed)


def in_place(
    inspection: Inspection, layout: ParityLayout, parts: Collection[str], *, threads: int
) -> list[RepairDestination]:
    """The volumes that say they hold any of the ``parts``, or a parity shard that is not whole.

    Raises:
        MediaError: ``MEDIA_FULL``: there is not room for all of it.
    """
    rebuilt: set[str] = set()
    destinations = []
    for held in inspection.group.bags:
        wanted: dict[str, LostFile] = {
            part.name: LostFile(sha256, part.size_bytes)
            for part, sha256 in held.manifest.parts()
            if part.name in parts and part.name not in rebuilt and held.claims(part)
        }
        rebuilt |= wanted.keys()
        wanted |= {name: LostFile(None, size) for name, size in _bad_shards(inspection, layout, held)}
        if wanted:
            _require_room(held, wanted, threads)
            destinations.append(_as_it_is(held, layout, wanted))
    return destinations


def _bad_shards(inspection: Inspection, layout: ParityLayout, held: Bag) -> list[tuple[str, int]]:
    """Parity shards of the layout that the bag lists, and that are whole nowhere."""
    listed = held.texts.listed or {}
    if held.texts.layout not in {None, layout}:
        return []
    return [
        (name, size)
        for name, size in layout.shards(held.manifest)
        if name in listed and name not in inspection.whole_shards
    ]


def _require_room(held: Bag, wanted: Mapping[str, LostFile], threads: int) -> None:
    """A damaged file is there until the rebuilt one takes its place: both need room, a few at a time."""
    present = held.payload_sizes
    sizes = {name: lost.size_bytes for name, lost in wanted.items()}
    added = sum(needed for name, needed in sizes.items() if name not in present)
    beside = sorted((needed for name, needed in sizes.items() if name in present), reverse=True)
    needed = added + sum(beside[:threads])
    free = media_fs.free_bytes(held.volume)
    if needed > free:
        raise MediaError(
            Code.MEDIA_FULL,
            f"{held.volume} needs {size(needed)} and has {size(free)} free; nothing was written",
        )


def _as_it_is(held: Bag, layout: ParityLayout, wanted: Mapping[str, LostFile]) -> RepairDestination:
    """A damaged volume: everything stays, and its texts go on listing what should be there."""
    signed = {part.name: ListedFile(sha256, part.size_bytes) for part, sha256 in held.manifest.parts()}
    sizes = held.payload_sizes
    listed = held.texts.listed
    files: dict[str, ListedFile] | None = None
    if listed is not None:
        shard_sizes = dict(layout.shards(held.manifest))
        files = {
            name: signed.get(name) or ListedFile(sha256, sizes.get(name, shard_sizes.get(name, 0)))
            for name, sha256 in listed.items()
        }
    elif not any(is_parity(name) for name in sizes):
        files = {name: signed[name] for name in sizes}
    has_layout = LAYOUT_NAME in held.stock.sizes or any(is_parity(name) for name in sizes)
    return RepairDestination(
        bag=held,
        place=held.place,
        files=files,
        kept=frozenset(sizes),
        layout=(held.texts.layout or layout) if has_layout else None,
        wanted=wanted,
    )
