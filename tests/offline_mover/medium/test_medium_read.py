from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from offline_mover.medium import media_fs, medium_read


def cached_bytes(path: Path) -> int:
    """How much of a file the system keeps in memory."""
    done = subprocess.run(
        ["fincore", "-n", "-b", "-o", "RES", str(path)],  # noqa: S607 - util-linux, wherever it is
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout or 0)


@pytest.mark.skipif(shutil.which("fincore") is None, reason="needs util-linux")
def test_reading_back_asks_the_device_not_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "part"
    media_fs.write_durably(path, "part", os.urandom(3 * 1024 * 1024 + 17))
    if medium_read.cache_bypass(path, "part") is not medium_read.CacheBypass.DIRECT:
        pytest.skip("this file system cannot be read directly")
    digest = medium_read.hash_file(path, "part", lambda _: None, from_medium=True)
    assert cached_bytes(path) == 0
    assert medium_read.hash_file(path, "part", lambda _: None) == digest
    assert cached_bytes(path) > 0


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, media_fs.BUFFER_BYTES, media_fs.BUFFER_BYTES + 1])
def test_any_size_reads_back_the_same_past_the_cache(tmp_path: Path, size: int) -> None:
    path = tmp_path / "part"
    content = os.urandom(size)
    media_fs.write_durably(path, "part", content)
    for from_medium in (True, False):
        told: list[int] = []
        digest = medium_read.hash_file(path, "part", told.append, from_medium=from_medium)
        assert (digest, sum(told)) == (hashlib.sha256(content).hexdigest(), size)


def test_file_system_that_cannot_be_read_directly_is_told_to_forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    path = tmp_path / "part"
    path.write_bytes(b"x")
    monkeypatch.setattr("fcntl.fcntl", refuse)
    assert medium_read.cache_bypass(path, "part") is medium_read.CacheBypass.DROPPED
