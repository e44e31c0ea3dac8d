"""The command line of ``sign``: its arguments, and the request that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.options import (
    LOCAL_NOTES,
    KeyPlace,
    Parser,
    add_key,
    add_output,
    add_transfer,
    add_trust,
    read_key,
)

if TYPE_CHECKING:
    from offline_mover.cli.custody_note import CustodyNote
    from offline_mover.cli.session import Session
    from offline_mover.outcome import Outcome

HELP = """\
Say at the target that a bundle may be imported, where its channel asks people for
that (releaseRoles of the trust policy). The bundle manifest is judged first, and
what would be released is told; nothing is signed of what the policy refuses.

  offline-mover sign /media/usb1 --trust policy.json --key officer.pem
  offline-mover sign bundle-manifest.dsse.json --trust policy.json --key officer.pem
  offline-mover sign /media/usb1 --trust policy.json --key https://NAME.vault.azure.net/keys/officer

A key in Key Vault signs for whoever is signed in (az login) and has Key Vault
Crypto User on it; it stays there, and what it signed is verified before it counts.
The release names this very bundle and one registry, and counts for nothing else.
Send the file that is written to POST /api/imports/ID/release of the target.

With a key of a bundle role (bundleRoles) the bundle manifest itself is signed, at
the source, where the transfer awaits signatures: BUNDLE is then what
GET /api/transfers/ID/signatures has answered. Send the file to POST of the same.
"""
NOTES = LOCAL_NOTES
AFTER_INTERRUPTION = "Nothing was signed; run the same command again."


def declare(parser: Parser) -> None:
    """Declare the arguments of ``sign``."""
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        type=Path,
        help="a volume with the bundle, or its file bundle-manifest.dsse.json",
    )
    add_transfer(parser)
    add_key(parser)
    parser.add_option(
        "target", metavar="REGISTRY", read=str, text="its login server, where the bundle is for several"
    )
    parser.add_option(
        "out",
        metavar="FILE",
        read=Path,
        default=Path("release.dsse.json"),
        text="where the release is written, over no other file (default release.dsse.json, here)",
    )
    add_trust(parser)
    add_output(parser)


def read(options: argparse.Namespace) -> SignRequest:
    """See the port."""
    return SignRequest(
        bundle=options.bundle,
        transfer_id=options.transfer,
        key=read_key(options),
        target=options.target,
        out=options.out,
        trust=options.trust,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """A request to sign a bundle, or its release; ``bundle`` is a volume, or the file of its envelope."""

    bundle: Path
    transfer_id: str | None
    key: KeyPlace
    target: str | None
    out: Path
    trust: Path

    @property
    def custody(self) -> CustodyNote | None:
        """See the port."""
        return None

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from airgap.envelope import MAX_ENVELOPE_BYTES  # noqa: PLC0415 - --help does without
        from offline_mover.commands.sign import (  # noqa: PLC0415 - as above
            envelope_on,
            is_same_release,
            sign,
        )

        if self.bundle.is_dir():
            session.hold([self.bundle])
            envelope = envelope_on(self.bundle, self.transfer_id)
        else:
            envelope = session.read_file(self.bundle, "BUNDLE", MAX_ENVELOPE_BYTES)
        release, outcome = sign(
            envelope,
            policy=session.policy(self.trust),
            signer=session.signer(self.key),
            target=self.target,
            now=session.now,
            saved_as=self.out,
        )
        session.write_file(self.out, "--out", release, is_ours=partial(is_same_release, release))
        return outcome
