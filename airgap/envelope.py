"""DSSE envelopes: strict reading, signing, and the check of each signature by itself.

https://github.com/secure-systems-lab/dsse/blob/master/envelope.md. The signature covers
``PAE(payloadType, payload)``; securesystemslib computes it and verifies.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from airgap.errors import Code
from airgap.fields import FieldReader
from airgap.keys import verify_signature
from airgap.signatures import DsseEnvelope, Key, Signer, UnverifiedSignatureError, VerificationError
from airgap.statement import MAX_STATEMENT_BYTES, PAYLOAD_TYPE
from airgap.strict_json import dump_canonical, load_strict

MAX_ENVELOPE_BYTES = MAX_STATEMENT_BYTES * 4 // 3 + 1024 * 1024
MAX_SIGNATURES = 16
_MAX_BRACKETS = 2 + MAX_SIGNATURES
_MAX_COMMAS = 2 + 2 * MAX_SIGNATURES
_WIDE_ESCAPE = re.compile(rb"\\u(?!00)")
_KEYID = re.compile(r"[0-9a-f]{64}")
_READ = FieldReader(Code.ENVELOPE_MALFORMED)


class SignatureCheck(Enum):
    """The outcome of checking one signature; only ``VALID`` counts."""

    VALID = "valid"
    FORGED = "forged"
    UNKNOWN_KEY = "unknown key"
    UNCHECKABLE = "uncheckable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload with signatures; reading one proves nothing about who signed it."""

    payload: bytes
    signatures: Mapping[str, bytes]
    """Signature bytes by the key id they claim; never an identity: ECDSA signatures are malleable."""

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read an envelope from outside; its payload stays unparsed.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any valid envelope; ``ENVELOPE_MALFORMED``:
                it is no strict DSSE envelope with the in-toto payload type.
        """
        if len(raw) <= MAX_ENVELOPE_BYTES:
            _refuse_costly(raw)
        value = load_strict(raw, max_bytes=MAX_ENVELOPE_BYTES, code=Code.ENVELOPE_MALFORMED)
        members = _READ.members(value, "envelope", "payloadType", "payload", "signatures")
        if members["payloadType"] != PAYLOAD_TYPE:
            _READ.refuse("payloadType", f"not {PAYLOAD_TYPE}")
        pairs = _READ.items(
            members["signatures"], "signatures", _read_signature, least=1, most=MAX_SIGNATURES
        )
        signatures = dict(pairs)
        if len(signatures) != len(pairs):
            _READ.refuse("signatures", "a key id occurs twice")
        return cls(payload=_decode(members["payload"], "payload"), signatures=signatures)

    @classmethod
    def sign(cls, payload: bytes, signers: Sequence[Signer]) -> Self:
        """An envelope with ``payload``, signed by every one of ``signers``, in order.

        Raises:
            ValueError: there are no signers. Signers raise their own errors besides.
        """
        if not signers:
            raise ValueError("an envelope needs at least one signer")
        dsse = DsseEnvelope(payload, PAYLOAD_TYPE, {})
        for signer in signers:
            dsse.sign(signer)
        return cls(
            payload=payload,
            signatures={keyid: bytes.fromhex(s.signature) for keyid, s in dsse.signatures.items()},
        )

    def to_bytes(self) -> bytes:
        """The envelope as compact JSON with one trailing newline."""
        return (
            dump_canonical(
                {
                    "payloadType": PAYLOAD_TYPE,
                    "payload": base64.b64encode(self.payload).decode("ascii"),
                    "signatures": [
                        {"keyid": keyid, "sig": base64.b64encode(signature).decode("ascii")}
                        for keyid, signature in self.signatures.items()
                    ],
                }
            )
            + b"\n"
        )

    def check_signatures(self, keys: Iterable[Key]) -> dict[str, SignatureCheck]:
        """Check each signature against the key that it names; one outcome for each signature, by key id.

        Not checked: whether the keys are to be trusted, and whether there are enough signatures.
        """
        known = {key.keyid: key for key in keys}
        message = DsseEnvelope(self.payload, PAYLOAD_TYPE, {}).pae()
        return {
            keyid: _check(known[keyid], signature, message) if keyid in known else SignatureCheck.UNKNOWN_KEY
            for keyid, signature in self.signatures.items()
        }


def _refuse_costly(raw: bytes) -> None:
    """Refuse what a parser would make objects of many times its size from: nobody has vouched for it yet.

    An envelope needs few brackets and commas, since base64 has none, and is all ASCII: one character beyond
    Latin-1 would make a string four times as long.
    """
    if raw.count(b"{") + raw.count(b"[") > _MAX_BRACKETS or raw.count(b",") > _MAX_COMMAS:
        _READ.refuse("envelope", "more objects, arrays or members than any envelope has")
    if not raw.isascii() or _WIDE_ESCAPE.search(raw):
        _READ.refuse("envelope", "not ASCII")


def _check(key: Key, signature: bytes, message: bytes) -> SignatureCheck:
    try:
        verify_signature(key, signature, message)
    except VerificationError:  # a subclass of the next: the check itself failed
        return SignatureCheck.UNCHECKABLE
    except UnverifiedSignatureError:
        return SignatureCheck.FORGED
    return SignatureCheck.VALID


def _read_signature(raw: Any, where: str) -> tuple[str, bytes]:
    members = _READ.members(raw, where, "keyid", "sig")
    keyid = _READ.text(members["keyid"], f"{where}.keyid", pattern=_KEYID)
    return keyid, _decode(members["sig"], f"{where}.sig")


def _decode(raw: Any, where: str) -> bytes:
    """Standard base64 in its one canonical form (RFC 4648 §3.5): DSSE allows more, our writers never use it.

    Decoders pass over the unused bits of the last character, and some over what follows the padding, so that
    one signature could be written in many ways.
    """
    if type(raw) is not str or not raw:
        _READ.refuse(where, "not a base64 string")
    try:
        encoded = raw.encode("ascii")
        decoded = base64.b64decode(encoded, validate=True)
    except (UnicodeEncodeError, binascii.Error):
        _READ.refuse(where, "not a base64 string")
    if base64.b64encode(decoded) != encoded:
        _READ.refuse(where, "not canonical base64")
    return decoded
