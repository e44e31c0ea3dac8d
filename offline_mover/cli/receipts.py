"""The command line of ``receipts``: its arguments, and the requests that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import (
    CLOUD_NOTES,
    LOCAL_NOTES,
    Access,
    Parser,
    add_cloud,
    add_custody,
    add_output,
    add_system_disk,
    add_transfer,
    add_trust,
    from_to,
    read_access,
)

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Bring the target's receipts onto a volume, carry it back, hand them to the source.
Each receipt is verified at both ends: signed by the target's key of your trust
policy, and for the very bundle whose folder is on the volume.

  offline-mover receipts pull https://dst.blob.core.windows.net/receipts /media/usb --trust policy.json
  offline-mover receipts push /media/usb https://src.blob.core.windows.net/receipts --trust policy.json
  offline-mover receipts show /media/usb --trust policy.json

With --wait 120 pull waits up to two hours for the target's decision. show reads receipts
from a volume, a folder or a file, and says which of several counts.
The SAS needs r and l for pull, r and c for push. Where a refusal names damaged parts,
receipts/ID/recarry.json on the volume asks for exactly those: take it to the source.
"""
NOTES = CLOUD_NOTES
MAX_WAIT_MINUTES = 7 * 24 * 60
AFTER_INTERRUPTION = "Receipts that were brought are kept; run the same command again for the rest."


def declare(parser: Parser) -> None:
    """Declare the verbs below ``receipts``, and their arguments."""
    directions = parser.add_subparsers(dest="direction", required=True, metavar="pull|push|show")
    pull = directions.add_parser(
        "pull", help="from the target's storage onto a volume", description=HELP, epilog=NOTES
    )
    pull.add_argument("address", metavar="TARGET", help="https://<account>…/receipts of the target cloud")
    pull.add_argument("volume", metavar="VOLUME", type=Path, help="the medium's folder")
    pull.add_switch("all", "bring every receipt, not only those of transfers on the volume")
    pull.add_option(
        "wait",
        metavar="MINUTES",
        read=from_to(0, MAX_WAIT_MINUTES),
        default=0,
        text="so long wait for receipts that are not there yet (default 0)",
    )
    add_system_disk(pull)
    push = directions.add_parser(
        "push", help="from a volume into the source's storage", description=HELP, epilog=NOTES
    )
    push.add_argument("volume", metavar="VOLUME", type=Path, help="the medium's folder")
    push.add_argument("address", metavar="SOURCE", help="https://<account>…/receipts of the source cloud")
    show = directions.add_parser(
        "show", help="say what receipts say, and which counts", description=HELP, epilog=LOCAL_NOTES
    )
    show.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="a volume, a folder or a receipt")
    for direction in (pull, push):
        add_transfer(direction)
        add_trust(direction)
        add_cloud(direction)
        add_custody(direction)
        add_output(direction)
    add_trust(show)
    add_output(show)


def read(options: argparse.Namespace) -> ReceiptsRequest | ShowRequest:
    """See the port."""
    if options.direction == "show":
        return ShowRequest(paths=tuple(options.paths), trust=options.trust)
    return ReceiptsRequest(
        brings=options.direction == "pull",
        address=options.address,
        volume=options.volume,
        takes_all=options.direction == "pull" and options.all,
        wait_minutes=options.wait if options.direction == "pull" else 0,
        allows_system_disk=options.direction == "push" or options.allow_system_disk,
        transfer_id=options.transfer,
        trust=options.trust,
        access=read_access(options),
        who=options.who,
        custody_dir=options.custody_dir,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptsRequest:
    """A request to carry receipts, from the target onto a volume or from there to the source."""

    brings: bool
    address: str
    volume: Path
    takes_all: bool
    wait_minutes: int
    allows_system_disk: bool
    transfer_id: str | None
    trust: Path
    access: Access
    who: str | None
    custody_dir: Path | None

    @property
    def custody(self) -> CustodyNote:
        """See the port."""
        return CustodyNote(
            action="receiptsPulled" if self.brings else "receiptsPushed",
            volumes=(self.volume,),
            transfer_id=self.transfer_id,
            who=self.who,
            side_dir=self.custody_dir,
        )

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.bags.volumes import transfers_on  # noqa: PLC0415 - --help does without
        from offline_mover.commands.receipts import (  # noqa: PLC0415 - as above
            receipts_pull,
            receipts_push,
        )
        from offline_mover.commands.receipts_waiting import await_receipts  # noqa: PLC0415 - as above
        from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

        address = TransferAddress.target(self.address, "TARGET" if self.brings else "SOURCE")
        session.hold((self.volume,))
        # A transfer on it shows that it is the medium; an empty folder may be all there is of one.
        if not self.allows_system_disk and not transfers_on(self.volume):
            session.hold((self.volume,), fills=(self.volume,))
        policy = session.policy(self.trust)
        with session.container(address, self.access) as container:
            if not self.brings:
                return receipts_push(
                    self.volume,
                    container,
                    policy=policy,
                    now=session.now,
                    meter=session.meter,
                    transfer_id=self.transfer_id,
                )
            pull = partial(
                receipts_pull,
                container,
                self.volume,
                policy=policy,
                now=session.now,
                meter=session.meter,
                transfer_id=self.transfer_id,
                every=self.takes_all,
            )
            return await_receipts(pull, wait_s=60.0 * self.wait_minutes, notice=session.report.note)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowRequest:
    """A request to tell in words what receipts say."""

    paths: tuple[Path, ...]
    trust: Path

    @property
    def custody(self) -> CustodyNote | None:
        """See the port."""
        return None

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.commands.receipts_show import receipts_show  # noqa: PLC0415 - --help does without

        return receipts_show(self.paths, policy=session.policy(self.trust), now=session.now)
