"""Writing a bag: made ready, completed with its texts and envelope, looked at again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path

from airgap.damage import Damage
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from offline_mover.bags import bag
from offline_mover.bags import volume as volumes
from offline_mover.bags.volume import Bag
from offline_mover.medium import media_fs, media_identity, medium_read
from offline_mover.medium.medium_read import CacheBypass


def prepare(wanted: Bag, *, keep: Collection[str]) -> None:
    """Make the bag's folders; remove what a killed run left half written, and parts that are not ``keep``.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME`` when something else has a folder's name.
        MediaError: the medium refused.
    """
    folder = wanted.folder
    media_fs.make_folder(folder, folder.name)
    for name in _partials(wanted):
        with media_fs.media_errors(name):
            (folder / name).unlink()
    for name in wanted.payload_sizes.keys() - set(keep):
        with media_fs.media_errors(name):
            wanted.path_of(name).unlink()
    media_fs.make_folder(folder / bag.PAYLOAD_FOLDER, bag.PAYLOAD_FOLDER)


def make_payload_folders(wanted: Bag, names: Collection[str]) -> None:
    """Make the folders of the payload files ``names``; raises as :func:`prepare`."""
    for name in sorted({bag.payload_name(name).rsplit("/", 1)[0] for name in names}):
        media_fs.make_folder(wanted.folder / name, name)


def _partials(wanted: Bag) -> list[str]:
    """Files that are being written under a declared name by nobody any more."""
    declared = volumes.declared_names(wanted.manifest)
    return [entry.name for entry in media_fs.walk(wanted.folder) if volumes.is_partial(entry, declared)]


def complete(wanted: Bag, contents: bag.Contents, *, now: datetime) -> None:
    """Write the tag files, the envelope last; a bag that is complete already is not touched.

    Raises:
        MediaError: the medium refused.
    """
    if _is_complete(wanted, contents):
        return
    for name, content in bag.bag_texts(wanted.manifest, wanted.envelope, contents, now=now).items():
        media_fs.write_durably(wanted.folder / name, name, content)
    media_fs.write_durably(wanted.folder / ENVELOPE_NAME, ENVELOPE_NAME, wanted.envelope)


def _is_complete(wanted: Bag, contents: bag.Contents) -> bool:
    found = volumes.inspect_bag(wanted.volume, wanted.envelope, wanted.verdict, wanted.manifest)
    listed = {name: sha256 for name, (sha256, _) in contents.files.items()}
    return (
        not found.reading.damages
        and found.reading.listed == listed
        and found.place == contents.place
        and (found.reading.layout is None) == (contents.layout is None)
        and not _envelope_damage(found)
    )


def recheck(wanted: Bag, names: Collection[str]) -> list[Damage]:
    """Everything but the parts' digests, from the volume: names, sizes, tag files, envelope."""
    found = volumes.inspect_bag(wanted.volume, wanted.envelope, wanted.verdict, wanted.manifest)
    damages = [*found.stock.damages, *found.reading.damages, *_envelope_damage(found)]
    parts = (part for part, _ in wanted.manifest.parts() if part.name in names)
    damages += [damage for part in parts if (damage := found.part_damage(part))]
    return damages


def _envelope_damage(found: Bag) -> list[Damage]:
    """Whether the envelope on the volume is the source's, byte by byte."""
    if ENVELOPE_NAME in found.stock.sizes and volumes.read_envelope(found.folder) == found.envelope:
        return []
    return [Damage(code=Code.BAG_MALFORMED, name=ENVELOPE_NAME, detail="not the source's envelope")]


def read_back_way(files: Iterable[tuple[Path, str]]) -> CacheBypass | None:
    """How the media themselves were read, told from one file of each volume: the weakest way of all.

    Args:
        files: path and name; none if nothing was read.
    """
    ways = [
        CacheBypass.NONE
        if media_identity.describe(path.parent).is_user_space
        else medium_read.cache_bypass(path, name)
        for path, name in files
    ]
    return max(ways, key=list(CacheBypass).index, default=None)
