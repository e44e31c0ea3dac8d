"""What somebody planted on a medium: links, hard links, pipes. None of them leads anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.errors import AirgapError, Code, MediaError, OperatorError
from offline_mover.medium import held_volumes, media_fs, operator_files
from offline_mover.medium.held_volumes import holding
from offline_mover.medium.open_folder import _is_link

posix_only = pytest.mark.skipif(os.name == "nt", reason="planted with the means of a POSIX system")

pytestmark = posix_only


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the operator, off the volume."""
    path = tmp_path / "home" / "precious"
    path.parent.mkdir()
    path.write_bytes(b"precious")
    return path


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "usb"
    path.mkdir()
    with holding(path):
        yield path


def _refused(code: Code) -> pytest.RaisesExc[AirgapError]:
    return pytest.raises(AirgapError, check=lambda error: error.code is code)


# --- on a volume -------------------------------------------------------------------------------------------


def test_planted_folder_link_takes_nothing_off_the_volume(volume: Path, victim: Path) -> None:
    (volume / "bag").symlink_to(victim.parent)
    with _refused(Code.UNSAFE_NAME):
        media_fs.write_durably(volume / "bag" / "precious", "precious", b"forged")
    with _refused(Code.UNSAFE_NAME):
        media_fs.remove(volume / "bag" / "precious", "precious")
    with _refused(Code.UNSAFE_NAME):
        media_fs.make_folder(volume / "bag" / "data", "data")
    with _refused(Code.UNSAFE_NAME):
        media_fs.read_capped(volume / "bag" / "precious", "precious", max_bytes=100)
    with _refused(Code.UNSAFE_NAME):
        media_fs.names_in(volume / "bag", most=10)
    with _refused(Code.UNSAFE_NAME):
        list(media_fs.walk(volume / "bag"))
    assert not media_fs.is_real_folder(volume / "bag" / "data")
    assert [child.name for child in victim.parent.iterdir()] == ["precious"]
    assert victim.read_bytes() == b"precious"


def test_link_deep_below_the_root_is_not_followed(volume: Path, victim: Path) -> None:
    (volume / "a" / "b").mkdir(parents=True)
    (volume / "a" / "b" / "c").symlink_to(victim.parent)
    with _refused(Code.UNSAFE_NAME):
        media_fs.read_capped(volume / "a" / "b" / "c" / "precious", "precious", max_bytes=100)


def test_volume_that_the_operator_reaches_by_a_link_is_one(tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    link = tmp_path / "my stick"
    link.symlink_to(tmp_path / "usb")
    with holding(link):
        media_fs.write_durably(link / "file", "file", b"content")
        assert media_fs.read_capped(tmp_path / "usb" / "file", "file", max_bytes=10) == b"content"


def test_link_in_place_of_a_file_is_replaced_and_never_written_through(volume: Path, victim: Path) -> None:
    for name in ("file", "file.partial"):
        (volume / name).symlink_to(victim)
    media_fs.write_durably(volume / "file", "file", b"content")
    assert (volume / "file").read_bytes() == b"content"
    assert not (volume / "file").is_symlink()
    assert victim.read_bytes() == b"precious"


def test_hard_linked_file_is_replaced_and_its_other_name_keeps_its_bytes(volume: Path) -> None:
    (volume / "part").write_bytes(b"whole")
    for name in ("file", "file.partial"):
        (volume / name).hardlink_to(volume / "part")
    media_fs.write_durably(volume / "file", "file", b"content")
    assert (volume / "part").read_bytes() == b"whole"


def test_nothing_is_appended_to_a_file_with_a_second_name(volume: Path) -> None:
    (volume / "part").write_bytes(b"whole")
    (volume / "log").hardlink_to(volume / "part")
    with _refused(Code.UNSAFE_NAME), media_fs.open_to_append(volume / "log") as descriptor:
        os.write(descriptor, b"line")
    assert (volume / "part").read_bytes() == b"whole"


@pytest.mark.timeout(20)
def test_pipe_and_device_never_hang(volume: Path) -> None:
    os.mkfifo(volume / "pipe")
    (volume / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with _refused(Code.UNSAFE_NAME):
            media_fs.read_capped(volume / name, name, max_bytes=10)
        with _refused(Code.UNSAFE_NAME), media_fs.open_to_append(volume / name):
            pass
    os.mkfifo(volume / "file.partial")
    media_fs.write_durably(volume / "file", "file", b"content")
    assert (volume / "file").read_bytes() == b"content"


# --- files that the operator names -------------------------------------------------------------------------


def anything(_content: bytes) -> bool:
    return True


def test_only_what_is_ours_is_replaced(tmp_path: Path, victim: Path) -> None:
    page = tmp_path / "report.html"
    for content in (b"page 1", b"page 2"):
        operator_files.write(page, "--to", content, is_ours=lambda there: there == b"page 1")
    assert page.read_bytes() == b"page 2"
    for path in (page, victim):
        before = path.read_bytes()
        with pytest.raises(OperatorError, match="another file has that name"):
            operator_files.write(path, "--to", b"page", is_ours=lambda there: there == b"page 1")
        assert path.read_bytes() == before


@pytest.mark.parametrize("is_held", [True, False])
def test_half_written_name_that_was_planted_is_not_followed(
    tmp_path: Path, victim: Path, *, is_held: bool
) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    (folder / "report.html.partial").symlink_to(victim)
    if is_held:
        held_volumes.hold(folder)
    try:
        operator_files.write(folder / "report.html", "--to", b"page", is_ours=anything)
    finally:
        held_volumes.release_all()
    assert victim.read_bytes() == b"precious"
    assert (folder / "report.html").read_bytes() == b"page"


def test_link_device_and_folder_are_not_written_to(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe"):
        with pytest.raises(OperatorError, match="has that name"):
            operator_files.write(tmp_path / name, "--to", b"page", is_ours=anything)
    assert victim.read_bytes() == b"precious"


def test_report_is_not_led_off_the_volume_by_a_folder(volume: Path, victim: Path) -> None:
    (volume / "reports").symlink_to(victim.parent)
    with pytest.raises(OperatorError, match="symbolic link"):
        operator_files.write(volume / "reports" / "precious", "--to", b"page", is_ours=anything)
    assert victim.read_bytes() == b"precious"


@pytest.mark.timeout(20)
def test_request_that_is_a_pipe_or_a_device_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OperatorError, match="not a regular file"):
            operator_files.read(tmp_path / name, "--recarry", max_bytes=10)


def test_request_on_a_volume_may_not_be_a_link(volume: Path, victim: Path) -> None:
    (volume / "recarry.json").symlink_to(victim)
    with pytest.raises(OperatorError, match="symbolic link"):
        operator_files.read(volume / "recarry.json", "--recarry", max_bytes=100)


def test_operators_own_link_is_followed(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "policy.json").symlink_to(victim)
    assert operator_files.read(tmp_path / "policy.json", "--trust", max_bytes=100) == b"precious"


def test_what_a_shell_puts_in_place_of_a_command_is_read() -> None:
    code = (
        "import sys; from pathlib import Path; from offline_mover.medium import operator_files\n"
        "print(operator_files.read(Path(sys.argv[1]), '--sas-file', max_bytes=100))"
    )
    words = ["bash", "-c", 'exec "$0" -c "$1" <(printf secret)', sys.executable, code]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.stdout == "b'secret'\n", done.stderr


# --- the volume itself -------------------------------------------------------------------------------------


def test_volume_whose_folder_was_replaced_is_gone(tmp_path: Path) -> None:
    """What stands in for ``umount``: the path leads to another folder (tests/faults has real mounts)."""
    path = tmp_path / "usb"
    path.mkdir()
    with holding(path):
        media_fs.write_durably(path / "before", "before", b"")
        path.rename(tmp_path / "pulled out")
        path.mkdir()
        with _refused(Code.VOLUME_GONE):
            media_fs.write_durably(path / "after", "after", b"")
        with _refused(Code.VOLUME_GONE):
            media_fs.exists(path / "before")
        with _refused(Code.VOLUME_GONE):
            list(media_fs.walk(path))
        with _refused(Code.VOLUME_GONE), media_fs.open_to_append(path / "log"):
            pass
    assert not list(path.iterdir())
    assert [child.name for child in (tmp_path / "pulled out").iterdir()] == ["before"]


def test_error_of_a_volume_that_is_gone_names_it(tmp_path: Path) -> None:
    path = tmp_path / "usb"
    path.mkdir()
    with holding(path):
        path.rmdir()
        with pytest.raises(MediaError, match="usb is gone") as caught, media_fs.media_errors("a part"):
            raise OSError(5, "Input/output error")
    assert caught.value.code is Code.VOLUME_GONE


def test_volume_that_is_not_there_is_not_held(tmp_path: Path) -> None:
    with _refused(Code.VOLUME_NOT_FOUND), holding(tmp_path / "nowhere"):
        pass


def test_links_are_told_from_files_of_other_providers() -> None:
    """Windows marks files that a cloud keeps with reparse points, too; they stand for nothing else."""

    class Found:
        st_mode = 0o100644
        st_reparse_tag = 0x9000_001A  # IO_REPARSE_TAG_CLOUD

    assert not _is_link(Found)  # type: ignore[arg-type]  # as much of it as is asked for
    Found.st_reparse_tag = 0xA000_0003  # IO_REPARSE_TAG_MOUNT_POINT
    assert _is_link(Found)  # type: ignore[arg-type]  # as above
