"""What the source's orchestrators and activities say to each other, and the documents that they share."""

from typing import Any

from function_app.durable.blueprint import Activity
from function_app.messages import Item, Message, Result
from function_app.pipeline_runs import Started


class TransferOrder(Message, frozen=True):
    """The input of ``export_transfer``; what was asked for lies in the document ``request``."""

    transfer_id: str
    artifacts: int
    """How many references the request names."""
    runs_at_once: int
    hashes_at_once: int


class Transfer(Message, frozen=True):
    """The input of ``divide_blobs``: the transfer that is meant."""

    transfer_id: str


class Planning(Message, frozen=True):
    """The input of ``plan_transfer``; ``at``: when, RFC 3339, UTC."""

    transfer_id: str
    at: str


class BlobAttempt(Message, frozen=True):
    """One attempt to export one blob of a transfer."""

    transfer_id: str
    blob: str
    attempt: int


class Sealing(Message, frozen=True):
    """What the bundle manifest of a transfer says of its making."""

    transfer_id: str
    created_at: str


class Resolved(Result, frozen=True):
    """A group of references was looked up; what was found lies in ``resolved/<group>``."""


class Planned(Result, frozen=True):
    """The transfer is planned; the artifacts of each blob lie in ``batches/<blob>-1``."""

    blobs: int
    artifacts: int


class Confirmed(Result, frozen=True):
    """What a run wrote was looked at, and whether its tags have moved."""

    moved: str | None = None
    """A reference whose tag moved meanwhile: the batch for the next attempt lies in
    ``batches/<blob>-<attempt>``. Else the blob is described in ``exported/<blob>``."""


class Divided(Result, frozen=True):
    """The blobs are divided into parts, and these into groups; how, lies in ``division``."""

    groups: int


class Hashed(Result, frozen=True):
    """The digests of a group lie in ``digests/<blob>/<group>``."""


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


class Resolution(Message, frozen=True):
    """What became of a group of references."""

    artifacts: tuple[dict[str, Any], ...]
    """As :meth:`airgap.manifest.Artifact.to_json` writes them; referrers follow what they refer to."""
    missing: tuple[str, ...]
    obstacles: tuple[str, ...]
    """Why what was found cannot cross, a sentence each."""


class Batch(Message, frozen=True):
    """What one pipeline run exports."""

    artifacts: tuple[dict[str, Any], ...]


class ExportedBlob(Message, frozen=True):
    """A transfer blob as it was when its run had ended."""

    name: str
    attempt: int
    run: str
    size_bytes: int
    etag: str
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
DIVIDE_BLOBS = Activity("divide_blobs", Transfer, Divided)
HASH_PARTS = Activity("hash_parts", Item, Hashed)
SEAL_BUNDLE = Activity("seal_bundle", Sealing, Sealed)
