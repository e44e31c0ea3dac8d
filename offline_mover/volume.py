"""A bag on a volume: found, its envelope judged, taken stock of, its parts and tag files checked.

Nothing on a volume is trusted, not even its names: every file is looked at without following links, every
read has a limit, and what the signed bundle manifest does not declare is reported, never used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap import fields
from airgap.damage import Damage
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, MediaError, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.parts import PartRange
from airgap.policy import TrustPolicy
from airgap.verify import Verdict, verify_bundle
from offline_mover import bag, media_fs
from offline_mover.media_fs import Kind
from offline_mover.progress import Meter

MAX_UNDECLARED = 1000
"""Findings of one kind are listed up to here; a volume full of other files must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """A bag whose envelope the trust policy accepts; its parts are still to be checked."""

    folder: Path
    envelope: bytes
    verdict: Verdict
    manifest: BundleManifest

    def path_of(self, part: PartRange) -> Path:
        """Where the part stands."""
        return part_path(self.folder, part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What is in a bag's folder: declared files with their sizes, by bag-relative name, and the rest."""

    sizes: Mapping[str, int]
    damages: tuple[Damage, ...]


def part_path(folder: Path, part: PartRange) -> Path:
    """Where a part stands in the bag ``folder``."""
    return folder / bag.PAYLOAD_FOLDER / part.blob / f"{part.number:08d}.part"


def require_volume(volume: Path) -> None:
    """Refuse a volume that is not there.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``.
    """
    with media_fs.media_errors(str(volume), is_reading=True):
        if not volume.is_dir():
            raise MediaError(Code.VOLUME_NOT_FOUND, f"{volume}: not a folder")


def find_bag(volume: Path, transfer_id: str | None) -> Path:
    """The folder of the one bag on a volume, or of the one that is asked for.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``, ``VOLUME_EMPTY``, ``VOLUME_AMBIGUOUS``, ``MEDIA_UNREADABLE``.
    """
    require_volume(volume)
    if transfer_id is not None:
        folder = volume / transfer_id
        if not media_fs.is_real_folder(folder):
            raise MediaError(Code.VOLUME_EMPTY, f"{volume}: no transfer {transfer_id}")
        return folder
    with media_fs.media_errors(str(volume), is_reading=True):
        found = sorted(
            child.name
            for child in volume.iterdir()
            if fields.TRANSFER_ID.fullmatch(child.name) and _looks_like_bag(child)
        )
    if not found:
        is_bag = _looks_like_bag(volume)
        hint = "; this is the transfer's own folder, name the one above it" if is_bag else ""
        raise MediaError(Code.VOLUME_EMPTY, f"{volume}{hint}")
    if len(found) > 1:
        raise MediaError(Code.VOLUME_AMBIGUOUS, f"{volume}: --transfer {' or '.join(found[:10])}")
    return volume / found[0]


def _looks_like_bag(folder: Path) -> bool:
    names = (bag.PAYLOAD_FOLDER, *bag.TAG_FILES)
    return media_fs.is_real_folder(folder) and any(os.path.lexists(folder / name) for name in names)


def open_bag(folder: Path, *, policy: TrustPolicy, now: datetime) -> Bag:
    """Read and judge the envelope of a bag; nothing else is looked at.

    Raises:
        UntrustedInputError: the envelope is missing (``BAG_MALFORMED``), malformed, forged or of another
        transfer.
        PolicyRefusal: the trust policy does not accept it.
        MediaError: it could not be read.
    """
    path = folder / ENVELOPE_NAME
    if not os.path.lexists(path):
        raise UntrustedInputError(
            Code.BAG_MALFORMED, f"{folder.name}/{ENVELOPE_NAME} is missing: the pull did not finish"
        )
    envelope = media_fs.read_capped(path, ENVELOPE_NAME, max_bytes=MAX_ENVELOPE_BYTES)
    verdict = verify_bundle(envelope, policy=policy, now=now)
    manifest = verdict.require()
    if manifest.transfer_id != folder.name:
        raise UntrustedInputError(
            Code.BAG_MALFORMED, f"the folder {folder.name} holds the bundle of {manifest.transfer_id}"
        )
    return Bag(folder=folder, envelope=envelope, verdict=verdict, manifest=manifest)


def take_stock(folder: Path, manifest: BundleManifest) -> Stock:
    """Names and sizes of everything in a bag's folder.

    Operating systems' litter is passed over. Everything else that the bundle manifest does not declare is
    damage: ``UNDECLARED_FILE``, or ``UNSAFE_NAME`` for links and devices.

    Raises:
        MediaError: ``MEDIA_UNREADABLE``.
    """
    declared = {bag.payload_name(part.name) for part, _ in manifest.parts()} | set(bag.TAG_FILES)
    sizes: dict[str, int] = {}
    damages: list[Damage] = []
    for entry in media_fs.walk(folder):
        if entry.kind is Kind.LITTER:
            continue
        if entry.kind is Kind.FILE and entry.name in declared:
            sizes[entry.name] = entry.size_bytes
            continue
        if len(damages) >= MAX_UNDECLARED:
            break
        name = media_fs.printable(entry.name)
        if entry.kind is Kind.ODD or name != entry.name or "\\" in name:
            detail = (
                "a link, a device or nested too deep" if entry.kind is Kind.ODD else "unprintable or with \\"
            )
            damages.append(Damage(code=Code.UNSAFE_NAME, name=name, detail=detail))
        else:
            damages.append(Damage(code=Code.UNDECLARED_FILE, name=name, detail=f"{entry.size_bytes} bytes"))
    damages.sort(key=lambda damage: damage.name)
    return Stock(sizes=sizes, damages=tuple(damages))


def size_damage(part: PartRange, stock: Stock) -> Damage | None:
    """What the part's size alone says: missing, too short, too long, or nothing wrong yet."""
    found = stock.sizes.get(bag.payload_name(part.name))
    if found is None:
        return part_damage(Code.PART_MISSING, part)
    if found != part.size_bytes:
        return part_damage(Code.PART_TRUNCATED, part, f"{found} bytes, not {part.size_bytes}")
    return None


def part_damage(code: Code, part: PartRange, detail: str = "") -> Damage:
    """A finding about a part, located in its blob."""
    return Damage(
        code=code,
        name=part.name,
        detail=detail,
        offset_bytes=part.offset_bytes,
        size_bytes=part.size_bytes,
    )


def check_part(
    path: Path, part: PartRange, sha256: str, meter: Meter, *, from_medium: bool = False
) -> Damage | None:
    """Hash a part whose size is right; a wrong digest is read once more before it is reported."""
    try:
        for is_again in (False, True):
            found = media_fs.hash_file(path, part.name, meter.advance, from_medium=from_medium or is_again)
            if found == sha256:
                return None
            meter.advance(-part.size_bytes)
    except AirgapError as error:
        return part_damage(error.code, part, error.detail)
    return part_damage(Code.PART_CORRUPT, part, f"its SHA-256 is {found}")


def check_tag_files(checked: Bag, stock: Stock) -> list[Damage]:
    """What is wrong with the bag's own texts; each is read with a limit."""
    contents = {ENVELOPE_NAME: checked.envelope}
    damages: list[Damage] = []
    for name in bag.TEXT_FILES:
        if name not in stock.sizes:
            damages.append(Damage(code=Code.BAG_MALFORMED, name=name, detail="missing"))
            continue
        try:
            contents[name] = media_fs.read_capped(checked.folder / name, name, max_bytes=bag.MAX_TEXT_BYTES)
        except MediaError as error:
            damages.append(Damage(code=error.code, name=name, detail=error.detail))
        except UntrustedInputError as error:
            damages.append(Damage(code=Code.BAG_MALFORMED, name=name, detail=error.detail))
    return damages + bag.check_texts(checked.manifest, contents)
