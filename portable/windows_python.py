"""An official embeddable Python for Windows, which a release engineer supplies and vouches for."""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

from portable.targets import MINORS
from portable.wheels import PackError

MAX_ZIP_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 256 * 2**20
MAX_FILES = 5000
EXECUTABLE = "python.exe"
_AMD64 = 0x8664
_SAFE_NAME = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*", re.ASCII)


def read_windows_python(path: Path, sha256: str) -> dict[str, bytes]:
    """Read the files of an official embeddable Python for Windows, by name.

    Args:
        path: the zip file as its publisher offers it.
        sha256: the hex SHA-256 that the publisher states.

    Raises:
        PackError: it is another file, or not a Python that the mover runs with.
    """
    try:
        if path.stat().st_size > MAX_ZIP_BYTES:
            raise PackError(f"{path}: larger than {MAX_ZIP_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if not hmac.compare_digest(found, sha256.lower()):
        raise PackError(f"{path}: its SHA-256 is {found}, not {sha256}")
    try:
        files = _unpack(content)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise PackError(f"{path}: {error}") from None
    _require_fitting(files, path)
    return files


def _unpack(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
            raise zipfile.BadZipFile("larger than any embeddable Python")
        if unsafe := [entry.filename for entry in entries if not _SAFE_NAME.fullmatch(entry.filename)]:
            raise zipfile.BadZipFile(f"a file is called {unsafe[0]!r}")
        return {entry.filename: archive.read(entry) for entry in entries}


def _require_fitting(files: dict[str, bytes], path: Path) -> None:
    """Refuse a Python for another processor or of another version than we pack for.

    Raises:
        PackError: it is such a one.
    """
    if _machine(files.get(EXECUTABLE, b"")) != _AMD64:
        raise PackError(f"{path}: no {EXECUTABLE} for amd64 in it")
    fitting = {f"python3{minor}.dll" for minor in MINORS}
    if not fitting & files.keys():
        raise PackError(f"{path}: none of {', '.join(sorted(fitting))} in it")


def _machine(executable: bytes) -> int | None:
    """The processor that a Windows program is for (PE/COFF, sections 2 and 3.3.1)."""
    try:
        (header,) = struct.unpack_from("<I", executable, 0x3C)
        signature, machine = struct.unpack_from("<4sH", executable, header)
    except struct.error:
        return None
    return machine if signature == b"PE\0\0" else None
