from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from airgap.errors import Code
from airgap.parts import PartRange
from offline_mover.progress import Meter
from offline_mover.storage.part_stream import PartDamagedError, PartStream

_CONTENT = bytes(range(256)) * 10_000  # 2.56 MB: three buffers
_PART = PartRange(blob="001", number=1, offset_bytes=0, size_bytes=len(_CONTENT))
_SHA256 = hashlib.sha256(_CONTENT).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "part"
    path.write_bytes(_CONTENT)
    return path


def read_all(stream: PartStream, size: int = 16_384) -> bytes:
    return b"".join(iter(lambda: stream.read(size), b""))


def test_stream_gives_the_part(path: Path) -> None:
    with PartStream.open(path, _PART, _SHA256, Meter()) as stream:
        assert len(stream) == len(_CONTENT)
        assert read_all(stream) == _CONTENT
        assert (stream.tell(), stream.read(), stream.read(5)) == (len(_CONTENT), b"", b"")


def test_stream_sought_back_gives_and_hashes_it_again(path: Path) -> None:
    with PartStream.open(path, _PART, _SHA256, Meter()) as stream:
        stream.read(100_000)
        assert (stream.seek(0), stream.tell()) == (0, 0)
        assert read_all(stream) == _CONTENT
        with pytest.raises(io.UnsupportedOperation):
            stream.seek(1)


@pytest.mark.parametrize("offset", [0, 1_500_000, len(_CONTENT) - 1])
def test_wrong_part_is_never_handed_out_whole(path: Path, offset: int) -> None:
    wrong = _CONTENT[:offset] + bytes([_CONTENT[offset] ^ 0xFF]) + _CONTENT[offset + 1 :]
    path.write_bytes(wrong)
    sent = b""
    with PartStream.open(path, _PART, _SHA256, Meter()) as stream:
        with pytest.raises(PartDamagedError) as caught:  # noqa: PT012 - reading goes on until it is refused
            while piece := stream.read(16_384):
                sent += piece
        with pytest.raises(PartDamagedError):
            stream.read(1)
    assert len(sent) < len(_CONTENT)
    assert caught.value.damage.code is Code.PART_CORRUPT


def test_part_that_grows_while_it_is_sent_is_sent_as_it_was(path: Path) -> None:
    with PartStream.open(path, _PART, _SHA256, Meter()) as stream:
        stream.read(10)
        with path.open("ab") as file:
            file.write(b"more")
        assert stream.seek(0) == 0
        assert read_all(stream) == _CONTENT


def test_part_of_another_size_is_not_opened(path: Path) -> None:
    path.write_bytes(_CONTENT + b"x")
    with pytest.raises(PartDamagedError) as caught, PartStream.open(path, _PART, _SHA256, Meter()):
        pytest.fail("opened")
    assert caught.value.damage.code is Code.PART_TRUNCATED
