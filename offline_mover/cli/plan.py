"""The command line of ``plan``: its arguments, and the request that they make."""

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
    add_concurrency,
    add_output,
    add_trust,
    from_environment,
    read_access,
)

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Decide before work: which parts go on which volume, how many bytes, how long at the
rate measured now, what does not fit and what is there already. Nothing is written
but the file of --save. A volume is a mounted folder, or only described: 32G:fat32
(G as printed on the medium, Gi for 1024s; fat32, exfat, ntfs, ext4, udf, ...).

With one slot and several sticks, save the plan, label the sticks 1, 2, 3, and give
the plan to each pull:
  offline-mover plan https://src.blob.core.windows.net/transfer/k3v9x2m7q1 \\
      --volume 32G:fat32 --volume 32G:fat32 --save plan.json --trust policy.json
  offline-mover pull https://src.blob.core.windows.net/transfer/k3v9x2m7q1 /media/usb \\
      --plan plan.json --number 1 --trust policy.json
"""
NOTES = CLOUD_NOTES
AFTER_INTERRUPTION = "Nothing was written; run the same command again."


def declare(parser: Parser) -> None:
    """Declare the arguments of ``plan``."""
    parser.add_argument(
        "source", metavar="SOURCE", help="https://<account>…/transfer/<transferId>, without a SAS"
    )
    parser.add_argument(
        "--volume",
        dest="volume_texts",
        metavar="VOLUME",
        action="append",
        default=None,
        required=from_environment("volume") is None,
        help="a mounted folder, or a size and file system like 32G:fat32; once for each volume, in order",
    )
    parser.add_option(
        "parity", metavar="SHARE", read=str, text="plan for parity shards too: 2%% of the parts, or 1-volume"
    )
    parser.add_option(
        "rate", metavar="SIZE", read=str, text="write rate of the slowest medium a second, like 20M"
    )
    parser.add_switch("with-tool", "leave room for this tool on each volume, for pull --with-tool")
    parser.add_option("save", metavar="FILE", read=Path, text="write the plan, for pull --plan")
    add_trust(parser)
    add_cloud(parser)
    add_concurrency(parser)
    add_output(parser)


def read(options: argparse.Namespace) -> PlanRequest:
    """See the port."""
    return PlanRequest(
        source=options.source,
        volume_texts=tuple(options.volume_texts or (from_environment("volume") or "").split(",")),
        parity=options.parity,
        rate=options.rate,
        with_tool=options.with_tool,
        save=options.save,
        trust=options.trust,
        access=read_access(options),
        concurrency=options.concurrency,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """A request to plan a pull, without writing to any volume."""

    source: str
    volume_texts: tuple[str, ...]
    parity: str | None
    rate: str | None
    with_tool: bool
    save: Path | None
    trust: Path
    access: Access
    concurrency: int

    @property
    def custody(self) -> CustodyNote | None:
        """See the port."""
        return None

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.amounts import counted  # noqa: PLC0415 - --help does without
        from offline_mover.bags.placement import read_rate, require_known  # noqa: PLC0415 - --help does without
        from offline_mover.commands.plan import plan  # noqa: PLC0415 - as above
        from offline_mover.medium.operator_files import is_read_by  # noqa: PLC0415 - as above
        from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

        address = TransferAddress.source(self.source)
        outlooks = [require_known(text) for text in self.volume_texts]
        if self.with_tool:
            from offline_mover.tool_copy import needed_bytes  # noqa: PLC0415 - --help does without

            outlooks = [outlook.reserving(needed_bytes(outlook.path)) for outlook in outlooks]
        rate = None if self.rate is None else read_rate(self.rate)
        wish = read_parity(self.parity)
        with session.container(address, self.access) as source:
            outcome, saved = plan(
                source,
                outlooks,
                transfer_id=address.transfer_id or "",
                parity=wish,
                rate_bytes_per_s=rate,
                policy=session.policy(self.trust),
                now=session.now,
                concurrency=self.concurrency,
                meter=session.meter,
                saved_as=self.save,
            )
        outcome = outcome.beside("pull", source=self.source)
        if self.save is None or saved is None:
            return outcome
        session.write_file(self.save, "--save", saved.to_bytes(), is_ours=is_read_by(type(saved).from_bytes))
        confirmed = f"Saved as {self.save}, for {counted(len(saved.volumes), 'volume')}."
        return replace(outcome, lines=(*outcome.lines, confirmed))


def read_parity(text: str | None) -> ParityWish | None:
    """The wish that ``--parity`` tells; ``None`` if it was not given.

    Raises:
        OperatorError: ``USAGE``: the text is not of the form of a wish.
    """
    from airgap.parity import ParityWish  # noqa: PLC0415 - --help does without

    return None if text is None else ParityWish.from_text(text)


if TYPE_CHECKING:
    from airgap.parity import ParityWish
