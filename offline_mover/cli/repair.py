"""The command line of ``repair``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import LOCAL_NOTES, Parser, add_system_disk, add_transfer, add_volumes
from offline_mover.cli.volume_request import VolumeRequest, add_judging_arguments, read_volume_arguments

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Rebuild parts that are damaged or missing, from the parity shards that pull --parity
wrote. A rebuilt part counts only when its digest is the signed one. The volumes given
are only read: what is rebuilt goes onto another one, --to, and push takes it from there.

  offline-mover repair /media/usb1 /media/usb3 --to /media/patch --trust policy.json
  offline-mover push /media/usb1 /media/usb3 /media/patch https://dst.../incoming --trust policy.json

A lost volume is simply left out. --in-place writes onto the damaged volumes themselves.
"""
NOTES = LOCAL_NOTES
AFTER_INTERRUPTION = (
    "The parts that are rebuilt stay where they are; run the same command again for the rest."
)


def declare(parser: Parser) -> None:
    """Declare the arguments of ``repair``."""
    add_volumes(parser)
    parser.add_option("to", metavar="VOLUME", read=Path, text="the volume that takes what is rebuilt")
    parser.add_switch("in-place", "replace damaged parts on the volumes themselves")
    add_system_disk(parser)
    add_transfer(parser)
    add_judging_arguments(parser)


def read(options: argparse.Namespace) -> RepairRequest:
    """See the port."""
    return RepairRequest(
        **read_volume_arguments(options),
        to=options.to,
        is_in_place=options.in_place,
        allows_system_disk=options.allow_system_disk,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairRequest(VolumeRequest):
    """A request to rebuild the lost parts of volumes, in place or onto another volume."""

    to: Path | None
    is_in_place: bool
    allows_system_disk: bool

    @property
    def custody(self) -> CustodyNote:
        """See the port."""
        # The event goes to the volume that is written; those that are only read are left alone.
        note = self.note("repaired")
        return note if self.to is None else replace(note, volumes=(self.to,))

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from airgap.errors import Code, OperatorError  # noqa: PLC0415 - --help does without
        from offline_mover.commands.repair import repair  # noqa: PLC0415 - as above

        if (self.to is None) != self.is_in_place:
            raise OperatorError(Code.USAGE, "give either --to VOLUME or --in-place")
        written = self.volumes if self.to is None else (self.to,)
        session.hold((*self.volumes, *written), fills=written, allows_system_disk=self.allows_system_disk)
        return repair(
            self.volumes,
            to=self.to,
            transfer_id=self.transfer_id,
            policy=session.policy(self.trust),
            now=session.now,
            concurrency=self.concurrency,
            meter=session.meter,
        )
