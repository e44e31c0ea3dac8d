"""Releases: the signed word of people at the target that a bundle may be imported, and the count of them.

An in-toto Statement of its own (``docs/format.md`` §15), signed by a key of a release role of the channel. It
names one bundle manifest, by digest, and one registry, so that it counts for nothing else. Each person signs
for herself; :func:`count_releases` puts together what several have signed.

A release is never the last word: the caller MUST judge the bundle itself again when enough have released it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from airgap import fields
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, PolicyRefusal, UntrustedInputError
from airgap.fields import format_time
from airgap.manifest import BundleManifest, Tool
from airgap.policy import Channel, TrustedKey, TrustPolicy, keyids_of
from airgap.receipt import Release
from airgap.statement import Statement, Subject, parse_statement
from airgap.verify import count_roles, valid_keys
from airgap.versions import Format

PREDICATE_TYPE = "urn:acr-airgap-transfer:release:v1"
MAX_RELEASE_BYTES = 64 * 1024
"""Of an envelope; one with a signature of each kind that there is has about 16 KiB."""

_SUBJECT = "bundle-manifest"
_READ = fields.FieldReader(Code.RELEASE_MALFORMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedBundle:
    """The bundle that a release is for: one bundle manifest, by its hex SHA-256, into one registry.

    The digest alone says which bundle it is. Transfer, channel and number are there for people, and so that
    nobody can be shown one bundle and made to sign another.

    Raises:
        UntrustedInputError: ``RELEASE_MALFORMED``, naming the field.
    """

    manifest_sha256: str
    transfer_id: str
    channel: str
    sequence: int
    target: str
    """Login server of the registry that it may be imported into."""

    def __post_init__(self) -> None:
        _READ.text(self.manifest_sha256, "subject", pattern=fields.SHA256_HEX)
        _READ.text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
        _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
        _READ.integer(self.sequence, "sequence", least=1)
        _READ.text(self.target, "target", pattern=fields.LOGIN_SERVER)

    @classmethod
    def of(cls, manifest: BundleManifest, manifest_sha256: str, *, target: str) -> Self:
        """The bundle of a manifest, as it is to be released into the registry ``target``."""
        return cls(
            manifest_sha256=manifest_sha256,
            transfer_id=manifest.transfer_id,
            channel=manifest.channel,
            sequence=manifest.sequence,
            target=target,
        )

    def members(self) -> dict[str, Any]:
        """The predicate's members that tell of the bundle; its digest is the statement's subject."""
        return {
            "transferId": self.transfer_id,
            "channel": self.channel,
            "sequence": self.sequence,
            "target": self.target,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatement:
    """The content of a release: which bundle may be imported where, and when the signer said so.

    Raises:
        UntrustedInputError: ``RELEASE_MALFORMED``, naming the field.
    """

    bundle: ReleasedBundle
    released_at: datetime
    tool: Tool

    def __post_init__(self) -> None:
        _READ.instance(self.bundle, "bundle", ReleasedBundle)
        _READ.moment(self.released_at, "releasedAt")
        _READ.instance(self.tool, "tool", Tool)

    def to_bytes(self) -> bytes:
        """The release as a canonical statement: the bytes that are signed."""
        predicate = {
            **self.bundle.members(),
            "releasedAt": format_time(self.released_at),
            "tool": self.tool.to_json(),
        }
        subject = Subject(name=_SUBJECT, sha256=self.bundle.manifest_sha256)
        return Statement(subjects=(subject,), predicate_type=PREDICATE_TYPE, predicate=predicate).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a release from the payload of an envelope whose signature has been verified.

        Raises:
            UntrustedInputError: ``RELEASE_MALFORMED``, naming the field at fault; ``NEWER_FORMAT``: a newer
                tool wrote it.
        """
        statement = parse_statement(raw, code=Code.RELEASE_MALFORMED)
        return cls(**_FORMAT.of_predicate_type(statement.predicate_type)(statement))


def _read_v1(statement: Statement) -> dict[str, Any]:
    """The arguments of :class:`ReleaseStatement`; the constructors check them."""
    value = _READ.members(
        statement.predicate,
        "predicate",
        *("transferId", "channel", "sequence", "target", "releasedAt", "tool"),
    )
    if len(statement.subjects) != 1 or statement.subjects[0].name != _SUBJECT:
        _READ.refuse("subject", f"not exactly one named {_SUBJECT}")
    return {
        "bundle": ReleasedBundle(
            manifest_sha256=statement.subjects[0].sha256,
            transfer_id=value["transferId"],
            channel=value["channel"],
            sequence=value["sequence"],
            target=value["target"],
        ),
        "released_at": _READ.time(value["releasedAt"], "releasedAt"),
        "tool": Tool.from_json(value["tool"], "tool", _READ),
    }


_FORMAT = Format(name="release", read=_READ, readers={1: _read_v1})


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRelease:
    """A verified release, and the keys whose signatures on it count."""

    envelope: Envelope
    statement: ReleaseStatement
    keys: Mapping[str, TrustedKey]
    """By key id; at least one."""

    def apart(self) -> dict[str, bytes]:
        """The release as one envelope for each key that counts, with that key's signature alone, by key id.

        So what is kept of a release has one name for each key, whatever else somebody put beside it.
        """
        return {
            keyid: Envelope(
                payload=self.envelope.payload, signatures={keyid: self.envelope.signatures[keyid]}
            ).to_bytes()
            for keyid in self.keys
        }


def verify_release(
    envelope_bytes: bytes, *, bundle: ReleasedBundle, policy: TrustPolicy, now: datetime
) -> VerifiedRelease:
    """Read a release of this very bundle that keys of the channel's release roles signed.

    Args:
        envelope_bytes: the release's envelope, whole.
        bundle: the bundle that it must be for.
        policy: the trust policy in force.
        now: the current time, aware: a key that is revoked by then does not count, whenever it signed.

    Raises:
        UntrustedInputError: ``TOO_LARGE``, ``ENVELOPE_MALFORMED``: it is no envelope of a release;
            ``SIGNATURE_INVALID`` (forged), ``SIGNATURE_UNCHECKABLE`` (could not be checked);
            ``SIGNER_UNKNOWN``: no key of a release role signed it; ``RELEASE_MALFORMED``: its content is
                malformed; ``NEWER_FORMAT``: a newer tool wrote it.
        PolicyRefusal: ``CHANNEL_UNKNOWN``: the policy does not have the channel; ``POLICY_EXPIRED``: the
            policy itself has expired; ``KEY_REVOKED``: only revoked keys signed it; ``RELEASE_MISMATCH``: it
            is for another bundle or registry; ``NOT_YET_VALID``: it was signed in the future.

    Not checked: whether the bundle may be imported, and whether enough have released it.
    """
    channel = _channel(bundle, policy)
    if len(envelope_bytes) > MAX_RELEASE_BYTES:
        raise UntrustedInputError(
            Code.TOO_LARGE, f"release of {len(envelope_bytes)} bytes, at most {MAX_RELEASE_BYTES} allowed"
        )
    envelope = Envelope.from_bytes(envelope_bytes)
    valid = valid_keys(envelope, policy, now, keyids_of(channel.release_roles))
    statement = ReleaseStatement.from_bytes(envelope.payload)
    _require_same(statement.bundle, bundle)
    if statement.released_at > now + channel.clock_skew:
        raise PolicyRefusal(Code.NOT_YET_VALID, f"released at {format_time(statement.released_at)}")
    return VerifiedRelease(envelope=envelope, statement=statement, keys=valid)


def _require_same(released: ReleasedBundle, bundle: ReleasedBundle) -> None:
    if released.manifest_sha256 != bundle.manifest_sha256:
        raise PolicyRefusal(
            Code.RELEASE_MISMATCH,
            f"releases the bundle manifest sha256:{released.manifest_sha256}, "
            f"and this one is sha256:{bundle.manifest_sha256}",
        )
    said, meant = released.members(), bundle.members()
    for name, value in meant.items():
        if said[name] != value:
            raise PolicyRefusal(Code.RELEASE_MISMATCH, f"{name}: released for {said[name]}, not for {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTally:
    """A count of releases: who has released the bundle, and what each role still lacks, in words."""

    releases: tuple[Release, ...]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every release role of the channel has reached its threshold."""
        return not self.missing


def count_releases(
    envelopes: Iterable[bytes], *, bundle: ReleasedBundle, policy: TrustPolicy, now: datetime
) -> ReleaseTally:
    """Count what several persons have signed, each for herself, as the policy in force judges it now.

    Holders are counted, not keys or envelopes: whoever releases twice is still one. What does not count now
    (its key was revoked since, say) is passed over, so that nothing that lies there can stand in the way.

    Args:
        envelopes: everything that was kept for this bundle.
        bundle: the one that is to be imported.
        policy: the trust policy in force.
        now: the current time, aware.

    Raises:
        PolicyRefusal: ``CHANNEL_UNKNOWN``, ``POLICY_EXPIRED``: nothing can be counted by this policy.
    """
    channel = _channel(bundle, policy)
    policy.require_in_force(now)
    valid: dict[str, TrustedKey] = {}
    moments: dict[str, datetime] = {}
    for raw in envelopes:
        try:
            found = verify_release(raw, bundle=bundle, policy=policy, now=now)
        except AirgapError:
            continue
        valid |= found.keys
        moments |= dict.fromkeys(found.keys, found.statement.released_at)
    releases = tuple(
        Release(
            keyid=keyid,
            holder=valid[keyid].holder,
            role=name,
            scheme=valid[keyid].public_key.scheme,
            released_at=moments[keyid],
        )
        for name, role in sorted(channel.release_roles.items())
        for keyid in sorted(role.keyids & valid.keys())
    )
    return ReleaseTally(releases=releases, missing=tuple(_missing(channel, valid)))


def _missing(channel: Channel, valid: Mapping[str, TrustedKey]) -> Iterable[str]:
    for name, role in sorted(channel.release_roles.items()):
        try:
            count_roles(valid, {name: role})
        except PolicyRefusal as refusal:
            yield refusal.detail


def _channel(bundle: ReleasedBundle, policy: TrustPolicy) -> Channel:
    channel = policy.channels.get(bundle.channel)
    if channel is None:
        raise PolicyRefusal(Code.CHANNEL_UNKNOWN, bundle.channel)
    return channel
