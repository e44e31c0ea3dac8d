"""The comparison with Microsoft's compiler, where there is one on the path: both must say the same.

Only ``_generator``, which it adds about itself, may differ, and the order of ``dependsOn``, which means
nothing.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from infra.bicep.template import CompilationError, compile_file

_TIME_LIMIT_S = 120
_SHOWN = 160


def find() -> str | None:
    """The path of the official ``bicep``; ``None`` if there is none."""
    return shutil.which("bicep")


def require_same(paths: Iterable[Path], bicep: str) -> None:
    """Refuse to go on if the two compilers differ about any of the files.

    Raises:
        CompilationError: they differ, with each place; or one of the two does not compile a file.
    """
    found = [one for path in paths for one in differences(path, bicep)]
    if found:
        raise CompilationError("\n".join(found))


def differences(path: Path, bicep: str) -> list[str]:
    """The places at which the official compiler says something else of a Bicep file.

    Raises:
        CompilationError: one of the two does not compile the file.
    """
    try:
        done = subprocess.run(
            [bicep, "build", "--stdout", str(path)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=_TIME_LIMIT_S,
        )
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CompilationError(f"{path.name}: {bicep} cannot be run: {error}") from None
    if found is None:
        raise CompilationError(f"{path.name}: {bicep} says: {done.stderr.strip()}")
    return list(_differences(_bare(found), _bare(compile_file(path)), path.name))


def _bare(value: Any) -> Any:
    """A template without what its compiler says of itself, and with what has no order sorted."""
    match value:
        case list():
            return [_bare(one) for one in value]
        case dict():
            found = {name: _bare(one) for name, one in value.items()}
            if isinstance(found.get("metadata"), dict):
                found["metadata"].pop("_generator", None)
                if not found["metadata"]:
                    del found["metadata"]
            if isinstance(found.get("dependsOn"), list):
                found["dependsOn"] = sorted(found["dependsOn"], key=str)
            return found
    return value


def _differences(theirs: Any, ours: Any, place: str) -> Iterator[str]:
    match theirs, ours:
        case dict(), dict():
            for name in theirs.keys() | ours.keys():
                yield from _differences(theirs.get(name), ours.get(name), f"{place}.{name}")
        case list(), list() if len(theirs) == len(ours):
            for at, pair in enumerate(zip(theirs, ours, strict=True)):
                yield from _differences(*pair, f"{place}[{at}]")
        case _ if theirs != ours or isinstance(theirs, bool) is not isinstance(ours, bool):
            yield f"{place}: bicep says {_shown(theirs)}, ours {_shown(ours)}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:_SHOWN]
