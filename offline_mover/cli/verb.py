"""What a verb is to the command line; each verb has a module of :mod:`offline_mover.cli` that keeps this.

The two steps are apart so that nothing downstream sees argparse's namespace: a verb reads it once, into a
request of its own with typed members.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from offline_mover.cli.options import Parser
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome


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


class Request(Protocol):
    """One run that was asked for, its arguments read; nothing is done yet."""

    @property
    def custody(self) -> CustodyNote | None:
        """What goes into the custody logs, whichever way the run ends; ``None`` for nothing."""

    def run(self, session: Session, /) -> Outcome:
        """Do it.

        Raises:
            AirgapError: it could not be done, or the operator's words do not go together (``USAGE``).
        """


class Verb(Protocol):
    """One verb: its words for the operator, its arguments, and how they become a request.

    A module imports at its top only what ``--help`` needs: the standard library and
    :mod:`offline_mover.cli.options`. What the verb does is imported by :meth:`Request.run`.
    """

    SUMMARY: str
    """One line, for the list of verbs."""
    HELP: str
    """What it does, with examples."""
    NOTES: str
    """What stands below the options."""
    AFTER_INTERRUPTION: str
    """What somebody who pressed Ctrl-C has to know."""

    def declare(self, parser: Parser) -> None:
        """Add the arguments."""

    def read(self, options: argparse.Namespace) -> Request:
        """The request that the arguments declared above make; raises nothing."""
