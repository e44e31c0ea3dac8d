"""The tool itself on a volume: a copy of the running mover is laid there for the next person.

Only a packed mover can be copied (see ``portable/``). Its folder holds ``SHA256SUMS``: what that lists is
copied and checked, nothing else that may lie there. The single file has nothing to be checked against; the
operator compares its SHA-256 as that of any tool that comes with the data.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airgap.errors import Code, MediaError, OperatorError
from offline_mover.medium import media_fs, medium_read

_CLUSTER_BYTES = 128 * 1024
"""What a file takes at least on a large exFAT volume."""

FOLDER = "offline-mover"
"""On the volume; never the name of a bag, whose folder is called after its transfer."""

SINGLE_FILE = "offline-mover.pyz"
SUMS = "SHA256SUMS"
MAX_FILE_BYTES = 64 * 2**20
MAX_SUMS_BYTES = 2**20
_LINE = re.compile(r"([0-9a-f]{64})  (\w[\w.+-]*(?:/\w[\w.+-]*)*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ToolFile:
    """A file of the tool, by its name below :data:`FOLDER`."""

    name: str
    sha256: str
    content: bytes


def lay_tool(volume: Path) -> int:
    """Copy the running tool into ``volume``; what is there already with the same bytes stays untouched.

    Returns:
        The number of files written.

    Raises:
        OperatorError: ``USAGE``, this is no packed mover.
        UntrustedInputError: ``UNSAFE_NAME``, a link is in the way on the volume.
        MediaError: ``TOOL_DAMAGED``, the running tool is not what was packed; or the volume refused, or does
            not hold what was written (``MEDIA_LIED``).
    """
    tool = _require_packed()
    media_fs.make_folder(volume / FOLDER, FOLDER)
    files = _single_file(tool) if tool.is_file() else _files_of_folder(tool)
    return sum(_lay(file, volume / FOLDER) for file in files)


def needed_bytes(volume: Path | None = None) -> int:
    """The bytes that :func:`lay_tool` takes at most, besides those that ``volume`` has already.

    Raises:
        OperatorError: ``USAGE``: this is no packed mover.
    """
    tool = _require_packed()
    if tool.is_file():
        sizes = {SINGLE_FILE: tool.stat().st_size}
    else:
        sizes = {str(p.relative_to(tool)): p.stat().st_size for p in tool.rglob("*") if p.is_file()}
    held = set() if volume is None else {name for name in sizes if _is_there(volume, name, sizes[name])}
    return sum(-(-sizes[name] // _CLUSTER_BYTES) * _CLUSTER_BYTES for name in sizes.keys() - held)


def _is_there(volume: Path, name: str, size_bytes: int) -> bool:
    """Whether a file of the tool's name and size is on the volume; its bytes are compared when it is laid."""
    path = volume / FOLDER / name
    return path.is_file() and path.stat().st_size == size_bytes


def _require_packed() -> Path:
    tool = running_tool()
    if tool is None:
        raise OperatorError(
            Code.USAGE, "only a packed mover can copy itself; ./dev pack makes one, run the command from it"
        )
    return tool


def running_tool() -> Path | None:
    """The packed folder or single file that this module runs from; ``None`` in a checkout."""
    app = Path(__file__).absolute().parents[1]
    if app.name != "app":
        return None
    tool = app.parent
    return tool if tool.is_file() or (tool / SUMS).is_file() else None


def _files_of_folder(tool: Path) -> Iterator[_ToolFile]:
    """Every file of the packed folder, checked; the sums come last, so that a broken copy has none."""
    sums = media_fs.read_capped(tool / SUMS, SUMS, max_bytes=MAX_SUMS_BYTES)
    for line in sums.decode("ascii", errors="replace").splitlines():
        if (matched := _LINE.fullmatch(line)) is None:
            raise MediaError(Code.TOOL_DAMAGED, f"{SUMS} is not what was packed")
        sha256, name = matched.groups()
        content = media_fs.read_capped(tool / name, name, max_bytes=MAX_FILE_BYTES)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise MediaError(Code.TOOL_DAMAGED, f"{name} is not what {SUMS} says")
        yield _ToolFile(name=name, sha256=sha256, content=content)
    yield _ToolFile(name=SUMS, sha256=hashlib.sha256(sums).hexdigest(), content=sums)


def _single_file(tool: Path) -> Iterator[_ToolFile]:
    content = media_fs.read_capped(tool, tool.name, max_bytes=MAX_FILE_BYTES)
    yield _ToolFile(name=SINGLE_FILE, sha256=hashlib.sha256(content).hexdigest(), content=content)


def _lay(file: _ToolFile, folder: Path) -> bool:
    """Write one file unless it is there; whether it was written."""
    path = folder / file.name
    name = f"{FOLDER}/{file.name}"
    for parent in reversed(Path(file.name).parents[:-1]):
        media_fs.make_folder(folder / parent, f"{FOLDER}/{parent.as_posix()}")
    if media_fs.exists(path) and _sha256_on_medium(path, name) == file.sha256:
        return False
    media_fs.write_durably(path, name, file.content)
    if _sha256_on_medium(path, name) != file.sha256:
        raise MediaError(Code.MEDIA_LIED, name)
    return True


def _sha256_on_medium(path: Path, name: str) -> str:
    return medium_read.hash_file(path, name, lambda _count: None, from_medium=True)
