"""The functions of the template language that need nothing but their arguments."""

import base64
import json
import re
import uuid
from functools import lru_cache
from typing import Any

from infra.expansion.language import Functions

_GUIDS = uuid.UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")
"""The namespace of what ``guid()`` makes; the rest is RFC 9562's version 5."""


@lru_cache(maxsize=4096)
def guid(*names: str) -> str:
    """The function ``guid`` of ARM: the same id for the same names, everywhere."""
    return str(uuid.uuid5(_GUIDS, "-".join(names)))


def format_text(pattern: str, *values: Any) -> str:
    """The pattern with values in place of ``{0}`` and so on; ``{{`` and ``}}`` are braces.

    Raises:
        ValueError: the pattern is no format.
    """

    def replaced(match: re.Match[str]) -> str:
        match match[0]:
            case "{{" | "}}":
                return match[0][0]
            case _ if match["at"] is None:
                raise ValueError(f"not a format: {pattern!r}")
        return text_of(values[int(match["at"])])

    return re.sub(r"\{\{|\}\}|\{(?P<at>\d+)\}|[{}]", replaced, pattern)


def text_of(value: Any) -> str:
    """The text as which ARM writes a value into another text.

    Raises:
        TypeError: ARM writes no such value into a text.
    """
    match value:
        case str():
            return value
        case bool():
            return str(value)  # True and False, as .NET has them
        case int():
            return str(value)
        case dict() | list():
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    raise TypeError(f"not to be written as a text: {value!r}")


def union(first: Any, *others: Any) -> Any:
    """The union of objects, later members over earlier, inner objects too; or of arrays, without repeats."""
    if all(isinstance(one, list) for one in (first, *others)):
        found: list[Any] = []
        for each in (element for one in (first, *others) for element in one):
            if each not in found:
                found.append(each)
        return found
    whole = dict(first)
    for other in others:
        for name, value in other.items():
            is_inner = isinstance(value, dict) and isinstance(whole.get(name), dict)
            whole[name] = union(whole[name], value) if is_inner else value
    return whole


def resource_path(kind: str, *names: str) -> str:
    """The path ``providers/Namespace/type/name/…`` of a type and the names of its parts.

    Raises:
        ValueError: there are not as many names as parts.
    """
    namespace, *parts = kind.split("/")
    if len(parts) != len(names) or not parts or not all(names):
        raise ValueError(f"{kind} has {len(parts)} names, not {names}")
    pairs = (f"{part}/{name}" for part, name in zip(parts, names, strict=True))
    return f"providers/{namespace}/{'/'.join(pairs)}"


def extension_resource_id(scope: str, kind: str, *names: str) -> str:
    """The id of a resource that is deployed on a scope, such as a role assignment."""
    return f"{scope}/{resource_path(kind, *names)}"


def _object(*pairs: Any) -> dict[str, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _contains(whole: Any, part: Any) -> bool:
    return bool(part in whole)


def _is_empty(value: Any) -> bool:
    return value is None or len(value) == 0


def _extreme(which: Any, *values: Any) -> Any:
    return which(*values) if isinstance(values[0], list) else which(values)


def _first_of(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _quotient(dividend: int, divisor: int) -> int:
    """Towards zero, as .NET divides."""
    size = abs(dividend) // abs(divisor)
    return size if (dividend < 0) == (divisor < 0) else -size


def _is_not(value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false is expected")
    return not value


PURE: Functions = {
    "add": lambda a, b: a + b,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "coalesce": _first_of,
    "concat": lambda *parts: (
        [each for part in parts for each in part]
        if isinstance(parts[0], list)
        else "".join(map(text_of, parts))
    ),
    "contains": _contains,
    "createarray": lambda *values: list(values),
    "createobject": _object,
    "div": _quotient,
    "empty": _is_empty,
    "endswith": lambda text, end: text.lower().endswith(end.lower()),
    "equals": lambda a, b: type(a) is type(b) and a == b,
    "extensionresourceid": extension_resource_id,
    "false": lambda: False,
    "first": lambda whole: whole[0],
    "format": format_text,
    "greater": lambda a, b: a > b,
    "greaterorequals": lambda a, b: a >= b,
    "guid": guid,
    "int": int,
    "join": lambda parts, between: between.join(map(text_of, parts)),
    "json": json.loads,
    "last": lambda whole: whole[-1],
    "length": len,
    "less": lambda a, b: a < b,
    "lessorequals": lambda a, b: a <= b,
    "max": lambda *values: _extreme(max, *values),
    "min": lambda *values: _extreme(min, *values),
    "mod": lambda a, b: a - b * _quotient(a, b),
    "mul": lambda a, b: a * b,
    "not": _is_not,
    "null": lambda: None,
    "range": lambda start, count: list(range(start, start + count)),
    "replace": lambda text, old, new: text.replace(old, new),
    "split": lambda text, by: text.split(by),
    "startswith": lambda text, start: text.lower().startswith(start.lower()),
    "string": text_of,
    "sub": lambda a, b: a - b,
    "substring": lambda text, start, length=None: text[start:][:length],
    "take": lambda whole, count: whole[: max(count, 0)],
    "tolower": lambda text: text.lower(),
    "toupper": lambda text: text.upper(),
    "trim": lambda text: text.strip(),
    "true": lambda: True,
    "union": union,
}
