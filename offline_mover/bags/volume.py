"""A bag on a volume: found, its envelope judged, taken stock of, its parts and tag files checked.

Nothing on a volume is trusted, not even its names: every file is looked at without following links, every
read has a limit, and what the signed bundle manifest does not declare is reported, never used.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from airgap import fields
from airgap.damage import Damage
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, MediaError, UnknownCode, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.parity import LAYOUT_NAME, ParityLayout
from airgap.parts import PartRange
from airgap.policy import TrustPolicy
from airgap.verify import Verdict, verify_bundle
from offline_mover.bags import bag
from offline_mover.bags.bag import Place, Reading
from offline_mover.medium import media_fs, medium_read
from offline_mover.medium.media_fs import Kind
from offline_mover.progress import Gauge

_PAYLOAD = f"{bag.PAYLOAD_FOLDER}/"
MAX_UNDECLARED = 1000
"""Findings of one kind are listed up to here; a volume full of other files must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What is in a bag's folder: declared files with their sizes, by bag-relative name, and the rest.

    ``spellings`` has the names that the file system shows in another case; they are opened as it shows them.
    """

    sizes: Mapping[str, int]
    spellings: Mapping[str, str]
    damages: tuple[Damage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """A bag whose envelope the trust policy accepts, and what is there of it; parts are yet to be checked."""

    volume: Path
    folder: Path
    envelope: bytes
    verdict: Verdict
    manifest: BundleManifest
    stock: Stock
    reading: Reading

    @property
    def place(self) -> Place | None:
        """Which bag of its group it says it is."""
        return self.reading.place

    @property
    def payload_sizes(self) -> Mapping[str, int]:
        """Sizes of the parts and parity shards that are there, by name below ``data/``."""
        return payload_sizes(self.stock)

    def claims(self, part: PartRange) -> bool:
        """Whether the part should be on this volume: its texts say so, or it is there."""
        listed = self.reading.listed
        return bag.payload_name(part.name) in self.stock.sizes or (listed is not None and part.name in listed)

    def path_of(self, name: str) -> Path:
        """Where the file of a payload name (``001/00000001.part``) stands."""
        full = bag.payload_name(name)
        return self.folder / self.stock.spellings.get(full, full)

    def part_damage(self, part: PartRange) -> Damage | None:
        """What the part's size alone says: missing, too short, too long, or nothing wrong yet."""
        return size_damage(part, self.stock)


def payload_sizes(stock: Stock) -> dict[str, int]:
    """Sizes of the parts and parity shards in ``stock``, by name below ``data/``."""
    return {
        name.removeprefix(_PAYLOAD): size for name, size in stock.sizes.items() if name.startswith(_PAYLOAD)
    }


def require_volume(volume: Path) -> None:
    """Refuse a volume that is not there.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``.
    """
    with media_fs.media_errors(str(volume), is_reading=True):
        if not volume.is_dir():
            raise MediaError(Code.VOLUME_NOT_FOUND, f"{volume}: not a folder")


def transfers_on(volume: Path) -> list[str]:
    """The ids of the transfers that have a folder on a volume, in order.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``, ``MEDIA_UNREADABLE``.
    """
    require_volume(volume)
    with media_fs.media_errors(str(volume), is_reading=True):
        return sorted(
            child.name
            for child in volume.iterdir()
            if fields.TRANSFER_ID.fullmatch(child.name) and _looks_like_bag(child)
        )


def choose_transfer(volumes: Sequence[Path], transfer_id: str | None) -> str:
    """The transfer that is asked for, or the only one that all volumes have.

    Raises:
        MediaError: ``VOLUME_NOT_FOUND``, ``VOLUME_EMPTY``, ``VOLUME_AMBIGUOUS``, ``MEDIA_UNREADABLE``.
    """
    found = {volume: transfers_on(volume) for volume in volumes}
    for volume, ids in found.items():
        if transfer_id is not None and not media_fs.is_real_folder(volume / transfer_id):
            raise MediaError(Code.VOLUME_EMPTY, f"{volume}: no transfer {transfer_id}")
        if transfer_id is None and not ids:
            is_bag = _looks_like_bag(volume)
            hint = "; this is the transfer's own folder, name the one above it" if is_bag else ""
            raise MediaError(Code.VOLUME_EMPTY, f"{volume}{hint}")
    if transfer_id is not None:
        return transfer_id
    shared = set.intersection(*(set(ids) for ids in found.values()))
    every = sorted(set().union(*found.values()))
    if len(shared) == 1 and (len(every) == 1 or len(volumes) > 1):
        return shared.pop()
    names = ", ".join(str(volume) for volume in volumes)
    raise MediaError(Code.VOLUME_AMBIGUOUS, f"{names}: --transfer {' or '.join(every[:10])}")


def _looks_like_bag(folder: Path) -> bool:
    names = (bag.PAYLOAD_FOLDER, *bag.TAG_FILES)
    return media_fs.is_real_folder(folder) and any(os.path.lexists(folder / name) for name in names)


def read_envelope(folder: Path) -> bytes:
    """The envelope of the bag ``folder``, unjudged.

    Raises:
        UntrustedInputError: ``BAG_MALFORMED`` when it is missing, ``TOO_LARGE``, ``UNSAFE_NAME``.
        MediaError: it could not be read.
    """
    path = folder / ENVELOPE_NAME
    if not os.path.lexists(path):
        raise UntrustedInputError(
            Code.BAG_MALFORMED, f"{folder.name}/{ENVELOPE_NAME} is missing: the pull did not finish"
        )
    return media_fs.read_capped(path, ENVELOPE_NAME, max_bytes=MAX_ENVELOPE_BYTES)


def open_bag(volume: Path, transfer_id: str, *, policy: TrustPolicy, now: datetime) -> Bag:
    """Read and judge the envelope of a bag, then take stock of it and read its texts.

    Raises:
        UntrustedInputError: the envelope is missing (``BAG_MALFORMED``), malformed, forged or of another
            transfer.
        PolicyRefusal: the trust policy does not accept it.
        MediaError: it could not be read.
    """
    folder = volume / transfer_id
    envelope = read_envelope(folder)
    verdict = verify_bundle(envelope, policy=policy, now=now)
    manifest = verdict.require()
    if manifest.transfer_id != folder.name:
        raise UntrustedInputError(
            Code.BAG_MALFORMED, f"the folder {folder.name} holds the bundle of {manifest.transfer_id}"
        )
    return inspect_bag(volume, envelope, verdict, manifest)


def inspect_bag(
    volume: Path,
    envelope: bytes,
    verdict: Verdict,
    manifest: BundleManifest,
    *,
    passes_partials: bool = False,
) -> Bag:
    """Take stock of a bag of a bundle that is known and accepted; the folder need not be there yet.

    With ``passes_partials`` what a killed run left half written is no finding.

    Raises:
        MediaError: ``MEDIA_UNREADABLE``.
    """
    folder = volume / manifest.transfer_id
    stock = _NOTHING
    if os.path.lexists(folder):
        stock = take_stock(folder, manifest, passes_partials=passes_partials)
    contents, unreadable = _read_tag_files(folder, stock)
    reading = bag.read_texts(manifest, contents, payload_sizes(stock))
    layout, layout_damages = _read_layout(contents, verdict, manifest)
    return Bag(
        volume=volume,
        folder=folder,
        envelope=envelope,
        verdict=verdict,
        manifest=manifest,
        stock=stock,
        reading=replace(reading, damages=(*unreadable, *reading.damages, *layout_damages), layout=layout),
    )


def _read_layout(
    contents: Mapping[str, bytes], verdict: Verdict, manifest: BundleManifest
) -> tuple[ParityLayout | None, list[Damage]]:
    if LAYOUT_NAME not in contents:
        return None, []
    try:
        layout = ParityLayout.from_bytes(
            contents[LAYOUT_NAME],
            manifest_sha256=verdict.manifest_sha256 or "",
            part_count=manifest.part_count,
        )
    except UntrustedInputError as error:
        code = error.code if error.code is Code.NEWER_FORMAT else Code.BAG_MALFORMED
        return None, [Damage(code=code, name=LAYOUT_NAME, detail=error.detail)]
    return layout, []


_NOTHING = Stock(sizes={}, spellings={}, damages=())


def take_stock(folder: Path, manifest: BundleManifest, *, passes_partials: bool = False) -> Stock:
    """Names and sizes of everything in a bag's folder.

    Operating systems' litter is passed over. Everything else that neither the bundle manifest declares nor
    the bag's layout knows is damage: ``UNDECLARED_FILE``, or ``UNSAFE_NAME`` for links, devices and a name
    that stands there twice, in two spellings.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME`` when the folder itself is none.
        MediaError: ``MEDIA_UNREADABLE``.
    """
    if not media_fs.is_real_folder(folder):
        raise UntrustedInputError(Code.UNSAFE_NAME, f"{folder.name}: not a folder")
    declared = declared_names(manifest)
    sizes: dict[str, int] = {}
    spellings: dict[str, str] = {}
    damages: list[Damage] = []
    for entry in media_fs.walk(folder):
        if entry.kind is Kind.LITTER or (passes_partials and is_partial(entry, declared)):
            continue
        # Only ASCII letters are folded: no other letter may ever turn into one of a declared name.
        name = entry.name.lower() if entry.name.isascii() else entry.name
        is_ours = entry.kind is Kind.FILE and (name in declared or bag.is_parity(name.removeprefix(_PAYLOAD)))
        if is_ours and name not in sizes:
            sizes[name] = entry.size_bytes
            if name != entry.name:
                spellings[name] = entry.name
            continue
        if len(damages) >= MAX_UNDECLARED:
            break
        damages.append(_undeclared(entry, is_twin=is_ours))
    damages.sort(key=lambda damage: damage.name)
    return Stock(sizes=sizes, spellings=spellings, damages=tuple(damages))


def declared_names(manifest: BundleManifest) -> set[str]:
    """Bag-relative names of every part and tag file; parity shards are known by their form."""
    parts = {bag.payload_name(part.name) for part, _ in manifest.parts()}
    return parts | {*bag.TAG_FILES, *bag.OPTIONAL_TAG_FILES}


def is_partial(entry: media_fs.Entry, declared: Collection[str]) -> bool:
    """Whether it is a declared file that is being written, or was when its writer was killed."""
    name = entry.name.removesuffix(media_fs.PARTIAL_SUFFIX)
    is_ours = name in declared or bag.is_parity(name.removeprefix(_PAYLOAD))
    return entry.kind is Kind.FILE and name != entry.name and is_ours


def _undeclared(entry: media_fs.Entry, *, is_twin: bool) -> Damage:
    name = media_fs.printable(entry.name)
    if is_twin:
        return Damage(code=Code.UNSAFE_NAME, name=name, detail="there twice, in upper and lower case")
    if entry.kind is Kind.ODD:
        return Damage(code=Code.UNSAFE_NAME, name=name, detail="a link, a device or nested too deep")
    if name != entry.name or "\\" in name:
        return Damage(code=Code.UNSAFE_NAME, name=name, detail="unprintable or with \\")
    return Damage(code=Code.UNDECLARED_FILE, name=name, detail=f"{entry.size_bytes} bytes")


def size_damage(part: PartRange, stock: Stock) -> Damage | None:
    """What the part's size alone says: missing, too short, too long, or nothing wrong yet."""
    found = stock.sizes.get(bag.payload_name(part.name))
    if found is None:
        return part_damage(Code.PART_MISSING, part)
    if found != part.size_bytes:
        return part_damage(Code.PART_TRUNCATED, part, f"{found} bytes, not {part.size_bytes}")
    return None


def part_damage(code: Code | UnknownCode, part: PartRange, detail: str = "") -> Damage:
    """A finding about a part, located in its blob."""
    return Damage(
        code=code,
        name=part.name,
        detail=detail,
        offset_bytes=part.offset_bytes,
        size_bytes=part.size_bytes,
    )


def check_part(
    path: Path, part: PartRange, sha256: str, gauge: Gauge, *, from_medium: bool = False
) -> Damage | None:
    """Hash a part whose size is right; a wrong digest is read once more before it is reported."""
    found = check_file(path, part.name, sha256, part.size_bytes, gauge, from_medium=from_medium)
    return found and part_damage(found.code, part, found.detail)


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


def _read_tag_files(folder: Path, stock: Stock) -> tuple[dict[str, bytes], list[Damage]]:
    """The bag's texts and envelope, each read with a limit, and what could not be read."""
    contents: dict[str, bytes] = {}
    damages: list[Damage] = []
    for name in (*bag.TAG_FILES, *bag.OPTIONAL_TAG_FILES):
        if name not in stock.sizes:
            if name in bag.TAG_FILES:
                damages.append(Damage(code=Code.BAG_MALFORMED, name=name, detail="missing"))
            continue
        path = folder / stock.spellings.get(name, name)
        limit = MAX_ENVELOPE_BYTES if name == ENVELOPE_NAME else bag.MAX_TEXT_BYTES
        try:
            contents[name] = media_fs.read_capped(path, name, max_bytes=limit)
        except MediaError as error:
            damages.append(Damage(code=error.code, name=name, detail=error.detail))
        except UntrustedInputError as error:
            damages.append(Damage(code=Code.BAG_MALFORMED, name=name, detail=error.detail))
    return contents, damages
