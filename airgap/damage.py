"""Damage: what is wrong with which part, found in one pass, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from airgap import fields
from airgap.errors import CODE_NAME, Code, UnknownCode, code_named
from airgap.parts import PartRange

_READ = fields.FieldReader(Code.RECEIPT_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One finding about a part or file: ``code`` says what kind, ``name`` which one, ``detail`` what exactly.

    ``offset_bytes`` and ``size_bytes`` locate the part within its transfer blob; ``None`` for other files. A
    code that this version does not have stands in a receipt that a newer tool wrote.

    Raises:
        UntrustedInputError: ``RECEIPT_MALFORMED``: no receipt could carry the finding.
    """

    code: Code | UnknownCode
    name: str
    detail: str = ""
    offset_bytes: int | None = None
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        _READ.text(self.code.name, "code", pattern=CODE_NAME)
        _READ.text(self.name, "name")
        _READ.note(self.detail, "detail")
        if self.offset_bytes is not None:
            _READ.integer(self.offset_bytes, "offset")
        if self.size_bytes is not None:
            _READ.integer(self.size_bytes, "size")

    @classmethod
    def of_part(cls, code: Code | UnknownCode, part: PartRange, detail: str = "") -> Self:
        """A finding about a part of the bundle, with the place of the part in its transfer blob."""
        return cls(
            code=code,
            name=part.name,
            detail=detail,
            offset_bytes=part.offset_bytes,
            size_bytes=part.size_bytes,
        )

    def to_json(self) -> dict[str, Any]:
        """The object ``{"code", "name", "detail", "offset", "size"}``."""
        return {
            "code": self.code.name,
            "name": self.name,
            "detail": self.detail,
            "offset": self.offset_bytes,
            "size": self.size_bytes,
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one finding of a receipt; refuses with ``RECEIPT_MALFORMED``."""
        value = _READ.members(raw, where, "code", "name", "detail", "offset", "size")
        with _READ.within(where):
            return cls(
                code=code_named(_READ.text(value["code"], "code", pattern=CODE_NAME)),
                name=value["name"],
                detail=value["detail"],
                offset_bytes=value["offset"],
                size_bytes=value["size"],
            )


def gravest(damages: Iterable[Damage]) -> Code | None:
    """The code that stands for all findings: the one with the lowest exit code; ``None`` without findings."""
    codes = (damage.code for damage in damages)
    known = (code if isinstance(code, Code) else Code.NEWER_FORMAT for code in codes)
    return min(known, key=lambda code: code.exit_code, default=None)
