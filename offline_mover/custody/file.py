"""The files of a custody log: read up to a limit, appended to durably, by one writer at a time.

A log is only ever appended to. The one thing that is taken away is a line without an end, which a power cut
left: it is no event, and the next event counts its bytes as ``tornBytes``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from airgap.custody import MAX_LINES, MAX_LOG_BYTES, Fault, Head, Resumption
from airgap.custody_event import MAX_HEAD_BYTES
from airgap.errors import AirgapError, Code, MediaError, UntrustedInputError
from offline_mover.medium import media_fs
from offline_mover.medium.file_lock import exclusive_lock

LOG_NAME = "custody-log.jsonl"
HEAD_NAME = "custody-head.json"
LOCK_WAIT_S = 5.0
"""An append takes milliseconds; only a program that hangs holds a log for so long."""

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLog:
    """A log that is open for appending, and locked; ``raw`` is its content when it was opened."""

    descriptor: int
    raw: bytes

    def append(self, resumption: Resumption, lines: bytes) -> None:
        """Write whole lines and flush them to the medium; when that fails, the log is as it was.

        Raises:
            MediaError: ``MEDIA_FULL``: the log would grow larger than any that is read again.
            OSError: the medium refused.
        """
        content = resumption.prefix + lines
        line_count = self.raw.count(b"\n") + content.count(b"\n")
        if resumption.kept_bytes + len(content) > MAX_LOG_BYTES or line_count > MAX_LINES:
            raise MediaError(Code.MEDIA_FULL, f"the custody log has {len(self.raw)} bytes and cannot grow")
        if resumption.kept_bytes < len(self.raw):
            os.ftruncate(self.descriptor, resumption.kept_bytes)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
            os.fsync(self.descriptor)
        except OSError:
            with suppress(OSError):  # the medium may be gone; what is left of the line is then a torn one
                os.ftruncate(self.descriptor, resumption.kept_bytes)
            raise

    def clear(self) -> None:
        """Remove all lines, which are in another log by now; the file stays, since others may wait for it."""
        os.ftruncate(self.descriptor, 0)
        os.fsync(self.descriptor)


@contextmanager
def open_log(path: Path) -> Iterator[OpenLog]:
    """A log, open for appending and locked for as long as the block lasts; made if there is none.

    Raises:
        OSError: it cannot be written, or somebody else writes to it for too long.
        AirgapError: ``UNSAFE_NAME``: a link or a device stands there, or the log is a hard link, so that an
            event would be written into another file as well; ``TOO_LARGE``: larger than any log;
            ``VOLUME_GONE``: another medium is at its path now, or none.
    """
    with (
        media_fs.open_to_append(path) as descriptor,
        exclusive_lock(descriptor, wait_s=LOCK_WAIT_S),
    ):
        yield OpenLog(descriptor=descriptor, raw=_read_all(descriptor, path.name))


def _read_all(descriptor: int, name: str) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = bytearray()
    while piece := os.read(descriptor, _PIECE_BYTES):
        content += piece
        if len(content) > MAX_LOG_BYTES:
            raise UntrustedInputError(Code.TOO_LARGE, f"{name}: more than {MAX_LOG_BYTES} bytes")
    return bytes(content)


def read_log(path: Path) -> bytes:
    """Read the content of a log; empty if there is none.

    Raises:
        AirgapError: ``TOO_LARGE``: larger than any log; ``UNSAFE_NAME``: a link or a device stands there;
            ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    if not media_fs.exists(path):
        return b""
    return media_fs.read_capped(path, path.name, max_bytes=MAX_LOG_BYTES)


def read_head(volume: Path) -> tuple[Head | None, Fault | None]:
    """The head that the head file tells, or the fault why it tells none: missing, malformed, unreadable."""
    path = volume / HEAD_NAME
    try:
        if not media_fs.exists(path):
            return None, Fault.HEAD_MISSING
        return Head.from_bytes(media_fs.read_capped(path, HEAD_NAME, max_bytes=MAX_HEAD_BYTES)), None
    except AirgapError as error:
        is_medium = error.code is Code.MEDIA_UNREADABLE
        return None, Fault.UNREADABLE if is_medium else Fault.HEAD_MALFORMED


def write_head(volume: Path, head: Head) -> None:
    """Replace the head file as a whole.

    Raises:
        MediaError: the medium refused: full, write-protected, failing or gone.
        UntrustedInputError: ``UNSAFE_NAME``: a link stands on the way.
    """
    media_fs.write_durably(volume / HEAD_NAME, HEAD_NAME, head.to_bytes())
