"""The templates as files: the Bicep files, and the compiled ones beside them."""

import json
from pathlib import Path

from infra.bicep.template import compile_file

FOLDER = Path(__file__).parent
SIDES = ("source", "target")


def arm_path(side: str, folder: Path = FOLDER) -> Path:
    """The path of the ARM template of a side."""
    return folder / "arm" / f"{side}.json"


def arm_text(side: str, folder: Path = FOLDER) -> str:
    """The text of the ARM template of a side, compiled now.

    Raises:
        CompilationError: the side's file, or one of its modules, is not in the part of Bicep that is known.
    """
    return json.dumps(compile_file(folder / f"{side}.bicep"), indent=2, ensure_ascii=False) + "\n"


def stale(folder: Path = FOLDER) -> list[Path]:
    """The paths of the ARM templates that are missing, or are not what their Bicep says."""
    return [
        path
        for side in SIDES
        for path in [arm_path(side, folder)]
        if not path.exists() or path.read_text(encoding="utf-8") != arm_text(side, folder)
    ]
