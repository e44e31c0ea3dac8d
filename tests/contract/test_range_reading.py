"""One suite for whoever reads a part of a blob: the app and the mover, over the wire that both have.

The storage is a real HTTPS server that does what each test says: breaks off, is busy, or lies.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from airgap.errors import AirgapError, Code, ServiceError
from blob_wire.ranges import resumed
from function_app.azure.blob import AzureBlobs
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from offline_mover.progress import Meter
from offline_mover.storage.blob_store import AzureContainer
from offline_mover.storage.retrying import Retrying
from offline_mover.storage.storage_address import Sas, TransferAddress
from tests.contract.credential import Credential
from tests.offline_mover.blob_server import Asked, BlobServer, Reply, range_of, run_blob_server

MIB = 2**20
NAME = "k3v9x2m7q1/001"
PATH = f"/account/transfer/{NAME}"
RETRIES = 3
CONTENT = hashlib.shake_128(b"a blob").digest(5 * MIB + 17)
Answer = Callable[[Asked], Reply]


class Read(Protocol):
    """A part of the blob, whose ETag is ``"e"``."""

    def __call__(self, offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
        """Its bytes."""


class Site:
    """One end, and the storage that it reads; ``waits`` are those between its tries, in seconds."""

    def __init__(self, server: BlobServer, read: Read, waits: list[float]) -> None:
        self.server = server
        self.pieces = read
        self.waits = waits

    def read(self, offset_bytes: int = 0, size_bytes: int = len(CONTENT)) -> bytes:
        return b"".join(self.pieces(offset_bytes, size_bytes))

    def refused(self, offset_bytes: int = 0, size_bytes: int = len(CONTENT)) -> Code:
        with pytest.raises(AirgapError) as caught:
            self.read(offset_bytes, size_bytes)
        return caught.value.code

    @property
    def ranges(self) -> list[str]:
        """What was asked for so far."""
        return [asked.headers["x-ms-range"].removeprefix("bytes=") for asked in self.server.asked]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BlobServer, Path]]:
    ca = CertificateAuthority.create(tmp_path_factory.mktemp("pki"))
    with run_blob_server(ca) as server:
        yield server, ca.ca_file


@pytest.fixture(params=["app", "mover"])
def site(
    request: pytest.FixtureRequest, running: tuple[BlobServer, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    server, ca_file = running
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    server.asked.clear()
    server.answer = lambda asked: range_of(asked, CONTENT)
    waits: list[float] = []
    if request.param == "app":
        blobs = AzureBlobs(server.url, Credential(TokenAuthority()), retries=RETRIES, pause=waits.append)

        def read(offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
            return blobs.read_range(
                "transfer", NAME, etag="e", offset_bytes=offset_bytes, size_bytes=size_bytes
            )

        yield Site(server, read, waits)
        blobs.close()
        return
    address = TransferAddress.target(f"{server.url}/transfer")
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    with AzureContainer(address, sas=Sas.from_text("sp=r&sig=none", "the test")) as container:
        patient = Retrying(
            container,
            retries=RETRIES,
            meter=Meter(),
            notice=lambda line: waits.append(float(line.split("again in ")[1].split(" ")[0])),
            pause=pause,
            clock=lambda: now[0],
        )

        def fetch(offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
            return patient.read_range(NAME, offset_bytes=offset_bytes, size_bytes=size_bytes, etag='"e"')

        yield Site(server, fetch, waits)


def then(*answers: Answer) -> Answer:
    """Answer with each in turn, with the last one for ever."""
    left = list(answers)

    def answer(asked: Asked) -> Reply:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now(asked)

    return answer


def right(asked: Asked) -> Reply:
    return range_of(asked, CONTENT)


def cut(at: int) -> Answer:
    """The right answer, whose connection breaks after so many bytes."""

    def answer(asked: Asked) -> Reply:
        reply = right(asked)
        return dataclasses.replace(reply, body=reply.body[:at], length=len(reply.body))

    return answer


def told(*, body: bytes | None = None, **headers: str) -> Answer:
    """The right answer, but for these headers and this body; without a header whose value is empty."""

    def answer(asked: Asked) -> Reply:
        reply = right(asked)
        changed = {**reply.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return dataclasses.replace(
            reply,
            headers={name: value for name, value in changed.items() if value},
            body=reply.body if body is None else body,
        )

    return answer


def status(code: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(status=code, headers=named)


# --- what is right -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 1), (0, len(CONTENT)), (17, 3 * MIB), (len(CONTENT) - 1, 1)],
    ids=["first byte", "all", "middle", "last byte"],
)
def test_range_comes_by_one_request_pinned_to_its_version(site: Site, offset: int, size: int) -> None:
    assert site.read(offset, size) == CONTENT[offset : offset + size]
    assert site.ranges == [f"{offset}-{offset + size - 1}"]
    (asked,) = site.server.asked
    assert (asked.method, asked.headers["if-match"]) == ("GET", '"e"')
    assert asked.path.partition("?")[0] == PATH


def test_whole_blob_may_come_as_one(site: Site) -> None:
    site.server.answer = lambda _: Reply(headers={"ETag": '"e"'}, body=CONTENT)
    assert site.read() == CONTENT


def test_one_connection_serves_one_part_after_another(site: Site) -> None:
    for number in range(5):
        assert site.read(number * MIB, MIB) == CONTENT[number * MIB : (number + 1) * MIB]
    assert len({asked.connection for asked in site.server.asked}) == 1


def test_part_of_any_size_takes_the_memory_of_a_few_pieces(site: Site) -> None:
    site.read()
    tracemalloc.start()
    try:
        digest = hashlib.sha256()
        for piece in site.pieces(0, len(CONTENT)):
            digest.update(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(CONTENT).digest()
    assert peak < len(CONTENT) + 2 * MIB  # the server is in this process, and holds one answer whole


# --- what breaks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaks", [[0], [1], [MIB + 3], [0, 0, 17], [2 * MIB] * 2, [len(CONTENT) - 10]])
def test_stream_that_is_cut_goes_on_where_it_broke(site: Site, breaks: list[int]) -> None:
    site.server.answer = then(*(cut(at) for at in breaks), right)
    assert site.read(5, len(CONTENT) - 5) == CONTENT[5:]
    begins = [int(asked.partition("-")[0]) for asked in site.ranges]
    assert begins == sorted(begins)
    # At most what was on its way in a connection that broke is asked for again.
    assert all(begin <= 5 + sum(breaks[:number]) for number, begin in enumerate(begins))
    assert {asked.partition("-")[2] for asked in site.ranges} == {str(len(CONTENT) - 1)}
    assert all(asked.headers["if-match"] == '"e"' for asked in site.server.asked)


def test_stream_that_comes_no_further_is_given_up_and_waited_for_ever_longer(site: Site) -> None:
    site.server.answer = cut(1)
    assert site.refused() is Code.SERVICE_UNREACHABLE
    assert len(site.ranges) == 1 + RETRIES
    assert len(site.waits) == RETRIES
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(site.waits, (1, 2, 4), strict=True))


@pytest.mark.parametrize("code", [503, 429, 500, 502, 504, 408])
def test_busy_or_failing_storage_is_asked_again_until_the_tries_are_over(site: Site, code: int) -> None:
    site.server.answer = then(status(code), status(code), right)
    assert site.read() == CONTENT
    site.server.asked.clear()
    site.server.answer = status(code)
    assert site.refused().is_retryable
    assert len(site.server.asked) == 1 + RETRIES


def test_busy_storage_says_how_long_it_wants_to_be_left_alone(site: Site) -> None:
    site.server.answer = then(status(503, Retry_After="7"), right)
    assert site.read() == CONTENT
    (wait,) = site.waits
    assert 7 <= wait <= 8


def test_busy_storage_in_the_middle_of_a_part_goes_on_from_there(site: Site) -> None:
    site.server.answer = then(cut(2 * MIB), status(503), right)
    assert site.read() == CONTENT
    assert site.ranges[0].startswith("0-")
    assert site.ranges[1] == site.ranges[2]


def test_stream_that_breaks_after_its_last_byte_is_whole() -> None:
    def read(done: int) -> Iterator[bytes]:
        yield b"abc"[done:]
        raise ServiceError(Code.SERVICE_UNREACHABLE, "reset")

    waits: list[int] = []
    assert b"".join(resumed(read, 3, lambda _, tries: waits.append(tries))) == b"abc"
    assert waits == []


# --- what changed or lies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [412, 416])
def test_blob_of_another_version_is_refused_at_once(site: Site, code: int) -> None:
    site.server.answer = status(code)
    assert site.refused() is Code.BLOB_CHANGED
    assert len(site.server.asked) == 1


def test_blob_that_is_gone_is_refused_at_once(site: Site) -> None:
    site.server.answer = status(404, x_ms_error_code="BlobNotFound")
    assert site.refused() in {Code.BLOB_CHANGED, Code.NOT_FOUND}
    assert len(site.server.asked) == 1


def test_blob_that_changes_while_a_broken_stream_is_waited_for_is_refused(site: Site) -> None:
    site.server.answer = then(cut(MIB), lambda asked: range_of(asked, CONTENT, etag='"f"'))
    assert site.refused() is Code.BLOB_CHANGED
    assert len(site.server.asked) == 2


def test_answer_of_another_version_is_refused_although_the_condition_was_sent(site: Site) -> None:
    site.server.answer = told(ETag='"f"')
    assert site.refused() is Code.BLOB_CHANGED


@pytest.mark.parametrize("size", [len(CONTENT) + 1, 2 * len(CONTENT)])
def test_blob_that_ends_before_the_part_does_is_another(site: Site, size: int) -> None:
    assert site.refused(0, size) is Code.BLOB_CHANGED
    site.server.answer = lambda _: Reply(headers={"ETag": '"e"'}, body=CONTENT)
    assert site.refused(0, size) is Code.BLOB_CHANGED
    assert len(site.server.asked) == 2


def test_answer_that_says_no_version_is_not_taken(site: Site) -> None:
    site.server.answer = told(ETag="")
    assert site.refused() is Code.SERVICE_UNEXPECTED
    assert len(site.server.asked) == 1 + RETRIES


_TOTAL = len(CONTENT)


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes 0-{MIB - 1}/{_TOTAL}",
        f"bytes {MIB - 1}-{2 * MIB - 2}/{_TOTAL}",
        f"bytes {MIB + 1}-{2 * MIB}/{_TOTAL}",
        f"bytes {MIB}-{2 * MIB - 1}/*",
        f"bytes {MIB}-/{_TOTAL}",
        f"{MIB}-{2 * MIB - 1}/{_TOTAL}",
        f"bytes {MIB}-{2 * MIB - 1}/{_TOTAL}, bytes 0-1/{_TOTAL}",
        f"bytes {'9' * 40}-{2 * MIB - 1}/{_TOTAL}",
        "",
    ],
)
def test_answer_that_is_not_said_to_begin_where_it_should_is_not_taken(
    site: Site, content_range: str
) -> None:
    site.server.answer = then(told(Content_Range=content_range), right)
    assert site.read(MIB, MIB) == CONTENT[MIB : 2 * MIB]
    assert site.ranges == [f"{MIB}-{2 * MIB - 1}"] * 2


def test_whole_blob_is_no_answer_to_a_range_in_its_middle(site: Site) -> None:
    site.server.answer = lambda _: Reply(headers={"ETag": '"e"'}, body=CONTENT)
    assert site.refused(MIB, MIB) in {Code.SERVICE_REJECTED, Code.SERVICE_UNEXPECTED}


@pytest.mark.parametrize(
    "answer",
    [
        told(body=CONTENT[MIB : 2 * MIB + 1]),
        told(Content_Range=f"bytes {MIB}-{2 * MIB}/{_TOTAL}"),
        told(Content_Range=f"bytes {MIB}-{2 * MIB - 2}/{_TOTAL}"),
    ],
    ids=["a byte too many", "a range that is too long", "more than it says"],
)
def test_answer_that_is_longer_than_asked_for_or_told_is_refused(site: Site, answer: Answer) -> None:
    site.server.answer = answer
    assert site.refused(MIB, MIB) is Code.TOO_LARGE
    assert len(site.server.asked) == 1


def test_endless_answer_is_left_after_the_part(site: Site) -> None:
    sent: list[Any] = []

    def answer(asked: Asked) -> Reply:
        sent.append(asked)
        return Reply(headers={"ETag": '"e"'}, body=bytes(8 * MIB), length=2**50)

    site.server.answer = answer
    assert site.refused(0, MIB) is Code.TOO_LARGE
    assert len(sent) == 1


def test_answer_that_is_shorter_than_asked_for_is_gone_on_from(site: Site) -> None:
    def half(asked: Asked) -> Reply:
        first, last = (int(bound) for bound in asked.headers["x-ms-range"].removeprefix("bytes=").split("-"))
        middle = (first + last) // 2
        return told(Content_Range=f"bytes {first}-{middle}/{_TOTAL}", body=CONTENT[first : middle + 1])(asked)

    site.server.answer = then(half, right)
    assert site.read(0, 2 * MIB) == CONTENT[: 2 * MIB]
    assert site.ranges == [f"0-{2 * MIB - 1}", f"{MIB}-{2 * MIB - 1}"]


@pytest.mark.parametrize("code", [401, 403])
def test_whoever_may_not_read_is_told_so_at_once(site: Site, code: int) -> None:
    site.server.answer = status(code)
    assert site.refused() in {Code.SERVICE_DENIED, Code.CREDENTIAL_EXPIRED}
    assert len(site.server.asked) == 1
    assert site.waits == []


def test_container_that_is_not_there_is_a_fault_of_the_deployment(site: Site) -> None:
    site.server.answer = status(404, x_ms_error_code="ContainerNotFound")
    assert site.refused() is Code.NOT_FOUND


def test_redirect_is_not_followed(site: Site) -> None:
    site.server.answer = status(307, Location=f"{site.server.url}/elsewhere")
    assert site.refused() in {Code.SERVICE_REJECTED, Code.SERVICE_UNEXPECTED}
    assert {asked.path.partition("?")[0] for asked in site.server.asked} == {PATH}
