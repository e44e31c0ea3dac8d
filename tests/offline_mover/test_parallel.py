from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from offline_mover.parallel import in_parallel
from offline_mover.progress import Cancelled, Meter, PlainDisplay


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
    lines: list[tuple[str, int, int]] = []
    display = PlainDisplay(lambda *line: lines.append(line), interval_s=10, clock=lambda: now)
    with Meter(display) as meter:
        meter.start("fetching", 100)
        for second in range(25):
            now = float(second)
            meter.advance(4)
    assert lines == [("fetching", 44, 100), ("fetching", 84, 100)]
