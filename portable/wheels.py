"""The parts of the packed mover that come from wheels, fetched by the hashes of ``requirements-mover.txt``.

Every target gets the whole lock into a folder of its own. Pure Python must be the same for all of them and is
taken once; of the compiled files only those in :data:`portable.native_loader.MODULES` are taken, the rest of
the lock runs without its own.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath
from typing import cast

from portable.native_loader import MODULES, TABLE_NAME
from portable.targets import TARGETS, Target

LOCK = Path(__file__).resolve().parents[1] / "requirements-mover.txt"
FETCH_TIMEOUT_S = 600

WITHOUT_CODE = {
    "cffi": "cryptography needs its compiled file only",
}
"""Distributions of which only compiled files travel."""

LEFT_OUT = {
    "markdown-it-py": "rich imports it to render Markdown, which the mover never does",
    "mdurl": "as markdown-it-py",
    "pycparser": "cffi imports it to compile C, which nothing does here",
    "pygments": "rich imports it to colour source code, which the mover never does",
}
"""Distributions of the lock that do not travel."""

CONTENT = frozenset({"certifi/cacert.pem"})
"""What is needed of a wheel besides Python code."""

TEST_FOLDERS = frozenset({"test", "tests", "test_data"})
"""Folders of a wheel in which nothing is that a program needs."""

_LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")
_COMPILED = (".so", ".pyd")


class PackError(Exception):
    """The packing of the mover failed; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Licence:
    """The terms under which a carried distribution may be passed on."""

    name: str
    version: str
    terms: str
    texts: tuple[tuple[str, str], ...]
    """The licence's files: name and text of each."""


@dataclass(slots=True, kw_only=True)
class Carried:
    """The files to carry by their name below ``app``; the compiled ones by target and module as well."""

    files: dict[str, bytes] = field(default_factory=dict)
    native: dict[str, dict[str, str]] = field(default_factory=dict)
    licences: set[Licence] = field(default_factory=set)

    def add(self, name: str, content: bytes) -> None:
        """Take a file, which must have the same content each time it comes along.

        Raises:
            PackError: it has another content this time.
        """
        if self.files.setdefault(name, content) != content:
            raise PackError(f"{name} is not the same for every platform and Python")

    def table(self) -> bytes:
        """The content of ``native.json``: the file name and SHA-256 (hex) by target and module."""
        rows = {
            key: {
                module: [name, hashlib.sha256(self.files[name]).hexdigest()]
                for module, name in modules.items()
            }
            for key, modules in self.native.items()
        }
        return (json.dumps(rows, indent=1, sort_keys=True) + "\n").encode("ascii")


def carry() -> Carried:
    """Fetch the wheels for every target, and keep what travels of them.

    Raises:
        PackError: a wheel could not be had, or is not what it should be.
    """
    carried = Carried()
    for target in TARGETS:
        with tempfile.TemporaryDirectory(prefix="offline-mover-wheels-") as folder:
            fetch(LOCK, Path(folder), platform=target.wheel_platform, python_version=target.python_version)
            collect(target, Path(folder), carried)
    carried.add(TABLE_NAME, carried.table())
    return carried


def fetch(lock: Path, folder: Path, *, platform: str, python_version: str) -> None:
    """Install a lock for a platform, as uv calls it, into ``folder``; wheels only, so no code of theirs runs.

    Raises:
        PackError: the package index cannot be reached, or a hash is not the lock's.
    """
    command = [
        *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(folder)),
        *("--python-platform", platform, "--python-version", python_version),
        *("--only-binary", ":all:", "--require-hashes", "--requirements", str(lock)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_TIMEOUT_S)
    if done.returncode:
        raise PackError(
            f"the wheels for {platform} and Python {python_version} could not be had:\n{done.stderr.strip()}"
        )


def collect(target: Target, folder: Path, carried: Carried) -> None:
    """Take the files that travel from the folder of an installed lock.

    Raises:
        PackError: a compiled file is missing, or a pure one differs from that of another target.
    """
    native = carried.native.setdefault(target.key, {})
    for distribution in distributions(path=[str(folder)]):
        name_of_wheel = distribution.name.lower()
        if name_of_wheel in LEFT_OUT:
            continue
        carried.licences.add(licence_of(distribution))
        for file in files_of(distribution):
            content = folder / file
            if (module := _module_of(file)) in MODULES:
                name = f"native/{target.platform}/{file.name}"
                carried.add(name, content.read_bytes())
                native[module] = name
            elif _travels(file) and name_of_wheel not in WITHOUT_CODE:
                # Some wheels were packed on Windows; to Python, line ends are all the same.
                carried.add(str(file), content.read_bytes().replace(b"\r\n", b"\n"))
    if missing := set(MODULES) - native.keys():
        raise PackError(f"the wheels for {target.key} hold no {' and no '.join(sorted(missing))}")


def files_of(distribution: Distribution) -> Iterator[PurePosixPath]:
    """The installed files of a distribution, but for scripts outside of the folder."""
    for file in distribution.files or ():
        if ".." not in file.parts:
            yield PurePosixPath(file)


def _module_of(file: PurePosixPath) -> str | None:
    """The name under which a compiled file is imported."""
    if file.suffix not in _COMPILED:
        return None
    return ".".join((*file.parts[:-1], file.name.partition(".")[0]))


def _travels(file: PurePosixPath) -> bool:
    if str(file) in CONTENT:
        return True
    is_test = bool(TEST_FOLDERS & set(file.parts)) or file.name.startswith("test_")
    is_async = file.parts[0] == "azure" and "aio" in file.parts  # needs aiohttp; the mover uses threads
    return file.suffix == ".py" and not is_test and not is_async


# --- licences ----------------------------------------------------------------------------------------------


def licence_of(distribution: Distribution) -> Licence:
    """The licence that a distribution tells of, with the texts that it brings along."""
    texts = {
        file.name: Path(str(distribution.locate_file(file))).read_text("utf-8").strip()
        for file in distribution.files or ()
        if ".dist-info" in file.parts[0] and file.name.upper().startswith(_LICENCE_NAMES)
    }
    return Licence(
        name=distribution.name,
        version=distribution.version,
        terms=_terms(cast("Message", distribution.metadata)),
        texts=tuple(sorted(texts.items())),
    )


def _terms(metadata: Message) -> str:
    """The licence in a few words: an SPDX expression where there is one."""
    classifiers = [
        str(text).rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier", ())
        if str(text).startswith("License :: ")
    ]
    return str(metadata.get("License-Expression") or "; ".join(classifiers) or metadata.get("License"))
