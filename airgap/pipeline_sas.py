"""The renewal of the SAS by which a pipeline comes to its storage: when, with which rights, for how long.

The SAS is the newest version of a vault secret; all that is known of it is when that version expires, which
is when the SAS ends. A SAS that is signed as an identity lives seven days at most, so that it is renewed with
half of its time left:
https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal

PERMISSIONS: Mapping[Literal["source", "target"], str] = {"source": "rawl", "target": "rl"}
"""What the SAS of each side's pipeline allows on its container, as the templates have it:
https://learn.microsoft.com/azure/container-registry/container-registry-transfer-prerequisites"""
LIFETIME = timedelta(days=6)
"""How long a renewed SAS is good for: a day less than Azure allows, so that no clock makes it too long."""
RENEW_BEFORE = timedelta(days=3)
"""How long before its end a SAS is renewed; the old one is good until then."""
PATIENCE = timedelta(hours=2)
"""How long a renewal may be due before somebody is told: a round comes every hour."""
_EARLIER = timedelta(minutes=5)
"""By so much two services' clocks may differ: a SAS that begins now may not have begun at the storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SasVersion:
    """A version of the secret with the SAS, as far as a vault tells of it; never the SAS itself.

    Args:
        created_at: when the version was made, aware.
        expires_at: when the SAS in it ends, aware; ``None`` where the version does not say: that is how the
            deployment, or a person, puts a SAS there.
        is_enabled: whether the version can be read; if not, somebody has switched it off.
    """

    created_at: datetime
    expires_at: datetime | None
    is_enabled: bool

    @property
    def due_at(self) -> datetime:
        """The time from which on the SAS is to be renewed: at once where nobody knows when it ends."""
        return self.created_at if self.expires_at is None else self.expires_at - RENEW_BEFORE


class Step(Enum):
    """The step that a round takes with the SAS of the pipeline."""

    KEEP = "keep"
    RENEW = "renew"
    LEAVE = "leave"
    """Nothing, though there is no SAS to be used: somebody has decided so, and the app does not undo it."""


def next_step(newest: SasVersion | None, *, now: datetime) -> Step:
    """The step to take at ``now``.

    A secret that was deleted or switched off is left alone: whoever withdraws the pipeline's access wants it
    to stay withdrawn.

    Args:
        newest: the newest version of the secret; ``None`` if there is none.
        now: the current time, aware.
    """
    if newest is None or not newest.is_enabled:
        return Step.LEAVE
    return Step.RENEW if newest.due_at <= now else Step.KEEP


def is_overdue(newest: SasVersion | None, *, now: datetime) -> bool:
    """Whether somebody must look: there is no SAS to be renewed, or it should have been for a while."""
    return newest is None or not newest.is_enabled or newest.due_at + PATIENCE <= now


def ends_at(newest: SasVersion | None, *, deployed: datetime | None) -> datetime | None:
    """The end of the SAS in the newest version; ``None`` where nobody knows it.

    A version that does not say it is the deployment's, of which a setting does; unless it was made after the
    time that the setting names, and is thus somebody else's.

    Args:
        newest: the newest version of the secret; ``None`` if there is none, or it is not known.
        deployed: when the SAS of the deployment ends, aware, by the setting; ``None`` if it says nothing.
    """
    if newest is None:
        return deployed
    if newest.expires_at is None and deployed is not None and newest.created_at < deployed:
        return deployed
    return newest.expires_at


def period(now: datetime) -> tuple[datetime, datetime]:
    """The times from and until which a SAS counts that is signed at ``now``; both in whole seconds."""
    now = now.replace(microsecond=0)
    return now - _EARLIER, now + LIFETIME
