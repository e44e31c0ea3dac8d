"""The command line of ``verify``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
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
Check volumes, any of them and in any order, without network: are they the signed
bundle, all of it and nothing else? All damage is listed in one pass. Where parts
would have to be brought again, a request for exactly those is written.

  offline-mover verify /media/usb1 /media/usb2 --trust policy.json

Nothing in a bag is touched. The one line that verifying adds goes to the custody log
of the volume; with --read-only, or where the medium is, it is kept on this machine.
"""
NOTES = LOCAL_NOTES
AFTER_INTERRUPTION = "Nothing was changed; run the same command again."


def declare(parser: Parser) -> None:
    """Declare the arguments of ``verify``."""
    add_volume_arguments(parser)
    parser.add_option(
        "recarry",
        metavar="FILE",
        read=Path,
        default=Path("recarry.json"),
        text="where the request for lost parts is written, if there are any (default recarry.json, here)",
    )
    add_read_only(parser)
    add_judging_arguments(parser)


def read(options: argparse.Namespace) -> VerifyRequest:
    """See the port."""
    return VerifyRequest(
        **read_volume_arguments(options), recarry=options.recarry, is_read_only=options.read_only
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest(VolumeRequest):
    """A request to verify volumes; ``recarry`` is where the request for lost parts is written."""

    recarry: Path
    is_read_only: bool

    @property
    def custody(self) -> CustodyNote:
        """See the port."""
        return self.note("verified", is_read_only=self.is_read_only)

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from airgap.recarry import RecarryRequest  # noqa: PLC0415 - --help does without
        from offline_mover.amounts import counted, size  # noqa: PLC0415 - as above
        from offline_mover.commands.verify import recarry_request, verify  # noqa: PLC0415 - as above
        from offline_mover.medium.operator_files import is_read_by  # noqa: PLC0415 - as above

        session.hold(self.volumes)
        inspection, outcome = verify(
            self.volumes,
            transfer_id=self.transfer_id,
            policy=session.policy(self.trust),
            now=session.now,
            concurrency=self.concurrency,
            meter=session.meter,
            recarry=self.recarry,
        )
        request = recarry_request(inspection, now=session.now)
        if request is None:
            return outcome
        session.write_file(
            self.recarry, "--recarry", request.to_bytes(), is_ours=is_read_by(RecarryRequest.from_bytes)
        )
        return replace(
            outcome,
            facts={**outcome.facts, "recarry": str(self.recarry)},
            lines=(
                f"{self.recarry} asks for {counted(len(request.parts), 'part')}, {size(request.size_bytes)}",
            ),
        )
