"""The receipt: the target's signed word on what it decided about a bundle, and what its registry holds now.

An in-toto Statement whose one subject is the envelope as it was received; ``docs/format.md`` §6. Signed by
the target; verified wherever the trust policy names receipt roles for the channel.

A receipt tells of the past and decides nothing by itself, so a code that this version does not know is kept
as it stands (:class:`airgap.errors.UnknownCode`): the verdict beside it is known all the same.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, unique
from functools import partial
from typing import Any, Self

from airgap import fields
from airgap.damage import Damage
from airgap.envelope import Envelope
from airgap.errors import CODE_NAME, Code, PolicyRefusal, UnknownCode, code_named
from airgap.fields import format_time
from airgap.ledger import MAX_MISSING, LedgerEntry, entry_name, sequence_of
from airgap.manifest import ENVELOPE_NAME, MAX_ARTIFACTS, MAX_TAGS, REFERENCE, TAG, Tool
from airgap.pipeline_runs import MAX_TOLD_CHARACTERS
from airgap.policy import MAX_HOLDER_CHARACTERS, TrustPolicy
from airgap.statement import Statement, Subject, parse_statement
from airgap.verify import CountedKey, count_roles, valid_keys
from airgap.versions import Format

PREDICATE_TYPE = "urn:acr-airgap-transfer:receipt:v1"
MAX_DAMAGES = 1000
"""A receipt names at most so many findings; ``damageCount`` says how many there were."""

MAX_UNDECLARED = 1000
"""Likewise of artifacts that came along undeclared; ``undeclaredCount`` says how many there were."""

MAX_MISSING_CONTENTS = 20
"""Likewise of what one artifact consists of and the registry lacks; ``missingCount`` says how much."""

MAX_CHECKS = 100
_MAX_SIGNERS = 100
_READ = fields.FieldReader(Code.RECEIPT_MALFORMED)
_CONTENT_KIND = re.compile(r"[a-z][A-Za-z]{0,31}")


@unique
class ReceiptVerdict(Enum):
    """The verdict of a receipt: what became of the bundle. One more would be a new version of the format."""

    IMPORTED = "imported"
    """Imported, and every artifact found whole in the target registry."""
    REFUSED = "refused"
    """Not imported: ``code`` says why. Its number is used up where the receipt has a ``ledger`` position."""
    DAMAGED = "damaged"
    """Not imported, and its number not used up: parts are damaged or missing and may be brought again."""
    PARTIAL = "partial"
    """The import began and did not end whole; ``artifacts`` say what the registry holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingContent:
    """A piece of content that belongs to an artifact, and that the registry does not have.

    ``kind`` is ``config``, ``layer`` or ``manifest`` (of an index), whose ``digest`` it is; or ``referrer``:
    the registry does not list the artifact among what refers to ``digest``. Another kind is a newer tool's.
    """

    kind: str
    digest: str

    def __post_init__(self) -> None:
        _READ.text(self.kind, "missing.kind", pattern=_CONTENT_KIND)
        _READ.text(self.digest, "missing.digest", pattern=fields.DIGEST)

    def to_json(self) -> dict[str, Any]:
        """The object ``{"kind", "digest"}``."""
        return {"kind": self.kind, "digest": self.digest}

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``missing``; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(raw, where, "kind", "digest")
        with _READ.within(where):
            return cls(kind=value["kind"], digest=value["digest"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactProof:
    """The target registry's answer about one artifact of the bundle manifest.

    ``found`` is the digest of what the registry gave out for the artifact's digest, ``None`` if it has
    nothing. ``missing_tags`` are the tags
    that do not point to the artifact. ``missing`` is what it consists of and is not there, as far as there is
    room; ``missing_count`` says how much.
    """

    reference: str
    digest: str
    found: str | None
    missing_tags: tuple[str, ...] = ()
    missing: tuple[MissingContent, ...] = ()
    missing_count: int = 0

    def __post_init__(self) -> None:
        _READ.text(self.reference, "reference", pattern=REFERENCE)
        _READ.text(self.digest, "digest", pattern=fields.DIGEST)
        _READ.optional_text(self.found, "found", pattern=fields.DIGEST)
        _READ.each(self.missing_tags, "missingTags", _check_tag, most=MAX_TAGS)
        _READ.each(
            self.missing,
            "missing",
            partial(_check_instance, kind=MissingContent),
            most=MAX_MISSING_CONTENTS,
        )
        if _READ.integer(self.missing_count, "missingCount") < len(self.missing):
            _READ.refuse("missingCount", "less than are listed")

    @property
    def is_proven(self) -> bool:
        """Whether the registry holds exactly the artifact that was signed, with all its content and tags."""
        return self.found == self.digest and not self.missing_tags and not self.missing_count

    def to_json(self) -> dict[str, Any]:
        """The object ``{"reference", "digest", "found", "missingTags", "missing", "missingCount"}``."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "found": self.found,
            "missingTags": list(self.missing_tags),
            "missing": [content.to_json() for content in self.missing],
            "missingCount": self.missing_count,
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``artifacts``; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(
            raw, where, "reference", "digest", "found", "missingTags", "missing", "missingCount"
        )
        with _READ.within(where):
            return cls(
                reference=value["reference"],
                digest=value["digest"],
                found=value["found"],
                missing_tags=_READ.array(value["missingTags"], "missingTags"),
                missing=_READ.items(
                    value["missing"], "missing", MissingContent.from_json, most=MAX_MISSING_CONTENTS
                ),
                missing_count=value["missingCount"],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPosition:
    """The entry by which the target took the bundle's number: its name, and its bytes' hex SHA-256."""

    name: str
    sha256: str

    def __post_init__(self) -> None:
        if sequence_of(_READ.text(self.name, "ledger.name")) is None:
            _READ.refuse("ledger.name", "not the name of a ledger entry")
        _READ.text(self.sha256, "ledger.digest", pattern=fields.SHA256_HEX)

    @classmethod
    def of(cls, entry: LedgerEntry) -> Self:
        """The position of a ledger entry, as receipts tell it."""
        return cls(name=entry.name, sha256=hashlib.sha256(entry.to_bytes()).hexdigest())

    def to_json(self) -> dict[str, Any]:
        """The object ``{"name", "digest"}``."""
        return {"name": self.name, "digest": f"sha256:{self.sha256}"}

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read the member ``ledger``; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(raw, "ledger", "name", "digest")
        return cls(name=value["name"], sha256=_READ.sha256(value["digest"], "ledger.digest"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check that the target had made on the verified bundle before importing it.

    Args:
        name: the check's name in the target's settings.
        passed: whether it had no objection.
        detail: words for a person, at most 500 characters: what it has found, or why it gave no answer.
        scanner: what looked, by its own word; ``None`` where it gave no answer.
        answer_sha256: the hex SHA-256 of the answer as it came; ``None`` where it gave none.
        checked_at: when it ended; aware.
        signers: the keys whose signatures vouch for the answer; empty where the policy asks for none.
    """

    name: str
    passed: bool
    detail: str
    scanner: str | None
    answer_sha256: str | None
    checked_at: datetime
    signers: tuple[CountedKey, ...] = ()

    def __post_init__(self) -> None:
        _READ.text(self.name, "name", limit=64)
        _READ.flag(self.passed, "passed")
        _READ.note(self.detail, "detail")
        _READ.optional_text(self.scanner, "scanner", limit=128)
        _READ.optional_text(self.answer_sha256, "answerDigest", pattern=fields.SHA256_HEX)
        if (self.scanner is None) != (self.answer_sha256 is None) or (self.passed and self.scanner is None):
            _READ.refuse("answerDigest", "passed, or by a scanner, and without an answer")
        _READ.moment(self.checked_at, "checkedAt")
        _READ.each(self.signers, "signers", partial(_check_instance, kind=CountedKey), most=_MAX_SIGNERS)
        if self.signers and self.answer_sha256 is None:
            _READ.refuse("signers", "of no answer")

    def to_json(self) -> dict[str, Any]:
        """The object ``{"name", "passed", "detail", "scanner", "answerDigest", "checkedAt", "signers"}``."""
        return {
            "name": self.name,
            "passed": self.passed,
            "detail": self.detail,
            "scanner": self.scanner,
            "answerDigest": None if self.answer_sha256 is None else f"sha256:{self.answer_sha256}",
            "checkedAt": format_time(self.checked_at),
            "signers": [signer.to_json() for signer in self.signers],
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``checks``; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(
            raw, where, "name", "passed", "detail", "scanner", "answerDigest", "checkedAt", "signers"
        )
        with _READ.within(where):
            return cls(
                name=value["name"],
                passed=value["passed"],
                detail=value["detail"],
                scanner=value["scanner"],
                answer_sha256=_READ.optional_sha256(value["answerDigest"], "answerDigest"),
                checked_at=_READ.time(value["checkedAt"], "checkedAt"),
                signers=_READ.items(value["signers"], "signers", _read_signer, most=_MAX_SIGNERS),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The record that a key of a release role released the bundle at the target: which key, whose, and when.

    ``holder`` is the key's holder by the trust policy, at most 64 characters; ``released_at`` is the time in
    what was signed.
    """

    keyid: str
    holder: str
    role: str
    scheme: str
    released_at: datetime

    def __post_init__(self) -> None:
        _check_key(self.keyid, self.role, self.scheme)
        _READ.text(self.holder, "holder", limit=MAX_HOLDER_CHARACTERS)
        _READ.moment(self.released_at, "releasedAt")

    def to_json(self) -> dict[str, Any]:
        """The object ``{"keyid", "holder", "role", "scheme", "releasedAt"}``."""
        return {
            "keyid": self.keyid,
            "holder": self.holder,
            "role": self.role,
            "scheme": self.scheme,
            "releasedAt": format_time(self.released_at),
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``releases``; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(raw, where, "keyid", "holder", "role", "scheme", "releasedAt")
        with _READ.within(where):
            return cls(
                keyid=value["keyid"],
                holder=value["holder"],
                role=value["role"],
                scheme=value["scheme"],
                released_at=_READ.time(value["releasedAt"], "releasedAt"),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideUse:
    """The override by which rules of time or order were lifted: their codes, the reason, who signed it."""

    lifts: tuple[str, ...]
    reason: str
    signers: tuple[CountedKey, ...]

    def __post_init__(self) -> None:
        _READ.each(self.lifts, "lifts", partial(_READ.text, pattern=CODE_NAME), least=1, most=_MAX_SIGNERS)
        _READ.note(self.reason, "reason")
        _READ.each(
            self.signers, "signers", partial(_check_instance, kind=CountedKey), least=1, most=_MAX_SIGNERS
        )

    def to_json(self) -> dict[str, Any]:
        """The object ``{"lifts", "reason", "signers"}``."""
        return {
            "lifts": list(self.lifts),
            "reason": self.reason,
            "signers": [signer.to_json() for signer in self.signers],
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read the member ``override``; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(raw, "override", "lifts", "reason", "signers")
        with _READ.within("override"):
            return cls(
                lifts=_READ.array(value["lifts"], "lifts"),
                reason=value["reason"],
                signers=_READ.items(value["signers"], "signers", _read_signer, most=_MAX_SIGNERS),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The content of a receipt; ``code`` is ``None`` exactly when the bundle was imported and proven.

    ``transfer_id``, ``channel``, ``sequence`` and ``manifest_sha256`` are ``None``, all of them, when the
    envelope was refused before a trusted signature vouched for them. ``incoming`` is the path it was received
    under. ``policy_version`` is that of the trust policy that judged, ``None`` where none did; ``ledger`` is
    ``None`` where this decision did not take the bundle's number. ``undeclared`` names what the import
    brought into the registry and no manifest declares, as far as there is room; ``undeclared_count`` says how
    much.

    Raises:
        UntrustedInputError: ``RECEIPT_MALFORMED``, naming the first field at fault: what exists can be read.
    """

    envelope_sha256: str
    incoming: str
    target: str
    decided_at: datetime
    verdict: ReceiptVerdict
    code: Code | UnknownCode | None
    detail: str
    transfer_id: str | None
    channel: str | None
    sequence: int | None
    manifest_sha256: str | None
    policy_version: int | None
    ledger: LedgerPosition | None
    signers: tuple[CountedKey, ...]
    checks: tuple[CheckResult, ...] = ()
    releases: tuple[Release, ...] = ()
    override: OverrideUse | None = None
    artifacts: tuple[ArtifactProof, ...]
    undeclared: tuple[str, ...] = ()
    undeclared_count: int = 0
    damages: tuple[Damage, ...]
    damage_count: int
    missing_sequences: tuple[int, ...]
    tool: Tool

    def __post_init__(self) -> None:
        _READ.text(self.envelope_sha256, "subject", pattern=fields.SHA256_HEX)
        _READ.text(self.incoming, "incoming")
        _READ.text(self.target, "target", pattern=fields.LOGIN_SERVER)
        _READ.moment(self.decided_at, "decidedAt")
        _READ.instance(self.verdict, "verdict", ReceiptVerdict)
        if (self.verdict is ReceiptVerdict.IMPORTED) != (self.code is None):
            _READ.refuse("verdict", "imported without a code, or another one with one")
        if self.code is not None:
            _READ.text(self.code.name, "code", pattern=CODE_NAME)
        _READ.note(self.detail, "detail")
        self._check_bundle()
        for name, kind, most in (
            ("signers", CountedKey, _MAX_SIGNERS),
            ("checks", CheckResult, MAX_CHECKS),
            ("releases", Release, _MAX_SIGNERS),
            ("artifacts", ArtifactProof, MAX_ARTIFACTS),
            ("damages", Damage, MAX_DAMAGES),
        ):
            _READ.each(getattr(self, name), name, partial(_check_instance, kind=kind), most=most)
        if _READ.integer(self.damage_count, "damageCount") < len(self.damages):
            _READ.refuse("damageCount", "less than are listed")
        if self.verdict is ReceiptVerdict.DAMAGED and not self.damage_count:
            _READ.refuse("damageCount", "none in a receipt for a damaged bundle")
        _READ.each(self.undeclared, "undeclared", _check_undeclared, most=MAX_UNDECLARED)
        if _READ.integer(self.undeclared_count, "undeclaredCount") < len(self.undeclared):
            _READ.refuse("undeclaredCount", "less than are listed")
        if self.undeclared_count and self.verdict is not ReceiptVerdict.PARTIAL:
            _READ.refuse("undeclaredCount", "some, but not in a receipt for a partial import")
        _READ.each(self.missing_sequences, "missingSequences", _check_number, most=MAX_MISSING)
        if self.override is not None:
            _READ.instance(self.override, "override", OverrideUse)
        _READ.instance(self.tool, "tool", Tool)

    def _check_bundle(self) -> None:
        """What names the bundle is known wholly or not at all; only a named one has a place in a ledger."""
        named = (self.transfer_id, self.channel, self.sequence, self.manifest_sha256)
        if self.transfer_id is None:
            if any(value is not None for value in named) or self.ledger is not None or self.artifacts:
                _READ.refuse("transferId", "null, but not all that is known of a bundle only")
            if self.verdict is not ReceiptVerdict.REFUSED:
                _READ.refuse("transferId", "null, but not in a refusal")
        else:
            _READ.text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
            channel = _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
            sequence = _READ.integer(self.sequence, "sequence", least=1)
            _READ.text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)
            if self.ledger is not None and self.ledger.name != entry_name(channel, sequence):
                _READ.refuse("ledger.name", "not that of the bundle's number")
        if self.policy_version is not None:
            _READ.integer(self.policy_version, "policyVersion", least=1)

    @property
    def is_imported(self) -> bool:
        """Whether the bundle was imported and every artifact found in the target registry."""
        return self.verdict is ReceiptVerdict.IMPORTED

    def to_bytes(self) -> bytes:
        """The receipt as a canonical statement: the bytes that are signed.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: no reader would take so long a receipt.
        """
        predicate = {
            "verdict": self.verdict.value,
            "code": None if self.code is None else self.code.name,
            "detail": self.detail,
            "decidedAt": format_time(self.decided_at),
            "target": self.target,
            "incoming": self.incoming,
            "transferId": self.transfer_id,
            "channel": self.channel,
            "sequence": self.sequence,
            "manifestDigest": None if self.manifest_sha256 is None else f"sha256:{self.manifest_sha256}",
            "policyVersion": self.policy_version,
            "ledger": None if self.ledger is None else self.ledger.to_json(),
            "signers": [signer.to_json() for signer in self.signers],
            "checks": [check.to_json() for check in self.checks],
            "releases": [release.to_json() for release in self.releases],
            "override": None if self.override is None else self.override.to_json(),
            "artifacts": [proof.to_json() for proof in self.artifacts],
            "undeclared": list(self.undeclared),
            "undeclaredCount": self.undeclared_count,
            "damage": [damage.to_json() for damage in self.damages],
            "damageCount": self.damage_count,
            "missingSequences": list(self.missing_sequences),
            "tool": self.tool.to_json(),
        }
        subject = Subject(name=ENVELOPE_NAME, sha256=self.envelope_sha256)
        return Statement(subjects=(subject,), predicate_type=PREDICATE_TYPE, predicate=predicate).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a receipt from the payload of an envelope whose signatures have been verified.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any receipt; ``NEWER_FORMAT``: a newer tool
                wrote it; ``RECEIPT_MALFORMED`` naming the first field at fault.
        """
        statement = parse_statement(raw, code=Code.RECEIPT_MALFORMED)
        return cls(**_FORMAT.of_predicate_type(statement.predicate_type)(statement))


def _read_v1(statement: Statement) -> dict[str, Any]:
    """The arguments of :class:`Receipt`; its constructor checks them."""
    value = _READ.members(
        statement.predicate,
        "predicate",
        *("verdict", "code", "detail", "decidedAt", "target", "incoming", "transferId", "channel"),
        *("sequence", "manifestDigest", "policyVersion", "ledger", "signers", "checks", "releases"),
        "override",
        *("artifacts", "undeclared", "undeclaredCount", "damage", "damageCount"),
        *("missingSequences", "tool"),
    )
    if len(statement.subjects) != 1 or statement.subjects[0].name != ENVELOPE_NAME:
        _READ.refuse("subject", f"not exactly one named {ENVELOPE_NAME}")
    return {
        "envelope_sha256": statement.subjects[0].sha256,
        "incoming": value["incoming"],
        "target": value["target"],
        "decided_at": _READ.time(value["decidedAt"], "decidedAt"),
        "verdict": _read_verdict(value["verdict"]),
        "code": None
        if value["code"] is None
        else code_named(_READ.text(value["code"], "code", pattern=CODE_NAME)),
        "detail": value["detail"],
        "transfer_id": value["transferId"],
        "channel": value["channel"],
        "sequence": value["sequence"],
        "manifest_sha256": _READ.optional_sha256(value["manifestDigest"], "manifestDigest"),
        "policy_version": value["policyVersion"],
        "ledger": None if value["ledger"] is None else LedgerPosition.from_json(value["ledger"]),
        "signers": _READ.items(value["signers"], "signers", _read_signer, most=_MAX_SIGNERS),
        "checks": _READ.items(value["checks"], "checks", CheckResult.from_json, most=MAX_CHECKS),
        "releases": _READ.items(value["releases"], "releases", Release.from_json, most=_MAX_SIGNERS),
        "override": None if value["override"] is None else OverrideUse.from_json(value["override"]),
        "artifacts": _READ.items(
            value["artifacts"], "artifacts", ArtifactProof.from_json, most=MAX_ARTIFACTS
        ),
        "undeclared": _READ.array(value["undeclared"], "undeclared"),
        "undeclared_count": value["undeclaredCount"],
        "damages": _READ.items(value["damage"], "damage", Damage.from_json, most=MAX_DAMAGES),
        "damage_count": value["damageCount"],
        "missing_sequences": _READ.array(value["missingSequences"], "missingSequences"),
        "tool": Tool.from_json(value["tool"], "tool", _READ),
    }


_FORMAT = Format(name="receipt", read=_READ, readers={1: _read_v1})


def verify_receipt(envelope_bytes: bytes, *, policy: TrustPolicy, channel: str, now: datetime) -> Receipt:
    """Read a receipt that the channel's receipt roles signed, and that speaks only of what they may speak of.

    Args:
        envelope_bytes: the receipt's envelope, whole.
        policy: the pinned trust policy.
        channel: the channel whose receipt roles must have signed.
        now: the current time, aware: a key that is revoked by then does not count, whenever it signed.

    Raises:
        UntrustedInputError: ``SIGNATURE_INVALID`` (forged), ``SIGNATURE_UNCHECKABLE`` (could not be checked),
            ``SIGNER_UNKNOWN`` (no key of a receipt role signed it, or there is no such role),
            ``ENVELOPE_MALFORMED``, ``RECEIPT_MALFORMED``, ``TOO_LARGE`` (it is no receipt), or
            ``NEWER_FORMAT``: a newer tool wrote it.
        PolicyRefusal: ``CHANNEL_UNKNOWN``: the policy does not name the channel, or the receipt is about a
            bundle of another; ``KEY_REVOKED``: a signer counts no more; ``THRESHOLD_NOT_MET``: too few keys
            of a role signed; ``AUDIENCE_MISMATCH``: it speaks for a registry that the channel does not serve.

    A receipt that names no bundle (its envelope was refused before any signature counted) is of any channel.
    Not checked: whether the receipt speaks of the manifest the caller has in mind, and its age.
    """
    if channel not in policy.channels:
        raise PolicyRefusal(Code.CHANNEL_UNKNOWN, channel)
    roles, audience = policy.channels[channel].receipt_roles, policy.channels[channel].audience
    keyids = {keyid for role in roles.values() for keyid in role.keyids}
    envelope = Envelope.from_bytes(envelope_bytes)
    count_roles(valid_keys(envelope, policy, now, keyids), roles)
    receipt = Receipt.from_bytes(envelope.payload)
    if receipt.channel not in (None, channel):
        raise PolicyRefusal(
            Code.CHANNEL_UNKNOWN, f"its signers may not speak for the channel {receipt.channel}"
        )
    if receipt.target not in audience:
        raise PolicyRefusal(Code.AUDIENCE_MISMATCH, f"{receipt.target} is no target of the channel {channel}")
    return receipt


def _read_verdict(raw: Any) -> ReceiptVerdict:
    name = _READ.text(raw, "verdict", limit=32)
    if name not in _VERDICTS:
        _READ.refuse("verdict", f"not one of {', '.join(_VERDICTS)}")
    return _VERDICTS[name]


_VERDICTS = {verdict.value: verdict for verdict in ReceiptVerdict}


def _read_signer(raw: Any, where: str) -> CountedKey:
    value = _READ.members(raw, where, "keyid", "role", "scheme")
    with _READ.within(where):
        _check_key(value["keyid"], value["role"], value["scheme"])
    return CountedKey(keyid=value["keyid"], role=value["role"], scheme=value["scheme"])


def _check_key(keyid: Any, role: Any, scheme: Any) -> None:
    """A key that a receipt names; its scheme may be one that this version does not know."""
    _READ.text(keyid, "keyid", pattern=fields.SHA256_HEX)
    _READ.text(role, "role", limit=32)
    _READ.text(scheme, "scheme", limit=64)


def _check_tag(tag: Any, where: str) -> None:
    _READ.text(tag, where, pattern=TAG)


def _check_undeclared(reference: Any, where: str) -> None:
    """Whatever the service called it: it need not be a valid reference."""
    _READ.text(reference, where, limit=MAX_TOLD_CHARACTERS)


def _check_number(number: Any, where: str) -> None:
    _READ.integer(number, where, least=1)


def _check_instance(value: Any, where: str, *, kind: type) -> None:
    _READ.instance(value, where, kind)
    if kind is CountedKey:
        _check_key(value.keyid, value.role, value.scheme)
