"""The protocol of a verb of the command line, which each of the verbs' modules keeps.

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
    """A request to run one command, its arguments read; nothing is done yet."""

    @property
    def custody(self) -> CustodyNote | None:
        """The note for the custody logs, whichever way the run ends; ``None`` for none."""

    def run(self, session: Session, /) -> Outcome:
        """Run the command, and tell its outcome.

        Raises:
            AirgapError: the command could not be carried out, or its arguments do not go together
                (``USAGE``).
        """


class Verb(Protocol):
    """A verb of the command line: its help texts, its arguments, and how they become a request.

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
        """Declare the verb's arguments."""

    def read(self, options: argparse.Namespace) -> Request:
        """The request that the arguments of :meth:`declare` make; raises nothing."""
