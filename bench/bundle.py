"""A signed bundle of one transfer blob with random content, made on disk: for measuring, not for trusting."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from airgap.envelope import Envelope
from airgap.keys import signer_from_pem
from airgap.manifest import ENVELOPE_NAME, Artifact, BundleManifest, Source, Tool, TransferBlob
from airgap.parts import DEFAULT_PART_SIZE_BYTES, MIN_PART_SIZE_BYTES

TRANSFER_ID = "bench00000"
BLOB_NAME = "001"
_METADATA = {"category": "acr-transfer-blob"}
_AUDIENCE = ("target.azurecr.io",)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchBundle:
    """``folder`` holds ``001``, the envelope and ``policy.json``."""

    folder: Path
    size_bytes: int
    part_size_bytes: int

    @property
    def blob(self) -> Path:
        """The transfer blob."""
        return self.folder / BLOB_NAME

    @property
    def envelope(self) -> Path:
        """The signed bundle manifest."""
        return self.folder / ENVELOPE_NAME

    @property
    def policy(self) -> Path:
        """A trust policy that accepts it."""
        return self.folder / "policy.json"


def make_bundle(folder: Path, *, size_bytes: int) -> BenchBundle:
    """Write a bundle of ``size_bytes`` into ``folder``, which is made; parts as large as in real life."""
    folder.mkdir(parents=True)
    part_size = DEFAULT_PART_SIZE_BYTES if size_bytes >= 4 * DEFAULT_PART_SIZE_BYTES else MIN_PART_SIZE_BYTES
    bundle = BenchBundle(folder=folder, size_bytes=size_bytes, part_size_bytes=part_size)
    seal(folder, _write_blob(bundle))
    return bundle


def seal(folder: Path, blob: TransferBlob) -> None:
    """Sign a bundle of one transfer blob: envelope and trust policy into ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    signer = signer_from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    now = datetime.now(UTC).replace(microsecond=0)
    manifest = BundleManifest(
        transfer_id=TRANSFER_ID,
        channel="bench",
        sequence=1,
        previous_sha256=None,
        created_at=now,
        expires_at=now + timedelta(days=30),
        source=Source(cloud="AzureCloud", registry="source.azurecr.io", export_pipeline="export"),
        audience=_AUDIENCE,
        blobs=(blob,),
        tool=Tool(name="bench", version="0"),
    )
    (folder / ENVELOPE_NAME).write_bytes(Envelope.sign(manifest.to_bytes(), [signer]).to_bytes())
    public_pem = (
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
    )
    channel = {
        "audience": list(_AUDIENCE),
        "repositories": ["**"],
        "bundleRoles": {"source": {"threshold": 1, "keyids": [signer.public_key.keyid]}},
        "maxAgeSeconds": 86_400 * 30,
        "clockSkewSeconds": 300,
        "order": "any",
        "onGap": "record",
        "maxSequenceJump": 100,
    }
    policy = {
        "schema": 1,
        "version": 1,
        "expiresAt": "2100-01-01T00:00:00Z",
        "keys": [{"holder": "bench", "publicKey": public_pem}],
        "channels": {"bench": channel},
    }
    (folder / "policy.json").write_text(json.dumps(policy))


def _write_blob(bundle: BenchBundle) -> TransferBlob:
    digests: list[str] = []
    whole = hashlib.md5(usedforsecurity=False)
    with bundle.blob.open("wb") as file:
        for offset in range(0, bundle.size_bytes, bundle.part_size_bytes):
            part = os.urandom(min(bundle.part_size_bytes, bundle.size_bytes - offset))
            digests.append(hashlib.sha256(part).hexdigest())
            whole.update(part)
            file.write(part)
    md5 = base64.b64encode(whole.digest()).decode("ascii")
    return transfer_blob(bundle.size_bytes, bundle.part_size_bytes, digests, content_md5=md5)


def transfer_blob(
    size_bytes: int, part_size_bytes: int, part_sha256: Sequence[str], *, content_md5: str | None = None
) -> TransferBlob:
    """The description of a transfer blob with one artifact in it."""
    artifact = Artifact(
        reference="team/app:v1",
        digest=f"sha256:{part_sha256[0]}",
        media_type="application/vnd.oci.image.manifest.v1+json",
        tags=("v1",),
    )
    return TransferBlob(
        name=BLOB_NAME,
        size_bytes=size_bytes,
        part_size_bytes=part_size_bytes,
        part_sha256=tuple(part_sha256),
        content_md5=content_md5,
        metadata=_METADATA,
        catalog_digest=None,
        pipeline_run="bench",
        artifacts=(artifact,),
    )
