"""``push``: its arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import (
    CLOUD_NOTES,
    Access,
    Parser,
    add_cloud,
    add_transfer,
    add_volumes,
    read_access,
)
from offline_mover.cli.volume_request import VolumeRequest, add_judging_arguments, read_volume_arguments

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

SUMMARY = "from volumes into the target storage"
HELP = """\
Send what is on these volumes into the target storage. The very bytes that are sent
are checked. Volumes may come in any order, one by one, days apart: each run sends
only what the storage does not have; nothing becomes visible before all of it is there
and right. After an interruption run the same command again.

  offline-mover push /media/usb1 /media/usb2 https://dst.blob.core.windows.net/incoming \\
      --trust policy.json --sas-file sas.txt

What the storage has from earlier runs is read back before the bundle manifest is
published; what was imported in the end only the target's receipt proves.

The SAS needs the permissions r, c and w on the container: r for that, too.
"""
NOTES = CLOUD_NOTES
AFTER_INTERRUPTION = (
    "What was sent stays staged in the storage, unseen, for a week; run the same command again, it sends "
    "the rest."
)


def declare(parser: Parser) -> None:
    """Add the arguments."""
    add_volumes(parser)
    parser.add_argument("target", metavar="TARGET", help="https://<account>…/incoming, without a SAS")
    add_transfer(parser)
    add_cloud(parser)
    add_judging_arguments(parser)


def read(options: argparse.Namespace) -> PushRequest:
    """See the port."""
    return PushRequest(**read_volume_arguments(options), target=options.target, access=read_access(options))


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest(VolumeRequest):
    """Volumes that are to be sent to ``target``."""

    target: str
    access: Access

    @property
    def custody(self) -> CustodyNote:
        """See the port."""
        return self.note("pushed")

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.commands.push import push, push_custody  # noqa: PLC0415 - --help does without
        from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

        session.hold(self.volumes)
        address = TransferAddress.target(self.target)
        policy = session.policy(self.trust)
        with session.container(address, self.access) as target:
            outcome = push(
                target,
                self.volumes,
                transfer_id=self.transfer_id,
                policy=policy,
                now=session.now,
                concurrency=self.concurrency,
                meter=session.meter,
            )
            session.record(self.custody, outcome.code, outcome)  # first: the log that is sent has it
            for note in push_custody(target, self.volumes, outcome.transfer_id, self.custody_dir):
                session.report.note(note)
        return outcome.beside("receipts pull", address=address.sibling("receipts"))
