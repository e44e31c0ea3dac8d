"""Journals that say an orchestration is at work, and have said nothing for a while."""

from collections.abc import Iterator
from datetime import datetime

from airgap.errors import UntrustedInputError
from airgap.journal import Journal
from airgap.states import ACTIVE, Kind
from function_app.journal.store import JournalStore, row_of
from function_app.ports import Ports, RowFilter


def neglected_journals(side: Ports, kind: Kind, before: datetime, *, at_most: int) -> Iterator[Journal]:
    """Up to ``at_most`` active journals of a kind whose last entry is older than ``before``.

    They are found by the projection and judged by the journal itself. A row that is behind is brought up to
    date on the way; a journal that is broken is left to whoever rebuilds the projection, who is told of it.
    """
    journals = JournalStore(side.blobs, side.projection)
    for state in sorted(ACTIVE[kind]):
        rows, _ = side.projection.page(kind, where=RowFilter(state=state), limit=at_most)
        for row in rows:
            if row.updated_at >= before:
                continue
            try:
                journal = journals.read(kind, row.about)
            except UntrustedInputError:
                continue
            if journal.is_active and journal.last is not None and journal.last.at < before:
                yield journal
            elif journal.last is not None and journal.last.number > row.number:
                side.projection.put(row_of(journal))
