"""The commands ``policy show|pull|push``: the trust policy in words, its versions carried about.

Versions lie in a folder beside the pinned policy, on a medium in the folder ``policy``, and in the container
``policy`` of either side. Wherever they come from, only what follows the pinned policy is taken
(:mod:`airgap.policy_chain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from airgap.damage import Damage
from airgap.errors import AirgapError, Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.policy import TrustPolicy
from airgap.policy_chain import MAX_VERSION_BYTES, Chain, Stop, follow, next_policy, version_name
from airgap.policy_words import changes, describe
from offline_mover.commands.officers import ABOUT_VERSIONS
from offline_mover.medium.policy_folder import PolicyFolder
from offline_mover.outcome import Finding, Outcome
from offline_mover.storage.ports import WritableContainer


class VersionPlace(Protocol):
    """The port to a place where versions of a policy lie: a folder or a container."""

    @property
    def path(self) -> Path | None:
        """The path of the folder; ``None`` for a container."""

    def find(self, version: int) -> bytes | None:
        """The envelope of a version, of at most 512 KiB; ``None`` if there is none."""

    def keep(self, version: int, envelope: bytes) -> None:
        """Write the envelope of a version; the caller has seen that it is not there yet."""


class PolicyContainer:
    """The container ``policy`` of a side, as a place of versions."""

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
    """Take the versions that follow the chain from a place, and keep them beside the pinned policy.

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
        step = ABOUT_VERSIONS.get(code, code.remedy)
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
