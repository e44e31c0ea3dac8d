"""What the source's orchestrators and activities say to each other, and the documents that they share."""

import hashlib
from typing import Any

from airgap.parts import blob_name
from airgap.strict_json import dump_canonical
from function_app.durable.blueprint import Activity
from function_app.messages import Item, Message, Result
from function_app.pipeline_runs import Started


class TransferOrder(Message, frozen=True):
    """The input of ``export_transfer``; what was asked for lies in the document ``request``."""

    transfer_id: str
    request: str
    """SHA-256 of that document."""
    artifacts: int
    """How many references the request names."""
    runs_at_once: int
    hashes_at_once: int


class Dividing(Message, frozen=True):
    """The input of ``divide_blobs``: the transfer, and the tallies of what its exports have written."""

    transfer_id: str
    exported: tuple[str, ...]


class Planning(Message, frozen=True):
    """The input of ``plan_transfer``; ``at``: when, RFC 3339, UTC."""

    transfer_id: str
    request: str
    """SHA-256 of the document ``request``."""
    resolved: tuple[str, ...]
    """Tallies of the resolutions."""
    at: str


class BlobAttempt(Message, frozen=True):
    """One attempt to export one blob of a transfer."""

    transfer_id: str
    number: int
    """Of the blob, from 0."""
    attempt: int
    plan: str
    """SHA-256 of the document ``plan``."""
    batch: str | None
    """SHA-256 of the batch, if it is not the planned one."""

    @property
    def blob(self) -> str:
        """The blob's name."""
        return blob_name(self.number + 1)


class Sealing(Message, frozen=True):
    """What the bundle manifest of a transfer says of its making, and what its documents must be."""

    transfer_id: str
    request: str
    """SHA-256 of the document ``request``."""
    division: str
    """SHA-256 of the document ``division``."""
    hashed: tuple[str, ...]
    """Tallies of the digests."""
    created_at: str


class Resolved(Result, frozen=True):
    """A group of references was looked up; what was found lies in ``resolved/<group>``."""

    document_sha256: str


class Planned(Result, frozen=True):
    """The transfer is planned; what each blob is exported from is told by the document ``plan``."""

    blobs: int
    artifacts: int
    document_sha256: str
    referrers: tuple[dict[str, Any], ...] = ()
    """As :func:`function_app.source.referrers.summarize` tells them."""


class Confirmed(Result, frozen=True):
    """What a run wrote was looked at, and whether its tags have moved."""

    document_sha256: str
    """Of the batch for the next attempt, if a tag moved; else of the blob's description, which lies in
    ``exported/<blob>-<attempt>``."""
    moved: str | None = None
    """A reference whose tag was written to meanwhile."""


class Divided(Result, frozen=True):
    """The blobs are divided into parts, and these into groups; how, lies in ``division``."""

    groups: int
    document_sha256: str


class Hashed(Result, frozen=True):
    """The digests of a group lie in ``digests/<blob>/<group>``."""

    document_sha256: str


class Sealed(Result, frozen=True):
    """The bundle manifest is published."""

    bundle: dict[str, Any]
    """As the API shows it: ``manifest``, ``manifestDigest``, ``sequence``, ``sizeBytes``, ``parts``,
    ``blobs``, ``artifacts``, ``expiresAt``."""


class RequestDocument(Message, frozen=True):
    """What was asked for, as the caller put it: the document ``request``."""

    artifacts: tuple[str, ...]
    channel: str
    audience: tuple[str, ...]
    expires_in_seconds: int
    referrers: str | tuple[str, ...]
    """Which kinds of them travel; see :class:`function_app.source.referrers.Selection`."""

    @property
    def order_sha256(self) -> str:
        """Hex SHA-256 of the canonical order, as the journal has it: equal however it was spelled."""
        order = {
            "artifacts": list(self.artifacts),
            "channel": self.channel,
            "audience": list(self.audience),
            "expiresInSeconds": self.expires_in_seconds,
            "referrers": self.referrers if isinstance(self.referrers, str) else list(self.referrers),
        }
        return hashlib.sha256(dump_canonical(order)).hexdigest()


class Resolution(Message, frozen=True):
    """What became of a group of references."""

    artifacts: tuple[dict[str, Any], ...]
    """As :meth:`airgap.manifest.Artifact.to_json` writes them; referrers follow what they refer to."""
    tagged: dict[str, str]
    """When each reference by tag was written last, as the registry spells it."""
    left: dict[str, str]
    """Referrers that are not wanted, with their kinds."""
    missing: tuple[str, ...]
    obstacles: tuple[str, ...]
    """Why what was found cannot cross, a sentence each."""


class Batch(Message, frozen=True):
    """What one pipeline run exports."""

    artifacts: tuple[dict[str, Any], ...]
    tagged: dict[str, str]
    """When each of its references by tag was written last, before the run."""
    referrers: str | tuple[str, ...]
    """Which kinds of them were ordered."""


class Plan(Message, frozen=True):
    """Which batches a transfer is exported in: of each, in order, the SHA-256 under which it lies."""

    batches: tuple[str, ...]


class ExportedBlob(Message, frozen=True):
    """A transfer blob as it was when its run had ended."""

    name: str
    attempt: int
    run: str
    batch: str
    """SHA-256 of what the run was asked for."""
    size_bytes: int
    etag: str
    last_modified: str
    content_md5: str | None
    metadata: dict[str, str]
    catalog_digest: str | None


class DividedBlob(Message, frozen=True):
    """An exported blob and the size of its parts."""

    exported: ExportedBlob
    part_size_bytes: int


class Division(Message, frozen=True):
    """All blobs of a transfer, divided."""

    blobs: tuple[DividedBlob, ...]


RESOLVE_ARTIFACTS = Activity("resolve_artifacts", Item, Resolved)
PLAN_TRANSFER = Activity("plan_transfer", Planning, Planned)
START_EXPORT_RUN = Activity("start_export_run", BlobAttempt, Started)
CONFIRM_EXPORT = Activity("confirm_export", BlobAttempt, Confirmed)
DIVIDE_BLOBS = Activity("divide_blobs", Dividing, Divided)
HASH_PARTS = Activity("hash_parts", Item, Hashed)
SEAL_BUNDLE = Activity("seal_bundle", Sealing, Sealed)
