"""``python -m portable``: packs the mover into ``dist/``; ``./dev pack`` calls it."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from portable.compiling import CompileError, compiled
from portable.shapes import single_file, write_folder, write_single_file
from portable.tree import ROOT, common_tree, folder_tree
from portable.wheels import PackError, carry
from portable.windows_python import read_windows_python

NAME = "offline-mover"


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack both shapes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="./dev pack", description="Packs the offline mover as a folder and as a single file."
    )
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER", help="default: dist")
    parser.add_argument(
        "--windows-python",
        type=Path,
        metavar="ZIP",
        help="an embeddable Python for Windows, amd64, that goes into the folder",
    )
    parser.add_argument(
        "--sha256", type=_sha256, metavar="HEX", help="of the ZIP, as its publisher states it"
    )
    parser.add_argument(
        "--compile-with",
        action="append",
        default=[],
        metavar="PYTHON",
        help="another Python whose bytecode goes into the folder, beside that of the one that runs this",
    )
    options = parser.parse_args(arguments)
    if (options.windows_python is None) != (options.sha256 is None):
        parser.error("--windows-python and --sha256 belong together")
    try:
        pack(options.output, options.windows_python, options.sha256, options.compile_with)
    except (PackError, CompileError) as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2
    return 0


def pack(
    output: Path,
    windows_python: Path | None = None,
    sha256: str | None = None,
    more_pythons: Sequence[str] = (),
) -> None:
    """Write both shapes of the packed mover below ``output``, and print what they are.

    Raises:
        PackError: a wheel or the Windows Python is not to be had or not right; ``output`` is as it was.
        CompileError: one of the further Pythons cannot be run, or cannot compile the mover; ``output`` is as
            it was.
    """
    windows = {} if windows_python is None else read_windows_python(windows_python, sha256 or "")
    common = common_tree(carry())
    bytecode = compiled(common, [sys.executable, *more_pythons])
    folder = folder_tree(common, bytecode, windows)
    single = single_file(common)
    output.mkdir(parents=True, exist_ok=True)
    write_folder(folder, output / NAME)
    write_single_file(single, output / f"{NAME}.pyz")
    unpacked = sum(map(len, folder.values()))
    pythons = ", ".join(sorted(Path(name).stem for name in bytecode if name.endswith(".index")))
    print(f"{output / NAME}: {len(folder)} files, {unpacked / 1e6:.1f} MB, with bytecode for {pythons}")
    print(f"{output / NAME}.pyz: {len(single) / 1e6:.1f} MB")
    print("Publish these by another way than the media, so that the operator can check the tool:")
    print(f"{hashlib.sha256(folder['SHA256SUMS']).hexdigest()}  {NAME}/SHA256SUMS")
    print(f"{hashlib.sha256(single).hexdigest()}  {NAME}.pyz")


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("64 hexadecimal digits are needed")
    return text.lower()


if __name__ == "__main__":
    sys.exit(main())
