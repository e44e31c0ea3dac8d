"""``policy``: the trust policy in words, and its signed versions carried from place to place.

Versions lie in a folder beside the pinned policy, on a medium in the folder ``policy``, and in the container
``policy`` of either side. Wherever they come from, only what follows the pinned policy is taken
(:mod:`airgap.policy_chain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from securesystemslib.signer import Signer

from airgap.damage import Damage
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, OperatorError, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.override import Override, override_name, verify_override
from airgap.policy import TrustPolicy
from airgap.policy_chain import (
    MAX_VERSION_BYTES,
    Chain,
    Stop,
    follow,
    next_policy,
    sign_version,
    version_name,
)
from airgap.policy_words import changes, describe
from airgap.verify import verify_bundle
from offline_mover.medium.policy_folder import PolicyFolder
from offline_mover.outcome import Finding, NextCommand, Outcome
from offline_mover.storage.ports import WritableContainer


class VersionPlace(Protocol):
    """Where versions lie: a folder, or a container."""

    def find(self, version: int) -> bytes | None:
        """The envelope of a version, of at most 512 KiB; ``None`` if there is none."""

    def keep(self, version: int, envelope: bytes) -> None:
        """Write the envelope of a version that is not there yet."""


class PolicyContainer:
    """The container ``policy`` of a side."""

    def __init__(self, container: WritableContainer) -> None:
        self._container = container

    def find(self, version: int) -> bytes | None:
        """See the port."""
        return self._container.read_small(version_name(version), max_bytes=MAX_VERSION_BYTES)

    def keep(self, version: int, envelope: bytes) -> None:
        """See the port."""
        self._container.create_small(version_name(version), envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What an officer wants to permit: which rules are lifted, why, until when, and at which registry."""

    lifts: frozenset[Code]
    reason: str
    until: datetime
    target: str | None
    """``None`` for the only one that channel and bundle have in common."""


def policy_show(chain: Chain, *, now: datetime) -> Outcome:
    """Tell the policy in force in words, and what each version since the pinned one has changed."""
    lines: list[str] = []
    for before, after in zip(chain.links, chain.links[1:], strict=False):
        lines += [f"version {after.version}, after {before.version}:"]
        lines += [f"  {line}" for line in changes(before, after) or ("nothing but its number",)]
    lines += [f"version {chain.last.version}, sha256:{chain.last.sha256}:"]
    lines += [f"  {line}" for line in describe(chain.last)]
    told = f"version {chain.last.version} is in force, pinned is version {chain.pinned.version}"
    try:
        chain.last.require_in_force(now)
    except PolicyRefusal as refusal:
        return _outcome("show", chain, refusal.code, f"{told}; {refusal.detail}", lines=lines)
    return _outcome(
        "show", chain, None, f"{told}, good until {format_time(chain.last.expires_at)}", lines=lines
    )


def policy_pull(place: VersionPlace, chain: Chain, own: PolicyFolder) -> Outcome:
    """Take the versions that follow from a place, and keep them beside the pinned policy.

    Raises:
        UntrustedInputError: ``NEWER_FORMAT``: the next version is signed as it must be, by a newer tool.
        ServiceError, MediaError: the place could not be asked, or nothing can be kept.
    """
    found: dict[int, bytes] = {}

    def find(version: int) -> bytes | None:
        raw = place.find(version)
        if raw is not None:
            found[version] = raw
        return raw

    longer = follow(chain, find)
    new = longer.links[len(chain.links) :]
    for link in new:
        own.keep(link.version, found[link.version])
    lines = [
        f"{line}"
        for before, after in zip(longer.links[-len(new) - 1 :], new, strict=False)
        for line in (f"version {after.version}, after {before.version}:", *changes(before, after))
    ]
    told = f"{len(new)} new; version {longer.last.version} is in force"
    return _outcome("pull", longer, None, told, lines=lines, taken=len(new))


def policy_push(place: VersionPlace, chain: Chain, own: PolicyFolder) -> Outcome:
    """Bring the versions that are beside the pinned policy to a place, and replace nothing there.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: a version beside the pinned policy was exchanged or removed
            since it was read.
        ServiceError, MediaError: the place cannot be asked or written to.
    """
    sent = 0
    for before, link in zip(chain.links, chain.links[1:], strict=False):
        raw = own.find(link.version)
        if raw is None or next_policy(before, raw) != link:
            raise UntrustedInputError(Code.BLOB_CHANGED, version_name(link.version))
        held = place.find(link.version)
        if held is None:
            place.keep(link.version, raw)
            sent += 1
        elif not _is_same(before, link, held):
            stop = Stop(
                version=link.version,
                code=Code.POLICY_FORKED,
                detail="another one lies there under this name; it stays as it is",
            )
            return _outcome("push", Chain(links=chain.links, stop=stop), None, f"{sent} brought", taken=sent)
    told = f"{sent} brought; all versions up to {chain.last.version} are there"
    return _outcome("push", chain, None, told, taken=sent)


def _is_same(before: TrustPolicy, link: TrustPolicy, held: bytes) -> bool:
    """Whether it is that version, be it with other signatures that do as well."""
    try:
        return next_policy(before, held) == link
    except AirgapError:
        return False


def policy_sign(
    before: TrustPolicy, policy: TrustPolicy, signers: Sequence[Signer], folder: PolicyFolder
) -> Outcome:
    """Sign the next version, beside the signatures of others that are there already.

    Raises:
        PolicyRefusal: ``POLICY_NOT_NEXT``: its number is not the one after.
        UntrustedInputError: ``VOLUME_CONFLICT``: others have signed another policy of this number there.
        MediaError: it cannot be written.
    """
    signed = sign_version(before, policy, signers)
    signed = _beside(folder.find(policy.version), signed, version_name(policy.version))
    folder.keep(policy.version, signed.to_bytes())
    lines = [f"version {policy.version}, sha256:{policy.sha256}, after {before.version}:"]
    lines += [f"  {line}" for line in changes(before, policy) or ("nothing but its number",)]
    try:
        next_policy(before, signed.to_bytes())
    except AirgapError as error:
        told = f"signed by {len(signed.signatures)}; not enough yet: {error.code.name}: {error.detail}"
        step = "Let the next officer sign it with the same file of the policy."
        return Outcome(command="policy sign", code=None, verdict=told, next_step=step, lines=tuple(lines))
    return Outcome(
        command="policy sign",
        code=None,
        verdict=f"signed by {len(signed.signatures)}, which is enough",
        next_step="Take it over into your own versions, then push them to both sides.",
        next_command=NextCommand(
            verb="policy pull", words={"place": (str(folder.path.parent),)}, options={"sas-file": None}
        ),
        lines=tuple(lines),
    )


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
        AirgapError: the policy refuses the bundle for something that no override lifts.
        OperatorError: ``USAGE``: the channel and the bundle have several registries in common, or none.
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
    override = Override(
        manifest_sha256=sha256,
        channel=manifest.channel,
        target=target,
        lifts=permit.lifts,
        reason=permit.reason,
        expires_at=permit.until,
    )
    signed = _beside(folder.find_override(sha256), override.sign([signer]), override_name(sha256))
    folder.keep_override(sha256, signed.to_bytes())
    lifts = ", ".join(sorted(code.name for code in permit.lifts))
    told = f"number {manifest.sequence} of {manifest.channel}, lifting {lifts} at {target}"
    try:
        verify_override(
            signed.to_bytes(),
            manifest_sha256=sha256,
            channel=manifest.channel,
            target=target,
            policy=policy,
            now=now,
        )
    except AirgapError as error:
        verdict_line = f"{told}; not enough yet: {error.code.name}: {error.detail}"
        step = "Let the next officer sign it with the same words."
    else:
        verdict_line = f"{told}; signed by {len(signed.signatures)}, which is enough"
        step = (
            f"Bring it into the target's container policy, as {override_name(sha256)}; then push the bundle."
        )
    return Outcome(
        command="policy permit",
        code=None,
        verdict=verdict_line,
        next_step=step,
        transfer_id=manifest.transfer_id,
        manifest_sha256=sha256,
    )


def _beside(there: bytes | None, signed: Envelope, name: str) -> Envelope:
    """What was signed, with the signatures of others that lie there under the same words."""
    if there is None:
        return signed
    others = Envelope.from_bytes(there)
    if others.payload != signed.payload:
        raise UntrustedInputError(Code.VOLUME_CONFLICT, f"{name}: others have signed something else")
    return Envelope(payload=signed.payload, signatures={**others.signatures, **signed.signatures})


def _outcome(
    view: str, chain: Chain, code: Code | None, verdict: str, *, lines: Sequence[str] = (), taken: int = 0
) -> Outcome:
    findings: tuple[Finding, ...] = ()
    step = "Nothing: this is what counts."
    if chain.stop is not None:
        stop = chain.stop
        damage = Damage(code=stop.code, name=version_name(stop.version), detail=stop.detail)
        findings = (Finding(damage=damage),)
        code = code or stop.code
    if code is not None:
        step = code.remedy
    return Outcome(
        command=f"policy {view}",
        code=code,
        verdict=verdict,
        next_step=step,
        counts={"versions": len(chain.links), "taken": taken},
        findings=findings,
        facts={
            "pinnedVersion": chain.pinned.version,
            "policyVersion": chain.last.version,
            "policyDigest": f"sha256:{chain.last.sha256}",
        },
        lines=tuple(lines),
    )
