"""One suite for every blob store: what the port's docstrings promise, on the double and on Azurite."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from azure.storage.blob import BlobClient, BlobLeaseClient, ContentSettings, StandardBlobTier
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from airgap.errors import Code, ServiceError, UntrustedInputError
from function_app.azure.blob import AzureBlobs
from function_app.ports import BlobStore
from local_cloud.azurite import Azurite
from local_cloud.tokens import TokenAuthority
from tests.contract.credential import Credential
from tests.function_app.memory import CONTAINERS, MemoryBlobs

C = "transfer"
METADATA = {"category": "acr-transfer-blob"}
MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="


@pytest.fixture(params=["memory", pytest.param("azurite", marks=pytest.mark.e2e)])
def store(request: pytest.FixtureRequest) -> Iterator[BlobStore]:
    if request.param == "memory":
        yield MemoryBlobs()
        return
    server, blobs = request.getfixturevalue("azurite")
    yield blobs
    with server.service_client() as service:
        for container in CONTAINERS:
            client = service.get_container_client(container)
            for name in list(client.list_blob_names()):
                client.delete_blob(name)


def upload(store: BlobStore, name: str, content: bytes, metadata: dict[str, str], request: Any) -> None:
    """As the mover or a pipeline run does: with metadata and Content-MD5."""
    if isinstance(store, MemoryBlobs):
        store.upload(C, name, content, metadata)
        return
    server, _ = request.getfixturevalue("azurite")
    md5 = bytearray(hashlib.md5(content, usedforsecurity=False).digest())
    with server.service_client() as service:
        service.get_blob_client(C, name).upload_blob(
            content, metadata=metadata, content_settings=ContentSettings(content_md5=md5), overwrite=True
        )


def etag_of(store: BlobStore, name: str, container: str = C) -> str:
    found = store.stat(container, name)
    assert found is not None
    return found.etag


def refused(code: Code) -> Any:
    return pytest.raises(UntrustedInputError, match=code.name)


def read_all(store: BlobStore, name: str, etag: str, offset: int, size: int) -> bytes:
    return b"".join(store.read_range(C, name, etag=etag, offset_bytes=offset, size_bytes=size))


def watch_downloads(
    monkeypatch: pytest.MonkeyPatch, *, before: Callable[[int], object] = lambda _: None
) -> list[int]:
    """The bytes of every answer to a download from now on; nothing is seen of the store in memory.

    ``before`` is called before each, with its number from 0.
    """
    sizes: list[int] = []
    send = HTTPAdapter.send

    def watched(adapter: HTTPAdapter, request: PreparedRequest, **options: Any) -> Response:
        is_download = request.method == "GET" and "comp=list" not in str(request.url)
        if is_download:
            before(len(sizes))
        answer = send(adapter, request, **options)
        if is_download:
            sizes.append(int(answer.headers.get("Content-Length", 0)))
        return answer

    monkeypatch.setattr(HTTPAdapter, "send", watched)
    return sizes


def at(number: int, act: Callable[[], object]) -> Callable[[int], None]:
    """For ``before``: act once, before the download of that number."""

    def before(nth: int) -> None:
        if nth == number:
            act()

    return before


def let_pages_hold(size: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The storage lists so many names a page from now on; the addresses of the pages that it is asked for."""
    asked: list[str] = []
    send = HTTPAdapter.send

    def paged(adapter: HTTPAdapter, request: PreparedRequest, **options: Any) -> Response:
        if "comp=list" in str(request.url):
            if "maxresults=" not in str(request.url):  # the client repeats what the page before said
                request.url = f"{request.url}&maxresults={size}"
            asked.append(str(request.url))
        return send(adapter, request, **options)

    monkeypatch.setattr(HTTPAdapter, "send", paged)
    return asked


def test_what_is_not_there_is_none(store: BlobStore) -> None:
    assert store.stat(C, "a/b") is None
    assert store.read(C, "a/b", max_bytes=10) is None
    assert list(store.list_names(C, "a/")) == []
    store.delete(C, "a/b")


def test_missing_container_is_an_error_and_not_a_missing_blob(store: BlobStore) -> None:
    store.put(C, "x", b"content")
    etag = etag_of(store, "x")
    for call in (
        lambda: store.stat("nowhere", "a"),
        lambda: store.read("nowhere", "a", max_bytes=1),
        lambda: list(store.read_range("nowhere", "a", etag=etag, offset_bytes=0, size_bytes=1)),
        lambda: list(store.list_names("nowhere", "")),
        lambda: store.list_page("nowhere", "", marker=None, limit=5),
        lambda: store.create("nowhere", "a", b""),
        lambda: store.put("nowhere", "a", b""),
        lambda: store.copy((C, "x"), ("nowhere", "a"), etag=etag, metadata={}),
        lambda: store.set_content_md5("nowhere", "a", MD5, etag=etag),
        lambda: store.delete("nowhere", "a"),
    ):
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            call()


def test_created_once_and_only_once(store: BlobStore) -> None:
    assert store.create(C, "x/1.json", b"first")
    assert not store.create(C, "x/1.json", b"second")
    assert store.read(C, "x/1.json", max_bytes=10) == b"first"


def test_one_of_many_creators_at_once_prevails_and_its_content_stays(store: BlobStore) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return store.create(C, "x/1.json", str(number).encode())

    with ThreadPoolExecutor(8) as creators:
        created = list(creators.map(create, range(8)))
    assert created.count(True) == 1
    assert store.read(C, "x/1.json", max_bytes=1) == str(created.index(True)).encode()


def test_put_replaces_and_changes_the_etag(store: BlobStore) -> None:
    store.put(C, "x", b"one")
    before = etag_of(store, "x")
    store.put(C, "x", b"two")
    assert store.read(C, "x", max_bytes=3) == b"two"
    assert etag_of(store, "x") != before


def test_time_of_the_last_write_is_told_in_whole_seconds_of_utc(store: BlobStore) -> None:
    store.put(C, "x", b"one")
    found = store.stat(C, "x")
    assert found is not None
    assert found.last_modified.utcoffset() == timedelta()
    assert found.last_modified.microsecond == 0


def test_etag_is_bare_and_changes_though_the_content_stays(store: BlobStore) -> None:
    writes: list[Callable[[], object]] = [
        lambda: store.put(C, "x", b"same"),
        lambda: store.put(C, "x", b"same"),
        lambda: store.set_content_md5(C, "x", MD5, etag=etag_of(store, "x")),
    ]
    etags = []
    for write in writes:
        write()
        etags.append(etag_of(store, "x"))
    assert len(set(etags)) == 3
    assert not any('"' in etag or not etag for etag in etags)


@pytest.mark.parametrize("content", [b"", b"x", b"12345"])
def test_read_gives_the_whole_up_to_the_cap(store: BlobStore, content: bytes) -> None:
    store.put(C, "x", content)
    for more in (0, 1, 4096):
        assert store.read(C, "x", max_bytes=len(content) + more) == content
        assert store.read(C, "x", max_bytes=len(content) + more, etag=etag_of(store, "x")) == content
    if content:
        with refused(Code.TOO_LARGE):
            store.read(C, "x", max_bytes=len(content) - 1)


def test_read_of_what_is_too_large_fetches_its_beginning_only(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(C, "x", bytes(3 * 2**20))
    fetched = watch_downloads(monkeypatch)
    with refused(Code.TOO_LARGE):
        store.read(C, "x", max_bytes=3 * 2**20 - 1)
    assert sum(fetched) <= 2**20
    fetched.clear()
    assert store.read(C, "x", max_bytes=3 * 2**20) == bytes(3 * 2**20)
    assert isinstance(store, MemoryBlobs) or sum(fetched) == 3 * 2**20  # it would have been seen


@pytest.mark.e2e
@pytest.mark.parametrize("size", [5, 3 * 2**20])
def test_read_gives_one_state_of_a_blob_that_is_written_to_meanwhile(
    azurite: tuple[Azurite, AzureBlobs], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Two deliveries of a step write the same document, each with another ETag, while a third reads it."""
    _, blobs = azurite
    first, other = b"1" * size, b"2" * size
    for number in range(3):  # before any request of the read
        blobs.put(C, "x", first)
        with monkeypatch.context() as patch:
            watch_downloads(patch, before=at(number, partial(blobs.put, C, "x", other)))
            assert blobs.read(C, "x", max_bytes=size) in (first, other)
    blobs.delete(C, "x")


@pytest.mark.e2e
def test_read_of_a_pinned_state_that_is_replaced_meanwhile_is_refused(
    azurite: tuple[Azurite, AzureBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, blobs = azurite
    size = 3 * 2**20
    for number in range(3):
        blobs.put(C, "x", b"1" * size)
        etag = etag_of(blobs, "x")
        with monkeypatch.context() as patch:
            watch_downloads(patch, before=at(number, partial(blobs.put, C, "x", b"2" * size)))
            with refused(Code.BLOB_CHANGED):
                blobs.read(C, "x", max_bytes=size, etag=etag)
    blobs.delete(C, "x")


@pytest.mark.e2e
def test_read_of_a_blob_that_is_written_to_without_end_gives_up(
    azurite: tuple[Azurite, AzureBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, blobs = azurite
    size = 2 * 2**20
    blobs.put(C, "x", b"1" * size)
    with monkeypatch.context() as patch:
        watch_downloads(patch, before=lambda _: blobs.put(C, "x", b"2" * size))
        with pytest.raises(ServiceError, match=Code.SERVICE_THROTTLED.name):
            blobs.read(C, "x", max_bytes=size)
    blobs.delete(C, "x")


@pytest.mark.e2e
def test_small_blob_is_read_with_one_request(
    azurite: tuple[Azurite, AzureBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, blobs = azurite
    blobs.put(C, "x", b"small")
    asked: list[str] = []
    send = HTTPAdapter.send

    def counted(adapter: HTTPAdapter, request: PreparedRequest, **options: Any) -> Response:
        asked.append(str(request.method))
        return send(adapter, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", counted)
        assert blobs.read(C, "x", max_bytes=100) == b"small"
    assert asked == ["GET"]
    blobs.delete(C, "x")


def test_read_of_another_state_is_refused(store: BlobStore) -> None:
    store.put(C, "x", b"one")
    etag = etag_of(store, "x")
    assert store.read(C, "x", max_bytes=9, etag=etag) == b"one"
    store.put(C, "x", b"two")
    with refused(Code.BLOB_CHANGED):
        store.read(C, "x", max_bytes=9, etag=etag)


def test_range_comes_whole_in_small_pieces_by_one_request(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 4096 * 9 + b"tail"
    store.put(C, "x", content)
    etag = etag_of(store, "x")
    sizes = watch_downloads(monkeypatch)
    pieces = list(store.read_range(C, "x", etag=etag, offset_bytes=5, size_bytes=9 * 2**20 - 5))
    assert b"".join(pieces) == content[5 : 9 * 2**20]
    assert max(len(piece) for piece in pieces) <= 2**20
    assert isinstance(store, MemoryBlobs) or sizes == [9 * 2**20 - 5]
    assert read_all(store, "x", etag, len(content) - 2, 2) == b"il"


@pytest.mark.parametrize("offset", [0, 8, 10])
def test_range_that_goes_beyond_the_end_is_of_another_blob(store: BlobStore, offset: int) -> None:
    store.put(C, "x", b"0123456789")
    with refused(Code.BLOB_CHANGED):
        read_all(store, "x", etag_of(store, "x"), offset, 11 - offset)


@pytest.mark.parametrize(
    "interfere", [lambda store: store.put(C, "x", b"1" * 4 * 2**20), lambda store: store.delete(C, "x")]
)
def test_range_of_a_blob_that_changes_in_the_middle_is_of_the_pinned_version_or_refused(
    store: BlobStore, interfere: Callable[[BlobStore], None]
) -> None:
    content = b"0" * 4 * 2**20
    store.put(C, "x", content)
    pieces = store.read_range(C, "x", etag=etag_of(store, "x"), offset_bytes=0, size_bytes=len(content))
    came = next(pieces)
    assert len(came) <= 2**20
    interfere(store)
    refusals = []
    try:
        for piece in pieces:
            came += piece
    except UntrustedInputError as error:
        refusals.append(error.code)
    assert content.startswith(came)
    assert refusals == ([] if came == content else [Code.BLOB_CHANGED])


def test_range_of_a_blob_that_was_written_to_is_refused(store: BlobStore) -> None:
    store.put(C, "x", b"0" * 100)
    etag = etag_of(store, "x")
    store.put(C, "x", b"1" * 100)
    with refused(Code.BLOB_CHANGED):
        read_all(store, "x", etag, 0, 100)


def test_range_of_a_blob_that_is_gone_is_refused(store: BlobStore) -> None:
    store.put(C, "x", b"0" * 10)
    etag = etag_of(store, "x")
    store.delete(C, "x")
    with refused(Code.BLOB_CHANGED):
        read_all(store, "x", etag, 0, 5)


def test_names_come_in_order_below_their_prefix(store: BlobStore) -> None:
    for name in ("c/2", "c/1", "cc/1", "b/1"):
        store.put(C, name, b"")
    assert list(store.list_names(C, "c/")) == ["c/1", "c/2"]


@pytest.mark.parametrize("page", [2, 5000])
def test_names_come_in_ascending_order_over_every_page(
    store: BlobStore, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["c/1", "c/10", "c/2", "c/A", "c/a", "c/b/1", "c/b/2"]
    for name in reversed(names):
        store.put(C, name, b"")
    pages = let_pages_hold(page, monkeypatch)
    assert list(store.list_names(C, "c/")) == names
    assert isinstance(store, MemoryBlobs) or len(pages) == (4 if page == 2 else 1)


def test_copy_is_complete_with_md5_and_the_metadata_asked_for(
    store: BlobStore, request: pytest.FixtureRequest
) -> None:
    upload(store, "a/001", b"content", {"some": "other"}, request)
    etag = etag_of(store, "a/001")
    assert store.copy((C, "a/001"), ("incoming", "b/001"), etag=etag, metadata=METADATA)
    source, copy = store.stat(C, "a/001"), store.stat("incoming", "b/001")
    assert source is not None
    assert copy is not None
    assert copy.content_md5 == source.content_md5 is not None
    assert dict(copy.metadata).items() >= METADATA.items()
    assert "some" not in copy.metadata
    assert store.read("incoming", "b/001", max_bytes=99) == b"content"


def test_copy_made_again_leaves_the_first_as_it_is(store: BlobStore) -> None:
    store.put(C, "x", b"content")
    etag = etag_of(store, "x")
    assert store.copy((C, "x"), ("incoming", "y"), etag=etag, metadata=METADATA)
    first = etag_of(store, "y", "incoming")
    assert store.copy((C, "x"), ("incoming", "y"), etag=etag, metadata=METADATA)
    assert etag_of(store, "y", "incoming") == first


def test_copy_of_another_state_is_refused_and_nothing_is_there(store: BlobStore) -> None:
    store.put(C, "x", b"verified")
    etag = etag_of(store, "x")
    store.put(C, "x", b"exchanged")
    with refused(Code.BLOB_CHANGED):
        store.copy((C, "x"), ("incoming", "y"), etag=etag, metadata=METADATA)
    assert store.stat("incoming", "y") is None
    store.delete(C, "x")
    with refused(Code.BLOB_CHANGED):
        store.copy((C, "x"), ("incoming", "y"), etag=etag, metadata=METADATA)


def test_copy_replaces_nothing(store: BlobStore) -> None:
    store.put("incoming", "y", b"squatter")
    store.put(C, "x", b"content")
    with pytest.raises(ServiceError, match="CONFLICT"):
        store.copy((C, "x"), ("incoming", "y"), etag=etag_of(store, "x"), metadata={})
    assert store.read("incoming", "y", max_bytes=99) == b"squatter"


@pytest.mark.e2e
def test_copy_that_another_delivery_started_first_is_that_copy(
    azurite: tuple[Azurite, AzureBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, blobs = azurite
    blobs.put(C, "x", b"content")
    etag = etag_of(blobs, "x")
    start = BlobClient.start_copy_from_url

    def overtaken(client: BlobClient, *args: Any, **more: Any) -> Any:
        monkeypatch.setattr(BlobClient, "start_copy_from_url", start)
        assert blobs.copy((C, "x"), ("incoming", "y"), etag=etag, metadata={})
        return start(client, *args, **more)

    monkeypatch.setattr(BlobClient, "start_copy_from_url", overtaken)
    assert blobs.copy((C, "x"), ("incoming", "y"), etag=etag, metadata={})
    assert blobs.read("incoming", "y", max_bytes=99) == b"content"
    for container, name in ((C, "x"), ("incoming", "y")):
        blobs.delete(container, name)


@pytest.mark.e2e
def test_copy_of_another_blob_that_bears_our_mark_is_not_ours(azurite: tuple[Azurite, AzureBlobs]) -> None:
    """Metadata can be written by whoever may write; which blob was copied is said by the storage."""
    server, blobs = azurite
    blobs.put(C, "x", b"verified")
    blobs.put(C, "evil", b"planted!")
    etag = etag_of(blobs, "x")
    with BlobClient(server.blob_url, "incoming", "y", credential=server.key) as planter:
        source = BlobClient(server.blob_url, C, "evil", credential=server.key)
        planter.start_copy_from_url(source.url, metadata={"airgapcopiedfrom": etag})
    with pytest.raises(ServiceError, match=r"CONFLICT.*not a copy of transfer/x"):
        blobs.copy((C, "x"), ("incoming", "y"), etag=etag, metadata={})
    for container, name in ((C, "x"), (C, "evil"), ("incoming", "y")):
        blobs.delete(container, name)


def test_copy_of_an_archived_blob_is_a_conflict_and_nothing_is_there(
    azurite: tuple[Azurite, AzureBlobs],
) -> None:
    server, blobs = azurite
    blobs.put(C, "archived", b"content")
    with server.service_client() as service:
        service.get_blob_client(C, "archived").set_standard_blob_tier(StandardBlobTier.ARCHIVE)
    with pytest.raises(ServiceError, match="CONFLICT"):
        blobs.copy((C, "archived"), ("staging", "copy"), etag=etag_of(blobs, "archived"), metadata={})
    assert blobs.stat("staging", "copy") is None
    blobs.delete(C, "archived")


def test_copy_tells_the_state_in_which_it_is_complete(store: BlobStore) -> None:
    store.put(C, "a é%20/x", b"content")
    etag = etag_of(store, "a é%20/x")
    for _ in range(2):
        copied = store.copy((C, "a é%20/x"), ("incoming", "y"), etag=etag, metadata=METADATA)
        assert copied == etag_of(store, "y", "incoming")


def test_content_md5_of_another_state_is_refused(store: BlobStore) -> None:
    store.put(C, "x", b"content")
    etag = etag_of(store, "x")
    store.put(C, "x", b"exchanged")
    before = etag_of(store, "x")
    with refused(Code.BLOB_CHANGED):
        store.set_content_md5(C, "x", MD5, etag=etag)
    assert etag_of(store, "x") == before
    store.delete(C, "x")
    with refused(Code.BLOB_CHANGED):
        store.set_content_md5(C, "x", MD5, etag=etag)


def test_content_md5_is_set_and_nothing_else_is_lost(
    store: BlobStore, request: pytest.FixtureRequest
) -> None:
    upload(store, "x", b"content", METADATA, request)
    etag = store.set_content_md5(C, "x", MD5, etag=etag_of(store, "x"))
    found = store.stat(C, "x")
    assert found is not None
    assert (found.content_md5, found.size_bytes, dict(found.metadata)) == (MD5, 7, METADATA)
    assert found.etag == etag


def test_delete_spares_another_state(store: BlobStore) -> None:
    store.put(C, "x", b"one")
    etag = etag_of(store, "x")
    store.put(C, "x", b"two")
    store.delete(C, "x", etag=etag)
    assert store.read(C, "x", max_bytes=9) == b"two"
    store.delete(C, "x", etag=etag_of(store, "x"))
    assert store.stat(C, "x") is None


@pytest.mark.e2e
def test_delete_takes_snapshots_along_and_breaks_a_lease(azurite: tuple[Azurite, AzureBlobs]) -> None:
    server, blobs = azurite
    blobs.put(C, "x", b"content")
    with server.service_client() as service:
        client = service.get_blob_client(C, "x")
        client.create_snapshot()
        client.acquire_lease()
    blobs.delete(C, "x", etag="0xANOTHER")
    assert blobs.stat(C, "x") is not None
    blobs.delete(C, "x", etag=etag_of(blobs, "x"))
    assert blobs.stat(C, "x") is None


@pytest.mark.e2e
def test_delete_of_what_is_leased_anew_all_the_time_is_a_conflict(
    azurite: tuple[Azurite, AzureBlobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, blobs = azurite
    blobs.put(C, "x", b"content")
    break_lease = BlobLeaseClient.break_lease
    with server.service_client() as service:
        client = service.get_blob_client(C, "x")
        client.acquire_lease()

        def break_it_in_vain(lease: BlobLeaseClient, **more: Any) -> int:
            broken = break_lease(lease, **more)
            client.acquire_lease()
            return broken

        monkeypatch.setattr(BlobLeaseClient, "break_lease", break_it_in_vain)
        with pytest.raises(ServiceError, match="CONFLICT"):
            blobs.delete(C, "x")
        monkeypatch.undo()
    blobs.delete(C, "x")
    assert blobs.stat(C, "x") is None


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_hold_every_name_once_though_what_was_listed_is_deleted(store: BlobStore, limit: int) -> None:
    names = ["c/1", "c/10", "c/2", "c/a", "c/b/1"]
    for name in [*reversed(names), "d/1"]:
        store.put(C, name, b"")
    seen: list[str] = []
    marker: str | None = None
    while True:
        page, marker = store.list_page(C, "c/", marker=marker, limit=limit)
        assert len(page) <= limit
        seen += page
        for name in page:
            if name != "c/10":
                store.delete(C, name)
        if marker is None:
            break
    assert seen == names
    assert list(store.list_names(C, "c/")) == ["c/10"]


@pytest.mark.e2e
def test_storage_that_does_not_answer_is_unreachable(azurite: tuple[Azurite, AzureBlobs]) -> None:
    del azurite  # for its certificate authority
    blobs = AzureBlobs("https://127.0.0.1:1/account", Credential(TokenAuthority()), retries=0)
    with pytest.raises(ServiceError, match="SERVICE_UNREACHABLE"):
        blobs.stat(C, "x")
    blobs.close()


def test_container_that_may_be_written_to_is_so_and_nothing_is_written(store: BlobStore) -> None:
    for _ in range(2):
        store.require_write(C)
    assert list(store.list_names(C, "")) == []


def test_container_that_does_not_exist_cannot_be_written_to(store: BlobStore) -> None:
    with pytest.raises(ServiceError) as missing:
        store.require_write("nowhere")
    assert missing.value.code is Code.NOT_FOUND


def tag(store: BlobStore, name: str, tags: dict[str, str], request: Any) -> None:
    """As the storage's scanner does."""
    if isinstance(store, MemoryBlobs):
        store.tagged[C, name] = tags
        return
    server, _ = request.getfixturevalue("azurite")
    with server.service_client() as service:
        service.get_blob_client(C, name).set_blob_tags(tags)


TAGS = {"Malware Scanning scan result": "No threats found", "Malware Scanning scan time UTC": "2026-11-23"}


def test_tags_are_those_of_the_blob_and_writing_them_changes_no_etag(
    store: BlobStore, request: pytest.FixtureRequest
) -> None:
    store.put(C, "x", b"content")
    before = etag_of(store, "x")
    assert store.tags(C, "x") == {}
    tag(store, "x", TAGS, request)
    assert store.tags(C, "x") == TAGS
    assert etag_of(store, "x") == before
    assert store.tags(C, "other") is None


def test_tags_of_a_source_are_not_those_of_its_copy_and_what_is_written_anew_has_none(
    store: BlobStore, request: pytest.FixtureRequest
) -> None:
    store.put(C, "x", b"content")
    tag(store, "x", TAGS, request)
    store.copy((C, "x"), ("staging", "y"), etag=etag_of(store, "x"), metadata={})
    assert store.tags("staging", "y") == {}
    store.put(C, "x", b"content")
    assert store.tags(C, "x") == {}
