"""The arguments that all verbs share which judge volumes by the trust policy."""

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
    """The members of a :class:`VolumeRequest` as keyword arguments."""

    volumes: tuple[Path, ...]
    transfer_id: str | None
    trust: Path
    concurrency: int
    who: str | None
    custody_dir: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRequest:
    """A request about volumes that are judged by the trust policy.

    Args:
        volumes: the volumes' folders, in any order.
        transfer_id: the transfer, where the volumes hold several.
        trust: the file of the trust policy.
        concurrency: how many parts are worked on at a time; for a verb that moves them, the most connections.
        who: the person, where the operator names one.
        custody_dir: the folder for events of media that cannot be written.
    """

    volumes: tuple[Path, ...]
    transfer_id: str | None
    trust: Path
    concurrency: int
    who: str | None
    custody_dir: Path | None

    def note(self, action: str, *, is_read_only: bool = False) -> CustodyNote:
        """The note for the custody logs of the volumes."""
        return CustodyNote(
            action=action,
            volumes=self.volumes,
            transfer_id=self.transfer_id,
            who=self.who,
            side_dir=self.custody_dir,
            is_read_only=is_read_only,
        )


def add_volume_arguments(parser: Parser) -> None:
    """Declare the volumes and ``--transfer``; the verb's own arguments come next."""
    add_volumes(parser)
    add_transfer(parser)


def add_judging_arguments(parser: Parser, *, has_connections: bool = False) -> None:
    """Declare the shared options that come last: trust policy, concurrency, custody, output."""
    add_trust(parser)
    (add_connections if has_connections else add_concurrency)(parser)
    add_custody(parser)
    add_output(parser)


def add_read_only(parser: Parser) -> None:
    """Declare the switch ``--read-only``, with which nothing is written to the volumes."""
    parser.add_switch("read-only", "leave the media as they are; the custody event is kept on this machine")


def read_volume_arguments(options: argparse.Namespace) -> VolumeArguments:
    """The values of the arguments that the functions above declare."""
    return VolumeArguments(
        volumes=tuple(options.volumes),
        transfer_id=getattr(options, "transfer", None),
        trust=options.trust,
        concurrency=options.concurrency,
        who=options.who,
        custody_dir=options.custody_dir,
    )
