"""The ledger: which sequence numbers of a channel are taken, and by which bundle manifest.

One small JSON blob for each (channel, sequence), created with ``If-None-Match: *``, so that taking a number
is atomic. The source takes numbers to seal bundles, the target to admit them. The storage is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from airgap import fields
from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.manifest import BundleManifest, Void, manifest_digest
from airgap.policy import Channel, OnGap, Order
from airgap.signatures import Key
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

MAX_ENTRY_BYTES = 4096
MAX_MISSING = 100
"""Of the lower numbers of a channel that never came, so many are named."""

_ENTRY_NAME = re.compile(r"[a-z0-9-]{1,63}/([0-9]{16})\.json")
_VOID_NAME = re.compile(r"voids/[a-z0-9-]{1,63}/([0-9]{16})\.json")
_READ = fields.FieldReader(Code.MANIFEST_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """The record of who took a sequence number; ``owner`` is the id of the orchestration that did.

    Raises:
        UntrustedInputError: ``MANIFEST_MALFORMED``, naming the field at fault: what exists can be read.
    """

    channel: str
    sequence: int
    manifest_sha256: str
    transfer_id: str
    owner: str
    taken_at: datetime

    def __post_init__(self) -> None:
        _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
        _READ.integer(self.sequence, "sequence", least=1)
        _READ.text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)
        _READ.text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
        _READ.text(self.owner, "owner", limit=256)
        _READ.moment(self.taken_at, "takenAt")

    @property
    def name(self) -> str:
        """The name of the entry's blob, its number zero-padded, so that a listing comes in order."""
        return entry_name(self.channel, self.sequence)

    def to_bytes(self) -> bytes:
        """The entry as canonical JSON (RFC 8785)."""
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
        """Read a ledger entry from the bytes of its blob.

        Raises:
            UntrustedInputError: ``NEWER_FORMAT``: a newer app wrote it; ``TOO_LARGE``,
                ``MANIFEST_MALFORMED``: it is no entry, so somebody else wrote into the ledger.
        """
        value = load_strict(raw, max_bytes=MAX_ENTRY_BYTES, code=Code.MANIFEST_MALFORMED)
        return cls(**_FORMAT.of_document(value)(value))


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`LedgerEntry`; its constructor checks them."""
    value = _READ.members(
        raw,
        "ledger entry",
        *("schema", "channel", "sequence", "manifestDigest", "transferId", "owner", "takenAt"),
    )
    return {
        "channel": value["channel"],
        "sequence": value["sequence"],
        "manifest_sha256": _READ.sha256(value["manifestDigest"], "manifestDigest"),
        "transfer_id": value["transferId"],
        "owner": value["owner"],
        "taken_at": _READ.time(value["takenAt"], "takenAt"),
    }


_FORMAT = Format(name="ledger entry", read=_READ, readers={1: _read_v1})


def entry_name(channel: str, sequence: int) -> str:
    """The name of a ledger entry's blob, such as ``<channel>/0000000000000007.json``."""
    return f"{channel}/{sequence:016d}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The number at which the numbers of a channel begin, or go on after an earlier ledger.

    Args:
        sequence: the lowest number that is given.
        previous_sha256: the manifest digest (hex) of the number before; ``None`` for the first of all.

    Raises:
        UntrustedInputError: ``MANIFEST_MALFORMED``, naming the field at fault.
    """

    sequence: int = 1
    previous_sha256: str | None = None

    def __post_init__(self) -> None:
        _READ.integer(self.sequence, "sequence", least=1)
        _READ.optional_text(self.previous_sha256, "previous", pattern=fields.SHA256_HEX)
        if (self.sequence == 1) != (self.previous_sha256 is None):
            _READ.refuse("previous", "null for sequence 1 and only there")

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read the object ``{"sequence", "previous"}``; refuses with ``MANIFEST_MALFORMED``."""
        value = _READ.members(raw, where, "sequence", "previous")
        previous = value["previous"]
        with _READ.within(where):
            sha256 = None if previous is None else _READ.sha256(previous, "previous")
            return cls(sequence=value["sequence"], previous_sha256=sha256)


def free_number(taken: Iterable[int], floor: int) -> int:
    """The lowest number, not below ``floor``, that is not taken.

    A source gives its numbers without a gap. So an entry far above, whoever wrote it, closes no channel.
    """
    known = set(taken)
    number = floor
    while number in known:
        number += 1
    return number


def prove_entry(entry: LedgerEntry, envelope_bytes: bytes | None, keys: Iterable[Key]) -> BundleManifest:
    """The bundle manifest for which an entry was written, if one of ``keys`` has signed it.

    Whoever can write into the ledger can write any entry, and any envelope, but not sign one.

    Args:
        entry: the entry as it lies in the ledger.
        envelope_bytes: the envelope under the entry's manifest digest; ``None`` if there is none.
        keys: the keys whose signatures count.

    Raises:
        UntrustedInputError: ``LEDGER_UNPROVEN``: no such signature, or the manifest is another one, or it is
            of another channel, number or transfer.
    """
    try:
        envelope = Envelope.from_bytes(envelope_bytes or b"")
        checks = envelope.check_signatures(keys).values()
        is_signed = SignatureCheck.VALID in checks
        manifest = BundleManifest.from_bytes(envelope.payload) if is_signed else None
    except UntrustedInputError:
        manifest = None
    if manifest is None or _stated(manifest, manifest_digest(envelope.payload)) != (
        entry.channel,
        entry.sequence,
        entry.transfer_id,
        entry.manifest_sha256,
    ):
        raise UntrustedInputError(Code.LEDGER_UNPROVEN, f"nobody who counts has signed {entry.name}")
    return manifest


def _stated(manifest: BundleManifest, sha256: str) -> tuple[str, int, str, str]:
    """What the ledger entry of a manifest says of it."""
    return manifest.channel, manifest.sequence, manifest.transfer_id, sha256


def sequence_of(name: str) -> int | None:
    """The sequence number that a ledger blob's name tells; ``None`` for any other name."""
    match = _ENTRY_NAME.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidEntry:
    """The record that the source gave up a sequence number for good.

    ``manifest_sha256``: at the target, of the bundle manifest that says so; at the source, of the one that
    had the number.

    Raises:
        UntrustedInputError: ``MANIFEST_MALFORMED``, naming the field at fault: what exists can be read.
    """

    channel: str
    void: Void
    manifest_sha256: str

    def __post_init__(self) -> None:
        _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
        _READ.instance(self.void, "void", Void)
        _READ.text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)

    @property
    def name(self) -> str:
        """The name of the entry's blob, such as ``voids/<channel>/0000000000000007.json``."""
        return void_name(self.channel, self.void.sequence)

    def to_bytes(self) -> bytes:
        """The entry as canonical JSON (RFC 8785)."""
        return dump_canonical(
            {
                "schema": 1,
                "channel": self.channel,
                **self.void.to_json(),
                "manifestDigest": f"sha256:{self.manifest_sha256}",
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a void entry from the bytes of its blob.

        Raises:
            UntrustedInputError: ``NEWER_FORMAT``: a newer app wrote it; ``TOO_LARGE``,
                ``MANIFEST_MALFORMED``: it is no entry, so somebody else wrote into the ledger.
        """
        value = load_strict(raw, max_bytes=MAX_ENTRY_BYTES, code=Code.MANIFEST_MALFORMED)
        return cls(**_VOID_FORMAT.of_document(value)(value))


def _read_void_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`VoidEntry`; its constructor checks them."""
    value = _READ.members(
        raw, "void entry", "schema", "channel", "sequence", "reason", "who", "manifestDigest"
    )
    return {
        "channel": value["channel"],
        "void": Void(sequence=value["sequence"], reason=value["reason"], who=value["who"]),
        "manifest_sha256": _READ.sha256(value["manifestDigest"], "manifestDigest"),
    }


_VOID_FORMAT = Format(name="void entry", read=_READ, readers={1: _read_void_v1})


def void_folder(channel: str) -> str:
    """The prefix of the names of all of a channel's void entries."""
    return f"voids/{channel}/"


def void_name(channel: str, sequence: int) -> str:
    """The name of a void entry's blob, such as ``voids/<channel>/0000000000000007.json``."""
    return f"{void_folder(channel)}{sequence:016d}.json"


def void_sequence_of(name: str) -> int | None:
    """The sequence number that a void entry's name tells; ``None`` for any other name."""
    match = _VOID_NAME.fullmatch(name)
    return int(match[1]) if match else None


def awaited_number(taken: Iterable[int], voids: Collection[int]) -> int:
    """The number that must come next in a channel without gaps: above the highest taken, and not void."""
    number = max(taken, default=0) + 1
    while number in voids:
        number += 1
    return number


def judge_sequence(
    manifest: BundleManifest,
    channel: Channel,
    taken: Iterable[int],
    voids: Collection[int] = frozenset(),
    lifted: Collection[Code] = frozenset(),
) -> tuple[int, ...]:
    """Refuse a manifest's number that its channel may not take, and tell which numbers below it are missing.

    Args:
        manifest: the bundle manifest whose number is judged.
        channel: the conditions of its channel.
        taken: the numbers that *other* bundles have taken.
        voids: numbers that other manifests of the channel called void: the source that signed them gave them
            up
            for good. They are not missing, nor are those that this manifest calls void.
        lifted: codes that an override lifts: ``OUT_OF_ORDER`` and ``SEQUENCE_GAP`` are not raised then.

    Returns:
        The numbers below it that are missing, ascending, at most 100 of them; for the record.

    Raises:
        PolicyRefusal: ``SEQUENCE_JUMP``: the number is further above the highest than the channel allows;
            without that, one bundle could close it for good. ``OUT_OF_ORDER``: a higher number was taken, and
            the
            channel asks for rising ones. ``SEQUENCE_GAP``: numbers below are missing, and the channel does
            not
            let gaps pass, be it for good (``refuse``) or until the missing ones came (``hold``).
            ``SEQUENCE_VOID``: it is one of ``voids`` itself.

    Not checked: whether the number itself is taken; :func:`judge_taken` does that.
    """
    known = set(taken)
    highest = max(known, default=0)
    if manifest.sequence in voids:
        raise PolicyRefusal(Code.SEQUENCE_VOID, f"sequence {manifest.sequence} of {manifest.channel}")
    if manifest.sequence - highest > channel.max_sequence_jump:
        raise PolicyRefusal(
            Code.SEQUENCE_JUMP,
            f"sequence {manifest.sequence}, after {highest} at most {channel.max_sequence_jump} further",
        )
    is_late = channel.order is Order.RISING and manifest.sequence <= highest
    if is_late and Code.OUT_OF_ORDER not in lifted:
        raise PolicyRefusal(
            Code.OUT_OF_ORDER, f"sequence {manifest.sequence}, after {highest} of channel {manifest.channel}"
        )
    void = {*voids, *(one.sequence for one in manifest.voids)}
    if channel.on_gap is not OnGap.RECORD and not is_late and Code.SEQUENCE_GAP not in lifted:
        following = awaited_number(known, void)
        if manifest.sequence != following:
            raise PolicyRefusal(Code.SEQUENCE_GAP, f"sequence {manifest.sequence}, next would be {following}")
    first = max(1, manifest.sequence - MAX_MISSING)
    return tuple(number for number in range(first, manifest.sequence) if number not in known | void)


def judge_taken(entry: LedgerEntry, *, manifest_sha256: str, owner: str) -> None:
    """Refuse a bundle whose number is taken, unless this very owner took it for this very manifest.

    The owner itself asks again after a retry.

    Args:
        entry: the ledger entry of the number.
        manifest_sha256: the hex digest of the manifest that asks for it.
        owner: the id of the orchestration that asks for it.

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


def judge_previous(manifest: BundleManifest, before: LedgerEntry | None) -> None:
    """Refuse a manifest that names another predecessor than the manifest that has the number before.

    Args:
        manifest: the bundle manifest that is judged.
        before: the ledger entry of the number before its own; ``None`` if nobody has taken that.

    Raises:
        PolicyRefusal: ``HISTORY_FORKED``: it names another manifest as its predecessor.
    """
    if before is not None and before.manifest_sha256 != manifest.previous_sha256:
        raise PolicyRefusal(
            Code.HISTORY_FORKED,
            f"sequence {manifest.sequence} follows manifest {manifest.previous_sha256}, "
            f"number {before.sequence} is {before.manifest_sha256}",
        )


def require_entry(entry: LedgerEntry, *, channel: str, sequence: int) -> LedgerEntry:
    """The entry itself, if it says what its name says: a blob that was moved to another name is refused.

    Raises:
        UntrustedInputError: ``MANIFEST_MALFORMED``: it speaks of another channel or number.
    """
    if (entry.channel, entry.sequence) != (channel, sequence):
        raise UntrustedInputError(
            Code.MANIFEST_MALFORMED, f"ledger entry {entry_name(channel, sequence)} speaks of {entry.name}"
        )
    return entry
