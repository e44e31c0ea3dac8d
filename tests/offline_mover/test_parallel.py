from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from offline_mover.parallel import in_lanes, in_parallel
from offline_mover.progress import Cancelled, Meter, PlainDisplay, progress_lines

MIB = 1024 * 1024


def test_every_item_is_worked_on_once() -> None:
    results = in_parallel(lambda n: n * n, range(100), concurrency=4, meter=Meter())
    assert sorted(results) == [n * n for n in range(100)]


def test_items_are_not_taken_far_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_parallel(lambda n: n, items(), concurrency=2, meter=Meter())
    next(results)
    assert len(taken) <= 4
    results.close()  # type: ignore[attr-defined] # it is a generator
    assert len(taken) <= 8


def test_failure_of_one_stops_the_others() -> None:
    meter = Meter()
    has_started = threading.Event()
    ended: list[str] = []

    def work(number: int) -> None:
        if number == 0:
            assert has_started.wait(10)
            raise ValueError("broken")
        has_started.set()
        try:
            while True:
                meter.advance(1)
        except Cancelled:
            ended.append("cancelled")
            raise

    with pytest.raises(ValueError, match="broken"):
        list(in_parallel(work, range(2), concurrency=2, meter=meter))
    assert ended == ["cancelled"]


def test_plain_progress_is_a_line_now_and_then() -> None:
    now = 0.0
    lines: list[str] = []
    display = PlainDisplay(
        lambda state: lines.extend(progress_lines(state)), interval_s=10, clock=lambda: now
    )
    with Meter(display, clock=lambda: now) as meter:
        meter.start("fetching", 100_000_000, {"/a": 60_000_000, "/b": 40_000_000}, parts=25)
        for second in range(25):
            now = float(second)
            meter.lane("/a" if second < 15 else "/b", "001/00000001.part").advance(4_000_000)
    assert lines == [
        "fetching: 44.0 MB of 100.0 MB (44 %), part 11 of 25, 4.4 MB/s, 12 s left",
        "  /a: 44.0 MB of 60.0 MB (73 %), 4.4 MB/s, 3 s left",
        "  /b: 0 bytes of 40.0 MB (0 %)",
        "fetching: 84.0 MB of 100.0 MB (84 %), part 21 of 25, 4.2 MB/s, 3 s left",
        "  /a: 60.0 MB of 60.0 MB (100 %), 3.0 MB/s, 0 s left",
        "  /b: 24.0 MB of 40.0 MB (60 %), 1.2 MB/s, 13 s left",
    ]


def test_work_of_unknown_size_is_told_by_what_is_done_and_not_at_all_before() -> None:
    now = 0.0
    lines: list[str] = []
    display = PlainDisplay(lambda state: lines.extend(progress_lines(state)), interval_s=1, clock=lambda: now)
    with Meter(display, clock=lambda: now) as meter:
        for second in range(3):  # asked again and again, and nothing there yet
            now = float(second)
            meter.start("fetching receipts", 0)
        now = 4.0
        meter.advance(3_000)
    assert lines == ["fetching receipts: 3.0 kB"]


def test_slow_device_does_not_hold_up_another() -> None:
    """One thread each: the second lane ends while the first one's only item waits for it."""
    second_done = threading.Event()

    def work(item: str) -> str:
        if item == "slow":
            assert second_done.wait(10)
        if item == "last":
            second_done.set()
        return item

    lanes = [["slow"], ["quick", "quick", "last"]]
    done = in_lanes(work, lanes, concurrency=2, meter=Meter())
    assert sorted(done) == ["last", "quick", "quick", "slow"]
