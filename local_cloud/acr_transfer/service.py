"""The transfer service of one registry: its pipelines, its runs and its source triggers, in memory.

It knows nothing of HTTP: ``arm`` serves it.
"""

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from local_cloud.acr_transfer.access import RoleAssignments
from local_cloud.acr_transfer.behaviour import Behaviour
from local_cloud.acr_transfer.errors import ArmError, RunCancelled, RunError, invalid, not_found
from local_cloud.acr_transfer.records import Authorship, ManagedIdentity, Pipeline, Run
from local_cloud.acr_transfer.registry_client import RegistryAccess, RegistryClient
from local_cloud.acr_transfer.resources import Kind, PipelineRequest, RunRequest
from local_cloud.acr_transfer.runs import Execution, Order, Progress
from local_cloud.acr_transfer.storage import MintedCredential, PipelineStorage
from local_cloud.tokens import TokenAuthority

_LOG = logging.getLogger(__name__)
_MAX_RUNS = 10_000
_MAX_PIPELINES = 100
_TRIGGER_WAKE_S = 0.5
_CLOSE_TIMEOUT_S = 10
_WORKERS = 16


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request that is refused whatever it is: the service is throttled or unavailable."""

    status: int
    retry_after_s: int


class AcrTransfer:
    """ARM's ``exportPipelines``, ``importPipelines`` and ``pipelineRuns`` of one registry.

    Exports really read the registry and write the blob, imports really read the blob and write the registry,
    each with the identity and the secrets that the pipeline would have in Azure.
    """

    def __init__(
        self,
        *,
        tokens: TokenAuthority,
        registry_id: str,
        registry: RegistryAccess,
        ca_file: Path,
        behaviour: Behaviour | None = None,
        clock: Callable[[], float] = time.time,
        roles: RoleAssignments | None = None,
        storage_asks_for_roles: bool = False,
        identities: dict[str, ManagedIdentity] | None = None,
    ) -> None:
        """``registry_id`` is the registry's ARM resource id; ``clock`` gives seconds since the epoch.

        ``roles`` are asked instead of those that `grant` gives; where the storage asks for roles itself, a
        pipeline's are not asked for here. ``identities`` are the user-assigned ones of the cloud, shared by
        its registries.
        """
        self.registry_id = registry_id.rstrip("/")
        self.tokens = tokens
        self.behaviour = behaviour or Behaviour()
        self.roles = roles or RoleAssignments()
        self._storage_asks_for_roles = storage_asks_for_roles
        self._refusals: deque[Refusal] = deque()
        self._registry = registry
        self._ca_file = ca_file
        self._clock = clock
        self._pipelines: dict[tuple[Kind, str], Pipeline] = {}
        self._runs: dict[str, Run] = {}
        self._identities = {} if identities is None else identities
        self._seen: set[tuple[str, str, str]] = set()  # what source triggers have fired for
        self._closing = threading.Event()
        self._workers = ThreadPoolExecutor(_WORKERS, "acr-transfer")
        self._tasks: set[asyncio.Task[None]] = set()
        self._going_on = 0
        self._slot_free = asyncio.Condition()

    def open(self) -> None:
        """Let source triggers and runs work, until ``close``; on the event loop that is running."""
        if self._closing.is_set():
            self._closing = threading.Event()
            self._workers = ThreadPoolExecutor(_WORKERS, "acr-transfer")
        self._spawn(self._watch_sources())

    def grant(self, principal_id: str, role: str, scope: str) -> None:
        """Assign a role: a caller's on the registry's resource id, a pipeline identity's on a container URL.

        Raises:
            ValueError: Transfer has nothing to do with that role.
        """
        self.roles.grant(principal_id, role, scope)

    def user_identity(self, resource_id: str) -> ManagedIdentity:
        """Return the principal of a user-assigned identity, so that it can be granted roles beforehand."""
        return self._identities.setdefault(resource_id.lower(), ManagedIdentity())

    def refuse_next(self, count: int, *, status: int = 429, retry_after_s: int = 1) -> None:
        """Refuse the next ``count`` requests with a status and a Retry-After."""
        self._refusals.extend([Refusal(status, retry_after_s)] * count)

    def next_refusal(self) -> Refusal | None:
        """Take the refusal for the request that has come in; ``None`` if it is to be answered."""
        return self._refusals.popleft() if self._refusals else None

    async def close(self) -> None:
        """Stop triggers and runs; what a run has not finished stays unfinished."""
        self._closing.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_CLOSE_TIMEOUT_S)
        await asyncio.to_thread(self._workers.shutdown, wait=True, cancel_futures=True)

    # -- pipelines

    def put_pipeline(self, kind: Kind, name: str, request: PipelineRequest, caller: str) -> Pipeline:
        """Create or replace a pipeline; a system-assigned identity lives as long as its pipeline.

        Raises:
            ArmError: The registry is not a premium one, or has as many as it may.
        """
        if self.behaviour.sku != "Premium":
            message = f"The registry SKU '{self.behaviour.sku}' has no {kind}: it must be Premium."
            raise ArmError(400, "SkuNotSupported", message)
        key = (kind, name.lower())
        old = self._pipelines.get(key)
        if old is None and len(self._pipelines) >= _MAX_PIPELINES:
            raise ArmError(409, "QuotaExceeded", f"The registry has {_MAX_PIPELINES} pipelines")
        if asked := request.identity.user_assigned:
            identity = self.user_identity(asked)
        elif old and not old.request.identity.user_assigned:
            identity = old.identity
        else:
            identity = ManagedIdentity()
        pipeline = Pipeline(
            kind=kind,
            name=old.name if old else name,
            resource_id=f"{self.registry_id}/{kind}/{old.name if old else name}",
            request=request,
            identity=identity,
            tenant_id=self.tokens.tenant_id,
            authorship=self._authorship(caller, old.authorship if old else None),
        )
        self._pipelines[key] = pipeline
        return pipeline

    def pipeline(self, kind: Kind, name: str) -> Pipeline | None:
        """Return the pipeline of that kind and name; None if there is none."""
        return self._pipelines.get((kind, name.lower()))

    def pipelines(self, kind: Kind) -> list[Pipeline]:
        """Return the pipelines of a kind, in order of creation."""
        return [pipeline for pipeline in self._pipelines.values() if pipeline.kind == kind]

    def delete_pipeline(self, kind: Kind, name: str) -> bool:
        """Delete a pipeline; tell whether it was there. Its runs stay."""
        return self._pipelines.pop((kind, name.lower()), None) is not None

    # -- runs

    def put_run(self, name: str, request: RunRequest, caller: str) -> tuple[Run, bool]:
        """Start a run, or find the one that the request is a repetition of.

        Returns:
            The run, and whether it was started now.

        Raises:
            ArmError: There is no such pipeline, or a run of that name is going on.
        """
        pipeline = self._pipeline_of(request)
        old = self._runs.get(name.lower())
        if old:
            is_same = old.request == request
            if old.is_running and (not is_same or self.behaviour.conflict_while_running == "any"):
                raise ArmError(409, "Conflict", f"The pipeline run '{name}' is in progress.")
            if is_same and (old.is_running or self.behaviour.identical_put == "old"):
                return old, False
        return self._start(name, request, pipeline, caller, triggered_s=None), True

    def run(self, name: str) -> Run | None:
        """Return the run of that name; None if there is none."""
        return self._runs.get(name.lower())

    def runs(self) -> list[Run]:
        """Return all runs, in order of creation."""
        return list(self._runs.values())

    def delete_run(self, name: str) -> bool:
        """Forget a run; tell whether it was there. What the run does or did is not undone."""
        return self._runs.pop(name.lower(), None) is not None

    async def settle(self) -> None:
        """Wait until no run is going on (the local cloud's own convenience)."""
        async with self._slot_free:
            await self._slot_free.wait_for(
                lambda: not self._going_on and not any(run.is_running for run in self._runs.values())
            )

    # -- source triggers

    async def poll_triggers(self) -> list[Run]:
        """Look into the sources of all import pipelines with an enabled trigger; return the runs that start.

        A blob fires once per ETag, if it has a Content-MD5, the category that exports set, and is not too
        old.
        """
        started = []
        for pipeline in self.pipelines("importPipelines"):
            if not pipeline.request.has_enabled_trigger:
                continue
            not_before = datetime.fromtimestamp(self._clock() - self.behaviour.trigger_max_age_s, UTC)
            try:
                found = await asyncio.get_running_loop().run_in_executor(
                    self._workers,
                    lambda storage, oldest: storage().candidates(not_before=oldest),
                    self._storage_of(pipeline),
                    not_before,
                )
            except RunError:
                continue  # documented: without the right to list, the trigger is silent
            for blob_name, etag, modified in found:
                key = (pipeline.identity.principal_id, blob_name, etag)
                if key in self._seen:
                    continue
                self._seen.add(key)
                request = RunRequest(
                    pipeline_id=pipeline.resource_id,
                    artifacts=(),
                    blob_type="AzureStorageBlob",
                    blob_name=blob_name,
                    catalog_digest=None,
                    force_update_tag=None,
                )
                name = f"{pipeline.name}_{uuid.uuid4().hex}"
                caller = pipeline.identity.principal_id
                started.append(self._start(name, request, pipeline, caller, triggered_s=modified.timestamp()))
        return started

    async def _watch_sources(self) -> None:
        due = self._clock()
        while not self._closing.is_set():
            if self._clock() >= due:
                due = self._clock() + self.behaviour.trigger_interval_s
                await self.poll_triggers()
            await asyncio.sleep(_TRIGGER_WAKE_S)

    # -- carrying runs out

    def _pipeline_of(self, request: RunRequest) -> Pipeline:
        prefix, _, name = request.pipeline_id.rpartition("/")
        for kind in ("exportPipelines", "importPipelines"):
            if prefix.lower() == f"{self.registry_id}/{kind}".lower():
                if found := self.pipeline(kind, name):
                    return found
                raise not_found(request.pipeline_id)
        raise invalid("pipelineResourceId must be an export or import pipeline of this registry")

    def _start(
        self, name: str, request: RunRequest, pipeline: Pipeline, caller: str, *, triggered_s: float | None
    ) -> Run:
        if len(self._runs) >= _MAX_RUNS:
            raise ArmError(409, "QuotaExceeded", f"The registry has {_MAX_RUNS} pipeline runs")
        run = Run(
            name=name,
            resource_id=f"{self.registry_id}/pipelineRuns/{name}",
            request=request,
            pipeline=pipeline,
            progress=Progress(),
            authorship=self._authorship(caller, None),
            triggered_s=triggered_s,
        )
        self._runs.pop(name.lower(), None)
        self._runs[name.lower()] = run
        self._spawn(self._drive(self._execution(run)))
        return run

    def _execution(self, run: Run) -> Execution:
        order = Order(
            is_export=run.pipeline.kind == "exportPipelines",
            artifacts=run.request.artifacts,
            blob_name=run.request.blob_name,
            options=frozenset(run.pipeline.request.options),
            expected_catalog_digest=run.request.catalog_digest,
        )
        return Execution(
            order=order,
            behaviour=self.behaviour,
            registry=lambda: RegistryClient(self._registry, self.tokens),
            storage=self._storage_of(run.pipeline),
            progress=run.progress,
            closing=self._closing,
            clock=self._clock,
        )

    def _storage_of(self, pipeline: Pipeline) -> Callable[[], PipelineStorage]:
        container, principal_id = pipeline.request.container, pipeline.identity.principal_id
        asks_itself = self._storage_asks_for_roles
        return lambda: PipelineStorage(
            container,
            credential=MintedCredential(self.tokens, principal_id),
            roles=None if asks_itself else self.roles.roles(principal_id, container.uri),
            ca_file=self._ca_file,
            is_firewalled=self.behaviour.storage_firewall,
        )

    async def _drive(self, execution: Execution) -> None:
        async with self._slot_free:
            await self._slot_free.wait_for(lambda: self._going_on < self.behaviour.max_parallel_runs)
            self._going_on += 1
        try:
            with suppress(RunCancelled):
                await asyncio.get_running_loop().run_in_executor(self._workers, execution.carry_out)
        except Exception:  # noqa: BLE001 - else the run would seem to go on for ever
            _LOG.exception("a pipeline run broke: this is a bug of the emulator")
            execution.fail("internal error")
        finally:
            self._going_on -= 1
            async with self._slot_free:
                self._slot_free.notify_all()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _authorship(self, caller: str, old: Authorship | None) -> Authorship:
        now = self._clock()
        return Authorship(
            created_by=old.created_by if old else caller,
            created_s=old.created_s if old else now,
            modified_by=caller,
            modified_s=now,
        )
