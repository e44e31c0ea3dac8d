"""A wrapper round a storage container that tries again what failed for a passing reason, and keeps its ports.

It says what it waits for, waits longer each time, and gives up after a bounded number of tries. Everything
that does not come from the service (a damaged part, a failing medium, a run that was stopped) passes through.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from airgap.errors import Code, ServiceError
from blob_wire.answers import PassingError
from blob_wire.ranges import back_off_s, resumed
from blob_wire.wire import SeekableStream
from offline_mover.progress import Meter
from offline_mover.storage.ports import Block, StoredBlob, WritableContainer

T = TypeVar("T")

_STEP_S = 0.1
"""A wait is cut into such steps, so that a cancelled run does not sit it out."""


class Retrying:
    """A container that repeats failed calls of another one, within bounds.

    Args:
        container: the container that does the work.
        retries: how often one call is repeated; 0 for never.
        meter: the run's meter, which ends a wait at once when the run is cancelled.
        notice: is told each wait, in one line; threads that wait for the same reason are announced once.
        pause: sleeps that many seconds.
        clock: gives seconds that only go forward.
        jitter: gives numbers from 0 to 1, so that many threads do not come back at the same moment.
    """

    def __init__(
        self,
        container: WritableContainer,
        *,
        retries: int,
        meter: Meter,
        notice: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,  # spreads, hides nothing
    ) -> None:
        self._container = container
        self._retries = retries
        self._meter = meter
        self._notice = notice
        self._pause = pause
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._announced: dict[str, float] = {}

    # --- the ports -------------------------------------------------------------------------------------

    def read_small(self, name: str, *, max_bytes: int) -> bytes | None:
        """See the port."""
        return self._repeat(lambda: self._container.read_small(name, max_bytes=max_bytes))

    def describe(self, name: str) -> StoredBlob | None:
        """See the port."""
        return self._repeat(lambda: self._container.describe(name))

    def list_names(self, prefix: str, *, most: int) -> list[str]:
        """See the port."""
        return self._repeat(lambda: self._container.list_names(prefix, most=most))

    def read_range(self, name: str, *, offset_bytes: int, size_bytes: int, etag: str) -> Iterator[bytes]:
        """The bytes of a range, see the port; a stream that breaks goes on where it broke."""
        return resumed(
            lambda done: self._container.read_range(
                name, offset_bytes=offset_bytes + done, size_bytes=size_bytes - done, etag=etag
            ),
            size_bytes,
            self._wait_for,
        )

    def committed_blocks(self, name: str) -> list[Block]:
        """See the port."""
        return self._repeat(lambda: self._container.committed_blocks(name))

    def staged_blocks(self, name: str) -> list[Block]:
        """See the port."""
        return self._repeat(lambda: self._container.staged_blocks(name))

    def stage(self, name: str, block_id: str, body: SeekableStream) -> None:
        """See the port."""
        self._repeat(lambda: self._container.stage(name, block_id, body), before_again=lambda: body.seek(0))

    def commit(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Put the blob together, see the port; ``CONFLICT`` may mean our own lost answer."""
        self._repeat(
            lambda: self._container.commit(name, block_ids, content_md5=content_md5, metadata=metadata)
        )

    def replace_blocks(
        self,
        name: str,
        block_ids: Sequence[str],
        *,
        replaced: Collection[str],
        etag: str,
        content_md5: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Put a blob together anew, see the port; ``CONFLICT`` may mean our own lost answer."""
        self._repeat(
            lambda: self._container.replace_blocks(
                name,
                block_ids,
                replaced=replaced,
                etag=etag,
                content_md5=content_md5,
                metadata=metadata,
            )
        )

    def create_small(self, name: str, content: bytes) -> None:
        """Write a small blob, see the port; ``CONFLICT`` may mean our own lost answer."""
        self._repeat(lambda: self._container.create_small(name, content))

    # --- waiting ---------------------------------------------------------------------------------------

    def _repeat(self, call: Callable[[], T], *, before_again: Callable[[], object] | None = None) -> T:
        tries = 0
        while True:
            try:
                return call()
            except ServiceError as error:
                tries += 1
                self._wait_for(error, tries)
            if before_again is not None:
                before_again()

    def _wait_for(self, error: ServiceError, tries: int) -> None:
        """Wait before the ``tries``-th repetition, or raise ``error`` if there is none.

        Raises:
            ServiceError: ``error``.
            Cancelled: the run was stopped meanwhile.
        """
        if tries > self._retries or not (isinstance(error, PassingError) or error.code.is_retryable):
            raise error
        if error.code is Code.SERVICE_THROTTLED:
            self._meter.throttle()
        wait_s = back_off_s(error, tries, self._jitter())
        reason = error.reason if isinstance(error, PassingError) else f"{error.code.name} {error.detail}"
        deadline = self._clock() + wait_s
        line = f"{reason}; trying again in {math.ceil(wait_s)} s, {tries} of {self._retries}"
        self._announce(reason, line, deadline)
        while (left_s := deadline - self._clock()) > 0:
            self._meter.advance(0)
            self._pause(min(left_s, _STEP_S))
        self._meter.advance(0)

    def _announce(self, reason: str, line: str, until: float) -> None:
        with self._lock:
            now = self._clock()
            self._announced = {known: end for known, end in self._announced.items() if end > now}
            is_known = reason in self._announced
            self._announced.setdefault(reason, until)
        if not is_known:
            self._notice(line)
