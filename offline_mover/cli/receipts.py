"""``receipts``: its arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.options import (
    CLOUD_NOTES,
    Parser,
    add_cloud,
    add_custody,
    add_output,
    add_transfer,
    add_trust,
)

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

SUMMARY = "carry the target's signed receipts back to the source"
HELP = """\
Bring the target's receipts onto a volume, carry it back, hand them to the source.
Each receipt is verified at both ends: signed by the target's key of your trust
policy, and for the very bundle whose folder is on the volume.

  offline-mover receipts pull https://dst.blob.core.windows.net/receipts /media/usb --trust policy.json
  offline-mover receipts push /media/usb https://src.blob.core.windows.net/receipts --trust policy.json

The SAS needs r and l for pull, r and c for push. Where a refusal names damaged parts,
receipts/ID/recarry.json on the volume asks for exactly those: take it to the source.
"""
ACTION = None  # depends on the direction
NOTES = CLOUD_NOTES
AFTER_INTERRUPTION = "Receipts that were brought are kept; run the same command again for the rest."


def declare(parser: Parser) -> None:
    """Add the arguments."""
    directions = parser.add_subparsers(dest="direction", required=True, metavar="pull|push")
    pull = directions.add_parser(
        "pull", help="from the target's storage onto a volume", description=HELP, epilog=NOTES
    )
    pull.add_argument("address", metavar="TARGET", help="https://<account>…/receipts of the target cloud")
    pull.add_argument("volume", metavar="VOLUME", type=Path, help="the medium's folder")
    pull.add_switch("all", "bring every receipt, not only those of transfers on the volume")
    push = directions.add_parser(
        "push", help="from a volume into the source's storage", description=HELP, epilog=NOTES
    )
    push.add_argument("volume", metavar="VOLUME", type=Path, help="the medium's folder")
    push.add_argument("address", metavar="SOURCE", help="https://<account>…/receipts of the source cloud")
    for direction in (pull, push):
        add_transfer(direction)
        add_trust(direction)
        add_cloud(direction)
        add_custody(direction)
        add_output(direction)


def run(options: argparse.Namespace, session: Session) -> Outcome:
    """Carry receipts."""
    from offline_mover.commands.receipts import (  # noqa: PLC0415 - --help does without
        receipts_pull,
        receipts_push,
    )
    from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

    options.volumes = [options.volume]
    options.action = "receiptsPulled" if options.direction == "pull" else "receiptsPushed"
    address = TransferAddress.target(options.address)
    policy = session.policy
    with session.container(address) as container:
        if options.direction == "push":
            return receipts_push(
                options.volume,
                container,
                policy=policy,
                now=session.now,
                meter=session.meter,
                transfer_id=options.transfer,
            )
        return receipts_pull(
            container,
            options.volume,
            policy=policy,
            now=session.now,
            meter=session.meter,
            transfer_id=options.transfer,
            every=options.all,
        )
