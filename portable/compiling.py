"""The bytecode of the packed mover: each module is compiled by each Python that the build is given.

A Python is asked in a process of its own, which runs this file with nothing but the standard library: sources
come in on its standard input, its tag and what it compiled go out on its standard output, as marshal has it.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path, PurePosixPath

COMPILE_TIMEOUT_S = 300
_VERSION = 2
"""Of `marshal`, for what passes between Pythons: all of them read it."""
_NEEDED = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
"""What Windows needs to start a program."""
_UNCHECKED = (1).to_bytes(4, "little")
"""The flags of PEP 552 for bytecode that is not compared with its source: here its own SHA-256 is known."""


class CompileError(Exception):
    """A Python could not compile the mover; the message says why."""


def compiled(tree: Mapping[str, bytes], pythons: Iterable[str]) -> dict[str, bytes]:
    """The files of `portable.bytecode_loader`, for the modules below ``app/`` of a tree.

    Args:
        tree: every file by its name.
        pythons: programs, each a CPython that the mover runs with.

    Raises:
        CompileError: one of the programs cannot be run, or does not understand a module.
    """
    from portable.bytecode_loader import FOLDER  # noqa: PLC0415 - another Python has no such package

    sources = {
        str(PurePosixPath(name).relative_to("app")): content
        for name, content in tree.items()
        if name.startswith("app/") and name.endswith(".py")
    }
    files = {}
    for python in pythons:
        tag, pycs = asked(python, sources)
        index, content = packed(pycs)
        files[f"{FOLDER}/{tag}.index"] = index
        files[f"{FOLDER}/{tag}.pycs"] = content
    return files


def asked(python: str, sources: Mapping[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """The answer of a Python about the sources: its tag, such as ``cpython-311``, and bytecode by file name.

    Raises:
        CompileError: the program cannot be run, or does not understand a source.
    """
    try:
        done = subprocess.run(
            [python, "-s", "-S", "-B", str(Path(__file__))],
            input=marshal.dumps(dict(sources), _VERSION),
            capture_output=True,
            check=True,
            timeout=COMPILE_TIMEOUT_S,
            env={**_NEEDED, "PYTHONHASHSEED": "0"},  # what is written is up to the order of sets, too
        )
    except subprocess.CalledProcessError as error:
        raise CompileError(f"{python}: {error.stderr.decode(errors='replace').strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{python}: {error}") from error
    tag, pycs = marshal.loads(done.stdout)  # noqa: S302 - from the file that this is
    return tag, pycs


def packed(pycs: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """The index and the bytecode of all modules, as `portable.bytecode_loader` reads them."""
    rows: dict[str, tuple[bool, int, int, str]] = {}
    offset = 0
    for name in sorted(pycs):
        path, content = PurePosixPath(name), pycs[name]
        is_package = path.name == "__init__.py"
        module = ".".join((path.parent if is_package else path.with_suffix("")).parts)
        rows[module] = (is_package, offset, len(content), hashlib.sha256(content).hexdigest())
        offset += len(content)
    return marshal.dumps(rows, _VERSION), b"".join(pycs[name] for name in sorted(pycs))


def main() -> int:
    """Compile the sources on standard input; another Python runs this file to do so."""
    sources = marshal.load(sys.stdin.buffer)  # noqa: S302 - from the process that has started this one
    pycs = {name: pyc(name, source) for name, source in sorted(sources.items())}
    sys.stdout.buffer.write(marshal.dumps((sys.implementation.cache_tag, pycs), _VERSION))
    return 0


def pyc(name: str, source: bytes) -> bytes:
    """The bytecode of a module, as a file of PEP 552 that Python does not compare with its source."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    return MAGIC_NUMBER + _UNCHECKED + source_hash(source) + marshal.dumps(code)


if __name__ == "__main__":
    sys.exit(main())
