"""In-toto Statements, version 1, as far as the project's formats use them.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from airgap import fields
from airgap.errors import Code, UntrustedInputError
from airgap.strict_json import dump_canonical, load_strict

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_STATEMENT_BYTES = 16 * 1024 * 1024
MAX_SUBJECTS = 120_000
_LATER_STATEMENT = re.compile(r"https://in-toto\.io/Statement/v([2-9]|[1-9][0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A named thing that a statement speaks about, by the hex SHA-256 of its bytes.

    Not checked here: the two strings are kept as they were written, and each kind of statement checks which
    names and digests it allows.
    """

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Subjects, and a predicate that says something about them and is not looked into here."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Any

    def to_bytes(self) -> bytes:
        """The canonical bytes (RFC 8785) of the statement, which are signed and hashed.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: no reader would take so long a statement.
        """
        raw = dump_canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": s.name, "digest": {"sha256": s.sha256}} for s in self.subjects],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )
        if len(raw) > MAX_STATEMENT_BYTES:
            raise UntrustedInputError(
                Code.TOO_LARGE, f"{len(raw)} bytes, a statement has at most {MAX_STATEMENT_BYTES}"
            )
        return raw


def parse_statement(raw: bytes, *, code: Code) -> Statement:
    """Read a statement of ours: closed objects, SHA-256 digests only.

    Args:
        raw: payload bytes whose signature has been verified.
        code: the integrity code to refuse with.

    Raises:
        UntrustedInputError: ``TOO_LARGE``, ``code``, or ``NEWER_FORMAT`` for a later version of statements.

    Not checked: the predicate type (:class:`airgap.versions.Format`), the predicate, names and digests.
    """
    read = fields.FieldReader(code)

    def subject(value: Any, where: str) -> Subject:
        members = read.members(value, where, "name", "digest")
        digest = read.members(members["digest"], f"{where}.digest", "sha256")
        if type(members["name"]) is not str or type(digest["sha256"]) is not str:
            read.refuse(where, "its name or its digest is not a string")
        return Subject(name=members["name"], sha256=digest["sha256"])

    value = load_strict(raw, max_bytes=MAX_STATEMENT_BYTES, code=code)
    if type(value) is dict and _LATER_STATEMENT.fullmatch(str(value.get("_type"))):
        raise UntrustedInputError(Code.NEWER_FORMAT, f"{value['_type']}; this tool reads {STATEMENT_TYPE}")
    members = read.members(value, "statement", "_type", "subject", "predicateType", "predicate")
    if members["_type"] != STATEMENT_TYPE:
        read.refuse("statement._type", f"not {STATEMENT_TYPE}")
    if type(members["predicateType"]) is not str:
        read.refuse("statement.predicateType", "not a string")
    return Statement(
        subjects=read.items(members["subject"], "statement.subject", subject, least=1, most=MAX_SUBJECTS),
        predicate_type=members["predicateType"],
        predicate=members["predicate"],
    )
