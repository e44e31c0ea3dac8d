"""The ports: what the app needs of a cloud, each with its contract.

Every port raises :class:`~airgap.errors.ServiceError` and nothing of an SDK's own. A code whose
``is_retryable`` is true may succeed when the same call is made again; any other is permanent. All calls
block, are safe from several threads, and may be made more than once for the same thing: an activity is
delivered at least once.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from airgap.checks import Check
from airgap.pipeline_sas import SasVersion
from airgap.signatures import Signer
from airgap.states import Kind, State
from function_app.oci import Descriptor, TagState
from function_app.settings import Settings, SourceSettings, TargetSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobStat:
    """The properties of a blob; ``etag`` is without quotes and changes with every write.

    ``last_modified`` is the time of the last write, aware, in whole seconds of the storage's clock.
    """

    name: str
    size_bytes: int
    etag: str
    last_modified: datetime
    content_md5: str | None
    """Base64, as in the ``Content-MD5`` header."""
    metadata: Mapping[str, str] = field(default_factory=dict)


class BlobStore(Hashable, Protocol):
    """The port to the block blobs of one storage account.

    A container that does not exist is always raised as ``NOT_FOUND``.
    """

    def stat(self, container: str, name: str) -> BlobStat | None:
        """The properties and metadata of a blob; ``None`` if there is no such blob."""

    def read(self, container: str, name: str, *, max_bytes: int, etag: str | None = None) -> bytes | None:
        """The whole content of a blob; ``None`` if there is no such blob.

        Raises:
            UntrustedInputError: ``TOO_LARGE`` beyond ``max_bytes`` (no more than 1 MiB of it is fetched);
                ``BLOB_CHANGED`` if its ETag is, or becomes while reading, another than ``etag``.
            ServiceError: ``SERVICE_THROTTLED`` if no ``etag`` is given and somebody writes again and again.
        """

    def read_range(
        self, container: str, name: str, *, etag: str, offset_bytes: int, size_bytes: int
    ) -> Iterator[bytes]:
        """All bytes of a range, in pieces of at most 1 MiB, of exactly this version of the blob.

        Nothing else is read of the blob, and no byte twice but where a connection broke.

        Raises:
            UntrustedInputError: ``BLOB_CHANGED`` if the ETag is another, or the blob is gone, or ends before
                the range does; also in the middle of the iteration.
        """

    def create(self, container: str, name: str, content: bytes) -> bool:
        """Write a new blob, atomically; returns whether it was written.

        If there is a blob of that name nothing is written, and the answer is ``False``.
        """

    def put(self, container: str, name: str, content: bytes) -> None:
        """Write a blob, atomically, whatever was there before."""

    def require_write(self, container: str) -> None:
        """Refuse a container to which new blobs must not be written; nothing is written to find that out.

        Raises:
            ServiceError: ``SERVICE_DENIED``: they must not.
        """

    def list_names(self, container: str, prefix: str) -> Iterator[str]:
        """The names of the blobs that begin with ``prefix``, in ascending order, listed page by page."""

    def list_page(
        self, container: str, prefix: str, *, marker: str | None, limit: int
    ) -> tuple[Sequence[str], str | None]:
        """Up to ``limit`` names (1 to 5000) that begin with ``prefix``, in ascending order.

        Args:
            container: the container that is listed.
            prefix: the beginning of the names.
            marker: the marker that the page before ended with; ``None`` for the first.
            limit: how many names; there may be fewer, and even none, though more follow.

        Returns:
            The names, and the marker of the page after; ``None`` after the last.
        """

    def copy(
        self, source: tuple[str, str], target: tuple[str, str], *, etag: str, metadata: Mapping[str, str]
    ) -> str | None:
        """Have the storage copy a blob within the account, with ``metadata`` in place of the source's.

        The first call starts the copy; a call while it is under way, or after it, does not start another.
        The target is complete, with the source's Content-MD5, once a call has returned its ETag. Nothing is
        ever replaced, and nothing is taken for the copy that the storage did not make from this source.

        Args:
            source: container and name.
            target: container and name.
            etag: the ETag that the source must have.
            metadata: the metadata that the target gets; a mark of the app is added.

        Returns:
            The target's ETag, in the state in which it was found complete; ``None`` while the storage is
            still copying.

        Raises:
            UntrustedInputError: ``BLOB_CHANGED`` if the source has another ETag or is gone.
            ServiceError: ``CONFLICT`` if something else lies under the target's name, or the source is one
                that cannot be read, such as an archived one.
        """

    def tags(self, container: str, name: str) -> Mapping[str, str] | None:
        """The index tags of a blob as it is now; ``None`` if there is no such blob.

        Writing them changes no ETag. A copy has none of its source's, and what is written anew has none.
        """

    def set_content_md5(self, container: str, name: str, content_md5: str, *, etag: str) -> str:
        """Set the ``Content-MD5`` property (base64) of a blob in the state ``etag``; returns its new ETag.

        Raises:
            UntrustedInputError: ``BLOB_CHANGED`` if it has another ETag or is gone.
        """

    def delete(self, container: str, name: str, *, etag: str | None = None) -> None:
        """Delete a blob with its snapshots; nothing happens if it is gone, or has another ETag than ``etag``.

        A lease that somebody holds on it is broken.

        Raises:
            ServiceError: ``CONFLICT``: it was leased anew meanwhile, or the storage does not let it be
                deleted.
        """


class RegistryReader(Protocol):
    """The port to manifests and tags of one container registry, which is only read."""

    def resolve(self, repository: str, reference: str) -> Descriptor | None:
        """The manifest that a tag or digest stands for now; ``None`` if the registry does not have it."""

    def tag(self, repository: str, tag: str) -> TagState | None:
        """The state of a tag now, which changes with every write to it; ``None`` if there is no such tag."""

    def manifest(self, repository: str, digest: str) -> Mapping[str, Any]:
        """The manifest or index of that digest, at most 4 MiB, its bytes checked against the digest.

        Raises:
            ServiceError: ``NOT_FOUND``: there is none; ``SERVICE_UNEXPECTED``: the bytes have another digest
                or are no JSON object.
        """

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the repository has a blob, such as a layer, of that digest; its bytes are not fetched."""

    def config(self, repository: str, digest: str) -> Mapping[str, Any]:
        """The configuration of an image, at most 4 MiB, its bytes checked against the digest.

        Raises:
            ServiceError: as for :meth:`manifest`.
        """

    def referrers(self, repository: str, digest: str) -> Sequence[Descriptor] | None:
        """The manifests that refer to ``digest`` by their ``subject``; ``None`` without a referrers API.

        Raises:
            ServiceError: ``SERVICE_UNEXPECTED``: there are more than 10,000.
        """

    def catalog(self) -> Iterator[str]:
        """The names of all repositories, page by page; also of those that are empty by now."""

    def list_tags(self, repository: str) -> Iterator[tuple[str, TagState]]:
        """Every tag of a repository and its state, page by page; none if there is no such repository."""


class StagingRegistry(RegistryReader, Protocol):
    """The port to a registry of the app's own, into which imports are brought first, and then removed."""

    def repositories(self) -> Iterator[str]:
        """The names of all repositories in which there is a manifest, page by page."""

    def digests(self, repository: str) -> Iterator[str]:
        """The digests of all manifests of a repository, tagged or not, page by page; none if unknown."""

    def delete_repository(self, repository: str) -> None:
        """Delete a repository with all its manifests and tags; nothing happens if there is none."""


class ImageImports(Protocol):
    """The port to the service's copying of artifacts from the staging registry into the real one.

    Artifacts are named by digest. Each comes with all that it consists of: of an index every child, of a
    manifest config and layers. Its referrers do not come along.
    """

    def begin(self, repository: str, digest: str, tags: Sequence[str]) -> str | None:
        """Start to copy an artifact to the repository of the same name.

        Args:
            repository: the repository, which has the same name in both registries.
            digest: the digest of the manifest.
            tags: the tags that shall point to it in the real registry, wherever they point now; without any,
                no tag is set or moved.

        Returns:
            The id of the copying for :meth:`failure`; ``None`` if it was done at once.

        Raises:
            ServiceError: ``IMAGE_IMPORT_FAILED``: the service refuses the request itself.
        """

    def failure(self, operation: str) -> str | None:
        """The reason why a copying failed; ``None`` if it goes on, is done, or is no longer known.

        Whether it is done is to be seen in the registry.
        """


class PipelineService(Protocol):
    """The port to ACR Transfer: pipeline runs, by their names, and the pipelines that they belong to."""

    def get_pipeline(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """The ARM ``properties`` of a pipeline; ``None`` if there is none.

        Args:
            kind: ``exportPipelines`` or ``importPipelines``.
            name: the name of the pipeline.
        """

    def get_run(self, name: str) -> Mapping[str, Any] | None:
        """The run's ARM ``properties``; ``None`` if there is no such run."""

    def put_run(self, name: str, request: Mapping[str, Any]) -> None:
        """Start a run; do nothing if one of this name exists, whatever it was asked for.

        Raises:
            ServiceError: ``PIPELINE_RUN_FAILED``: the service refuses the request itself.
        """

    def delete_run(self, name: str) -> None:
        """Delete the record of a run; nothing happens if there is none. What the run has done stays."""


class Checks(Protocol):
    """The port to services of the target's own that look at a verified bundle before it is imported."""

    def ask(self, check: Check, question: bytes) -> bytes | None:
        """Ask a check, as the app; the same question may be asked any number of times.

        Args:
            check: the check, with its URL and the audience of the token.
            question: the bytes of :meth:`airgap.checks.CheckQuestion.to_bytes`.

        Returns:
            The answer, at most 128 KiB and not looked into; ``None`` while the check does not know yet.

        Raises:
            ServiceError: it gave no answer; whatever the code, it may give one later.
        """


class TicketSigner(Protocol):
    """The port that signs rights to single blobs, as an identity that may do no more than a ticket may."""

    def sign(
        self,
        container: str,
        allowed: Mapping[str, str],
        *,
        valid_from: datetime,
        expires_at: datetime,
    ) -> Mapping[str, str]:
        """Sign a SAS for each of the blobs, for HTTPS only.

        Args:
            container: the container that the blobs are in, or will be.
            allowed: the permissions by blob name: ``r`` to read, ``c`` to create what is not there, ``w`` to
                write.
            valid_from: when the SAS begins to count; aware, in whole seconds.
            expires_at: when it ends, likewise; at most seven days ahead.

        Returns:
            The SAS of each blob, without a leading ``?``, by blob name.

        Raises:
            ServiceError: there is no key to sign with: ``SERVICE_DENIED`` if the identity gets none.
            OperatorError: ``SETTING_INVALID``: there is no such identity.
        """


class PipelineSas(Protocol):
    """The port to the vault secret with the SAS by which this side's pipeline comes to the storage.

    A SAS is signed and put there in one step, and never leaves the adapter.
    """

    def newest(self) -> SasVersion | None:
        """The newest version of the secret, without its value; ``None`` if there is no secret.

        Raises:
            ServiceError: the vault cannot be asked now; ``SERVICE_DENIED``: the identity may not see it.
        """

    def require_key(self, *, valid_from: datetime, expires_at: datetime) -> None:
        """Ask the storage for a key that a SAS of that time could be signed with; nothing is signed.

        Whoever signs must be let into the container, too: a SAS never opens more.

        Raises:
            ServiceError: the container is closed to the identity, or there is no such key:
                ``SERVICE_DENIED`` if it may not.
        """

    def renew(self, permissions: str, *, valid_from: datetime, expires_at: datetime) -> None:
        """Sign a SAS for the container ``transfer``, for HTTPS only, and make it the secret's newest version.

        Versions and SAS of before stay as they are, so that doing it twice does no harm. A SAS that opens
        nothing does not come in the place of a good one: who signs it must be let into the container.

        Args:
            permissions: what the SAS allows, such as ``rl``, in the order in which Azure wants the letters.
            valid_from: when the SAS begins to count; aware, in whole seconds.
            expires_at: when the SAS, and with it the version, ends; likewise, at most seven days ahead.

        Raises:
            ServiceError: the container is closed to who signs, there is no key to sign with, or the vault
                does not take the version; then the newest version is the one of before.
                ``SERVICE_DENIED`` if the identity may not.
        """


class PoisonQueue(Protocol):
    """The port to the queue in which the host puts aside the blobs that a trigger has failed on."""

    def count(self) -> int:
        """The number of messages in the queue, approximately: the storage counts no more exactly.

        Raises:
            ServiceError: ``NOT_FOUND``: there is no such queue.
        """


class EventReceiver(Protocol):
    """A receiver outside, which is told of changes of state."""

    def deliver(self, event_id: str, event: bytes, *, at: datetime) -> None:
        """Hand over one event; it was taken when this returns, and may come again.

        Args:
            event_id: the same whenever it is handed over; printable ASCII without dots.
            event: a CloudEvent in JSON.
            at: the time of this try, aware, which the signature covers.

        Raises:
            ServiceError: it was not taken, or could not be signed: whatever the code, it may be later.
        """

    def require_ready(self) -> None:
        """Make sure that events can be signed; the receiver is not asked.

        Raises:
            ServiceError: ``SERVICE_DENIED`` without the permission to read the secret, ``NOT_FOUND`` if there
                is none, ``SIGNING_FAILED`` if it is none to sign with.
        """


class SigningKeys(Protocol):
    """The port to the private keys with which this side signs."""

    def signers(self) -> Sequence[Signer]:
        """A signer for each configured key, in order; looked up anew, so that a rotated key is seen.

        A signer's ``sign`` raises a ServiceError when the vault does not sign: ``SERVICE_DENIED`` without the
        permission, ``SIGNING_FAILED`` when it refuses the request itself.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """A line of a list: where a transfer or an import stands.

    Args:
        kind: whether it is a transfer or an import.
        about: the id of the transfer, or of the import's orchestration.
        number: the number of the journal entry that the row was made from.
        state: the state that this entry tells.
        channel: the channel, if it is known.
        code: the name of the error code that ended it, if one did.
        detail: the words of that error.
        requested: how many references were ordered; for transfers only.
        artifacts: how many artifacts they are with all that refers to them, once that is known.
        blobs: how many transfer blobs these travel in, likewise.
        created_at: the time of the first entry, aware, in whole seconds.
        updated_at: the time of the entry that the row was made from, likewise.
    """

    kind: Kind
    about: str
    number: int
    state: State
    channel: str | None
    code: str | None
    detail: str | None
    requested: int | None
    artifacts: int | None
    blobs: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """A filter of rows: wanted are those for which all holds that is not ``None``."""

    state: State | None = None
    channel: str | None = None
    created_from: datetime | None = None
    """This second and later."""
    created_before: datetime | None = None
    """Earlier than this second."""


class Projection(Protocol):
    """The port to the journal's lists, which can be filtered and paged; nothing is decided by them.

    They are made from the journal alone, may be behind it, or empty, and can be rebuilt at any time. There is
    one row for each journal.
    """

    def put(self, row: JournalRow) -> int:
        """Write a row, unless the row that is there was made from a later entry.

        Atomic: of two writers at once, the one with the later entry prevails.

        Returns:
            The number of the entry that the row is made from now: ``row.number``, or a higher one.

        Raises:
            ServiceError: ``SERVICE_THROTTLED``: others write the same row all the time.
        """

    def page(
        self, kind: Kind, *, where: RowFilter, limit: int, token: str | None = None
    ) -> tuple[Sequence[JournalRow], str | None]:
        """The rows of a page, newest first by creation time, and those of one second in order of their ids.

        Args:
            kind: whether transfers or imports are wanted.
            where: the filter for which of them.
            limit: the most rows, 1 to 1000. There may be fewer, and even none, though more follow.
            token: the token that the page before ended with; ``None`` for the first page.

        Returns:
            The rows, and the token of the page after: printable ASCII, opaque; ``None`` after the last page.

        Raises:
            OperatorError: ``REQUEST_INVALID``: ``token`` is not one that a page ended with.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The settings and ports that both sides have."""

    settings: Settings

    blobs: BlobStore
    projection: Projection
    registry: RegistryReader
    pipelines: PipelineService
    signing: SigningKeys
    tickets: TicketSigner
    poison: PoisonQueue
    events: EventReceiver | None = None
    """``None``: nobody outside is told of changes of state."""
    pipeline_sas: PipelineSas | None = None
    """``None``: the pipeline comes by its identity, or by a SAS that the app does not renew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSide(Ports):
    """The settings and ports of the source."""

    settings: SourceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The ports that a target has besides where imports are staged."""

    registry: StagingRegistry
    imports: ImageImports


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSide(Ports):
    """The settings and ports of the target.

    Where imports are staged, ``pipelines`` are those of the staging registry; ``registry`` is the real one.
    """

    settings: TargetSettings
    checks: Checks
    staged: Staged | None = None
    """``None``: the pipeline imports into the real registry at once."""
