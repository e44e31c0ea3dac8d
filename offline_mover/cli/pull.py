"""The command line of ``pull``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import (
    CLOUD_NOTES,
    Access,
    Parser,
    add_cloud,
    add_system_disk,
    add_ticket,
    add_volumes,
    from_to,
    read_access,
)
from offline_mover.cli.volume_request import VolumeRequest, add_judging_arguments, read_volume_arguments

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome
    from offline_mover.pulling.destinations import PullOrder

HELP = """\
Bring one transfer from the source storage onto volumes. Parts that are there already
are checked and kept, so after any interruption run the same command again. When all
is written, everything is read back from the medium itself: a stick that lies about
its size is found here, not at the other side.

  offline-mover pull https://src.blob.core.windows.net/transfer/k3v9x2m7q1 /media/usb1 /media/usb2 \\
      --trust policy.json --sas-file sas.txt
With a ticket, instead of SOURCE and SAS:
  offline-mover pull /media/usb1 /media/usb2 --ticket ticket.json --trust policy.json
One volume at a time, by a plan:   pull SOURCE /media/usb --plan plan.json --number 2 …
Bring again what was damaged:      pull SOURCE /media/patch --recarry recarry.json …
So that damage can be repaired:    pull SOURCE /media/usb1 /media/usb2 /media/usb3 --parity 1-volume …
"""
NOTES = CLOUD_NOTES
AFTER_INTERRUPTION = (
    "The parts that are whole stay on the volumes; run the same command again, it fetches the rest."
)


def declare(parser: Parser) -> None:
    """Declare the arguments of ``pull``."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="https://<account>…/transfer/<transferId>, without a SAS",
    )
    add_volumes(parser, read=str)
    add_ticket(parser, "source", is_first=True)
    parser.add_option(
        "plan", metavar="FILE", read=Path, text="fill the volumes as this plan says (plan --save)"
    )
    parser.add_option(
        "number",
        metavar="N",
        read=from_to(1, 999),
        text="with --plan: which of its volumes this is, where the volume does not say so itself",
    )
    parser.add_option(
        "recarry", metavar="FILE", read=Path, text="bring only the parts that this recarry.json asks for"
    )
    parser.add_option(
        "parity",
        metavar="SHARE",
        read=str,
        text="add parity shards: 2%% of the parts, spread over the volumes; or 1-volume: the last volume has "
        "only shards, and any one volume may be lost",
    )
    parser.add_switch("with-tool", "lay this tool on each volume too, to verify and push from there")
    add_system_disk(parser)
    add_cloud(parser)
    add_judging_arguments(parser, has_connections=True)


def read(options: argparse.Namespace) -> PullRequest:
    """See the port."""
    return PullRequest(
        **read_volume_arguments(options),
        source=options.source,
        ticket=options.ticket,
        plan=options.plan,
        number=options.number,
        recarry=options.recarry,
        parity=options.parity,
        with_tool=options.with_tool,
        allows_system_disk=options.allow_system_disk,
        access=read_access(options),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest(VolumeRequest):
    """A request to bring a transfer onto volumes; ``source`` names it, or else the ticket in a file does."""

    source: str | None
    ticket: Path | None
    plan: Path | None
    number: int | None
    recarry: Path | None
    parity: str | None
    with_tool: bool
    allows_system_disk: bool
    access: Access

    @property
    def custody(self) -> CustodyNote:
        """See the port."""
        return replace(
            self.note("pulled"), transfer_id=None if self.source is None else _transfer_in(self.source)
        )

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.commands.pull import pull  # noqa: PLC0415 - --help does without
        from offline_mover.storage.storage_address import (  # noqa: PLC0415 - as above
            TransferAddress,
            ticket_address,
        )

        ticket = None
        if self.ticket is not None:
            ticket = session.ticket(self.ticket, "pickup", instead_of=self.source)
        address = TransferAddress.source(self.source or "") if ticket is None else ticket_address(ticket)
        session.hold(self.volumes, fills=self.volumes, allows_system_disk=self.allows_system_disk)
        order = self._order(session)
        policy = session.policy(self.trust)
        with session.container(address, self.access, ticket=self.ticket) as source:
            outcome = pull(
                source,
                order,
                transfer_id=address.transfer_id or "",
                ticket=ticket,
                policy=policy,
                now=session.now,
                concurrency=self.concurrency,
                meter=session.meter,
            )
        if self.with_tool and outcome.code is None:
            from offline_mover.tool_copy import lay_tool  # noqa: PLC0415 - as above

            for volume in self.volumes:
                lay_tool(volume)
        return outcome

    def _order(self, session: Session) -> PullOrder:
        """The order, with the files that the options name read."""
        from airgap.media_plan import MAX_PLAN_BYTES, SavedPlan  # noqa: PLC0415 - --help does without
        from airgap.recarry import MAX_REQUEST_BYTES, RecarryRequest  # noqa: PLC0415 - as above
        from offline_mover.cli.plan import read_parity  # noqa: PLC0415 - as above
        from offline_mover.pulling.destinations import PullOrder  # noqa: PLC0415 - as above

        plan = recarry = None
        if self.plan is not None:
            plan = SavedPlan.from_bytes(session.read_file(self.plan, "--plan", MAX_PLAN_BYTES))
        if self.recarry is not None:
            recarry = RecarryRequest.from_bytes(
                session.read_file(self.recarry, "--recarry", MAX_REQUEST_BYTES)
            )
        reserved = {}
        if self.with_tool:
            from offline_mover.tool_copy import needed_bytes  # noqa: PLC0415 - as above

            reserved = {volume: needed_bytes(volume) for volume in self.volumes}
        return PullOrder(
            volumes=self.volumes,
            plan=plan,
            number=self.number,
            recarry=recarry,
            parity=read_parity(self.parity),
            reserved_bytes=reserved,
        )


def _transfer_in(source: str) -> str | None:
    """The transfer that an address names; ``None`` for one that names none, which :meth:`run` refuses."""
    from airgap.errors import OperatorError  # noqa: PLC0415 - --help does without
    from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

    try:
        return TransferAddress.source(source).transfer_id
    except OperatorError:
        return None
