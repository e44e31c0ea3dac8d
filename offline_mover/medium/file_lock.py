"""A lock on an open file, so that one program at a time writes to it; waiting for it is bounded.

The lock ends with the process, however that ends; no lock file is left behind. Some file systems (network
mounts, some in user space) have no locks: there the file is written without one.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRY_AGAIN_S = 0.02
_WINDOWS_OFFSET = 2**30
"""Windows locks a range of bytes, and against readers too: one far behind the end of any such file."""

_BUSY = frozenset({errno.EAGAIN, errno.EACCES, errno.EDEADLK})


@contextmanager
def exclusive_lock(descriptor: int, *, wait_s: float) -> Iterator[None]:
    """Hold the lock of an open file for as long as the block lasts.

    Raises:
        TimeoutError: somebody else held it for ``wait_s`` seconds.
    """
    until = time.monotonic() + wait_s
    while not (is_held := _try_lock(descriptor)):
        if is_held is None or time.monotonic() >= until:
            break
        time.sleep(_TRY_AGAIN_S)
    if is_held is False:
        raise TimeoutError(errno.ETIMEDOUT, "another program is writing to it")
    try:
        yield
    finally:
        if is_held:
            _unlock(descriptor)


def _try_lock(descriptor: int) -> bool | None:
    """Whether the lock was got; ``None`` where there are no locks."""
    try:
        if os.name == "nt":
            os.lseek(descriptor, _WINDOWS_OFFSET, os.SEEK_SET)
            _msvcrt().locking(descriptor, _msvcrt().LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - not on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _BUSY else None
    return True


def _unlock(descriptor: int) -> None:
    if os.name == "nt":
        os.lseek(descriptor, _WINDOWS_OFFSET, os.SEEK_SET)
        _msvcrt().locking(descriptor, _msvcrt().LK_UNLCK, 1)
        return
    import fcntl  # noqa: PLC0415 - not on Windows

    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _msvcrt() -> Any:
    import msvcrt  # noqa: PLC0415 - only on Windows

    return msvcrt
