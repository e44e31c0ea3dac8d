"""Threads for parallel work: their number is bounded, and all end when one of them fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from offline_mover.progress import Meter

FILES_AT_ONCE = 4
"""Of what is read from and written to volumes only; connections have :mod:`offline_mover.places`."""

T = TypeVar("T")
R = TypeVar("R")
_WAKE_S = 0.5  # on Windows a wait without end cannot be interrupted by Ctrl-C


def in_parallel(work: Callable[[T], R], items: Iterable[T], *, concurrency: int, meter: Meter) -> Iterator[R]:
    """The results of ``work(item)`` for each item, in order of completion; see :func:`in_lanes`."""
    return in_lanes(work, [items], concurrency=concurrency, meter=meter)


def in_lanes(
    work: Callable[[T], R], lanes: Sequence[Iterable[T]], *, concurrency: int, meter: Meter
) -> Iterator[R]:
    """The results of ``work(item)`` for the items of all lanes, in order of completion.

    Each lane has threads of its own, an equal share of ``concurrency`` and at least one: a slow device holds
    up nobody else's work. At most twice as many items as threads are taken ahead. An exception of ``work``,
    an interruption, or a caller that stops asking cancels ``meter`` and so ends the other threads at their
    next piece; they are waited for.
    """
    threads = max(1, concurrency // max(1, len(lanes)))
    pending: dict[Future[R], _Lane[T]] = {}
    with contextlib.ExitStack() as stack:
        open_lanes = [
            _Lane(stack.enter_context(ThreadPoolExecutor(threads, "part")), iter(items), 2 * threads)
            for items in lanes
        ]
        try:
            while open_lanes or pending:
                for lane in open_lanes:
                    pending.update(dict.fromkeys(lane.submit(work), lane))
                open_lanes = [lane for lane in open_lanes if lane.has_more]
                done, _ = wait(pending, timeout=_WAKE_S, return_when=FIRST_COMPLETED)
                for future in done:
                    pending.pop(future).in_flight -= 1
                    yield future.result()
        except BaseException:
            meter.cancel()
            for future in pending:
                future.cancel()
            raise


class _Lane(Generic[T]):
    """Items for one device, and the threads that work on them."""

    def __init__(self, pool: ThreadPoolExecutor, items: Iterator[T], most: int) -> None:
        self._pool = pool
        self._items = items
        self._most = most
        self.in_flight = 0
        self.has_more = True

    def submit(self, work: Callable[[T], R]) -> Iterator[Future[R]]:
        """Hand out items up to the bound."""
        while self.has_more and self.in_flight < self._most:
            try:
                item = next(self._items)
            except StopIteration:
                self.has_more = False
                return
            self.in_flight += 1
            yield self._pool.submit(work, item)
