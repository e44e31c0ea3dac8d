"""Blob triggers in two stages, as in Azure: a scan fills a queue, the queue calls the function.

Stage 1: every watched container is listed under the pattern's literal prefix. A blob whose (function, name,
ETag) has no receipt gets one and a queue entry, in one transaction: a receipt means "queued", never
"processed". Where the host has an account of its own (`BlobQueue`), receipt and queue are there, as in Azure,
and what is here is a copy of the receipts and what was taken from the queue.

Stage 2: an entry is dropped if its blob is gone or has another ETag by now (the new version has its own
entry). The function gets the content, held in memory; or, where its parameter's type is that of a reference,
the blob's name alone, and nothing of the content is read. Success removes the entry; failure tries again at
once; after `poison_blob_threshold` failures it is put into the poison queue of the blob's account, and kept
here, too: until that is done it is tried again.

So a function runs at least once for each version of a blob: a crash after the work and before the removal
runs it again. A storage outage counts against nobody and is retried with a growing pause.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, TypeVarTuple

from azure.functions.meta import Datum

from local_cloud.functions_host.app import App, AppError, Function, resolve_settings
from local_cloud.functions_host.invoke import BlobReference, InvocationError, Invoker
from local_cloud.functions_host.store import Store

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

_LOG = logging.getLogger(__name__)
_PAGES_PER_ROUND = 10  # of up to 1,000 blobs: Azure looks at 10,000 a round
_MAX_PAUSE_S = 30.0
_MAX_CALLS = 4  # each may hold its blob in memory
_DEFAULT_CONNECTION = "AzureWebJobsStorage"
_FUNCTION_ID = "Host.Functions."
POISON_QUEUE = "webjobs-blobtrigger-poison"
"""Its name in Azure; it is in the account of the blobs."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS blob_receipt (
    function TEXT NOT NULL, container TEXT NOT NULL, blob TEXT NOT NULL, etag TEXT NOT NULL,
    PRIMARY KEY (function, container, blob, etag)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob_entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, function TEXT NOT NULL, container TEXT NOT NULL, blob TEXT NOT NULL,
    etag TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 0,
    is_poison INTEGER NOT NULL DEFAULT 0
);
"""
_ADD_ENTRY = "INSERT INTO blob_entry (function, container, blob, etag) VALUES (?, ?, ?, ?)"


class StorageOutageError(Exception):
    """The storage did not answer, or not with what was asked for; trying again later may help."""


class BlobTooLargeError(Exception):
    """The blob does not fit into memory; trying again will not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBlob:
    """A blob as a listing shows it; the ETag without quotes."""

    name: str
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a listing and where the next one starts."""

    blobs: tuple[ListedBlob, ...]
    marker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob without its content; `properties` under the names that .NET gives them."""

    etag: str
    uri: str
    properties: Mapping[str, Any]
    metadata: Mapping[str, str]


class BlobStorage(Protocol):
    """The port to one storage account; called from a worker thread, one call at a time for each trigger."""

    def list_page(self, container: str, prefix: str, marker: str | None) -> Page:
        """The blobs under `prefix`, from `marker` on; a missing container is an empty page.

        Raises:
            StorageOutageError: The storage does not answer, or refuses.
        """

    def stat(self, container: str, name: str) -> Blob | None:
        """The blob without its content, or None if it is gone.

        Raises:
            StorageOutageError: The storage does not answer, or refuses.
        """

    def read(self, container: str, name: str) -> bytes | None:
        """The blob's present content, or None if the blob is gone.

        Raises:
            BlobTooLargeError: It is too big to be held in memory.
            StorageOutageError: The storage does not answer, or refuses.
        """

    def put_aside(self, message: str) -> None:
        """Put a message into the account's poison queue; nothing happens where its queues are not known.

        Raises:
            StorageOutageError: The storage does not answer, or refuses.
        """


class BlobEvent(NamedTuple):
    """A version of a blob that a function is to be called for."""

    function: str
    container: str
    blob: str
    etag: str

    def to_message(self) -> str:
        """The event as a message of the host: BlobTriggerMessage in the storage extension."""
        return json.dumps(
            {
                "Type": "BlobTrigger",
                "FunctionId": f"{_FUNCTION_ID}{self.function}",
                "BlobType": "BlockBlob",
                "ContainerName": self.container,
                "BlobName": self.blob,
                "ETag": self.etag,
            }
        )

    @classmethod
    def from_message(cls, text: str) -> "BlobEvent":
        """Read the event that a message of the host is about."""
        told = json.loads(text)
        function = str(told["FunctionId"]).removeprefix(_FUNCTION_ID)
        return cls(function, told["ContainerName"], told["BlobName"], told["ETag"])


class BlobQueue(Protocol):
    """The port to the queue in the host's own account; called from worker threads.

    Every method raises a `StorageOutageError` where the account does not do what it is asked for.
    """

    def queue_blob(self, event: BlobEvent) -> None:
        """Put a version of a blob into the queue, unless its receipt is there; then make its receipt."""

    def take_blobs(self) -> Sequence[tuple[BlobEvent, Any]]:
        """The first versions in the queue, each with the handle by which it is forgotten.

        A version that is not forgotten within seconds is given out again.
        """

    def forget(self, taken: Any) -> None:
        """Delete a version that was taken from the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPattern:
    """A pattern such as `container/folder/{name}.json`: a container, and the form of the blob's name."""

    container: str
    prefix: str
    regex: re.Pattern[str]

    @classmethod
    def parse(cls, path: str) -> "BlobPattern":
        """Read the path of a blob trigger.

        Raises:
            AppError: No container, a capture in the container's name, or unbalanced braces.
        """
        container, slash, name = resolve_settings(path).partition("/")
        if not container or "{" in container:
            raise AppError(f"Blob path {path!r} must start with the name of a container")
        if not slash:
            name = "{name}"
        pieces = re.split(r"(\{\w+\})", name)
        if any(set(piece) & set("{}") for piece in pieces[::2]):
            raise AppError(f"Blob path {path!r} has braces that this host does not understand")
        # A capture takes slashes too: that is how `in/{name}` finds blobs in folders.
        regex = "".join(".*" if n % 2 else re.escape(piece) for n, piece in enumerate(pieces))
        return cls(container=container, prefix=pieces[0], regex=re.compile(regex, re.DOTALL))

    def matches(self, name: str) -> bool:
        """Whether the blob of that name fits the pattern."""
        return self.regex.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    function: Function
    pattern: BlobPattern
    connection: str
    storage: BlobStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    id: int
    function: str
    container: str
    blob: str
    etag: str
    attempts: int
    deliveries: int
    is_poison: int


class BlobTriggers:
    """The blob triggers of all functions of an app."""

    def __init__(
        self,
        app: App,
        store: Store,
        invoker: Invoker,
        connect: Callable[[str], BlobStorage],
        *,
        scan_interval_s: float = 0.5,
        deliver_twice: bool = False,
        queue: BlobQueue | None = None,
    ) -> None:
        """`connect` gives the storage account behind a connection name.

        Raises:
            AppError: A path that cannot be read, or a connection without settings.
        """
        self._store = store
        self._invoker = invoker
        self._queue = queue
        self._interval_s = scan_interval_s
        self._deliveries = 2 if deliver_twice else 1
        self._threshold = app.settings.poison_blob_threshold
        self._threads = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="storage")
        self._new_entries = asyncio.Event()
        self._running: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        storages: dict[str, BlobStorage] = {}
        self._watches: dict[str, _Watch] = {}
        for function in app.of("blobTrigger"):
            name = str(function.settings.get("connection") or _DEFAULT_CONNECTION)
            if name not in storages:
                storages[name] = connect(name)
            self._watches[function.name] = _Watch(
                function=function,
                pattern=BlobPattern.parse(str(function.settings["path"])),
                connection=name,
                storage=storages[name],
            )
        store.db.executescript(_SCHEMA)

    def close(self) -> None:
        """Start no more calls to the storage."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def poison(self) -> list[str]:
        """The blobs that were given up, each as `function: container/blob`."""
        rows = self._store.db.execute("SELECT * FROM blob_entry WHERE is_poison ORDER BY id")
        return [f"{row['function']}: {row['container']}/{row['blob']}" for row in rows]

    async def run(self) -> None:
        """Scan the containers and call the functions until cancelled."""
        if not self._watches:
            await asyncio.Event().wait()  # nothing to watch, but the loop goes on until cancelled
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._drain())
                for watch in self._watches.values():
                    group.create_task(self._scan_on(watch))
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- stage 1 ---

    async def _scan_on(self, watch: _Watch) -> None:
        marker: str | None = None
        pause_s = self._interval_s
        while True:
            try:
                marker = await self.scan(watch.function.name, marker)
                pause_s = self._interval_s
            except StorageOutageError as error:
                marker, pause_s = None, min(pause_s * 2, _MAX_PAUSE_S)
                _LOG.warning("Scan for %s failed, again in %.1f s: %s", watch.function.name, pause_s, error)
            except Exception:  # noqa: BLE001 - whatever a storage answers, it may not end the host
                marker, pause_s = None, _MAX_PAUSE_S
                _LOG.exception("Scan for %s failed, again in %.1f s", watch.function.name, pause_s)
            await asyncio.sleep(pause_s)

    async def scan(self, function_name: str, marker: str | None = None) -> str | None:
        """Do one round over a function's container; returns the marker from which the next round goes on.

        Raises:
            StorageOutageError: The listing failed.
        """
        watch = self._watches[function_name]
        pattern = watch.pattern
        for _ in range(_PAGES_PER_ROUND):
            page = await self._in_thread(watch.storage.list_page, pattern.container, pattern.prefix, marker)
            await self._take_in(watch, [blob for blob in page.blobs if pattern.matches(blob.name)])
            marker = page.marker
            if marker is None:
                break
        return marker

    async def _take_in(self, watch: _Watch, blobs: list[ListedBlob]) -> None:
        if not blobs:
            return
        events = [
            BlobEvent(watch.function.name, watch.pattern.container, blob.name, blob.etag) for blob in blobs
        ]
        if self._queue is not None:
            for event in events:
                if not self._has_receipt(event):
                    await self._in_thread(self._queue.queue_blob, event)
        with self._store.transaction() as db:
            for event in events:
                if db.execute("INSERT OR IGNORE INTO blob_receipt VALUES (?, ?, ?, ?)", event).rowcount:
                    if self._queue is None:
                        db.execute(_ADD_ENTRY, event)
                    self._new_entries.set()

    def _has_receipt(self, event: BlobEvent) -> bool:
        asked = "SELECT 1 FROM blob_receipt WHERE (function, container, blob, etag) = (?, ?, ?, ?)"
        return self._store.db.execute(asked, event).fetchone() is not None

    # --- stage 2 ---

    async def _drain(self) -> None:
        while True:
            self._new_entries.clear()
            await self.fetch()
            for entry in self._waiting():
                self._running.add(entry.id)
                self._spawn(self._deliver(entry), entry.id)
            try:
                async with asyncio.timeout(1.0):  # not wait_for(), see the engine
                    await self._new_entries.wait()
            except TimeoutError:
                continue

    async def fetch(self) -> None:
        """Take the blobs in the queue of the host's own account; a crash in between takes them again."""
        if self._queue is None:
            return
        try:
            for event, taken in await self._in_thread(self._queue.take_blobs):
                with self._store.transaction() as db:
                    db.execute(_ADD_ENTRY, event)
                await self._in_thread(self._queue.forget, taken)
        except StorageOutageError as error:
            _LOG.warning("The queue of blobs cannot be read now: %s", error)

    def _spawn(self, work: Coroutine[Any, Any, float], entry_id: int) -> None:
        async def deliver() -> None:
            pause_s = 1.0
            try:
                pause_s = await work
            except Exception:  # noqa: BLE001 - no blob and no bug may end the host; it is logged
                _LOG.exception("A fault of the host itself")
            finally:
                asyncio.get_running_loop().call_later(pause_s, self._release, entry_id)

        task = asyncio.get_running_loop().create_task(deliver())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _release(self, entry_id: int) -> None:
        self._running.discard(entry_id)
        self._new_entries.set()

    def _waiting(self) -> list[_Entry]:
        rows = self._store.db.execute(
            "SELECT * FROM blob_entry WHERE NOT is_poison AND id NOT IN (SELECT value FROM json_each(?)) "
            "AND function IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
            (
                json.dumps(sorted(self._running)),
                json.dumps(list(self._watches)),
                _MAX_CALLS - len(self._running),
            ),
        )
        return [_Entry(**row) for row in rows]

    async def deliver_all(self) -> None:
        """Call the functions of all entries once, one after the other."""
        for entry in self._waiting():
            await self._deliver(entry)

    async def _deliver(self, entry: _Entry) -> float:
        """Runs one entry; gives the seconds after which it may be looked at again."""
        watch = self._watches[entry.function]
        try:
            blob = await self._in_thread(watch.storage.stat, entry.container, entry.blob)
            argument = None if blob is None or blob.etag != entry.etag else await self._argument(watch, entry)
        except StorageOutageError as error:
            _LOG.warning("Blob %s/%s cannot be read now: %s", entry.container, entry.blob, error)
            return min(max(self._interval_s * 2, 1.0), _MAX_PAUSE_S)
        except BlobTooLargeError as error:
            return await self._give_up(entry, str(error))
        if blob is None or argument is None:
            self._write("DELETE FROM blob_entry WHERE id = ?", entry.id)
            return 0.0
        # Counted before the call, so that a blob that kills the host is given up too.
        self._write("UPDATE blob_entry SET attempts = attempts + 1 WHERE id = ?", entry.id)
        try:
            await self._invoker.blob(watch.function, argument, _trigger_metadata(entry, blob))
        except InvocationError as error:
            _LOG.error(
                "Blob function %s failed on %s: %s\n%s", entry.function, entry.blob, error, error.stack
            )
            if entry.attempts + 1 >= self._threshold:
                return await self._give_up(entry, f"{self._threshold} failures")
        else:
            if entry.deliveries + 1 < self._deliveries:
                self._write(
                    "UPDATE blob_entry SET deliveries = deliveries + 1, attempts = 0 WHERE id = ?", entry.id
                )
            else:
                self._write("DELETE FROM blob_entry WHERE id = ?", entry.id)
        return 0.0

    async def _argument(self, watch: _Watch, entry: _Entry) -> bytes | BlobReference | None:
        """What the function is called with; None if the blob is gone."""
        if watch.function.reference_type is not None:
            return BlobReference(connection=watch.connection, container=entry.container, name=entry.blob)
        return await self._in_thread(watch.storage.read, entry.container, entry.blob)

    async def _give_up(self, entry: _Entry, reason: str) -> float:
        """Puts an entry aside for good; gives the seconds after which it may be looked at if that failed."""
        storage = self._watches[entry.function].storage
        message = BlobEvent(entry.function, entry.container, entry.blob, entry.etag).to_message()
        try:
            await self._in_thread(storage.put_aside, message)
        except StorageOutageError as error:
            _LOG.warning("Blob %s/%s cannot be put aside now: %s", entry.container, entry.blob, error)
            return 1.0
        _LOG.error("Blob %s/%s is poison for %s: %s", entry.container, entry.blob, entry.function, reason)
        # As in Azure, whose text the alert on poison looks for: QueueProcessor in the storage extension.
        _LOG.error("Moving message to queue '%s'.", POISON_QUEUE)
        self._write("UPDATE blob_entry SET is_poison = 1 WHERE id = ?", entry.id)
        return 0.0

    def _write(self, sql: str, entry_id: int) -> None:
        self._store.db.execute(sql, (entry_id,))

    async def _in_thread(self, call: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _trigger_metadata(entry: _Entry, blob: Blob) -> dict[str, Datum]:
    return {
        "BlobTrigger": Datum(f"{entry.container}/{entry.blob}", "string"),
        "Uri": Datum(blob.uri, "string"),
        "Properties": Datum(json.dumps(dict(blob.properties)), "json"),
        "Metadata": Datum(json.dumps(dict(blob.metadata)), "json"),
    }
