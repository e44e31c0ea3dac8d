"""Signatures by people on a bundle manifest that the source has signed and not published yet.

A role of the channel that none of the source's own keys is in is met by people: each signs the very manifest,
and her signature is kept by itself until all are there. Then they are put together in one envelope, which
:func:`airgap.verify.verify_bundle` judges as any other: what is decided here is only what to wait for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from airgap import fields
from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import Code, PolicyRefusal
from airgap.fields import format_time
from airgap.policy import Channel, Role, TrustedKey, TrustPolicy, keyids_of
from airgap.strict_json import dump_canonical, load_strict
from airgap.verify import count_roles
from airgap.versions import Format

MAX_SIGNATURE_BYTES = 16 * 1024
"""Of a kept signature; one by ML-DSA-87 has about 6 KiB."""

_BY_LIMIT = 128
_READ = fields.FieldReader(Code.ENVELOPE_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSignature:
    """One person's signature on a bundle manifest, with who handed it in, and when (aware).

    Raises:
        UntrustedInputError: ``ENVELOPE_MALFORMED``, naming the field at fault.
    """

    keyid: str
    signature: bytes
    by: str
    at: datetime

    def __post_init__(self) -> None:
        _READ.text(self.keyid, "keyid", pattern=fields.SHA256_HEX)
        _READ.text(self.by, "by", limit=_BY_LIMIT)
        _READ.moment(self.at, "at")

    def to_bytes(self) -> bytes:
        """The signature as canonical JSON."""
        return dump_canonical(
            {
                "schema": 1,
                "keyid": self.keyid,
                "sig": base64.b64encode(self.signature).decode("ascii"),
                "by": self.by,
                "at": format_time(self.at),
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a kept signature.

        Raises:
            UntrustedInputError: ``NEWER_FORMAT``: a newer app wrote it; ``TOO_LARGE``,
                ``ENVELOPE_MALFORMED``: it is no kept signature.
        """
        value = load_strict(raw, max_bytes=MAX_SIGNATURE_BYTES, code=Code.ENVELOPE_MALFORMED)
        return cls(**_FORMAT.of_document(value)(value))


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`KeptSignature`; its constructor checks them."""
    value = _READ.members(raw, "kept signature", "schema", "keyid", "sig", "by", "at")
    try:
        signature = base64.b64decode(
            _READ.text(value["sig"], "sig", limit=MAX_SIGNATURE_BYTES), validate=True
        )
    except binascii.Error:
        _READ.refuse("sig", "not base64")
    return {
        "keyid": value["keyid"],
        "signature": signature,
        "by": value["by"],
        "at": _READ.time(value["at"], "at"),
    }


_FORMAT = Format(name="kept signature", read=_READ, readers={1: _read_v1})


def roles_of_people(channel: Channel, own_keyids: Collection[str]) -> Mapping[str, Role]:
    """The bundle roles that people meet, because none of the source's own keys is in them.

    A role that has one of the source's keys is met by the source alone.
    """
    own = set(own_keyids)
    return {name: role for name, role in channel.bundle_roles.items() if not role.keyids & own}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureTally:
    """A count of signatures: the envelope that has all that count, and what each role still lacks, in words.

    ``signed`` are the kept signatures that count now; they are in ``envelope``.
    """

    envelope: Envelope
    signed: tuple[KeptSignature, ...]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every bundle role has reached its threshold."""
        return not self.missing


def count_signatures(
    envelope: Envelope,
    kept: Iterable[KeptSignature],
    *,
    channel: Channel,
    policy: TrustPolicy,
    now: datetime,
) -> SignatureTally:
    """Put the source's and the people's signatures into one envelope, and tell which roles lack some.

    A kept signature that does not count (its key was revoked since, or somebody planted it) is passed over,
    so that nothing that lies there can stand in the way.

    Args:
        envelope: the manifest with the source's own signatures.
        kept: every signature that was kept for this manifest.
        channel: the bundle's channel.
        policy: the trust policy in force.
        now: the current time, aware.
    """
    candidates = {one.keyid: one for one in kept if one.keyid not in envelope.signatures}
    whole = put_together(envelope, candidates.values())
    in_force = policy.keys_in_force(now)
    trusted = {keyid: in_force[keyid] for keyid in keyids_of(channel.bundle_roles) & in_force.keys()}
    checks = whole.check_signatures(key.public_key for key in trusted.values())
    valid = {keyid: trusted[keyid] for keyid, check in checks.items() if check is SignatureCheck.VALID}
    signed = tuple(one for keyid, one in sorted(candidates.items()) if keyid in valid)
    return SignatureTally(
        envelope=put_together(envelope, signed),
        signed=signed,
        missing=tuple(_missing(valid, channel)),
    )


def put_together(envelope: Envelope, kept: Iterable[KeptSignature]) -> Envelope:
    """The envelope with the kept signatures after its own, in the order of their key ids."""
    added = {one.keyid: one.signature for one in sorted(kept, key=lambda one: one.keyid)}
    return replace(envelope, signatures={**envelope.signatures, **added})


def _missing(valid: Mapping[str, TrustedKey], channel: Channel) -> Iterable[str]:
    for name, role in sorted(channel.bundle_roles.items()):
        try:
            count_roles(valid, {name: role})
        except PolicyRefusal as refusal:
            yield refusal.detail
