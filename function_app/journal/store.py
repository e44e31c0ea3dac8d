"""The journal of one side, in its storage account: read whole, appended to, never changed."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock
from typing import Any

from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.journal import MAX_ENTRIES, MAX_ENTRY_BYTES, Journal, entry_name, parse_entry_name
from airgap.states import Kind, State
from function_app.ports import BlobStore, JournalRow, Projection
from function_app.storage.paths import JOURNAL

_MAX_TRIES = 20
_LOG = logging.getLogger(__name__)
_RECORDED = "journal: %s %s is %s (%s)"
"""The one line of each entry: kind, id, state, code. Alerts and workbook are made of it (``infra/``)."""

_BAD = frozenset({State.REFUSED, State.DAMAGED, State.FAILED})
_PUT_AWAY = frozenset({State.QUARANTINED, State.HELD})
"""What follows the decision against an upload: why it was taken stands in the entry before."""


_KEPT = 256
"""So many journals a process keeps in mind, none of them larger than the largest entry: 16 MiB at most."""


class _Known:
    """The journals of one account that this process has read, those that changed last."""

    def __init__(self) -> None:
        self._journals: dict[tuple[Kind, str], Journal] = {}
        self._lock = Lock()

    def get(self, kind: Kind, about: str) -> Journal:
        """What is known of a journal: its beginning, or nothing."""
        return self._journals.get((kind, about)) or Journal(kind=kind, about=about)

    def keep(self, journal: Journal) -> None:
        """Keep a journal in mind, and forget the one that has changed longest ago."""
        key = (journal.kind, journal.about)
        size_bytes = sum(len(entry.to_bytes()) for entry in journal.entries)
        with self._lock:
            known = self._journals.pop(key, None)
            if known is not None and len(known.entries) > len(journal.entries):
                journal = known  # another thread has read more meanwhile
            if size_bytes <= MAX_ENTRY_BYTES:
                self._journals[key] = journal
            if len(self._journals) > _KEPT:
                del self._journals[next(iter(self._journals))]


@lru_cache(maxsize=8)
def _known(_blobs: BlobStore) -> _Known:
    return _Known()


def forget_journals() -> None:
    """Forget every journal that this process has read, as if it were a new process."""
    _known.cache_clear()


@dataclass(frozen=True, slots=True)
class JournalStore:
    """The journals of a side in the container ``journal``; each has a row in the projection, too.

    Nothing in the container is ever changed or deleted, so that it may be made immutable, and a process reads
    no entry twice. The journal decides: a projection that cannot be written to is left behind, which is
    logged and does no harm.
    """

    blobs: BlobStore
    projection: Projection

    def read(self, kind: Kind, about: str) -> Journal:
        """The journal of ``about``, whole and checked; empty if there is none.

        One listing, and a read for each entry that this process does not know yet. What it knows it checked
        when it read it: who overwrites an entry afterwards is found by the next process.

        Raises:
            UntrustedInputError: ``JOURNAL_BROKEN``: an entry is missing, malformed or does not follow the one
                before; ``NEWER_FORMAT``: a newer version of the app wrote it; ``TOO_LARGE``: an entry is
                larger than any that is written.
        """
        known = _known(self.blobs)
        journal = known.get(kind, about)
        contents = []
        number = 0
        for number, name in enumerate(self.blobs.list_names(JOURNAL, f"{kind}/{about}/"), start=1):
            if name != entry_name(kind, about, number) or number > MAX_ENTRIES:
                raise UntrustedInputError(Code.JOURNAL_BROKEN, f"{JOURNAL}/{name}: not entry {number}")
            if number > len(journal.entries):
                contents.append(self._content(name))
        if number < len(journal.entries):
            missing = entry_name(kind, about, number + 1)
            raise UntrustedInputError(Code.JOURNAL_BROKEN, f"{JOURNAL}/{missing} was removed")
        if contents:
            journal = journal.continued(contents)
            known.keep(journal)
        return journal

    def record(
        self, kind: Kind, about: str, state: State, facts: Mapping[str, Any], *, by: str, at: datetime
    ) -> Journal:
        """Record that ``about`` has come to ``state``, once, however often and late this is called.

        Where another writer was faster, what it wrote is read and judged first.

        Returns:
            The journal as it is now. Its last entry may be a later one than this, and the entry of ``state``
            may have other facts: those that were written first.

        Raises:
            PolicyRefusal: ``TRANSITION_REFUSED``: another decision was faster.
            UntrustedInputError: as :meth:`read`; and for facts that no entry can carry.
            ServiceError: ``SERVICE_THROTTLED``: others write to this journal all the time.
        """
        for _ in range(_MAX_TRIES):
            journal = self.read(kind, about)
            entry = journal.next(state, facts, by=by, at=at)
            if entry is None:
                break
            if self.blobs.create(JOURNAL, entry.name, entry.to_bytes()):
                journal = journal.extended(entry)
                _known(self.blobs).keep(journal)
                level = logging.WARNING if state in _BAD else logging.INFO
                _LOG.log(level, _RECORDED, kind, about, state, facts.get("code", "-"))
                break
        else:
            raise ServiceError(Code.SERVICE_THROTTLED, f"{JOURNAL}/{kind}/{about}: too many write to it")
        self._project(journal)
        return journal

    def append(
        self, journal: Journal, state: State, facts: Mapping[str, Any], *, by: str, at: datetime
    ) -> Journal | None:
        """Add an entry to a journal, unless somebody else has added one since it was read.

        Returns:
            The journal as it is now; ``None`` if somebody else has added to it meanwhile, or it has these
            very facts already.

        Raises:
            PolicyRefusal: ``TRANSITION_REFUSED``: the state cannot follow the last one.
            UntrustedInputError: no entry can carry such facts, or the journal can have no further one.
        """
        entry = journal.next(state, facts, by=by, at=at)
        if entry is None or not self.blobs.create(JOURNAL, entry.name, entry.to_bytes()):
            return None
        _LOG.info(_RECORDED, journal.kind, journal.about, state, "-")
        journal = journal.extended(entry)
        self._project(journal)
        return journal

    def ids(self, kind: Kind) -> Iterator[str]:
        """The ids of all journals of a kind, ascending; listed page by page."""
        names = self.blobs.list_names(JOURNAL, f"{kind}/")
        parsed = (found for name in names if (found := parse_entry_name(name)))
        return (about for about, _ in itertools.groupby(about for _, about, _ in parsed))

    def _content(self, name: str) -> bytes:
        content = self.blobs.read(JOURNAL, name, max_bytes=MAX_ENTRY_BYTES)
        if content is None:
            raise UntrustedInputError(Code.JOURNAL_BROKEN, f"{JOURNAL}/{name} was removed just now")
        return content

    def _project(self, journal: Journal) -> None:
        try:
            self.projection.put(row_of(journal))
        except ServiceError as error:
            _LOG.warning("the projection of %s/%s is behind: %s", journal.kind, journal.about, error)


def row_of(journal: Journal) -> JournalRow:
    """The row of the projection for a journal, which must not be empty."""
    first, last = journal.entries[0], journal.entries[-1]
    channels = (entry.facts["channel"] for entry in reversed(journal.entries) if "channel" in entry.facts)
    channel = next(channels, None)  # a standing order may be given to another one
    told = journal.entries[-2] if last.state in _PUT_AWAY else last
    code, detail = told.facts.get("code"), told.facts.get("detail")
    planned = journal.newest(State.PLANNED)
    plan = {} if planned is None else planned.facts
    return JournalRow(
        kind=journal.kind,
        about=journal.about,
        number=last.number,
        state=last.state,
        channel=None if channel is None else str(channel),
        code=None if code is None else str(code),
        detail=None if code is None or detail is None else str(detail),
        requested=first.facts.get("artifacts"),
        artifacts=plan.get("artifacts"),
        blobs=plan.get("blobs"),
        created_at=first.at,
        updated_at=last.at,
    )
