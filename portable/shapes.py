"""The shapes of a tree: a folder and a single file, the same bytes on every build.

Names are sorted and times fixed. How far the single file is compressed is up to the zlib that Python was
built with, so it is the same for everybody who builds it with the same Python.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

EPOCH_S = 315_532_800
"""1980-01-01, the first day that a zip file and a FAT file system know."""

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_LEVEL = 6  # 9 takes twice as long to save 0.1 of 20 MB
_FOLDER_BITS = 0o40755 << 16 | 0x10
_SHEBANG = b"#!/usr/bin/env python3\n"
_STARTABLE = (".sh", ".cmd")


def write_folder(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a tree as a folder, in place of whatever was at ``folder``."""
    building = folder.with_name(folder.name + ".new")
    shutil.rmtree(building, ignore_errors=True)
    for name in sorted(files):
        path = building / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[name])
        path.chmod(0o755 if name.endswith(_STARTABLE) else 0o644)
        os.utime(path, (EPOCH_S, EPOCH_S))
    for inner in [*sorted(folders_of(files), reverse=True), "."]:
        (building / inner).chmod(0o755)
        os.utime(building / inner, (EPOCH_S, EPOCH_S))
    if folder.exists():
        shutil.rmtree(folder)
    building.rename(folder)


def single_file(files: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip file that holds the tree, and that Python can start."""
    return zipped(files, before=_SHEBANG)


def zipped(files: Mapping[str, bytes], *, before: bytes = b"") -> bytes:
    """The bytes of a zip file after ``before``; folders have entries, which namespace packages need."""
    buffer = io.BytesIO()
    buffer.write(before)
    entries = {**dict.fromkeys(folders_of(files), b""), **files}
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in sorted(entries):
            is_folder = name not in files
            entry = zipfile.ZipInfo(name + "/" if is_folder else name, _ZIP_EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _FOLDER_BITS if is_folder else 0o100644 << 16
            entry.compress_type = zipfile.ZIP_STORED if is_folder else zipfile.ZIP_DEFLATED
            archive.writestr(entry, entries[name], compresslevel=_LEVEL)
    return buffer.getvalue()


def write_single_file(content: bytes, path: Path, *, mode: int = 0o755) -> None:
    """Write a single file in place of whatever was at ``path``."""
    building = path.with_name(path.name + ".new")
    building.write_bytes(content)
    building.chmod(mode)
    os.utime(building, (EPOCH_S, EPOCH_S))
    building.replace(path)


def folders_of(files: Mapping[str, bytes]) -> set[str]:
    """Every folder that a file of the tree is in."""
    return {str(folder) for name in files for folder in PurePosixPath(name).parents if str(folder) != "."}
