"""The runs as the service carries them out: blocking work, each run in a thread of its own."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from local_cloud.acr_transfer import layout
from local_cloud.acr_transfer.behaviour import Behaviour
from local_cloud.acr_transfer.content import contents_of
from local_cloud.acr_transfer.errors import RunCancelled, RunError
from local_cloud.acr_transfer.layout import Descriptor, LayoutReader
from local_cloud.acr_transfer.registry_client import RegistryClient
from local_cloud.acr_transfer.resources import Reference
from local_cloud.acr_transfer.storage import PipelineStorage

RunStatus = Literal["Running", "Succeeded", "Failed"]
_DELAY_STEPS = 10
_MAX_MESSAGE_CHARS = 4000


@dataclass(slots=True, kw_only=True)
class Progress:
    """The progress of a run, which its thread writes and requests read: by single assignments only."""

    status: RunStatus = "Running"
    percentage: int = 0
    catalog_digest: str | None = None
    imported: tuple[str, ...] = ()
    error_message: str | None = None
    finished_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order for a run, taken from its request and its pipeline when it was created."""

    is_export: bool
    artifacts: tuple[str, ...]
    blob_name: str
    options: frozenset[str]
    expected_catalog_digest: str | None


@dataclass(slots=True, kw_only=True)
class Execution:
    """The carrying out of one run."""

    order: Order
    behaviour: Behaviour
    registry: Callable[[], RegistryClient]
    storage: Callable[[], PipelineStorage]
    progress: Progress
    closing: threading.Event
    clock: Callable[[], float]
    _failures: list[str] = field(default_factory=list)

    def carry_out(self) -> None:
        """Carry the run out; ``progress`` holds the outcome. Raises nothing but RunCancelled."""
        try:
            self._delay()
            with self.registry() as registry:
                if self.order.is_export:
                    self._export(registry, self.storage())
                else:
                    self._import(registry, self.storage())
        except RunError as error:
            self.fail(str(error))

    def _export(self, registry: RegistryClient, storage: PipelineStorage) -> None:
        export = _Export(registry, self)
        written, digest = storage.upload(
            self.order.blob_name, export.tar(), overwrites="OverwriteBlobs" in self.order.options
        )
        if not written and self.behaviour.existing_blob == "fail":
            raise RunError(f"The blob {self.order.blob_name} exists and OverwriteBlobs is not set")
        self.progress.catalog_digest = digest
        self._finish(self._outcome(len(export.exported)))

    def _import(self, registry: RegistryClient, storage: PipelineStorage) -> None:
        with tempfile.TemporaryFile() as spool:
            digest = storage.download(self.order.blob_name, spool, self.checkpoint)
            self.progress.catalog_digest = digest
            expected = self.order.expected_catalog_digest
            if self.behaviour.checks_catalog_digest and expected not in (None, digest):
                raise RunError(f"catalogDigest is {expected}, the blob has {digest}")
            reader = LayoutReader(spool, max_blob_bytes=self.behaviour.max_layer_bytes)
            _Import(registry, reader, self).push_all()
        outcome = self._outcome(len(self.progress.imported))
        if (
            outcome == "Succeeded"
            and not self._failures
            and "DeleteSourceBlobOnSuccess" in self.order.options
        ):
            with suppress(RunError):  # documented as "the blob is not deleted", not as a failed run
                storage.delete(self.order.blob_name)
        self._finish(outcome)

    def fail(self, message: str) -> None:
        """End the run as failed, with ``message`` as the reason."""
        self._failures.append(message)
        self._finish("Failed")

    def checkpoint(self) -> None:
        """Raise RunCancelled once the emulator is being closed."""
        if self.closing.is_set():
            raise RunCancelled

    def show(self, done: int, total: int) -> None:
        """Show progress in percent; it never goes back, and 100 is kept for the end."""
        self.progress.percentage = max(self.progress.percentage, min(99, 100 * done // max(total, 1)))

    def tolerate(self, error: RunError, reference: str) -> None:
        """Note that one artifact failed, and raise the error unless the run is to go on."""
        if "ContinueOnErrors" not in self.order.options:
            raise error
        self._failures.append(f"{reference}: {error}")

    def _outcome(self, done: int) -> RunStatus:
        if not self._failures:
            return "Succeeded"
        return self.behaviour.partial_result if done else "Failed"

    def _finish(self, status: RunStatus) -> None:
        if self._failures:
            self.progress.error_message = "; ".join(self._failures)[:_MAX_MESSAGE_CHARS]
        if status == "Succeeded":
            self.progress.percentage = 100
        self.progress.finished_s = self.clock()
        self.progress.status = status  # last: whoever sees it sees the rest

    def _delay(self) -> None:
        for step in range(_DELAY_STEPS if self.behaviour.run_delay_s else 0):
            self.show(step, _DELAY_STEPS)
            if self.closing.wait(self.behaviour.run_delay_s / _DELAY_STEPS):
                raise RunCancelled


class _Export:
    def __init__(self, registry: RegistryClient, execution: Execution) -> None:
        self._registry = registry
        self._execution = execution
        self._written: set[str] = set()
        self.exported: list[tuple[str, Descriptor]] = []

    def tar(self) -> Iterator[bytes]:
        """Yield the transfer blob; what is exported is known after the last byte."""
        yield from layout.opening()
        references = self._execution.order.artifacts
        for index, text in enumerate(references):
            self._execution.show(index, len(references))
            try:
                for reference, top in self._resolve(Reference.parse(text)):
                    yield from self._artifact(reference.repository, top)
                    self.exported.append((str(reference), top))
            except _SkippableError as error:
                self._execution.tolerate(RunError(str(error)), text)
        if references and not self.exported:
            raise RunError("none of the artifacts could be exported")
        yield from layout.closing(self.exported)

    def _resolve(self, reference: Reference) -> list[tuple[Reference, Descriptor]]:
        with _skippable():
            top = self._registry.resolve(reference.repository, reference.digest or reference.tag or "")
            if top is None:
                raise RunError(f"{reference} was not found in the registry")
            found = [(reference, top)]
            if self._execution.behaviour.carries_referrers:
                found += self._referrers(reference.repository, top.digest)
            return found

    def _referrers(self, repository: str, digest: str) -> list[tuple[Reference, Descriptor]]:
        return [
            (Reference(repository, None, each.digest), each)
            for each in self._registry.referrers(repository, digest)
        ]

    def _artifact(self, repository: str, top: Descriptor) -> Iterator[bytes]:
        with _skippable():
            contents = contents_of(top, lambda each: self._registry.manifest(repository, each))
            self._check_sizes(contents.blobs)
        for blob in contents.blobs:
            if blob.digest in self._written:
                continue
            with (
                _skippable()
            ):  # a blob that cannot be opened costs one artifact; one that breaks off, the run
                pieces = self._registry.open_blob(repository, blob, self._execution.checkpoint)
            yield from layout.blob_member(blob, pieces)
            self._written.add(blob.digest)
        for manifest in contents.manifests:
            if manifest.digest in self._written:
                continue
            with _skippable():
                content = self._registry.manifest(repository, manifest)
            yield from layout.blob_member(manifest, [content])
            self._written.add(manifest.digest)

    def _check_sizes(self, blobs: tuple[Descriptor, ...]) -> None:
        limit = self._execution.behaviour.max_layer_bytes
        for blob in blobs:
            if blob.size > limit:
                raise RunError(
                    f"layer {blob.digest} has {blob.size} bytes; at most {limit} can be transferred"
                )


class _Import:
    def __init__(self, registry: RegistryClient, reader: LayoutReader, execution: Execution) -> None:
        self._registry = registry
        self._reader = reader
        self._execution = execution

    def push_all(self) -> None:
        """Push every artifact of the blob, in its order."""
        artifacts = self._reader.artifacts()
        for index, (text, top) in enumerate(artifacts):
            self._execution.show(index, len(artifacts))
            try:
                if self._push(_reference(text, top), top):
                    self._execution.progress.imported += (text,)
            except RunError as error:
                self._execution.tolerate(error, text)

    def _push(self, reference: Reference, top: Descriptor) -> bool:
        repository = reference.repository
        if reference.tag and not self._may_set(reference, top):
            return False
        contents = contents_of(top, self._reader.manifest)
        for blob in contents.blobs:
            if not self._registry.has_blob(repository, blob.digest):
                pieces = self._reader.blob(blob, self._execution.checkpoint)
                self._registry.push_blob(repository, blob, pieces)
        for manifest in contents.manifests:
            tag = reference.tag if manifest is contents.manifests[-1] else None
            content = self._reader.manifest(manifest)
            self._registry.push_manifest(repository, tag or manifest.digest, manifest, content)
        return True

    def _may_set(self, reference: Reference, top: Descriptor) -> bool:
        if "OverwriteTags" in self._execution.order.options:
            return True
        there = self._registry.resolve(reference.repository, reference.tag or "")
        if there is None or there.digest == top.digest:
            return True
        if self._execution.behaviour.existing_tag == "skip":
            return False
        raise RunError(f"the tag {reference} exists and OverwriteTags is not set")


class _SkippableError(Exception):
    """An artifact cannot be exported, and nothing of it is half written."""


@contextmanager
def _skippable() -> Iterator[None]:
    try:
        yield
    except RunError as error:
        raise _SkippableError(str(error)) from None


def _reference(text: str, top: Descriptor) -> Reference:
    try:
        reference = Reference.parse(text)
    except ValueError as error:
        raise RunError(str(error)) from None
    if reference.digest not in (None, top.digest):
        raise RunError(f"index.json names {text[:300]} for {top.digest}")
    return reference
