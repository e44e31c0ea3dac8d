"""The command line of ``push``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import (
    CLOUD_NOTES,
    Access,
    Parser,
    add_cloud,
    add_ticket,
    add_transfer,
    add_volumes,
    read_access,
)
from offline_mover.cli.volume_request import VolumeRequest, add_judging_arguments, read_volume_arguments

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Send what is on these volumes into the target storage. The very bytes that are sent
are checked. Volumes may come in any order, one by one, days apart: each run sends
only what the storage does not have; nothing becomes visible before all of it is there
and right. After an interruption run the same command again.

  offline-mover push /media/usb1 /media/usb2 https://dst.blob.core.windows.net/incoming \\
      --trust policy.json --sas-file sas.txt

With a ticket, which the target gives for this very bundle, there is no TARGET and no SAS:

  offline-mover push /media/usb1 /media/usb2 --ticket ticket.json --trust policy.json

What the storage has from earlier runs is read back before the bundle manifest is
published; what was imported in the end only the target's receipt proves.

The SAS needs the permissions r, c and w on the container: r for that, too.
"""
NOTES = CLOUD_NOTES
_NO_LOGS = "custody logs are not sent by a ticket, which is for the bundle alone: they stay on the volumes"
AFTER_INTERRUPTION = (
    "What was sent stays staged in the storage, unseen, for a week; run the same command again, it sends "
    "the rest."
)


def declare(parser: Parser) -> None:
    """Declare the arguments of ``push``."""
    add_volumes(parser, read=str)
    parser.add_argument(
        "target", metavar="TARGET", nargs="?", help="https://<account>…/incoming, without a SAS"
    )
    add_ticket(parser, "target", is_first=False)
    add_transfer(parser)
    add_cloud(parser)
    add_judging_arguments(parser, has_connections=True)


def read(options: argparse.Namespace) -> PushRequest:
    """See the port."""
    return PushRequest(
        **read_volume_arguments(options),
        target=options.target,
        ticket=options.ticket,
        access=read_access(options),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest(VolumeRequest):
    """A request to send volumes to ``target``, or else to the storage that the ticket in a file is for."""

    target: str | None
    ticket: Path | None
    access: Access

    @property
    def custody(self) -> CustodyNote:
        """See the port."""
        return self.note("pushed")

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.commands.push import push, push_custody  # noqa: PLC0415 - --help does without
        from offline_mover.storage.storage_address import (  # noqa: PLC0415 - as above
            TransferAddress,
            ticket_address,
        )

        session.hold(self.volumes)
        policy = session.policy(self.trust)
        ticket = None
        if self.ticket is not None:
            ticket = session.ticket(self.ticket, "drop", instead_of=self.target)
        address = TransferAddress.target(self.target or "") if ticket is None else ticket_address(ticket)
        with session.container(address, self.access, ticket=self.ticket) as target:
            outcome = push(
                target,
                self.volumes,
                transfer_id=self.transfer_id,
                ticket=ticket,
                policy=policy,
                now=session.now,
                concurrency=self.concurrency,
                meter=session.meter,
            )
            session.record(self.custody, outcome.code, outcome)  # first: the log that is sent has it
            if ticket is not None:
                session.report.note(_NO_LOGS)
            else:
                for note in push_custody(target, self.volumes, outcome.transfer_id, self.custody_dir):
                    session.report.note(note)
        return outcome.beside("receipts pull", address=address.sibling("receipts"))
