"""Damage: what is wrong with which part, found in one pass, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from airgap import fields
from airgap.errors import Code

_KINDS = {
    code.name: code
    for code in (
        Code.PART_MISSING,
        Code.PART_TRUNCATED,
        Code.PART_CORRUPT,
        Code.UNDECLARED_FILE,
        Code.UNSAFE_NAME,
        Code.BAG_MALFORMED,
        Code.MEDIA_UNREADABLE,
        Code.BLOB_CHANGED,
        Code.BLOB_MISMATCH,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One finding: ``code`` says which kind, ``name`` which part or file, ``detail`` what exactly.

    ``offset_bytes`` and ``size_bytes`` locate the part within its transfer blob; ``None`` for other files.
    """

    code: Code
    name: str
    detail: str = ""
    offset_bytes: int | None = None
    size_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """``{"code", "name", "detail", "offset", "size"}``."""
        return {
            "code": self.code.name,
            "name": self.name,
            "detail": self.detail,
            "offset": self.offset_bytes,
            "size": self.size_bytes,
        }

    @classmethod
    def from_json(cls, raw: Any, where: str, read: fields.FieldReader) -> Self:
        """Read one finding of a receipt."""
        value = read.members(raw, where, "code", "name", "detail", "offset", "size")
        code = _KINDS.get(read.text(value["code"], f"{where}.code"))
        if code is None:
            read.refuse(f"{where}.code", "not a kind of damage")
        if type(value["detail"]) is not str:
            read.refuse(f"{where}.detail", "not a string")
        return cls(
            code=code,
            name=read.text(value["name"], f"{where}.name"),
            detail=value["detail"],
            offset_bytes=None
            if value["offset"] is None
            else read.integer(value["offset"], f"{where}.offset"),
            size_bytes=None if value["size"] is None else read.integer(value["size"], f"{where}.size"),
        )


def gravest(damages: Iterable[Damage]) -> Code | None:
    """The one code that stands for all, the lowest exit code of them; ``None`` when nothing is damaged."""
    return min((damage.code for damage in damages), key=lambda code: code.exit_code, default=None)
