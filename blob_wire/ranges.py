"""A range of a blob in one request: of one version, checked as it comes, and resumed where it broke.

A part may be as large as the storage's largest block, so nothing of it is kept here but the piece that is
handed on. What an answer says of itself is held against what was asked for, before its bytes are used:

1. it is success, which the caller looks at: 206, or 200 where the range begins with the blob;
2. its ETag is the one that was asked for;
3. its ``Content-Range`` begins where the range begins, and goes no further;
4. the blob does not end before the range does;
5. no more bytes come than were asked for, or than it says;
6. fewer are a stream that broke, and the rest is asked for.

Whether the bytes are right is for a digest to say. Not checked: that nobody writes to the blob while an
answer comes in; its version is that of the moment in which the storage took the request, and whoever goes on
with what was read pins the ETag again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from azure.core.rest import HttpResponse

from airgap.errors import Code, ServiceError, UntrustedInputError
from blob_wire.answers import PassingError
from blob_wire.wire import pieces

FIRST_WAIT_S = 1.0
MAX_WAIT_S = 60.0
"""Of our own back-off, and of what a service may ask for."""

_ADVANCE_BYTES = 1024 * 1024
"""A stream that came so much further since it broke last starts counting its tries anew."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_PARTIAL = 206


def range_headers(*, offset_bytes: int, size_bytes: int, etag: str) -> Mapping[str, str]:
    """The headers that ask for a range of a blob in the version ``etag``, which has its quotes.

    https://learn.microsoft.com/rest/api/storageservices/get-blob#request-headers
    """
    return {"x-ms-range": f"bytes={offset_bytes}-{offset_bytes + size_bytes - 1}", "If-Match": etag}


def range_statuses(*, offset_bytes: int) -> frozenset[int]:
    """The HTTP statuses that are success; 200, a whole blob, is none for a range that begins later."""
    return frozenset({200, 206} if offset_bytes == 0 else {206})


def range_pieces(
    answer: HttpResponse, what: str, *, offset_bytes: int, size_bytes: int, etag: str
) -> Iterator[bytes]:
    """The bytes of a range as the service sends them, checked; the answer is closed afterwards.

    Args:
        answer: an answer with one of :func:`range_statuses`, its body unread.
        what: the blob's name for messages.
        offset_bytes: where the range begins in the blob.
        size_bytes: how long it is.
        etag: the version of the blob that was asked for.

    Raises:
        UntrustedInputError: ``BLOB_CHANGED``: it is of another version, or the blob ends before the range
            does; ``TOO_LARGE``: more is sent than was asked for.
        PassingError: fewer bytes came, or the answer does not say which they are.
    """
    try:
        told = _told_bytes(answer, what, offset_bytes=offset_bytes, size_bytes=size_bytes, etag=etag)
        came = 0
        for piece in pieces(answer):
            came += len(piece)
            if came > told:
                raise _too_large(what, told)
            yield piece
    finally:
        answer.close()
    if came < size_bytes:
        raise _strange(what, f"{size_bytes - came} of {size_bytes} bytes were not sent")


def _told_bytes(answer: HttpResponse, what: str, *, offset_bytes: int, size_bytes: int, etag: str) -> int:
    """How many bytes it says it sends, after checks 2 to 4; a storage may send less than was asked for."""
    version = answer.headers.get("ETag")
    if not version:
        raise _strange(what, "no ETag")
    if version != etag:
        raise UntrustedInputError(Code.BLOB_CHANGED, what)
    length = length_of(answer)
    if answer.status_code == _PARTIAL:
        found = _CONTENT_RANGE.fullmatch(str(answer.headers.get("Content-Range") or ""))
        if found is None or int(found[1]) != offset_bytes:
            raise _strange(what, f"asked for bytes from {offset_bytes} on, it sends others")
        length, total = int(found[2]) - offset_bytes + 1, int(found[3])
    else:
        total = size_bytes if length is None else length
    if length is not None and length > size_bytes:
        raise _too_large(what, size_bytes)
    if total < offset_bytes + size_bytes:
        raise UntrustedInputError(Code.BLOB_CHANGED, f"{what}: it ends after {total} bytes")
    return size_bytes if length is None else length


def resumed(
    read: Callable[[int], Iterator[bytes]],
    size_bytes: int,
    wait_for: Callable[[ServiceError, int], None],
) -> Iterator[bytes]:
    """The bytes of a range whose stream may break off, none of them twice and none left out.

    Args:
        read: gives the rest of the range after its first so many bytes.
        size_bytes: the size of the range.
        wait_for: waits before the n-th repetition, or raises the error if there is none. The count begins at
            1 again whenever some bytes came, so a long stream may break often.
    """
    done = done_when_broken = tries = 0
    while True:
        try:
            for piece in read(done):
                done += len(piece)
                yield piece
        except ServiceError as error:
            if done == size_bytes:
                return  # it broke after the last byte
            if done - done_when_broken >= _ADVANCE_BYTES:
                tries = 0
            done_when_broken = done
            tries += 1
            wait_for(error, tries)
        else:
            return


def back_off_s(error: ServiceError, tries: int, jitter: float) -> float:
    """The seconds to wait before the ``tries``-th repetition.

    It is what the service asked for, within bounds; else 1, 2, 4, … seconds, shortened by up to a half.

    Args:
        error: the error for which the request is repeated.
        tries: which repetition it is, from 1.
        jitter: from 0 to 1, so that many threads do not come back at the same moment.
    """
    if isinstance(error, PassingError) and error.wait_s is not None:
        return min(max(error.wait_s, FIRST_WAIT_S), MAX_WAIT_S) + jitter
    return min(FIRST_WAIT_S * 2.0 ** (tries - 1), MAX_WAIT_S) * (1 + jitter) / 2


def length_of(answer: HttpResponse) -> int | None:
    """The size of an answer's body in bytes, as its headers tell it; ``None`` where they do not."""
    text = str(answer.headers.get("Content-Length") or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None  # noqa: PLR2004 - of 64 bits


def _too_large(what: str, size_bytes: int) -> UntrustedInputError:
    return UntrustedInputError(Code.TOO_LARGE, f"{what}: more was sent than {size_bytes} bytes")


def _strange(what: str, why: str) -> PassingError:
    return PassingError(Code.SERVICE_UNEXPECTED, f"{what}: {why}")
