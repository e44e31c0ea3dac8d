"""The command ``sign``: it releases a bundle at the target, or signs it at the source, once it was judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from airgap import __version__
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, OperatorError, PolicyRefusal
from airgap.fields import format_time
from airgap.manifest import BundleManifest, Tool, manifest_digest
from airgap.policy import Channel, Role, TrustPolicy
from airgap.release import ReleasedBundle, ReleaseStatement, verify_release
from airgap.signatures import Signer
from airgap.verify import CountedKey, valid_keys, verify_unfinished
from offline_mover.amounts import counted, size
from offline_mover.bags.accepted_bundle import AcceptedBundle
from offline_mover.bags.bag import read_envelope
from offline_mover.bags.volumes import choose_transfer
from offline_mover.outcome import Outcome

_TOLD = 50
"""So many artifacts are told to a person; ``--json`` tells all."""


def envelope_on(volume: Path, transfer_id: str | None) -> bytes:
    """Read the envelope of a transfer on a volume, without judging it; its parts are not looked at.

    Raises:
        MediaError: as :func:`~offline_mover.bags.volumes.choose_transfer`; or it could not be read.
        UntrustedInputError: as :func:`~offline_mover.bags.bag.read_envelope`.
    """
    return read_envelope(volume / choose_transfer([volume], transfer_id))


def sign(
    envelope: bytes,
    *,
    policy: TrustPolicy,
    signer: Signer,
    target: str | None,
    now: datetime,
    saved_as: Path,
) -> tuple[bytes, Outcome]:
    """Judge a bundle manifest by the trust policy, and sign its release, or the manifest itself.

    A key of a release role signs a release. A key of a bundle role, by which people sign at the source, signs
    the manifest, which need not have all its signatures then.

    Args:
        envelope: the envelope of the bundle manifest.
        policy: the trust policy; the one in force at the target decides what the release is worth.
        signer: holds the key of a release role or bundle role of the channel.
        target: login server of the registry that it may be imported into; ``None`` for the only one that
            channel and bundle have in common.
        now: the current time, aware.
        saved_as: the file to which the result will be written, for the words.

    Returns:
        The envelope of the release, or of the manifest with this signature alone; and what it is, in words.

    Raises:
        AirgapError: the policy does not accept the bundle, or does not count the key (``KEY_REVOKED``).
        OperatorError: ``USAGE``: the key is in neither sort of role of the channel, or several registries
            come into question and none was named.
        PolicyRefusal: ``AUDIENCE_MISMATCH``: neither channel nor bundle is for the registry that was named.
    """
    keyid = signer.public_key.keyid
    manifest = verify_unfinished(envelope, policy=policy, now=now)
    channel = policy.channels[manifest.channel]
    role = _role_of(keyid, channel.release_roles)
    if role is None:
        role = _role_of(keyid, channel.bundle_roles)
        if role is None:
            raise OperatorError(
                Code.USAGE,
                f"--key: {keyid} is in no role of the channel {manifest.channel}: bundle roles "
                f"({', '.join(sorted(channel.bundle_roles))}), release roles "
                f"({', '.join(sorted(channel.release_roles)) or 'none'})",
            )
        return _countersign(
            envelope, manifest, role, policy=policy, signer=signer, now=now, saved_as=saved_as
        )
    bundle = AcceptedBundle.judge(envelope, policy=policy, now=now)
    released = ReleasedBundle.of(
        manifest, bundle.manifest_sha256, target=_target(manifest, channel, wanted=target)
    )
    statement = ReleaseStatement(
        bundle=released,
        released_at=now.replace(microsecond=0),
        tool=Tool(name="offline-mover", version=__version__),
    )
    raw = Envelope.sign(statement.to_bytes(), [signer]).to_bytes()
    verify_release(raw, bundle=released, policy=policy, now=now)
    holder = policy.keys[keyid].holder
    told = {"holder": holder, "role": role, "keyid": keyid, "releasedAt": format_time(now)}
    artifacts = [{"reference": one.reference, "digest": one.digest} for one in manifest.artifacts]
    return raw, Outcome(
        command="sign",
        code=None,
        verdict=f"Signed by {holder}, as {role}: this bundle may be imported into {released.target}.",
        next_step=f"Send {saved_as} to POST /api/imports/ID/release of the target; it says what is missing.",
        transfer_id=manifest.transfer_id,
        manifest_sha256=bundle.manifest_sha256,
        signers=bundle.verdict.signers,
        counts={"artifacts": len(artifacts), "bytes": manifest.size_bytes},
        facts={
            "release": {**released.members(), **told},
            "createdAt": format_time(manifest.created_at),
            "expiresAt": format_time(manifest.expires_at),
            "requestedBy": manifest.requested_by,
            "artifacts": artifacts,
            "out": str(saved_as),
        },
        lines=tuple(_lines(manifest, _holders(policy, bundle.verdict.signers), bundle.manifest_sha256)),
    )


def _role_of(keyid: str, roles: Mapping[str, Role]) -> str | None:
    """The first of the roles that has the key."""
    return next((name for name, role in roles.items() if keyid in role.keyids), None)


def _countersign(
    envelope: bytes,
    manifest: BundleManifest,
    role: str,
    *,
    policy: TrustPolicy,
    signer: Signer,
    now: datetime,
    saved_as: Path,
) -> tuple[bytes, Outcome]:
    """Sign the very bundle manifest, at the source, before it is published."""
    before, keyid = Envelope.from_bytes(envelope), signer.public_key.keyid
    alone = Envelope.sign(before.payload, [signer])
    holder = valid_keys(alone, policy, now, {keyid})[keyid].holder  # KEY_REVOKED
    sha256 = manifest_digest(before.payload)
    signers = sorted({key.holder for key in valid_keys(before, policy, now, policy.keys).values()})
    artifacts = [{"reference": one.reference, "digest": one.digest} for one in manifest.artifacts]
    return alone.to_bytes(), Outcome(
        command="sign",
        code=None,
        verdict=f"Signed by {holder}, as {role}: this bundle may leave the source.",
        next_step=f"Send {saved_as} to POST /api/transfers/{manifest.transfer_id}/signatures of the source.",
        transfer_id=manifest.transfer_id,
        manifest_sha256=sha256,
        counts={"artifacts": len(artifacts), "bytes": manifest.size_bytes},
        facts={
            "signature": {"holder": holder, "role": role, "keyid": keyid},
            "createdAt": format_time(manifest.created_at),
            "expiresAt": format_time(manifest.expires_at),
            "requestedBy": manifest.requested_by,
            "artifacts": artifacts,
            "out": str(saved_as),
        },
        lines=tuple(_lines(manifest, signers, sha256)),
    )


def is_same_release(release: bytes, there: bytes) -> bool:
    """Whether the release that is there is of the same bundle, registry and key as ``release``.

    Its signature is not checked: ``release`` takes its place, and only the time in it is another.
    """
    made = Envelope.from_bytes(release)
    try:
        found = Envelope.from_bytes(there)
        if found.payload == made.payload:  # a signature on the very bundle manifest
            return found.signatures.keys() == made.signatures.keys()
        said = ReleaseStatement.from_bytes(found.payload).bundle
    except AirgapError:
        return False
    is_by_same = found.signatures.keys() == made.signatures.keys()
    return is_by_same and said == ReleaseStatement.from_bytes(made.payload).bundle


def _target(manifest: BundleManifest, channel: Channel, *, wanted: str | None) -> str:
    possible = sorted(channel.audience & set(manifest.audience))
    if wanted is None and len(possible) > 1:
        raise OperatorError(Code.USAGE, f"--target: one of {', '.join(possible)}")
    target = possible[0] if wanted is None else wanted
    if target not in possible:
        raise PolicyRefusal(Code.AUDIENCE_MISMATCH, f"made for {', '.join(possible)}, not for {target}")
    return target


def _holders(policy: TrustPolicy, signers: Iterable[CountedKey]) -> list[str]:
    return sorted({f"{policy.keys[one.keyid].holder} ({one.role})" for one in signers})


def _lines(manifest: BundleManifest, signers: Sequence[str], manifest_sha256: str) -> Iterator[str]:
    yield f"Channel {manifest.channel}, number {manifest.sequence}, transfer {manifest.transfer_id}"
    yield f"Ordered by {manifest.requested_by or 'nobody who is named'}, signed by {', '.join(signers)}"
    yield f"Made {format_time(manifest.created_at)}, good until {format_time(manifest.expires_at)}"
    yield f"Bundle manifest sha256:{manifest_sha256}"
    yield f"{counted(len(manifest.artifacts), 'artifact')}, {size(manifest.size_bytes)}:"
    for artifact in manifest.artifacts[:_TOLD]:
        yield f"  {artifact.reference}  {artifact.digest}"
    if len(manifest.artifacts) > _TOLD:
        yield f"  and {len(manifest.artifacts) - _TOLD:,} more: --json tells all"
