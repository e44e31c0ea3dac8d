"""The ports in memory, and an orchestration host that runs the real steps on them.

What the host does not do is in ``local_cloud/functions_host``: replay, persistence, several threads.
"""

import hashlib
import itertools
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from airgap.signatures import Signer

os.environ.setdefault("TRANSFER_ROLE", "source")

from airgap.checks import MAX_ANSWER_BYTES, Check
from airgap.errors import Code, ServiceError, UntrustedInputError
from airgap.parts import MIN_PART_SIZE_BYTES
from airgap.pipeline_sas import SasVersion
from function_app.durable import lanes, waiting
from function_app.durable.blueprint import Activity
from function_app.durable.outcomes import run_step
from function_app.oci import Descriptor, TagState
from function_app.ports import BlobStat, Ports, SourceSide, Staged, TargetSide
from function_app.settings import SourceSettings, TargetSettings
from function_app.source import activities as source_activities
from function_app.source import orchestrators as source_orchestrators
from function_app.target import activities as target_activities
from function_app.target import orchestrators as target_orchestrators
from tests.bundles import AUDIENCE, SigningKey, default_key, make_policy, md5_of, new_key, sha256_of
from tests.function_app.memory_projection import MemoryProjection

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONTAINERS = (
    "incoming",
    "staging",
    "transfer",
    "ledger",
    "work",
    "quarantine",
    "receipts",
    "journal",
    "custody",
    "policy",
)
START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
RESOURCE_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/r"
ENVIRONMENT = {
    "TransferStorage__blobServiceUri": "https://account.blob.core.windows.net/",
    "TransferStorage__tableServiceUri": "https://account.table.core.windows.net/",
    "TransferStorage__queueServiceUri": "https://account.queue.core.windows.net/",
    "REGISTRY_LOGIN_SERVER": AUDIENCE[0],
    "REGISTRY_RESOURCE_ID": RESOURCE_ID,
    "SIGNING_KEYS": "https://vault.vault.azure.net/keys/signing",
    "EXPORT_PIPELINE": "export01",
    "IMPORT_PIPELINE": "import01",
    "CLOUD_NAME": "AzureCloud",
    "TRUST_POLICY": make_policy([default_key()], receipt_keys=[new_key()]).decode(),
    "PART_SIZE_MIB": str(MIN_PART_SIZE_BYTES // 1024**2),
    "PIPELINE_RUN_POLL_S": "15",
    "PIPELINE_RUN_TIMEOUT_S": "600",
}


@dataclass(frozen=True)
class _Blob:
    content: bytes
    etag: str
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    content_md5: str | None = None
    copied_from: tuple[str, str] | None = None
    """As the storage itself says it; only a copy has it."""


class MemoryBlobs:
    """The blob port; every write makes a new ETag."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, _Blob]] = {name: {} for name in CONTAINERS}
        self.tagged: dict[tuple[str, str], Mapping[str, str]] = {}
        """Index tags by container and name; what is written anew has none."""
        self.scanner: Callable[[str, str], Mapping[str, str]] = lambda _container, _name: {}
        """Tags that somebody sets on a blob of this container and name as soon as it is there."""
        self._writes = itertools.count(1)
        self.now = START
        """When whatever is written next is written."""
        self.read_only: set[str] = set()
        """Containers in which the app may write nothing, as far as it is asked."""
        self.copies_started = 0
        self.polls_per_copy = 0
        self._pending: dict[tuple[str, str], int] = {}

    def _etag(self) -> str:
        return f"0x{next(self._writes):X}"

    def _container(self, name: str) -> dict[str, _Blob]:
        try:
            return self.containers[name]
        except KeyError:
            raise ServiceError(Code.NOT_FOUND, f"container {name}") from None

    def upload(
        self, container: str, name: str, content: bytes, metadata: Mapping[str, str] | None = None
    ) -> None:
        """As somebody else would: with metadata and Content-MD5."""
        self._container(container)[name] = _Blob(
            content, self._etag(), self.now, metadata or {}, md5_of(content)
        )
        self.tagged.pop((container, name), None)

    def stat(self, container: str, name: str) -> BlobStat | None:
        found = self._container(container).get(name)
        if found is None:
            return None
        return BlobStat(
            name=name,
            size_bytes=len(found.content),
            etag=found.etag,
            last_modified=found.last_modified,
            content_md5=found.content_md5,
            metadata=dict(found.metadata),
        )

    def tags(self, container: str, name: str) -> Mapping[str, str] | None:
        if name not in self._container(container):
            return None
        return {**self.tagged.get((container, name), {}), **self.scanner(container, name)}

    def read(self, container: str, name: str, *, max_bytes: int, etag: str | None = None) -> bytes | None:
        found = self._container(container).get(name)
        if found is None:
            return None
        if etag not in (None, found.etag):
            raise UntrustedInputError(Code.BLOB_CHANGED, name)
        if len(found.content) > max_bytes:
            raise UntrustedInputError(Code.TOO_LARGE, name)
        return found.content

    def read_range(
        self, container: str, name: str, *, etag: str, offset_bytes: int, size_bytes: int
    ) -> Iterator[bytes]:
        end = offset_bytes + size_bytes
        for start in range(offset_bytes, end, 1024 * 1024):
            found = self._container(container).get(name)
            if found is None or found.etag != etag or end > len(found.content):
                raise UntrustedInputError(Code.BLOB_CHANGED, name)
            yield found.content[start : min(start + 1024 * 1024, end)]

    def create(self, container: str, name: str, content: bytes) -> bool:
        made = _Blob(content, self._etag(), self.now)
        return self._container(container).setdefault(name, made) is made

    def put(self, container: str, name: str, content: bytes) -> None:
        self._container(container)[name] = _Blob(content, self._etag(), self.now)
        self.tagged.pop((container, name), None)

    def require_write(self, container: str) -> None:
        self._container(container)
        if container in self.read_only:
            raise ServiceError(Code.SERVICE_DENIED, f"container {container}")

    def list_names(self, container: str, prefix: str) -> Iterator[str]:
        yield from sorted(name for name in self._container(container) if name.startswith(prefix))

    def list_page(
        self, container: str, prefix: str, *, marker: str | None, limit: int
    ) -> tuple[Sequence[str], str | None]:
        assert marker != ""
        names = [name for name in self.list_names(container, prefix) if name > (marker or "")]
        return names[:limit], names[limit - 1] if len(names) > limit else None

    def copy(
        self, source: tuple[str, str], target: tuple[str, str], *, etag: str, metadata: Mapping[str, str]
    ) -> str | None:
        present = self._container(target[0]).get(target[1])
        if present is not None and (present.copied_from, present.metadata.get("copiedfrom")) != (
            source,
            etag,
        ):
            raise ServiceError(Code.CONFLICT, target[1])
        if present is None:
            found = self._container(source[0]).get(source[1])
            if found is None or found.etag != etag:
                raise UntrustedInputError(Code.BLOB_CHANGED, source[1])
            self.copies_started += 1
            marked = {**metadata, "copiedfrom": etag}
            copied = replace(found, etag=self._etag(), metadata=marked, copied_from=source)
            self._container(target[0])[target[1]] = copied
            self.tagged.pop(target, None)
            self._pending[target] = self.polls_per_copy
        self._pending[target] -= 1
        return self._container(target[0])[target[1]].etag if self._pending[target] < 0 else None

    def set_content_md5(self, container: str, name: str, content_md5: str, *, etag: str) -> str:
        found = self._container(container).get(name)
        if found is None or found.etag != etag:
            raise UntrustedInputError(Code.BLOB_CHANGED, name)
        changed = replace(found, etag=self._etag(), content_md5=content_md5)
        self._container(container)[name] = changed
        return changed.etag

    def delete(self, container: str, name: str, *, etag: str | None = None) -> None:
        found = self._container(container).get(name)
        if found is not None and etag in (None, found.etag):
            del self._container(container)[name]

    def names(self, container: str) -> list[str]:
        return sorted(self.containers[container])

    def in_work(self) -> list[str]:
        """What lies in ``work`` but for the notes that outlast an import, since they name its runs."""
        return [name for name in self.names("work") if "/promoted/" not in name]


def blobs_of(manifest: Mapping[str, Any]) -> set[str]:
    """Digests of config and layers, of manifests that are made up for a test, too."""
    descriptors = [manifest.get("config", {}), *manifest.get("layers", []), *manifest.get("blobs", [])]
    return {one["digest"] for one in descriptors if "digest" in one}


class MemoryRegistry:
    """The registry port; ``has_referrers_api`` off makes it answer as an older registry."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.blobs: set[tuple[str, str]] = set()
        """Repository and digest of each config and layer."""
        self.asked: Counter[str] = Counter()
        """How often what was asked for."""
        self.writes: Counter[tuple[str, str]] = Counter()
        """How often each tag was written to."""
        self.written_at: dict[tuple[str, str], datetime] = {}
        """When a tag was written to first, if not at the start; each write makes it a second later."""
        self.configs: dict[str, dict[str, Any]] = {}
        """Of images, by digest."""
        self.has_referrers_api = True
        self.unlisted: set[str] = set()
        """Digests that are in no list of referrers, whatever they refer to."""
        self.is_kept = False
        """Whether nothing may be deleted."""

    def push(
        self, repository: str, manifest: Mapping[str, Any], *tags: str, media_type: str = MANIFEST_TYPE
    ) -> str:
        """Store a manifest; returns its digest."""
        content = json.dumps(manifest, sort_keys=True).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.put(repository, digest, manifest, media_type=media_type)
        for tag in tags:
            self.tags[repository, tag] = digest
            self.writes[repository, tag] += 1
        return digest

    def put(
        self, repository: str, digest: str, manifest: Mapping[str, Any], *, media_type: str = MANIFEST_TYPE
    ) -> None:
        """Store a manifest under this very digest, and the blobs that it refers to."""
        self.manifests[repository, digest] = (media_type, dict(manifest))
        self.blobs |= {(repository, blob) for blob in blobs_of(manifest)}

    def push_image(self, repository: str, *tags: str, size: int = 100, **more: Any) -> str:
        layer = {"digest": f"sha256:{'a' * 64}", "size": size, "mediaType": "layer"}
        return self.push(repository, {"layers": [layer], "tags": tags, **more}, *tags)

    def resolve(self, repository: str, reference: str) -> Descriptor | None:
        self.asked["resolve"] += 1
        digest = self.tags.get((repository, reference), reference)
        found = self.manifests.get((repository, digest))
        return None if found is None else Descriptor(digest=digest, media_type=found[0])

    def tag(self, repository: str, tag: str) -> TagState | None:
        return self._state_of(repository, tag) if (repository, tag) in self.tags else None

    def _state_of(self, repository: str, tag: str) -> TagState:
        age = timedelta(seconds=self.writes[repository, tag])
        written_at = self.written_at.get((repository, tag), START) + age
        return TagState(
            digest=self.tags[repository, tag], written_at=f"{written_at:%Y-%m-%dT%H:%M:%S}.0000000Z"
        )

    def config(self, repository: str, digest: str) -> Mapping[str, Any]:
        if digest not in self.configs:
            raise ServiceError(Code.NOT_FOUND, f"{repository}@{digest}")
        return self.configs[digest]

    def catalog(self) -> Iterator[str]:
        yield from self.repositories()

    def list_tags(self, repository: str) -> Iterator[tuple[str, TagState]]:
        for where, tag in sorted(self.tags):
            if where == repository:
                yield tag, self._state_of(repository, tag)

    def has_blob(self, repository: str, digest: str) -> bool:
        self.asked["has_blob"] += 1
        return (repository, digest) in self.blobs

    def manifest(self, repository: str, digest: str) -> Mapping[str, Any]:
        self.asked["manifest"] += 1
        if (repository, digest) not in self.manifests:
            raise ServiceError(Code.NOT_FOUND, digest)
        return self.manifests[repository, digest][1]

    def referrers(self, repository: str, digest: str) -> Sequence[Descriptor] | None:
        self.asked["referrers"] += 1
        if not self.has_referrers_api:
            return None
        return [
            Descriptor(digest=other, media_type=media_type)
            for (where, other), (media_type, manifest) in self.manifests.items()
            if where == repository
            and manifest.get("subject", {}).get("digest") == digest
            and other not in self.unlisted
        ]

    def repositories(self) -> Iterator[str]:
        yield from sorted({repository for repository, _ in self.manifests})

    def digests(self, repository: str) -> Iterator[str]:
        yield from sorted(digest for where, digest in self.manifests if where == repository)

    def delete_repository(self, repository: str) -> None:
        if self.is_kept:
            raise ServiceError(Code.SERVICE_DENIED, f"repository {repository}")
        for kept in (self.manifests, self.tags):
            for key in [key for key in kept if key[0] == repository]:
                del kept[key]
        self.blobs = {blob for blob in self.blobs if blob[0] != repository}


class MemoryImageImports:
    """The port of image imports between two registries in memory; each is done at once."""

    def __init__(self, source: MemoryRegistry, target: MemoryRegistry) -> None:
        self.source = source
        self.target = target
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []
        self.failures: list[str] = []
        """Why the next ones fail, one each."""
        self._failed: dict[str, str] = {}
        self.before: Callable[[], None] = lambda: None

    def begin(self, repository: str, digest: str, tags: Sequence[str]) -> str | None:
        self.before()
        self.asked.append((repository, digest, tuple(tags)))
        operation = f"operation {len(self.asked)}"
        if self.failures:
            self._failed[operation] = self.failures.pop(0)
        elif (repository, digest) not in self.source.manifests:
            self._failed[operation] = f"{digest} was not found"
        else:
            self._copy(repository, digest)
            for tag in tags:
                self.target.tags[repository, tag] = digest
                self.target.writes[repository, tag] += 1
        return operation

    def _copy(self, repository: str, digest: str) -> None:
        found = self.target.manifests[repository, digest] = self.source.manifests[repository, digest]
        blobs = {(repository, blob) for blob in blobs_of(found[1])}
        self.target.blobs |= blobs & self.source.blobs
        for child in found[1].get("manifests", []):
            self._copy(repository, child["digest"])

    def failure(self, operation: str) -> str | None:
        return self._failed.get(operation)


class MemoryChecks:
    """The port for checks; ``answer`` says what comes back, or raises. By default there is no answer.

    It keeps to what the port promises, whatever ``answer`` does (`tests/contract/test_checks.py`).
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Check, bytes]] = []
        self.answer: Callable[[Check, bytes], bytes | None] = lambda _check, _question: None

    def ask(self, check: Check, question: bytes) -> bytes | None:
        self.asked.append((check, question))
        answer = self.answer(check, question)
        if answer is not None and len(answer) > MAX_ANSWER_BYTES:
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"check {check.name}: {len(answer)} bytes")
        return answer


class MemoryPipelines:
    """The pipeline port; a run does its work when it is put, and is active for ``polls`` looks at it."""

    def __init__(self, work: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self.requests: dict[str, Mapping[str, Any]] = {}
        self.responses: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.polls = 1
        self.work = work
        self.pipelines: dict[tuple[str, str], dict[str, Any]] = {
            ("exportPipelines", ENVIRONMENT["EXPORT_PIPELINE"]): export_pipeline(),
            ("importPipelines", ENVIRONMENT["IMPORT_PIPELINE"]): import_pipeline(),
        }
        """ARM ``properties`` by kind and name."""
        self._putting = threading.Lock()

    def get_pipeline(self, kind: str, name: str) -> Mapping[str, Any] | None:
        return self.pipelines.get((kind, name))

    def get_run(self, name: str) -> Mapping[str, Any] | None:
        if name not in self.requests:
            return None
        self.looks[name] = self.looks.get(name, 0) + 1
        if self.looks[name] <= self.polls:
            return {"provisioningState": "Succeeded", "response": {"status": "Running"}}
        return self.responses[name]

    def put_run(self, name: str, request: Mapping[str, Any]) -> None:
        with self._putting:
            if name not in self.requests:
                self.responses[name] = self.work(request)
                self.requests[name] = request

    def delete_run(self, name: str) -> None:
        self.requests.pop(name, None)


def export_pipeline() -> dict[str, Any]:
    """ARM ``properties`` of an export pipeline at the account of :data:`ENVIRONMENT`."""
    return {
        "provisioningState": "Succeeded",
        "target": {
            "type": "AzureStorageBlobContainer",
            "uri": ENVIRONMENT["TransferStorage__blobServiceUri"] + "transfer",
            "storageAccessMode": "ManagedIdentity",
        },
        "options": ["OverwriteBlobs"],
    }


def import_pipeline(*, trigger: str = "Disabled", container: str = "transfer") -> dict[str, Any]:
    """ARM ``properties`` of an import pipeline at the account of :data:`ENVIRONMENT`."""
    return {
        "provisioningState": "Succeeded",
        "source": {
            "type": "AzureStorageBlobContainer",
            "uri": ENVIRONMENT["TransferStorage__blobServiceUri"] + container,
            "storageAccessMode": "ManagedIdentity",
        },
        "options": ["OverwriteTags"],
        "trigger": {"sourceTrigger": {"status": trigger}},
    }


def succeeded(**response: Any) -> dict[str, Any]:
    return {"provisioningState": "Succeeded", "response": {"status": "Succeeded", **response}}


def failed(message: str) -> dict[str, Any]:
    return {
        "provisioningState": "Failed",
        "response": {"status": "Failed", "pipelineRunErrorMessage": message},
    }


class MemoryTickets:
    """Signs by name only: what was allowed, where and until when."""

    def sign(
        self, container: str, allowed: Mapping[str, str], *, valid_from: datetime, expires_at: datetime
    ) -> Mapping[str, str]:
        times = f"st={valid_from:%Y-%m-%dT%H:%M:%SZ}&se={expires_at:%Y-%m-%dT%H:%M:%SZ}"
        return {
            name: f"sv=2026-10-06&{times}&spr=https&sr=b&sp={permissions}&sig={quote(container + '/' + name)}"
            for name, permissions in allowed.items()
        }


@dataclass
class MemorySas:
    """The vault secret with the SAS of the pipeline, and the clock that the vault goes by."""

    clock: Callable[[], datetime]
    versions: list[SasVersion] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    """What each version that was renewed here allows."""

    def newest(self) -> SasVersion | None:
        return self.versions[-1] if self.versions else None

    def require_key(self, *, valid_from: datetime, expires_at: datetime) -> None:
        if not valid_from < expires_at <= self.clock() + timedelta(days=7):
            raise ServiceError(Code.SERVICE_UNEXPECTED, "HTTP 400: a key lives seven days at most")

    def renew(self, permissions: str, *, valid_from: datetime, expires_at: datetime) -> None:
        self.require_key(valid_from=valid_from, expires_at=expires_at)
        now = self.clock()
        self.signed.append(permissions)
        self.versions.append(SasVersion(created_at=now, expires_at=expires_at, is_enabled=True))


@dataclass
class MemoryPoison:
    """The poison queue; ``None``: it is not there."""

    messages: list[str] | None = field(default_factory=list)

    def count(self) -> int:
        if self.messages is None:
            raise ServiceError(Code.NOT_FOUND, "no such queue")
        return len(self.messages)


@dataclass
class MemoryReceiver:
    """A receiver of events; it takes everything unless told otherwise."""

    taken: list[dict[str, Any]] = field(default_factory=list)
    """In the order in which they came, doubles too."""
    refusal: Callable[[str], Code | None] = lambda _event_id: None
    secret_is: Code | None = None
    """What is wrong with the secret."""
    tries: list[str] = field(default_factory=list)

    def deliver(self, event_id: str, event: bytes, *, at: datetime) -> None:
        assert at.tzinfo is not None
        self.tries.append(event_id)
        self.require_ready()
        if (code := self.refusal(event_id)) is not None:
            raise ServiceError(code, "not taken")
        self.taken.append(json.loads(event))

    def require_ready(self) -> None:
        if self.secret_is is not None:
            raise ServiceError(self.secret_is, "no secret")


@dataclass
class LocalKeys:
    """The signing port with keys in memory."""

    keys: Sequence[SigningKey]

    def signers(self) -> Sequence[Signer]:
        return [key.signer for key in self.keys]


@lru_cache(maxsize=8)
def _exported(artifacts: str) -> bytes:
    """What a run writes: 5 MiB, other ones for other artifacts."""
    return artifacts.encode().ljust(5 * 1024**2, b".")


def make_source(*, key: SigningKey | None = None) -> tuple[SourceSide, MemoryBlobs, MemoryRegistry]:
    """A source whose export writes a blob of 5 MiB."""
    blobs, registry = MemoryBlobs(), MemoryRegistry()

    def export(request: Mapping[str, Any]) -> dict[str, Any]:
        content = _exported(json.dumps(request["artifacts"]))
        blobs.upload("transfer", request["target"]["name"], content, {"category": "acr-transfer-blob"})
        return succeeded(catalogDigest=f"sha256:{sha256_of(content)}")

    side = SourceSide(
        settings=SourceSettings.from_environment(ENVIRONMENT),
        blobs=blobs,
        projection=MemoryProjection(),
        registry=registry,
        pipelines=MemoryPipelines(export),
        signing=LocalKeys([key or default_key()]),
        tickets=MemoryTickets(),
        poison=MemoryPoison(),
    )
    return side, blobs, registry


STAGING = {
    "STAGING_REGISTRY_LOGIN_SERVER": "staging.azurecr.example",
    "STAGING_REGISTRY_RESOURCE_ID": f"{RESOURCE_ID}staging",
}


def make_target(
    policy_json: bytes, *, key: SigningKey | None = None, is_staged: bool = False
) -> tuple[TargetSide, MemoryBlobs]:
    """A target whose import does nothing but succeed; its registry is a :class:`MemoryRegistry`."""
    blobs = MemoryBlobs()
    pipelines = MemoryPipelines(lambda _: succeeded())
    environment = ENVIRONMENT | {"TRUST_POLICY": policy_json.decode()} | (STAGING if is_staged else {})
    registry, staging = MemoryRegistry(), MemoryRegistry()
    staged = Staged(registry=staging, imports=MemoryImageImports(staging, registry))
    side = TargetSide(
        settings=TargetSettings.from_environment(environment),
        staged=staged if is_staged else None,
        blobs=blobs,
        projection=MemoryProjection(),
        registry=registry,
        pipelines=pipelines,
        signing=LocalKeys([key or new_key()]),
        tickets=MemoryTickets(),
        poison=MemoryPoison(),
        checks=MemoryChecks(),
    )
    return side, blobs


STEPS: Mapping[str, tuple[Activity[Any, Any], Callable[[Any, Any], Any]]] = {
    activity.name: (activity, step)
    for table in (source_activities.STEPS, target_activities.STEPS)
    for activity, step in table.items()
}
FLOWS: Mapping[str, Callable[[Any], Any]] = {
    name: getattr(module, name)._function.get_user_function().orchestrator_function
    for module, names in (
        (waiting, ("await_outcome",)),
        (lanes, ("run_lane",)),
        (source_orchestrators, ("export_transfer", "export_portion", "export_blob")),
        (target_orchestrators, ("import_bundle", "import_blob", "close_import")),
    )
    for name in names
}
_MAX_PAYLOAD_BYTES = 64 * 1024


class Host:
    """Runs orchestrations on ports; each activity twice, as may happen, and with JSON in between.

    ``before`` maps an activity's name to what happens just before its first run: how tests interfere.
    ``broken`` maps it to how many more times it raises a transient error.
    """

    def __init__(self, side: Ports, *, start: datetime = START) -> None:
        self.side = side
        self.now = start
        self.before: dict[str, Callable[[], object]] = {}
        self.broken: dict[str, int] = {}
        self.called: list[str] = []

    def run(self, name: str, order: Mapping[str, Any], instance_id: str = "instance1") -> dict[str, Any]:
        current = dict(order)
        for _ in range(10_000):
            context = _Context(self, current, instance_id)
            end = self._generation(name, context)
            if context.next_input is None:
                return json.loads(small_json(end))  # type: ignore[no-any-return]  # an outcome
            current = context.next_input
        raise AssertionError(f"{name} continues as new for ever")

    def _generation(self, name: str, context: "_Context") -> Any:
        flow = FLOWS[name](context)
        result, error = None, None
        while True:
            try:
                awaited = flow.throw(error) if error else flow.send(result)
            except StopIteration as end:
                return end.value
            try:
                result, error = awaited(), None
            except Exception as failure:  # noqa: BLE001 - as the Durable SDK: whatever it was, thrown in
                error = failure

    def activity(self, name: str, attempts: int, order: Any) -> Any:
        self.called.append(name)
        self.before.pop(name, lambda: None)()
        activity, step = STEPS[name]
        for _ in range(attempts):
            if self.broken.get(name, 0):
                self.broken[name] -= 1
                continue
            wire = json.loads(small_json(order))
            run_step(step, lambda: self.side, activity.order, wire)
            return json.loads(small_json(run_step(step, lambda: self.side, activity.order, wire)))
        raise Exception(  # noqa: TRY002 - what the SDK raises
            f"Activity function '{name}' failed:  ServiceError: SERVICE_UNREACHABLE: blob storage\n at …"
        )


def small_json(value: Any) -> str:
    """What travels through a history, and must stay small there."""
    text = json.dumps(value)
    assert len(text) <= _MAX_PAYLOAD_BYTES
    return text


class _Context:
    def __init__(self, host: Host, order: dict[str, Any], instance_id: str) -> None:
        self._host = host
        self._order = order
        self.instance_id = instance_id
        self.next_input: dict[str, Any] | None = None

    @property
    def current_utc_datetime(self) -> datetime:
        return self._host.now

    def get_input(self) -> dict[str, Any]:
        return dict(self._order)

    def continue_as_new(self, order: dict[str, Any]) -> None:
        self.next_input = json.loads(small_json(order))

    def set_custom_status(self, status: Any) -> None:
        assert len(json.dumps(status)) < 8 * 1024

    def call_activity_with_retry(self, name: str, retry: Any, order: Any) -> Callable[[], Any]:
        return lambda: self._host.activity(name, retry.max_number_of_attempts, order)

    def call_sub_orchestrator(
        self, name: str, order: Any, instance_id: str | None = None
    ) -> Callable[[], Any]:
        wire = json.loads(small_json(order))
        return lambda: self._host.run(name, wire, instance_id or f"{self.instance_id}:{name}")

    def task_all(self, tasks: Sequence[Callable[[], Any]]) -> Callable[[], list[Any]]:
        assert 1 <= len(tasks) <= 8  # the SDK answers for no tasks with None
        return lambda: [task() for task in tasks]

    def create_timer(self, fire_at: datetime) -> Callable[[], None]:
        def fire() -> None:
            assert timedelta() < fire_at - self._host.now <= timedelta(hours=1)
            self._host.now = fire_at

        return fire
