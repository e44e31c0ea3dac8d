"""The messages between the source's orchestrators and activities, and the documents that they share."""

import hashlib
from typing import Any

from airgap.parts import blob_name
from airgap.strict_json import dump_canonical
from function_app.durable.blueprint import Activity
from function_app.messages import Item, Message, Result
from function_app.pipeline_runs import Started


class TransferOrder(Message, frozen=True, omit_defaults=True):
    """The input of ``export_transfer``; ``request`` is the hex SHA-256 of the document of that name."""

    transfer_id: str
    request: str
    """SHA-256 of that document."""
    artifacts: int
    """How many references the request names."""
    runs_at_once: int
    hashes_at_once: int
    selects: bool = False
    """Whether it also selects some."""
    is_dry_run: bool = False
    """Whether it ends with the plan."""
    only_missing: bool = False
    """Whether what every target holds already is left out."""


class Selecting(Message, frozen=True):
    """The input of ``list_repositories``; ``request``: SHA-256 of that document."""

    transfer_id: str
    request: str


class Gathering(Message, frozen=True):
    """The input of ``gather_references``; ``selected`` are the tallies of what the selecting has written."""

    transfer_id: str
    request: str
    """SHA-256 of the document ``request``."""
    selected: tuple[str, ...]


class Dividing(Message, frozen=True):
    """The input of ``divide_blobs``: the transfer, and the tallies of what its exports have written."""

    transfer_id: str
    exported: tuple[str, ...]


class Planning(Message, frozen=True, omit_defaults=True):
    """The input of ``plan_transfer``; ``at`` is the time of the planning, RFC 3339, UTC."""

    transfer_id: str
    request: str
    """SHA-256 of the document that names the references: ``request``, or ``selected``."""
    resolved: tuple[str, ...]
    """Tallies of the resolutions."""
    at: str
    is_dry_run: bool = False
    """Whether what cannot cross is told in the plan, instead of ending the transfer."""
    held: str | None = None
    """SHA-256 of the document in ``held`` that names what is left out; ``None``: nothing is."""


MAX_EXPORT_ATTEMPTS = 3
"""Of each blob, until nobody writes to its tags meanwhile."""


class BlobAttempt(Message, frozen=True):
    """The order for one attempt to export one blob of a transfer."""

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
        """The name of the blob, such as ``001``."""
        return blob_name(self.number + 1)


class PortionOrder(Message, frozen=True):
    """The input of ``order_portion``: the ``number``-th portion, from 0, of the transfer ``whole``."""

    whole: str
    number: int
    pinned: str
    """SHA-256 of the document ``portions``."""
    at: str


class Sealing(Message, frozen=True):
    """The input of ``seal_bundle``: what its manifest says, and the documents that it is made from."""

    transfer_id: str
    request: str
    """SHA-256 of the document ``request``."""
    division: str
    """SHA-256 of the document ``division``."""
    hashed: tuple[str, ...]
    """Tallies of the digests."""
    created_at: str


class Listed(Result, frozen=True):
    """The result of ``list_repositories``: the document ``repositories`` names them, in so many groups."""

    groups: int
    document_sha256: str


class Selected(Result, frozen=True):
    """The result of ``select_tags``: the references chosen are in the document ``chosen/<group>``."""

    document_sha256: str


class Gathered(Result, frozen=True):
    """The result of ``gather_references``: the document ``selected`` is the request, each reference named."""

    references: int
    document_sha256: str


class Resolved(Result, frozen=True):
    """The result of ``resolve_artifacts``: what was found is in the document ``resolved/<group>``."""

    document_sha256: str


class Found(Result, frozen=True):
    """The result of ``find_held``: how many artifacts every target holds, and at most twenty receipts."""

    artifacts: int
    receipts: tuple[str, ...]
    document_sha256: str
    """Of the document in ``held``."""


class Planned(Result, frozen=True, omit_defaults=True):
    """The result of ``plan_transfer``: the document ``plan`` tells what each blob is exported from.

    Where the order is divided, into ``portions``, the document of that name tells what each of them takes.
    """

    blobs: int
    artifacts: int
    document_sha256: str
    referrers: tuple[dict[str, Any], ...] = ()
    """As :func:`function_app.source.referrers.summarize` tells them."""
    portions: int = 0
    """Transfers that it is divided into; 0: it is one bundle."""


class Portion(Result, frozen=True):
    """The result of ``order_portion``: one of the transfers that an order is divided into is on record."""

    order: TransferOrder


class Confirmed(Result, frozen=True):
    """The result of ``confirm_export``: the document on the blob, or why its tags do not count."""

    document_sha256: str
    """Of the batch for the next attempt, if a tag moved; else of the blob's description, which lies in
    ``exported/<blob>-<attempt>``."""
    moved: str | None = None
    """A reference whose tag was written to meanwhile."""


class Divided(Result, frozen=True):
    """The result of ``divide_blobs``: the blobs are in the document ``division``; the groups are counted."""

    groups: int
    document_sha256: str


class Hashed(Result, frozen=True):
    """The result of ``hash_parts``: the digests of a group are in the document ``digests/<blob>/<group>``."""

    document_sha256: str


class Publishing(Message, frozen=True):
    """The input of ``publish_bundle``: people sign until ``until``; ``now`` is the time of this round."""

    transfer_id: str
    until: str
    now: str


class Sealed(Result, frozen=True, omit_defaults=True):
    """The result of sealing: the bundle is published, or people are still to sign until ``awaits_until``."""

    bundle: dict[str, Any]
    """As the API shows it: ``manifest``, ``manifestDigest``, ``sequence``, ``sizeBytes``, ``parts``,
    ``blobs``, ``artifacts``, ``expiresAt``."""
    awaits_until: str | None = None
    """Until when people have time to sign it; ``None`` once it is published."""


class RequestDocument(Message, frozen=True):
    """The document ``request``: what was asked for, as the caller put it."""

    artifacts: tuple[str, ...]
    channel: str
    audience: tuple[str, ...]
    expires_in_seconds: int
    referrers: str | tuple[str, ...]
    """Which kinds of them travel; see :class:`function_app.source.referrers.Selection`."""
    select: tuple[dict[str, Any], ...] = ()
    """As :meth:`function_app.source.selection.Selector.to_json` writes them."""
    exclude: tuple[str, ...] = ()
    dry_run: bool = False
    only_missing: bool = False

    def to_json(self) -> dict[str, Any]:
        """The order in the form in which orders are compared and told."""
        return {
            "artifacts": list(self.artifacts),
            "channel": self.channel,
            "audience": list(self.audience),
            "expiresInSeconds": self.expires_in_seconds,
            "referrers": self.referrers if isinstance(self.referrers, str) else list(self.referrers),
            "select": list(self.select),
            "exclude": list(self.exclude),
            "dryRun": self.dry_run,
            "onlyMissing": self.only_missing,
        }

    @property
    def order_sha256(self) -> str:
        """The hex SHA-256 of the canonical order, as the journal has it: equal however it was spelled."""
        return hashlib.sha256(dump_canonical(self.to_json())).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """The order's facts for the journal: its terms, its digest, and the length of what may be long."""
        return {
            **self.to_json(),
            "artifacts": len(self.artifacts),
            "select": len(self.select),
            "exclude": len(self.exclude),
            "requestSha256": self.order_sha256,
        }


class Repositories(Message, frozen=True):
    """The document ``repositories``: those to look through, and how many of them one activity takes."""

    names: tuple[str, ...]
    at_once: int


class Chosen(Message, frozen=True):
    """The document with the references that selectors take of a group of repositories, each by its tag."""

    references: tuple[str, ...]


class Resolution(Message, frozen=True):
    """The document with what a group of references was resolved to."""

    artifacts: tuple[dict[str, Any], ...]
    """As :meth:`airgap.manifest.Artifact.to_json` writes them; referrers follow what they refer to."""
    tagged: dict[str, str]
    """When each reference by tag was written last, as the registry spells it."""
    left: dict[str, str]
    """Referrers that are not wanted, with their kinds."""
    missing: tuple[str, ...]
    obstacles: dict[str, str]
    """By reference, why what was found cannot cross, in a sentence."""
    content: dict[str, dict[str, int]]
    """By reference of each artifact, the digests and sizes in bytes of what its manifests refer to."""
    platforms: dict[str, tuple[str, ...]]
    """By reference of each index, what its manifests are for, such as ``linux/arm64/v8``."""


class Batch(Message, frozen=True):
    """The document with what one pipeline run exports."""

    artifacts: tuple[dict[str, Any], ...]
    tagged: dict[str, str]
    """When each of its references by tag was written last, before the run."""
    referrers: str | tuple[str, ...]
    """Which kinds of them were ordered."""


class Held(Message, frozen=True):
    """The document ``held/<its SHA-256>``: the pages on what every target of an order holds already."""

    pages: tuple[str, ...]
    """SHA-256 of each of its pages, which lie beside it."""


class HeldArtifacts(Message, frozen=True):
    """The document that is one page of :class:`Held`: artifacts that every target holds already."""

    artifacts: tuple[dict[str, Any], ...]
    """``reference``, ``digest``, and ``held``: by registry, on whose word."""


class PlannedBlob(Message, frozen=True):
    """A blob that one run will export, as the API shows it."""

    name: str
    size_bytes: int
    """An estimate: each layer and configuration once, without the manifests and what the service adds."""
    parts: int
    artifacts: tuple[dict[str, Any], ...]
    """As :meth:`airgap.manifest.Artifact.to_json` writes them, with ``sizeBytes`` and ``platforms``."""
    portion: int | None = None
    """Which of the transfers that it is divided into has the blob, from 1."""


class PlanRefusal(Message, frozen=True):
    """A reason for which a dry run would be refused; ``reference`` is ``None`` where it is about all."""

    reference: str | None
    code: str
    detail: str


class PlanPage(Message, frozen=True):
    """A page of a plan: some of the blobs, in order, of what is left out, and of what would be refused.

    It is the document ``preview/blobs/<number>``.
    """

    blobs: tuple[PlannedBlob, ...]
    held: tuple[dict[str, Any], ...] = ()
    """As :class:`HeldArtifacts` has them."""
    refused: tuple[PlanRefusal, ...] = ()


class PlannedPortion(Message, frozen=True):
    """A transfer that an order is divided into, as the API shows it; sizes are estimates."""

    requested: int
    """References that it names."""
    artifacts: int
    blobs: int
    size_bytes: int
    parts: int


class PlanSummary(Message, frozen=True):
    """The document ``preview/summary``: what the plan comes to."""

    size_bytes: int
    parts: int
    duration_s: int
    refused: int = 0
    """Of what a dry run tells as refused, how much; the pages have it."""
    pages: int = 0
    portions: tuple[PlannedPortion, ...] = ()


class Portions(Message, frozen=True):
    """The document ``portions``: the index of the reference at which each portion of an order begins."""

    request: str
    """SHA-256 of the document that names the references."""
    starts: tuple[int, ...]


class Plan(Message, frozen=True):
    """The document ``plan``: the hex SHA-256 of the document of each batch of a transfer, in order."""

    batches: tuple[str, ...]


class ExportedBlob(Message, frozen=True):
    """A transfer blob in the state that it had when its run had ended."""

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
    """An exported blob and the size of its parts in bytes."""

    exported: ExportedBlob
    part_size_bytes: int


class Division(Message, frozen=True):
    """The document ``division``: all blobs of a transfer, each with its part size."""

    blobs: tuple[DividedBlob, ...]


LIST_REPOSITORIES = Activity("list_repositories", Selecting, Listed)
SELECT_TAGS = Activity("select_tags", Item, Selected)
GATHER_REFERENCES = Activity("gather_references", Gathering, Gathered)
RESOLVE_ARTIFACTS = Activity("resolve_artifacts", Item, Resolved)
FIND_HELD = Activity("find_held", Planning, Found)
PLAN_TRANSFER = Activity("plan_transfer", Planning, Planned)
ORDER_PORTION = Activity("order_portion", PortionOrder, Portion)
START_EXPORT_RUN = Activity("start_export_run", BlobAttempt, Started)
CONFIRM_EXPORT = Activity("confirm_export", BlobAttempt, Confirmed)
DIVIDE_BLOBS = Activity("divide_blobs", Dividing, Divided)
HASH_PARTS = Activity("hash_parts", Item, Hashed)
SEAL_BUNDLE = Activity("seal_bundle", Sealing, Sealed)
PUBLISH_BUNDLE = Activity("publish_bundle", Publishing, Sealed)
