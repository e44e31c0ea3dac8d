"""The texts of a bag, written and read: RFC 8493, the BagIt File Packaging Format.

They let any BagIt tool, or ``sha256sum -c manifest-sha256.txt``, check a volume. They prove nothing about who
made
it: that is the envelope's part. Checks here are pure: texts in, findings out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime

from airgap import __version__
from airgap.damage import Damage
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME, BundleManifest

PAYLOAD_FOLDER = "data"
DECLARATION = "bagit.txt"
BAG_INFO = "bag-info.txt"
PAYLOAD_MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
TEXT_FILES = (DECLARATION, BAG_INFO, PAYLOAD_MANIFEST, TAG_MANIFEST)
TAG_FILES = (*TEXT_FILES, ENVELOPE_NAME)
"""In the order they are written: with the envelope, last, the bag is complete."""

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""A manifest line has 95 bytes, a bundle at most 120,000 parts."""

_DECLARATION_TEXT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_MANIFEST_LINE = re.compile(r"([0-9A-Fa-f]{64})[ \t]+\*?(\S.*)")
_BAG_COUNT = re.compile(r"[1-9][0-9]{0,3} of (?:[1-9][0-9]{0,3}|\?)")


def payload_name(part_name: str) -> str:
    """Where a part stands in the bag: ``data/001/00000001.part``."""
    return f"{PAYLOAD_FOLDER}/{part_name}"


def bag_texts(manifest: BundleManifest, envelope: bytes, *, now: datetime) -> dict[str, bytes]:
    """The content of each of :data:`TEXT_FILES`, by name, in the order of writing."""
    texts = {
        DECLARATION: _DECLARATION_TEXT,
        BAG_INFO: _info_text(manifest, now),
        PAYLOAD_MANIFEST: "".join(
            f"{sha256}  {payload_name(part.name)}\n" for part, sha256 in manifest.parts()
        ),
    }
    contents = {name: text.encode("utf-8") for name, text in texts.items()}
    tagged = contents | {ENVELOPE_NAME: envelope}
    contents[TAG_MANIFEST] = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(tagged.items())
    ).encode("utf-8")
    return contents


def _info_text(manifest: BundleManifest, now: datetime) -> str:
    return (
        f"Source-Organization: {manifest.source.registry}\n"
        f"Bagging-Date: {now:%Y-%m-%d}\n"
        f"Bag-Group-Identifier: {manifest.transfer_id}\n"
        "Bag-Count: 1 of 1\n"
        f"Payload-Oxum: {_oxum(manifest)}\n"
        f"Bag-Software-Agent: offline-mover {__version__}\n"
    )


def _oxum(manifest: BundleManifest) -> str:
    return f"{manifest.size_bytes}.{manifest.part_count}"


def check_texts(manifest: BundleManifest, contents: Mapping[str, bytes]) -> list[Damage]:
    """What is wrong with the tag files, one finding a file.

    Args:
        manifest: the trusted bundle manifest.
        contents: the bytes of each of :data:`TAG_FILES` that could be read; the others are not judged here.
    """
    checks: dict[str, Callable[[str], str]] = {
        DECLARATION: _check_declaration,
        BAG_INFO: lambda text: _check_info(text, manifest),
        PAYLOAD_MANIFEST: lambda text: _check_payload_manifest(text, manifest),
        TAG_MANIFEST: _check_tag_manifest,
    }
    found: dict[str, str] = {}
    for name, check in checks.items():
        if name in contents:
            text = _decode(contents[name])
            why = "not UTF-8 text" if text is None else check(text)
            if why:
                found[name] = why
    if TAG_MANIFEST in contents and TAG_MANIFEST not in found:
        listed = _read_manifest(contents[TAG_MANIFEST].decode("utf-8")) or {}
        for name, sha256 in listed.items():
            if name in contents and hashlib.sha256(contents[name]).hexdigest() != sha256:
                found.setdefault(name, f"not what {TAG_MANIFEST} says")
    return [Damage(code=Code.BAG_MALFORMED, name=name, detail=why) for name, why in found.items()]


def _decode(content: bytes) -> str | None:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _lines(text: str) -> list[str]:
    """Lines ended by LF, CR or CRLF (RFC 8493 §2.1.1), and by nothing else."""
    return re.split(r"\r\n|\r|\n", text.removesuffix("\n").removesuffix("\r"))


def _check_declaration(text: str) -> str:
    return "" if _lines(text) == _lines(_DECLARATION_TEXT) else "not the declaration of BagIt 1.0 in UTF-8"


def _check_info(text: str, manifest: BundleManifest) -> str:
    elements: dict[str, str] = {}
    for line in _lines(text):
        label, colon, value = line.partition(":")
        if not colon:
            return "a line is not of the form label: value"
        elements[label.strip().casefold()] = value.strip()
    if elements.get("bag-group-identifier") != manifest.transfer_id:
        return f"Bag-Group-Identifier is not {manifest.transfer_id}"
    if elements.get("payload-oxum") != _oxum(manifest):
        return f"Payload-Oxum is not {_oxum(manifest)}"
    if not _BAG_COUNT.fullmatch(elements.get("bag-count", "")):
        return "Bag-Count is not of the form 1 of 1"
    return ""


def _check_payload_manifest(text: str, manifest: BundleManifest) -> str:
    listed = _read_manifest(text)
    if listed is None:
        return "a line is not of the form digest and name, or a name occurs twice"
    expected = {payload_name(part.name): sha256 for part, sha256 in manifest.parts()}
    return "" if listed == expected else "not the parts of the bundle manifest"


def _check_tag_manifest(text: str) -> str:
    listed = _read_manifest(text)
    if listed is None:
        return "a line is not of the form digest and name, or a name occurs twice"
    return "" if listed.keys() == set(TAG_FILES) - {TAG_MANIFEST} else "does not list every tag file"


def _read_manifest(text: str) -> dict[str, str] | None:
    """Digest by name, the digests in lower case; ``None`` unless every line is well formed."""
    matches = [_MANIFEST_LINE.fullmatch(line) for line in _lines(text)]
    listed = {match[2]: match[1].lower() for match in matches if match}
    return listed if len(listed) == len(matches) else None
