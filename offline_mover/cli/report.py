"""The command line of ``report``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import LOCAL_NOTES, Parser
from offline_mover.cli.volume_request import (
    VolumeRequest,
    add_judging_arguments,
    add_read_only,
    add_volume_arguments,
    read_volume_arguments,
)

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Verify the volumes and write what was found as one page that needs nothing else:
what is on which volume, who signed, verdicts, the timeline of the custody logs, a
picture of the parts with damage in its place, what to do next, and for each volume a
label with a QR code of the transfer id and the manifest digest. Print it, file it.

  offline-mover report /media/usb1 /media/usb2 --trust policy.json --to transfer.html
"""
NOTES = LOCAL_NOTES
AFTER_INTERRUPTION = "No report was written; run the same command again."


def declare(parser: Parser) -> None:
    """Declare the arguments of ``report``."""
    add_volume_arguments(parser)
    parser.add_option(
        "to",
        metavar="FILE",
        read=Path,
        default=Path("report.html"),
        text="the page; its JSON twin is written beside it (default report.html, here)",
    )
    add_read_only(parser)
    add_judging_arguments(parser)


def read(options: argparse.Namespace) -> ReportRequest:
    """See the port."""
    return ReportRequest(**read_volume_arguments(options), to=options.to, is_read_only=options.read_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest(VolumeRequest):
    """A request to report on volumes; ``to`` is where the HTML page is written."""

    to: Path
    is_read_only: bool

    @property
    def custody(self) -> CustodyNote:
        """See the port."""
        return self.note("reported", is_read_only=self.is_read_only)

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from airgap.errors import Code, OperatorError  # noqa: PLC0415 - --help does without
        from offline_mover.commands.report import report  # noqa: PLC0415 - as above
        from offline_mover.paper.facts import is_twin  # noqa: PLC0415 - as above
        from offline_mover.paper.page import is_page  # noqa: PLC0415 - as above

        beside = self.to.with_suffix(".json")
        if beside == self.to:
            raise OperatorError(Code.USAGE, f"--to {self.to}: the page's twin would have that name")
        session.hold(self.volumes)
        session.require_free(self.to, "--to", is_page)
        session.require_free(beside, "--to", is_twin)
        outcome, page, twin = report(
            self.volumes,
            transfer_id=self.transfer_id,
            policy=session.policy(self.trust),
            now=session.now,
            concurrency=self.concurrency,
            meter=session.meter,
            side_dir=self.custody_dir,
            who=self.who,
        )
        session.write_file(self.to, "--to", page, is_ours=is_page)
        session.write_file(beside, "--to", twin, is_ours=is_twin)
        session.report.note(f"Written: {self.to} and {beside}")
        return outcome
