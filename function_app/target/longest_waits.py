"""The longest waits of an import: never longer than the storage keeps what is known of it.

Working documents and the copies in custody are deleted ``workDays`` after they were written, 180 at least
(``infra/target.bicep``), by a rule that knows nothing of who still needs them. So all waiting together is
bounded below that: for the turn, then for checks and people, whose times the settings bound, then for the
staging registry, then for the runs. ``tests/infra/test_templates.py`` adds it up.
"""

from datetime import datetime, timedelta

from airgap.errors import Code, ServiceError
from airgap.fields import format_time
from function_app.storage.work_folder import WorkFolder
from function_app.target.custody import INSPECTION

FOR_THE_TURN = timedelta(days=45)
"""For the channel's turn, and for the numbers before its own, from when its upload was looked at."""

FOR_STAGING = FOR_THE_TURN + timedelta(days=14 + 45 + 30)
"""For the turn of the staging registry, likewise: 30 days after the longest time of checks and people."""


def waits_since(work: WorkFolder) -> datetime:
    """The time (aware) at which the upload was inspected, by the storage's clock, which counts its days."""
    return work.written_at(INSPECTION)


def require_time(work: WorkFolder, now: datetime, longest: timedelta) -> None:
    """Refuse to wait on once an import has waited for ``longest``.

    Raises:
        ServiceError: ``TURN_EXPIRED``: it has waited so long; ``NOT_FOUND``: somebody removed its working
            documents.
    """
    since = waits_since(work)
    if now >= since + longest:
        raise ServiceError(
            Code.TURN_EXPIRED, f"it has waited since {format_time(since)}, and may for {longest.days} days"
        )
