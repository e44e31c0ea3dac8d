"""Blob triggers: what is found, how often it runs, and what a storage in trouble does."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.identity import ManagedIdentityCredential
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from azurefunctions.extensions.bindings.blob import BlobClient

from local_cloud.functions_host.app import App, AppError, HostSettings, index
from local_cloud.functions_host.azure_storage import connect
from local_cloud.functions_host.blobs import (
    POISON_QUEUE,
    Blob,
    BlobEvent,
    BlobPattern,
    BlobTooLargeError,
    BlobTriggers,
    ListedBlob,
    Page,
    StorageOutageError,
)
from local_cloud.functions_host.invoke import Invoker
from local_cloud.functions_host.store import Store


class FakeStorage:
    """Lists and reads from a dict, in pages of two; fails on demand."""

    def __init__(self) -> None:
        self.blobs: dict[str, tuple[bytes, int]] = {}
        self.outages = 0
        self.too_large: set[str] = set()
        self.aside: list[str] = []
        self.is_closed = False
        self.reads: list[str] = []

    def put(self, name: str, content: bytes) -> None:
        self.blobs[name] = (content, self.blobs.get(name, (b"", 0))[1] + 1)

    def _fail(self) -> None:
        if self.outages:
            self.outages -= 1
            raise StorageOutageError("ServiceRequestError")

    def list_page(self, container: str, prefix: str, marker: str | None) -> Page:
        assert container == "incoming"
        self._fail()
        names = sorted(name for name in self.blobs if name.startswith(prefix) and name > (marker or ""))
        listed = tuple(ListedBlob(name=name, etag=str(self.blobs[name][1])) for name in names[:2])
        return Page(blobs=listed, marker=names[1] if len(names) > 2 else None)

    def read(self, container: str, name: str) -> bytes | None:
        self._fail()
        self.reads.append(f"{container}/{name}")
        if name in self.too_large:
            raise BlobTooLargeError("too many bytes")
        return self.blobs[name][0] if name in self.blobs else None

    def put_aside(self, message: str) -> None:
        if self.is_closed:
            raise StorageOutageError("HttpResponseError AuthorizationPermissionMismatch")
        self.aside.append(BlobEvent.from_message(message).blob)

    def stat(self, container: str, name: str) -> Blob | None:
        self._fail()
        if name not in self.blobs:
            return None
        content, version = self.blobs[name]
        return Blob(
            etag=str(version),
            uri=f"https://account/{container}/{name}",
            properties={"ContentLength": len(content)},
            metadata={"kind": "manifest"},
        )


class FakeQueue:
    """A queue of the host's own account, in memory; a message is given out until it is forgotten."""

    def __init__(self) -> None:
        self.receipts: list[BlobEvent] = []
        self.waiting: list[BlobEvent] = []
        self.is_closed = False

    def _require_open(self) -> None:
        if self.is_closed:
            raise StorageOutageError("HttpResponseError AuthorizationPermissionMismatch")

    def queue_blob(self, event: BlobEvent) -> None:
        self._require_open()
        if event not in self.receipts:
            self.receipts.append(event)
            self.waiting.append(event)

    def take_blobs(self) -> list[tuple[BlobEvent, Any]]:
        self._require_open()
        return [(event, event) for event in self.waiting]

    def forget(self, taken: Any) -> None:
        self._require_open()
        self.waiting.remove(taken)


Seen = list[tuple[Any, ...]]


def app_of(
    seen: Seen, fails: Callable[[bytes], bool] = lambda _: False, path: str = "incoming/{id}/m.json"
) -> App:
    app = func.FunctionApp()

    @app.blob_trigger(arg_name="blob", path=path, connection="Sample")
    def arrived(blob: func.InputStream) -> None:
        body = blob.read()
        seen.append((blob.name, body))
        if fails(body):
            raise ValueError("not this one")

    return index(app, HostSettings(poison_blob_threshold=3))


@contextmanager
def triggers(folder: Path, app: App, storage: FakeStorage, **options: Any) -> Iterator[BlobTriggers]:
    store = Store(folder / "state.db")
    invoker = Invoker(app, lambda: "{}")
    blobs = BlobTriggers(app, store, invoker, lambda _: storage, **options)
    try:
        yield blobs
    finally:
        blobs.close()
        invoker.close()
        store.close()


def rounds(blobs: BlobTriggers, count: int = 1) -> None:
    async def run() -> None:
        for _ in range(count):
            await blobs.scan("arrived")
            await blobs.deliver_all()

    asyncio.run(run())


def test_each_version_runs_once_and_only_what_matches(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    for name in ("a/m.json", "b/m.json", "c/m.json", "c/001", "m.json", "a/m.json.part"):
        storage.put(name, name.encode())
    with triggers(tmp_path, app_of(seen), storage) as blobs:
        rounds(blobs, 3)
        assert sorted(seen) == [(f"incoming/{n}/m.json", f"{n}/m.json".encode()) for n in "abc"]
        seen.clear()
        storage.put("b/m.json", b"new")
        rounds(blobs, 3)
        assert seen == [("incoming/b/m.json", b"new")]


def test_receipts_outlive_the_host(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("a/m.json", b"1")
    for _ in range(2):
        with triggers(tmp_path, app_of(seen), storage) as blobs:
            rounds(blobs)
    assert len(seen) == 1


def test_queued_blob_that_was_not_delivered_is_delivered_by_the_next_host(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("a/m.json", b"1")
    with triggers(tmp_path, app_of(seen), storage) as blobs:
        asyncio.run(blobs.scan("arrived"))
    with triggers(tmp_path, app_of(seen), storage) as blobs:
        asyncio.run(blobs.deliver_all())
    assert len(seen) == 1


def test_poison_after_the_last_attempt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("bad/m.json", b"bad")
    storage.put("good/m.json", b"good")
    with triggers(tmp_path, app_of(seen, lambda body: body == b"bad"), storage) as blobs:
        rounds(blobs, 6)
        assert [body for _, body in seen].count(b"bad") == 3
        assert [body for _, body in seen].count(b"good") == 1
        assert blobs.poison() == ["arrived: incoming/bad/m.json"]
        assert storage.aside == ["bad/m.json"]
    assert "is poison" in caplog.text
    assert POISON_QUEUE in caplog.text  # which the alert looks for


def test_poison_that_cannot_be_put_aside_is_tried_again_and_again(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("bad/m.json", b"bad")
    storage.is_closed = True
    with triggers(tmp_path, app_of(seen, lambda _: True), storage) as blobs:
        rounds(blobs, 6)
        assert (len(seen), blobs.poison(), storage.aside) == (6, [], [])
        storage.is_closed = False
        rounds(blobs, 2)
        assert (len(seen), storage.aside) == (7, ["bad/m.json"])


def test_queue_of_the_hosts_own_account_is_the_way_to_the_function(tmp_path: Path) -> None:
    seen: Seen = []
    storage, queue = FakeStorage(), FakeQueue()
    storage.put("a/m.json", b"1")
    queue.is_closed = True
    with triggers(tmp_path, app_of(seen), storage, queue=queue) as blobs:
        with pytest.raises(StorageOutageError):
            asyncio.run(blobs.scan("arrived"))
        queue.is_closed = False
        asyncio.run(blobs.scan("arrived"))
        asyncio.run(blobs.scan("arrived"))
        asyncio.run(blobs.deliver_all())
        assert seen == []  # it is in the queue, and nowhere else
        assert [event.blob for event in queue.waiting] == ["a/m.json"]
        asyncio.run(blobs.fetch())
        rounds(blobs)
    assert [name for name, _ in seen] == ["incoming/a/m.json"]
    assert queue.waiting == []


def test_receipt_in_the_hosts_own_account_counts_for_a_host_that_lost_its_file(tmp_path: Path) -> None:
    seen: Seen = []
    storage, queue = FakeStorage(), FakeQueue()
    storage.put("a/m.json", b"1")
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        with triggers(tmp_path / folder, app_of(seen), storage, queue=queue) as blobs:
            asyncio.run(blobs.scan("arrived"))
            asyncio.run(blobs.fetch())
            rounds(blobs)
    assert len(seen) == 1


def test_blob_that_is_too_large_is_given_up_at_once(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("a/m.json", b"1")
    storage.too_large = {"a/m.json"}
    with triggers(tmp_path, app_of(seen), storage) as blobs:
        rounds(blobs)
        assert (seen, blobs.poison()) == ([], ["arrived: incoming/a/m.json"])


def test_blob_that_is_gone_or_overwritten_is_dropped(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("gone/m.json", b"1")
    storage.put("newer/m.json", b"1")
    with triggers(tmp_path, app_of(seen), storage) as blobs:
        asyncio.run(blobs.scan("arrived"))
        del storage.blobs["gone/m.json"]
        storage.put("newer/m.json", b"2")
        asyncio.run(blobs.deliver_all())
        assert seen == []
        rounds(blobs)
    assert seen == [("incoming/newer/m.json", b"2")]


def test_every_event_delivered_twice(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("a/m.json", b"1")
    with triggers(tmp_path, app_of(seen), storage, deliver_twice=True) as blobs:
        rounds(blobs, 4)
    assert len(seen) == 2


def test_outage_is_retried_and_counts_against_nobody(tmp_path: Path) -> None:
    seen: Seen = []
    storage = FakeStorage()
    storage.put("a/m.json", b"1")
    storage.outages = 3

    async def run(blobs: BlobTriggers) -> None:
        work = asyncio.create_task(blobs.run())
        async with asyncio.timeout(10):
            while not seen:  # noqa: ASYNC110 - the function runs in a thread: it has no event to set
                await asyncio.sleep(0.01)
        assert not work.done()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    with triggers(tmp_path, app_of(seen), storage, scan_interval_s=0.01) as blobs:
        asyncio.run(run(blobs))
        assert blobs.poison() == []
    assert seen == [("incoming/a/m.json", b"1")]


def test_function_gets_what_the_worker_would_give_it(tmp_path: Path) -> None:
    got: list[Any] = []
    app = func.FunctionApp()

    @app.blob_trigger(arg_name="blob", path="incoming/{name}", connection="Sample")
    def arrived(blob: func.InputStream) -> None:
        got.append(blob)

    storage = FakeStorage()
    storage.put("x/y", b"12345")
    with triggers(tmp_path, index(app, HostSettings()), storage) as blobs:
        rounds(blobs)
    (stream,) = got
    assert (stream.name, stream.length, stream.uri) == ("incoming/x/y", 5, "https://account/incoming/x/y")
    assert stream.read(2) + stream.read() == b"12345"
    assert stream.metadata == {"kind": "manifest"}
    assert stream.blob_properties == {"ContentLength": 5}


def test_function_that_takes_a_reference_is_sent_the_name_and_none_of_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol's model binding data: https://github.com/Azure/azure-functions-python-worker/issues/1486"""
    got: list[BlobClient] = []
    app = func.FunctionApp()

    @app.blob_trigger(arg_name="blob", path="incoming/{name}", connection="Sample")
    def arrived(blob: BlobClient) -> None:
        got.append(blob)

    monkeypatch.setenv("Sample__blobServiceUri", "https://account.blob.invalid")
    storage = FakeStorage()
    storage.put("x/y", b"12345")
    storage.too_large = {"x/y"}
    with triggers(tmp_path, index(app, HostSettings()), storage) as blobs:
        rounds(blobs)
        assert blobs.poison() == []
    assert storage.reads == []
    (client,) = got
    assert (client.container_name, client.blob_name) == ("incoming", "x/y")
    assert str(client.url).startswith("https://account.blob.invalid/incoming/")


@pytest.mark.parametrize(
    ("path", "name", "matches"),
    [
        ("c/{name}", "a/b", True),
        ("c", "a", True),
        ("c/in/{id}.json", "in/1.json", True),
        ("c/in/{id}.json", "in/1xjson", False),
        ("c/in/{id}.json", "out/1.json", False),
        ("c/{id}/m.json", "a/m.json\n", False),
    ],
)
def test_pattern(path: str, name: str, matches: object) -> None:
    assert BlobPattern.parse(path).matches(name) is matches


@pytest.mark.parametrize(
    "path", ["", "/x", "{container}/x", "c/{x", "c/x}", "c/{a-b}", "%NO_SUCH_SETTING%/x"]
)
def test_paths_that_are_not_understood_are_refused(path: str) -> None:
    with pytest.raises(AppError):
        BlobPattern.parse(path)


@pytest.mark.parametrize("settings", [{}, {"Sample": ""}, {"Sample": "AccountKey=c2VjcmV0"}])
def test_connection_that_is_not_set_is_refused_without_repeating_it(settings: dict[str, str]) -> None:
    with pytest.raises(AppError, match="Sample") as refusal:
        connect("Sample", settings)
    assert "c2VjcmV0" not in str(refusal.value)


def test_connection_by_identity_or_connection_string() -> None:
    uri = "https://127.0.0.1:1/account"
    identity = {"Sample__blobServiceUri": uri, "Sample__clientId": "me", "Sample": "not looked at"}
    key = {"Sample": "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0"}
    by_identity, by_key = (connect("Sample", settings)._service for settings in (identity, key))
    assert (by_identity.url.rstrip("/"), type(by_identity.credential)) == (uri, ManagedIdentityCredential)
    assert by_key.url == "https://a.blob.core.windows.net/"
    assert type(by_key.credential) is SharedKeyCredentialPolicy
