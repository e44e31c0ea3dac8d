"""Files that the operator names: policy, SAS, plan, request, report.

They are the operator's own, and still may lie on a medium, or beside one: a request in its root, a report in
the folder that the tool was started from. So nobody else's link, pipe or half-written file is ever followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from airgap.errors import AirgapError, Code, MediaError, OperatorError
from offline_mover.medium import media_fs
from offline_mover.medium.open_folder import open_folder, open_own

_OWN_DESCRIPTORS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""What a shell puts in place of ``<(command)``."""


def read(path: Path, option: str, *, max_bytes: int) -> bytes:
    """A file that ``option`` names.

    It may be a link unless it lies on a volume of the run; never a pipe or a device, which might never end,
    but for one that the shell itself opened.

    Raises:
        OperatorError: ``USAGE``: it cannot be read, or is larger than ``max_bytes``.
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


def write(path: Path, option: str, content: bytes) -> None:
    """A file that ``option`` names, replaced as a whole; what is there must be a regular file, or nothing.

    Raises:
        OperatorError: ``USAGE``: it cannot be written, or something else has its name.
        MediaError: ``VOLUME_GONE``: another medium is at its path now, or none.
    """
    try:
        with open_folder(path.parent) as folder:
            found = folder.kind(path.name)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise OperatorError(
                Code.USAGE,
                f"{option} {path}: a link, a folder or a device has that name; remove it, or give another",
            )
        media_fs.write_durably(path, path.name, content)
    except (OSError, ValueError) as error:
        raise _refusal(error, option, path) from None
    except AirgapError as error:
        raise _usage(error, option, path) from None


def _refusal(error: Exception, option: str, path: Path) -> OperatorError:
    reason = getattr(error, "strerror", None) or "not a path"
    return OperatorError(Code.USAGE, f"{option} {path}: {reason}")


def _usage(error: AirgapError, option: str, path: Path) -> AirgapError:
    """How it was called is at fault, unless the medium itself is gone."""
    if isinstance(error, OperatorError) or (isinstance(error, MediaError) and error.code is Code.VOLUME_GONE):
        return error
    return OperatorError(Code.USAGE, f"{option} {path}: {error.detail}")
