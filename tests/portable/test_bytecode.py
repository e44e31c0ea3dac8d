"""The folder brings bytecode for the Pythons that packed it: it is what is run, if it is what was packed."""

from __future__ import annotations

import marshal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airgap.errors import Code
from portable import compiling
from portable.compiling import CompileError, compiled
from tests.offline_mover.conftest import flip
from tests.portable.conftest import PACK_TIMEOUT_S, Packed
from tests.portable.pythons import SUPPORTED, python, run

pytestmark = pytest.mark.timeout(PACK_TIMEOUT_S)  # the first test packs

_TAG = str(sys.implementation.cache_tag)
_OURS = f"{sys.version_info[0]}.{sys.version_info[1]}"
_SOURCES = {"app/one/__init__.py": b"import one.two\n", "app/one/two.py": b"TWO = {'a', 'b', 'c'} | {2}\n"}


def file_of(tool: Path, suffix: str) -> Path:
    return tool / "app" / "bytecode" / f"{_TAG}.{suffix}"


def rows_of(tool: Path) -> dict[str, Any]:
    rows: dict[str, Any] = marshal.loads(file_of(tool, "index").read_bytes())  # noqa: S302 - our own
    return rows


def forget_sources(tool: Path) -> None:
    """No module that has bytecode can be compiled any more, but for what looks after it."""
    for path in (tool / "app").rglob("*.py"):
        if path.parent.name != "portable":
            path.write_text("raise SystemExit('compiled')\n")


def test_bytecode_is_what_is_run(copied: Packed) -> None:
    forget_sources(copied.folder)
    done = run(copied.shapes["folder"], *copied.verify)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK: ")


@pytest.mark.parametrize("version", sorted({*SUPPORTED} - {_OURS}))
def test_python_that_did_not_pack_compiles_the_sources(copied: Packed, version: str) -> None:
    forget_sources(copied.folder)
    assert run(copied.shapes["folder"], "--help", interpreter=python(version)).stderr == "compiled\n"


def test_every_module_has_some(packed: Packed) -> None:
    app = packed.folder / "app"
    sources = {path.relative_to(app).with_suffix("").as_posix() for path in app.rglob("*.py")}
    assert rows_of(packed.folder).keys() == {
        name.removesuffix("/__init__").replace("/", ".") for name in sources
    }


def test_traces_name_the_files_of_the_folder(copied: Packed) -> None:
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "from offline_mover import outcome\n"
        "print(outcome.__file__, outcome.Report.error.__code__.co_filename)"
    )
    done = subprocess.run(
        [python(_OURS), "-W", "error", "-I", "-S", "-c", code, str(copied.shapes["folder"])],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    file = str(copied.folder / "app" / "offline_mover" / "outcome.py")
    assert done.stdout.splitlines()[-1].split(" ") == [file, file]


def flip_module(module: str) -> Callable[[Path], None]:
    def tamper(tool: Path) -> None:
        _, offset, size, _ = rows_of(tool)[module]
        flip(file_of(tool, "pycs"), offset + size // 2)

    return tamper


def cut_off(tool: Path) -> None:
    path = file_of(tool, "pycs")
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    "tamper",
    [
        flip_module("airgap.verify"),
        flip_module("airgap.errors"),
        flip_module("portable.native_loader"),
        cut_off,
        lambda tool: file_of(tool, "pycs").unlink(),
        lambda tool: flip(file_of(tool, "index")),
        lambda tool: file_of(tool, "index").write_bytes(b""),
    ],
    ids=[
        *(
            "flipped bit in a module",
            "flipped bit in the module of errors",
            "flipped bit in the other loader",
        ),
        *("cut off", "gone", "flipped bit in the index", "empty index"),
    ],
)
def test_bytecode_that_is_not_what_was_packed_is_not_run(
    copied: Packed, tamper: Callable[[Path], None]
) -> None:
    tamper(copied.folder)
    done = run(copied.shapes["folder"], *copied.verify)
    assert (done.returncode, done.stdout) == (Code.TOOL_DAMAGED.exit_code, "")
    assert done.stderr.startswith("TOOL_DAMAGED: ")
    assert done.stderr.endswith(f". {Code.TOOL_DAMAGED.remedy}\n")
    assert done.stderr.count("\n") == 1


def test_list_that_names_nothing_has_nothing_run(copied: Packed) -> None:
    (copied.folder / "SHA256SUMS").write_bytes(b"")
    done = run(copied.shapes["folder"], *copied.verify)
    assert (done.returncode, done.stdout) == (Code.TOOL_DAMAGED.exit_code, "")
    assert done.stderr.startswith("offline-mover: app/")
    assert done.stderr.endswith(" was not packed, nothing was run; use another copy.\n")


@pytest.mark.parametrize("missing", ["SHA256SUMS", f"app/bytecode/{_TAG}.index"])
def test_without_index_or_sums_the_sources_are_compiled(copied: Packed, missing: str) -> None:
    (copied.folder / missing).unlink()
    done = run(copied.shapes["folder"], *copied.verify)
    assert (done.returncode, done.stderr) == (0, "")


def test_further_pythons_are_asked() -> None:
    other = next((version for version in SUPPORTED if version != _OURS), "")
    files = compiled(_SOURCES, [sys.executable, python(other)])
    tags = {_TAG, f"cpython-{other.replace('.', '')}"}
    assert files.keys() == {f"app/bytecode/{tag}.{suffix}" for tag in tags for suffix in ("index", "pycs")}
    assert files == compiled(_SOURCES, [sys.executable, python(other)])


@pytest.mark.parametrize(
    ("program", "sources"),
    [("/no/such/python", _SOURCES), ("/bin/false", _SOURCES), (sys.executable, {"app/x.py": b"x = = 1\n"})],
    ids=["no program", "no Python", "no Python source"],
)
def test_python_that_cannot_compile_stops_the_build(program: str, sources: dict[str, bytes]) -> None:
    with pytest.raises(CompileError, match=program):
        compiled(sources, [program])


def test_what_another_python_runs_needs_nothing_but_it() -> None:
    command = [sys.executable, "-I", "-S", str(compiling.__file__)]
    done = subprocess.run(command, input=marshal.dumps({}), capture_output=True, check=True, timeout=60)
    assert marshal.loads(done.stdout) == (_TAG, {})  # noqa: S302 - our own
