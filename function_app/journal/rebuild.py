"""The rebuilding of the projection from the journal; every journal is checked on the way."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from airgap.errors import Code, UntrustedInputError
from airgap.journal import parse_entry_name
from airgap.states import Kind
from function_app.journal.store import JournalStore, row_of
from function_app.ports import Ports
from function_app.storage.pages import next_names
from function_app.storage.paths import JOURNAL

_LOG = logging.getLogger(__name__)
_POSITION = f"reconciling/{JOURNAL}"
_ENTRIES_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result for one journal: how it is broken, or ``None``: its row is up to date."""

    kind: Kind
    about: str
    error: UntrustedInputError | None


def rebuild(journals: JournalStore) -> Iterator[Finding]:
    """Write the row of every journal, one at a time; this may run at any time, also while the app works.

    A broken journal is told, and its row is left as it is. So is a journal whose row was made from a later
    entry than the journal's last: that entry was removed, which a chain alone cannot show.

    Raises:
        ServiceError: journal or projection cannot be reached; what was done is done.
    """
    for kind in Kind:
        for about in journals.ids(kind):
            try:
                _rebuild_row(journals, kind, about)
            except UntrustedInputError as error:
                yield Finding(kind=kind, about=about, error=error)
            else:
                yield Finding(kind=kind, about=about, error=None)


def rebuild_next(side: Ports) -> None:
    """Write the rows of some journals, each round of others, so that none is left out of the lists for good.

    A row is behind where whoever wrote the last entry died before the row, or the table was away just then. A
    broken journal is logged and its row left as it is.

    Raises:
        ServiceError: journal or projection cannot be reached now; the next round begins anew.
    """
    journals = JournalStore(side.blobs, side.projection)
    names = next_names(side.blobs, JOURNAL, "", position=_POSITION, at_once=_ENTRIES_AT_ONCE)
    entries = (entry for name in names if (entry := parse_entry_name(name)) is not None)
    for kind, about in dict.fromkeys((kind, about) for kind, about, _ in entries):
        try:
            _rebuild_row(journals, kind, about)
        except UntrustedInputError as error:
            _LOG.warning("%s/%s: %s", kind, about, error)


def _rebuild_row(journals: JournalStore, kind: Kind, about: str) -> None:
    journal = journals.read(kind, about)
    projected = journals.projection.put(row_of(journal))
    if projected > len(journal.entries):  # the app may have written more meanwhile
        journal = journals.read(kind, about)
    if projected > len(journal.entries):
        raise UntrustedInputError(
            Code.JOURNAL_BROKEN,
            f"{kind}/{about}: entry {projected} was there once, {len(journal.entries)} is the last now",
        )
