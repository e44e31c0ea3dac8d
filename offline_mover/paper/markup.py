"""HTML and SVG in which a value can never become markup: all that is not :class:`Markup` is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from airgap.redaction import redact
from offline_mover.medium.media_fs import printable

_VOID = frozenset({"meta", "br", "hr"})
"""Elements without content have no end tag (HTML Living Standard §13.1.2)."""

_MAX_PLAIN = 1000  # what printable() cuts


class Markup(str):
    """A text that is markup already, made by :func:`element` or a literal in the code, never a value."""

    __slots__ = ()


def escaped(value: str) -> Markup:
    """The value as text, or as an attribute's value between double quotes; markup stays what it is.

    What cannot be printed (control characters, marks that turn the direction of writing, lone surrogates) is
    shown as an escape, what looks like a secret as ``***``, and what is longer than any value of ours is cut.
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(presentable(value), quote=True))


def presentable(value: str) -> str:
    """The value safe to show as :func:`escaped` says, but not yet safe to write into HTML."""
    is_plain = value.isprintable() and len(value) <= _MAX_PLAIN  # printable() looks at each character
    return redact(value if is_plain else printable(value))


def joined(pieces: Iterable[str], by: str = "") -> Markup:
    """All pieces, one after the other, escaped where they are no markup."""
    return Markup(escaped(by).join(escaped(piece) for piece in pieces))


def element(name: str, /, *children: str, **attributes: str | int | None) -> Markup:
    """An HTML element with its attributes and children.

    Args:
        name: the name of the element; a literal in the code.
        children: markup, or text to escape.
        attributes: ``class_`` is ``class`` and ``aria_label`` is ``aria-label``; ``None`` leaves one out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value if isinstance(value, str) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(children)}</{name}>")
