from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from airgap.errors import AirgapError, Code, MediaError, ServiceError, UntrustedInputError
from blob_wire.answers import PassingError
from blob_wire.ranges import MAX_WAIT_S
from offline_mover.progress import Cancelled, Meter
from offline_mover.storage.ports import WritableContainer
from offline_mover.storage.retrying import Retrying
from tests.offline_mover.memory_container import PIECE_BYTES, HeldBlob, MemoryContainer

_BUSY = "the storage is busy (503)"


def busy(wait_s: float | None = None) -> PassingError:
    return PassingError(Code.SERVICE_THROTTLED, "001: status 503", reason=_BUSY, wait_s=wait_s)


class Desk:
    """A container that fails when told to, the wrapper round it, and a clock that only waiting moves."""

    def __init__(self, *, retries: int = 5, container: WritableContainer | None = None) -> None:
        self.held = MemoryContainer()
        self.meter = Meter()
        self.said: list[str] = []
        self.now = 100.0
        self.failures: list[Exception] = []
        self.when_waiting: Callable[[], None] = lambda: None
        self.held.before = self._fail
        self.tried = Retrying(
            container or self.held,
            retries=retries,
            meter=self.meter,
            notice=self.said.append,
            pause=self._pause,
            clock=lambda: self.now,
            jitter=lambda: 1.0,
        )

    def _fail(self, method: str, _name: str) -> None:
        if self.failures and method != "read_piece":
            raise self.failures.pop(0)

    def _pause(self, seconds: float) -> None:
        self.now += seconds
        self.when_waiting()


@pytest.mark.parametrize("code", [Code.SERVICE_UNREACHABLE, Code.SERVICE_THROTTLED, Code.SERVICE_UNEXPECTED])
def test_what_may_pass_is_tried_again_and_said(code: Code) -> None:
    desk = Desk()
    desk.failures = [ServiceError(code, "why"), ServiceError(code, "why")]
    assert desk.tried.describe("001") is None
    assert desk.held.count("describe") == 3
    assert desk.said == [
        f"{code.name} why; trying again in 1 s, 1 of 5",
        f"{code.name} why; trying again in 2 s, 2 of 5",
    ]
    assert desk.now == pytest.approx(103)


@pytest.mark.parametrize(
    "error",
    [
        ServiceError(Code.SERVICE_DENIED),
        ServiceError(Code.CREDENTIAL_EXPIRED),
        ServiceError(Code.CONFLICT),
        ServiceError(Code.SERVICE_REJECTED),
        UntrustedInputError(Code.BLOB_CHANGED),
        MediaError(Code.MEDIA_UNREADABLE),
    ],
)
def test_what_does_not_pass_is_not_tried_again(error: AirgapError) -> None:
    desk = Desk()
    desk.failures = [error]
    with pytest.raises(type(error)) as caught:
        desk.tried.describe("001")
    assert caught.value is error
    assert (desk.held.count("describe"), desk.said) == (1, [])


def test_busy_storage_is_noted_for_whoever_decides_how_much_is_asked_of_it() -> None:
    desk = Desk()
    desk.failures = [busy(), ServiceError(Code.SERVICE_UNREACHABLE, "why"), busy(wait_s=1)]
    desk.tried.describe("001")
    assert desk.meter.throttles == 2


def test_tries_are_bounded_and_grow_apart() -> None:
    desk = Desk(retries=10)
    desk.failures = [busy() for _ in range(20)]
    with pytest.raises(PassingError):
        desk.tried.committed_blocks("001")
    assert desk.held.count("committed_blocks") == 11
    assert desk.now - 100 == pytest.approx(1 + 2 + 4 + 8 + 16 + 32 + 4 * MAX_WAIT_S)


def test_none_when_none_are_wanted() -> None:
    desk = Desk(retries=0)
    desk.failures = [busy()]
    with pytest.raises(PassingError):
        desk.tried.read_small("001", max_bytes=1)
    assert desk.held.count("read_small") == 1


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 2.0), (7.0, 8.0), (86_400.0, MAX_WAIT_S + 1)])
def test_service_says_how_long_within_bounds(asked: float, waited: float) -> None:
    desk = Desk()
    desk.failures = [busy(wait_s=asked)]
    desk.tried.staged_blocks("001")
    assert desk.now - 100 == pytest.approx(waited)
    assert desk.said == [f"{_BUSY}; trying again in {waited:.0f} s, 1 of 5"]


def test_cancelled_run_does_not_sit_its_wait_out() -> None:
    desk = Desk()
    desk.failures = [busy(wait_s=60)]
    desk.when_waiting = desk.meter.cancel
    with pytest.raises(Cancelled):
        desk.tried.describe("001")
    assert desk.now - 100 < 1
    assert desk.held.count("describe") == 1


def test_threads_that_wait_for_the_same_say_it_once() -> None:
    desk = Desk()
    desk.failures = [busy(wait_s=30)]
    others = iter([busy(wait_s=30), ServiceError(Code.SERVICE_UNREACHABLE, "no cable")])

    def another_thread_fails() -> None:
        if error := next(others, None):
            desk.failures = [error]
            desk.tried.describe("002")

    desk.when_waiting = another_thread_fails
    desk.tried.describe("001")
    assert [line.split(";")[0] for line in desk.said] == [_BUSY, "SERVICE_UNREACHABLE no cable"]


def test_body_is_sent_from_its_start_again() -> None:
    class Body(io.BytesIO):
        def __len__(self) -> int:
            return len(self.getvalue())

    desk = Desk()
    body = Body(b"part of it")
    first = iter([busy()])

    def break_off(method: str, _name: str) -> None:
        if method == "stage" and (error := next(first, None)):
            body.read(4)
            raise error

    desk.held.before = break_off
    desk.tried.stage("001", "a", body)
    assert desk.held.staged["001"]["a"] == b"part of it"


# --- streams that break ------------------------------------------------------------------------------------


class Breaking(MemoryContainer):
    """Its streams break after so many bytes each; ``asked`` are the ranges."""

    def __init__(self, content: bytes, breaks: list[int]) -> None:
        super().__init__()
        self.blobs["001"] = HeldBlob(content=content, etag="e")
        self.breaks = breaks
        self.asked: list[tuple[int, int]] = []

    def read_range(self, name: str, *, offset_bytes: int, size_bytes: int, etag: str) -> Iterator[bytes]:
        self.asked.append((offset_bytes, size_bytes))
        left = self.breaks.pop(0) if self.breaks else None
        for piece in super().read_range(name, offset_bytes=offset_bytes, size_bytes=size_bytes, etag=etag):
            if left is not None and len(piece) > left:
                if left:
                    yield piece[:left]
                raise PassingError(Code.SERVICE_UNREACHABLE, "reset")
            if left is not None:
                left -= len(piece)
            yield piece


@pytest.mark.parametrize("breaks", [[0], [1], [0, 0, 17], [PIECE_BYTES + 3, 5, 2 * PIECE_BYTES - 1]])
def test_stream_goes_on_where_it_broke_no_byte_twice_none_skipped(breaks: list[int]) -> None:
    content = bytes(range(256)) * 16_384
    source = Breaking(content, list(breaks))
    desk = Desk(container=source)
    pieces = desk.tried.read_range("001", offset_bytes=10, size_bytes=len(content) - 20, etag="e")
    assert b"".join(pieces) == content[10:-10]
    assert source.asked[1][0] == 10 + breaks[0]
    assert all(start + size == len(content) - 10 for start, size in source.asked)
    assert len(desk.said) == len(breaks)


def test_stream_that_comes_forward_may_break_often() -> None:
    content = bytes(9 * PIECE_BYTES)
    desk = Desk(container=Breaking(content, [PIECE_BYTES] * 8), retries=1)
    pieces = desk.tried.read_range("001", offset_bytes=0, size_bytes=len(content), etag="e")
    assert b"".join(pieces) == content


def test_stream_that_does_not_come_forward_is_given_up() -> None:
    source = Breaking(bytes(PIECE_BYTES), [1] * 100)
    desk = Desk(container=source, retries=3)
    with pytest.raises(PassingError):
        list(desk.tried.read_range("001", offset_bytes=0, size_bytes=PIECE_BYTES, etag="e"))
    assert len(source.asked) == 4


def test_blob_that_changed_while_it_was_waited_for_is_refused() -> None:
    content = bytes(2 * PIECE_BYTES)
    source = Breaking(content, [PIECE_BYTES])
    desk = Desk(container=source)
    desk.when_waiting = lambda: source.blobs.update({"001": HeldBlob(content=content, etag="other")})
    with pytest.raises(UntrustedInputError) as caught:
        list(desk.tried.read_range("001", offset_bytes=0, size_bytes=len(content), etag="e"))
    assert caught.value.code is Code.BLOB_CHANGED
