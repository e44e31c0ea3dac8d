"""The bundle manifest: which parts a transfer consists of, for whom, from whom, until when.

An in-toto Statement whose subjects are the parts, in order. Normative text: ``docs/format.md`` §3. The bytes
that were signed are the identity of a manifest; they are never written anew to verify or to hash them.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from airgap import fields, parts
from airgap.errors import Code
from airgap.fields import format_time
from airgap.statement import Statement, Subject, parse_statement

PREDICATE_TYPE = "urn:acr-airgap-transfer:bundle:v1"
ENVELOPE_NAME = "bundle-manifest.dsse.json"
"""File and blob name of the envelope that holds the bundle manifest; written last, read first."""

MAX_ARTIFACTS = 5000
MAX_AUDIENCE = 100
_MAX_BLOB_BYTES = parts.MAX_PART_SIZE_BYTES * parts.MAX_PARTS_PER_BLOB
_READ = fields.FieldReader(Code.MANIFEST_MALFORMED)
_BASE64_MD5 = re.compile(r"[A-Za-z0-9+/]{22}==")
_METADATA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]{1,1024}")
_REPOSITORY = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
REFERENCE = re.compile(rf"{_REPOSITORY}(?::{_TAG}|@sha256:[0-9a-f]{{64}})")
"""``repository:tag`` or ``repository@digest`` (OCI distribution-spec §Pulling manifests); no host."""

TAG = re.compile(_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One artifact as it was exported.

    ``reference`` is what was given to the pipeline: ``repo:tag`` where the tag travels, else ``repo@digest``.
    ``tags`` are the tags that must point to ``digest`` after the import.
    """

    reference: str
    digest: str
    media_type: str
    tags: tuple[str, ...] = ()

    @property
    def repository(self) -> str:
        """The repository in both registries."""
        return re.split("[:@]", self.reference, maxsplit=1)[0]

    @classmethod
    def from_json(cls, raw: Any, where: str = "artifact") -> Self:
        """Read one element of ``blobs[].artifacts``; refuses with ``MANIFEST_MALFORMED``."""
        value = _READ.members(raw, where, "reference", "digest", "mediaType", "tags")
        artifact = cls(
            reference=_READ.text(value["reference"], f"{where}.reference", pattern=REFERENCE),
            digest=_READ.text(value["digest"], f"{where}.digest", pattern=fields.DIGEST),
            media_type=_READ.text(value["mediaType"], f"{where}.mediaType", limit=255),
            tags=_READ.items(
                value["tags"], f"{where}.tags", lambda tag, at: _READ.text(tag, at, pattern=TAG), most=1000
            ),
        )
        if "@" in artifact.reference and not artifact.reference.endswith("@" + artifact.digest):
            _READ.refuse(f"{where}.digest", "not the digest of the reference")
        return artifact

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``docs/format.md`` §3."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "mediaType": self.media_type,
            "tags": list(self.tags),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferBlob:
    """One transfer blob and the SHA-256 of each of its parts, in order (hex)."""

    name: str
    size_bytes: int
    part_size_bytes: int
    part_sha256: tuple[str, ...]
    content_md5: str | None
    metadata: Mapping[str, str]
    catalog_digest: str | None
    pipeline_run: str
    artifacts: tuple[Artifact, ...]

    def __post_init__(self) -> None:
        if len(self.part_sha256) != parts.part_count(self.size_bytes, self.part_size_bytes):
            _READ.refuse(f"blob {self.name}", "the number of parts does not follow from size and part size")

    def parts(self) -> Iterator[tuple[parts.PartRange, str]]:
        """Each part with its hex SHA-256, in order."""
        ranges = parts.plan_parts(self.name, size_bytes=self.size_bytes, part_size_bytes=self.part_size_bytes)
        return zip(ranges, self.part_sha256, strict=True)

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``docs/format.md`` §3; the part digests are the statement's subjects."""
        return {
            "name": self.name,
            "size": self.size_bytes,
            "partSize": self.part_size_bytes,
            "contentMd5": self.content_md5,
            "metadata": dict(self.metadata),
            "catalogDigest": self.catalog_digest,
            "pipelineRun": self.pipeline_run,
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a bundle comes from: cloud name, login server, name of the export pipeline."""

    cloud: str
    registry: str
    export_pipeline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Which program wrote a statement."""

    name: str
    version: str

    @classmethod
    def from_json(cls, raw: Any, where: str, read: fields.FieldReader) -> Self:
        """Read ``{"name", "version"}``."""
        value = read.members(raw, where, "name", "version")
        return cls(
            name=read.text(value["name"], f"{where}.name", limit=64),
            version=read.text(value["version"], f"{where}.version", limit=64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleManifest:
    """The content of a bundle manifest, checked; times are aware and in UTC.

    ``previous_sha256`` is the manifest digest of the channel's preceding number, ``None`` for the first.
    Not checked here: signatures, expiry, audience, order (:mod:`airgap.verify`, :mod:`airgap.ledger`).
    """

    transfer_id: str
    channel: str
    sequence: int
    previous_sha256: str | None
    created_at: datetime
    expires_at: datetime
    source: Source
    audience: tuple[str, ...]
    blobs: tuple[TransferBlob, ...]
    tool: Tool

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All artifacts of all blobs."""
        return tuple(itertools.chain.from_iterable(blob.artifacts for blob in self.blobs))

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts together."""
        return sum(blob.size_bytes for blob in self.blobs)

    @property
    def part_count(self) -> int:
        """Parts of all blobs together."""
        return sum(len(blob.part_sha256) for blob in self.blobs)

    def parts(self) -> Iterator[tuple[parts.PartRange, str]]:
        """Each part of each blob with its hex SHA-256, in the order of the subjects."""
        return itertools.chain.from_iterable(blob.parts() for blob in self.blobs)

    def to_bytes(self) -> bytes:
        """The canonical statement: what gets signed."""
        predicate = {
            "transferId": self.transfer_id,
            "channel": self.channel,
            "sequence": self.sequence,
            "previous": None if self.previous_sha256 is None else {"sha256": self.previous_sha256},
            "createdAt": format_time(self.created_at),
            "expiresAt": format_time(self.expires_at),
            "source": {
                "cloud": self.source.cloud,
                "registry": self.source.registry,
                "exportPipeline": self.source.export_pipeline,
            },
            "audience": list(self.audience),
            "blobs": [blob.to_json() for blob in self.blobs],
            "tool": {"name": self.tool.name, "version": self.tool.version},
        }
        subjects = tuple(Subject(name=part.name, sha256=sha256) for part, sha256 in self.parts())
        return Statement(subjects=subjects, predicate_type=PREDICATE_TYPE, predicate=predicate).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the payload of a verified envelope.

        Raises:
            UntrustedInputError: ``TOO_LARGE`` or ``MANIFEST_MALFORMED``, naming the first field at fault.
        """
        statement = parse_statement(raw, predicate_type=PREDICATE_TYPE, code=Code.MANIFEST_MALFORMED)
        value = _READ.members(
            statement.predicate,
            "predicate",
            *("transferId", "channel", "sequence", "previous", "createdAt", "expiresAt"),
            *("source", "audience", "blobs", "tool"),
        )
        manifest = cls(
            transfer_id=_READ.text(value["transferId"], "transferId", pattern=fields.TRANSFER_ID),
            channel=_READ.text(value["channel"], "channel", pattern=fields.CHANNEL),
            sequence=_READ.integer(value["sequence"], "sequence", least=1),
            previous_sha256=_read_previous(value["previous"]),
            created_at=_READ.time(value["createdAt"], "createdAt"),
            expires_at=_READ.time(value["expiresAt"], "expiresAt"),
            source=_read_source(value["source"]),
            audience=_READ.items(
                value["audience"],
                "audience",
                lambda name, at: _READ.text(name, at, pattern=fields.LOGIN_SERVER),
                least=1,
                most=MAX_AUDIENCE,
            ),
            blobs=_read_blobs(value["blobs"], statement.subjects),
            tool=Tool.from_json(value["tool"], "tool", _READ),
        )
        if manifest.expires_at <= manifest.created_at:
            _READ.refuse("expiresAt", "not after createdAt")
        if (manifest.sequence == 1) != (manifest.previous_sha256 is None):
            _READ.refuse("previous", "null for sequence 1 and only there")
        return manifest


def manifest_digest(payload: bytes) -> str:
    """The identity of a bundle manifest: hex SHA-256 of the signed statement's bytes."""
    return hashlib.sha256(payload).hexdigest()


def _read_previous(raw: Any) -> str | None:
    if raw is None:
        return None
    return _READ.text(
        _READ.members(raw, "previous", "sha256")["sha256"], "previous.sha256", pattern=fields.SHA256_HEX
    )


def _read_source(raw: Any) -> Source:
    value = _READ.members(raw, "source", "cloud", "registry", "exportPipeline")
    return Source(
        cloud=_READ.text(value["cloud"], "source.cloud", limit=64),
        registry=_READ.text(value["registry"], "source.registry", pattern=fields.LOGIN_SERVER),
        export_pipeline=_READ.text(value["exportPipeline"], "source.exportPipeline", limit=64),
    )


def _read_blobs(raw: Any, subjects: tuple[Subject, ...]) -> tuple[TransferBlob, ...]:
    """The blobs, numbered 001, 002, … without a gap, with the subjects dealt out to them in order."""
    sizes = _READ.items(raw, "blobs", _read_blob_size, least=1, most=parts.MAX_BLOBS)
    if sum(parts.part_count(*size) for size in sizes) != len(subjects):
        _READ.refuse("subject", "the number of subjects does not follow from the blobs")
    blobs: list[TransferBlob] = []
    rest = iter(subjects)
    for index, (size_bytes, part_size_bytes) in enumerate(sizes):
        name = parts.blob_name(index + 1)
        digests = []
        for part in parts.plan_parts(name, size_bytes=size_bytes, part_size_bytes=part_size_bytes):
            subject = next(rest)
            if subject.name != part.name:
                _READ.refuse("subject", f"{subject.name[:80]!r} stands where {part.name} belongs")
            digests.append(subject.sha256)
        blobs.append(
            _read_blob(
                raw[index],
                f"blobs[{index}]",
                name=name,
                size_bytes=size_bytes,
                part_size_bytes=part_size_bytes,
                part_sha256=tuple(digests),
            )
        )
    if sum(len(blob.artifacts) for blob in blobs) > MAX_ARTIFACTS:
        _READ.refuse("blobs", f"more than {MAX_ARTIFACTS} artifacts")
    references = [artifact.reference for blob in blobs for artifact in blob.artifacts]
    if len(set(references)) != len(references):
        _READ.refuse("blobs", "a reference occurs twice")
    return tuple(blobs)


def _read_blob_size(raw: Any, where: str) -> tuple[int, int]:
    """Size and part size, looked at before anything is planned from them."""
    value = _READ.members(
        raw,
        where,
        *("name", "size", "partSize", "contentMd5", "metadata"),
        *("catalogDigest", "pipelineRun", "artifacts"),
    )
    size = _READ.integer(value["size"], f"{where}.size", least=1, most=_MAX_BLOB_BYTES)
    part_size = _READ.integer(
        value["partSize"],
        f"{where}.partSize",
        least=parts.MIN_PART_SIZE_BYTES,
        most=parts.MAX_PART_SIZE_BYTES,
    )
    if parts.part_count(size, part_size) > parts.MAX_PARTS_PER_BLOB:
        _READ.refuse(f"{where}.partSize", f"more than {parts.MAX_PARTS_PER_BLOB} parts")
    return size, part_size


def _read_blob(
    value: dict[str, Any],
    where: str,
    *,
    name: str,
    size_bytes: int,
    part_size_bytes: int,
    part_sha256: tuple[str, ...],
) -> TransferBlob:
    if value["name"] != name:
        _READ.refuse(f"{where}.name", f"not {name}")
    return TransferBlob(
        name=name,
        size_bytes=size_bytes,
        part_size_bytes=part_size_bytes,
        part_sha256=part_sha256,
        content_md5=_READ.optional_text(value["contentMd5"], f"{where}.contentMd5", pattern=_BASE64_MD5),
        metadata=_read_metadata(value["metadata"], f"{where}.metadata"),
        catalog_digest=_READ.optional_text(
            value["catalogDigest"], f"{where}.catalogDigest", pattern=fields.DIGEST
        ),
        pipeline_run=_READ.text(value["pipelineRun"], f"{where}.pipelineRun", limit=64),
        artifacts=_READ.items(
            value["artifacts"], f"{where}.artifacts", Artifact.from_json, least=1, most=MAX_ARTIFACTS
        ),
    )


def _read_metadata(raw: Any, where: str) -> dict[str, str]:
    """Blob metadata travels in HTTP headers: ASCII only, few and short."""
    if type(raw) is not dict or len(raw) > 64:  # noqa: PLR2004 - far more than ACR sets, far less than 8 KiB
        _READ.refuse(where, "not an object of at most 64 members")
    return {
        _READ.text(name, where, pattern=_METADATA_NAME): _READ.text(
            value, f"{where}.{name}", pattern=_METADATA_VALUE
        )
        for name, value in raw.items()
    }


__all__ = [
    "ENVELOPE_NAME",
    "PREDICATE_TYPE",
    "REFERENCE",
    "Artifact",
    "BundleManifest",
    "Source",
    "Tool",
    "TransferBlob",
    "manifest_digest",
]
