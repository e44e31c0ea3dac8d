"""TLS connections whose answers must keep a least pace: a byte now and then does not hold up a run for ever.

A time-out of a socket is for one wait, so that whoever sends a byte just before its end is never late.
Sending needs no such watch: a time-out there is for the record, of 16 KiB, that is being written.
"""

from __future__ import annotations

import errno
import ssl
import time
from typing import Any

from urllib3.util.ssl_ import create_urllib3_context

WINDOW_S = 60.0
LEAST_BYTES = 60 * 1024
"""Of one answer in each window: 1 KiB/s. The slowest modem was faster."""

_now = time.monotonic


class Pace:
    """A judge of answers, one after the other, by how many bytes came while they were waited for.

    Only waits count, and only from the first byte on: neither how long the service works on an answer nor how
    slowly the medium takes what has come. Windows are judged each for itself, so that what came fast is no
    credit.
    """

    def __init__(self, *, window_s: float = WINDOW_S, least_bytes: int = LEAST_BYTES) -> None:
        self._window_s = window_s
        self._least_bytes = least_bytes
        self.begin()

    def begin(self) -> None:
        """Begin to judge another answer, whose first byte has not come yet."""
        self._has_begun = False
        self._waited_s = 0.0
        self._came_bytes = 0

    def keeps(self, waited_s: float, came_bytes: int) -> bool:
        """Whether the answer keeps the pace, after one more wait and the bytes that it brought."""
        self._waited_s += waited_s if self._has_begun else 0.0
        self._came_bytes += came_bytes
        self._has_begun = True
        if self._waited_s < self._window_s:
            return True
        is_kept = self._came_bytes >= self._least_bytes * self._waited_s / self._window_s
        self._waited_s, self._came_bytes = 0.0, 0
        return is_kept


class PacedSocket(ssl.SSLSocket):
    """A TLS connection for one request at a time, which breaks once an answer falls behind the least pace."""

    _pace: Pace | None = None

    def send(self, *args: Any, **options: Any) -> int:
        """Send the bytes of a request, and judge the answer to it from the beginning."""
        self._pace = None
        return super().send(*args, **options)

    def recv_into(self, *args: Any, **options: Any) -> int:
        """Receive the next bytes of an answer, as long as it keeps the pace.

        Raises:
            ConnectionAbortedError: the answer comes too slowly.
        """
        if self._pace is None:
            self._pace = Pace()
        began = _now()
        size = super().recv_into(*args, **options)
        if not self._pace.keeps(_now() - began, size):
            raise ConnectionAbortedError(errno.ECONNABORTED, "the answer comes too slowly")
        return size


def paced_context() -> ssl.SSLContext:
    """A client's TLS context with the settings of urllib3, for connections whose answers must keep a pace."""
    context = create_urllib3_context()
    context.sslsocket_class = PacedSocket
    return context
