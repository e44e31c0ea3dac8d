"""A custody event: what was done to a volume, as one line of its custody log.

A line is canonical JSON (RFC 8785) and a newline, so that ``head -n 1 custody-log.jsonl | sha256sum`` is what
the second line names as ``previous``. Every object is closed, every string printable and of bounded length,
and a line that is not in its one canonical form is refused: a line has one meaning and one digest.

Volumes outlive tools. An action or a code that this version does not know is kept as it stands, and a line of
a later schema is read as far as every schema has it: its place in the chain, when, what, who, where, with
which tool. Its bytes are chained like any other's, so nothing can be hidden in it;
:attr:`CustodyEvent.is_newer` says that there is more to it than this version can tell.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, unique
from typing import Any, Self

from airgap import fields
from airgap.errors import CODE_NAME, Code
from airgap.fields import format_time
from airgap.manifest import Tool
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

SCHEMA = 1
MAX_LINE_BYTES = 32 * 1024
MAX_LINES = 20_000
"""Of one log; ten a day are 5 years. :data:`airgap.media_plan.SLACK_BYTES` has room for some thousand."""

MAX_NUMBER = 10**9
MAX_HEAD_BYTES = 1024
MAX_SEEN = 16
"""A line names at most so many neighbours: with more volumes each is still named by that many others."""

GENESIS_SHA256 = "0" * 64
"""What the first line names as ``previous``."""

_MAX_COUNTS = 32
_NAME_LIMIT = 128
_ACTION = re.compile(r"[a-z][A-Za-z0-9]{1,31}")
_COUNT_NAME = re.compile(r"[a-z][A-Za-z0-9]{0,39}")
_READ = fields.FieldReader(Code.CUSTODY_BROKEN)


@unique
class Action(Enum):
    """The action that an event records; each is a command that has ended, well or not."""

    PULLED = "pulled"
    VERIFIED = "verified"
    REPAIRED = "repaired"
    PUSHED = "pushed"
    REPORTED = "reported"
    RECEIPTS_PULLED = "receiptsPulled"
    RECEIPTS_PUSHED = "receiptsPushed"
    MERGED = "merged"
    """Events that were kept in a side file were brought onto the volume."""


@dataclass(frozen=True, slots=True)
class UnknownAction:
    """An action of a newer tool, kept as the word that stands in the log."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMark:
    """The marks by which a volume was known when the event happened.

    Args:
        label: the label given when the file system was made.
        serial: the serial number of the file system, not of the device.
        number: the volume's place among those of the transfer, from 1.
        of: how many volumes the transfer has.
    """

    label: str | None = None
    serial: str | None = None
    number: int | None = None
    of: int | None = None

    def __post_init__(self) -> None:
        _READ.optional_text(self.label, "label", limit=_NAME_LIMIT)
        _READ.optional_text(self.serial, "serial", limit=_NAME_LIMIT)
        for name in ("number", "of"):
            if getattr(self, name) is not None:
                _READ.integer(getattr(self, name), name, least=1, most=9999)

    def to_json(self) -> dict[str, Any]:
        """The object ``{"label", "serial", "number", "of"}``."""
        return {"label": self.label, "serial": self.serial, "number": self.number, "of": self.of}

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read the member ``volume`` of an event; refuses with ``CUSTODY_BROKEN``."""
        value = _READ.members(raw, where, "label", "serial", "number", "of")
        with _READ.within(where):
            return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a log: the number of its last entry, and the hex SHA-256 of that line with its newline."""

    count: int
    sha256: str

    def __post_init__(self) -> None:
        _READ.integer(self.count, "count", most=MAX_NUMBER)
        _READ.text(self.sha256, "sha256", pattern=fields.SHA256_HEX)

    def to_bytes(self) -> bytes:
        """The head as the JSON content of the file ``custody-head.json``."""
        return dump_canonical({"schema": SCHEMA, "count": self.count, "sha256": self.sha256}) + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the content of the file ``custody-head.json``.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any head; ``CUSTODY_BROKEN``: it is
                malformed.
        """
        value = load_strict(raw, max_bytes=MAX_HEAD_BYTES, code=Code.CUSTODY_BROKEN)
        return cls(**_HEAD_FORMAT.of_document(value)(value))


def _read_head_v1(raw: Any) -> dict[str, Any]:
    value = _READ.members(raw, "head", "schema", "count", "sha256")
    # An empty log has a head, too, but no file that says so.
    return {"count": _READ.integer(value["count"], "count", least=1), "sha256": value["sha256"]}


def _read_head_newer(raw: Any) -> dict[str, Any]:
    """What the head file of every schema has: else a word in it would do to hide that the end was cut off."""
    for name in ("count", "sha256"):
        if name not in raw:
            _READ.refuse(f"head.{name}", "missing")
    return {"count": _READ.integer(raw["count"], "count", least=1), "sha256": raw["sha256"]}


_HEAD_FORMAT = Format(name="head", read=_READ, readers={SCHEMA: _read_head_v1}, newer=_read_head_newer)

GENESIS = Head(count=0, sha256=GENESIS_SHA256)
"""Where an empty log ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLog:
    """The head of another volume's log, as it was when the event was written.

    ``log_sha256`` is the digest of that log's first line: it stays the same while the log grows.
    """

    log_sha256: str
    head: Head
    volume: VolumeMark | None

    def __post_init__(self) -> None:
        _READ.text(self.log_sha256, "log", pattern=fields.SHA256_HEX)
        _READ.instance(self.head, "head", Head)
        if self.volume is not None:
            _READ.instance(self.volume, "volume", VolumeMark)

    def to_json(self) -> dict[str, Any]:
        """The object ``{"log", "count", "sha256", "volume"}``."""
        return {
            "log": self.log_sha256,
            "count": self.head.count,
            "sha256": self.head.sha256,
            "volume": None if self.volume is None else self.volume.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of the member ``seen``; refuses with ``CUSTODY_BROKEN``."""
        value = _READ.members(raw, where, "log", "count", "sha256", "volume")
        with _READ.within(where):
            return cls(
                log_sha256=value["log"],
                head=Head(count=_READ.integer(value["count"], "count", least=1), sha256=value["sha256"]),
                volume=_optional_mark(value["volume"], "volume"),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBody:
    """The content of an event, apart from its place in a log.

    Args:
        action: what was done.
        at: when, aware; kept in whole seconds.
        who: the person's account name.
        host: the machine's name.
        volume: the marks by which the volume was known.
        transfer_id: the transfer it was about, if it was about one.
        manifest_sha256: the hex SHA-256 of its bundle manifest, where that was accepted.
        code: name of the error code; ``None`` exactly when all was well.
        counts: parts, bytes and the like; names in lowerCamelCase, at most 32 of them.
        tool: the program that wrote the event.

    Raises:
        UntrustedInputError: ``CUSTODY_BROKEN``: no log may have such an event.
    """

    action: Action | UnknownAction
    at: datetime
    who: str
    host: str
    volume: VolumeMark | None = None
    transfer_id: str | None = None
    manifest_sha256: str | None = None
    code: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    tool: Tool

    def __post_init__(self) -> None:
        _READ.text(self.action.value, "event", pattern=_ACTION)
        _READ.moment(self.at, "at")
        _READ.text(self.who, "who", limit=_NAME_LIMIT)
        _READ.text(self.host, "host", limit=_NAME_LIMIT)
        if self.volume is not None:
            _READ.instance(self.volume, "volume", VolumeMark)
        _READ.optional_text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
        _READ.optional_text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)
        _READ.optional_text(self.code, "code", pattern=CODE_NAME)
        _check_counts(self.counts)
        _READ.instance(self.tool, "tool", Tool)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyEvent:
    """One entry of a custody log.

    Args:
        number: its place in the log, from 1.
        previous_sha256: the hex SHA-256 of the line before it, with its newline; 64 zeros for the first.
        body: what happened.
        seen: the heads of other volumes' logs that took part in the same command.
        recorded_as: the digest of the line as it stood in a side file, when it had to be chained anew because
            the volume's log had grown meanwhile.
        schema: the line's version number.
        further: the members of a later schema's line that this version does not know, as they stand.

    Raises:
        UntrustedInputError: ``CUSTODY_BROKEN``: no log may have such an entry.
    """

    number: int
    previous_sha256: str
    body: EventBody
    seen: tuple[SeenLog, ...] = ()
    recorded_as: str | None = None
    schema: int = SCHEMA
    further: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _READ.integer(self.number, "number", least=1, most=MAX_NUMBER)
        _READ.text(self.previous_sha256, "previous", pattern=fields.SHA256_HEX)
        _READ.instance(self.body, "event", EventBody)
        _READ.each(self.seen, "seen", _check_seen, most=MAX_SEEN)
        _READ.optional_text(self.recorded_as, "recordedAs", pattern=fields.SHA256_HEX)
        _READ.integer(self.schema, "schema", least=SCHEMA)

    @property
    def is_newer(self) -> bool:
        """Whether a newer tool wrote the event, so that this version cannot tell all that it says."""
        return (
            self.schema > SCHEMA
            or isinstance(self.body.action, UnknownAction)
            or (self.body.code is not None and self.body.code not in Code.__members__)
        )

    def to_json(self) -> dict[str, Any]:
        """The entry's JSON members; ``seen`` and ``recordedAs`` only where there is something to say."""
        body = self.body
        value: dict[str, Any] = {
            "schema": self.schema,
            "number": self.number,
            "previous": self.previous_sha256,
            "at": format_time(body.at),
            "event": body.action.value,
            "who": body.who,
            "host": body.host,
            "tool": body.tool.to_json(),
        }
        if self.recorded_as is not None:
            value["recordedAs"] = self.recorded_as
        if self.schema > SCHEMA:
            return {**self.further, **value}
        value |= {
            "volume": None if body.volume is None else body.volume.to_json(),
            "transferId": body.transfer_id,
            "manifestDigest": None if body.manifest_sha256 is None else f"sha256:{body.manifest_sha256}",
            "code": body.code,
            "counts": dict(body.counts),
        }
        if self.seen:
            value["seen"] = [seen.to_json() for seen in self.seen]
        return value

    def to_line(self) -> bytes:
        """The entry as one line of the log, newline included.

        Raises:
            UntrustedInputError: ``CUSTODY_BROKEN``: longer than any line may be.
        """
        line = dump_canonical(self.to_json()) + b"\n"
        if len(line) > MAX_LINE_BYTES:
            _READ.refuse("event", f"{len(line)} bytes, a line has at most {MAX_LINE_BYTES}")
        return line

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read one line, newline included; of a later schema only the members that every schema has.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is longer than any line; ``CUSTODY_BROKEN``, naming the
                first field at fault.

        Not checked: whether it belongs where it stands (:func:`airgap.custody.verify_log`).
        """
        value = load_strict(line, max_bytes=MAX_LINE_BYTES, code=Code.CUSTODY_BROKEN)
        event = cls(**_FORMAT.of_document(value)(value))
        if event.to_line() != line:
            _READ.refuse("event", "not in canonical form")
        return event


def line_sha256(line: bytes) -> str:
    """The hex SHA-256 of a line with its newline, by which the next line and the head name it."""
    return hashlib.sha256(line).hexdigest()


_FRAME = ("schema", "number", "previous", "at", "event", "who", "host", "tool")


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`CustodyEvent`; the constructors check them."""
    value = _READ.members(
        raw,
        "event",
        *_FRAME,
        *("volume", "transferId", "manifestDigest", "code", "counts"),
        optional=("seen", "recordedAs"),
    )
    body = {
        **_read_body(value),
        "volume": _optional_mark(value["volume"], "volume"),
        "transfer_id": value["transferId"],
        "manifest_sha256": _READ.optional_sha256(value["manifestDigest"], "manifestDigest"),
        "code": value["code"],
        "counts": value["counts"],
    }
    return {
        **_read_place(value),
        "body": EventBody(**body),
        "seen": ()
        if "seen" not in value
        else _READ.items(value["seen"], "seen", SeenLog.from_json, least=1, most=MAX_SEEN),
    }


def _read_newer(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`CustodyEvent` that every schema has; the rest is kept as it stands."""
    for name in _FRAME:
        if name not in raw:
            _READ.refuse(f"event.{name}", "missing")
    return {
        **_read_place(raw),
        "body": EventBody(**_read_body(raw)),
        "schema": raw["schema"],
        "further": {name: raw[name] for name in raw if name not in {*_FRAME, "recordedAs"}},
    }


_FORMAT = Format(name="custody event", read=_READ, readers={SCHEMA: _read_v1}, newer=_read_newer)


def _read_place(value: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": value["number"],
        "previous_sha256": value["previous"],
        "recorded_as": None
        if "recordedAs" not in value
        else _READ.text(value["recordedAs"], "recordedAs", pattern=fields.SHA256_HEX),
    }


def _read_body(value: dict[str, Any]) -> dict[str, Any]:
    action = _READ.text(value["event"], "event", pattern=_ACTION)
    return {
        "action": _ACTIONS.get(action) or UnknownAction(action),
        "at": _READ.time(value["at"], "at"),
        "who": value["who"],
        "host": value["host"],
        "tool": Tool.from_json(value["tool"], "tool", _READ),
    }


_ACTIONS = {action.value: action for action in Action}


def _check_counts(counts: Any) -> None:
    if not isinstance(counts, Mapping) or len(counts) > _MAX_COUNTS:
        _READ.refuse("counts", f"not an object of at most {_MAX_COUNTS} members")
    for name, count in counts.items():
        _READ.text(name, "counts", pattern=_COUNT_NAME)
        _READ.integer(count, f"counts.{name}")


def _check_seen(value: Any, where: str) -> None:
    _READ.instance(value, where, SeenLog)


def _optional_mark(raw: Any, where: str) -> VolumeMark | None:
    return None if raw is None else VolumeMark.from_json(raw, where)
