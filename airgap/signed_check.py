"""Signed answers of checks: what a check says of a bundle, in an envelope of the role that must vouch for it.

A channel whose policy has ``checkRoles`` believes the checks of these names only what such a role has signed:
an in-toto Statement of its own (``docs/format.md`` §16), about this manifest, this import, this check and
exactly these copies. So whoever can answer in a check's name, by its address, its certificate or its machine,
passes no bundle without the key.

Whether an answer must be signed is the policy's word, never the answer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from airgap import fields
from airgap.checks import MAX_ANSWER_BYTES, NAME, CheckAnswer, CheckQuestion, Finding
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, UntrustedInputError, error_for
from airgap.policy import Role, TrustPolicy
from airgap.statement import Statement, Subject, parse_statement
from airgap.verify import CountedKey, count_roles, valid_keys
from airgap.versions import Format

PREDICATE_TYPE = "urn:acr-airgap-transfer:check:v1"
_SUBJECT = "bundle-manifest"
_MAX_IMPORT_ID = 100
_READ = fields.FieldReader(Code.CHECK_MALFORMED)

_UNPROVEN = {
    Code.SIGNATURE_INVALID: Code.CHECK_FORGED,
    Code.SIGNATURE_UNCHECKABLE: Code.CHECK_UNCHECKABLE,
    Code.ENVELOPE_MALFORMED: Code.CHECK_UNSIGNED,
    Code.SIGNER_UNKNOWN: Code.CHECK_UNSIGNED,
    Code.KEY_REVOKED: Code.CHECK_UNSIGNED,
    Code.THRESHOLD_NOT_MET: Code.CHECK_UNSIGNED,
    Code.ALGORITHM_MISSING: Code.CHECK_UNSIGNED,
}
"""What it means for an answer that its envelope is refused with such a code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStatement:
    """The content of a signed answer: the finding of one check, which it was asked for in one import.

    Raises:
        UntrustedInputError: ``CHECK_MALFORMED``, naming the member.
    """

    check: str
    import_id: str
    finding: Finding

    def __post_init__(self) -> None:
        _READ.text(self.check, "check", pattern=NAME)
        _READ.text(self.import_id, "importId", limit=_MAX_IMPORT_ID)
        _READ.instance(self.finding, "finding", Finding)

    def to_bytes(self) -> bytes:
        """The answer as a canonical statement: the bytes that are signed."""
        predicate = {"check": self.check, "importId": self.import_id, **self.finding.members()}
        subject = Subject(name=_SUBJECT, sha256=self.finding.manifest_sha256)
        return Statement(subjects=(subject,), predicate_type=PREDICATE_TYPE, predicate=predicate).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a check's answer from the payload of an envelope whose signatures have been verified.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any answer; ``CHECK_MALFORMED``, naming the
                member at fault; ``NEWER_FORMAT``: a newer tool wrote it.
        """
        statement = parse_statement(raw, code=Code.CHECK_MALFORMED)
        return cls(**_FORMAT.of_predicate_type(statement.predicate_type)(statement))


def _read_v1(statement: Statement) -> dict[str, Any]:
    """The arguments of :class:`CheckStatement`; the constructors check them."""
    value = _READ.members(
        statement.predicate, "predicate", "check", "importId", "blobs", "verdict", "detail", "scanner"
    )
    if len(statement.subjects) != 1 or statement.subjects[0].name != _SUBJECT:
        _READ.refuse("subject", f"not exactly one named {_SUBJECT}")
    return {
        "check": value["check"],
        "import_id": value["importId"],
        "finding": Finding.of_members(value, statement.subjects[0].sha256),
    }


_FORMAT = Format(name="check", read=_READ, readers={1: _read_v1})


def read_answer(
    raw: bytes, question: CheckQuestion, *, role: Role | None, policy: TrustPolicy, now: datetime
) -> CheckAnswer:
    """Read a check's answer to ``question``; one that must be signed is verified before it is parsed.

    Args:
        raw: the answer as it came.
        question: what was asked.
        role: the one of the question's channel that must sign this check's answers; ``None`` for nobody.
        policy: the trust policy in force.
        now: the current time, aware: a key that is revoked by then does not count, whenever it signed.

    Raises:
        UntrustedInputError: ``CHECK_FORGED``: a signature in the name of a key of the role is not its own;
            ``CHECK_MALFORMED``: it is about something else than was asked, or no answer; ``TOO_LARGE``: it is
                larger than any answer; ``NEWER_FORMAT``: it is of a later version.
        ServiceError: ``CHECK_UNSIGNED``: it is not signed, or by none or too few who count;
            ``CHECK_UNCHECKABLE``: a signature could not be checked.
        PolicyRefusal: ``POLICY_EXPIRED``: nobody counts by this policy.
    """
    if role is None:
        return CheckAnswer.from_bytes(raw, question)
    if len(raw) > MAX_ANSWER_BYTES:
        raise UntrustedInputError(Code.TOO_LARGE, f"an answer has at most {MAX_ANSWER_BYTES} bytes")
    payload, signers = _verified(raw, question.check, role, policy, now)
    statement = CheckStatement.from_bytes(payload)
    for where, said, meant in (
        ("check", statement.check, question.check),
        ("importId", statement.import_id, question.import_id),
    ):
        if said != meant:
            _READ.refuse(where, f"for {said}, not for {meant}")
    return CheckAnswer.of(statement.finding, raw, question, signers)


def _verified(
    raw: bytes, check: str, role: Role, policy: TrustPolicy, now: datetime
) -> tuple[bytes, tuple[CountedKey, ...]]:
    try:
        envelope = Envelope.from_bytes(raw)
        valid = valid_keys(envelope, policy, now, role.keyids)
        return envelope.payload, count_roles(valid, {check: role})
    except AirgapError as refusal:
        if refusal.code not in _UNPROVEN:
            raise
        raise error_for(_UNPROVEN[refusal.code], str(refusal)) from None
