"""A bag on a volume: how it is found, its envelope judged, and its files looked over.

Nothing on a volume is trusted, not even its names: every file is looked at without following links, every
read has a limit, and what the signed bundle manifest does not declare is reported, never used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from airgap.damage import Damage
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code, MediaError, UntrustedInputError
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.parity import LAYOUT_NAME, ParityLayout
from airgap.parts import PartRange
from airgap.policy import TrustPolicy
from airgap.verify import Verdict
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag_texts import (
    MAX_TEXT_BYTES,
    OPTIONAL_TAG_FILES,
    PAYLOAD_FOLDER,
    TAG_FILES,
    BagTexts,
    Place,
    is_parity,
    payload_name,
    read_texts,
)
from offline_mover.medium import media_fs
from offline_mover.medium.media_fs import Kind

_PAYLOAD = f"{PAYLOAD_FOLDER}/"
MAX_UNDECLARED = 1000
"""Findings of one kind are listed up to here; a volume full of other files must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The files in a bag's folder: declared ones with their sizes in bytes by bag-relative name, and others.

    ``spellings`` has the names that the file system shows in another case; they are opened as it shows them.
    ``partials`` are the sizes of what a killed run left half written, where that is no damage.
    """

    sizes: Mapping[str, int]
    spellings: Mapping[str, str]
    damages: tuple[Damage, ...]
    partials: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """A bag whose envelope the trust policy accepts, and its files, whose digests are not checked yet."""

    volume: Path
    bundle: AcceptedBundle
    stock: Stock
    texts: BagTexts

    @property
    def folder(self) -> Path:
        """The path of the bag's folder on the volume."""
        return self.volume / self.manifest.transfer_id

    @property
    def envelope(self) -> bytes:
        """The bundle's envelope, byte by byte."""
        return self.bundle.envelope

    @property
    def verdict(self) -> Verdict:
        """The verdict of the trust policy on the envelope."""
        return self.bundle.verdict

    @property
    def manifest(self) -> BundleManifest:
        """The bundle manifest that was signed."""
        return self.bundle.manifest

    @property
    def place(self) -> Place | None:
        """The place in its group that the bag's texts claim, such as 2 of 3; ``None`` if they claim none."""
        return self.texts.place

    @property
    def payload_sizes(self) -> Mapping[str, int]:
        """The sizes in bytes of the parts and parity shards that are there, by name below ``data/``."""
        return payload_sizes(self.stock)

    def reclaimable_bytes(self, keep: Collection[str]) -> int:
        """The bytes that can be freed: those of half-written files, and of payload not in ``keep``."""
        spoilt = (size for name, size in self.payload_sizes.items() if name not in keep)
        return sum(spoilt) + sum(self.stock.partials.values())

    def claims(self, part: PartRange) -> bool:
        """Whether the part should be on this volume: its texts say so, or it is there."""
        listed = self.texts.listed
        return payload_name(part.name) in self.stock.sizes or (listed is not None and part.name in listed)

    def path_of(self, name: str) -> Path:
        """The path of the file with a payload name such as ``001/00000001.part``."""
        full = payload_name(name)
        return self.folder / self.stock.spellings.get(full, full)

    def part_damage(self, part: PartRange) -> Damage | None:
        """The damage that a part's size alone shows: missing, too short or too long; ``None`` for none."""
        return size_damage(part, self.stock)


def payload_sizes(stock: Stock) -> dict[str, int]:
    """The sizes in bytes of the parts and parity shards in ``stock``, by name below ``data/``."""
    return {
        name.removeprefix(_PAYLOAD): size for name, size in stock.sizes.items() if name.startswith(_PAYLOAD)
    }


def read_envelope(folder: Path) -> bytes:
    """Read the envelope of the bag in ``folder``; it is not judged here.

    Raises:
        UntrustedInputError: ``BAG_MALFORMED``: it is missing; ``TOO_LARGE``: it is larger than any envelope;
            ``UNSAFE_NAME``: a link or a device stands in its place.
        MediaError: it could not be read.
    """
    path = folder / ENVELOPE_NAME
    if not media_fs.exists(path):
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
        MediaError: ``MEDIA_UNREADABLE``, ``VOLUME_GONE``: it could not be read.
    """
    folder = volume / transfer_id
    bundle = AcceptedBundle.judge(read_envelope(folder), policy=policy, now=now)
    if bundle.manifest.transfer_id != folder.name:
        raise UntrustedInputError(
            Code.BAG_MALFORMED, f"the folder {folder.name} holds the bundle of {bundle.manifest.transfer_id}"
        )
    return inspect_bag(volume, bundle)


def inspect_own_bag(volume: Path, bundle: AcceptedBundle) -> Bag:
    """Take stock of what a volume that is going to be written to holds of the bundle already.

    Raises:
        UntrustedInputError: ``VOLUME_CONFLICT`` where it holds another bundle of this transfer.
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    folder = volume / bundle.manifest.transfer_id
    try:
        held = read_envelope(folder)
        is_other = Envelope.from_bytes(held).payload != Envelope.from_bytes(bundle.envelope).payload
    except UntrustedInputError:
        is_other = False  # there is none, or a broken one, which is replaced
    if is_other:
        raise UntrustedInputError(Code.VOLUME_CONFLICT, str(folder))
    # A file that a killed run left half written is no finding: it is removed before anything is fetched.
    return inspect_bag(volume, bundle, passes_partials=True)


def inspect_bag(volume: Path, bundle: AcceptedBundle, *, passes_partials: bool = False) -> Bag:
    """Take stock of a bag of a bundle that is known and accepted; the folder need not be there yet.

    With ``passes_partials`` what a killed run left half written is no finding, but among the partials.

    Raises:
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    manifest = bundle.manifest
    folder = volume / manifest.transfer_id
    stock = _NOTHING
    if media_fs.exists(folder):
        stock = take_stock(folder, manifest, passes_partials=passes_partials)
    contents, unreadable = _read_tag_files(folder, stock)
    texts = read_texts(manifest, contents, payload_sizes(stock))
    layout, layout_damages = _read_layout(contents, bundle)
    damages = (*unreadable, *texts.damages, *layout_damages)
    return Bag(
        volume=volume, bundle=bundle, stock=stock, texts=replace(texts, damages=damages, layout=layout)
    )


def _read_layout(
    contents: Mapping[str, bytes], bundle: AcceptedBundle
) -> tuple[ParityLayout | None, list[Damage]]:
    if LAYOUT_NAME not in contents:
        return None, []
    try:
        layout = ParityLayout.from_bytes(
            contents[LAYOUT_NAME],
            manifest_sha256=bundle.manifest_sha256,
            part_count=bundle.manifest.part_count,
        )
    except UntrustedInputError as error:
        code = error.code if error.code is Code.NEWER_FORMAT else Code.BAG_MALFORMED
        return None, [Damage(code=code, name=LAYOUT_NAME, detail=error.detail)]
    return layout, []


_NOTHING = Stock(sizes={}, spellings={}, damages=(), partials={})


def take_stock(folder: Path, manifest: BundleManifest, *, passes_partials: bool = False) -> Stock:
    """List names and sizes of everything in a bag's folder, and what is wrong with them.

    Operating systems' litter is passed over. Everything else that neither the bundle manifest declares nor
    the bag's layout knows is damage: ``UNDECLARED_FILE``, or ``UNSAFE_NAME`` for links, devices and a name
    that stands there twice, in two spellings.

    Raises:
        UntrustedInputError: ``UNSAFE_NAME``: the folder itself is not a folder.
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    if not media_fs.is_real_folder(folder):
        raise UntrustedInputError(Code.UNSAFE_NAME, f"{folder.name}: not a folder")
    declared = declared_names(manifest)
    sizes: dict[str, int] = {}
    spellings: dict[str, str] = {}
    partials: dict[str, int] = {}
    damages: list[Damage] = []
    for entry in media_fs.walk(folder):
        if entry.kind is Kind.LITTER:
            continue
        if passes_partials and _is_partial(entry, declared):
            partials[entry.name] = entry.size_bytes
            continue
        # Only ASCII letters are folded: no other letter may ever turn into one of a declared name.
        name = entry.name.lower() if entry.name.isascii() else entry.name
        is_ours = entry.kind is Kind.FILE and (name in declared or is_parity(name.removeprefix(_PAYLOAD)))
        if is_ours and name not in sizes:
            sizes[name] = entry.size_bytes
            if name != entry.name:
                spellings[name] = entry.name
            continue
        if len(damages) >= MAX_UNDECLARED:
            break
        damages.append(_undeclared(entry, is_twin=is_ours))
    damages.sort(key=lambda damage: damage.name)
    return Stock(
        sizes=sizes,
        spellings=spellings,
        damages=tuple(damages),
        partials=dict(sorted(partials.items())),
    )


def declared_names(manifest: BundleManifest) -> set[str]:
    """The bag-relative names of every part and tag file; parity shards are known by their form instead."""
    parts = {payload_name(part.name) for part, _ in manifest.parts()}
    return parts | {*TAG_FILES, *OPTIONAL_TAG_FILES}


def _is_partial(entry: media_fs.Entry, declared: Collection[str]) -> bool:
    """Whether it is a declared file that is being written, or was when its writer was killed."""
    name = entry.name.removesuffix(media_fs.PARTIAL_SUFFIX)
    is_ours = name in declared or is_parity(name.removeprefix(_PAYLOAD))
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
    """The damage that a part's size alone shows: missing, too short or too long; ``None`` if it is right."""
    found = stock.sizes.get(payload_name(part.name))
    if found is None:
        return Damage.of_part(Code.PART_MISSING, part)
    if found != part.size_bytes:
        return Damage.of_part(Code.PART_TRUNCATED, part, f"{found} bytes, not {part.size_bytes}")
    return None


def _read_tag_files(folder: Path, stock: Stock) -> tuple[dict[str, bytes], list[Damage]]:
    """The bag's texts and envelope, each read with a limit, and what could not be read."""
    contents: dict[str, bytes] = {}
    damages: list[Damage] = []
    for name in (*TAG_FILES, *OPTIONAL_TAG_FILES):
        if name not in stock.sizes:
            if name in TAG_FILES:
                damages.append(Damage(code=Code.BAG_MALFORMED, name=name, detail="missing"))
            continue
        path = folder / stock.spellings.get(name, name)
        limit = MAX_ENVELOPE_BYTES if name == ENVELOPE_NAME else MAX_TEXT_BYTES
        try:
            contents[name] = media_fs.read_capped(path, name, max_bytes=limit)
        except MediaError as error:
            damages.append(Damage(code=error.code, name=name, detail=error.detail))
        except UntrustedInputError as error:
            damages.append(Damage(code=Code.BAG_MALFORMED, name=name, detail=error.detail))
    return contents, damages
