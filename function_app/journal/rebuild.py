"""The projection made anew from the journal, and every journal checked on the way."""

from collections.abc import Iterator
from dataclasses import dataclass

from airgap.errors import Code, UntrustedInputError
from airgap.states import Kind
from function_app.journal.store import JournalStore, row_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a journal came to: ``error`` says how it is broken, ``None`` that its row is up to date."""

    kind: Kind
    about: str
    error: UntrustedInputError | None


def rebuild(journals: JournalStore) -> Iterator[Finding]:
    """Write the row of every journal, one at a time; run it as often as you like, also while the app works.

    A broken journal is told and its row left as it is. So is one whose row was made from a later entry than
    its last: that entry was removed, which a chain alone cannot show.

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
