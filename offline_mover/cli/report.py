"""``report``: its arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.options import (
    LOCAL_NOTES,
    Parser,
    add_concurrency,
    add_custody,
    add_output,
    add_transfer,
    add_trust,
    add_volumes,
)

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

SUMMARY = "write one HTML page, and its JSON twin, for the file"
HELP = """\
Verify the volumes and write what was found as one page that needs nothing else:
what is on which volume, who signed, verdicts, the timeline of the custody logs, a
picture of the parts with damage in its place, what to do next, and for each volume a
label with a QR code of the transfer id and the manifest digest. Print it, file it.

  offline-mover report /media/usb1 /media/usb2 --trust policy.json --to transfer.html
"""
ACTION = "reported"
NOTES = LOCAL_NOTES
AFTER_INTERRUPTION = "No report was written; run the same command again."


def declare(parser: Parser) -> None:
    """Add the arguments."""
    add_volumes(parser)
    add_transfer(parser)
    parser.add_option(
        "to",
        metavar="FILE",
        read=Path,
        default=Path("report.html"),
        text="the page; its JSON twin is written beside it (default report.html, here)",
    )
    parser.add_switch("read-only", "leave the media as they are; the custody event is kept on this machine")
    add_trust(parser)
    add_concurrency(parser)
    add_custody(parser)
    add_output(parser)


def run(options: argparse.Namespace, session: Session) -> Outcome:
    """Report."""
    from offline_mover.commands.report import report  # noqa: PLC0415 - --help does without

    outcome, page, twin = report(
        options.volumes,
        transfer_id=options.transfer,
        policy=session.policy,
        now=session.now,
        concurrency=options.concurrency,
        meter=session.meter,
        side_dir=options.custody_dir,
    )
    session.write_file(options.to, "--to", page)
    session.write_file(options.to.with_suffix(".json"), "--to", twin)
    session.report.note(f"Written: {options.to} and {options.to.with_suffix('.json')}")
    return outcome
