"""Files that the operator names: policy, SAS, plan, request, report.

They are the operator's own, and still may lie on a medium, or beside one: a request in its root, a report in
the folder that the tool was started from. So nobody else's link, pipe or half-written file is ever followed,
and what a run writes takes the place of what an earlier run wrote, never of a key, a policy or a bundle.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from airgap.errors import AirgapError, Code, MediaError, OperatorError
from offline_mover.medium import media_fs
from offline_mover.medium.open_folder import open_folder, open_own

_OWN_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""What a shell puts in place of ``<(command)``."""

_MOST_REPLACED_BYTES = 64 * 1024 * 1024
"""What is larger is nothing that this tool has written."""


class OutputTakenError(OperatorError):
    """The refusal to write under a name that something else has, which stays as it is."""

    def __init__(self, option: str, path: Path, why: str) -> None:
        super().__init__(Code.USAGE, f"{option} {path}: {why}; it stays as it is")
        self.option = option
        self.remedy = "Give another name, or move away what is there:"

    def __reduce__(self) -> tuple[type[OperatorError], tuple[Code, str], dict[str, str]]:
        """Become the plain error elsewhere: another process has no command to run again."""
        return OperatorError, (self.code, self.detail), {"remedy": self.remedy}


def read(path: Path, option: str, *, max_bytes: int) -> bytes:
    """Read the file that ``option`` names.

    It may be a link unless it lies on a volume of the run; never a pipe or a device, which might never end,
    but for one that the shell itself opened.

    Raises:
        OperatorError: ``USAGE``: it cannot be read, is no regular file, or is larger than ``max_bytes``.
        MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
    """
    is_shells = str(path).startswith(_OWN_DESCRIPTORS)
    try:
        with open_own(path, may_wait=is_shells) as file:
            if not (is_shells or stat.S_ISREG(os.fstat(file.fileno()).st_mode)):
                raise OperatorError(Code.USAGE, f"{option} {path}: not a regular file")
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise _refusal(error, option, path) from None
    except AirgapError as error:
        raise _usage(error, option, path) from None
    if len(content) > max_bytes:
        raise OperatorError(Code.USAGE, f"{option} {path}: larger than {max_bytes} bytes")
    return content


def write(path: Path, option: str, content: bytes, *, is_ours: Callable[[bytes], bool]) -> None:
    """Write the file that ``option`` names as a whole, in place of one that ``is_ours`` accepts.

    Raises as :func:`require_free`; ``USAGE`` also where it cannot be written.
    """
    require_free(path, option, is_ours)
    try:
        media_fs.write_durably(path, path.name, content)
    except (OSError, ValueError) as error:
        raise _refusal(error, option, path) from None
    except AirgapError as error:
        raise _usage(error, option, path) from None


def require_free(path: Path, option: str, is_ours: Callable[[bytes], bool]) -> None:
    """Refuse a name to write to, unless nothing has it, or a file that this tool wrote for the same purpose.

    Args:
        path: the path of the file to write.
        option: the option that names it.
        is_ours: tells whether a file of that content may be replaced.

    Raises:
        OutputTakenError: ``USAGE``: something else has the name, such as a key, a policy or a bundle.
        OperatorError: ``USAGE``: what is there cannot be read.
        MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
    """
    try:
        with open_folder(path.parent) as folder:
            found = folder.kind(path.name)
    except (OSError, ValueError) as error:
        raise _refusal(error, option, path) from None
    except AirgapError as error:
        raise _usage(error, option, path) from None
    if found is None:
        return
    if not stat.S_ISREG(found.st_mode):
        raise OutputTakenError(option, path, "a link, a folder or a device has that name")
    if found.st_size > _MOST_REPLACED_BYTES or not is_ours(
        read(path, option, max_bytes=_MOST_REPLACED_BYTES)
    ):
        raise OutputTakenError(option, path, "another file has that name")


def is_read_by(read_one: Callable[[bytes], object]) -> Callable[[bytes], bool]:
    """A test for :func:`write`: whether ``read_one``, the strict reader of a format, accepts a file."""

    def is_ours(content: bytes) -> bool:
        try:
            read_one(content)
        except AirgapError:
            return False
        return True

    return is_ours


def _refusal(error: Exception, option: str, path: Path) -> OperatorError:
    reason = getattr(error, "strerror", None) or "not a path"
    return OperatorError(Code.USAGE, f"{option} {path}: {reason}")


def _usage(error: AirgapError, option: str, path: Path) -> AirgapError:
    """How it was called is at fault, unless the medium itself is gone."""
    if isinstance(error, OperatorError) or (isinstance(error, MediaError) and error.code is Code.VOLUME_GONE):
        return error
    return OperatorError(Code.USAGE, f"{option} {path}: {error.detail}")
