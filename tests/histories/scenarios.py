"""Sides in memory to which something happens for days, and the orders that start their orchestrations."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airgap.checks import Finding
from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.manifest import ENVELOPE_NAME, Artifact
from airgap.parts import MIN_PART_SIZE_BYTES, blob_name, plan_parts
from airgap.signatures import Signer
from airgap.signed_check import CheckStatement
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.oci import Descriptor
from function_app.ports import BlobStat, Ports, SourceSide, TargetSide
from function_app.source.planning import REQUEST
from function_app.source.wire import RequestDocument, TransferOrder
from function_app.storage.work_folder import WorkFolder, digest_of
from function_app.target.wire import ImportOrder
from tests.bundles import AUDIENCE, CHANNEL, Bundle, fixed_key, make_bundle, make_policy
from tests.function_app.memory import (
    ENVIRONMENT,
    START,
    LocalKeys,
    MemoryBlobs,
    MemoryPipelines,
    MemoryRegistry,
    make_source,
    make_target,
)
from tests.histories.harness import Clock, Played, Start, Tap, play, unseen

DAY = timedelta(days=1)
TRANSFER_ID = "0123456789abcdef0123456789abcdef"


SOURCE_KEY, RECEIPT_KEY, UNKNOWN_KEY = map(fixed_key, (1, 2, 3))
OFFICER_KEY, SCANNER_KEY = map(fixed_key, (4, 5))
POLICY = make_policy([SOURCE_KEY], receipt_keys=[RECEIPT_KEY], order="rising")
SCAN = json.dumps([{"name": "scan", "url": "https://scanner.example/check", "scope": "api://scanner"}])
"""The setting ``CHECKS``."""


def _guarded() -> bytes:
    """A policy by which a scanner must sign what it says, and an officer release each bundle."""
    keys = [SOURCE_KEY]
    policy = json.loads(
        make_policy(keys, receipt_keys=[RECEIPT_KEY], release_keys=[OFFICER_KEY], order="rising")
    )
    policy["keys"].append({"holder": "scanner", "publicKey": SCANNER_KEY.public_pem})
    policy["channels"][CHANNEL]["checkRoles"] = {"scan": {"threshold": 1, "keyids": [SCANNER_KEY.keyid]}}
    return json.dumps(policy).encode()


GUARDED = _guarded()


def signed_answer(question: bytes) -> bytes:
    """What the scanner says: it has no objection."""
    asked = json.loads(question)
    finding = Finding(
        manifest_sha256=asked["manifestDigest"].removeprefix("sha256:"),
        blobs=tuple((one["name"], one["etag"]) for one in asked["blobs"]),
        verdict="pass",
        detail="",
        scanner="tests 1",
    )
    statement = CheckStatement(check=asked["check"], import_id=asked["importId"], finding=finding)
    return Envelope.sign(statement.to_bytes(), [SCANNER_KEY.signer]).to_bytes()


@dataclass(frozen=True, slots=True)
class Outage:
    """Something does not answer until ``end``."""

    clock: Clock
    end: datetime = START

    @property
    def is_over(self) -> bool:
        """Whether it answers again."""
        return self.clock.now >= self.end

    def require_over(self) -> None:
        """Nothing, once it answers again.

        Raises:
            ServiceError: ``SERVICE_UNREACHABLE`` before.
        """
        if not self.is_over:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "away")


@dataclass
class Vault(LocalKeys):
    """The signing port; the vault is away for some time."""

    outage: Outage

    def signers(self) -> Sequence[Signer]:
        self.outage.require_over()
        return super().signers()


class LongRuns(MemoryPipelines):
    """The pipeline port; every run goes on until a moment of the clock."""

    def __init__(self, work: Callable[[Mapping[str, Any]], dict[str, Any]], until: Outage) -> None:
        super().__init__(work)
        self._until = until

    def get_run(self, name: str) -> Mapping[str, Any] | None:
        if name in self.requests and not self._until.is_over:
            return {"provisioningState": "Succeeded", "response": {"status": "Running"}}
        return super().get_run(name)


class LonelyImages(MemoryRegistry):
    """A registry of many images to which nothing refers; finding that out takes no search."""

    def referrers(self, repository: str, digest: str) -> Sequence[Descriptor] | None:  # noqa: ARG002 - the port's
        return ()


class HugeBlobs(MemoryBlobs):
    """The blob port; transfer blobs say that they are huge, and no byte of them can be read."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self._size_bytes = size_bytes

    def stat(self, container: str, name: str) -> BlobStat | None:
        found = super().stat(container, name)
        is_huge = container in {"transfer", "incoming", "staging"} and name[-3:].isdigit()
        return replace(found, size_bytes=self._size_bytes) if found and is_huge else found


def new_source(**ports: Any) -> SourceSide:
    """A source that signs with ``SOURCE_KEY``; ``ports`` in place of those that it has."""
    side, _, _ = make_source(key=SOURCE_KEY)
    return replace(side, **ports)


def new_target(*, policy: bytes = POLICY, is_staged: bool = False, **ports: Any) -> TargetSide:
    """A target that trusts ``SOURCE_KEY``."""
    side, _ = make_target(policy, key=RECEIPT_KEY, is_staged=is_staged)
    return replace(side, **ports)


def run(side: Ports, clock: Clock, *starts: Start, tap: Tap = unseen, **settings: str) -> Played:
    """Play orchestrations on a side with its settings, and others beside them."""
    environment = ENVIRONMENT | {"TRUST_POLICY": POLICY.decode()} | settings
    return play(side, clock, *starts, environment=environment, tap=tap)


def order_transfer(side: SourceSide, artifacts: Sequence[str], *, only_missing: bool = False) -> Start:
    """What is started for a transfer, with what the HTTP API has left for it."""
    request = RequestDocument(
        artifacts=tuple(artifacts),
        channel=CHANNEL,
        audience=tuple(AUDIENCE),
        expires_in_seconds=90 * 24 * 3600,
        referrers="all",
        only_missing=only_missing,
    )
    WorkFolder(side.blobs, TRANSFER_ID).create(REQUEST, request)
    journals = JournalStore(side.blobs, side.projection)
    journals.record(Kind.TRANSFERS, TRANSFER_ID, State.REQUESTED, {"channel": CHANNEL}, by="test", at=START)
    order = TransferOrder(
        transfer_id=TRANSFER_ID,
        request=digest_of(request),
        artifacts=len(artifacts),
        runs_at_once=side.settings.pipeline_runs_at_once,
        hashes_at_once=side.settings.hashes_at_once,
        only_missing=only_missing,
    )
    return "export_transfer", TRANSFER_ID, dump(order)


def huge_bundle(*, blobs: int, parts: int) -> Bundle:
    """A signed bundle of many parts of the least size, without bytes: digests are made of names.

    50 artifacts to a blob, as many as one pipeline run takes.
    """
    small = make_bundle(blob_sizes=[1], created_at=START, keys=[SOURCE_KEY], policy_json=POLICY)
    size_bytes = parts * MIN_PART_SIZE_BYTES
    manifest = replace(
        small.manifest,
        blobs=tuple(
            replace(
                small.manifest.blobs[0],
                name=name,
                size_bytes=size_bytes,
                part_sha256=tuple(
                    digest_of_name(part.name)
                    for part in plan_parts(name, size_bytes=size_bytes, part_size_bytes=MIN_PART_SIZE_BYTES)
                ),
                pipeline_run=f"run{name}",
                artifacts=tuple(
                    Artifact(
                        reference=f"team/app{name}:v{number}",
                        digest=f"sha256:{digest_of_name(f'{name} {number}')}",
                        media_type="application/vnd.oci.image.manifest.v1+json",
                        tags=(f"v{number}",),
                    )
                    for number in range(50)
                ),
            )
            for name in map(blob_name, range(1, blobs + 1))
        ),
    )
    payload = manifest.to_bytes()
    envelope = Envelope.sign(payload, [SOURCE_KEY.signer]).to_bytes()
    contents = dict.fromkeys((blob.name for blob in manifest.blobs), b"huge")
    return replace(small, manifest=manifest, payload=payload, envelope=envelope, blobs=contents)


def digest_of_name(name: str) -> str:
    """The digest, in hex, that stands for the bytes of what has this name."""
    return hashlib.sha256(name.encode()).hexdigest()


def upload(side: TargetSide, bundle: Bundle) -> Start:
    """As the mover does; what is started for it. Its artifacts are in the registry as if imported."""
    blobs, registry = side.blobs, side.registry
    assert isinstance(blobs, MemoryBlobs)
    assert isinstance(registry, MemoryRegistry)
    for name, content in bundle.blobs.items():
        blobs.upload("incoming", f"{bundle.transfer_id}/{name}", content)
    for artifact in bundle.manifest.artifacts:
        registry.manifests[artifact.repository, artifact.digest] = (artifact.media_type, {})
        registry.tags |= {(artifact.repository, tag): artifact.digest for tag in artifact.tags}
    manifest = f"{bundle.transfer_id}/{ENVELOPE_NAME}"
    blobs.upload("incoming", manifest, bundle.envelope)
    found = blobs.stat("incoming", manifest)
    assert found is not None
    order = ImportOrder(
        incoming=bundle.transfer_id,
        manifest_etag=found.etag,
        envelope_sha256=hashlib.sha256(bundle.envelope).hexdigest(),
        runs_at_once=side.settings.pipeline_runs_at_once,
        hashes_at_once=side.settings.hashes_at_once,
        release_timeout_s=side.settings.release_timeout_s,
        check_timeout_s=side.settings.check_timeout_s,
        is_staged=side.staged is not None,
    )
    return "import_bundle", f"import{bundle.transfer_id}", dump(order)
