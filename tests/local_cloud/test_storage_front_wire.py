"""The front on the wire: bodies of any size go through it as they come, and connections stay."""

import http.client
import json
import os
import re
import socket
import ssl
import threading
import tracemalloc
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from local_cloud.tokens import STORAGE_AUDIENCE
from tests.local_cloud.acr_transfer_harness import needs_azurite
from tests.local_cloud.front_harness import Fronted, fronted

pytestmark = [pytest.mark.e2e, needs_azurite]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted(tmp_path_factory.mktemp("wire")) as made:
        made.assign("writer", "Storage Blob Data Contributor")
        yield made


@pytest.fixture
def container(account: Fronted) -> str:
    return account.container()


@pytest.fixture
def connection(account: Fronted) -> Iterator[http.client.HTTPSConnection]:
    made = http.client.HTTPSConnection(_host(account), timeout=60, context=_context(account))
    yield made
    made.close()


def _host(account: Fronted) -> str:
    return urlsplit(account.blob_url).netloc


def _context(account: Fronted) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(account.azurite.ca_file))


def _headers(account: Fronted, principal: str = "writer") -> dict[str, str]:
    token = account.tokens.mint(principal, STORAGE_AUDIENCE)
    return {
        "Authorization": f"Bearer {token}",
        "x-ms-version": "2021-12-02",
        "x-ms-blob-type": "BlockBlob",
    }


def _path(account: Fronted, container: str, name: str) -> str:
    return f"{urlsplit(account.blob_url).path}/{container}/{name}"


def test_connection_stays_over_requests_of_all_kinds(
    account: Fronted, container: str, connection: http.client.HTTPSConnection
) -> None:
    path, content = _path(account, container, "a"), os.urandom(300_000)

    def call(method: str, body: object = None, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection.request(method, path, body, _headers(account) | headers)  # type: ignore[arg-type]
        answer = connection.getresponse()
        return answer, answer.read()

    answer, _ = call("PUT", content)
    assert answer.status == 201
    used = connection.sock
    answer, body = call("HEAD")
    assert (answer.status, answer.headers["Content-Length"], body) == (200, "300000", b"")
    answer, body = call("GET", Range="bytes=100-299999")
    assert (answer.status, body) == (206, content[100:])
    assert answer.headers["Content-Range"] == "bytes 100-299999/300000"
    answer, body = call("GET", **{"If-None-Match": answer.headers["ETag"]})
    assert (answer.status, body) == (304, b"")
    answer, _ = call("GET", Authorization="Bearer abc")
    assert answer.status == 401
    answer, body = call("GET")
    assert (answer.status, body) == (200, content)
    answer, _ = call("DELETE")
    assert answer.status == 202
    assert connection.sock is used


def test_question_for_a_missing_blob_leaves_azurites_connection_open(
    account: Fronted, container: str
) -> None:
    # Without a length the front's client would take the end of the connection for the end of the answer.
    url = urlsplit(account.azurite.blob_url)
    direct = http.client.HTTPSConnection(url.netloc, timeout=60, context=_context(account))
    direct.request("HEAD", f"{url.path}/{container}/missing", headers=_headers(account))
    answer = direct.getresponse()
    assert (answer.status, answer.headers["Content-Length"], answer.will_close) == (404, "0", False)
    direct.close()


def test_chunked_bodies_go_through(account: Fronted) -> None:
    # Of blobs the service wants to know the size beforehand.
    account.azurite.ensure_table("chunked")
    account.assign("writer", "Storage Table Data Contributor")
    url = urlsplit(account.front.url("table", account.account.name))
    connection = http.client.HTTPSConnection(url.netloc, timeout=60, context=_context(account))
    headers = {**_headers(account), "Content-Type": "application/json", "Accept": "application/json"}
    long = "x" * 20_000
    body = json.dumps({"PartitionKey": "p", "RowKey": "r", "long": long}).encode()
    pieces = (body[start : start + 7000] for start in range(0, len(body), 7000))
    connection.request("POST", f"{url.path}/chunked", pieces, headers)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["long"]) == (201, long)
    connection.request("GET", f"{url.path}/chunked()", headers=headers)
    assert json.loads(connection.getresponse().read())["value"][0]["long"] == long
    connection.close()


def _exchange(account: Fronted, sent: bytes, until: bytes) -> bytes:
    """What comes back on a connection until some bytes are there, or it ends."""
    host, port = _host(account).split(":")
    with (
        socket.create_connection((host, int(port)), 30) as plain,
        _context(account).wrap_socket(plain, server_hostname=host) as wire,
    ):
        wire.sendall(sent)
        got = b""
        while until not in got and (piece := wire.recv(65536)):
            got += piece
        return got


def _request(account: Fronted, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {_host(account)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_requests_that_follow_without_waiting_are_answered_in_order(account: Fronted, container: str) -> None:
    requests = [
        _request(
            account,
            "PUT",
            _path(account, container, f"b{number}"),
            {**_headers(account), "Content-Length": "1"},
            str(number).encode(),
        )
        for number in range(3)
    ]
    requests += [
        _request(account, "GET", _path(account, container, f"b{number}"), _headers(account))
        for number in (1, 0)
    ]
    last = _request(account, "HEAD", _path(account, container, "missing"), _headers(account))
    got = _exchange(account, b"".join([*requests, last]), b"HTTP/1.1 404")
    assert re.findall(rb"HTTP/1.1 (\d{3})", got) == [b"201", b"201", b"201", b"200", b"200", b"404"]
    assert got.index(b"\r\n\r\n1") < got.index(b"\r\n\r\n0")


def test_header_that_is_there_twice_is_not_read_in_two_ways(account: Fronted, container: str) -> None:
    twice = {**_headers(account), "x-ms-meta-a": "1", "X-MS-Meta-A": "2", "Content-Length": "0"}
    got = _exchange(account, _request(account, "PUT", _path(account, container, "a"), twice), b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400")


def test_body_is_asked_for_only_from_who_may_send_it(account: Fronted, container: str) -> None:
    path = _path(account, container, "a")
    asking = {"Expect": "100-continue", "Content-Length": "4"}
    got = _exchange(
        account, _request(account, "PUT", path, {**_headers(account), **asking}), b"100 Continue\r\n\r\n"
    )
    assert got == b"HTTP/1.1 100 Continue\r\n\r\n"
    got = _exchange(
        account, _request(account, "PUT", path, {**_headers(account, "stranger"), **asking}), b"</Error>"
    )
    assert got.startswith(b"HTTP/1.1 403")


def test_refused_upload_of_64_mib_is_told_and_not_cut(
    account: Fronted, container: str, connection: http.client.HTTPSConnection
) -> None:
    connection.request(
        "PUT", _path(account, container, "a"), os.urandom(64 * MIB), _headers(account, "stranger")
    )
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-ms-error-code"]) == (403, "AuthorizationPermissionMismatch")


def test_upload_that_breaks_off_leaves_no_blob(account: Fronted, container: str) -> None:
    path = _path(account, container, "broken")
    _exchange(
        account,
        _request(account, "PUT", path, {**_headers(account), "Content-Length": str(4 * MIB)}, bytes(MIB)),
        b"",
    )
    assert account.send("HEAD", f"/{container}/broken", "writer").status_code == 404


def test_large_bodies_take_no_memory(
    account: Fronted, container: str, connection: http.client.HTTPSConnection
) -> None:
    size, piece = 192 * MIB, os.urandom(MIB)
    path = _path(account, container, "large")
    tracemalloc.start()  # the front is a thread of this process
    try:
        connection.request(
            "PUT",
            path,
            (piece for _ in range(size // MIB)),
            {**_headers(account), "Content-Length": str(size)},
        )
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201
        connection.request("GET", path, headers=_headers(account))
        answer = connection.getresponse()
        gone = 0
        while block := answer.read(MIB):
            gone += len(block)
        assert gone == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * MIB


def test_slow_reader_holds_nothing_up_and_fills_no_memory(account: Fronted, container: str) -> None:
    size = 64 * MIB
    with account.azurite.service_client() as service:
        service.get_blob_client(container, "large").upload_blob(os.urandom(size))
    host, port = _host(account).split(":")
    tracemalloc.start()
    try:
        with (
            socket.create_connection((host, int(port)), 30) as plain,
            _context(account).wrap_socket(plain, server_hostname=host) as wire,
        ):
            wire.sendall(_request(account, "GET", _path(account, container, "large"), _headers(account)))
            assert wire.recv(65536)
            # It reads no more; others are answered all the same, and what waits for it is not held here.
            for _ in range(20):
                assert account.send("HEAD", f"/{container}/large", "writer").status_code == 200
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * MIB


def test_concurrent_uploads_all_arrive(account: Fronted, container: str) -> None:
    def upload(name: str) -> None:
        answers.append(
            account.send(
                "PUT",
                f"/{container}/{name}",
                "writer",
                {"x-ms-blob-type": "BlockBlob"},
                data=name.encode() * 1000,
            ).status_code
        )

    answers: list[int] = []
    names = [str(uuid.uuid4()) for _ in range(12)]
    threads = [threading.Thread(target=upload, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [201] * len(names)
    with account.azurite.service_client() as service:
        found = service.get_container_client(container)
        assert {blob.name: blob.size for blob in found.list_blobs()} == dict.fromkeys(names, 36_000)
