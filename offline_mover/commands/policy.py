"""``policy``: the trust policy in words, and its signed versions carried from place to place.

Versions lie in a folder beside the pinned policy, on a medium in the folder ``policy``, and in the container
``policy`` of either side. Wherever they come from, only what follows the pinned policy is taken
(:mod:`airgap.policy_chain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from securesystemslib.signer import Signer

from airgap.damage import Damage
from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import AirgapError, Code, OperatorError, PolicyRefusal, UntrustedInputError, error_for
from airgap.fields import format_time
from airgap.override import Override, override_name, verify_override
from airgap.policy import TrustedKey, TrustPolicy, keyids_of
from airgap.policy_chain import (
    MAX_VERSION_BYTES,
    Chain,
    Stop,
    follow,
    next_policy,
    officer_keys,
    sign_version,
    version_name,
)
from airgap.policy_words import changes, describe
from airgap.verify import verify_bundle
from offline_mover.medium.policy_folder import PolicyFolder
from offline_mover.outcome import Finding, NextCommand, Outcome
from offline_mover.storage.ports import WritableContainer

_ABOUT_VERSIONS: Mapping[Code, str] = {
    Code.ENVELOPE_MALFORMED: "Remove what has that name and bring it again: it is no policy version.",
    Code.TOO_LARGE: "Remove what has that name: it is larger than any version of a trust policy.",
    Code.SIGNATURE_INVALID: "Remove it, bring it again: a signature in an officer's name is forged or bad.",
    Code.SIGNATURE_UNCHECKABLE: "Have it signed anew: a signature could not be checked; see policy show.",
    Code.SIGNER_UNKNOWN: "Remove it and ask who brought it: nobody signed it whom the version before names.",
    Code.THRESHOLD_NOT_MET: "Have the missing officers sign it as well: offline-mover policy sign.",
    Code.VOLUME_CONFLICT: "Compare your file with theirs, and sign theirs or take another folder.",
}
"""What to do where the code's own remedy speaks of a bundle, by the code."""

_ABOUT_OVERRIDES: Mapping[Code, str] = {
    Code.ENVELOPE_MALFORMED: "Remove what has that name: it is no override; then sign again.",
    Code.TOO_LARGE: "Remove what has that name: it is larger than any override; then sign again.",
    Code.SIGNATURE_INVALID: "Remove it and sign anew: a signature in an officer's name is forged or broken.",
    Code.SIGNATURE_UNCHECKABLE: "Remove it and have it signed anew: a signature could not be checked.",
    Code.VOLUME_CONFLICT: "Sign with the very words of the others, or take another folder.",
}


@contextmanager
def _telling(steps: Mapping[Code, str]) -> Iterator[None]:
    """Errors of the block come with these next steps."""
    try:
        yield
    except AirgapError as error:
        error.remedy = steps.get(error.code, error.remedy)
        raise


class VersionPlace(Protocol):
    """Where versions lie: a folder, or a container."""

    @property
    def path(self) -> Path | None:
        """The folder; ``None`` for a container."""

    def find(self, version: int) -> bytes | None:
        """The envelope of a version, of at most 512 KiB; ``None`` if there is none."""

    def keep(self, version: int, envelope: bytes) -> None:
        """Write the envelope of a version that is not there yet."""


class PolicyContainer:
    """The container ``policy`` of a side."""

    def __init__(self, container: WritableContainer) -> None:
        self._container = container

    @property
    def path(self) -> Path | None:
        """See the port."""
        return None

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


def policy_show(chain: Chain, *, now: datetime, own: Path | None = None) -> Outcome:
    """Tell the policy in force in words, and what each version since the pinned one has changed.

    ``own`` is where the versions lie, to be named.
    """
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
        return _outcome("show", chain, refusal.code, f"{told}; {refusal.detail}", where=own, lines=lines)
    told = f"{told}, good until {format_time(chain.last.expires_at)}"
    return _outcome("show", chain, None, told, where=own, lines=lines)


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
    return _outcome("pull", longer, None, told, where=place.path, lines=lines, taken=len(new))


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
            told = f"{sent} brought"
            forked = Chain(links=chain.links, stop=stop)
            return _outcome("push", forked, None, told, where=place.path, taken=sent)
    told = f"{sent} brought; all versions up to {chain.last.version} are there"
    return _outcome("push", chain, None, told, where=own.path, taken=sent)


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
        OperatorError: ``USAGE``: a key is in no policy role of either version, or is revoked.
        PolicyRefusal: ``POLICY_NOT_NEXT``: its number is not the one after; ``POLICY_MALFORMED``: one of the
            two has no policy roles.
        UntrustedInputError: ``VOLUME_CONFLICT``: others have signed another policy of this number there.
        AirgapError: what lies there could not be completed by anybody's signature, and stays as it is.
        MediaError: it cannot be written.
    """
    with _telling(
        {Code.POLICY_NOT_NEXT: "Give it the number after the version in force: policy show says it."}
    ):
        signed = sign_version(before, policy, signers)
    for one in (before, policy):
        if not one.policy_roles:
            raise PolicyRefusal(
                Code.POLICY_MALFORMED, f"version {one.version} has no policyRoles: none can follow it"
            )
    known = officer_keys(before, policy)
    _require_known(signers, known, f"no policy role of version {before.version} or {policy.version}")
    with _telling(_ABOUT_VERSIONS):
        path = folder.path / version_name(policy.version)
        signed = _beside(folder.find(policy.version), signed, path)
        missing = _missing(path, lambda: next_policy(before, signed.to_bytes()))
    folder.keep(policy.version, signed.to_bytes())
    lines = [f"version {policy.version}, sha256:{policy.sha256}, after {before.version}:"]
    lines += [f"  {line}" for line in changes(before, policy) or ("nothing but its number",)]
    told = f"signed by {_people(signed, known)}"
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
    _require_known([signer], known, f"no override role of the channel {manifest.channel}")
    override = Override(
        manifest_sha256=sha256,
        channel=manifest.channel,
        target=target,
        lifts=permit.lifts,
        reason=permit.reason,
        expires_at=permit.until,
    )
    with _telling(_ABOUT_OVERRIDES):
        path = folder.path / override_name(sha256)
        signed = _beside(folder.find_override(sha256), override.sign([signer]), path)
        missing = _missing(
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
    told += f"; signed by {_people(signed, known)}"
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


def _require_known(signers: Sequence[Signer], known: Mapping[str, TrustedKey], not_in: str) -> None:
    """Return if every key is one that may sign this; ``known`` are those, by key id."""
    for signer in signers:
        keyid = signer.public_key.keyid
        if keyid not in known:
            people = ", ".join(sorted({key.holder for key in known.values()})) or "nobody"
            raise OperatorError(
                Code.USAGE, f"--key: {keyid} is in {not_in}, or is revoked; who may sign: {people}"
            )


def _missing(path: Path, judge: Callable[[], object]) -> str | None:
    """What is still missing of signatures, in words; ``None`` if ``judge`` raises nothing.

    Whoever signs now is known to count. So it can only be for the other version that no key counts yet.
    """
    try:
        judge()
    except AirgapError as refusal:
        if refusal.code in {Code.THRESHOLD_NOT_MET, Code.ALGORITHM_MISSING}:
            return f"{refusal.code.name}: {refusal.detail}"
        if refusal.code in {Code.SIGNER_UNKNOWN, Code.KEY_REVOKED}:
            return f"{Code.THRESHOLD_NOT_MET.name}: nobody yet who counts for the other version"
        raise error_for(refusal.code, f"{path}: {refusal.detail}") from None
    return None


def _people(signed: Envelope, known: Mapping[str, TrustedKey]) -> int:
    """How many of those who may sign have: people, not keys."""
    checks = signed.check_signatures(key.public_key for key in known.values())
    return len({known[keyid].holder for keyid, check in checks.items() if check is SignatureCheck.VALID})


def _beside(there: bytes | None, signed: Envelope, path: Path) -> Envelope:
    """What was signed, with the signatures of others that lie there under the same words."""
    if there is None:
        return signed
    try:
        others = Envelope.from_bytes(there)
    except UntrustedInputError as error:
        raise UntrustedInputError(error.code, f"{path}: {error.detail}") from None
    if others.payload != signed.payload:
        raise UntrustedInputError(Code.VOLUME_CONFLICT, f"{path}: others have signed something else")
    return Envelope(payload=signed.payload, signatures={**others.signatures, **signed.signatures})


def _outcome(
    view: str,
    chain: Chain,
    code: Code | None,
    verdict: str,
    *,
    where: Path | None,
    lines: Sequence[str] = (),
    taken: int = 0,
) -> Outcome:
    """How it ended; ``where`` the version lies that does not follow, if one does not."""
    findings: tuple[Finding, ...] = ()
    step = "Nothing: this is what counts."
    if chain.stop is not None:
        stop = chain.stop
        damage = Damage(code=stop.code, name=version_name(stop.version), detail=stop.detail)
        findings = (Finding(damage=damage, volume=where),)
        code = code or stop.code
    if code is not None:
        step = _ABOUT_VERSIONS.get(code, code.remedy)
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
