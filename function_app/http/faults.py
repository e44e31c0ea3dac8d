"""The faults of a request, one by one: where each is, what was given, and what is wanted, in words.

Everything that a caller is told about a mistake is made here, so that an answer stays small whatever the
request, shows no secret and quotes no pattern.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import quote

from airgap.errors import Code, OperatorError
from airgap.redaction import redact

MISSING = object()
"""Stands for a value that was not given at all; ``null`` was."""

CHANNEL_IN_WORDS = "a channel's name: 1 to 63 lower-case letters, digits and hyphens, no hyphen at either end"

MAX_FAULTS_TOLD = 20
"""Faults beyond them are counted only: a request of a megabyte of mistakes is not answered by ten."""

HOST_PARAMETERS = frozenset({"code"})
"""Query parameters of the Functions host's own: ``code`` is the function key.

https://learn.microsoft.com/azure/azure-functions/function-keys-how-to#use-access-keys-in-requests
"""

_SHOWN_CHARACTERS = 80
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"

Place = Literal["body", "query", "header"]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mistake in a request.

    Args:
        place: the part of the request.
        path: the names and indices that lead to the value; empty for the body as a whole.
        given: what stands there, in words or as JSON, shortened.
        wanted: what should stand there, in words.
    """

    place: Place
    path: Path
    given: str
    wanted: str

    @property
    def field(self) -> str:
        """The value's name as people write it: ``artifacts[1]``; ``body`` for the whole of it."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if type(step) is int else f".{step}" if text else str(step)
        return _shorten(text) or self.place

    @property
    def pointer(self) -> str:
        """The value as a JSON pointer in a URI fragment (RFC 6901 §6): ``#/artifacts/1``."""
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in self.path)
        return "#" + "".join(f"/{quote(_shorten(step), safe='~')}" for step in steps)

    def to_json(self) -> dict[str, str]:
        """The member of ``errors`` in problem details; only a value in the body has a pointer."""
        pointer = {"pointer": self.pointer} if self.place == "body" else {}
        return {
            "in": self.place,
            "field": self.field,
            **pointer,
            "given": self.given,
            "wanted": self.wanted,
        }


class RequestRefusedError(OperatorError):
    """A request that is not accepted, with its faults; ``count`` counts also those that are not kept."""

    def __init__(self, faults: tuple[Fault, ...], count: int, *, is_too_large: bool = False) -> None:
        names = ", ".join(fault.field for fault in faults)
        rest = count - len(faults)
        super().__init__(Code.REQUEST_INVALID, f"at fault: {names}{f' and {rest} more' if rest else ''}")
        self.faults = faults
        self.count = count
        self.is_too_large = is_too_large

    def __reduce__(self) -> Any:
        """Survive a process pool, as the base class does."""
        return type(self), (self.faults, self.count)


@dataclass(slots=True)
class Faults:
    """The faults of one request, collected while it is read; the first of them are kept, all are counted."""

    told: list[Fault] = field(default_factory=list)
    count: int = 0

    def add(self, place: Place, path: Path, value: Any, wanted: str) -> None:
        """Note that ``value`` is not what is wanted."""
        self.add_words(place, path, describe_value(value), wanted)

    def add_words(self, place: Place, path: Path, given: str, wanted: str) -> None:
        """Note a fault whose given value is described in words."""
        self.count += 1
        if len(self.told) < MAX_FAULTS_TOLD:
            self.told.append(Fault(place=place, path=path, given=given, wanted=wanted))

    def add_unknown_parameters(self, params: Mapping[str, str], known: tuple[str, ...] = ()) -> Self:
        """Note every query parameter that is none of ``known``."""
        wanted = f"one of the parameters {', '.join(known)}" if known else "no query parameters"
        for name, value in params.items():
            if name not in known and name not in HOST_PARAMETERS:
                self.add("query", (name,), value, wanted)
        return self

    def add_unknown_members(self, body: Mapping[str, Any], known: tuple[str, ...]) -> Self:
        """Note every member of the body that is none of ``known``."""
        for name, value in body.items():
            if name not in known:
                self.add("body", (name,), value, f"one of the members {', '.join(known)}")
        return self

    def refuse_any(self) -> None:
        """Refuse the request if any fault was noted.

        Raises:
            RequestRefusedError: ``REQUEST_INVALID``, with all faults.
        """
        if self.count:
            raise self.refusal()

    def refusal(self, *, is_too_large: bool = False) -> RequestRefusedError:
        """The error that tells all faults; ``is_too_large`` makes it 413 instead of 400."""
        return RequestRefusedError(tuple(self.told), self.count, is_too_large=is_too_large)


def describe_value(value: Any) -> str:
    """A JSON value in few words: texts, numbers and literals as JSON writes them, else what kind it is."""
    if value is MISSING:
        return "nothing"
    if type(value) is list:
        return f"an array of {len(value)} elements" if value else "an empty array"
    if type(value) is dict:
        return "an object"
    if type(value) is not str:
        return json.dumps(value)
    return json.dumps(_shorten(value), ensure_ascii=False)


def _shorten(text: str) -> str:
    """The first 80 characters of a text, none of which does anything but show; without secrets."""
    # Before it is cut: of half a secret nothing would tell that it is one.
    text = redact(text)
    shown = (one if one.isprintable() else _UNPRINTABLE for one in text[:_SHOWN_CHARACTERS])
    return "".join(shown) + ("…" if len(text) > _SHOWN_CHARACTERS else "")
