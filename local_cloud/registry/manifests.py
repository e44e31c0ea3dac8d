"""Manifests as the registry reads them: what each one refers to, and nothing else of its content."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from local_cloud.registry.addresses import is_digest
from local_cloud.registry.errors import RegistryError

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_REFERENCES = 10_000

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEXES = (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
MANIFEST_TYPES = (*_INDEXES, *_MANIFESTS)
# Layers that a registry need not hold: they are fetched from their own URLs.
_FOREIGN = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image, index or artifact manifest: its exact bytes, and the digests it refers to."""

    content: bytes
    media_type: str
    digest: str
    blobs: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    subject: str | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> dict[str, Any]:
        """The manifest's descriptor as the referrers API lists it."""
        descriptor: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.content),
        }
        if self.artifact_type:
            descriptor["artifactType"] = self.artifact_type
        if self.annotations:
            descriptor["annotations"] = self.annotations
        return descriptor


def parse_manifest(content: bytes, media_type: str) -> Manifest:
    """Reads `content`, sent as `media_type`.

    Raises:
        RegistryError: MANIFEST_INVALID: it is no manifest that this registry knows; SIZE_INVALID: it is above
            `MAX_MANIFEST_BYTES`.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise RegistryError("SIZE_INVALID", f"a manifest may have {MAX_MANIFEST_BYTES} bytes")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise RegistryError("MANIFEST_INVALID", "the manifest is not JSON") from None
    if not isinstance(fields, dict) or fields.get("schemaVersion") != 2:  # noqa: PLR2004 - the only version there is
        raise RegistryError("MANIFEST_INVALID", "a JSON object with schemaVersion 2 is expected")
    if fields.get("mediaType", media_type) != media_type:
        raise RegistryError("MANIFEST_INVALID", "Content-Type and mediaType differ")
    if media_type in _MANIFESTS:
        config = _descriptor(fields.get("config"))
        layers = [_descriptor(layer) for layer in _list(fields.get("layers"))]
        blobs = [config, *(layer for layer in layers if not layer["mediaType"].startswith(_FOREIGN))]
        manifests = []
        artifact_type = fields.get("artifactType") or config["mediaType"]
    elif media_type in _INDEXES:
        blobs = []
        manifests = [_descriptor(child) for child in _list(fields.get("manifests"))]
        artifact_type = fields.get("artifactType")
    else:
        raise RegistryError("MANIFEST_INVALID", "this registry does not know the manifest's media type")
    subject = fields.get("subject")
    return Manifest(
        content=content,
        media_type=media_type,
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        blobs=tuple(blob["digest"] for blob in blobs),
        manifests=tuple(child["digest"] for child in manifests),
        subject=None if subject is None else _descriptor(subject)["digest"],
        artifact_type=None if artifact_type is None else _text(artifact_type),
        annotations=_annotations(fields.get("annotations")),
    )


def _descriptor(value: object) -> dict[str, str]:
    match value:
        case {"mediaType": str(media_type), "digest": str(digest)} if is_digest(digest):
            return {"mediaType": media_type, "digest": digest}
    raise RegistryError("MANIFEST_INVALID", "malformed descriptor")


def _list(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MAX_REFERENCES:
        raise RegistryError("MANIFEST_INVALID", f"a list of at most {MAX_REFERENCES} descriptors is expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise RegistryError("MANIFEST_INVALID", "artifactType is a string")
    return value


def _annotations(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise RegistryError("MANIFEST_INVALID", "annotations are strings")
    return value
