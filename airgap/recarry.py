"""The re-carry request: a list of the parts of one bundle that are to be brought again, and nothing else.

It is written where damage was found, and carried back to where the parts are. It is unsigned on purpose: who
carries
the media has no key, and needs none. All that a request can do is ask for parts that the bundle manifest
signs; whoever fetches them checks the envelope and every part's digest again, as if there were no request. A
forged one costs a trip or some time, never trust. Normative text: ``docs/format.md`` §10.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from airgap import fields
from airgap.errors import Code
from airgap.fields import format_time
from airgap.manifest import BundleManifest
from airgap.parts import MAX_PART_SIZE_BYTES, PART_NAME, SignedPart
from airgap.receipt import Receipt
from airgap.statement import MAX_SUBJECTS
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

REQUEST_NAME = "recarry.json"
MAX_REASON_CHARACTERS = 200
MAX_REQUEST_BYTES = 128 * MAX_SUBJECTS + 4096
"""A part takes at most 124 bytes in canonical JSON, a bundle has at most 120,000; the rest is the head."""

_HEAD_MEMBERS = 9
_PART_MEMBERS = 3
# Digests, names and times have neither brackets nor commas; a reason may consist of them.
_MAX_BRACKETS = 2 + MAX_SUBJECTS + MAX_REASON_CHARACTERS
_MAX_COMMAS = _HEAD_MEMBERS + _PART_MEMBERS * MAX_SUBJECTS + MAX_REASON_CHARACTERS
_READ = fields.FieldReader(Code.RECARRY_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPart:
    """A part to bring again: its name, hex SHA-256 and size in bytes, as the bundle manifest has them."""

    name: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        _READ.text(self.name, "name", pattern=PART_NAME)
        _READ.text(self.sha256, "sha256", pattern=fields.SHA256_HEX)
        _READ.integer(self.size_bytes, "size", least=1, most=MAX_PART_SIZE_BYTES)

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``parts``; refuses with ``RECARRY_MALFORMED``."""
        value = _READ.members(raw, where, "name", "sha256", "size")
        with _READ.within(where):
            return cls(name=value["name"], sha256=value["sha256"], size_bytes=value["size"])

    def to_json(self) -> dict[str, Any]:
        """The object ``{"name", "sha256", "size"}``."""
        return {"name": self.name, "sha256": self.sha256, "size": self.size_bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecarryRequest:
    """A request for parts, at least one, of the bundle ``manifest_sha256`` (hex), in the manifest's order.

    Raises:
        UntrustedInputError: ``RECARRY_MALFORMED``, naming the first field at fault: what exists can be read.

    Not checked here: whether there is such a bundle (:meth:`require_matches`), and who wrote the request.
    """

    transfer_id: str
    manifest_sha256: str
    channel: str
    requested_at: datetime
    parts: tuple[WantedPart, ...]
    reason: str | None = None

    def __post_init__(self) -> None:
        _READ.text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
        _READ.text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)
        _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
        _READ.moment(self.requested_at, "requestedAt")
        _READ.each(self.parts, "parts", _check_part, least=1, most=MAX_SUBJECTS)
        if any(part.name >= following.name for part, following in itertools.pairwise(self.parts)):
            _READ.refuse("parts", "not in the order of the bundle, or one occurs twice")
        _READ.optional_text(self.reason, "reason", limit=MAX_REASON_CHARACTERS)

    @property
    def size_bytes(self) -> int:
        """The size of all wanted parts together, in bytes."""
        return sum(part.size_bytes for part in self.parts)

    @classmethod
    def for_parts(
        cls,
        manifest: BundleManifest,
        manifest_sha256: str,
        names: Iterable[str],
        requested_at: datetime,
        *,
        reason: str | None = None,
    ) -> Self:
        """A request for the parts ``names`` of a manifest, given in any order, some perhaps twice.

        Args:
            manifest: the trusted bundle manifest.
            manifest_sha256: its hex digest.
            names: the names of at least one part of the manifest, such as ``001/00000001.part``.
            requested_at: now, aware.
            reason: a few words for whoever reads the file, at most 200 printable characters.

        Raises:
            UntrustedInputError: ``RECARRY_MALFORMED`` for a name that the manifest does not have, for no name
                at all and for a reason that no reader would accept.
        """
        wanted = set(names)
        parts = tuple(
            WantedPart(name=part.name, sha256=sha256, size_bytes=part.size_bytes)
            for part, sha256 in manifest.parts()
            if part.name in wanted
        )
        if unknown := wanted - {part.name for part in parts}:
            _READ.refuse("parts", f"the bundle manifest has no {min(unknown)[:80]!r}")
        return cls(
            transfer_id=manifest.transfer_id,
            manifest_sha256=manifest_sha256,
            channel=manifest.channel,
            requested_at=requested_at.replace(microsecond=0),
            parts=parts,
            reason=reason,
        )

    def to_bytes(self) -> bytes:
        """The request as canonical JSON: the content of :data:`REQUEST_NAME`."""
        request = {
            "schema": 1,
            "transferId": self.transfer_id,
            "manifestDigest": f"sha256:{self.manifest_sha256}",
            "channel": self.channel,
            "requestedAt": format_time(self.requested_at),
            "partCount": len(self.parts),
            "byteCount": self.size_bytes,
            "parts": [part.to_json() for part in self.parts],
        }
        if self.reason is not None:
            request["reason"] = self.reason
        return dump_canonical(request)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a request, which anybody may have written.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any request; ``NEWER_FORMAT``: a newer tool
                wrote it; ``RECARRY_MALFORMED``, naming the first field at fault.
        """
        # Nobody vouches for these bytes, and a parser makes objects of many times their size from short
        # members; a request has few of them for its length.
        if len(raw) <= MAX_REQUEST_BYTES and (
            raw.count(b"{") + raw.count(b"[") > _MAX_BRACKETS or raw.count(b",") > _MAX_COMMAS
        ):
            _READ.refuse("request", "more members than any request has")
        value = load_strict(raw, max_bytes=MAX_REQUEST_BYTES, code=Code.RECARRY_MALFORMED)
        return cls(**_FORMAT.of_document(value)(value))

    def require_matches(self, manifest: BundleManifest, manifest_sha256: str) -> tuple[SignedPart, ...]:
        """The wanted parts as the bundle manifest has them, in order, each with its signed hex SHA-256.

        Args:
            manifest: a bundle manifest whose envelope the trust policy accepts.
            manifest_sha256: its hex digest.

        Raises:
            UntrustedInputError: ``RECARRY_MALFORMED`` when the request is for another bundle, or names a part
                that the manifest does not have with that digest and that size.
        """
        if self.manifest_sha256 != manifest_sha256:
            _READ.refuse("manifestDigest", f"for the bundle sha256:{self.manifest_sha256}, not this one")
        if (self.transfer_id, self.channel) != (manifest.transfer_id, manifest.channel):
            _READ.refuse("transferId", "not the transfer and the channel of the bundle manifest")
        wanted = {part.name: part for part in self.parts}
        found: list[SignedPart] = []
        for part, sha256 in manifest.parts():
            asked = wanted.pop(part.name, None)
            if asked is None:
                continue
            if (asked.sha256, asked.size_bytes) != (sha256, part.size_bytes):
                _READ.refuse(part.name, "its digest or size is not the signed one")
            found.append(SignedPart(part, sha256))
        if wanted:
            _READ.refuse(min(wanted), "not a part of the bundle manifest")
        return tuple(found)


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`RecarryRequest`; its constructor checks them."""
    value = _READ.members(
        raw,
        "request",
        *("schema", "transferId", "manifestDigest", "channel"),
        *("requestedAt", "partCount", "byteCount", "parts"),
        optional=("reason",),
    )
    parts = _READ.items(value["parts"], "parts", WantedPart.from_json, least=1, most=MAX_SUBJECTS)
    if _READ.integer(value["partCount"], "partCount") != len(parts):
        _READ.refuse("partCount", f"not {len(parts)}, the number of parts")
    if _READ.integer(value["byteCount"], "byteCount") != sum(part.size_bytes for part in parts):
        _READ.refuse("byteCount", "not the bytes of the parts")
    return {
        "transfer_id": value["transferId"],
        "manifest_sha256": _READ.sha256(value["manifestDigest"], "manifestDigest"),
        "channel": value["channel"],
        "requested_at": _READ.time(value["requestedAt"], "requestedAt"),
        "parts": parts,
        "reason": _READ.text(value["reason"], "reason") if "reason" in value else None,
    }


_FORMAT = Format(name="re-carry request", read=_READ, readers={1: _read_v1})


def _check_part(value: Any, where: str) -> None:
    _READ.instance(value, where, WantedPart)


def recarry_from_receipt(
    receipt: Receipt, manifest: BundleManifest, manifest_sha256: str
) -> RecarryRequest | None:
    """A request for the parts that a verified receipt names as damaged; ``None`` when it names none.

    Made of nothing but the receipt, so the same receipt always gives the same request. A receipt lists at
    most 1,000 findings: where ``damage_count`` is higher, more parts may be damaged than are asked for.

    Raises:
        UntrustedInputError: ``RECARRY_MALFORMED`` when the receipt is for another bundle.
    """
    if receipt.manifest_sha256 != manifest_sha256:
        _READ.refuse("receipt", "for another bundle")
    if receipt.code is None:
        return None
    damaged = {damage.name for damage in receipt.damages}
    names = [part.name for part, _ in manifest.parts() if part.name in damaged]
    if not names:
        return None
    return RecarryRequest.for_parts(
        manifest,
        manifest_sha256,
        names,
        receipt.decided_at,
        reason=f"{receipt.code.name} in the receipt of {receipt.target}"[:MAX_REASON_CHARACTERS],
    )


def describe_parts(names: Iterable[str], *, most: int = 8) -> str:
    """The names of parts in words for a person: ``001/00000002-00000005, 002/00000001 and 3 more``.

    Args:
        names: valid part names in bundle order; neighbours are drawn together into runs.
        most: how many runs are written out; the parts of all others are only counted.
    """
    runs: list[list[str]] = []
    for name in names:
        stem = name.removesuffix(".part")
        if runs and _follows(runs[-1][-1], stem):
            runs[-1].append(stem)
        else:
            runs.append([stem])
    shown = [run[0] if len(run) == 1 else f"{run[0]}-{run[-1].split('/')[1]}" for run in runs[:most]]
    rest = sum(len(run) for run in runs[most:])
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _follows(stem: str, following: str) -> bool:
    blob, number = stem.split("/")
    return following == f"{blob}/{int(number) + 1:08d}"
