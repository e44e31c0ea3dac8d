"""The storage ports of the mover: Azurite, the double of its tests and the wrapper that retries are alike.

Every line of the docstrings of ``offline_mover/storage/ports.py`` is asked here, at its own bounds.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import generate_container_sas

from airgap.errors import AirgapError, Code, ServiceError, UntrustedInputError
from blob_wire.answers import PassingError
from function_app.azure.blob import AzureBlobs
from local_cloud.azurite import Azurite
from offline_mover.progress import Meter
from offline_mover.storage.blob_store import AzureContainer
from offline_mover.storage.ports import Block, WritableContainer
from offline_mover.storage.retrying import Retrying
from offline_mover.storage.storage_address import Sas, TransferAddress
from tests.offline_mover.memory_container import MemoryContainer

_MIB = 1024 * 1024
_FEW_MIB = 4 * _MIB


class Body(io.BytesIO):
    """What is sent; ``breaks_at`` is where reading it fails."""

    def __init__(self, content: bytes, *, breaks_at: int | None = None) -> None:
        super().__init__(content)
        self._breaks_at = breaks_at

    def __len__(self) -> int:
        return len(self.getvalue())

    def read(self, size: int | None = -1, /) -> bytes:
        left = len(self) - self.tell() if size is None or size < 0 else size
        if self._breaks_at is not None and self.tell() + left > self._breaks_at:
            raise _BrokenError
        return super().read(size)


class _BrokenError(Exception):
    """Of the one who sends: no failure of the storage."""


def _azurite(server: Azurite, name: str) -> WritableContainer:
    server.ensure_containers(name)
    token = generate_container_sas(
        server.account,
        name,
        account_key=server.key,
        permission="rcwl",
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    address = TransferAddress.target(f"{server.blob_url}/{name}")
    return AzureContainer(address, sas=Sas.from_text(token, "the test"))


def _patient(container: WritableContainer) -> WritableContainer:
    """With a clock that only waiting moves."""
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    return Retrying(
        container, retries=2, meter=Meter(), notice=lambda _: None, pause=pause, clock=lambda: now[0]
    )


@pytest.fixture(params=["memory", "azurite", "memory, retrying", "azurite, retrying"])
def storage(request: pytest.FixtureRequest) -> WritableContainer:
    """A container with nothing in it."""
    kind, _, is_patient = str(request.param).partition(", ")
    made: WritableContainer = MemoryContainer()
    if kind == "azurite":
        server, _ = _servers(request)
        made = _azurite(server, f"mover-{hashlib.sha256(request.node.name.encode()).hexdigest()[:30]}")
    return _patient(made) if is_patient else made


def _servers(request: pytest.FixtureRequest) -> tuple[Azurite, AzureBlobs]:
    found: tuple[Azurite, AzureBlobs] = request.getfixturevalue("azurite")
    return found


def put(storage: WritableContainer, name: str, *contents: bytes) -> bytes:
    """Commit a blob of these blocks; returns its content."""
    for index, content in enumerate(contents):
        storage.stage(name, f"block-{index:04d}", Body(content))
    storage.commit(
        name, [f"block-{index:04d}" for index in range(len(contents))], content_md5=None, metadata={}
    )
    return b"".join(contents)


def refusal(call: Callable[[], object], kind: type[ServiceError | UntrustedInputError]) -> Code:
    with pytest.raises(kind) as caught:
        call()
    return caught.value.code


# --- reading -----------------------------------------------------------------------------------------------


def test_small_blob_is_read_whole_up_to_the_limit_and_not_beyond(storage: WritableContainer) -> None:
    storage.create_small("t/small", b"x" * 1000)
    assert storage.read_small("t/small", max_bytes=1000) == b"x" * 1000
    assert refusal(lambda: storage.read_small("t/small", max_bytes=999), UntrustedInputError) is (
        Code.TOO_LARGE
    )
    assert storage.read_small("t/none", max_bytes=1000) is None


def test_empty_small_blob_is_there(storage: WritableContainer) -> None:
    storage.create_small("t/empty", b"")
    assert storage.read_small("t/empty", max_bytes=0) == b""


def test_description_is_of_what_was_committed(storage: WritableContainer) -> None:
    content = b"a" * 70_000
    md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    storage.stage("t/001", "only", Body(content))
    storage.commit("t/001", ["only"], content_md5=md5, metadata={"category": "acr-transfer-blob"})
    found = storage.describe("t/001")
    assert found is not None
    assert (found.size_bytes, found.content_md5) == (70_000, md5)
    assert {name.lower(): value for name, value in found.metadata.items()} == {
        "category": "acr-transfer-blob"
    }
    assert found.etag
    assert storage.describe("t/002") is None


def test_blob_that_is_staged_only_is_not_there(storage: WritableContainer) -> None:
    storage.stage("t/001", "a", Body(b"aaaa"))
    assert storage.describe("t/001") is None
    assert storage.read_small("t/001", max_bytes=10) is None
    assert storage.list_names("t/", most=10) == []


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 1), (0, 5 * _MIB + 17), (_MIB - 1, 2), (5 * _MIB + 16, 1), (17, 5 * _MIB)],
    ids=["first byte", "all", "over a border", "last byte", "the rest"],
)
def test_range_gives_exactly_its_bytes_in_pieces(storage: WritableContainer, offset: int, size: int) -> None:
    content = put(storage, "t/001", bytes(range(256)) * (3 * 4096), bytes(2 * _MIB), b"z" * 17)
    stored = storage.describe("t/001")
    assert stored is not None
    pieces = list(storage.read_range("t/001", offset_bytes=offset, size_bytes=size, etag=stored.etag))
    assert b"".join(pieces) == content[offset : offset + size]
    assert max(map(len, pieces)) <= _FEW_MIB


@pytest.mark.parametrize(("offset", "size"), [(0, 7), (2, 5), (6, 1)])
def test_range_that_goes_beyond_the_end_is_of_another_blob(
    storage: WritableContainer, offset: int, size: int
) -> None:
    put(storage, "t/001", b"abcdef")
    stored = storage.describe("t/001")
    assert stored is not None
    ranged = storage.read_range("t/001", offset_bytes=offset, size_bytes=size, etag=stored.etag)
    assert refusal(lambda: list(ranged), UntrustedInputError) is Code.BLOB_CHANGED


def test_range_of_another_version_is_refused(storage: WritableContainer) -> None:
    put(storage, "t/001", b"abcdef")
    ranged = storage.read_range("t/001", offset_bytes=0, size_bytes=6, etag='"0x8DEADBEEF0000000"')
    assert refusal(lambda: list(ranged), UntrustedInputError) is Code.BLOB_CHANGED


def test_range_of_a_blob_that_is_gone_is_refused_for_good(storage: WritableContainer) -> None:
    ranged = storage.read_range("t/none", offset_bytes=0, size_bytes=6, etag='"0x8DEADBEEF0000000"')
    with pytest.raises(AirgapError) as caught:
        list(ranged)
    assert caught.value.code in {Code.NOT_FOUND, Code.BLOB_CHANGED}
    assert not isinstance(caught.value, PassingError)


def test_names_come_in_order_by_prefix_and_no_more_than_asked_for(storage: WritableContainer) -> None:
    names = [f"a/{number:02d}" for number in (7, 3, 5)] + ["ab", "b/01"]
    for name in names:
        storage.create_small(name, b"x")
    assert storage.list_names("a/", most=10) == ["a/03", "a/05", "a/07"]
    assert storage.list_names("a/", most=3) == ["a/03", "a/05", "a/07"]
    assert storage.list_names("a/", most=2) == ["a/03", "a/05"]
    assert storage.list_names("a/", most=0) == []
    assert storage.list_names("", most=10) == sorted(names)
    assert storage.list_names("c", most=10) == []


# --- writing -----------------------------------------------------------------------------------------------


def test_blocks_are_seen_staged_then_committed_in_the_order_of_the_commit(storage: WritableContainer) -> None:
    assert storage.staged_blocks("t/001") == []
    assert storage.committed_blocks("t/001") == []
    storage.stage("t/001", "second", Body(b"22"))
    storage.stage("t/001", "first-", Body(b"1"))
    staged = {Block(block_id="second", size_bytes=2), Block(block_id="first-", size_bytes=1)}
    assert set(storage.staged_blocks("t/001")) == staged
    assert storage.committed_blocks("t/001") == []
    storage.commit("t/001", ["first-", "second"], content_md5=None, metadata={})
    assert storage.read_small("t/001", max_bytes=3) == b"122"
    assert storage.committed_blocks("t/001") == [
        Block(block_id="first-", size_bytes=1),
        Block(block_id="second", size_bytes=2),
    ]
    assert storage.staged_blocks("t/001") == []


def test_block_that_is_staged_again_counts_once(storage: WritableContainer) -> None:
    for _ in range(3):
        storage.stage("t/001", "same", Body(b"same"))
    assert storage.staged_blocks("t/001") == [Block(block_id="same", size_bytes=4)]


def test_block_whose_sender_breaks_off_is_not_taken_and_its_error_comes_through(
    storage: WritableContainer,
) -> None:
    body = Body(b"x" * 3 * _MIB, breaks_at=2 * _MIB)
    with pytest.raises(_BrokenError):
        storage.stage("t/001", "half", body)
    # Asked as a mover asks: Azurite now and then writes what it still had of the block into the connection
    # that comes next, whose descriptor is that of the file which it has closed too early.
    assert _patient(storage).staged_blocks("t/001") == []


def test_commit_of_a_block_that_is_not_staged_is_refused_and_leaves_no_blob(
    storage: WritableContainer,
) -> None:
    storage.stage("t/001", "here", Body(b"here"))
    commit = lambda: storage.commit("t/001", ["here", "gone"], content_md5=None, metadata={})  # noqa: E731
    assert refusal(commit, ServiceError) is Code.SERVICE_REJECTED
    assert storage.describe("t/001") is None


def test_second_commit_is_a_conflict_and_changes_nothing(storage: WritableContainer) -> None:
    put(storage, "t/001", b"first")
    storage.stage("t/001", "other", Body(b"other"))
    commit = lambda: storage.commit("t/001", ["other"], content_md5=None, metadata={})  # noqa: E731
    assert refusal(commit, ServiceError) is Code.CONFLICT
    assert storage.read_small("t/001", max_bytes=10) == b"first"


def staged_blob(storage: WritableContainer) -> str:
    """A blob of three blocks; returns its ETag."""
    for block_id in ("one", "two", "six"):
        storage.stage("t/001", block_id, Body(block_id.encode()))
    storage.commit("t/001", ["one", "two", "six"], content_md5=None, metadata={"a": "b"})
    found = storage.describe("t/001")
    assert found is not None
    return found.etag


def replaced(storage: WritableContainer, etag: str, *block_ids: str) -> None:
    storage.replace_blocks(
        "t/001",
        ["one", "two", "six"],
        replaced=set(block_ids),
        etag=etag,
        content_md5=None,
        metadata={"c": "d"},
    )


def test_blocks_are_replaced_and_the_others_stay_whatever_is_staged_under_their_names(
    storage: WritableContainer,
) -> None:
    etag = staged_blob(storage)
    for block_id in ("two", "six"):
        storage.stage("t/001", block_id, Body(b"new"))
    replaced(storage, etag, "two")
    assert storage.read_small("t/001", max_bytes=10) == b"onenewsix"
    assert [block.block_id for block in storage.committed_blocks("t/001")] == ["one", "two", "six"]
    found = storage.describe("t/001")
    assert found is not None
    assert (dict(found.metadata), found.etag == etag) == ({"c": "d"}, False)


def test_blocks_of_another_version_or_of_no_blob_are_not_replaced(storage: WritableContainer) -> None:
    etag = staged_blob(storage)
    storage.stage("t/001", "two", Body(b"new"))
    replaced(storage, etag, "two")
    storage.stage("t/001", "two", Body(b"old"))
    assert refusal(lambda: replaced(storage, etag, "two"), ServiceError) is Code.CONFLICT
    assert storage.read_small("t/001", max_bytes=10) == b"onenewsix"


def test_block_that_is_not_staged_replaces_nothing(storage: WritableContainer) -> None:
    etag = staged_blob(storage)
    assert refusal(lambda: replaced(storage, etag, "two"), ServiceError) is Code.SERVICE_REJECTED
    assert storage.read_small("t/001", max_bytes=10) == b"onetwosix"


def test_second_small_blob_is_a_conflict_and_changes_nothing(storage: WritableContainer) -> None:
    storage.create_small("t/m", b"first")
    assert refusal(lambda: storage.create_small("t/m", b"first"), ServiceError) is Code.CONFLICT
    assert storage.read_small("t/m", max_bytes=10) == b"first"
    assert storage.committed_blocks("t/m") == [], "not made of blocks"
