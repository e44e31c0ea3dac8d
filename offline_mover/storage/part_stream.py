"""A part on its way to the storage: hashed as it is sent, and never sent whole unless it is right."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Self

from airgap.damage import Damage
from airgap.errors import AirgapError, Code
from airgap.parts import PartRange
from offline_mover.medium import media_fs
from offline_mover.progress import Gauge


class PartDamagedError(Exception):
    """The bytes of a part that were about to be sent are not the signed ones."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage.name)
        self.damage = damage


class PartStream:
    """A stream of a part to send, in constant memory, whose end is held back until the digest is known.

    The last piece is handed out only when the SHA-256 of everything is the signed one; else :meth:`read`
    raises, the request stays incomplete, and the storage never takes the block. So a block that is staged
    under a part's digest has that digest, and a later run can rely on it.
    """

    def __init__(self, file: io.FileIO, part: PartRange, sha256: str, meter: Gauge) -> None:
        self._file = file
        self._part = part
        self._sha256 = sha256
        self._meter = meter
        self._digest = hashlib.sha256()
        self._sent_bytes = 0
        self._damage: Damage | None = None

    @classmethod
    @contextmanager
    def open(cls, path: Path, part: PartRange, sha256: str, meter: Gauge) -> Iterator[Self]:
        """A stream of the part in the file ``path``, open for as long as the block lasts.

        Raises:
            PartDamagedError: the file cannot be read or its size is wrong; the stream raises it too, while it
                is read.
        """
        try:
            with media_fs.open_regular(path, part.name) as file:
                if (size := os.fstat(file.fileno()).st_size) != part.size_bytes:
                    detail = f"{size} bytes, not {part.size_bytes}"
                    raise PartDamagedError(Damage.of_part(Code.PART_TRUNCATED, part, detail))
                yield cls(file, part, sha256, meter)
        except AirgapError as error:
            if error.code in {Code.MEDIA_UNREADABLE, Code.UNSAFE_NAME}:
                raise PartDamagedError(Damage.of_part(error.code, part, error.detail)) from None
            raise

    def __len__(self) -> int:
        return self._part.size_bytes

    def tell(self) -> int:
        """The position in the stream: the bytes handed out so far."""
        return self._sent_bytes

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go back to the start, so that a repeated request hashes every byte again; returns 0, the position.

        Raises:
            io.UnsupportedOperation: another position was asked for: there is none.
            MediaError: the volume cannot be read.
        """
        if (offset, whence) != (0, os.SEEK_SET):
            raise io.UnsupportedOperation("a part is sent from its start")
        with media_fs.media_errors(self._part.name, is_reading=True):
            self._file.seek(0)
        self._meter.advance(-self._sent_bytes)
        self._digest = hashlib.sha256()
        self._sent_bytes = 0
        self._damage = None
        return 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most ``size`` and a few MiB, possibly fewer; empty at the end.

        Raises:
            PartDamagedError: what was read is not the signed part.
        """
        if self._damage is not None:
            raise PartDamagedError(self._damage)
        # A part never grows past its size here: what was appended since it was opened is not read.
        left = self._part.size_bytes - self._sent_bytes
        wanted = min(left, media_fs.BUFFER_BYTES if size < 0 else size, media_fs.BUFFER_BYTES)
        if wanted == 0:
            return b""
        with media_fs.media_errors(self._part.name, is_reading=True):
            piece = self._file.read(wanted) or b""
        if not piece:
            self._refuse(Code.PART_TRUNCATED, f"ended after {self._sent_bytes} bytes")
        self._digest.update(piece)
        if len(piece) == left and self._digest.hexdigest() != self._sha256:
            self._refuse(Code.PART_CORRUPT, f"its SHA-256 is {self._digest.hexdigest()}")
        self._sent_bytes += len(piece)
        self._meter.advance(len(piece))
        return piece

    def _refuse(self, code: Code, detail: str) -> NoReturn:
        """Give nothing more until it is sought back."""
        self._damage = Damage.of_part(code, self._part, detail)
        raise PartDamagedError(self._damage)
