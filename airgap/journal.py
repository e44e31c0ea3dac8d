"""The journal: the recorded history of each transfer, import, standing order, ticket and removal.

Each transfer and standing order (at the source), each import (at the target), each removal and each ticket
has one chain of entries, which say what was done or decided, by whom, and when. An entry names the SHA-256 of
the entry before it, so that none can be altered, removed, moved or inserted without notice. What cannot be
seen in a chain is that its *last* entries were removed: an immutability policy on the container prevents
that. Which state may follow which is written in :mod:`airgap.states`.

A step that writes an entry may run more than once and late, so :meth:`Journal.next` tells what is new from
what was recorded before. The first entry that was written stays.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, TypeVar

from airgap import fields
from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.states import ACTIVE, FINAL, FIRST, TRANSITIONS, Kind, State
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

E = TypeVar("E", bound=StrEnum)

SCHEMA = 1
"""Raised with every new state too: a chain is judged by the tables that it was written by."""

MAX_ENTRY_BYTES = 64 * 1024
MAX_ENTRIES = 1000
"""Of one chain; a usual one has about ten. Only a state that may come again can make it long."""

_BY_LIMIT = 128
_IMPORT_ID = re.compile(r"[a-z0-9]{8,80}")
_ENTRY_NAME = re.compile(r"([a-z]{1,20})/([a-z0-9-]{1,80})/([0-9]{8})\.json")
_READ = fields.FieldReader(Code.JOURNAL_BROKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One entry of a journal: a decision, or a step that was done.

    Args:
        kind: whether it is the journal of a transfer, an import, a ticket, a removal or an order.
        about: the id of the transfer, of the import's orchestration, of the ticket, or of what was removed; a
            standing order's name.
        number: its place in the chain, from 1.
        state: the state that the transfer or import has reached.
        at: when, aware, in UTC and whole seconds.
        by: who or what decided, such as ``app`` or ``caller:<name>``; 1 to 128 printable characters.
        facts: what belongs to the state, as JSON: texts, integers, booleans, null, and lists and objects of
            them. Kept as a copy.
        previous_sha256: the hex SHA-256 of the entry before; ``None`` exactly for the first.

    Raises:
        UntrustedInputError: ``JOURNAL_BROKEN`` for any other value; ``TOO_LARGE`` beyond 64 KiB.
    """

    kind: Kind
    about: str
    number: int
    state: State
    at: datetime
    by: str
    facts: Mapping[str, Any]
    previous_sha256: str | None
    _raw: bytes = field(init=False, repr=False, compare=False)
    """What it is written as, made once: every reading of a chain asks for it several times."""

    def __post_init__(self) -> None:
        _READ.text(self.about, "id", pattern=_pattern_of(self.kind))
        _READ.integer(self.number, "number", least=1, most=MAX_ENTRIES)
        if self.state not in TRANSITIONS[self.kind]:
            _READ.refuse("state", f"{self.state} is no state of {self.kind}")
        if self.at.utcoffset() is None or self.at.microsecond:
            _READ.refuse("at", "not an aware time in whole seconds")
        object.__setattr__(self, "at", self.at.astimezone(UTC))
        _READ.text(self.by, "by", limit=_BY_LIMIT)
        if (self.previous_sha256 is None) != (self.number == 1):
            _READ.refuse("previousSha256", "null for the first entry, and for no other")
        _READ.optional_text(self.previous_sha256, "previousSha256", pattern=fields.SHA256_HEX)
        object.__setattr__(self, "facts", plain_facts(self.facts))
        object.__setattr__(self, "_raw", self._written())
        if (size_bytes := len(self._raw)) > MAX_ENTRY_BYTES:
            raise UntrustedInputError(
                Code.TOO_LARGE, f"journal entry of {size_bytes} bytes, at most {MAX_ENTRY_BYTES} allowed"
            )

    @property
    def name(self) -> str:
        """The name of the entry's blob, with the number zero-padded, so that a listing comes in order."""
        return entry_name(self.kind, self.about, self.number)

    @property
    def sha256(self) -> str:
        """The hex SHA-256 of :meth:`to_bytes`, by which the next entry names this one as its predecessor."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The entry as canonical JSON (RFC 8785)."""
        return self._raw

    def _written(self) -> bytes:
        return dump_canonical(
            {
                "schema": SCHEMA,
                "kind": self.kind.value,
                "id": self.about,
                "number": self.number,
                "state": self.state.value,
                "at": format_time(self.at),
                "by": self.by,
                "facts": self.facts,
                "previousSha256": self.previous_sha256,
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read an entry from the bytes of its blob.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any entry; ``NEWER_FORMAT`` for a schema
                that is not known yet;
                ``JOURNAL_BROKEN`` if it is not the one canonical form of an entry: somebody else wrote into
                the journal.
        """
        value = load_strict(raw, max_bytes=MAX_ENTRY_BYTES, code=Code.JOURNAL_BROKEN)
        entry = cls(**_FORMAT.of_document(value)(value))
        if entry.to_bytes() != raw:
            _READ.refuse("journal entry", "not in its canonical form")
        return entry


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`JournalEntry`; its constructor checks them."""
    value = _READ.members(
        raw,
        "journal entry",
        *("schema", "kind", "id", "number", "state", "at", "by", "facts", "previousSha256"),
    )
    return {
        "kind": _member(Kind, value["kind"], "kind"),
        "about": value["id"],
        "number": value["number"],
        "state": _member(State, value["state"], "state"),
        "at": _READ.time(value["at"], "at"),
        "by": value["by"],
        "facts": value["facts"],
        "previous_sha256": value["previousSha256"],
    }


_FORMAT = Format(name="journal entry", read=_READ, readers={SCHEMA: _read_v1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The chain of all entries about one transfer, import, ticket, removal or order; perhaps empty.

    Raises:
        UntrustedInputError: ``JOURNAL_BROKEN``: an entry is of another journal or another number, does not
            name the digest of the one before, or says what could not follow.
    """

    kind: Kind
    about: str
    entries: tuple[JournalEntry, ...] = ()

    def __post_init__(self) -> None:
        previous: JournalEntry | None = None
        for number, entry in enumerate(self.entries, start=1):
            where = entry_name(self.kind, self.about, number)
            if entry.name != where:
                _READ.refuse(where, f"speaks of {entry.name}")
            if entry.previous_sha256 != (None if previous is None else previous.sha256):
                _READ.refuse(where, "the entry before was altered, or is another one")
            if entry.state not in _following(self.kind, previous):
                before = "nothing" if previous is None else previous.state
                _READ.refuse(where, f"{entry.state} cannot follow {before}")
            previous = entry

    @classmethod
    def read(cls, kind: Kind, about: str, entries: Sequence[bytes]) -> Self:
        """The journal of ``about``, checked, from the bytes of all its entries in the order of their names.

        Raises:
            UntrustedInputError: ``JOURNAL_BROKEN``: an entry is malformed or does not follow the one before;
                ``TOO_LARGE``: an entry is larger than any that is written.
        """
        return cls(kind=kind, about=about).continued(entries)

    def continued(self, entries: Sequence[bytes]) -> Self:
        """The journal with later entries added, given as their bytes, in order; raises as :meth:`read`."""
        return replace(self, entries=(*self.entries, *map(JournalEntry.from_bytes, entries)))

    @property
    def first(self) -> JournalEntry | None:
        """The first entry: the order or the arrival; ``None`` if nothing is known."""
        return self.entries[0] if self.entries else None

    @property
    def last(self) -> JournalEntry | None:
        """The last entry, which says how things stand; ``None`` if nothing is known."""
        return self.entries[-1] if self.entries else None

    @property
    def state(self) -> State | None:
        """The state that the last entry tells; ``None`` if nothing is known."""
        return self.entries[-1].state if self.entries else None

    @property
    def is_final(self) -> bool:
        """Whether the last state is one after which nothing follows; see :data:`airgap.states.FINAL`."""
        return self.state in FINAL[self.kind]

    @property
    def is_active(self) -> bool:
        """Whether an orchestration is at work on it, or should be."""
        return self.state in ACTIVE[self.kind]

    def newest(self, state: State) -> JournalEntry | None:
        """The last entry of that state; ``None`` if the state was never reached."""
        return next((entry for entry in reversed(self.entries) if entry.state is state), None)

    def next(self, state: State, facts: Mapping[str, Any], *, by: str, at: datetime) -> JournalEntry | None:
        """The entry to write now; ``None`` if it is recorded already, as when a step runs again or late.

        Recorded is a state that was reached before, whatever its facts: the first stays. A state that may
        come again (a damaged bundle is damaged again) is recorded if it was reached with these very facts; so
        its facts must tell one time from the other.

        Args:
            state: the state that has been reached.
            facts: the facts of the entry; see :class:`JournalEntry`.
            by: who or what decided; see :class:`JournalEntry`.
            at: the time now, aware; a fraction of a second is cut off.

        Raises:
            PolicyRefusal: ``TRANSITION_REFUSED``: that cannot follow. Another decision was faster, such as a
                cancellation.
            UntrustedInputError: ``JOURNAL_BROKEN`` or ``TOO_LARGE``: such an entry cannot be.
        """
        facts = plain_facts(facts)
        reached = [entry for entry in self.entries if entry.state is state]
        if any(entry.facts == facts for entry in reached):
            return None
        if state not in _following(self.kind, self.last):
            if reached:
                return None
            before = f"follow {self.state}" if self.last else "be the first"
            raise PolicyRefusal(Code.TRANSITION_REFUSED, f"{self.kind}/{self.about}: {state} cannot {before}")
        return JournalEntry(
            kind=self.kind,
            about=self.about,
            number=len(self.entries) + 1,
            state=state,
            at=at.replace(microsecond=0),
            by=by,
            facts=facts,
            previous_sha256=None if self.last is None else self.last.sha256,
        )

    def extended(self, entry: JournalEntry) -> Self:
        """The journal with ``entry`` added at its end; raises as the constructor."""
        return replace(self, entries=(*self.entries, entry))


def entry_name(kind: Kind, about: str, number: int) -> str:
    """The name of an entry's blob, such as ``transfers/0123456789abcdef/00000001.json``."""
    return f"{kind}/{about}/{number:08d}.json"


def parse_entry_name(name: str) -> tuple[Kind, str, int] | None:
    """Kind, id and number that the name of an entry's blob tells; ``None`` for any other name."""
    match = _ENTRY_NAME.fullmatch(name)
    if match is None:
        return None
    kind = next((kind for kind in Kind if kind.value == match[1]), None)
    if kind is None or not is_journal_id(kind, match[2]):
        return None
    return kind, match[2], int(match[3])


def is_journal_id(kind: Kind, about: str) -> bool:
    """Whether ``about`` has the form of an id that a journal of that kind can be about."""
    return _pattern_of(kind).fullmatch(about) is not None


def plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``facts`` in the form in which they come back from JSON.

    Raises:
        UntrustedInputError: ``JOURNAL_BROKEN`` for what strict JSON cannot carry, such as a float;
            ``TOO_LARGE``: they take more bytes than an entry may have.
    """
    try:
        raw = dump_canonical(dict(facts))
    except (TypeError, ValueError, RecursionError) as error:
        _READ.refuse("facts", f"not JSON: {error}")
    plain: dict[str, Any] = load_strict(raw, max_bytes=MAX_ENTRY_BYTES, code=Code.JOURNAL_BROKEN)
    return plain


def _following(kind: Kind, entry: JournalEntry | None) -> frozenset[State]:
    return FIRST[kind] if entry is None else TRANSITIONS[kind][entry.state]


def _pattern_of(kind: Kind) -> re.Pattern[str]:
    match kind:
        case Kind.TRANSFERS:
            return fields.TRANSFER_ID
        case Kind.ORDERS:
            return fields.CHANNEL  # a name, made of the same characters
        case _:
            return _IMPORT_ID


def _member(kinds: type[E], raw: Any, where: str) -> E:
    try:
        return kinds(raw)
    except ValueError:
        _READ.refuse(where, f"not one of {', '.join(kinds)}")
