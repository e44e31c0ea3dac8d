"""What every verb asks that judges volumes by the trust policy: its arguments, read once, in one place."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import (
    Parser,
    add_concurrency,
    add_connections,
    add_custody,
    add_output,
    add_transfer,
    add_trust,
    add_volumes,
)


class VolumeArguments(TypedDict):
    """The members of :class:`VolumeRequest`."""

    volumes: tuple[Path, ...]
    transfer_id: str | None
    trust: Path
    concurrency: int
    who: str | None
    custody_dir: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """Volumes that are looked at.

    Args:
        volumes: their folders, in any order.
        transfer_id: which transfer, where they hold several and the verb asks for it.
        trust: the file of the trust policy.
        concurrency: parts at a time; of a verb that moves them, connections at most.
        who: does it, where the operator says so.
        custody_dir: where events of media that cannot be written are kept.
    """

    volumes: tuple[Path, ...]
    transfer_id: str | None
    trust: Path
    concurrency: int
    who: str | None
    custody_dir: Path | None

    def note(self, action: str, *, is_read_only: bool = False) -> CustodyNote:
        """What goes on record on the volumes."""
        return CustodyNote(
            action=action,
            volumes=self.volumes,
            transfer_id=self.transfer_id,
            who=self.who,
            side_dir=self.custody_dir,
            is_read_only=is_read_only,
        )


def add_volume_arguments(parser: Parser) -> None:
    """Declare the volumes and which transfer on them; what is the verb's own comes next."""
    add_volumes(parser)
    add_transfer(parser)


def add_judging_arguments(parser: Parser, *, has_connections: bool = False) -> None:
    """Declare by what the volumes are judged, how, and how that is told; after what is the verb's own."""
    add_trust(parser)
    (add_connections if has_connections else add_concurrency)(parser)
    add_custody(parser)
    add_output(parser)


def add_read_only(parser: Parser) -> None:
    """Declare the switch ``--read-only``."""
    parser.add_switch("read-only", "leave the media as they are; the custody event is kept on this machine")


def read_volume_arguments(options: argparse.Namespace) -> VolumeArguments:
    """The arguments that the two functions above declare."""
    return VolumeArguments(
        volumes=tuple(options.volumes),
        transfer_id=getattr(options, "transfer", None),
        trust=options.trust,
        concurrency=options.concurrency,
        who=options.who,
        custody_dir=options.custody_dir,
    )
