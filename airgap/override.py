"""The override: break-glass for one bundle manifest, signed by the override roles of its channel.

An in-toto Statement of its own (``docs/format.md`` §17), found by the manifest's digest. It may lift rules of
time and of order only (:data:`LIFTABLE`): never a signature, an audience, a repository, a number that was
taken, or the policy's own expiry. What it lifts is judged everywhere else as ever. It is used up with the
bundle's number, which is taken once: a second import of the manifest is a replay, whatever overrides there
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from airgap import fields
from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.policy import TrustPolicy, keyids_of
from airgap.receipt import OverrideUse
from airgap.signatures import Signer
from airgap.statement import Statement, Subject, parse_statement
from airgap.verify import count_roles, valid_keys
from airgap.versions import Format

PREDICATE_TYPE = "urn:acr-airgap-transfer:override:v1"
SUBJECT = "bundle-manifest"
MAX_OVERRIDE_BYTES = 256 * 1024
LIFTABLE = frozenset({Code.NOT_YET_VALID, Code.EXPIRED, Code.TOO_OLD, Code.OUT_OF_ORDER, Code.SEQUENCE_GAP})
"""What a permission can be given for; the jump of a number is not among it, for it closes a channel."""

_LIFTABLE = {code.name: code for code in LIFTABLE}
_READ = fields.FieldReader(Code.OVERRIDE_MALFORMED)


def override_name(manifest_sha256: str) -> str:
    """The name of the blob in the container ``policy`` in which the override for a manifest lies."""
    return f"overrides/{manifest_sha256}.dsse.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """The content of an override: the rules that it lifts for one bundle manifest at one target, and why.

    Raises:
        UntrustedInputError: ``OVERRIDE_MALFORMED``, naming the field at fault.
    """

    manifest_sha256: str
    channel: str
    target: str
    lifts: frozenset[Code]
    reason: str
    expires_at: datetime

    def __post_init__(self) -> None:
        _READ.text(self.manifest_sha256, "subject", pattern=fields.SHA256_HEX)
        _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
        _READ.text(self.target, "target", pattern=fields.LOGIN_SERVER)
        if not self.lifts or not self.lifts <= LIFTABLE:
            _READ.refuse("lifts", f"not some of {', '.join(sorted(_LIFTABLE))}")
        _READ.text(self.reason, "reason", limit=200)
        _READ.moment(self.expires_at, "expiresAt")

    def to_bytes(self) -> bytes:
        """The override as a canonical statement: the bytes that are signed."""
        predicate = {
            "channel": self.channel,
            "target": self.target,
            "lifts": sorted(code.name for code in self.lifts),
            "reason": self.reason,
            "expiresAt": format_time(self.expires_at),
        }
        subject = Subject(name=SUBJECT, sha256=self.manifest_sha256)
        return Statement(subjects=(subject,), predicate_type=PREDICATE_TYPE, predicate=predicate).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read an override from the payload of an envelope whose signatures have been verified.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any statement; ``OVERRIDE_MALFORMED``,
                naming the field at fault; ``NEWER_FORMAT``: a newer tool wrote it.
        """
        statement = parse_statement(raw, code=Code.OVERRIDE_MALFORMED)
        return cls(**_FORMAT.of_predicate_type(statement.predicate_type)(statement))

    def sign(self, signers: Sequence[Signer]) -> Envelope:
        """The override in an envelope that ``signers`` have signed.

        Not checked: whether these signatures are enough.
        """
        return Envelope.sign(self.to_bytes(), signers)


def _read_v1(statement: Statement) -> dict[str, Any]:
    """The arguments of :class:`Override`; its constructor checks them."""
    value = _READ.members(
        statement.predicate, "predicate", "channel", "target", "lifts", "reason", "expiresAt"
    )
    if len(statement.subjects) != 1 or statement.subjects[0].name != SUBJECT:
        _READ.refuse("subject", f"not exactly one named {SUBJECT}")
    names = _READ.items(value["lifts"], "lifts", _READ.text, most=len(LIFTABLE))
    if unknown := set(names) - _LIFTABLE.keys():
        _READ.refuse("lifts", f"{min(unknown)[:40]} is not among {', '.join(sorted(_LIFTABLE))}")
    return {
        "manifest_sha256": statement.subjects[0].sha256,
        "channel": value["channel"],
        "target": value["target"],
        "lifts": frozenset(_LIFTABLE[name] for name in names),
        "reason": value["reason"],
        "expires_at": _READ.time(value["expiresAt"], "expiresAt"),
    }


_FORMAT = Format(name="override", read=_READ, readers={1: _read_v1})


def verify_override(
    envelope_bytes: bytes,
    *,
    manifest_sha256: str,
    channel: str,
    target: str,
    policy: TrustPolicy,
    now: datetime,
) -> tuple[Override, OverrideUse]:
    """Read an override that the channel's override roles signed for this very manifest, at this target, now.

    Args:
        envelope_bytes: the override's envelope, whole.
        manifest_sha256: the hex digest of the manifest, which a bundle role of the channel has signed.
        channel: that manifest's channel.
        target: login server of the registry that would import.
        policy: the trust policy in force.
        now: the current time, aware.

    Returns:
        The override, and what a receipt tells of it.

    Raises:
        UntrustedInputError: ``TOO_LARGE``, ``ENVELOPE_MALFORMED``: it is no envelope of an override;
            ``SIGNATURE_INVALID``: a signature is forged; ``SIGNATURE_UNCHECKABLE``: one could not be checked;
            ``SIGNER_UNKNOWN``: no key of an override role signed it; ``OVERRIDE_MALFORMED``: its content is
            malformed; ``NEWER_FORMAT``: a newer tool wrote it.
        PolicyRefusal: ``CHANNEL_UNKNOWN``: the policy does not have the channel; ``POLICY_EXPIRED``: the
            policy itself has expired; ``KEY_REVOKED``: only revoked keys signed it; ``THRESHOLD_NOT_MET``,
            ``ALGORITHM_MISSING``: too few signed it, or nobody may; ``OVERRIDE_MISMATCH``: it is for another
            manifest, channel or target, or its time is over.
    """
    rules = policy.channels.get(channel)
    if rules is None:
        raise PolicyRefusal(Code.CHANNEL_UNKNOWN, channel)
    if len(envelope_bytes) > MAX_OVERRIDE_BYTES:
        raise UntrustedInputError(Code.TOO_LARGE, f"an override has at most {MAX_OVERRIDE_BYTES} bytes")
    envelope = Envelope.from_bytes(envelope_bytes)
    valid = valid_keys(envelope, policy, now, keyids_of(rules.override_roles))
    signers = count_roles(valid, rules.override_roles)
    override = Override.from_bytes(envelope.payload)
    meant = {"manifest": manifest_sha256, "channel": channel, "target": target}
    said = {"manifest": override.manifest_sha256, "channel": override.channel, "target": override.target}
    for name, value in meant.items():
        if said[name] != value:
            raise PolicyRefusal(Code.OVERRIDE_MISMATCH, f"{name}: for {said[name]}, not for {value}")
    if now >= override.expires_at:
        raise PolicyRefusal(Code.OVERRIDE_MISMATCH, f"good until {format_time(override.expires_at)}")
    lifts = tuple(sorted(code.name for code in override.lifts))
    return override, OverrideUse(lifts=lifts, reason=override.reason, signers=signers)
