"""What a verb is to the command line; each verb has a module of :mod:`offline_mover.cli` that keeps this.

The two steps are apart so that nothing downstream sees argparse's namespace: a verb reads it once, into a
request of its own with typed members.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from offline_mover.cli.custody_note import CustodyNote
    from offline_mover.cli.options import Parser
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome


class Request(Protocol):
    """One run that was asked for, its arguments read; nothing is done yet."""

    @property
    def custody(self) -> CustodyNote | None:
        """What goes into the custody logs, whichever way the run ends; ``None`` for nothing."""

    def run(self, session: Session, /) -> Outcome:
        """Do what was asked for.

        Raises:
            AirgapError: it could not be done, or the operator's words do not go together (``USAGE``).
        """


class Verb(Protocol):
    """One verb: its words for the operator, its arguments, and how they become a request.

    A module imports at its top only what ``--help`` needs: the standard library and
    :mod:`offline_mover.cli.options`. What the verb does is imported by :meth:`Request.run`.
    """

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
