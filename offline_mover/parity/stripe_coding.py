"""Coding one stripe piece by piece: some shards are read and checked on the way, others are written.

All shards of a stripe are read side by side, each of them once, so memory is bound by the size of a piece and
not by that of a part. A file is opened anew for each piece: a stripe may have more shards than a process may
have files open. What was read is judged at the end, before anything written gets its name.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from airgap.damage import Damage
from airgap.erasure import UNIT_BYTES, Combination
from airgap.errors import AirgapError, Code
from airgap.parity import Shard, Stripe
from offline_mover.medium import media_fs, medium_read
from offline_mover.progress import Gauge

MAX_THREADS = 4
"""Stripes at a time. Coding holds the interpreter's lock; more threads only wait for media and storage."""

_SUMS_BYTES = 8 * 1024 * 1024
"""Of the outputs that are being summed up, over all threads."""

_MAX_UNITS = 8
"""Of a piece: 2 MiB are enough for a device that has to seek from file to file."""

ReadPiece = Callable[[int, int], bytes]
"""The bytes of a shard by offset and size; fewer when it ends before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInput:
    """A shard to read, and the hex SHA-256 that it must have; ``None`` where nothing says what it is."""

    sha256: str | None
    read: ReadPiece


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOutput:
    """A shard to write to ``path``, only with the hex SHA-256 ``sha256``, where that is known."""

    shard: Shard
    path: Path
    sha256: str | None = None


class StripeError(Exception):
    """The coding of a stripe failed: shards that were read are bad, or the result is not what was signed."""

    def __init__(self, *, unreadable: Mapping[str, Damage], wrong: Sequence[str]) -> None:
        super().__init__(", ".join([*unreadable, *wrong]))
        self.unreadable = unreadable
        """Of the shards read, by name."""
        self.wrong = wrong
        """Names of shards that would have been written with another digest than the signed one."""


def file_reader(path: Path, name: str, *, from_medium: bool = False) -> ReadPiece:
    """A reader of a file on a volume; with ``from_medium`` past the system's cache, as far as possible.

    The reader raises:
        UntrustedInputError: ``UNSAFE_NAME``: a link or a device stands there.
        MediaError: ``MEDIA_UNREADABLE``: the medium does not give it.
    """
    opened = medium_read.open_uncached if from_medium else media_fs.open_regular

    def read(offset_bytes: int, size_bytes: int) -> bytes:
        # Straight from a device, memory and size have to be aligned, to pages at most.
        aligned_bytes = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        with mmap.mmap(-1, aligned_bytes) as pages, memoryview(pages) as buffer, opened(path, name) as file:
            left = max(0, min(size_bytes, os.fstat(file.fileno()).st_size - offset_bytes))
            file.seek(offset_bytes)
            done = 0
            while done < left and (count := file.readinto(buffer[done:])):
                done += count
            return bytes(buffer[: min(done, left)])

    return read


def members(stripe: Stripe) -> tuple[Shard, ...]:
    """The parts of a stripe, without its parity shards."""
    return stripe.shards[: -stripe.parity_shards]


def combination_of(stripe: Stripe, parity: Collection[str]) -> Combination:
    """The combination that computes the parity shards of these names from all parts of the stripe."""
    return stripe.encoding().only({place for place, s in enumerate(stripe.shards) if s.name in parity})


def threads_for(concurrency: int) -> int:
    """The number of stripes that are coded at a time."""
    return max(1, min(concurrency, MAX_THREADS))


def units_for(outputs: int, threads: int) -> int:
    """The number of 256 KiB units in a piece, so that the sums of all threads keep to their memory."""
    return max(1, min(_MAX_UNITS, _SUMS_BYTES // (UNIT_BYTES * max(outputs, 1) * threads)))


def code_stripe(
    stripe: Stripe,
    combination: Combination,
    readings: Mapping[str, ShardInput],
    writings: Sequence[ShardOutput],
    *,
    units: int,
    gauge: Gauge,
) -> dict[str, str]:
    """Compute the shards in ``writings`` from those in ``readings``, and write them.

    ``combination`` says how the outputs are computed from its inputs; ``readings`` has each input by name.

    Returns:
        Hex SHA-256 of each shard written, by name. Progress counts the bytes that are read.

    Raises:
        StripeError: a shard that was read is bad, or the result is not what was signed; nothing was written.
        MediaError: the medium that is written to refused.
        ServiceError: a shard is read from the storage, and that refused.
    """
    coding = _Coding(stripe, combination, readings, writings, gauge)
    with ExitStack() as stack:
        files = [stack.enter_context(media_fs.new_file(w.path, w.shard.name)) for w in writings]
        for offset, size in stripe.pieces(units):
            for file, piece in zip(files, coding.pieces(offset, size), strict=True):
                media_fs.write_all(file, piece)
        return coding.judge()


class _Coding:
    """The digests of a stripe, while its pieces go by."""

    def __init__(
        self,
        stripe: Stripe,
        combination: Combination,
        readings: Mapping[str, ShardInput],
        writings: Sequence[ShardOutput],
        gauge: Gauge,
    ) -> None:
        self._combination = combination
        self._inputs = [(place, stripe.shards[place]) for place in combination.inputs]
        self._places = {shard.name: place for place, shard in enumerate(stripe.shards)}
        self._readings = readings
        self._writings = writings
        self._gauge = gauge
        self._read_bytes = 0
        self._read_digests = {shard.name: hashlib.sha256() for _, shard in self._inputs}
        self._written_digests = [hashlib.sha256() for _ in writings]

    def pieces(self, offset_bytes: int, size_bytes: int) -> list[bytes]:
        """The pieces of the shards to write at one offset."""
        sums = self._combination.start(size_bytes)
        for place, shard in self._inputs:
            piece = self._read(shard, offset_bytes, shard.bytes_at(offset_bytes, size_bytes))
            self._read_digests[shard.name].update(piece)
            sums.add(place, piece)
        outputs = sums.finish()
        pieces = []
        for writing, digest in zip(self._writings, self._written_digests, strict=True):
            whole = outputs[self._places[writing.shard.name]]
            piece = whole[: writing.shard.bytes_at(offset_bytes, size_bytes)]
            digest.update(piece)
            pieces.append(piece)
        return pieces

    def _read(self, shard: Shard, offset_bytes: int, size_bytes: int) -> bytes:
        if size_bytes == 0:
            return b""
        try:
            piece = self._readings[shard.name].read(offset_bytes, size_bytes)
        except AirgapError as error:
            if error.code not in {Code.MEDIA_UNREADABLE, Code.UNSAFE_NAME}:
                raise
            self._refuse_read({shard.name: Damage(code=error.code, name=shard.name, detail=error.detail)})
        if len(piece) != size_bytes:
            detail = f"ended after {offset_bytes + len(piece)} bytes"
            self._refuse_read({shard.name: Damage(code=Code.PART_TRUNCATED, name=shard.name, detail=detail)})
        self._read_bytes += size_bytes
        self._gauge.advance(size_bytes)
        return piece

    def judge(self) -> dict[str, str]:
        """The digests of what was written, or why it must not be kept."""
        unreadable = {
            name: Damage(code=Code.PART_CORRUPT, name=name, detail=f"its SHA-256 is {digest.hexdigest()}")
            for name, digest in self._read_digests.items()
            if self._readings[name].sha256 not in {None, digest.hexdigest()}
        }
        if unreadable:
            self._refuse_read(unreadable)
        written = {
            writing.shard.name: digest.hexdigest()
            for writing, digest in zip(self._writings, self._written_digests, strict=True)
        }
        wrong = [w.shard.name for w in self._writings if w.sha256 not in {None, written[w.shard.name]}]
        if wrong:
            self._gauge.advance(-self._read_bytes)
            raise StripeError(unreadable={}, wrong=wrong)
        return written

    def _refuse_read(self, unreadable: Mapping[str, Damage]) -> NoReturn:
        self._gauge.advance(-self._read_bytes)
        raise StripeError(unreadable=unreadable, wrong=())
