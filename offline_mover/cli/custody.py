"""The command line of ``custody``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import LOCAL_NOTES, Parser, add_output, add_volumes

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Every command adds one event to the custody log of each volume: who, where, when, what
was found. Each event has the digest of the one before, so one that was removed or
altered is found; given together, volumes vouch for each other's logs.

  offline-mover custody show   /media/usb
  offline-mover custody verify /media/usb1 /media/usb2
"""
NOTES = LOCAL_NOTES
AFTER_INTERRUPTION = "Nothing was changed; run the same command again."


def declare(parser: Parser) -> None:
    """Declare the arguments of ``custody``."""
    views = parser.add_subparsers(dest="view", required=True, metavar="show|verify")
    for name, text in (("show", "list the events"), ("verify", "check the chain of events")):
        view = views.add_parser(name, help=text, description=HELP, epilog=NOTES)
        add_volumes(view)
        view.add_option(
            "custody-dir",
            metavar="FOLDER",
            read=Path,
            text="where events of read-only media are kept (default: your own state folder)",
        )
        add_output(view)


def read(options: argparse.Namespace) -> CustodyRequest:
    """See the port."""
    return CustodyRequest(
        lists_events=options.view == "show",
        volumes=tuple(options.volumes),
        custody_dir=options.custody_dir,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyRequest:
    """A request to show or verify the custody logs of some volumes."""

    lists_events: bool
    volumes: tuple[Path, ...]
    custody_dir: Path | None

    @property
    def custody(self) -> CustodyNote | None:
        """See the port."""
        return None

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.commands import custody  # noqa: PLC0415 - --help does without

        session.hold(self.volumes)
        ask = custody.show if self.lists_events else custody.verify
        return ask(self.volumes, side_dir=self.custody_dir)
