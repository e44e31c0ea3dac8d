"""Retention: how long the blobs of a transfer or an import are kept once it has ended.

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
    """The aware time from which a transfer's blobs may be removed; ``None`` while they are needed.

    Args:
        journal: the transfer's journal.
        keep: how long they are kept after it has ended, and its bundle can be imported no more.
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
    """The aware time from which an import's blobs may be removed; ``None`` while it has not ended.

    An import that is held for its damaged parts, or waits for a number, for checks or for people, has not
    ended.

    Args:
        journal: the import's journal.
        keep: how long they are kept after it has ended.


    """
    return journal.entries[-1].at + keep if journal.is_final else None
