"""The voiding of numbers at the source: a number is given up for good, and later bundles say so.

The journal of the transfer decides: it has who gave the number up, when and why. The ledger has it once more,
one blob for each number of the channel, so that whoever seals the next bundle finds it.
"""

import logging
from datetime import datetime

from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.journal import Journal
from airgap.ledger import LedgerEntry, VoidEntry
from airgap.manifest import MAX_VOIDS, Void
from airgap.states import TRANSITIONS, Kind, State
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.storage.ledger import Ledger

_LOG = logging.getLogger(__name__)


def can_be_voided(journal: Journal) -> bool:
    """Whether a transfer has a number, nothing is at work on it, and not every registry has imported it."""
    return (
        journal.state is not None
        and journal.newest(State.SEALING) is not None
        and journal.newest(State.VOIDED) is None
        and State.VOIDED in TRANSITIONS[journal.kind][journal.state]
    )


def void_transfer(side: SourceSide, journal: Journal, *, reason: str, by: str, now: datetime) -> Journal:
    """Give up the number of a transfer; a repeat changes nothing, whatever its reason.

    Args:
        side: the source's settings and ports.
        journal: the transfer's journal.
        reason: the reason, as :class:`~airgap.manifest.Void` takes it. It goes into the manifests of later
            bundles.
        by: the words for who gives it up.
        now: the current time, aware.

    Returns:
        The journal as it is now.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: the transfer has no number, its bundle is being sealed, or the
            target has imported it.
    """
    if journal.newest(State.VOIDED) is None:
        if not can_be_voided(journal):
            raise PolicyRefusal(
                Code.TRANSITION_REFUSED, f"the transfer has come to this: {journal.state or 'nothing'}"
            )
        facts = {"sequence": _bundle(journal)["sequence"], "reason": reason}
        journal = JournalStore(side.blobs, side.projection).record(
            *(Kind.TRANSFERS, journal.about, State.VOIDED, facts), by=by, at=now
        )
    enter_void(side, journal)
    return journal


def enter_void(side: SourceSide, journal: Journal) -> None:
    """Enter the number of a voided transfer in the ledger, unless it is there; nothing for any other."""
    void = void_of(journal)
    if void is None:
        return
    entry = VoidEntry(
        channel=str(journal.entries[0].facts["channel"]),
        void=void,
        manifest_sha256=str(_bundle(journal)["manifestDigest"]).removeprefix("sha256:"),
    )
    Ledger(side.blobs).enter_void(entry)


def give_up_unused(side: SourceSide, entry: LedgerEntry) -> None:
    """Enter in the ledger that no bundle will carry a number, whose transfer ended before it was sealed."""
    void = Void(sequence=entry.sequence, reason="its transfer ended before it was sealed", who=BY_APP)
    Ledger(side.blobs).enter_void(
        VoidEntry(channel=entry.channel, void=void, manifest_sha256=entry.manifest_sha256)
    )


def void_of(journal: Journal) -> Void | None:
    """The void that the journal of a transfer tells; ``None`` if its number was not given up."""
    voided = journal.newest(State.VOIDED)
    if voided is None:
        return None
    return Void(sequence=voided.facts["sequence"], reason=voided.facts["reason"], who=voided.by)


def voids_below(side: SourceSide, channel: str, sequence: int) -> tuple[Void, ...]:
    """The numbers of a channel below ``sequence`` that were given up, ascending; the last 1000 of them.

    All of them go into every bundle, since any bundle may be lost itself. What somebody planted in the ledger
    for a number of no bundle, or of another one, is passed over and logged.
    """
    ledger = Ledger(side.blobs)
    numbers = sorted(number for number in ledger.voids(channel) if number < sequence)[-MAX_VOIDS:]
    found = (_believed(ledger, channel, number) for number in numbers)
    return tuple(void for void in found if void is not None)


def _believed(ledger: Ledger, channel: str, sequence: int) -> Void | None:
    try:
        entry, taken = ledger.find_void(channel, sequence), ledger.find(channel, sequence)
    except UntrustedInputError as error:
        _LOG.warning("the void of number %s of %s is passed over: %s", sequence, channel, error)
        return None
    if entry is None or taken is None or entry.manifest_sha256 != taken.manifest_sha256:
        _LOG.warning("the void of number %s of %s is passed over: of no bundle here", sequence, channel)
        return None
    return entry.void


def _bundle(journal: Journal) -> dict[str, object]:
    sealing = journal.newest(State.SEALING)
    return dict(sealing.facts["bundle"]) if sealing is not None else {}
