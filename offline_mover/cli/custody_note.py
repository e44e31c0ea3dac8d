"""What a run has to say to the custody logs of its volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyNote:
    """What the custody logs are to say of a run, besides how it ended.

    Args:
        action: the word of :class:`airgap.custody_event.Action` for it.
        volumes: into whose logs it goes; a folder that is no volume of ours gets none.
        transfer_id: which transfer, as far as it is known before the run; the outcome knows better.
        who: does it, where the operator says so.
        side_dir: where events of media that cannot be written are kept; ``None`` for the user's own folder.
        is_read_only: leave the media alone, and keep the event beside.
    """

    action: str
    volumes: tuple[Path, ...]
    transfer_id: str | None = None
    who: str | None = None
    side_dir: Path | None = None
    is_read_only: bool = False
