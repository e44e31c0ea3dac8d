"""The texts of a bag, written and read: RFC 8493, the BagIt File Packaging Format.

A transfer may be spread over several volumes; each holds one bag of the group, with the parts that are on
it. The texts let any BagIt tool, or ``sha256sum -c manifest-sha256.txt``, check a volume. They prove nothing
about who made it: that is the envelope's part. Checks here are pure: texts in, findings out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from airgap import __version__
from airgap.damage import Damage
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.parity import LAYOUT_NAME, SHARD_NAME, ParityLayout
from airgap.statement import MAX_SUBJECTS

PAYLOAD_FOLDER = "data"
DECLARATION = "bagit.txt"
BAG_INFO = "bag-info.txt"
PAYLOAD_MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
TEXT_FILES = (DECLARATION, BAG_INFO, PAYLOAD_MANIFEST, TAG_MANIFEST)
OPTIONAL_TAG_FILES = (LAYOUT_NAME,)
TAG_FILES = (*TEXT_FILES, ENVELOPE_NAME)
"""In the order they are written: with the envelope, last, the bag is complete."""

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""A manifest line has 95 bytes, a bundle at most 120,000 parts."""

MANIFEST_LINE_BYTES = 100
_MAX_LINES = 2 * MAX_SUBJECTS
"""Of any text: parts and parity shards together are fewer. Counted before a text is split."""

_DECLARATION_TEXT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_MANIFEST_LINE = re.compile(r"([0-9A-Fa-f]{64})[ \t]+\*?(\S.*)")
_BAG_COUNT = re.compile(r"([1-9][0-9]{0,3}) of ([1-9][0-9]{0,3}|\?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A bag's place in its group, such as 2 of 3; ``of`` is ``None`` for a bag of re-carried parts."""

    number: int
    of: int | None

    def __str__(self) -> str:
        return f"{self.number} of {'?' if self.of is None else self.of}"


class ListedFile(NamedTuple):
    """A payload file as a bag's texts list it: a part as it was signed, or a parity shard as it was made."""

    sha256: str
    """In hex."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The content of one bag: its place, and its payload files by their names below ``data/``."""

    place: Place
    files: Mapping[str, ListedFile]
    layout: bytes | None = None
    """The tag file with the layout of the parity shards, where there are any."""

    @property
    def oxum(self) -> str:
        """The member ``Payload-Oxum``: ``octets.files`` (RFC 8493 §2.2.2)."""
        return f"{sum(size for _, size in self.files.values())}.{len(self.files)}"


def is_parity(name: str) -> bool:
    """Whether a payload name is a parity shard's."""
    return bool(SHARD_NAME.fullmatch(name))


def payload_name(part_name: str) -> str:
    """The path of a part in the bag, such as ``data/001/00000001.part``."""
    return f"{PAYLOAD_FOLDER}/{part_name}"


def bag_texts(
    manifest: BundleManifest, envelope: bytes, contents: Contents, *, now: datetime
) -> dict[str, bytes]:
    """The content of each tag file but the envelope, by name, in the order in which they are written."""
    texts = {
        DECLARATION: _DECLARATION_TEXT,
        BAG_INFO: _info_text(manifest, contents, now),
        PAYLOAD_MANIFEST: "".join(
            f"{sha256}  {payload_name(name)}\n" for name, (sha256, _) in contents.files.items()
        ),
    }
    written = {name: text.encode("utf-8") for name, text in texts.items()}
    if contents.layout is not None:
        written[LAYOUT_NAME] = contents.layout
    tagged = written | {ENVELOPE_NAME: envelope}
    written[TAG_MANIFEST] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(tagged.items())
    ).encode("utf-8")
    return written


def _info_text(manifest: BundleManifest, contents: Contents, now: datetime) -> str:
    return (
        f"Source-Organization: {manifest.source.registry}\n"
        f"Bagging-Date: {now:%Y-%m-%d}\n"
        f"Bag-Group-Identifier: {manifest.transfer_id}\n"
        f"Bag-Count: {contents.place}\n"
        f"Payload-Oxum: {contents.oxum}\n"
        f"Bag-Software-Agent: offline-mover {__version__}\n"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BagTexts:
    """The content of a bag's texts; ``listed`` and ``place`` are ``None`` where they could not be read."""

    listed: Mapping[str, str] | None
    """Hex SHA-256 by payload name below ``data/``, in the order of the lines: what the volume should hold."""
    place: Place | None
    damages: tuple[Damage, ...]
    layout: ParityLayout | None = None
    """Of the parity shards, if the bag says how they were made."""


def read_texts(manifest: BundleManifest, contents: Mapping[str, bytes], held: Mapping[str, int]) -> BagTexts:
    """Read the tag files of a bag, and find what is wrong with them, one finding for each file.

    Args:
        manifest: the trusted bundle manifest.
        contents: the bytes of each tag file that could be read; the others are not judged here.
        held: size of each payload file that is on the volume, by its name below ``data/``.
    """
    listed = _listed_payload(contents.get(PAYLOAD_MANIFEST))
    checks: dict[str, Callable[[str], str]] = {
        DECLARATION: _check_declaration,
        BAG_INFO: lambda text: _check_info(text, manifest, listed, held),
        PAYLOAD_MANIFEST: lambda _: _check_payload_manifest(listed, manifest, held),
        TAG_MANIFEST: lambda text: _check_tag_manifest(text, contents),
    }
    found: dict[str, str] = {}
    for name, check in checks.items():
        if name in contents:
            text = _decode(contents[name])
            why = "not UTF-8 text, or far too many lines" if text is None else check(text)
            if why:
                found[name] = why
    if TAG_MANIFEST in contents and TAG_MANIFEST not in found:
        for name, sha256 in (_read_manifest(contents[TAG_MANIFEST].decode("utf-8")) or {}).items():
            if name in contents and hashlib.sha256(contents[name]).hexdigest() != sha256:
                found.setdefault(name, f"not what {TAG_MANIFEST} says")
    return BagTexts(
        listed=None if PAYLOAD_MANIFEST in found else listed,
        place=_read_place(contents.get(BAG_INFO)),
        damages=tuple(Damage(code=Code.BAG_MALFORMED, name=name, detail=why) for name, why in found.items()),
    )


def read_place(info: bytes) -> Place | None:
    """The place that ``bag-info.txt`` claims; ``None`` if it names none."""
    return _read_place(info)


def _decode(content: bytes) -> str | None:
    """The text, if it is one that is worth splitting into lines."""
    if content.count(b"\n") + content.count(b"\r") > 2 * _MAX_LINES:  # a line may end in both
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _lines(text: str) -> list[str]:
    """Lines ended by LF, CR or CRLF (RFC 8493 §2.1.1), and by nothing else."""
    return re.split(r"\r\n|\r|\n", text.removesuffix("\n").removesuffix("\r"))


def _check_declaration(text: str) -> str:
    return "" if _lines(text) == _lines(_DECLARATION_TEXT) else "not the declaration of BagIt 1.0 in UTF-8"


def _elements(text: str) -> dict[str, str] | None:
    elements: dict[str, str] = {}
    for line in _lines(text):
        label, colon, value = line.partition(":")
        if not colon:
            return None
        elements[label.strip().casefold()] = value.strip()
    return elements


def _check_info(
    text: str, manifest: BundleManifest, listed: Mapping[str, str] | None, held: Mapping[str, int]
) -> str:
    elements = _elements(text)
    if elements is None:
        return "a line is not of the form label: value"
    if elements.get("bag-group-identifier") != manifest.transfer_id:
        return f"Bag-Group-Identifier is not {manifest.transfer_id}"
    if not _BAG_COUNT.fullmatch(elements.get("bag-count", "")):
        return "Bag-Count is not of the form 1 of 3"
    if listed is not None and listed.keys() <= held.keys():
        oxum = f"{sum(_signed_sizes(manifest, listed, held))}.{len(listed)}"
        if elements.get("payload-oxum") != oxum:
            return f"Payload-Oxum is not {oxum}"
    return ""


def _signed_sizes(manifest: BundleManifest, listed: Mapping[str, str], held: Mapping[str, int]) -> list[int]:
    """The bytes of each listed file: the signed size, where there is one; a short part is told elsewhere."""
    signed = {part.name: part.size_bytes for part, _ in manifest.parts()}
    return [signed.get(name, held[name]) for name in listed]


def _read_place(info: bytes | None) -> Place | None:
    elements = _elements((None if info is None else _decode(info)) or "")
    match = _BAG_COUNT.fullmatch((elements or {}).get("bag-count", ""))
    if match is None:
        return None
    place = Place(number=int(match[1]), of=None if match[2] == "?" else int(match[2]))
    return place if place.of is None or place.number <= place.of else None


def _listed_payload(content: bytes | None) -> dict[str, str] | None:
    """The lines of ``manifest-sha256.txt``; a bag without payload has an empty one."""
    text = None if content is None else _decode(content)
    listed = {} if text == "" else None if text is None else _read_manifest(text)
    if listed is None or not all(name.startswith(f"{PAYLOAD_FOLDER}/") for name in listed):
        return None
    return {name.removeprefix(f"{PAYLOAD_FOLDER}/"): sha256 for name, sha256 in listed.items()}


def _check_payload_manifest(
    listed: Mapping[str, str] | None, manifest: BundleManifest, held: Mapping[str, int]
) -> str:
    if listed is None:
        return "a line is not of the form digest and data/ name, or a name occurs twice"
    signed = {part.name: sha256 for part, sha256 in manifest.parts()}
    for name, sha256 in listed.items():
        if name not in signed and not is_parity(name):
            return "names a file that the bundle manifest does not"
        if signed.get(name, sha256) != sha256:
            return "not the digests of the bundle manifest"
    if held.keys() - listed.keys():
        return "does not list every part on the volume"
    return ""


def _check_tag_manifest(text: str, contents: Mapping[str, bytes]) -> str:
    listed = _read_manifest(text)
    if listed is None:
        return "a line is not of the form digest and name, or a name occurs twice"
    needed = set(TAG_FILES) - {TAG_MANIFEST}
    optional = {name for name in OPTIONAL_TAG_FILES if name in contents}
    if not needed | optional <= listed.keys() <= needed | set(OPTIONAL_TAG_FILES):
        return "does not list every tag file"
    return ""


def _read_manifest(text: str) -> dict[str, str] | None:
    """Digest by name, the digests in lower case; ``None`` unless every line is well formed."""
    matches = [_MANIFEST_LINE.fullmatch(line) for line in _lines(text)]
    listed = {match[2]: match[1].lower() for match in matches if match}
    return listed if len(listed) == len(matches) else None
