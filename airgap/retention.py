"""How long what lies there of a transfer, or of an import, is kept once that has ended.

At the source nothing is removed of a bundle that somebody may still have to fetch: to carry it again, to a
second registry, or after a refusal that its target may think better of. At the target nothing is removed that
a decision, a held upload, a gap or a release still needs.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airgap.fields import parse_time
from airgap.journal import Journal
from airgap.states import FINAL, State


def removable_from(journal: Journal, keep: timedelta) -> datetime | None:
    """The time from which what lies there of a transfer may be removed; ``None``: not as it stands.

    Args:
        journal: of the transfer.
        keep: how long it is kept after it has ended, and its bundle can be imported no more.

    Returns:
        An aware time.
    """
    last = journal.last
    if last is None:
        return None
    if last.state not in FINAL[journal.kind] | {State.EXPIRED}:
        return None
    sealing = journal.newest(State.SEALING)
    if sealing is None or last.state in (State.DELIVERED, State.VOIDED):
        return last.at + keep
    expires_at = parse_time(sealing.facts["bundle"]["expiresAt"])
    return max(last.at, expires_at) + keep


def import_removable_from(journal: Journal, keep: timedelta) -> datetime | None:
    """The time from which what lies there of an import may be removed; ``None``: it has not ended.

    One that is held for its damaged parts, or waits for a number, for checks or for people, has not.

    Args:
        journal: of the import.
        keep: how long it is kept after it has ended.

    Returns:
        An aware time.
    """
    return journal.entries[-1].at + keep if journal.is_final else None
