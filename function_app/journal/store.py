"""The journal of one side, in its storage account: read whole, appended to, never changed."""

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
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


@dataclass(frozen=True, slots=True)
class JournalStore:
    """Journals in the container ``journal``, and after each of them its row in the projection.

    Nothing in the container is ever changed or deleted, so that it may be made immutable. The journal
    decides: a projection that cannot be written to is left behind, which is logged and does no harm.
    """

    blobs: BlobStore
    projection: Projection

    def read(self, kind: Kind, about: str) -> Journal:
        """The journal of ``about``, whole and checked; empty if there is none. One listing, a read per entry.

        Raises:
            UntrustedInputError: ``JOURNAL_BROKEN``: an entry is missing, malformed or does not follow the
                one before; ``NEWER_FORMAT``: a newer version of the app wrote it; ``TOO_LARGE``.
        """
        contents = []
        for number, name in enumerate(self.blobs.list_names(JOURNAL, f"{kind}/{about}/"), start=1):
            if name != entry_name(kind, about, number) or number > MAX_ENTRIES:
                raise UntrustedInputError(Code.JOURNAL_BROKEN, f"{JOURNAL}/{name}: not entry {number}")
            contents.append(self._content(name))
        return Journal.read(kind, about, contents)

    def record(
        self, kind: Kind, about: str, state: State, facts: Mapping[str, Any], *, by: str, at: datetime
    ) -> Journal:
        """Note that ``about`` has come to ``state``, once, however often and late this is called.

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
        """Add to a journal what was decided by exactly what was read of it.

        Returns:
            The journal as it is now; ``None`` if somebody else has added to it meanwhile, or it has these
            very facts already.

        Raises:
            PolicyRefusal: ``TRANSITION_REFUSED``: that cannot follow.
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
    """The row of a journal that is not empty."""
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
