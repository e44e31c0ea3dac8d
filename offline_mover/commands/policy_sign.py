"""The command ``policy sign``: it signs the next trust policy, beside other officers' signatures."""

from __future__ import annotations

from collections.abc import Sequence

from airgap.errors import Code, PolicyRefusal
from airgap.policy import TrustPolicy
from airgap.policy_chain import next_policy, officer_keys, sign_version, version_name
from airgap.policy_words import changes
from airgap.signatures import Signer
from offline_mover.commands.officers import (
    ABOUT_VERSIONS,
    beside,
    count_people,
    missing_signatures,
    require_officers,
    telling,
)
from offline_mover.medium.policy_folder import PolicyFolder
from offline_mover.outcome import NextCommand, Outcome


def policy_sign(
    before: TrustPolicy, policy: TrustPolicy, signers: Sequence[Signer], folder: PolicyFolder
) -> Outcome:
    """Sign the next version of the trust policy, beside the signatures of others that are there already.

    Raises:
        OperatorError: ``USAGE``: a key is in no policy role of either version, or is revoked.
        PolicyRefusal: ``POLICY_NOT_NEXT``: its number is not the one after; ``POLICY_MALFORMED``: one of the
            two has no policy roles.
        UntrustedInputError: ``VOLUME_CONFLICT``: others have signed another policy of this number there.
        AirgapError: what lies there could not be completed by anybody's signature, and stays as it is.
        MediaError: it cannot be written.
    """
    with telling(
        {Code.POLICY_NOT_NEXT: "Give it the number after the version in force: policy show says it."}
    ):
        signed = sign_version(before, policy, signers)
    for one in (before, policy):
        if not one.policy_roles:
            raise PolicyRefusal(
                Code.POLICY_MALFORMED, f"version {one.version} has no policyRoles: none can follow it"
            )
    known = officer_keys(before, policy)
    require_officers(signers, known, f"no policy role of version {before.version} or {policy.version}")
    with telling(ABOUT_VERSIONS):
        path = folder.path / version_name(policy.version)
        signed = beside(folder.find(policy.version), signed, path)
        missing = missing_signatures(path, lambda: next_policy(before, signed.to_bytes()))
    folder.keep(policy.version, signed.to_bytes())
    lines = [f"version {policy.version}, sha256:{policy.sha256}, after {before.version}:"]
    lines += [f"  {line}" for line in changes(before, policy) or ("nothing but its number",)]
    told = f"signed by {count_people(signed, known)}"
    if missing is not None:
        return Outcome(
            command="policy sign",
            code=None,
            verdict=f"{told}; not enough yet: {missing}",
            next_step="Let the next officer sign it with the same file of the policy.",
            lines=tuple(lines),
        )
    return Outcome(
        command="policy sign",
        code=None,
        verdict=f"{told}, which is enough",
        next_step="Take it over into your own versions, then push them to both sides.",
        next_command=NextCommand(
            verb="policy pull", words={"place": (str(folder.path.parent),)}, options={"sas-file": None}
        ),
        lines=tuple(lines),
    )
