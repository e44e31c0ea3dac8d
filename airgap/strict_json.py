"""Strict JSON: what comes from outside is read strictly, and our own is written in one form only.

Reading refuses what :mod:`json` lets pass: duplicate keys, floats, NaN, huge integers, deep nesting, lone
surrogates, a byte-order mark, more bytes than allowed. Writing follows RFC 8785 (JSON Canonicalization
Scheme) for the values our formats use: objects with ASCII keys, strings, integers below 2**53, booleans,
null.
"""

from __future__ import annotations

import json
import re
from typing import Any

from airgap.errors import Code, UntrustedInputError, error_for

MAX_SAFE_INTEGER = 2**53 - 1
"""RFC 8785 §3.2.2.3 and RFC 7493 §2.2: beyond it, readers disagree about a number's value."""


def load_strict(raw: bytes, *, max_bytes: int, code: Code) -> Any:
    """Parse UTF-8 JSON from an untrusted source.

    Args:
        raw: the bytes as received.
        max_bytes: refuse anything longer, unread.
        code: the code to refuse with.

    Raises:
        UntrustedInputError: ``TOO_LARGE``: it is longer than ``max_bytes``.
        AirgapError: of ``code``, for anything that is not strict JSON.
    """
    if len(raw) > max_bytes:
        raise UntrustedInputError(Code.TOO_LARGE, f"{len(raw)} bytes, at most {max_bytes} allowed")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_safe_int,
        )
    except (ValueError, RecursionError) as error:
        raise error_for(code, f"not strict JSON: {error}") from None
    _refuse_lone_surrogates(raw, value, code)
    return value


def dump_canonical(value: Any) -> bytes:
    """The one canonical byte string of ``value`` (RFC 8785).

    Raises:
        TypeError: a value is of a type that the formats do not use: a bug.
        ValueError: a value is out of range: a bug.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object names a member twice")
    return members


def _refuse_number(text: str) -> Any:
    raise ValueError(f"number {text[:20]} is not an integer")


def _safe_int(text: str) -> int:
    # The length is looked at first: int() of a million digits takes its time.
    if len(text) > 17 or abs(number := int(text)) > MAX_SAFE_INTEGER:  # noqa: PLR2004 - digits of 2**53 and a sign
        raise ValueError("an integer is beyond 2**53")
    return number


_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def _refuse_lone_surrogates(raw: bytes, value: Any, code: Code) -> None:
    """UTF-8 cannot carry them but an escape can; such a string could never be written again."""
    if not _SURROGATE_ESCAPE.search(raw):
        return
    try:
        dump_canonical(value)
    except (UnicodeEncodeError, RecursionError):  # writing takes a few levels more than reading did
        raise error_for(code, "not strict JSON: a lone surrogate, or nested too deep") from None
