"""in-toto Statement v1, as far as our formats use it.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airgap import fields
from airgap.errors import Code
from airgap.strict_json import dump_canonical, load_strict

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_STATEMENT_BYTES = 16 * 1024 * 1024
MAX_SUBJECTS = 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One named thing a statement speaks about, by the hex SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Subjects and what is said of them; the predicate is not looked into here."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Any

    def to_bytes(self) -> bytes:
        """The canonical bytes (RFC 8785); these are what is signed and hashed."""
        return dump_canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": s.name, "digest": {"sha256": s.sha256}} for s in self.subjects],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def parse_statement(raw: bytes, *, predicate_type: str, code: Code) -> Statement:
    """Read a statement of ours: closed objects, SHA-256 digests only, unique subject names.

    Args:
        raw: payload bytes whose signature has been verified.
        predicate_type: the one predicate type expected; any other, a later version too, is refused.
        code: the integrity code to refuse with.

    Raises:
        UntrustedInputError: ``TOO_LARGE`` or ``code``.
    """
    read = fields.FieldReader(code)

    def subject(value: Any, where: str) -> Subject:
        members = read.members(value, where, "name", "digest")
        digest = read.members(members["digest"], f"{where}.digest", "sha256")
        return Subject(
            name=read.text(members["name"], f"{where}.name"),
            sha256=read.text(digest["sha256"], f"{where}.digest.sha256", pattern=fields.SHA256_HEX),
        )

    value = load_strict(raw, max_bytes=MAX_STATEMENT_BYTES, code=code)
    members = read.members(value, "statement", "_type", "subject", "predicateType", "predicate")
    if members["_type"] != STATEMENT_TYPE:
        read.refuse("statement._type", f"not {STATEMENT_TYPE}")
    if members["predicateType"] != predicate_type:
        read.refuse("statement.predicateType", f"not {predicate_type}")
    subjects = read.items(members["subject"], "statement.subject", subject, least=1, most=MAX_SUBJECTS)
    if len({s.name for s in subjects}) != len(subjects):
        read.refuse("statement.subject", "a name occurs twice")
    return Statement(subjects=subjects, predicate_type=predicate_type, predicate=members["predicate"])
