"""The receipt: what the target decided about a bundle manifest, and what its registry holds now.

An in-toto Statement whose one subject is the envelope as it was received; ``docs/format.md`` §6. Signed by
the target; verified wherever the trust policy names receipt roles for the channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from securesystemslib.signer import SSlibKey

from airgap import fields
from airgap.damage import Damage
from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME, MAX_ARTIFACTS, REFERENCE, TAG, Tool
from airgap.policy import TrustPolicy
from airgap.statement import Statement, Subject, parse_statement
from airgap.verify import Signer, count_roles

PREDICATE_TYPE = "urn:acr-airgap-transfer:receipt:v1"
MAX_DAMAGES = 1000
"""A receipt names at most so many findings; ``damageCount`` says how many there were."""

_READ = fields.FieldReader(Code.RECEIPT_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactProof:
    """What the target registry answered for one artifact of the bundle manifest.

    ``found`` is the digest it has under that digest, ``None`` if it has none. ``missing_tags`` are the tags
    that do not point to the artifact.
    """

    reference: str
    digest: str
    found: str | None
    missing_tags: tuple[str, ...] = ()

    @property
    def is_proven(self) -> bool:
        """Whether the registry holds exactly what was signed."""
        return self.found == self.digest and not self.missing_tags

    def to_json(self) -> dict[str, Any]:
        """``{"reference", "digest", "found", "missingTags"}``."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "found": self.found,
            "missingTags": list(self.missing_tags),
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``artifacts``; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(raw, where, "reference", "digest", "found", "missingTags")
        return cls(
            reference=_READ.text(value["reference"], f"{where}.reference", pattern=REFERENCE),
            digest=_READ.text(value["digest"], f"{where}.digest", pattern=fields.DIGEST),
            found=_READ.optional_text(value["found"], f"{where}.found", pattern=fields.DIGEST),
            missing_tags=_READ.items(
                value["missingTags"],
                f"{where}.missingTags",
                lambda tag, at: _READ.text(tag, at, pattern=TAG),
                most=1000,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A decision of the target. ``code`` is ``None`` exactly when the bundle was imported and proven.

    ``transfer_id``, ``channel``, ``sequence`` and ``manifest_sha256`` are ``None`` when the envelope was
    refused before a trusted signature vouched for them. ``incoming`` is the path it was received under.
    """

    envelope_sha256: str
    incoming: str
    target: str
    decided_at: datetime
    code: Code | None
    detail: str
    transfer_id: str | None
    channel: str | None
    sequence: int | None
    manifest_sha256: str | None
    signers: tuple[Signer, ...]
    artifacts: tuple[ArtifactProof, ...]
    damages: tuple[Damage, ...]
    damage_count: int
    missing_sequences: tuple[int, ...]
    tool: Tool

    @property
    def is_imported(self) -> bool:
        """Whether the bundle was imported and every artifact found in the target registry."""
        return self.code is None

    def to_bytes(self) -> bytes:
        """The canonical statement: what gets signed."""
        predicate = {
            "verdict": "imported" if self.is_imported else "refused",
            "code": None if self.code is None else self.code.name,
            "detail": self.detail,
            "decidedAt": format_time(self.decided_at),
            "target": self.target,
            "incoming": self.incoming,
            "transferId": self.transfer_id,
            "channel": self.channel,
            "sequence": self.sequence,
            "manifestDigest": None if self.manifest_sha256 is None else f"sha256:{self.manifest_sha256}",
            "signers": [{"keyid": s.keyid, "role": s.role, "scheme": s.scheme} for s in self.signers],
            "artifacts": [proof.to_json() for proof in self.artifacts],
            "damage": [damage.to_json() for damage in self.damages[:MAX_DAMAGES]],
            "damageCount": self.damage_count,
            "missingSequences": list(self.missing_sequences),
            "tool": {"name": self.tool.name, "version": self.tool.version},
        }
        subject = Subject(name=ENVELOPE_NAME, sha256=self.envelope_sha256)
        return Statement(subjects=(subject,), predicate_type=PREDICATE_TYPE, predicate=predicate).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the payload of a verified receipt.

        Raises:
            UntrustedInputError: ``TOO_LARGE`` or ``RECEIPT_MALFORMED``.
        """
        statement = parse_statement(raw, predicate_type=PREDICATE_TYPE, code=Code.RECEIPT_MALFORMED)
        value = _READ.members(
            statement.predicate,
            "predicate",
            *("verdict", "code", "detail", "decidedAt", "target", "incoming", "transferId", "channel"),
            *("sequence", "manifestDigest", "signers", "artifacts", "damage", "damageCount"),
            *("missingSequences", "tool"),
        )
        if len(statement.subjects) != 1 or statement.subjects[0].name != ENVELOPE_NAME:
            _READ.refuse("subject", f"not exactly one named {ENVELOPE_NAME}")
        digest = _READ.optional_text(value["manifestDigest"], "manifestDigest", pattern=fields.DIGEST)
        return cls(
            envelope_sha256=statement.subjects[0].sha256,
            incoming=_READ.text(value["incoming"], "incoming"),
            target=_READ.text(value["target"], "target", pattern=fields.LOGIN_SERVER),
            decided_at=_READ.time(value["decidedAt"], "decidedAt"),
            code=_read_code(value["verdict"], value["code"]),
            detail=value["detail"]
            if type(value["detail"]) is str
            else _READ.refuse("detail", "not a string"),
            transfer_id=_READ.optional_text(value["transferId"], "transferId", pattern=fields.TRANSFER_ID),
            channel=_READ.optional_text(value["channel"], "channel", pattern=fields.CHANNEL),
            sequence=None
            if value["sequence"] is None
            else _READ.integer(value["sequence"], "sequence", least=1),
            manifest_sha256=None if digest is None else digest.removeprefix("sha256:"),
            signers=_READ.items(value["signers"], "signers", _read_signer, most=100),
            artifacts=_READ.items(
                value["artifacts"], "artifacts", ArtifactProof.from_json, most=MAX_ARTIFACTS
            ),
            damages=_READ.items(
                value["damage"], "damage", lambda d, at: Damage.from_json(d, at, _READ), most=MAX_DAMAGES
            ),
            damage_count=_READ.integer(value["damageCount"], "damageCount"),
            missing_sequences=_READ.items(
                value["missingSequences"],
                "missingSequences",
                lambda n, at: _READ.integer(n, at, least=1),
                most=100,
            ),
            tool=Tool.from_json(value["tool"], "tool", _READ),
        )


def verify_receipt(envelope_bytes: bytes, *, policy: TrustPolicy, channel: str) -> Receipt:
    """Read a receipt that the channel's receipt roles signed.

    Raises:
        UntrustedInputError: forged, unknown, uncheckable or malformed.
        PolicyRefusal: ``CHANNEL_UNKNOWN``, or ``THRESHOLD_NOT_MET`` also where there is no receipt role.

    Not checked: whether the receipt speaks of the manifest the caller has in mind, and its age.
    """
    if channel not in policy.channels:
        raise PolicyRefusal(Code.CHANNEL_UNKNOWN, channel)
    roles = policy.channels[channel].receipt_roles
    trusted = {keyid for role in roles.values() for keyid in role.keyids}
    keys: Mapping[str, SSlibKey] = {keyid: policy.keys[keyid] for keyid in trusted}
    envelope = Envelope.from_bytes(envelope_bytes)
    checks = envelope.check_signatures(keys.values())
    for keyid, check in checks.items():
        if check is SignatureCheck.FORGED:
            raise UntrustedInputError(Code.SIGNATURE_INVALID, f"key {keyid}")
        if check is SignatureCheck.UNCHECKABLE:
            raise UntrustedInputError(Code.SIGNATURE_UNCHECKABLE, f"key {keyid}")
    valid = {keyid: keys[keyid] for keyid, check in checks.items() if check is SignatureCheck.VALID}
    if not valid:
        raise UntrustedInputError(Code.SIGNER_UNKNOWN, "no receipt key of the channel signed it")
    count_roles(valid, roles)
    return Receipt.from_bytes(envelope.payload)


def _read_code(verdict: Any, code: Any) -> Code | None:
    if (verdict == "imported") != (code is None) or (code is not None and verdict != "refused"):
        _READ.refuse("verdict", "imported without a code or refused with one")
    if code is None:
        return None
    name = _READ.text(code, "code", limit=64)
    if name not in Code.__members__:
        _READ.refuse("code", "unknown")
    return Code[name]


def _read_signer(raw: Any, where: str) -> Signer:
    value = _READ.members(raw, where, "keyid", "role", "scheme")
    return Signer(
        keyid=_READ.text(value["keyid"], f"{where}.keyid", pattern=fields.SHA256_HEX),
        role=_READ.text(value["role"], f"{where}.role", limit=32),
        scheme=_READ.text(value["scheme"], f"{where}.scheme", limit=64),
    )
