"""Who may use a connection: never more than the tuner says, parts before ranges, in order whatever comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import Code, ServiceError
from offline_mover.places import Places
from offline_mover.progress import Cancelled, Meter
from offline_mover.pulling import part_ranges
from offline_mover.pulling.part_ranges import RANGE_BYTES, STRETCH_BYTES, in_ranges
from offline_mover.tuning import FIRST

MIB = 2**20
PATIENCE_S = 10


def places(ceiling: int = 32, *, lanes: int = 1, meter: Meter | None = None) -> Places:
    return Places(ceiling, lanes=lanes, meter=meter or Meter(), clock=lambda: 0.0)


def grown(ceiling: int) -> Places:
    """Places on a line on which each connection helps, so long until all may be used."""
    now = [0.0]
    made = Places(ceiling, meter=Meter(), clock=lambda: now[0])
    for _ in range(40):
        now[0] += 0.3
        made.came(made._tuner.width * 10 * MIB)
    return made


def test_there_are_as_many_places_as_the_tuner_says_and_one_more_waits() -> None:
    made = places()
    inside = threading.Semaphore(0)
    leave = threading.Event()

    def work(_: int) -> None:
        with made.place():
            inside.release()
            assert leave.wait(PATIENCE_S)

    with ThreadPoolExecutor(FIRST + 1) as pool:
        done = [pool.submit(work, number) for number in range(FIRST + 1)]
        for _ in range(FIRST):
            assert inside.acquire(timeout=PATIENCE_S)
        assert not inside.acquire(timeout=0.05)
        leave.set()
        for one in done:
            one.result()


@pytest.mark.parametrize(
    ("ceiling", "lanes", "width"), [(1, 1, 1), (2, 1, 2), (32, 2, 2), (32, 8, 1), (4, 9, 1)]
)
def test_lanes_share_what_there_is_and_each_has_one(ceiling: int, lanes: int, width: int) -> None:
    made = places(ceiling, lanes=lanes)
    with made.place(), made.spare(100) as extra:
        assert extra == width - 1


def test_wait_for_a_place_ends_when_the_run_is_stopped() -> None:
    meter = Meter()
    made = places(1, meter=meter)
    with made.place(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: made.place().__enter__())
        meter.cancel()
        with pytest.raises(Cancelled):
            waiting.result(PATIENCE_S)


def test_spare_places_are_shared_among_the_parts_and_none_is_spare_while_a_part_waits() -> None:
    made = grown(32)
    with made.place(), made.place():
        with made.spare(100) as first, made.spare(100) as second:
            assert (first, second) == (15, 8)
        with made.spare(3) as few:
            assert few == 3
    with ThreadPoolExecutor(1) as pool:
        with made.place(), made.spare(100) as all_others:
            assert all_others == 31
            waiting = pool.submit(lambda: made.place().__enter__())
            while not made._waiting:
                threading.Event().wait(0.001)
            with made.spare(5) as none:
                assert none == 0
        waiting.result(PATIENCE_S)


def test_busy_service_takes_places_away() -> None:
    meter = Meter()
    made = places(meter=meter)
    meter.throttle()
    made.came(1)
    with made.place(), made.spare(100) as extra:
        assert extra == FIRST // 2 - 1


# --- ranges ------------------------------------------------------------------------------------------------


class Source:
    """Gives its content by ranges; ``most`` ranges were read at once, and ``asked`` are all of them."""

    def __init__(self, content: bytes, *, before: Callable[[int], None] = lambda _: None) -> None:
        self._content = content
        self._before = before
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.asked: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> Iterator[bytes]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.asked.append((offset, size))
        try:
            self._before(offset)
            for start in range(offset, offset + size, 256 * 1024):
                yield self._content[start : min(start + 256 * 1024, offset + size)]
        finally:
            with self._lock:
                self._now -= 1


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(-3, 3), st.sampled_from([1, 4, 5, 32]))
def test_ranges_come_in_order_none_twice_none_left_out(ranges: int, odd: int, ceiling: int) -> None:
    content = bytes(number % 251 for number in range(ranges * 64 + odd))
    source = Source(content)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(ceiling) as pool:
        patch.setattr(part_ranges, "RANGE_BYTES", 64)
        patch.setattr(part_ranges, "STRETCH_BYTES", 256)
        made = grown(ceiling)
        with made.place():
            pieces = in_ranges(source.read, len(content), places=made, pool=pool)
            assert b"".join(pieces) == content
    assert sum(size for _, size in source.asked) == len(content)
    assert source.most <= ceiling


def test_one_connection_asks_for_long_stretches() -> None:
    source = Source(bytes(2 * STRETCH_BYTES + 1))
    made = places(1)
    with ThreadPoolExecutor(1) as pool, made.place():
        assert sum(map(len, in_ranges(source.read, 2 * STRETCH_BYTES + 1, places=made, pool=pool))) > 0
    assert source.asked == [(0, STRETCH_BYTES), (STRETCH_BYTES, STRETCH_BYTES), (2 * STRETCH_BYTES, 1)]


def test_ranges_of_one_part_are_read_at_once() -> None:
    meeting = threading.Barrier(4)

    def meet(_: int) -> None:
        meeting.wait(PATIENCE_S)

    source = Source(bytes(4 * RANGE_BYTES), before=meet)
    made = places(4)
    with ThreadPoolExecutor(4) as pool, made.place():
        assert b"".join(in_ranges(source.read, 4 * RANGE_BYTES, places=made, pool=pool)) == bytes(
            4 * RANGE_BYTES
        )
    assert source.most == 4


@pytest.mark.parametrize("broken", [0, RANGE_BYTES, 3 * RANGE_BYTES])
def test_range_that_fails_ends_the_part_and_gives_its_places_back(broken: int) -> None:
    def fail(offset: int) -> None:
        if offset == broken:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "gone")

    made = places(4)
    with ThreadPoolExecutor(4) as pool, made.place():
        source = Source(bytes(8 * RANGE_BYTES), before=fail)
        with pytest.raises(ServiceError):
            list(in_ranges(source.read, 8 * RANGE_BYTES, places=made, pool=pool))
        assert source._now == 0
        with made.spare(100) as extra:
            assert extra == 3


def test_part_that_nobody_wants_any_more_leaves_nothing_running() -> None:
    made = places(4)
    source = Source(bytes(8 * RANGE_BYTES))
    with ThreadPoolExecutor(4) as pool, made.place():
        pieces = in_ranges(source.read, 8 * RANGE_BYTES, places=made, pool=pool)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]  # a generator
        with made.spare(100) as extra:
            assert extra == 3
    assert source._now == 0
