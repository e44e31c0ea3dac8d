"""The bundle manifest: the parts of a transfer, who made it, for whom it is, and until when it is good.

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
from airgap.repositories import REPOSITORY
from airgap.statement import MAX_SUBJECTS, Statement, Subject, parse_statement
from airgap.versions import Format

PREDICATE_TYPE = "urn:acr-airgap-transfer:bundle:v1"
ENVELOPE_NAME = "bundle-manifest.dsse.json"
"""File and blob name of the envelope that holds the bundle manifest; written last, read first."""

MAX_ARTIFACTS = 5000
MAX_AUDIENCE = 100
MAX_TAGS = 1000
"""Of one artifact."""

MAX_TYPE_CHARACTERS = 255
"""Of a media type (RFC 6838 §4.2), as ``artifactType`` is one."""

MAX_VOIDS = 1000
_MAX_METADATA = 64  # far more than ACR sets, far less than the 8 KiB of a blob
_MAX_TOOL_CHARACTERS = 64
_MAX_BLOB_BYTES = parts.MAX_PART_SIZE_BYTES * parts.MAX_PARTS_PER_BLOB
_READ = fields.FieldReader(Code.MANIFEST_MALFORMED)
_BASE64_MD5 = re.compile(r"[A-Za-z0-9+/]{22}==")
_METADATA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]{1,1024}")
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
REFERENCE = re.compile(rf"(?=[^:@]{{1,255}}[:@]){REPOSITORY}(?::{_TAG}|@sha256:[0-9a-f]{{64}})")
"""``repository:tag`` or ``repository@digest`` (OCI distribution-spec §Pulling manifests); no host.

A repository has at most 255 characters: registries and their clients take no more, as the same section says.
"""

TAG = re.compile(_TAG)

_RUN_NAME = re.compile(r"[A-Za-z0-9]{5,50}")
"""What ACR takes: https://learn.microsoft.com/rest/api/container-registry/pipeline-runs/create"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An artifact as it was exported.

    ``reference`` is what was given to the pipeline: ``repo:tag`` where the tag travels, else ``repo@digest``.
    ``tags`` are the tags that must point to ``digest`` after the import, that of the reference among them.
    An artifact that nobody ordered, and that travels because it belongs to another one (a signature, an
    SBOM), has a ``subject``, the digest of that other one, and an ``artifact_type``, its own word for what it
    is.
    """

    reference: str
    digest: str
    media_type: str
    tags: tuple[str, ...] = ()
    artifact_type: str | None = None
    subject: str | None = None

    def __post_init__(self) -> None:
        _READ.text(self.reference, "reference", pattern=REFERENCE)
        _READ.text(self.digest, "digest", pattern=fields.DIGEST)
        _READ.text(self.media_type, "mediaType", limit=255)
        _READ.each(self.tags, "tags", _check_tag, most=MAX_TAGS)
        if "@" in self.reference and not self.reference.endswith("@" + self.digest):
            _READ.refuse("digest", "not the digest of the reference")
        if len(set(self.tags)) != len(self.tags):
            _READ.refuse("tags", "a tag occurs twice")
        _, _, tag = self.reference.partition(":")
        if "@" not in self.reference and tag not in self.tags:
            _READ.refuse("tags", "without the tag of the reference")
        _READ.optional_text(self.artifact_type, "artifactType", limit=MAX_TYPE_CHARACTERS)
        _READ.optional_text(self.subject, "subject", pattern=fields.DIGEST)
        if (self.artifact_type is None) != (self.subject is None):
            _READ.refuse("subject", "without an artifactType, or the other way round")

    @property
    def repository(self) -> str:
        """The artifact's repository, which has the same name in the source's and the target's registry."""
        return re.split("[:@]", self.reference, maxsplit=1)[0]

    @classmethod
    def from_json(cls, raw: Any, where: str = "artifact") -> Self:
        """Read one element of ``blobs[].artifacts``; refuses with ``MANIFEST_MALFORMED``."""
        value = _READ.members(
            raw, where, "reference", "digest", "mediaType", "tags", "artifactType", "subject"
        )
        with _READ.within(where):
            return cls(
                reference=value["reference"],
                digest=value["digest"],
                media_type=value["mediaType"],
                tags=_READ.array(value["tags"], "tags"),
                artifact_type=value["artifactType"],
                subject=value["subject"],
            )

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``docs/format.md`` §3."""
        return {
            "reference": self.reference,
            "digest": self.digest,
            "mediaType": self.media_type,
            "tags": list(self.tags),
            "artifactType": self.artifact_type,
            "subject": self.subject,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferBlob:
    """A transfer blob: its name, sizes in bytes, its parts' hex SHA-256 in order, and what it carries."""

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
        _READ.text(self.name, "name", pattern=parts.BLOB_NAME)
        _check_size(self.size_bytes, self.part_size_bytes)
        if type(self.part_sha256) is not tuple or len(self.part_sha256) != parts.part_count(
            self.size_bytes, self.part_size_bytes
        ):
            _READ.refuse("subject", "the number of parts does not follow from size and part size")
        is_digest = fields.SHA256_HEX.fullmatch
        for number, sha256 in enumerate(self.part_sha256, start=1):
            if type(sha256) is not str or not is_digest(sha256):
                _READ.refuse("subject", f"the digest of part {number} is not 64 lower-case hex digits")
        _READ.optional_text(self.content_md5, "contentMd5", pattern=_BASE64_MD5)
        _check_metadata(self.metadata)
        _READ.optional_text(self.catalog_digest, "catalogDigest", pattern=fields.DIGEST)
        _READ.text(self.pipeline_run, "pipelineRun", pattern=_RUN_NAME)
        _READ.each(self.artifacts, "artifacts", _check_artifact, least=1, most=MAX_ARTIFACTS)

    def parts(self) -> Iterator[parts.SignedPart]:
        """The parts of the blob, in order, each with its signed digest."""
        ranges = parts.plan_parts(self.name, size_bytes=self.size_bytes, part_size_bytes=self.part_size_bytes)
        return map(parts.SignedPart, ranges, self.part_sha256)

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
    """The origin of a bundle: the cloud's name, the registry's login server, the export pipeline's name."""

    cloud: str
    registry: str
    export_pipeline: str

    def __post_init__(self) -> None:
        _READ.text(self.cloud, "source.cloud", limit=64)
        _READ.text(self.registry, "source.registry", pattern=fields.LOGIN_SERVER)
        _READ.text(self.export_pipeline, "source.exportPipeline", limit=64)

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read the member ``source``; refuses with ``MANIFEST_MALFORMED``."""
        value = _READ.members(raw, "source", "cloud", "registry", "exportPipeline")
        return cls(cloud=value["cloud"], registry=value["registry"], export_pipeline=value["exportPipeline"])

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``docs/format.md`` §3."""
        return {"cloud": self.cloud, "registry": self.registry, "exportPipeline": self.export_pipeline}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """The program that wrote a document: its name and version, 1 to 64 printable characters each.

    Raises:
        ValueError: a name or a version that no document may have.
    """

    name: str
    version: str

    def __post_init__(self) -> None:
        for text in (self.name, self.version):
            if type(text) is not str or not 1 <= len(text) <= _MAX_TOOL_CHARACTERS or not text.isprintable():
                raise ValueError(f"not 1 to {_MAX_TOOL_CHARACTERS} printable characters: {text!r}")

    def to_json(self) -> dict[str, Any]:
        """The object ``{"name", "version"}``."""
        return {"name": self.name, "version": self.version}

    @classmethod
    def from_json(cls, raw: Any, where: str, read: fields.FieldReader) -> Self:
        """Read the object ``{"name", "version"}``; refuses with the code of the reader ``read``."""
        value = read.members(raw, where, "name", "version")
        try:
            return cls(name=value["name"], version=value["version"])
        except ValueError as error:
            read.refuse(where, str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """A sequence number that the source gave up for good: no bundle will ever carry it.

    Args:
        sequence: the number that was given up.
        reason: a few words for whoever asks why it never came, at most 200 printable characters.
        who: the person or the program that gave it up.
    """

    sequence: int
    reason: str
    who: str

    def __post_init__(self) -> None:
        _READ.integer(self.sequence, "sequence", least=1)
        _READ.text(self.reason, "reason", limit=200)
        _READ.text(self.who, "who", limit=128)

    @classmethod
    def from_json(cls, raw: Any, where: str) -> Self:
        """Read one element of ``voids``; refuses with ``MANIFEST_MALFORMED``."""
        value = _READ.members(raw, where, "sequence", "reason", "who")
        with _READ.within(where):
            return cls(sequence=value["sequence"], reason=value["reason"], who=value["who"])

    def to_json(self) -> dict[str, Any]:
        """The object ``{"sequence", "reason", "who"}``."""
        return {"sequence": self.sequence, "reason": self.reason, "who": self.who}


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleManifest:
    """The content of a bundle manifest (``docs/format.md`` §3); times are aware and in whole seconds.

    ``previous_sha256`` is the manifest digest of the channel's preceding number, ``None`` for the first.
    ``voids`` are lower numbers of the channel that were given up, ascending. ``requested_by`` is who ordered
    it, in the source's words; ``None`` where it does not say. Nothing is decided by that.

    Raises:
        UntrustedInputError: ``MANIFEST_MALFORMED``, naming the first field at fault: what exists can be read.

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
    voids: tuple[Void, ...] = ()
    requested_by: str | None = None

    def __post_init__(self) -> None:
        _READ.text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
        _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
        _READ.integer(self.sequence, "sequence", least=1)
        _READ.optional_text(self.previous_sha256, "previous.sha256", pattern=fields.SHA256_HEX)
        if (self.sequence == 1) != (self.previous_sha256 is None):
            _READ.refuse("previous", "null for sequence 1 and only there")
        _READ.moment(self.created_at, "createdAt")
        if _READ.moment(self.expires_at, "expiresAt") <= self.created_at:
            _READ.refuse("expiresAt", "not after createdAt")
        _READ.instance(self.source, "source", Source)
        _READ.each(self.audience, "audience", _check_login_server, least=1, most=MAX_AUDIENCE)
        _READ.each(self.blobs, "blobs", _check_blob, least=1, most=parts.MAX_BLOBS)
        self._check_blobs()
        _READ.instance(self.tool, "tool", Tool)
        _READ.optional_text(self.requested_by, "requestedBy", limit=128)
        _READ.each(self.voids, "voids", _check_void, most=MAX_VOIDS)
        numbers = [void.sequence for void in self.voids]
        if any(one >= other for one, other in itertools.pairwise([*numbers, self.sequence])):
            _READ.refuse("voids", "not ascending, or not below the number of this bundle")

    def _check_blobs(self) -> None:
        """What holds of all blobs together: numbered without a gap, bounded, no artifact twice."""
        for number, blob in enumerate(self.blobs, start=1):
            if blob.name != parts.blob_name(number):
                _READ.refuse(f"blobs[{number - 1}].name", f"not {parts.blob_name(number)}")
        if self.part_count > MAX_SUBJECTS:
            _READ.refuse("blobs", f"more than {MAX_SUBJECTS} parts")
        references = [artifact.reference for artifact in self.artifacts]
        if len(references) > MAX_ARTIFACTS:
            _READ.refuse("blobs", f"more than {MAX_ARTIFACTS} artifacts")
        if len(set(references)) != len(references):
            _READ.refuse("blobs", "a reference occurs twice")

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The artifacts of all blobs, in order."""
        return tuple(itertools.chain.from_iterable(blob.artifacts for blob in self.blobs))

    @property
    def size_bytes(self) -> int:
        """The size of all parts together, in bytes."""
        return sum(blob.size_bytes for blob in self.blobs)

    @property
    def part_count(self) -> int:
        """The number of parts of all blobs together."""
        return sum(len(blob.part_sha256) for blob in self.blobs)

    def parts(self) -> Iterator[parts.SignedPart]:
        """The parts of all blobs, in the order of the subjects."""
        return itertools.chain.from_iterable(blob.parts() for blob in self.blobs)

    def to_bytes(self) -> bytes:
        """The manifest as a canonical statement: the bytes that are signed and hashed as its identity.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: no reader would take so long a manifest.
        """
        predicate = {
            "transferId": self.transfer_id,
            "channel": self.channel,
            "sequence": self.sequence,
            "previous": None if self.previous_sha256 is None else {"sha256": self.previous_sha256},
            "createdAt": format_time(self.created_at),
            "expiresAt": format_time(self.expires_at),
            "source": self.source.to_json(),
            "audience": list(self.audience),
            "blobs": [blob.to_json() for blob in self.blobs],
            "tool": self.tool.to_json(),
            "voids": [void.to_json() for void in self.voids],
            "requestedBy": self.requested_by,
        }
        subjects = tuple(Subject(name=part.name, sha256=sha256) for part, sha256 in self.parts())
        return Statement(subjects=subjects, predicate_type=PREDICATE_TYPE, predicate=predicate).to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the payload of a verified envelope.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any manifest; ``NEWER_FORMAT``: a newer tool
                wrote it; ``MANIFEST_MALFORMED``, naming the first field at fault.
        """
        statement = parse_statement(raw, code=Code.MANIFEST_MALFORMED)
        return cls(**_FORMAT.of_predicate_type(statement.predicate_type)(statement))


def manifest_digest(payload: bytes) -> str:
    """The identity of a bundle manifest: hex SHA-256 of the signed statement's bytes."""
    return hashlib.sha256(payload).hexdigest()


def _read_previous(raw: Any) -> str | None:
    if raw is None:
        return None
    return _READ.text(
        _READ.members(raw, "previous", "sha256")["sha256"], "previous.sha256", pattern=fields.SHA256_HEX
    )


def _read_v1(statement: Statement) -> dict[str, Any]:
    """The arguments of :class:`BundleManifest`; its constructor checks them."""
    value = _READ.members(
        statement.predicate,
        "predicate",
        *("transferId", "channel", "sequence", "previous", "createdAt", "expiresAt"),
        *("source", "audience", "blobs", "tool", "voids", "requestedBy"),
    )
    return {
        "transfer_id": value["transferId"],
        "channel": value["channel"],
        "sequence": value["sequence"],
        "previous_sha256": _read_previous(value["previous"]),
        "created_at": _READ.time(value["createdAt"], "createdAt"),
        "expires_at": _READ.time(value["expiresAt"], "expiresAt"),
        "source": Source.from_json(value["source"]),
        "audience": _READ.array(value["audience"], "audience"),
        "blobs": _read_blobs(value["blobs"], statement.subjects),
        "tool": Tool.from_json(value["tool"], "tool", _READ),
        "voids": _READ.items(value["voids"], "voids", Void.from_json, most=MAX_VOIDS),
        "requested_by": value["requestedBy"],
    }


_FORMAT = Format(name="bundle", read=_READ, readers={1: _read_v1})


def _read_blobs(raw: Any, subjects: tuple[Subject, ...]) -> tuple[TransferBlob, ...]:
    """The blobs, with the subjects dealt out to them in order."""
    sizes = _READ.items(raw, "blobs", _read_blob_size, least=1, most=parts.MAX_BLOBS)
    if sum(parts.part_count(*size) for size in sizes) != len(subjects):
        _READ.refuse("subject", "the number of subjects does not follow from the blobs")
    blobs: list[TransferBlob] = []
    rest = iter(subjects)
    for index, size in enumerate(sizes):
        name = parts.blob_name(index + 1)
        digests = []
        for number, subject in enumerate(itertools.islice(rest, parts.part_count(*size)), start=1):
            if subject.name != (expected := parts.part_name(name, number)):
                _READ.refuse("subject", f"{subject.name[:80]!r} stands where {expected} belongs")
            digests.append(subject.sha256)
        with _READ.within(f"blobs[{index}]"):
            blobs.append(_read_blob(raw[index], tuple(digests)))
    return tuple(blobs)


def _read_blob_size(raw: Any, where: str) -> tuple[int, int]:
    """Size and part size, looked at before subjects are counted by them."""
    value = _READ.members(
        raw,
        where,
        *("name", "size", "partSize", "contentMd5", "metadata"),
        *("catalogDigest", "pipelineRun", "artifacts"),
    )
    with _READ.within(where):
        _check_size(value["size"], value["partSize"])
    return value["size"], value["partSize"]


def _read_blob(value: dict[str, Any], part_sha256: tuple[str, ...]) -> TransferBlob:
    return TransferBlob(
        name=value["name"],
        size_bytes=value["size"],
        part_size_bytes=value["partSize"],
        part_sha256=part_sha256,
        content_md5=value["contentMd5"],
        metadata=value["metadata"],
        catalog_digest=value["catalogDigest"],
        pipeline_run=value["pipelineRun"],
        artifacts=_READ.items(
            value["artifacts"], "artifacts", Artifact.from_json, least=1, most=MAX_ARTIFACTS
        ),
    )


def _check_size(size_bytes: int, part_size_bytes: int) -> None:
    _READ.integer(size_bytes, "size", least=1, most=_MAX_BLOB_BYTES)
    _READ.integer(
        part_size_bytes, "partSize", least=parts.MIN_PART_SIZE_BYTES, most=parts.MAX_PART_SIZE_BYTES
    )
    if parts.part_count(size_bytes, part_size_bytes) > parts.MAX_PARTS_PER_BLOB:
        _READ.refuse("partSize", f"more than {parts.MAX_PARTS_PER_BLOB} parts")


def _check_metadata(metadata: Any) -> None:
    """Refuse metadata that HTTP headers could not carry: ASCII only, few and short."""
    if not isinstance(metadata, Mapping) or len(metadata) > _MAX_METADATA:
        _READ.refuse("metadata", f"not an object of at most {_MAX_METADATA} members")
    for name, value in metadata.items():
        _READ.text(name, "metadata", pattern=_METADATA_NAME)
        _READ.text(value, f"metadata.{name}", pattern=_METADATA_VALUE)


def _check_tag(tag: Any, where: str) -> None:
    _READ.text(tag, where, pattern=TAG)


def _check_login_server(name: Any, where: str) -> None:
    _READ.text(name, where, pattern=fields.LOGIN_SERVER)


def _check_artifact(value: Any, where: str) -> None:
    _READ.instance(value, where, Artifact)


def _check_blob(value: Any, where: str) -> None:
    _READ.instance(value, where, TransferBlob)


def _check_void(value: Any, where: str) -> None:
    _READ.instance(value, where, Void)


__all__ = [
    "ENVELOPE_NAME",
    "PREDICATE_TYPE",
    "REFERENCE",
    "Artifact",
    "BundleManifest",
    "Source",
    "Tool",
    "TransferBlob",
    "Void",
    "manifest_digest",
]
