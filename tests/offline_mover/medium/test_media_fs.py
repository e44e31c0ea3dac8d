from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airgap.errors import Code, MediaError, UntrustedInputError
from offline_mover.medium import media_fs

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, Code.MEDIA_FULL),
        (errno.EDQUOT, Code.MEDIA_FULL),
        (errno.EFBIG, Code.MEDIA_FULL),
        (errno.EROFS, Code.MEDIA_READ_ONLY),
        (errno.EACCES, Code.MEDIA_READ_ONLY),
        (errno.EIO, Code.MEDIA_UNREADABLE),
        (errno.ENODEV, Code.MEDIA_UNREADABLE),
        (None, Code.MEDIA_UNREADABLE),
    ],
)
def test_errors_of_the_file_system_say_what_is_wrong_with_the_medium(number: int | None, code: Code) -> None:
    with pytest.raises(MediaError, match=r"data/x\\n") as caught, media_fs.media_errors("data/x\n"):
        raise OSError(number, "why")
    assert caught.value.code is code


def test_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "part"
    with media_fs.new_file(path, "part") as file:
        media_fs.write_all(file, b"content")
        assert not path.exists()
        assert (tmp_path / "part.partial").exists()
    assert path.read_bytes() == b"content"
    assert [child.name for child in tmp_path.iterdir()] == ["part"]


def test_failure_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"old")

    def write_half() -> None:
        with media_fs.new_file(path, "part") as file:
            media_fs.write_all(file, b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir()] == ["part"]


def test_partial_name_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "part.partial").symlink_to(victim)
    media_fs.write_durably(tmp_path / "part", "part", b"content")
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "part").read_bytes() == b"content"


def test_capped_read_refuses_by_size_and_stops_at_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert media_fs.read_capped(path, "file", max_bytes=5) == b"12345"
    with pytest.raises(UntrustedInputError) as caught:
        media_fs.read_capped(path, "file", max_bytes=4)
    assert caught.value.code is Code.TOO_LARGE


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        media_fs.read_capped(tmp_path / "none", "none", max_bytes=1)
    assert caught.value.code is Code.MEDIA_UNREADABLE


def test_folders_nested_too_deep_are_odd_not_entered(tmp_path: Path) -> None:
    (tmp_path / "/".join("abcdefghijkl")).mkdir(parents=True)
    (entry,) = media_fs.walk(tmp_path)
    assert entry.kind is media_fs.Kind.ODD


def test_folder_whose_name_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(UntrustedInputError) as caught:
        media_fs.make_folder(tmp_path / "data", "data")
    assert caught.value.code is Code.UNSAFE_NAME


_FILL = """
import sys
from pathlib import Path
from airgap.errors import MediaError
from offline_mover.medium import media_fs
volume = Path(sys.argv[1])
try:
    with media_fs.new_file(volume / "part", "part") as file:
        media_fs.write_all(file, bytes(3_000_000))
except MediaError as error:
    print(error.code.name, sorted(path.name for path in volume.iterdir()))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces to mount a small disk")
@pytest.mark.parametrize(
    ("options", "said"), [("size=1m", "MEDIA_FULL []"), ("size=9m,ro", "MEDIA_READ_ONLY []")]
)
def test_a_really_full_or_protected_volume(tmp_path: Path, options: str, said: str) -> None:
    script = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, _FILL],  # noqa: S607 - PATH
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert done.stdout.strip() == said, done.stderr
