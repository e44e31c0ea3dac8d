"""Checks for single fields of our formats; each returns the value or refuses with the field's name.

The constructors of the formats' classes use them, so that an object which exists is one that any reader of
the format accepts. Reading JSON only takes objects apart and hands the members to the constructors: nothing
is checked twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from airgap.errors import AirgapError, Code, error_for
from airgap.strict_json import MAX_SAFE_INTEGER

T = TypeVar("T")

TRANSFER_ID = re.compile(r"(?!receipts\Z)[a-z0-9]{8,40}")
"""Fits a container path, a BagIt group identifier, and with a prefix the name of a PipelineRun (5-50).

A transfer has a folder of its name on a volume, beside ``receipts``.
"""

CHANNEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LOGIN_SERVER = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,253}[a-z0-9])?(?::[0-9]{1,5})?")
MAX_NOTE_CHARACTERS = 500
"""Of a text for a person; an error's own text is no longer (:class:`airgap.errors.AirgapError`)."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")


class FieldReader:
    """A reader for the members of one format's JSON objects, which refuses all that is wrong with one code.

    Every object of our own formats is closed: an unknown member is refused, because a restriction that an old
    reader skips would turn a refusal into an acceptance.
    """

    def __init__(self, code: Code) -> None:
        self.code = code

    def refuse(self, where: str, why: str) -> NoReturn:
        """Raise the error of this format for the field ``where``.

        Raises:
            AirgapError: always; its code is this format's, its detail is the field and ``why``.
        """
        raise error_for(self.code, f"{where}: {why}")

    @contextmanager
    def within(self, where: str) -> Iterator[None]:
        """A block whose refusals name their field below ``where``, as ``<where>.<field>``.

        Raises:
            AirgapError: as the block raised it, of the same code.
        """
        try:
            yield
        except AirgapError as error:
            raise error_for(error.code, f"{where}.{error.detail}") from None

    def members(self, raw: Any, where: str, *required: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
        """The object ``raw``, which has exactly the ``required`` members and at most the ``optional`` ones.

        Each method below returns what it has read, or refuses with the code of the format and the name of the
        field.
        """
        if type(raw) is not dict:
            self.refuse(where, "not an object")
        for name in required:
            if name not in raw:
                self.refuse(f"{where}.{name}", "missing")
        for name in raw:
            if name not in required and name not in optional:
                self.refuse(f"{where}.{name}", "unknown member")
        return raw

    def text(self, raw: Any, where: str, *, pattern: re.Pattern[str] | None = None, limit: int = 1024) -> str:
        """The string ``raw``, of 1 to ``limit`` printable characters, all matching ``pattern`` if given."""
        if type(raw) is not str or not 1 <= len(raw) <= limit or not raw.isprintable():
            self.refuse(where, f"not a printable string of 1 to {limit} characters")
        if pattern is not None and not pattern.fullmatch(raw):
            self.refuse(where, f"{raw[:80]!r} is not of the form {pattern.pattern}")
        return raw

    def optional_text(
        self, raw: Any, where: str, *, pattern: re.Pattern[str] | None = None, limit: int = 1024
    ) -> str | None:
        """The string ``raw``, as :meth:`text` accepts it; ``None`` for ``null``."""
        return None if raw is None else self.text(raw, where, pattern=pattern, limit=limit)

    def note(self, raw: Any, where: str, *, limit: int = MAX_NOTE_CHARACTERS) -> str:
        """The string ``raw`` for a person, perhaps empty, of at most ``limit`` characters."""
        if type(raw) is not str or len(raw) > limit or _SURROGATE.search(raw):
            self.refuse(where, f"not a string of at most {limit} characters")
        return raw

    def sha256(self, raw: Any, where: str) -> str:
        """The hexadecimal digits of a digest that is written ``sha256:…``; refuses any other value."""
        return self.text(raw, where, pattern=DIGEST).removeprefix("sha256:")

    def optional_sha256(self, raw: Any, where: str) -> str | None:
        """The digits of a digest, as :meth:`sha256` accepts it; ``None`` for ``null``."""
        return None if raw is None else self.sha256(raw, where)

    def integer(self, raw: Any, where: str, *, least: int = 0, most: int = MAX_SAFE_INTEGER) -> int:
        """The integer ``raw``, from ``least`` to ``most``; ``true`` is not an integer."""
        if type(raw) is not int or not least <= raw <= most:
            self.refuse(where, f"not an integer from {least} to {most}")
        return raw

    def flag(self, raw: Any, where: str) -> bool:
        """Whether a JSON boolean says ``true``; refuses anything that is none, numbers included."""
        if type(raw) is not bool:
            self.refuse(where, "neither true nor false")
        return raw

    def items(
        self, raw: Any, where: str, read: Callable[[Any, str], T], *, least: int = 0, most: int
    ) -> tuple[T, ...]:
        """The elements of an array of ``least`` to ``most``, each read by ``read(element, where)``."""
        if type(raw) is not list or not least <= len(raw) <= most:
            self.refuse(where, f"not an array of {least} to {most} elements")
        return tuple(read(element, f"{where}[{index}]") for index, element in enumerate(raw))

    def array(self, raw: Any, where: str) -> tuple[Any, ...]:
        """The elements of an array, not looked at; refuses anything that is no array."""
        if type(raw) is not list:
            self.refuse(where, "not an array")
        return tuple(raw)

    def each(
        self,
        values: Any,
        where: str,
        check: Callable[[Any, str], object],
        *,
        least: int = 0,
        most: int,
    ) -> None:
        """Refuse all but a tuple of ``least`` to ``most`` values that ``check(value, where)`` accepts."""
        if type(values) is not tuple or not least <= len(values) <= most:
            self.refuse(where, f"not {least} to {most} elements")
        for index, value in enumerate(values):
            check(value, f"{where}[{index}]")

    def instance(self, value: object, where: str, kind: type) -> None:
        """Refuse a value of another class than ``kind``, whose constructor checks its own members."""
        if type(value) is not kind:
            self.refuse(where, f"not a {kind.__name__}")

    def moment(self, value: Any, where: str) -> datetime:
        """An aware time in whole seconds, as documents have it; refuses any other value."""
        if not isinstance(value, datetime) or value.tzinfo is None or value.microsecond:
            self.refuse(where, "not a time with a zone, in whole seconds")
        return value

    def time(self, raw: Any, where: str) -> datetime:
        """The aware UTC time that RFC 3339 text in whole seconds tells, such as ``2026-01-31T08:00:00Z``."""
        try:
            return parse_time(self.text(raw, where, pattern=_TIME))
        except ValueError:
            self.refuse(where, "not a date and time")


def parse_time(text: str) -> datetime:
    """The aware UTC time that a text such as ``2026-01-31T08:00:00Z`` tells (RFC 3339, whole seconds, ``Z``).

    Raises:
        ValueError: the text is of any other form.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("not of the form YYYY-MM-DDTHH:MM:SSZ")
    year, month, day, hour, minute, second = map(int, match.groups())
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """The RFC 3339 text of an aware time, in UTC and whole seconds, rounded down."""
    # Not strftime: the C library writes the year 1 as it likes.
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
