"""The ledger: which sequence numbers of a channel are taken, and by which bundle manifest.

One small JSON blob for each (channel, sequence), created with ``If-None-Match: *``, so that taking a number
is atomic. The source takes numbers to seal bundles, the target to admit them. The storage is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from airgap import fields
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.manifest import BundleManifest
from airgap.policy import Order
from airgap.strict_json import dump_canonical, load_strict

MAX_ENTRY_BYTES = 4096
_ENTRY_NAME = re.compile(r"[a-z0-9-]{1,63}/([0-9]{16})\.json")
_READ = fields.FieldReader(Code.MANIFEST_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """Who took a sequence number: ``owner`` is the id of the orchestration that did."""

    channel: str
    sequence: int
    manifest_sha256: str
    transfer_id: str
    owner: str
    taken_at: datetime

    @property
    def name(self) -> str:
        """Blob name; zero-padded, so that a listing comes in order of sequence."""
        return entry_name(self.channel, self.sequence)

    def to_bytes(self) -> bytes:
        """The entry as canonical JSON."""
        return dump_canonical(
            {
                "schema": 1,
                "channel": self.channel,
                "sequence": self.sequence,
                "manifestDigest": f"sha256:{self.manifest_sha256}",
                "transferId": self.transfer_id,
                "owner": self.owner,
                "takenAt": format_time(self.taken_at),
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read an entry.

        Raises:
            UntrustedInputError: ``TOO_LARGE`` or ``MANIFEST_MALFORMED``: somebody wrote into the ledger.
        """
        value: Any = _READ.members(
            load_strict(raw, max_bytes=MAX_ENTRY_BYTES, code=Code.MANIFEST_MALFORMED),
            "ledger entry",
            *("schema", "channel", "sequence", "manifestDigest", "transferId", "owner", "takenAt"),
        )
        if type(value["schema"]) is not int or value["schema"] != 1:
            _READ.refuse("schema", "this version reads schema 1 only")
        digest = _READ.text(value["manifestDigest"], "manifestDigest", pattern=fields.DIGEST)
        return cls(
            channel=_READ.text(value["channel"], "channel", pattern=fields.CHANNEL),
            sequence=_READ.integer(value["sequence"], "sequence", least=1),
            manifest_sha256=digest.removeprefix("sha256:"),
            transfer_id=_READ.text(value["transferId"], "transferId", pattern=fields.TRANSFER_ID),
            owner=_READ.text(value["owner"], "owner", limit=256),
            taken_at=_READ.time(value["takenAt"], "takenAt"),
        )


def entry_name(channel: str, sequence: int) -> str:
    """``<channel>/0000000000000007.json``."""
    return f"{channel}/{sequence:016d}.json"


def sequence_of(name: str) -> int | None:
    """The sequence number in a ledger blob's name; ``None`` for any other name."""
    match = _ENTRY_NAME.fullmatch(name)
    return int(match[1]) if match else None


def judge_sequence(manifest: BundleManifest, order: Order, taken: Iterable[int]) -> tuple[int, ...]:
    """Whether the channel may take the manifest's number, given the numbers ``taken`` by *other* bundles.

    Returns:
        The numbers below it that are missing, ascending, at most 100 of them; for the record.

    Raises:
        PolicyRefusal: ``OUT_OF_ORDER`` or ``SEQUENCE_GAP``. A number that is taken itself is not judged here:
            see :func:`judge_taken`.
    """
    known = set(taken)
    highest = max(known, default=0)
    if order is not Order.ONCE and manifest.sequence <= highest:
        raise PolicyRefusal(
            Code.OUT_OF_ORDER, f"sequence {manifest.sequence}, after {highest} of channel {manifest.channel}"
        )
    if order is Order.CONTIGUOUS and manifest.sequence != highest + 1:
        raise PolicyRefusal(Code.SEQUENCE_GAP, f"sequence {manifest.sequence}, next would be {highest + 1}")
    first = max(1, manifest.sequence - 100)
    return tuple(number for number in range(first, manifest.sequence) if number not in known)


def judge_taken(entry: LedgerEntry, *, manifest_sha256: str, owner: str) -> None:
    """Whether a number that is taken is taken by this very owner for this very manifest, as after a retry.

    Raises:
        PolicyRefusal: ``REPLAYED`` (same manifest, decided upon by another orchestration) or
            ``SEQUENCE_REUSED`` (another manifest: the source signed two with one number).
    """
    if entry.manifest_sha256 != manifest_sha256:
        raise PolicyRefusal(
            Code.SEQUENCE_REUSED, f"sequence {entry.sequence} belongs to transfer {entry.transfer_id}"
        )
    if entry.owner != owner:
        raise PolicyRefusal(Code.REPLAYED, f"admitted at {format_time(entry.taken_at)}")


def require_entry(entry: LedgerEntry, *, channel: str, sequence: int) -> LedgerEntry:
    """``entry`` if it says what its name says; a moved entry is refused.

    Raises:
        UntrustedInputError: ``MANIFEST_MALFORMED``.
    """
    if (entry.channel, entry.sequence) != (channel, sequence):
        raise UntrustedInputError(
            Code.MANIFEST_MALFORMED, f"ledger entry {entry_name(channel, sequence)} speaks of {entry.name}"
        )
    return entry
