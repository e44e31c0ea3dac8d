"""The signatures by people on a bundle manifest at the source: kept, counted and told until none is missing.

They are kept in the ledger, one blob for each key, and counted by the policy in force. Only blobs that are
named by keys of this policy are read, so that anything else that lies there costs nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from airgap.cosigning import KeptSignature, SignatureTally, count_signatures, put_together, roles_of_people
from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.fields import format_time
from airgap.journal import Journal
from airgap.policy import Channel, TrustPolicy, keyids_of
from airgap.states import State
from airgap.verify import valid_keys
from function_app.http.bodies import read_body
from function_app.ports import SourceSide
from function_app.source import bodies
from function_app.storage.ledger import Ledger
from function_app.storage.policies import policy_in_force


def needs_people(side: SourceSide, channel: str) -> bool:
    """Whether people must sign for a role of the channel, by the policy in force."""
    rules = policy_in_force(side).channels.get(channel)
    own = {signer.public_key.keyid for signer in side.signing.signers()}
    return rules is not None and bool(roles_of_people(rules, own))


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A bundle manifest that the source has signed, and that people sign or have signed.

    Args:
        side: the source's settings and ports.
        channel: the channel's name.
        sha256: the manifest's digest, in hex.
    """

    side: SourceSide
    channel: str
    sha256: str

    @classmethod
    def of(cls, side: SourceSide, journal: Journal) -> "SignedManifest | None":
        """The manifest of a transfer; ``None`` if people were never asked to sign one."""
        awaiting = journal.newest(State.AWAITING_SIGNATURES)
        if awaiting is None:
            return None
        digest = str(awaiting.facts["bundle"]["manifestDigest"])
        return cls(side, str(journal.entries[0].facts["channel"]), digest.removeprefix("sha256:"))

    def envelope(self) -> Envelope:
        """The manifest's envelope with the source's own signatures.

        Raises:
            ServiceError: ``NOT_FOUND``: the envelope is gone.
            UntrustedInputError: ``ENVELOPE_MALFORMED``: what is there is none.
        """
        return Envelope.from_bytes(Ledger(self.side.blobs).envelope(self.sha256))

    def count(self, now: datetime) -> SignatureTally:
        """Count the signatures that were kept, by the policy in force.

        Raises:
            PolicyRefusal: ``CHANNEL_UNKNOWN``: the policy does not have the channel; or as
                :func:`policy_in_force`.
            AirgapError: as :meth:`envelope`.
        """
        policy = policy_in_force(self.side)
        rules = self._rules(policy)
        return count_signatures(self.envelope(), self._kept(rules), channel=rules, policy=policy, now=now)

    def with_signatures(self, envelope: bytes, keyids: tuple[str, ...]) -> bytes:
        """The bytes of the envelope with those signatures that were counted when it was sealed.

        Raises:
            PolicyRefusal: ``THRESHOLD_NOT_MET``: one of them is gone.
        """
        ledger = Ledger(self.side.blobs)
        kept = [one for keyid in keyids if (one := ledger.find_signature(self.sha256, keyid)) is not None]
        if len(kept) != len(keyids):
            raise PolicyRefusal(Code.THRESHOLD_NOT_MET, "a signature that was kept is gone")
        return put_together(Envelope.from_bytes(envelope), kept).to_bytes()

    def keep(self, body: bytes, *, is_open: bool, by: str, now: datetime) -> bool:
        """Verify what a person has signed, and keep it, one blob for each key; a repeat changes nothing.

        Args:
            body: the envelope of this very manifest with her signature, and perhaps others'.
            is_open: whether a new signature still matters.
            by: the words for who hands it in.
            now: the current time, aware.

        Returns:
            ``False``: it is for another manifest; nothing is kept.

        Raises:
            UntrustedInputError: ``TOO_LARGE``, ``ENVELOPE_MALFORMED``: it is no envelope of a manifest;
                ``SIGNATURE_INVALID``: a signature is forged; ``SIGNATURE_UNCHECKABLE``: one could not be
                checked; ``SIGNER_UNKNOWN``: no key of a bundle role signed it.
            PolicyRefusal: ``CHANNEL_UNKNOWN``: the policy does not have the channel; ``POLICY_EXPIRED``: the
                policy itself has expired; ``KEY_REVOKED``: only revoked keys signed it;
                ``TRANSITION_REFUSED``: it is new, and it is too late for it.
            ServiceError: ``SERVICE_UNEXPECTED``: somebody has put something else in its place, where nothing
                is ever replaced; this signature will not count.
        """
        policy, ledger = policy_in_force(self.side), Ledger(self.side.blobs)
        given, own = Envelope.from_bytes(body), self.envelope()
        if given.payload != own.payload:
            return False
        valid = valid_keys(given, policy, now, keyids_of(self._rules(policy).bundle_roles))
        for keyid in sorted(valid.keys() - own.signatures.keys()):
            if ledger.find_signature(self.sha256, keyid) is None:
                if not is_open:
                    raise PolicyRefusal(Code.TRANSITION_REFUSED, "nothing more can be signed")
                kept = KeptSignature(
                    keyid=keyid, signature=given.signatures[keyid], by=by, at=now.replace(microsecond=0)
                )
                ledger.keep_signature(self.sha256, kept)
            found = ledger.find_signature(self.sha256, keyid)
            lies = [] if found is None else [found]
            if not count_signatures(own, lies, channel=self._rules(policy), policy=policy, now=now).signed:
                detail = f"something else lies in the ledger where the signature of {keyid} belongs"
                raise ServiceError(Code.SERVICE_UNEXPECTED, detail)
        return True

    def tell(self, signed: tuple[KeptSignature, ...]) -> list[dict[str, Any]]:
        """The signatures in words for the API: whose each is, in which role, and who handed it in when."""
        policy = policy_in_force(self.side)
        roles = self._rules(policy).bundle_roles
        return [
            {
                "keyid": one.keyid,
                "holder": policy.keys[one.keyid].holder,
                "roles": sorted(name for name, role in roles.items() if one.keyid in role.keyids),
                "by": one.by,
                "at": format_time(one.at),
            }
            for one in signed
        ]

    def _rules(self, policy: TrustPolicy) -> Channel:
        rules = policy.channels.get(self.channel)
        if rules is None:
            raise PolicyRefusal(Code.CHANNEL_UNKNOWN, self.channel)
        return rules

    def _kept(self, rules: Channel) -> list[KeptSignature]:
        ledger = Ledger(self.side.blobs)
        found = (ledger.find_signature(self.sha256, keyid) for keyid in sorted(keyids_of(rules.bundle_roles)))
        return [one for one in found if one is not None]


def told_signatures(
    side: SourceSide, journal: Journal, now: datetime
) -> bodies.Signatures | msgspec.UnsetType:
    """The member ``signatures`` of a transfer: who has signed, who is missing, and how long there is time.

    It is ``UNSET`` where no person must sign. Of a sealed transfer it tells who had signed by then.
    """
    manifest = SignedManifest.of(side, journal)
    awaiting, sealing = journal.newest(State.AWAITING_SIGNATURES), journal.newest(State.SEALING)
    if manifest is None or awaiting is None:
        return msgspec.UNSET
    signed, missing = [], []
    if sealing is not None:
        signed = sealing.facts.get("signatures", [])
    else:
        try:
            tally = manifest.count(now)
            signed, missing = manifest.tell(tally.signed), list(tally.missing)
        except PolicyRefusal as refusal:  # nothing counts by this policy
            missing = [str(refusal)]
    return bodies.Signatures(
        manifest_digest=f"sha256:{manifest.sha256}",
        signed=tuple(read_body(one, bodies.Signature) for one in signed),
        missing=tuple(missing),
        until=awaiting.facts["until"],
    )
