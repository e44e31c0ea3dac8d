"""The command line of ``list``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.errors import Code, OperatorError
from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import (
    CLOUD_NOTES,
    Access,
    Parser,
    add_cloud,
    add_output,
    add_trust,
    read_access,
)

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Show which transfers there are: channel and number, size, for which registry, until
when, and whether your trust policy accepts them. Nothing is read of their parts.

  offline-mover list https://src.blob.core.windows.net/transfer --trust policy.json
  offline-mover list /media/usb1 /media/usb2 --trust policy.json

At a storage the SAS needs r and l.
"""
NOTES = CLOUD_NOTES
AFTER_INTERRUPTION = "Nothing was changed; run the same command again."


def declare(parser: Parser) -> None:
    """Declare the arguments of ``list``."""
    parser.add_argument(
        "places", metavar="PLACE", nargs="+", help="https://<account>…/<container>, or volumes' folders"
    )
    add_trust(parser)
    add_cloud(parser)
    add_output(parser)


def read(options: argparse.Namespace) -> ListRequest:
    """See the port."""
    return ListRequest(places=tuple(options.places), trust=options.trust, access=read_access(options))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """A request to list the transfers in a container or on volumes."""

    places: tuple[str, ...]
    trust: Path
    access: Access

    @property
    def custody(self) -> CustodyNote | None:
        """See the port."""
        return None

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.commands.list_transfers import (  # noqa: PLC0415 - --help does without
            list_carried,
            list_stored,
        )
        from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

        policy = session.policy(self.trust)
        if not any("://" in place for place in self.places):
            volumes = tuple(Path(place) for place in self.places)
            session.hold(volumes)
            return list_carried(volumes, policy=policy, now=session.now)
        if len(self.places) > 1:
            raise OperatorError(Code.USAGE, "one container at a time, or volumes")
        address = TransferAddress.target(self.places[0], "PLACE")
        with session.container(address, self.access) as container:
            return list_stored(container, address.container_url, policy=policy, now=session.now)
