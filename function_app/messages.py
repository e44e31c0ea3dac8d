"""Messages between orchestrators, activities and their working documents: JSON with a schema number.

A message is declared as a frozen class and checked member by member when it is read, since history outlives
code: an orchestration that was started by the version before goes on with the one after. ``schema`` is
written, required and compared; members are in lowerCamelCase; an unknown one refuses the message. Values stay
small: what may grow lies in a working document, and the message says whose.
"""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec

from airgap.errors import Code, UntrustedInputError

T = TypeVar("T")

SCHEMA = 1


class Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="schema",
    tag=SCHEMA,
):
    """The base of all orders to activities and orchestrations, and of working documents."""


class Result(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="outcome",
    tag=str.lower,
):
    """The base of all results; ``outcome`` is the class's name in lower case unless it says otherwise."""


class Item(Message, frozen=True, omit_defaults=True):
    """One of many of the same kind: the ``number``-th, from 0, of ``owner``'s working documents."""

    owner: str
    number: int
    pinned: str = ""
    """SHA-256 of the document that the item is worked on by, where it must be that very one."""


def dump(message: msgspec.Struct) -> dict[str, Any]:
    """The message as plain JSON values."""
    return cast("dict[str, Any]", msgspec.json.decode(msgspec.json.encode(message)))


def read(raw: Any, kind: type[T]) -> T:
    """Read a message of the class ``kind`` from plain JSON values.

    Raises:
        UntrustedInputError: ``NEWER_FORMAT`` if it is of another schema, or shaped as this version does not
            know it.
    """
    if isinstance(raw, Mapping) and issubclass(kind, Message) and "schema" not in raw:
        raise UntrustedInputError(Code.NEWER_FORMAT, f"{kind.__name__}: no schema")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise UntrustedInputError(Code.NEWER_FORMAT, f"{kind.__name__}: {error}") from None
