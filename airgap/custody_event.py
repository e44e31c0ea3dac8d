"""A custody event: what was done to a volume, as one line of its custody log.

A line is canonical JSON (RFC 8785) and a newline, so that ``head -n 1 custody-log.jsonl | sha256sum`` is what
the second line names as ``previous``. Every object is closed, every string printable and of bounded length,
and a line that is not in its one canonical form is refused: a line has one meaning and one digest.
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
from airgap.errors import Code
from airgap.fields import format_time
from airgap.manifest import Tool
from airgap.strict_json import dump_canonical, load_strict

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
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_COUNT_NAME = re.compile(r"[a-z][A-Za-z0-9]{0,39}")
_READ = fields.FieldReader(Code.CUSTODY_BROKEN)


@unique
class Action(Enum):
    """What was done; each is a command that has ended, well or not."""

    PULLED = "pulled"
    VERIFIED = "verified"
    REPAIRED = "repaired"
    PUSHED = "pushed"
    REPORTED = "reported"
    RECEIPTS_PULLED = "receiptsPulled"
    RECEIPTS_PUSHED = "receiptsPushed"
    MERGED = "merged"
    """Events that were kept in a side file were brought onto the volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMark:
    """By what a volume was known when the event happened.

    Args:
        label: as given when the file system was made.
        serial: of the file system, not of the device.
        number: among the volumes of the transfer, from 1.
        of: how many volumes the transfer has.
    """

    label: str | None = None
    serial: str | None = None
    number: int | None = None
    of: int | None = None

    def to_json(self) -> dict[str, Any]:
        """``{"label", "serial", "number", "of"}``."""
        return {"label": self.label, "serial": self.serial, "number": self.number, "of": self.of}

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read ``volume``."""
        value = _READ.members(raw, where, "label", "serial", "number", "of")
        return cls(
            label=_optional_name(value["label"], f"{where}.label"),
            serial=_optional_name(value["serial"], f"{where}.serial"),
            number=_optional_number(value["number"], f"{where}.number"),
            of=_optional_number(value["of"], f"{where}.of"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a log ends: the number of its last entry and the SHA-256 (hex) of that line with its newline."""

    count: int
    sha256: str

    def to_bytes(self) -> bytes:
        """The content of ``custody-head.json``."""
        return dump_canonical({"schema": SCHEMA, "count": self.count, "sha256": self.sha256}) + b"\n"

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read ``custody-head.json``.

        Raises:
            UntrustedInputError: ``TOO_LARGE`` or ``CUSTODY_BROKEN``.
        """
        parsed = load_strict(raw, max_bytes=MAX_HEAD_BYTES, code=Code.CUSTODY_BROKEN)
        value = _READ.members(parsed, "head", "schema", "count", "sha256")
        _READ.integer(value["schema"], "schema", least=SCHEMA, most=SCHEMA)
        return cls(
            count=_READ.integer(value["count"], "count", least=1, most=MAX_NUMBER),
            sha256=_READ.text(value["sha256"], "sha256", pattern=fields.SHA256_HEX),
        )


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

    def to_json(self) -> dict[str, Any]:
        """``{"log", "count", "sha256", "volume"}``."""
        return {
            "log": self.log_sha256,
            "count": self.head.count,
            "sha256": self.head.sha256,
            "volume": None if self.volume is None else self.volume.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``seen``."""
        value = _READ.members(raw, where, "log", "count", "sha256", "volume")
        return cls(
            log_sha256=_READ.text(value["log"], f"{where}.log", pattern=fields.SHA256_HEX),
            head=Head(
                count=_READ.integer(value["count"], f"{where}.count", least=1, most=MAX_NUMBER),
                sha256=_READ.text(value["sha256"], f"{where}.sha256", pattern=fields.SHA256_HEX),
            ),
            volume=_optional_mark(value["volume"], f"{where}.volume"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBody:
    """What happened, apart from its place in a log.

    Args:
        action: what was done.
        at: when, aware; kept in whole seconds.
        who: the person's account name.
        host: the machine's name.
        volume: by what the volume was known.
        transfer_id: of which transfer, where it was about one.
        manifest_sha256: of its bundle manifest (hex), where that was accepted.
        code: name of the error code; ``None`` exactly when all was well.
        counts: parts, bytes and the like; names in lowerCamelCase, at most 32 of them.
        tool: the program that wrote the event.
    """

    action: Action
    at: datetime
    who: str
    host: str
    volume: VolumeMark | None = None
    transfer_id: str | None = None
    manifest_sha256: str | None = None
    code: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    tool: Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyEvent:
    """One entry of a custody log.

    Args:
        number: its place in the log, from 1.
        previous_sha256: of the line before it (hex), with its newline; 64 zeros for the first.
        body: what happened.
        seen: the heads of other volumes' logs that took part in the same command.
        recorded_as: the digest of the line as it stood in a side file, when it had to be chained anew because
            the volume's log had grown meanwhile.
    """

    number: int
    previous_sha256: str
    body: EventBody
    seen: tuple[SeenLog, ...] = ()
    recorded_as: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The members of the line; ``seen`` and ``recordedAs`` only where there is something to say."""
        body = self.body
        value: dict[str, Any] = {
            "schema": SCHEMA,
            "number": self.number,
            "previous": self.previous_sha256,
            "at": format_time(body.at),
            "event": body.action.value,
            "who": body.who,
            "host": body.host,
            "volume": None if body.volume is None else body.volume.to_json(),
            "transferId": body.transfer_id,
            "manifestDigest": None if body.manifest_sha256 is None else f"sha256:{body.manifest_sha256}",
            "code": body.code,
            "counts": dict(body.counts),
            "tool": {"name": body.tool.name, "version": body.tool.version},
        }
        if self.seen:
            value["seen"] = [seen.to_json() for seen in self.seen]
        if self.recorded_as is not None:
            value["recordedAs"] = self.recorded_as
        return value

    def to_line(self) -> bytes:
        """The entry as a line, newline included."""
        return dump_canonical(self.to_json()) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read one line, newline included.

        Raises:
            UntrustedInputError: ``TOO_LARGE``, or ``CUSTODY_BROKEN`` naming the first field at fault.

        Not checked: whether it belongs where it stands (:func:`airgap.custody.verify_log`).
        """
        value = _READ.members(
            load_strict(line, max_bytes=MAX_LINE_BYTES, code=Code.CUSTODY_BROKEN),
            "event",
            *("schema", "number", "previous", "at", "event", "who", "host", "volume"),
            *("transferId", "manifestDigest", "code", "counts", "tool"),
            optional=("seen", "recordedAs"),
        )
        _READ.integer(value["schema"], "schema", least=SCHEMA, most=SCHEMA)
        event = cls(
            number=_READ.integer(value["number"], "number", least=1, most=MAX_NUMBER),
            previous_sha256=_READ.text(value["previous"], "previous", pattern=fields.SHA256_HEX),
            body=_read_body(value),
            seen=()
            if "seen" not in value
            else _READ.items(value["seen"], "seen", SeenLog.from_json, least=1, most=MAX_SEEN),
            recorded_as=None
            if "recordedAs" not in value
            else _READ.text(value["recordedAs"], "recordedAs", pattern=fields.SHA256_HEX),
        )
        if event.to_line() != line:
            _READ.refuse("event", "not in canonical form")
        return event


def line_sha256(line: bytes) -> str:
    """The digest (hex) by which the next line and the head name ``line``."""
    return hashlib.sha256(line).hexdigest()


def _read_body(value: dict[str, Any]) -> EventBody:
    action = _READ.text(value["event"], "event", limit=32)
    if action not in _ACTIONS:
        _READ.refuse("event", "unknown")
    digest = _READ.optional_text(value["manifestDigest"], "manifestDigest", pattern=fields.DIGEST)
    return EventBody(
        action=_ACTIONS[action],
        at=_READ.time(value["at"], "at"),
        who=_READ.text(value["who"], "who", limit=_NAME_LIMIT),
        host=_READ.text(value["host"], "host", limit=_NAME_LIMIT),
        volume=_optional_mark(value["volume"], "volume"),
        transfer_id=_READ.optional_text(value["transferId"], "transferId", pattern=fields.TRANSFER_ID),
        manifest_sha256=None if digest is None else digest.removeprefix("sha256:"),
        code=_READ.optional_text(value["code"], "code", pattern=_CODE),
        counts=_read_counts(value["counts"]),
        tool=Tool.from_json(value["tool"], "tool", _READ),
    )


_ACTIONS = {action.value: action for action in Action}


def _read_counts(raw: Any) -> dict[str, int]:
    if type(raw) is not dict or len(raw) > _MAX_COUNTS:
        _READ.refuse("counts", f"not an object of at most {_MAX_COUNTS} members")
    return {
        _READ.text(name, "counts", pattern=_COUNT_NAME): _READ.integer(count, f"counts.{name}")
        for name, count in raw.items()
    }


def _optional_mark(raw: Any, where: str) -> VolumeMark | None:
    return None if raw is None else VolumeMark.from_json(raw, where)


def _optional_name(raw: Any, where: str) -> str | None:
    return None if raw is None else _READ.text(raw, where, limit=_NAME_LIMIT)


def _optional_number(raw: Any, where: str) -> int | None:
    return None if raw is None else _READ.integer(raw, where, least=1, most=9999)
