"""Neglected journals: they say that an orchestration is at work, and have said nothing for a while."""

import itertools
from collections.abc import Iterator
from datetime import datetime

from airgap.errors import UntrustedInputError
from airgap.journal import Journal
from airgap.states import ACTIVE, Kind, State
from function_app.journal.store import JournalStore, row_of
from function_app.ports import JournalRow, Ports, Projection, RowFilter

_PAGE = 100


def neglected_journals(side: Ports, kind: Kind, before: datetime, *, at_most: int) -> Iterator[Journal]:
    """Up to ``at_most`` active journals of a kind whose last entry is older than ``before``.

    They are found by the projection and judged by the journal itself. A row that is behind is brought up to
    date on the way; a journal that is broken is left to whoever rebuilds the projection, who is told of it.
    """
    journals = JournalStore(side.blobs, side.projection)
    rows = (row for state in sorted(ACTIVE[kind]) for row in _quiet_rows(side, kind, state, before))
    found = (journal for row in rows if (journal := _neglected(journals, row, before)) is not None)
    return itertools.islice(found, at_most)


def _quiet_rows(side: Ports, kind: Kind, state: State, before: datetime) -> Iterator[JournalRow]:
    """Every row of a state that was last written before: those at work may fill the first page."""
    rows = every_row(side.projection, kind, RowFilter(state=state, created_before=before))
    return (row for row in rows if row.updated_at < before)


def every_row(projection: Projection, kind: Kind, where: RowFilter) -> Iterator[JournalRow]:
    """The rows of a list, those of all its pages one after the other."""
    token: str | None = None
    while True:
        rows, token = projection.page(kind, where=where, limit=_PAGE, token=token)
        yield from rows
        if token is None:
            return


def _neglected(journals: JournalStore, row: JournalRow, before: datetime) -> Journal | None:
    try:
        journal = journals.read(row.kind, row.about)
    except UntrustedInputError:
        return None
    if journal.last is None:
        return None
    if journal.is_active and journal.last.at < before:
        return journal
    if journal.last.number > row.number:
        journals.projection.put(row_of(journal))
    return None
