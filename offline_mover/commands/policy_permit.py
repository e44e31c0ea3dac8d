"""The command ``policy permit``: it signs an override for one bundle, beside other officers' signatures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airgap.errors import Code, OperatorError
from airgap.fields import format_time
from airgap.override import Override, override_name, verify_override
from airgap.policy import TrustPolicy, keyids_of
from airgap.signatures import Signer
from airgap.verify import verify_bundle
from offline_mover.commands.officers import (
    ABOUT_OVERRIDES,
    beside,
    count_people,
    missing_signatures,
    require_officers,
    telling,
)
from offline_mover.medium.policy_folder import PolicyFolder
from offline_mover.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """The wish of an officer: which rules are lifted, why, until when (aware), and at which registry."""

    lifts: frozenset[Code]
    reason: str
    until: datetime
    target: str | None
    """``None`` for the only one that channel and bundle have in common."""


def policy_permit(
    envelope: bytes,
    permit: Permit,
    *,
    policy: TrustPolicy,
    signer: Signer,
    now: datetime,
    folder: PolicyFolder,
) -> Outcome:
    """Sign an override for one bundle manifest, beside the signatures of others that are there already.

    The manifest is judged first: nothing is signed for one that the override would not let pass.

    Raises:
        AirgapError: the policy refuses the bundle for something that no override lifts; what lies there could
            not be completed by anybody's signature, and stays as it is.
        OperatorError: ``USAGE``: the channel and the bundle have several registries in common, or none; the
            override would be over already; the key is in no override role of the channel, or is revoked.
        UntrustedInputError: ``OVERRIDE_MALFORMED``: what is to be lifted cannot be, or there is no reason;
            ``VOLUME_CONFLICT``: others have signed another override for this manifest there.
        MediaError: it cannot be written.
    """
    verdict = verify_bundle(envelope, policy=policy, now=now, lifted=permit.lifts)
    manifest, sha256 = verdict.require(), str(verdict.manifest_sha256)
    possible = sorted(policy.channels[manifest.channel].audience & set(manifest.audience))
    if (permit.target is None and len(possible) > 1) or permit.target not in (None, *possible):
        raise OperatorError(Code.USAGE, f"--target: one of {', '.join(possible)}")
    target = permit.target or possible[0]
    if permit.until <= now:
        raise OperatorError(
            Code.USAGE, f"--until {format_time(permit.until)}: it is {format_time(now)} already"
        )
    roles = policy.channels[manifest.channel].override_roles
    known = {keyid: key for keyid, key in policy.keys_in_force(now).items() if keyid in keyids_of(roles)}
    require_officers([signer], known, f"no override role of the channel {manifest.channel}")
    override = Override(
        manifest_sha256=sha256,
        channel=manifest.channel,
        target=target,
        lifts=permit.lifts,
        reason=permit.reason,
        expires_at=permit.until,
    )
    with telling(ABOUT_OVERRIDES):
        path = folder.path / override_name(sha256)
        signed = beside(folder.find_override(sha256), override.sign([signer]), path)
        missing = missing_signatures(
            path,
            lambda: verify_override(
                signed.to_bytes(),
                manifest_sha256=sha256,
                channel=manifest.channel,
                target=target,
                policy=policy,
                now=now,
            ),
        )
    folder.keep_override(sha256, signed.to_bytes())
    lifts = ", ".join(sorted(code.name for code in permit.lifts))
    told = f"number {manifest.sequence} of {manifest.channel}, lifting {lifts} at {target}"
    told += f"; signed by {count_people(signed, known)}"
    step = f"Bring it into the target's container policy, as {override_name(sha256)}; then push the bundle."
    if missing is not None:
        step = "Let the next officer sign it with the same words."
    return Outcome(
        command="policy permit",
        code=None,
        verdict=f"{told}, which is enough" if missing is None else f"{told}; not enough yet: {missing}",
        next_step=step,
        transfer_id=manifest.transfer_id,
        manifest_sha256=sha256,
    )
