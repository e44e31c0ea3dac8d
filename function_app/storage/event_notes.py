"""The notes in ``work`` of what is still to be told: one for each entry of the journal, written before it.

An entry that is there has thus been told or has a note, wherever whoever wrote it has died. A note may stand
there for an entry that never came.
"""

from datetime import datetime, timedelta
from typing import Any, Self, cast

import msgspec

from airgap.errors import UntrustedInputError
from airgap.fields import format_time, parse_time
from airgap.journal import entry_name, parse_entry_name
from airgap.states import Kind
from function_app.messages import Message, read
from function_app.ports import BlobStore
from function_app.storage.paths import EVENTS, JOURNAL, WORK

BEHIND = timedelta(minutes=30)
"""How long an event may have been refused before somebody is told."""

_MAX_NOTE_BYTES = 4 * 1024
_MAX_WHY = 200
_UNTRIED = b"null"
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=1), timedelta(minutes=15)
_MAX_DOUBLINGS = 10


def with_notes(blobs: BlobStore) -> BlobStore:
    """The storage, with a note left for each entry of the journal that is about to be written to it.

    Whoever writes to the journal writes through this, so that nobody can forget the note. One that cannot be
    written raises what the entry itself would: both are in one account.
    """
    return cast("BlobStore", _Noting(blobs))  # all calls but one go through as they are


class _Noting:
    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def create(self, container: str, name: str, content: bytes) -> bool:
        """See the port."""
        if container == JOURNAL:
            self._blobs.create(WORK, f"{EVENTS}{name}", _UNTRIED)
        return self._blobs.create(container, name, content)


class Trouble(Message, frozen=True):
    """The content of a note once its event could not be delivered.

    ``tries``: how often; ``since``: when first; ``after``: when it may be tried again; ``why``: what came of
    the last try, for a person.
    """

    tries: int
    since: str
    after: str
    why: str

    @classmethod
    def again(cls, before: Self | None, why: str, *, now: datetime) -> Self:
        """The trouble after one more try: each wait is twice as long as the one before, up to 15 minutes."""
        tries = 1 if before is None else before.tries + 1
        wait = min(_FIRST_WAIT * 2 ** min(tries - 1, _MAX_DOUBLINGS), _LONGEST_WAIT)
        since = format_time(now) if before is None else before.since
        return cls(tries=tries, since=since, after=format_time(now + wait), why=why[:_MAX_WHY])

    def is_long(self, now: datetime) -> bool:
        """Whether it has lasted long enough for somebody to be told."""
        return now - parse_time(self.since) > BEHIND

    def is_over(self, now: datetime) -> bool:
        """Whether it is time to try again; also where the clock was set back by more than any wait."""
        after = parse_time(self.after)
        return not now < after <= now + _LONGEST_WAIT


def note_name(kind: Kind, about: str, number: int) -> str:
    """The note that an entry of the journal is to be told."""
    return f"{EVENTS}{entry_name(kind, about, number)}"


def parse_note_name(name: str) -> tuple[Kind, str, int] | None:
    """The entry that a note is for, as kind, id and number; ``None`` for any other name."""
    return parse_entry_name(name.removeprefix(EVENTS)) if name.startswith(EVENTS) else None


def read_trouble(blobs: BlobStore, name: str) -> Trouble | None:
    """The tries so far, as a note says; ``None`` if there was none, or nobody can read what it says."""
    try:
        raw = blobs.read(WORK, name, max_bytes=_MAX_NOTE_BYTES)
        return None if raw in {None, _UNTRIED} else read(msgspec.json.decode(raw), Trouble)
    except (UntrustedInputError, msgspec.DecodeError):
        return None


def longest_trouble(blobs: BlobStore, *, at_most: int) -> tuple[str, Trouble] | None:
    """The note whose event has been refused for longest, of the first ``at_most`` notes, and how that went.

    ``None`` if none of them was refused.
    """
    names, _ = blobs.list_page(WORK, EVENTS, marker=None, limit=at_most)
    found = [(name, trouble) for name in names if (trouble := read_trouble(blobs, name)) is not None]
    return min(found, key=lambda one: one[1].since, default=None)


def keep_trouble(blobs: BlobStore, name: str, trouble: Trouble) -> None:
    """Write into a note what became of the last try."""
    blobs.put(WORK, name, msgspec.json.encode(trouble))
