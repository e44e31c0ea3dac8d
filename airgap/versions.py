"""Versions of the formats: one table for each format tells which reader reads which version.

A JSON document of ours says its version as ``schema``, a statement in its predicate type
(``urn:acr-airgap-transfer:receipt:v1``). A version above those of the table was written by a newer tool: that
is said with a code of its own, ``NEWER_FORMAT``, because it is neither damage nor forgery, and because the
remedy is another one. ``docs/format.md`` §14 tells what changes a version and what does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from airgap.errors import Code, UntrustedInputError
from airgap.fields import FieldReader

R = TypeVar("R", bound=Callable[..., Any])
_PREDICATE_TYPE = re.compile(r"urn:acr-airgap-transfer:([a-z][a-z-]{0,31}):v([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(Generic[R]):
    """A format and its readers by version.

    Args:
        name: the format's name for people and in predicate types, such as ``bundle``.
        read: the reader that refuses, with the format's code, what carries no version at all.
        readers: the reader of each version, by its number; at least one.
        newer: the reader of what every later version has, too; without it a later version is refused.
    """

    name: str
    read: FieldReader
    readers: Mapping[int, R]
    newer: R | None = None

    def of_document(self, raw: Any) -> R:
        """The reader for a document, by its member ``schema``.

        Raises:
            UntrustedInputError: ``NEWER_FORMAT``: its version is higher than all that are known.
            AirgapError: of the format's code, when it is no object with a known or a later ``schema``.
        """
        if type(raw) is not dict or type(raw.get("schema")) is not int:
            self.read.refuse(f"{self.name}.schema", "not an object with a schema number")
        return self._reader(raw["schema"], f"{self.name}.schema")

    def of_predicate_type(self, raw: Any) -> R:
        """The reader for a statement, by its predicate type; raises as :meth:`of_document`."""
        match = _PREDICATE_TYPE.fullmatch(raw) if type(raw) is str else None
        if match is None or match[1] != self.name:
            self.read.refuse("predicateType", f"not that of a {self.name}")
        return self._reader(int(match[2]), "predicateType")

    def _reader(self, version: int, where: str) -> R:
        if version in self.readers:
            return self.readers[version]
        newest = max(self.readers)
        if version < newest:
            self.read.refuse(where, f"version {version}; there is none below {min(self.readers)}")
        if self.newer is None:
            raise UntrustedInputError(
                Code.NEWER_FORMAT, f"{self.name} of version {version}; this tool reads up to {newest}"
            )
        return self.newer
