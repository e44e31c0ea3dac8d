"""``push``: its arguments."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from offline_mover.cli.options import (
    CLOUD_NOTES,
    Parser,
    add_cloud,
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

SUMMARY = "from volumes into the target storage"
HELP = """\
Send what is on these volumes into the target storage. The very bytes that are sent
are checked. Volumes may come in any order, one by one, days apart: each run sends
only what the storage does not have; nothing becomes visible before all of it is there
and right. After an interruption run the same command again.

  offline-mover push /media/usb1 /media/usb2 https://dst.blob.core.windows.net/incoming \\
      --trust policy.json --sas-file sas.txt

The SAS needs the permissions r, c and w on the container.
"""
ACTION = "pushed"
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
    add_trust(parser)
    add_cloud(parser)
    add_concurrency(parser)
    add_custody(parser)
    add_output(parser)


def run(options: argparse.Namespace, session: Session) -> Outcome:
    """Push."""
    from offline_mover.commands.push import push, push_custody  # noqa: PLC0415 - --help does without
    from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

    address = TransferAddress.target(options.target)
    policy = session.policy
    with session.container(address) as target:
        outcome = push(
            target,
            options.volumes,
            transfer_id=options.transfer,
            policy=policy,
            now=session.now,
            concurrency=options.concurrency,
            meter=session.meter,
        )
        session.record(outcome.code, outcome)
        for note in push_custody(target, options.volumes, outcome.transfer_id, options.custody_dir):
            session.report.note(note)
    return outcome
