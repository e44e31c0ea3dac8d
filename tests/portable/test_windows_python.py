"""Only the embeddable Python that the release engineer vouched for goes into the folder."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from portable import windows_python
from portable.__main__ import main
from portable.tree import folder_tree
from portable.wheels import PackError
from portable.windows_python import read_windows_python


def program(machine: int = 0x8664) -> bytes:
    return b"MZ".ljust(0x3C, b"\0") + struct.pack("<I4sH", 0x40, b"PE\0\0", machine)


def embeddable(path: Path, files: Mapping[str, bytes] | None = None) -> str:
    """Write a zip file; returns its SHA-256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"python.exe": program(), "python313.dll": b"dll", **(files or {})}.items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_lies_beside_the_launcher_and_in_the_sums(tmp_path: Path) -> None:
    sha256 = embeddable(tmp_path / "python.zip", {"tcl/tcl8.6/init.tcl": b"x", "_ssl.pyd": b""})
    files = read_windows_python(tmp_path / "python.zip", sha256.upper())
    tree = folder_tree({"__main__.py": b""}, {}, files)
    assert tree["python/python.exe"] == program()
    assert tree["python/tcl/tcl8.6/init.tcl"] == b"x"
    assert b"  python/python.exe\n" in tree["SHA256SUMS"]
    assert b'"%~dp0python\\python.exe"' in tree["offline-mover.cmd"]
    assert tree["offline-mover.cmd"].count(b"\r\n") == tree["offline-mover.cmd"].count(b"\n")


def test_another_file_is_refused(tmp_path: Path) -> None:
    embeddable(tmp_path / "python.zip")
    with pytest.raises(PackError, match=r"its SHA-256 is [0-9a-f]{64}, not 0{64}"):
        read_windows_python(tmp_path / "python.zip", "0" * 64)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"python.exe": program(0x14C)}, "no python.exe for amd64"),
        ({"python.exe": program(0xAA64)}, "no python.exe for amd64"),
        ({"python.exe": b""}, "no python.exe for amd64"),
        ({"python.exe": b"MZ" + b"\xff" * 100}, "no python.exe for amd64"),
        *(({name: b""}, "a file is called") for name in ("../x", "/x", "C:x", "a\\b", "a/../b", "x ", ".x")),
    ],
)
def test_unfitting_content_is_refused(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    sha256 = embeddable(tmp_path / "python.zip", files)
    with pytest.raises(PackError, match=reason):
        read_windows_python(tmp_path / "python.zip", sha256)


def test_python_that_the_mover_does_not_run_with_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "python.zip", "w") as archive:
        archive.writestr("python.exe", program())
        archive.writestr("python310.dll", b"")
    sha256 = hashlib.sha256((tmp_path / "python.zip").read_bytes()).hexdigest()
    with pytest.raises(PackError, match=r"none of python311\.dll"):
        read_windows_python(tmp_path / "python.zip", sha256)


def test_zip_bomb_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_python, "MAX_UNPACKED_BYTES", 1000)
    sha256 = embeddable(tmp_path / "python.zip", {"x": bytes(2000)})
    with pytest.raises(PackError, match="larger than any embeddable Python"):
        read_windows_python(tmp_path / "python.zip", sha256)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\3\4" + bytes(100)])
def test_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "python.zip").write_bytes(content)
    with pytest.raises(PackError):
        read_windows_python(tmp_path / "python.zip", hashlib.sha256(content).hexdigest())


def test_damaged_member_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("python.exe", program())
    content = buffer.getvalue().replace(b"PE\0\0", b"PE\0\1")
    (tmp_path / "python.zip").write_bytes(content)
    with pytest.raises(PackError, match="Bad CRC-32"):
        read_windows_python(tmp_path / "python.zip", hashlib.sha256(content).hexdigest())


def test_refusal_leaves_the_output_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddable(tmp_path / "python.zip")
    options = ["--windows-python", str(tmp_path / "python.zip"), "--sha256", "0" * 64]
    assert main([*options, "--output", str(tmp_path / "dist")]) == 2
    assert capsys.readouterr().err.startswith("pack: ")
    assert not (tmp_path / "dist").exists()
    assert main(["--windows-python", str(tmp_path / "none"), "--sha256", "0" * 64]) == 2
    assert capsys.readouterr().err == f"pack: {tmp_path / 'none'}: No such file or directory\n"


@pytest.mark.parametrize("options", [["--sha256", "0" * 64], ["--windows-python", "x"], ["--sha256", "x"]])
def test_path_and_digest_belong_together(options: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
