"""``verify``: its arguments."""

from __future__ import annotations

import argparse
from dataclasses import replace
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

SUMMARY = "check any volumes, without network"
HELP = """\
Check volumes, any of them and in any order, without network: are they the signed
bundle, all of it and nothing else? All damage is listed in one pass. Where parts
would have to be brought again, a request for exactly those is written.

  offline-mover verify /media/usb1 /media/usb2 --trust policy.json

Nothing in a bag is touched. The one line that verifying adds goes to the custody log
of the volume; with --read-only, or where the medium is, it is kept on this machine.
"""
ACTION = "verified"
NOTES = LOCAL_NOTES
AFTER_INTERRUPTION = "Nothing was changed; run the same command again."


def declare(parser: Parser) -> None:
    """Add the arguments."""
    add_volumes(parser)
    add_transfer(parser)
    parser.add_option(
        "recarry",
        metavar="FILE",
        read=Path,
        default=Path("recarry.json"),
        text="where the request for lost parts is written, if there are any (default recarry.json, here)",
    )
    parser.add_switch("read-only", "leave the media as they are; the custody event is kept on this machine")
    add_trust(parser)
    add_concurrency(parser)
    add_custody(parser)
    add_output(parser)


def run(options: argparse.Namespace, session: Session) -> Outcome:
    """Verify."""
    from offline_mover.commands.verify import recarry_request, verify  # noqa: PLC0415 - --help does without

    inspection, outcome = verify(
        options.volumes,
        transfer_id=options.transfer,
        policy=session.policy,
        now=session.now,
        concurrency=options.concurrency,
        meter=session.meter,
    )
    request = recarry_request(inspection, now=session.now)
    if request is None:
        return outcome
    session.write_file(options.recarry, "--recarry", request.to_bytes())
    return replace(
        outcome,
        facts={**outcome.facts, "recarry": str(options.recarry)},
        lines=(f"{options.recarry} asks for {len(request.parts)} parts, {request.size_bytes} bytes",),
    )
