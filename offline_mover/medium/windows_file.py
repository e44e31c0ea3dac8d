"""A file read past the system's cache: the one thing that Python's ``open`` cannot ask of Windows.

Imported on Windows only.
"""

from __future__ import annotations

import ctypes
import msvcrt
import os
import sys
from pathlib import Path

assert sys.platform == "win32"  # noqa: S101 - for the type checker, which else looks at another platform

_GENERIC_READ = 0x80000000
_SHARE_READ_AND_DELETE = 0x1 | 0x4
_OPEN_EXISTING = 3
_NO_BUFFERING = 0x20000000
_SEQUENTIAL_SCAN = 0x08000000
_INVALID_HANDLE = ctypes.c_void_p(-1).value

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_create_file = _kernel32.CreateFileW
_create_file.restype = ctypes.c_void_p
_create_file.argtypes = [
    *(ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p),
    *(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p),
]
_close_handle = _kernel32.CloseHandle
_close_handle.argtypes = [ctypes.c_void_p]


def open_unbuffered(path: str | Path) -> int:
    """Open a file for reading so that every read comes from the device; returns a file descriptor.

    Memory, position and size of a read have to be multiples of the device's sector, 4096 bytes at most
    (Windows documentation, "File Buffering"); the last read of a file may come back shorter.

    Raises:
        OSError: as ``open`` raises it; with ``winerror`` 87 when the file system knows no such reads.
    """
    handle = _create_file(
        str(path),
        _GENERIC_READ,
        _SHARE_READ_AND_DELETE,
        None,
        _OPEN_EXISTING,
        _NO_BUFFERING | _SEQUENTIAL_SCAN,
        None,
    )
    if handle is None or handle == _INVALID_HANDLE:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT)
    except OSError:
        _close_handle(handle)
        raise
