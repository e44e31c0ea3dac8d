"""Threads, a bounded number of them, that all end when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from offline_mover.progress import Meter

T = TypeVar("T")
R = TypeVar("R")
_WAKE_S = 0.5  # on Windows a wait without end cannot be interrupted by Ctrl-C


def in_parallel(work: Callable[[T], R], items: Iterable[T], *, concurrency: int, meter: Meter) -> Iterator[R]:
    """``work(item)`` for each item, in order of completion.

    At most twice as many items as threads are taken from ``items`` ahead. An exception of ``work``, an
    interruption, or a caller that stops asking cancels ``meter`` and so ends the other threads at their next
    piece; they are waited for.
    """
    pending: set[Future[R]] = set()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="part") as pool:
        try:
            for item in items:
                pending.add(pool.submit(work, item))
                while len(pending) >= 2 * concurrency:
                    done, pending = wait(pending, timeout=_WAKE_S, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while pending:
                done, pending = wait(pending, timeout=_WAKE_S, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BaseException:
            meter.cancel()
            for future in pending:
                future.cancel()
            raise
