"""The values that a template allows for its parameters."""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.expansion.errors import LanguageError

_TYPES: Mapping[str, type] = {
    "array": list,
    "bool": bool,
    "int": int,
    "object": dict,
    "secureobject": dict,
    "securestring": str,
    "string": str,
}


def check_parameter(value: Any, declared: Mapping[str, Any]) -> None:
    """Refuse a value that the declaration of its parameter does not allow.

    Raises:
        LanguageError: the value is not allowed; the message says why.
    """
    for fault in _faults(value, declared):
        raise LanguageError(fault)


def _faults(value: Any, declared: Mapping[str, Any]) -> Iterator[str]:
    kind = _TYPES.get(declared["type"].lower())
    if kind is None:
        yield f"the type {declared['type']} is not known here"
    elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        yield f"{declared['type']} is expected"
    elif "allowedValues" in declared and value not in declared["allowedValues"]:
        yield f"one of {', '.join(map(str, declared['allowedValues']))} is expected"
    elif kind is int:
        if not declared.get("minValue", value) <= value <= declared.get("maxValue", value):
            yield f"{value} is less or more than it may be"
    elif isinstance(value, str | list | dict):
        length = len(value)
        if not declared.get("minLength", length) <= length <= declared.get("maxLength", length):
            yield "it is shorter or longer than it may be"
