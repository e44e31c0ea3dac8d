"""Bundles for tests: keys, trust policy, bundle manifest, envelope and the bytes of every part.

``make_bundle()`` alone gives a bundle of two transfer blobs that its own policy accepts now; every argument
makes one thing different.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from airgap.envelope import Envelope
from airgap.keys import signer_from_pem
from airgap.manifest import Artifact, BundleManifest, Source, Tool, TransferBlob, Void, manifest_digest
from airgap.parts import MIN_PART_SIZE_BYTES, PartRange, blob_name, plan_parts
from airgap.policy import TrustPolicy
from airgap.signatures import CryptoSigner

TRANSFER_ID = "k3v9x2m7q1"
CHANNEL = "prod"
AUDIENCE = ("target.azurecr.io",)
METADATA = {"category": "acr-transfer-blob"}
TWO_BLOBS = (2 * MIN_PART_SIZE_BYTES + 1000, 777)
"""Sizes in bytes: a blob of three parts, the last one short, and one of a single short part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key pair as PEM; ``private_pem`` is what an operator of the source would keep in a vault."""

    private_pem: bytes
    public_pem: str

    @property
    def signer(self) -> CryptoSigner:
        return _signer(self.private_pem)

    @property
    def keyid(self) -> str:
        return str(self.signer.public_key.keyid)


_signer = lru_cache(maxsize=256)(signer_from_pem)


def new_key() -> SigningKey:
    return key_from_private(ec.generate_private_key(ec.SECP256R1()))


def key_from_private(private_key: ec.EllipticCurvePrivateKey) -> SigningKey:
    return SigningKey(
        private_pem=private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        public_pem=private_key.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii"),
    )


def fixed_key(seed: int) -> SigningKey:
    """The same key for the same ``seed`` (0 to 255), in every process; its signatures are always the same."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return SigningKey(
        private_pem=private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        public_pem=private.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii"),
    )


def load_key(private_pem: bytes) -> SigningKey:
    private_key = load_pem_private_key(private_pem, password=None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    return key_from_private(private_key)


@cache
def default_key() -> SigningKey:
    """The source's key, the same for all bundles of a test run."""
    return new_key()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A sealed bundle with everything that belongs to it."""

    manifest: BundleManifest
    payload: bytes
    envelope: bytes
    policy_json: bytes
    keys: tuple[SigningKey, ...]
    blobs: Mapping[str, bytes]
    """Content by blob name: ``001``."""

    @property
    def transfer_id(self) -> str:
        return self.manifest.transfer_id

    @property
    def manifest_sha256(self) -> str:
        return manifest_digest(self.payload)

    @property
    def policy(self) -> TrustPolicy:
        return TrustPolicy.from_bytes(self.policy_json)

    @property
    def parts(self) -> tuple[PartRange, ...]:
        return tuple(part for part, _ in self.manifest.parts())

    def part_bytes(self, part: PartRange) -> bytes:
        return self.blobs[part.blob][part.offset_bytes : part.offset_bytes + part.size_bytes]


def make_bundle(
    *,
    transfer_id: str = TRANSFER_ID,
    channel: str = CHANNEL,
    sequence: int = 1,
    previous_sha256: str | None = None,
    blob_sizes: Sequence[int] = TWO_BLOBS,
    contents: Sequence[bytes] | None = None,
    part_size_bytes: int = MIN_PART_SIZE_BYTES,
    audience: Sequence[str] = AUDIENCE,
    created_at: datetime | None = None,
    lifetime: timedelta = timedelta(days=30),
    keys: Sequence[SigningKey] | None = None,
    metadata: Mapping[str, str] | None = None,
    policy_json: bytes | None = None,
    seed: int = 1,
    voids: Sequence[int] = (),
    repository: str = "team/app",
) -> Bundle:
    """Make and sign a bundle.

    Args:
        transfer_id: of the bundle.
        channel: in the manifest and in the policy.
        sequence: the channel's number; beyond 1 a previous manifest's digest is made up unless given.
        previous_sha256: of the channel's preceding manifest.
        blob_sizes: bytes of each transfer blob; their contents are pseudo-random from ``seed``.
        contents: the transfer blobs themselves, in place of ``blob_sizes``.
        part_size_bytes: at least 4 MiB.
        audience: login servers.
        created_at: now, unless given.
        lifetime: until the bundle expires.
        keys: all of them sign; they make up the role ``source`` in the policy.
        metadata: of every blob.
        policy_json: another policy than the one that fits.
        seed: other content for another seed.
        voids: numbers of the channel that the source gave up.
        repository: of the artifacts; each blob's has the blob's name behind it.
    """
    signing_keys = tuple(keys or (default_key(),))
    created_at = (created_at or datetime.now(UTC)).replace(microsecond=0)
    blobs = {
        blob_name(number + 1): content
        for number, content in enumerate(contents or random_contents(tuple(blob_sizes), seed))
    }
    manifest = BundleManifest(
        transfer_id=transfer_id,
        channel=channel,
        sequence=sequence,
        previous_sha256=previous_sha256 or (None if sequence == 1 else hashlib.sha256(b"").hexdigest()),
        created_at=created_at,
        expires_at=created_at + lifetime,
        source=Source(cloud="AzureCloud", registry="source.azurecr.io", export_pipeline="export"),
        audience=tuple(audience),
        blobs=tuple(
            _describe_blob(
                name, content, part_size_bytes, METADATA if metadata is None else metadata, repository
            )
            for name, content in blobs.items()
        ),
        tool=Tool(name="tests", version="0"),
        requested_by="ada@contoso.com",
        voids=tuple(Void(sequence=number, reason="lost", who="ada@contoso.com") for number in voids),
    )
    payload = manifest.to_bytes()
    return Bundle(
        manifest=manifest,
        payload=payload,
        envelope=Envelope.sign(payload, [key.signer for key in signing_keys]).to_bytes(),
        policy_json=policy_json or make_policy(signing_keys, channel=channel, audience=audience),
        keys=signing_keys,
        blobs=blobs,
    )


def make_policy(
    keys: Sequence[SigningKey],
    *,
    channel: str = CHANNEL,
    audience: Sequence[str] = AUDIENCE,
    threshold: int | None = None,
    order: str = "any",
    max_age: timedelta = timedelta(days=90),
    receipt_keys: Sequence[SigningKey] = (),
    release_keys: Sequence[SigningKey] = (),
    repositories: Sequence[str] = ("**",),
    max_sequence_jump: int = 1000,
    expires_at: str = "2100-01-01T00:00:00Z",
    version: int = 1,
) -> bytes:
    """A trust policy in which all of ``keys``, each another's, must sign, or ``threshold`` of them.

    All holders of ``release_keys`` must release each bundle, if there are any.
    """
    rules: dict[str, Any] = {
        "audience": list(audience),
        "repositories": list(repositories),
        "bundleRoles": {
            "source": {"threshold": threshold or len(keys), "keyids": [key.keyid for key in keys]},
        },
        "maxAgeSeconds": int(max_age.total_seconds()),
        "clockSkewSeconds": 300,
        "order": order,
        "onGap": "record",
        "maxSequenceJump": max_sequence_jump,
    }
    if receipt_keys:
        rules["receiptRoles"] = {"target": {"threshold": 1, "keyids": [key.keyid for key in receipt_keys]}}
    if release_keys:
        keyids = [key.keyid for key in release_keys]
        rules["releaseRoles"] = {"officer": {"threshold": len(keyids), "keyids": keyids}}
    held = [
        {"holder": f"{whose} {number}", "publicKey": key.public_pem}
        for whose, some in (("source", keys), ("target", receipt_keys), ("officer", release_keys))
        for number, key in enumerate(some, start=1)
    ]
    return json.dumps(
        {
            "schema": 1,
            "version": version,
            "expiresAt": expires_at,
            "keys": held,
            "channels": {channel: rules},
        }
    ).encode()


# A thousand tests have the same megabytes: to draw and hash them again took more time than what is tested.


@lru_cache(maxsize=8)
def random_contents(sizes: tuple[int, ...], seed: int) -> tuple[bytes, ...]:
    """Pseudo-random blobs of these sizes in bytes: the same for the same seed."""
    bytes_of = random.Random(seed)  # noqa: S311 - content for tests
    return tuple(bytes_of.randbytes(size) for size in sizes)


@lru_cache(maxsize=8)
def _part_digests(content: bytes, part_size_bytes: int) -> tuple[str, ...]:
    ranges = plan_parts("001", size_bytes=len(content), part_size_bytes=part_size_bytes)
    return tuple(
        hashlib.sha256(content[one.offset_bytes : one.offset_bytes + one.size_bytes]).hexdigest()
        for one in ranges
    )


@lru_cache(maxsize=8)
def sha256_of(content: bytes) -> str:
    """The SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=8)
def md5_of(content: bytes) -> str:
    """The MD5 in base64, as storage has it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode("ascii")


def _describe_blob(
    name: str, content: bytes, part_size_bytes: int, metadata: Mapping[str, str], repository: str
) -> TransferBlob:
    return TransferBlob(
        name=name,
        size_bytes=len(content),
        part_size_bytes=part_size_bytes,
        part_sha256=_part_digests(content, part_size_bytes),
        content_md5=md5_of(content),
        metadata=metadata,
        catalog_digest=None,
        pipeline_run=f"run{name}",
        artifacts=(
            Artifact(
                reference=f"{repository}{name}:v1",
                digest=f"sha256:{sha256_of(content)}",
                media_type="application/vnd.oci.image.manifest.v1+json",
                tags=("v1",),
            ),
        ),
    )
