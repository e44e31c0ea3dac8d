"""The command line of ``policy``: its arguments, and the requests that they make."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offline_mover.cli.custody_note import CustodyNote
from offline_mover.cli.options import (
    CLOUD_NOTES,
    LOCAL_NOTES,
    Access,
    KeyPlace,
    Parser,
    add_cloud,
    add_key,
    add_output,
    add_trust,
    read_access,
    read_key,
)

if TYPE_CHECKING:
    from offline_mover.cli.session import Session
    from offline_mover.commands.policy import VersionPlace
    from offline_mover.outcome import Outcome

HELP = """\
A pinned policy leads to later versions, each signed by whom the one before
names. They lie beside it (policy.versions beside policy.json), and every
command uses the last. Only what follows your pinned policy is ever taken.

  offline-mover policy show --trust policy.json
  offline-mover policy sign next.json /media/usb --key officer.pem \\
    --trust policy.json
  offline-mover policy pull /media/usb --trust policy.json
  offline-mover policy push https://dst.blob.core.windows.net/policy \\
    --trust policy.json
  offline-mover policy permit bundle-manifest.dsse.json /media/usb \\
    --lift EXPIRED --reason "flood" --until 2027-01-31T08:00:00Z \\
    --key officer.pem --trust policy.json
"""
_SHOW = """\
Say in words what the policy in force says, and what each version since your
pinned one has changed.
"""
_PULL = """\
Take over the versions that follow yours: from the container policy of either
side, or from a folder that is carried. A SAS needs r.
"""
_PUSH = """\
Bring your versions to the container policy of either side, or to a folder that
is carried. Nothing there is replaced. A SAS needs r and c.
"""
_SIGN = """\
Sign the next version with your key, beside what other officers have signed in
that folder. It counts once enough have signed for both versions.
"""
_PERMIT = """\
In an emergency the overrideRoles of a channel lift rules of time and order for
one bundle manifest: EXPIRED, TOO_OLD, NOT_YET_VALID, OUT_OF_ORDER,
SEQUENCE_GAP. Sign that, beside what other officers have signed in the folder.
"""
NOTES = CLOUD_NOTES
AFTER_INTERRUPTION = "Versions that were brought are kept; run the same command again for the rest."


def declare(parser: Parser) -> None:
    """Declare the verbs below ``policy``, and their arguments."""
    views = parser.add_subparsers(dest="view", required=True, metavar="show|pull|push|sign|permit")
    show = views.add_parser(
        "show", help="say what it says, and what changed", description=_SHOW, epilog=LOCAL_NOTES
    )
    for name, text, told in (
        ("pull", "take over versions from a place", _PULL),
        ("push", "bring versions to a place", _PUSH),
    ):
        view = views.add_parser(name, help=text, description=told, epilog=NOTES)
        view.add_argument("place", metavar="PLACE", help="https://<account>…/policy, or a medium's folder")
        add_trust(view)
        add_cloud(view)
        add_output(view)
    sign = views.add_parser("sign", help="sign the next version", description=_SIGN, epilog=LOCAL_NOTES)
    sign.add_argument("next", metavar="NEXT", type=Path, help="the next policy (JSON file)")
    sign.add_argument("place", metavar="FOLDER", help="the folder that goes from officer to officer")
    permit = views.add_parser(
        "permit", help="lift rules of time or order for one bundle", description=_PERMIT, epilog=LOCAL_NOTES
    )
    permit.add_argument("bundle", metavar="BUNDLE", type=Path, help="its bundle-manifest.dsse.json")
    permit.add_argument("place", metavar="FOLDER", help="the folder that goes from officer to officer")
    for name, metavar, text in (
        ("lift", "CODES", "such as EXPIRED,SEQUENCE_GAP"),
        ("reason", "TEXT", "why, for the journal and the receipt"),
        ("until", "TIME", "how long it is good: 2027-01-31T08:00:00Z"),
    ):
        permit.add_option(name, metavar=metavar, read=str, text=text, is_needed=True)
    permit.add_option("target", metavar="REGISTRY", read=str, text="where the bundle is for several")
    for view in (sign, permit):
        add_key(view)
    for view in (show, sign, permit):
        add_trust(view)
        add_output(view)


def read(options: argparse.Namespace) -> PolicyRequest | PermitRequest:
    """See the port."""
    if options.view == "permit":
        return PermitRequest(
            bundle=options.bundle,
            folder=Path(options.place),
            lifts=options.lift,
            reason=options.reason,
            until=options.until,
            target=options.target,
            key=read_key(options),
            trust=options.trust,
        )
    is_carried = options.view in {"pull", "push"}
    return PolicyRequest(
        view=options.view,
        place=None if options.view == "show" else options.place,
        trust=options.trust,
        access=read_access(options) if is_carried else None,
        following=options.next if options.view == "sign" else None,
        key=read_key(options) if options.view == "sign" else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRequest:
    """A request to show, bring, send or sign the trust policy."""

    view: str
    place: str | None
    trust: Path
    access: Access | None
    following: Path | None
    key: KeyPlace | None

    @property
    def custody(self) -> CustodyNote | None:
        """See the port."""
        return None

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from offline_mover.commands import policy  # noqa: PLC0415 - --help does without
        from offline_mover.medium.policy_folder import PolicyFolder  # noqa: PLC0415 - as above

        chain, own = session.policy_chain(self.trust), PolicyFolder.beside(self.trust)
        if self.place is None:
            return policy.policy_show(chain, now=session.now, own=own.path)
        if self.following is not None and self.key is not None:
            return self._sign(session, Path(self.place), self.following, self.key)
        with self._place(session, self.place) as place:
            if self.view == "pull":
                return policy.policy_pull(place, chain, own)
            return policy.policy_push(place, chain, own)

    @contextmanager
    def _place(self, session: Session, place: str) -> Iterator[VersionPlace]:
        from offline_mover.commands.policy import PolicyContainer  # noqa: PLC0415 - as above
        from offline_mover.medium.policy_folder import PolicyFolder  # noqa: PLC0415 - as above
        from offline_mover.storage.storage_address import TransferAddress  # noqa: PLC0415 - as above

        if "://" not in place or self.access is None:
            session.hold((Path(place),))
            yield PolicyFolder.below(Path(place))
            return
        with session.container(TransferAddress.target(place, "PLACE"), self.access) as container:
            yield PolicyContainer(container)

    def _sign(self, session: Session, folder: Path, following: Path, key: KeyPlace) -> Outcome:
        from airgap.policy import MAX_POLICY_BYTES, TrustPolicy  # noqa: PLC0415 - as above
        from offline_mover.commands.policy_sign import policy_sign  # noqa: PLC0415 - as above
        from offline_mover.medium.policy_folder import PolicyFolder  # noqa: PLC0415 - as above

        session.hold((folder,))
        policy = TrustPolicy.from_bytes(session.read_file(following, "NEXT", MAX_POLICY_BYTES))
        signer = session.signer(key)
        before = session.policy(self.trust)
        return policy_sign(before, policy, [signer], PolicyFolder.below(folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitRequest:
    """A request to sign an override, by which rules are lifted for one bundle."""

    bundle: Path
    folder: Path
    lifts: str
    reason: str
    until: str
    target: str | None
    key: KeyPlace
    trust: Path

    @property
    def custody(self) -> CustodyNote | None:
        """See the port."""
        return None

    def run(self, session: Session) -> Outcome:
        """See the port."""
        from airgap.envelope import MAX_ENVELOPE_BYTES  # noqa: PLC0415 - --help does without
        from airgap.errors import Code, OperatorError  # noqa: PLC0415 - as above
        from airgap.fields import parse_time  # noqa: PLC0415 - as above
        from airgap.override import LIFTABLE  # noqa: PLC0415 - as above
        from offline_mover.commands.policy_permit import Permit, policy_permit  # noqa: PLC0415 - as above
        from offline_mover.medium.policy_folder import PolicyFolder  # noqa: PLC0415 - as above

        known = {code.name: code for code in LIFTABLE}
        names = [name.strip() for name in self.lifts.split(",")]
        if unknown := [name for name in names if name not in known]:
            raise OperatorError(Code.USAGE, f"--lift {unknown[0][:40]}: only {', '.join(sorted(known))}")
        try:
            until = parse_time(self.until)
        except ValueError:
            raise OperatorError(Code.USAGE, "--until: a time such as 2027-01-31T08:00:00Z") from None
        session.hold((self.folder,))
        return policy_permit(
            session.read_file(self.bundle, "BUNDLE", MAX_ENVELOPE_BYTES),
            Permit(
                lifts=frozenset(known[name] for name in names),
                reason=self.reason,
                until=until,
                target=self.target,
            ),
            policy=session.policy(self.trust),
            signer=session.signer(self.key),
            now=session.now,
            folder=PolicyFolder.below(self.folder),
        )
