"""The golden vectors of ``docs/format.md``: fixed keys, fixed times, byte-exact files.

``python -m tests.vectors.generate`` writes them. Payloads and policies come out the same every time;
signatures of ECDSA and ML-DSA are random, so an envelope is written only where none verifies yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.signer import CryptoSigner

from airgap.damage import Damage
from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.keys import signer_from_pem
from airgap.manifest import Artifact, BundleManifest, Source, Tool, TransferBlob
from airgap.policy import TrustPolicy
from airgap.receipt import ArtifactProof, Receipt
from airgap.strict_json import dump_canonical
from airgap.verify import Signer, verify_bundle

FOLDER = Path(__file__).parent
NOW = datetime(2026, 1, 31, 8, 0, 0, tzinfo=UTC)
TARGET = "acrtarget.azurecr.us"


def _signer(private_key: object) -> CryptoSigner:
    """A signer as the product makes it: through PKCS#8 PEM."""
    return signer_from_pem(CryptoSigner(private_key).private_bytes)  # type: ignore[arg-type]  # one of four kinds


P256 = _signer(ec.derive_private_key(0x1001, ec.SECP256R1()))
P384 = _signer(ec.derive_private_key(0x1002, ec.SECP384R1()))
ED25519 = _signer(ed25519.Ed25519PrivateKey.from_private_bytes(b"\x03" * 32))
MLDSA87 = _signer(mldsa.MLDSA87PrivateKey.from_seed_bytes(b"\x04" * 32))
STRANGER = _signer(ec.derive_private_key(0x1005, ec.SECP384R1()))
TARGET_KEY = _signer(ec.derive_private_key(0x1006, ec.SECP384R1()))


def public_pem(signer: CryptoSigner) -> str:
    """The public key as it stands in a policy."""
    key = signer.public_key._crypto_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def policy_json() -> dict[str, object]:
    """A policy with a hybrid channel of two roles and a plain one."""
    return {
        "schema": 1,
        "keys": [public_pem(s) for s in (P256, P384, ED25519, MLDSA87, TARGET_KEY)],
        "channels": {
            "prod": {
                "audience": [TARGET],
                "bundleRoles": {
                    "source": {"threshold": 2, "keyids": [P384.public_key.keyid, MLDSA87.public_key.keyid]},
                    "releaser": {
                        "threshold": 1,
                        "keyids": [ED25519.public_key.keyid, P256.public_key.keyid],
                    },
                },
                "receiptRoles": {"target": {"threshold": 1, "keyids": [TARGET_KEY.public_key.keyid]}},
                "requiredAlgorithms": ["ecdsa-sha2-nistp384", "ml-dsa-87/1"],
                "maxAgeSeconds": 30 * 24 * 3600,
                "clockSkewSeconds": 300,
                "sequence": "increasing",
            },
            "test": {
                "audience": [TARGET, "127.0.0.1:5001"],
                "bundleRoles": {"source": {"threshold": 1, "keyids": [P384.public_key.keyid]}},
                "maxAgeSeconds": 30 * 24 * 3600,
                "clockSkewSeconds": 300,
                "sequence": "once",
            },
        },
    }


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def minimal_manifest() -> BundleManifest:
    """One blob of one part with one artifact: the first of its channel."""
    return BundleManifest(
        transfer_id="0123456789abcdef0123456789abcdef",
        channel="test",
        sequence=1,
        previous_sha256=None,
        created_at=NOW,
        expires_at=datetime(2026, 2, 14, 8, 0, 0, tzinfo=UTC),
        source=Source(cloud="AzureCloud", registry="acrsource.azurecr.io", export_pipeline="exp01"),
        audience=(TARGET,),
        blobs=(
            TransferBlob(
                name="001",
                size_bytes=11,
                part_size_bytes=4 * 1024 * 1024,
                part_sha256=(_hex("hello world"),),
                content_md5="XrY7u+Ae7tCTyyK7j1rNww==",
                metadata={"category": "acr-transfer-blob"},
                catalog_digest="sha256:" + _hex("catalog"),
                pipeline_run="e0123456789abcdef0123456789abcdef01234567",
                artifacts=(
                    Artifact(
                        reference="samples/app:1.0",
                        digest="sha256:" + _hex("index"),
                        media_type="application/vnd.oci.image.index.v1+json",
                        tags=("1.0",),
                    ),
                ),
            ),
        ),
        tool=Tool(name="acr-airgap-transfer", version="0.1.0"),
    )


def full_manifest() -> BundleManifest:
    """Two blobs of several parts, artifacts by tag and by digest, text beyond ASCII, null where allowed."""
    part_size = 4 * 1024 * 1024
    digest = "sha256:" + _hex("signature")
    return BundleManifest(
        transfer_id="fedcba9876543210fedcba9876543210",
        channel="prod",
        sequence=2,
        previous_sha256=_hex("previous"),
        created_at=NOW,
        expires_at=datetime(2026, 2, 14, 8, 0, 0, tzinfo=UTC),
        source=Source(cloud="Azure Ünïon 雲", registry="acrsource.azurecr.io", export_pipeline="exp01"),
        audience=(TARGET, "other.azurecr.us:8443"),
        blobs=(
            TransferBlob(
                name="001",
                size_bytes=2 * part_size + 1,
                part_size_bytes=part_size,
                part_sha256=(_hex("a"), _hex("b"), _hex("c")),
                content_md5=None,
                metadata={},
                catalog_digest=None,
                pipeline_run="e" + "1" * 40,
                artifacts=(
                    Artifact(
                        reference="charts/hello:0.1.0",
                        digest="sha256:" + _hex("chart"),
                        media_type="application/vnd.oci.image.manifest.v1+json",
                        tags=("0.1.0", "latest"),
                    ),
                    Artifact(
                        reference=f"samples/signed@{digest}",
                        digest=digest,
                        media_type="application/vnd.oci.image.manifest.v1+json",
                    ),
                ),
            ),
            TransferBlob(
                name="002",
                size_bytes=part_size,
                part_size_bytes=part_size,
                part_sha256=(_hex("d"),),
                content_md5="1B2M2Y8AsgTpgAmY7PhCfg==",
                metadata={"category": "acr-transfer-blob", "other": "x y"},
                catalog_digest="sha256:" + _hex("catalog 2"),
                pipeline_run="e" + "2" * 40,
                artifacts=(
                    Artifact(
                        reference="samples/app:2.0",
                        digest="sha256:" + _hex("index 2"),
                        media_type="application/vnd.oci.image.index.v1+json",
                        tags=("2.0",),
                    ),
                ),
            ),
        ),
        tool=Tool(name="acr-airgap-transfer", version="0.1.0"),
    )


def imported_receipt() -> Receipt:
    """The target imported and proved the full manifest."""
    payload = full_manifest().to_bytes()
    return Receipt(
        envelope_sha256=_hex("envelope"),
        incoming="fedcba9876543210fedcba9876543210/bundle-manifest.dsse.json",
        target=TARGET,
        decided_at=NOW,
        code=None,
        detail="",
        transfer_id="fedcba9876543210fedcba9876543210",
        channel="prod",
        sequence=2,
        manifest_sha256=hashlib.sha256(payload).hexdigest(),
        signers=(
            Signer(keyid=P384.public_key.keyid, role="source", scheme="ecdsa-sha2-nistp384"),
            Signer(keyid=MLDSA87.public_key.keyid, role="source", scheme="ml-dsa-87/1"),
        ),
        artifacts=tuple(
            ArtifactProof(reference=a.reference, digest=a.digest, found=a.digest)
            for a in full_manifest().artifacts
        ),
        damages=(),
        damage_count=0,
        missing_sequences=(1,),
        tool=Tool(name="acr-airgap-transfer", version="0.1.0"),
    )


def refused_receipt() -> Receipt:
    """The target refused a damaged upload before anything else was known of it."""
    return Receipt(
        envelope_sha256=_hex("envelope"),
        incoming="fedcba9876543210fedcba9876543210/bundle-manifest.dsse.json",
        target=TARGET,
        decided_at=NOW,
        code=Code.PART_CORRUPT,
        detail="1 part",
        transfer_id=None,
        channel=None,
        sequence=None,
        manifest_sha256=None,
        signers=(),
        artifacts=(),
        damages=(
            Damage(code=Code.PART_CORRUPT, name="001/00000001.part", offset_bytes=0, size_bytes=11),
            Damage(code=Code.UNDECLARED_FILE, name="003", detail="not in the bundle manifest"),
        ),
        damage_count=2,
        missing_sequences=(),
        tool=Tool(name="acr-airgap-transfer", version="0.1.0"),
    )


def pae_vectors() -> bytes:
    """DSSE pre-authentication encodings, among them the specification's own and one beyond ASCII."""
    cases = [
        ("http://example.com/HelloWorld", b"hello world"),
        ("application/vnd.in-toto+json", b"{}"),
        ("", b""),
        ("application/x-ünïcode", "größe 雲".encode()),
    ]
    return dump_canonical(
        [
            {
                "payloadType": payload_type,
                "payloadHex": payload.hex(),
                "paeHex": DsseEnvelope(payload, payload_type, {}).pae().hex(),
            }
            for payload_type, payload in cases
        ]
    )


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "manifest-minimal.json": lambda: minimal_manifest().to_bytes(),
    "manifest-full.json": lambda: full_manifest().to_bytes(),
    "receipt-imported.json": lambda: imported_receipt().to_bytes(),
    "receipt-refused.json": lambda: refused_receipt().to_bytes(),
    "policy.json": lambda: dump_canonical(policy_json()),
    "pae.json": pae_vectors,
}

ENVELOPES: dict[str, tuple[Callable[[], BundleManifest], tuple[CryptoSigner, ...]]] = {
    "envelope-p384.dsse.json": (minimal_manifest, (P384,)),
    "envelope-hybrid.dsse.json": (full_manifest, (P384, MLDSA87, ED25519, P256)),
}


def main() -> None:
    """Write every vector."""
    for name, payload in PAYLOADS.items():
        (FOLDER / name).write_bytes(payload())
    policy = TrustPolicy.from_bytes((FOLDER / "policy.json").read_bytes())
    for name, (manifest, signers) in ENVELOPES.items():
        path = FOLDER / name
        if path.exists() and verify_bundle(path.read_bytes(), policy=policy, now=NOW).is_accepted:
            continue
        path.write_bytes(Envelope.sign(manifest().to_bytes(), signers).to_bytes())


if __name__ == "__main__":
    main()
