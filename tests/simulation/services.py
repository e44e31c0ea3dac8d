"""The ports of the target in memory, each call of which may be interrupted, refused, or lose its answer."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from airgap.errors import Code, ServiceError
from function_app.storage.paths import LEDGER
from tests.function_app.memory import MemoryBlobs, MemoryRegistry, failed, import_pipeline, succeeded
from tests.simulation.scheduler import HOUR, Scheduler

SERVICES = ("storage", "table", "registry", "arm", "vault")
_WRITES = frozenset(
    {"create", "put", "copy", "set_content_md5", "delete", "put_run", "begin", "delete_repository"}
)
_ITERATORS = frozenset({"read_range", "list_names", "repositories", "digests"})
_LEAPS = frozenset({"create", "put", "put_run"})
"""Between the look and the leap a task is held up more often: there others may come first."""

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Weather:
    """Which services are away, and until when."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._until: dict[str, datetime] = {}

    def take_away(self, service: str, lasts: timedelta) -> None:
        """A service does not answer for a while."""
        self._until[service] = self._scheduler.now + lasts

    def clear(self) -> None:
        """All services answer."""
        self._until.clear()

    def require(self, service: str, where: str) -> None:
        """Nothing, if the service answers now.

        Raises:
            ServiceError: ``SERVICE_UNREACHABLE`` or ``SERVICE_THROTTLED``: not now.
        """
        scheduler = self._scheduler
        is_away = scheduler.now < self._until.get(service, scheduler.now)
        if is_away or scheduler.chance.random() < scheduler.faults.refusal:
            code = scheduler.chance.choice((Code.SERVICE_UNREACHABLE, Code.SERVICE_THROTTLED))
            scheduler.say(f"{where}: {code.name}")
            raise ServiceError(code, service)


After = Callable[[str, tuple[Any, ...], dict[str, Any], Any], None]
"""Is told of every call that had its effect: the method, its arguments and what it came to."""


class Service:
    """A port whose calls go through ``weather`` to ``inner``; ``after`` is told of each."""

    def __init__(
        self, name: str, inner: object, scheduler: Scheduler, weather: Weather, after: After | None = None
    ) -> None:
        self._name = name
        self._inner = inner
        self._scheduler = scheduler
        self._weather = weather
        self._after = after

    def __getattr__(self, method: str) -> Callable[..., Any]:
        inner = getattr(self._inner, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._call(method, inner, args, kwargs)

        return call

    def _call(
        self, method: str, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        scheduler = self._scheduler
        where = f"{method} {' '.join(_short(one) for one in args[:2])}"
        weight = 1 if method not in _LEAPS else 30 if args[0] == LEDGER else 5
        scheduler.point(where, weight=weight)
        self._weather.require(self._name, where)
        result = inner(*args, **kwargs)
        if method in _ITERATORS:  # whatever it raises, it raises here
            result = list(result)
        if method in _WRITES:
            scheduler.say(f"{where} -> {result}")
        if self._after is not None:
            self._after(method, args, kwargs, result)
        if method in _WRITES and scheduler.chance.random() < scheduler.faults.lost_answer:
            scheduler.say("and the answer is lost")
            if method == "create":  # the SDK asks again, and is told that there is one
                return False
            raise ServiceError(Code.SERVICE_UNREACHABLE, self._name)
        return iter(result) if method in _ITERATORS else result


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return str(value) if isinstance(value, str) else f"<{type(value).__name__}>"


class Blobs(MemoryBlobs):
    """The blob port, by the simulation's clock."""

    def __init__(self, scheduler: Scheduler, copy_polls: int) -> None:
        self._scheduler = scheduler
        super().__init__()
        self.polls_per_copy = copy_polls

    @property
    def now(self) -> datetime:
        """When whatever is written next is written."""
        return self._scheduler.now.replace(microsecond=0)

    @now.setter
    def now(self, moment: datetime) -> None:
        """The clock is the scheduler's."""


class Registry(MemoryRegistry):
    """A registry of the target; what it has was brought by runs, or from the staging registry."""

    def bring(self, reference: str, digest: str) -> None:
        """Have an artifact, under its tag."""
        repository, _, tag = reference.partition(":")
        self.manifests[repository, digest] = (MANIFEST_TYPE, {})
        self.tags[repository, tag] = digest


Brought = Callable[[str, bytes, list[tuple[str, str]], bool], None]
"""Is told of each run that reads a blob: its path and content, the references and digests in it, and whether
the run succeeds."""


class Pipelines:
    """ACR Transfer: runs that read a blob of ``transfer`` some time after they were asked for."""

    def __init__(
        self,
        scheduler: Scheduler,
        blobs: MemoryBlobs,
        registry: Registry,
        login_server: str,
        brought: Brought,
        *,
        read: Callable[[bytes], list[tuple[str, str]]] | None = None,
    ) -> None:
        """``registry``: that the pipeline belongs to; ``read``: tells what a blob brings."""
        self._read = read or artifacts_in
        self._login_server = login_server
        self._scheduler = scheduler
        self._blobs = blobs
        self._registry = registry
        self._brought = brought
        self.unfit_until = scheduler.now
        """Until then somebody has the pipeline import by itself."""
        self.runs: dict[str, Mapping[str, Any]] = {}

    def get_pipeline(self, kind: str, name: str) -> Mapping[str, Any] | None:
        del kind, name
        is_unfit = self._scheduler.now < self.unfit_until
        return import_pipeline(trigger="Enabled" if is_unfit else "Disabled")

    def get_run(self, name: str) -> Mapping[str, Any] | None:
        return self.runs.get(name)

    def put_run(self, name: str, request: Mapping[str, Any]) -> None:
        if name not in self.runs:
            self.runs[name] = {"provisioningState": "Succeeded", "response": {"status": "Running"}}
            path = str(request["source"]["name"])
            pause = self._scheduler.seconds(1, 120)
            self._scheduler.after(pause, f"run {name} of {path}", lambda: self._run(name, path))

    def delete_run(self, name: str) -> None:
        self.runs.pop(name, None)

    def _run(self, name: str, path: str) -> None:
        chance = self._scheduler.chance
        found = self._blobs.stat("transfer", path)
        is_failing = chance.random() < self._scheduler.faults.run_failed
        if found is None or (is_failing and chance.random() < 0.5):
            self.runs[name] = failed("the blob cannot be read")
            return
        content = b"".join(
            self._blobs.read_range(
                "transfer", path, etag=found.etag, offset_bytes=0, size_bytes=found.size_bytes
            )
        )
        artifacts = self._read(content)
        self._brought(path, content, artifacts, not is_failing)
        for reference, digest in artifacts:
            self._registry.bring(reference, digest)
        told = [f"{self._login_server}/{reference}" for reference, _ in artifacts]
        self.runs[name] = failed("broke off") if is_failing else succeeded(importedArtifacts=told)


class ImageImports:
    """ACR's import from the staging registry into the real one, some time after it was asked for."""

    def __init__(
        self, scheduler: Scheduler, staging: Registry, registry: Registry, entered: Callable[[str, str], None]
    ) -> None:
        """``entered``: is told of each repository and digest, before it is in the real registry."""
        self._scheduler = scheduler
        self._staging = staging
        self._registry = registry
        self._entered = entered
        self._failures: dict[str, str] = {}
        self._count = 0

    def begin(self, repository: str, digest: str, tags: Sequence[str]) -> str | None:
        self._count += 1
        operation = f"operation {self._count}"
        pause = self._scheduler.seconds(1, 60)
        name = f"{operation}: {repository}@{digest} {' '.join(tags)}"
        if self._scheduler.chance.random() < 0.1:
            self._bring(operation, repository, digest, tags)
            return None if operation not in self._failures else operation
        self._scheduler.after(pause, name, lambda: self._bring(operation, repository, digest, tags))
        return operation

    def _bring(self, operation: str, repository: str, digest: str, tags: Sequence[str]) -> None:
        found = self._staging.manifests.get((repository, digest))
        if found is None or self._scheduler.chance.random() < self._scheduler.faults.run_failed:
            self._failures[operation] = f"{digest} was not found"
            return
        self._entered(repository, digest)
        self._registry.manifests[repository, digest] = found
        for tag in tags:
            self._registry.tags[repository, tag] = digest

    def failure(self, operation: str) -> str | None:
        return self._failures.get(operation)


def blob_of(references: list[str], salt: str) -> bytes:
    """The content of a transfer blob that brings these references."""
    return json.dumps({"brings": references, "salt": salt}).encode()


def artifacts_in(content: bytes) -> list[tuple[str, str]]:
    """References and digests of what a transfer blob brings; nothing of what is none."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    try:
        brings = json.loads(content)["brings"]
    except (ValueError, KeyError, TypeError):
        return []
    return [(reference, digest) for reference in brings]


def outage_lasts(scheduler: Scheduler) -> timedelta:
    """How long an outage is: a minute to a day."""
    return scheduler.chance.choice((HOUR / 60, HOUR / 6, 2 * HOUR, 24 * HOUR))
