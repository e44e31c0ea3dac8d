"""Writing a bag: its folders are made, then its texts and envelope, and all is looked at again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from airgap.damage import Damage
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from offline_mover.bags.bag import Bag, inspect_bag, read_envelope
from offline_mover.bags.bag_texts import PAYLOAD_FOLDER, Contents, bag_texts, payload_name
from offline_mover.medium import media_fs


def prepare(wanted: Bag, *, keep: Collection[str]) -> None:
    """Make the bag's folders; remove what a killed run left half written, and parts that are not ``keep``.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME`` when something else has a folder's name.
        MediaError: the medium refused: full, write-protected, failing or gone.
    """
    folder = wanted.folder
    media_fs.make_folder(folder, folder.name)
    for name in wanted.stock.partials:
        media_fs.remove(folder / name, name)
    for name in wanted.payload_sizes.keys() - set(keep):
        media_fs.remove(wanted.path_of(name), name)
    media_fs.make_folder(folder / PAYLOAD_FOLDER, PAYLOAD_FOLDER)


def make_payload_folders(wanted: Bag, names: Collection[str]) -> None:
    """Make the folders for the payload files ``names``; raises as :func:`prepare`."""
    for name in sorted({payload_name(name).rsplit("/", 1)[0] for name in names}):
        media_fs.make_folder(wanted.folder / name, name)


def complete(wanted: Bag, contents: Contents, *, now: datetime) -> None:
    """Write the tag files, the envelope last; a bag that is complete already is not touched.

    Raises:
        MediaError: the medium refused.
    """
    if _is_complete(wanted, contents):
        return
    for name, content in bag_texts(wanted.manifest, wanted.envelope, contents, now=now).items():
        media_fs.write_durably(wanted.folder / name, name, content)
    media_fs.write_durably(wanted.folder / ENVELOPE_NAME, ENVELOPE_NAME, wanted.envelope)


def _is_complete(wanted: Bag, contents: Contents) -> bool:
    found = inspect_bag(wanted.volume, wanted.bundle)
    listed = {name: sha256 for name, (sha256, _) in contents.files.items()}
    return (
        not found.texts.damages
        and found.texts.listed == listed
        and found.place == contents.place
        and (found.texts.layout is None) == (contents.layout is None)
        and not _envelope_damage(found)
    )


def recheck(wanted: Bag, names: Collection[str]) -> list[Damage]:
    """Look again at everything on the volume but the parts' digests: names, sizes, tag files, envelope."""
    found = inspect_bag(wanted.volume, wanted.bundle)
    damages = [*found.stock.damages, *found.texts.damages, *_envelope_damage(found)]
    parts = (part for part, _ in wanted.manifest.parts() if part.name in names)
    damages += [damage for part in parts if (damage := found.part_damage(part))]
    return damages


def _envelope_damage(found: Bag) -> list[Damage]:
    """Whether the envelope on the volume is the source's, byte by byte."""
    if ENVELOPE_NAME in found.stock.sizes and read_envelope(found.folder) == found.envelope:
        return []
    return [Damage(code=Code.BAG_MALFORMED, name=ENVELOPE_NAME, detail="not the source's envelope")]
