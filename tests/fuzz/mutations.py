"""Hostile inputs made from valid ones: bytes, JSON values and lines; and noise."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

_BAD_UTF8 = (
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"\xef\xbb\xbf",
    b"\x00",
)
_NUMBERS = (
    *("1" + "0" * 17, "9007199254740992", "-9007199254740992", "-1", "-0", "1.0", "1e400", "1e2", "0.1"),
    *("NaN", "Infinity", "-Infinity", "01", "+1", "9" * 5000, "1" + "0" * 400, "0x10", "1_0", "\u0661"),
)
_STRINGS = (
    *("", " ", "\x00", "\x7f", "\ud800", "\udc00\ud800", "\u202e", "\u0661", "\uff11", "e\u0301", "\ufeff"),
    *(
        "../../etc/passwd",
        "a" * 1025,
        "A" * 64,
        "0" * 64,
        "0" * 65,
        "sha256:",
        "con",
        "-",
        "1" * 20,
        "\U0001f600",
    ),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "2026-01-31T08:00:60Z"),
)


class _Raw(str):
    """JSON text that stands where a value stands, just as it is."""

    __slots__ = ()


# --- bytes -------------------------------------------------------------------------------------------------


def mutated_bytes(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed after one to four changes: flip, cut, insert, splice, repeat, truncate, nest, huge number."""
    raw = random.choice(seeds)
    for _ in range(random.randint(1, 4)):
        raw = random.choice(_BYTE_CHANGES)(random, raw, random.randint(0, len(raw)), seeds)
    return raw


def _depth(random: Random) -> int:
    """Some, among them those at which a recursive parser is about to give up."""
    limit = sys.getrecursionlimit()
    return random.choice((1, 8, 100, random.randint(limit - 250, limit), 2_000, 50_000))


def _flip(random: Random, raw: bytes, at: int, _: Sequence[bytes]) -> bytes:
    if at == len(raw):
        return raw
    return raw[:at] + bytes([raw[at] ^ random.randint(1, 255)]) + raw[at + 1 :]


def _cut(random: Random, raw: bytes, at: int, _: Sequence[bytes]) -> bytes:
    return raw[:at] + raw[at + random.randint(1, 64) :]


def _insert(random: Random, raw: bytes, at: int, _: Sequence[bytes]) -> bytes:
    return raw[:at] + random.choice((*_BAD_UTF8, random.randbytes(3))) + raw[at:]


def _splice(random: Random, raw: bytes, at: int, seeds: Sequence[bytes]) -> bytes:
    other = random.choice(seeds)
    start = random.randint(0, len(other))
    return raw[:at] + other[start : start + random.randint(1, 400)] + raw[at:]


def _repeat(random: Random, raw: bytes, at: int, _: Sequence[bytes]) -> bytes:
    piece = raw[at : at + random.randint(1, 200)]
    return raw[:at] + piece * random.choice((2, 3, 300)) + raw[at:]


def _truncate(_random: Random, raw: bytes, at: int, _: Sequence[bytes]) -> bytes:
    return raw[:at]


def _nest_bytes(random: Random, raw: bytes, at: int, _: Sequence[bytes]) -> bytes:
    return raw[:at] + random.choice((b"[", b'{"a":', b"]")) * _depth(random) + raw[at:]


def _number(random: Random, raw: bytes, at: int, _: Sequence[bytes]) -> bytes:
    return raw[:at] + random.choice(_NUMBERS).encode() + raw[at:]


_BYTE_CHANGES: tuple[Callable[[Random, bytes, int, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _cut, _insert, _splice, _repeat, _truncate, _nest_bytes, _number),
)


# --- JSON --------------------------------------------------------------------------------------------------


def mutated_json(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed, still JSON in most cases, after one to three changes of its values and members."""
    root = [json.loads(random.choice(seeds))]
    for _ in range(random.randint(1, 3)):
        places = list(_places(root))
        holder, key = random.choice(places)
        random.choice(_JSON_CHANGES)(random, holder, key, places)
    return _dump(root[0]).encode("utf-8", "surrogatepass")


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in the tree, the root included."""
    for key, value in enumerate(holder) if isinstance(holder, list) else list(holder.items()):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _value(random: Random) -> Any:
    kinds: tuple[Sequence[Any], ...] = (
        (None, True, False, 0, -1, 2**53 - 1, 2**53),
        _STRINGS,
        _STRINGS,
        [_Raw(random.choice(_NUMBERS))],
        ([], {}, ["a"], [0], [None], {"a": "a"}, {"a": 0}),
    )
    return copy.deepcopy(random.choice(random.choice(kinds)))


def _replace(random: Random, holder: Any, key: Any, _: Any) -> None:
    holder[key] = _value(random)


def _swap(random: Random, holder: Any, key: Any, places: Any) -> None:
    other, other_key = random.choice(places)
    copies = copy.deepcopy((holder[key], other[other_key]))
    other[other_key], holder[key] = copies


def _delete(_random: Random, holder: Any, key: Any, _: Any) -> None:
    if len(holder) > 1 or isinstance(holder, dict):
        del holder[key]


def _add_member(random: Random, holder: Any, key: Any, _: Any) -> None:
    if isinstance(holder, dict):
        holder[random.choice(("extra", "schema", "", "__proto__", str(key).upper()))] = _value(random)
    else:
        holder.insert(0, copy.deepcopy(holder[key]))


def _duplicate_key(random: Random, holder: Any, key: Any, _: Any) -> None:
    value = _dump(holder[key])
    if isinstance(holder, dict):
        holder[key] = _Raw(f"{value},{json.dumps(key)}:{random.choice((value, 'null', '1'))}")


def _nest(random: Random, holder: Any, key: Any, _: Any) -> None:
    depth = _depth(random)
    start, end = random.choice((("[", "]"), ('{"a":', "}")))
    inner = random.choice((_dump(holder[key]), '"\\ud800"'))
    holder[key] = _Raw(start * depth + inner + end * depth)


def _change_text(random: Random, holder: Any, key: Any, _: Any) -> None:
    value = holder[key]
    if isinstance(value, _Raw) or not isinstance(value, str):
        return
    at = random.randint(0, len(value))
    piece = random.choice(
        (*_STRINGS, chr(random.choice((random.randint(0, 0x7F), random.randint(0, 0x10FFFF)))))
    )
    holder[key] = value[:at] + piece + value[at + random.randint(0, 2) :]


def _change_digit(random: Random, holder: Any, key: Any, _: Any) -> None:
    """Digests, names and times of the right form that are not the right ones."""
    value = holder[key]
    if isinstance(value, str) and value and not isinstance(value, _Raw):
        at = random.randrange(len(value))
        holder[key] = value[:at] + random.choice("0123456789abcdef") + value[at + 1 :]


def _change_number(random: Random, holder: Any, key: Any, _: Any) -> None:
    if type(holder[key]) is int:
        holder[key] += random.choice((-1, 1, 7, 2**32, 2**53, -(2**53)))


_JSON_CHANGES: tuple[Callable[[Random, Any, Any, Any], None], ...] = (
    *(_replace, _replace, _swap, _delete, _add_member, _duplicate_key, _nest),
    *(_change_text, _change_text, _change_digit, _change_digit, _change_number),
)


def _dump(value: Any) -> str:
    """JSON of a tree that may hold :class:`_Raw`."""
    if isinstance(value, _Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_dump(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dump, value)) + "]"
    return json.dumps(value)


# --- lines -------------------------------------------------------------------------------------------------

_TAILS = (b"\r", b" ", b"\t*", b"\x85", b"\xe2\x80\xa8", b"\x0b", b"\x00")
_LINES = (b"", b" ", b"a" * 5000, b": :", b"0" * 64 + b"  ../x", b"\xff")


def mutated_lines(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed after one to four changes of whole lines: removed, repeated, moved, mixed, ended otherwise."""
    lines = random.choice(seeds).split(b"\n")
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(lines))
        match random.randint(0, 6):
            case 0 if len(lines) > 1:
                del lines[at]
            case 1:
                lines.insert(at, random.choice(lines))
            case 2:
                to = random.randrange(len(lines))
                lines[at], lines[to] = lines[to], lines[at]
            case 3:
                lines.insert(at, random.choice(random.choice(seeds).split(b"\n")))
            case 4:
                lines[at] += random.choice(_TAILS)
            case 5:
                lines[at] = lines[at].swapcase()
            case _:
                lines[at] = random.choice(_LINES)
    return b"\n".join(lines)


# --- noise -------------------------------------------------------------------------------------------------

_TOKENS = (
    *(
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        '"a"',
        "0",
        "1",
        "-",
        ".",
        "e",
        "\\",
        "\\u",
        "\\ud800",
        "true",
        "null",
    ),
    *_NUMBERS,
)


def noise(random: Random, _seeds: Sequence[bytes]) -> bytes:
    """Bytes, JSON tokens and JSON values that come from nowhere."""
    match random.randint(0, 2):
        case 0:
            return random.randbytes(random.randint(0, 200))
        case 1:
            return "".join(random.choices(_TOKENS, k=random.randint(0, 40))).encode()
        case _:
            return _dump(_any_value(random, 4)).encode("utf-8", "surrogatepass")


def _any_value(random: Random, depth: int) -> Any:
    match random.randint(0, 3 if depth else 1):
        case 2:
            return [_any_value(random, depth - 1) for _ in range(random.randint(0, 4))]
        case 3:
            return {
                random.choice(_STRINGS): _any_value(random, depth - 1) for _ in range(random.randint(0, 4))
            }
        case _:
            return _value(random)
