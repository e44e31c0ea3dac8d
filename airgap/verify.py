"""Is this bundle manifest to be trusted, here and now? One numbered list, one verdict.

:func:`verify_bundle` establishes, in this order, and stops at the first that does not hold:

0. The envelope is no larger than any valid one.
1. It is a strict DSSE envelope with the in-toto payload type.
2. The trust policy itself has not expired.
3. At least one signature in it is valid under a key of the trust policy that is not revoked. *Only now is
   the payload parsed.*
4. No signature in the name of a key of the policy is forged; none was uncheckable.
5. The payload is a well-formed bundle manifest.
6. Its channel is in the trust policy.
7. Each role that the channel asks of a bundle reaches its threshold of distinct holders of keys.
8. So many holders have signed with each algorithm that their role requires.
9. Its audience names a registry that the channel serves and, where given, this very target.
10. The channel carries the repository of every artifact.
11. It was not made in the future, beyond the allowed clock skew.
12. It has not expired.
13. It is not older than the channel allows.

The caller MUST then: check replay and order against the ledger (:mod:`airgap.ledger`), hash every part
against :meth:`BundleManifest.parts`, have it released where the channel asks for that
(:mod:`airgap.release`), and look every artifact up in the target registry. None of that is checked here, nor
is the trust policy itself: whoever can change it decides what is trusted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from airgap.envelope import Envelope, SignatureCheck
from airgap.errors import AirgapError, Code, PolicyRefusal, UntrustedInputError, error_for
from airgap.fields import format_time
from airgap.manifest import BundleManifest, manifest_digest
from airgap.policy import Channel, Role, TrustedKey, TrustPolicy, schemes_by_holder


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedKey:
    """A key whose signature was valid and counted for a role."""

    keyid: str
    role: str
    scheme: str

    def to_json(self) -> dict[str, str]:
        """The object ``{"keyid", "role", "scheme"}``."""
        return {"keyid": self.keyid, "role": self.role, "scheme": self.scheme}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on a bundle manifest; ``code`` is ``None`` exactly when it is accepted.

    ``manifest`` and ``manifest_sha256`` are set as soon as a bundle role of the manifest's own channel
    vouches for them, thus also for most refusals, so that a refusal can name the transfer. Nobody else has a
    transfer refused by its name.
    """

    code: Code | None
    detail: str
    manifest: BundleManifest | None
    manifest_sha256: str | None
    signers: tuple[CountedKey, ...]
    policy_version: int | None = None
    """Of the trust policy that judged; ``None`` where none did."""

    @property
    def is_accepted(self) -> bool:
        """Whether every point of the module's list holds."""
        return self.code is None

    def require(self) -> BundleManifest:
        """The accepted manifest, or else the refusal is raised.

        Raises:
            AirgapError: the refusal, of the class that its code belongs to; ``MANIFEST_MALFORMED`` for a
                verdict that names neither a code nor a manifest.
        """
        if self.code is not None or self.manifest is None:
            raise error_for(self.code or Code.MANIFEST_MALFORMED, self.detail)
        return self.manifest


def verify_bundle(
    envelope_bytes: bytes,
    *,
    policy: TrustPolicy,
    now: datetime,
    target: str | None = None,
    lifted: Collection[Code] = frozenset(),
) -> Verdict:
    """Judge a bundle manifest's envelope as received.

    Args:
        envelope_bytes: the file ``bundle-manifest.dsse.json``, whole.
        policy: the pinned trust policy.
        now: the current time, aware; read once by the caller.
        target: login server of the registry that would import, if this is the target.
        lifted: codes of points 11 to 13 that an override lifts for this manifest (:mod:`airgap.override`).

    Returns:
        The verdict; refusals are data here, nothing is raised for bad input.
    """
    manifest: BundleManifest | None = None
    digest: str | None = None
    signers: tuple[CountedKey, ...] = ()
    try:
        envelope = Envelope.from_bytes(envelope_bytes)  # 0, 1
        valid = valid_keys(envelope, policy, now, policy.keys)  # 2, 3, 4
        claimed = BundleManifest.from_bytes(envelope.payload)  # 5
        channel = policy.channels.get(claimed.channel)
        if channel is None:
            raise PolicyRefusal(Code.CHANNEL_UNKNOWN, claimed.channel)  # 6
        if any(role.keyids & valid.keys() for role in channel.bundle_roles.values()):
            manifest, digest = claimed, manifest_digest(envelope.payload)
        signers = count_roles(valid, channel.bundle_roles)  # 7, 8
        _require_audience(claimed, channel, target)  # 9
        _require_repositories(claimed, channel)  # 10
        _require_time(claimed, channel, now, lifted)  # 11, 12, 13
    except AirgapError as refusal:
        return Verdict(
            code=refusal.code,
            detail=refusal.detail,
            manifest=manifest,
            manifest_sha256=digest,
            signers=signers,
            policy_version=policy.version,
        )
    return Verdict(
        code=None,
        detail="",
        manifest=manifest,
        manifest_sha256=digest,
        signers=signers,
        policy_version=policy.version,
    )


def verify_unfinished(envelope_bytes: bytes, *, policy: TrustPolicy, now: datetime) -> BundleManifest:
    """Verify a bundle manifest that further roles are still to sign, and read it.

    Every point of the module's list must hold but 7 and 8; instead of these it is enough that a key of one of
    the channel's bundle roles has signed it. It is for whoever is about to sign, and lets nothing in.

    Raises:
        AirgapError: the first point that does not hold: ``CHANNEL_UNKNOWN`` and whatever else
            :func:`verify_bundle` refuses by; ``THRESHOLD_NOT_MET``: nobody of a bundle role has signed it.
    """
    envelope = Envelope.from_bytes(envelope_bytes)
    valid = valid_keys(envelope, policy, now, policy.keys)
    manifest = BundleManifest.from_bytes(envelope.payload)
    channel = policy.channels.get(manifest.channel)
    if channel is None:
        raise PolicyRefusal(Code.CHANNEL_UNKNOWN, manifest.channel)
    if not any(role.keyids & valid.keys() for role in channel.bundle_roles.values()):
        raise PolicyRefusal(Code.THRESHOLD_NOT_MET, "nobody of a bundle role of its channel has signed it")
    _require_audience(manifest, channel, None)
    _require_repositories(manifest, channel)
    _require_time(manifest, channel, now, frozenset())
    return manifest


def valid_keys(
    envelope: Envelope, policy: TrustPolicy, now: datetime, keyids: Collection[str]
) -> dict[str, TrustedKey]:
    """The keys among ``keyids`` that made a valid signature and are not revoked; refused if there is none.

    Raises:
        PolicyRefusal: ``POLICY_EXPIRED``: the policy itself has expired.
        AirgapError: as :func:`signing_keys`, with the keys that are in force.
    """
    policy.require_in_force(now)
    return signing_keys(envelope, policy, policy.keys_in_force(now), keyids)


def signing_keys(
    envelope: Envelope, policy: TrustPolicy, counting: Mapping[str, TrustedKey], keyids: Collection[str]
) -> dict[str, TrustedKey]:
    """The keys among ``keyids`` that made a valid signature and are among those ``counting``.

    Raises:
        UntrustedInputError: ``SIGNATURE_INVALID`` or ``SIGNATURE_UNCHECKABLE``: one bad signature in the name
            of a key that counts refuses the whole; ``SIGNER_UNKNOWN``: none of ``keyids`` signed it.
        PolicyRefusal: ``KEY_REVOKED``: no key that counts signed it, but a revoked one did.
    """
    checks = envelope.check_signatures(counting[keyid].public_key for keyid in keyids if keyid in counting)
    for bad, code in (
        (SignatureCheck.FORGED, Code.SIGNATURE_INVALID),
        (SignatureCheck.UNCHECKABLE, Code.SIGNATURE_UNCHECKABLE),
    ):
        if culprits := [keyid for keyid, check in checks.items() if check is bad]:
            raise UntrustedInputError(code, f"key {culprits[0]}")
    valid = {keyid: counting[keyid] for keyid, check in checks.items() if check is SignatureCheck.VALID}
    if not valid:
        # None that counts signed it, so whoever did is revoked.
        all_keys = (policy.keys[keyid].public_key for keyid in keyids)
        for keyid, check in envelope.check_signatures(all_keys).items():
            if check is SignatureCheck.VALID:
                raise PolicyRefusal(
                    Code.KEY_REVOKED, f"key {keyid}, revoked from {format_time(policy.revoked[keyid])} on"
                )
        raise UntrustedInputError(Code.SIGNER_UNKNOWN, f"signed by key {next(iter(checks))}")
    return valid


def count_roles(valid: Mapping[str, TrustedKey], roles: Mapping[str, Role]) -> tuple[CountedKey, ...]:
    """The keys that count, each for its role; every role must reach its threshold of distinct holders.

    A holder counts only with every algorithm that the role requires: one of them alone may be broken some
    day, and then nobody could tell a holder who used it from somebody who broke it.

    Raises:
        PolicyRefusal: ``THRESHOLD_NOT_MET`` naming the role, also when there are no roles at all;
            ``ALGORITHM_MISSING``: enough have signed, but not with every required algorithm.
    """
    if not roles:
        raise PolicyRefusal(Code.THRESHOLD_NOT_MET, "no role is trusted with this")
    signers: list[CountedKey] = []
    for name, role in sorted(roles.items()):
        present = sorted(role.keyids & valid.keys())
        schemes = schemes_by_holder(valid[keyid] for keyid in present)
        complete = {holder for holder, used in schemes.items() if used >= role.required_algorithms}
        if len(schemes) < role.threshold:
            raise PolicyRefusal(Code.THRESHOLD_NOT_MET, f"role {name}: {len(schemes)} of {role.threshold}")
        if len(complete) < role.threshold:
            raise PolicyRefusal(
                Code.ALGORITHM_MISSING,
                f"role {name}: {len(complete)} of {role.threshold} signed with each of "
                + ", ".join(sorted(role.required_algorithms)),
            )
        signers += [
            CountedKey(keyid=keyid, role=name, scheme=valid[keyid].public_key.scheme)
            for keyid in present
            if valid[keyid].holder in complete
        ]
    return tuple(signers)


def _require_audience(manifest: BundleManifest, channel: Channel, target: str | None) -> None:
    served = channel.audience if target is None else channel.audience & {target}
    if not served & set(manifest.audience):
        raise PolicyRefusal(Code.AUDIENCE_MISMATCH, f"made for {', '.join(manifest.audience)}")


def _require_repositories(manifest: BundleManifest, channel: Channel) -> None:
    for artifact in manifest.artifacts:
        if not channel.carries(artifact.repository):
            raise PolicyRefusal(Code.REPOSITORY_REFUSED, artifact.reference)


def _require_time(
    manifest: BundleManifest, channel: Channel, now: datetime, lifted: Collection[Code]
) -> None:
    if Code.NOT_YET_VALID not in lifted and manifest.created_at > now + channel.clock_skew:
        raise PolicyRefusal(Code.NOT_YET_VALID, f"made at {format_time(manifest.created_at)}")
    if Code.EXPIRED not in lifted and manifest.expires_at < now - channel.clock_skew:
        raise PolicyRefusal(Code.EXPIRED, f"expired at {format_time(manifest.expires_at)}")
    if Code.TOO_OLD not in lifted and now - manifest.created_at > channel.max_age + channel.clock_skew:
        raise PolicyRefusal(Code.TOO_OLD, f"made at {format_time(manifest.created_at)}")
