"""The container against a service that wants to hold it up, blow it up, or take the operator's token."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from airgap.errors import AirgapError, Code, OperatorError
from blob_wire import paced_socket
from blob_wire.paced_socket import Pace
from offline_mover.storage.blob_store import AzureContainer
from offline_mover.storage.storage_address import TransferAddress
from tests.offline_mover.blob_server import Asked, BlobServer, Reply, range_of
from tests.offline_mover.storage.test_blob_store import Identity, container, listing

_NAME = "k3v9x2m7q1/001"
_MIB = 1024 * 1024


# --- listings ----------------------------------------------------------------------------------------------


def refused_listing(server: BlobServer, most: int = 10**6) -> AirgapError:
    with container(server) as store, pytest.raises(AirgapError) as caught:
        store.list_names("a/", most=most)
    return caught.value


@pytest.mark.parametrize("names", [(), ("a/1",), ("a/2", "a/1"), ("b/1",), ("a/1", "a/1")], ids=str)
def test_listing_whose_pages_bring_nothing_new_is_given_up(
    server: BlobServer, names: tuple[str, ...]
) -> None:
    number = itertools.count()
    server.answer = lambda _: listing(*names, marker=f"m{next(number)}")
    assert refused_listing(server).code is Code.SERVICE_UNEXPECTED
    assert len(server.asked) < 20


def test_listing_of_ever_new_names_one_to_a_page_is_given_up(server: BlobServer) -> None:
    number = itertools.count()

    def answer(_: Asked) -> Reply:
        at = next(number)
        return listing(f"a/{at:09d}", marker=f"m{at}")

    server.answer = answer
    assert refused_listing(server).code is Code.SERVICE_UNEXPECTED
    assert len(server.asked) <= 200


def test_page_without_names_is_passed_over(server: BlobServer) -> None:
    server.replies(listing("a/1", marker="m"), listing(marker="n"), listing("a/2"))
    with container(server) as store:
        assert store.list_names("a/", most=9) == ["a/1", "a/2"]


# --- documents ---------------------------------------------------------------------------------------------

_BOMB = (
    '<!DOCTYPE a [<!ENTITY b "' + "x" * 50_000 + '">]>'
    "<EnumerationResults><Blobs><Blob><Name>" + "&b;" * 100 + "</Name></Blob></Blobs></EnumerationResults>"
)
_DECLARED = '<?xml version="1.0" encoding="{}"?>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-7"])
@pytest.mark.parametrize("is_declared", [True, False])
def test_entities_are_refused_in_every_encoding(
    server: BlobServer, encoding: str, *, is_declared: bool
) -> None:
    text = (_DECLARED.format(encoding.partition("-l")[0]) if is_declared else "") + _BOMB
    server.replies(Reply(body=text.encode(encoding)))
    error = refused_listing(server)
    assert error.code is Code.SERVICE_UNEXPECTED
    assert len(server.asked) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_document_in_another_encoding_is_refused(server: BlobServer, encoding: str) -> None:
    server.replies(
        Reply(body=(_DECLARED.format(encoding) + "<BlockList>\u00e9</BlockList>").encode(encoding))
    )
    with container(server) as store, pytest.raises(AirgapError) as caught:
        store.staged_blocks(_NAME)
    assert caught.value.code is Code.SERVICE_UNEXPECTED


def test_document_with_a_byte_order_mark_is_read_as_azure_sends_it(server: BlobServer) -> None:
    plain = listing("a/\u00fc").body.decode()
    server.replies(Reply(body=(_DECLARED.format("utf-8") + plain).encode("utf-8-sig")))
    with container(server) as store:
        assert store.list_names("a/", most=9) == ["a/\u00fc"]


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" + b"<b/>" * _MIB + b"</a>",
        b"<a " + b" ".join(b"b%d=''" % number for number in range(200_000)) + b"/>",
        b"<a>" * 100_000,
        b"<EnumerationResults><Blobs>" + b"<Blob><Name/></Blob>" * 300_000 + b"</Blobs>",
    ],
    ids=["elements", "attributes", "depth", "empty names"],
)
def test_document_takes_little_more_memory_than_its_bytes(server: BlobServer, body: bytes) -> None:
    server.replies(Reply(body=body))
    tracemalloc.start()
    try:
        assert refused_listing(server).code is Code.SERVICE_UNEXPECTED
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(body) + 4 * _MIB  # the answer as pieces and as a whole, and what the sockets hold


# --- time --------------------------------------------------------------------------------------------------


def test_byte_now_and_then_does_not_keep_a_request_alive(
    server: BlobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece of the answer seems to come a minute after the one before; none is late for a time-out."""
    minutes = itertools.count(step=59)
    monkeypatch.setattr(paced_socket, "_now", lambda: float(next(minutes)))
    server.answer = lambda asked: range_of(asked, b"x" * (8 * _MIB))
    with container(server) as store, pytest.raises(AirgapError) as caught:
        list(store.read_range(_NAME, offset_bytes=0, size_bytes=8 * _MIB, etag='"e"'))
    assert caught.value.code is Code.SERVICE_UNREACHABLE
    assert "slow" in caught.value.detail


def kept(*waits: tuple[float, int]) -> list[bool]:
    """Whether the pace is kept, after each wait of so many seconds that brought so many bytes."""
    pace = Pace(window_s=60, least_bytes=1000)
    assert pace.keeps(100, 0)  # for the first byte of the answer
    return [pace.keeps(seconds, size) for seconds, size in waits]


def test_pace_is_judged_by_whole_windows() -> None:
    assert kept((59, 1), (1, 999)) == [True, True]
    assert kept((59, 1), (1, 998)) == [True, False]
    assert kept((120, 2000)) == [True]
    assert kept((120, 1999)) == [False]


def test_what_came_fast_before_is_no_credit_for_a_drip_afterwards() -> None:
    assert kept((1, 10**9), (60, 10), (60, 10)) == [True, True, False]


def test_wait_for_the_first_byte_is_not_a_drip() -> None:
    pace = Pace(window_s=60, least_bytes=1000)
    for _ in range(5):
        pace.begin()
        assert pace.keeps(100, 300)


# --- the operator's sign-in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "blob.core.windows.net.evil.example",
        "evilblob.core.windows.net",
        "acct.blob.core.windows.net:8443",
        "acct.privatelink.blob.core.windows.net.evil.example",
        "a.b.blob.core.windows.net",
        "storage.evil.example",
        "127.0.0.1:10000",
        "acct.file.core.windows.net",
    ],
)
def test_token_of_the_operator_goes_to_no_unknown_host(host: str) -> None:
    identity = Identity()
    address = TransferAddress.target(f"https://{host}/incoming")
    with pytest.raises(OperatorError) as caught:
        AzureContainer(address, sas=None, credential=identity)
    assert identity.tenants == []
    assert f"--token-host {host}" in caught.value.detail
    AzureContainer(address, sas=None, credential=identity, token_host=host)


@pytest.mark.parametrize(
    "host",
    [
        "acct.blob.core.windows.net",
        "acct-secondary.blob.core.windows.net",
        "acct.z01.blob.storage.azure.net",
        "ACCT.blob.core.usgovcloudapi.net",
        "acct.blob.core.chinacloudapi.cn",
        "acct.blob.core.windows.net:443",
    ],
)
def test_token_of_the_operator_goes_to_the_storages_of_the_clouds(host: str) -> None:
    AzureContainer(TransferAddress.target(f"https://{host}/incoming"), sas=None, credential=Identity())
