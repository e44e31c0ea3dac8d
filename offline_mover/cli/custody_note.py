"""The note that a run leaves in the custody logs of its volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyNote:
    """The content of the event for a run in the custody logs, apart from how the run ended.

    Args:
        action: the word of :class:`airgap.custody_event.Action` for it.
        volumes: the volumes into whose logs it goes; a folder without a bag gets none.
        transfer_id: the transfer, as far as it is known before the run; the outcome knows better.
        who: the person, where the operator names one.
        side_dir: the folder for events of media that cannot be written; ``None`` for the user's own.
        is_read_only: leave the media alone, and keep the event beside.
    """

    action: str
    volumes: tuple[Path, ...]
    transfer_id: str | None = None
    who: str | None = None
    side_dir: Path | None = None
    is_read_only: bool = False
