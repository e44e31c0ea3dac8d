"""The bundles on a volume, and which of how many volumes it is: by that it is told from others.

A label and a serial are chosen by whoever formats a medium. A bundle's digest is not, and beside it stands
which of its volumes a medium is. Nothing of this is trusted: a volume that lies about it is told from the one
that it was, and one that is copied with all that is on it cannot be told from the other by anybody.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from airgap import fields
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import AirgapError
from airgap.manifest import ENVELOPE_NAME
from offline_mover.medium import media_fs

_BAG_INFO = "bag-info.txt"
_MAX_INFO_BYTES = 64 * 1024
_MOST_NAMES = 100_000
_MOST_BUNDLES = 100
"""Of one volume; whoever carries more of them at once has logs to tell the volumes apart."""

_BAG_COUNT = re.compile(
    rb"^bag-count[ \t]*:[ \t]*([1-9]\d{0,3}) of ([1-9]\d{0,3}|\?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedBundle:
    """A bundle on a volume: the hex SHA-256 of its manifest, and which of how many volumes this is.

    ``number`` and ``of`` are ``None`` where the volume does not say; ``of`` alone is for re-carried parts.
    """

    transfer_id: str
    manifest_sha256: str
    number: int | None
    of: int | None

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that stand for transfer, manifest digest and place together."""
        told = f"{self.transfer_id} {self.manifest_sha256} {self.number} {self.of}"
        return hashlib.sha256(told.encode("ascii")).hexdigest()[:16]


def carried_bundles(volume: Path) -> tuple[CarriedBundle, ...]:
    """The bundles on a volume, by their transfers; what cannot be read is left out, and nothing is raised."""
    try:
        names = media_fs.names_in(volume, most=_MOST_NAMES)
    except (AirgapError, OSError):
        return ()
    ids = sorted(name for name in names if fields.TRANSFER_ID.fullmatch(name))
    return tuple(bundle for name in ids[:_MOST_BUNDLES] if (bundle := _bundle(volume / name)))


def _bundle(folder: Path) -> CarriedBundle | None:
    try:
        if not media_fs.is_real_folder(folder):
            return None
        raw = media_fs.read_capped(folder / ENVELOPE_NAME, ENVELOPE_NAME, max_bytes=MAX_ENVELOPE_BYTES)
        payload = Envelope.from_bytes(raw).payload
    except (AirgapError, OSError):
        return None
    try:
        info = media_fs.read_capped(folder / _BAG_INFO, _BAG_INFO, max_bytes=_MAX_INFO_BYTES)
    except (AirgapError, OSError):
        info = b""
    place = _BAG_COUNT.search(info)
    return CarriedBundle(
        transfer_id=folder.name,
        manifest_sha256=hashlib.sha256(payload).hexdigest(),
        number=int(place[1]) if place else None,
        of=int(place[2]) if place and place[2] != b"?" else None,
    )
