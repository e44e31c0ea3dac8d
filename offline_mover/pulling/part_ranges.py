"""A part over several connections at once, where there are more of them than parts; its bytes stay in order.

A line that is slow for each connection is not filled by as many of them as there are parts left. So the parts
of a small pull are asked for in stretches, and a stretch in several ranges at once while connections are
spare. What comes ahead of its turn is kept in memory, and no more of it than the ranges that are under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future

from offline_mover.places import Places

STRETCH_BYTES = 8 * 1024 * 1024
"""Asked for at once by the one connection of a part: each costs a round trip."""

RANGE_BYTES = 2 * 1024 * 1024
"""Of each of several connections; as many as a lane may have keep so much each: 62 MiB at 32."""

ReadRange = Callable[[int, int], Iterator[bytes]]
"""Gives so many bytes of the part from an offset on."""


def in_ranges(read: ReadRange, size_bytes: int, *, places: Places, pool: Executor) -> Iterator[bytes]:
    """The bytes of a part, in order, fetched in several ranges at once; the caller holds a place already.

    Args:
        read: gives a range of the part; called from several threads.
        size_bytes: the size of the part.
        places: the places of the lane.
        pool: has a thread for each place of the lane besides.
    """
    done = 0
    while done < size_bytes:
        left = size_bytes - done
        with places.spare(most=-(-left // RANGE_BYTES) - 1) as extra:
            if extra:
                stretch = min(left, (1 + extra) * RANGE_BYTES)
                yield from _together(read, done, stretch, pool)
            else:
                stretch = min(left, STRETCH_BYTES)
                yield from read(done, stretch)
        done += stretch


def _together(read: ReadRange, begin: int, size_bytes: int, pool: Executor) -> Iterator[bytes]:
    """The first range as it comes, the others meanwhile; all are over when this ends, however it does."""
    end = begin + size_bytes
    ahead: list[Future[list[bytes]]] = [
        pool.submit(_collected, read, offset, min(RANGE_BYTES, end - offset))
        for offset in range(begin + RANGE_BYTES, end, RANGE_BYTES)
    ]
    try:
        yield from read(begin, min(RANGE_BYTES, size_bytes))
        while ahead:
            yield from ahead.pop(0).result()
    finally:
        for future in ahead:
            future.cancel()
        for future in ahead:
            if not future.cancelled():
                future.exception()


def _collected(read: ReadRange, offset: int, size_bytes: int) -> list[bytes]:
    return list(read(offset, size_bytes))
