"""A packed mover that is not what was packed refuses to run, in one line, with its own exit code."""

from __future__ import annotations

import json
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from airgap.errors import Code
from portable import native_loader
from tests.offline_mover.conftest import flip
from tests.portable.conftest import PACK_TIMEOUT_S, Packed
from tests.portable.pythons import run

pytestmark = pytest.mark.timeout(PACK_TIMEOUT_S)  # the first test packs

_KEY = native_loader.target_key()
_PLATFORM = sysconfig.get_platform()
Tamper = Callable[[Path], None]


def native_file(app: Path, module: str) -> Path:
    table = json.loads((app / "native.json").read_bytes())
    return app / str(table[_KEY][module][0])


def flip_in(module: str) -> Tamper:
    def tamper(app: Path) -> None:
        path = native_file(app, module)
        flip(path, path.stat().st_size // 2)

    return tamper


def remove(module: str) -> Tamper:
    return lambda app: native_file(app, module).unlink()


def exchange(app: Path) -> None:
    """Another platform's file in its place."""
    other = next(path for path in (app / "native").rglob("_rust*") if _PLATFORM not in str(path))
    shutil.copyfile(other, native_file(app, native_loader.MODULES[1]))


def edit_row(edit: Callable[[dict[str, list[str]]], object]) -> Tamper:
    def tamper(app: Path) -> None:
        path = app / "native.json"
        table = json.loads(path.read_bytes())
        edit(table[_KEY])
        path.write_text(json.dumps(table))

    return tamper


def write_table(content: str) -> Tamper:
    def tamper(app: Path) -> None:
        (app / "native.json").write_text(content)

    return tamper


_TAMPERINGS: dict[str, Tamper] = {
    **{f"flipped bit in {module}": flip_in(module) for module in native_loader.MODULES},
    **{f"missing {module}": remove(module) for module in native_loader.MODULES},
    "another platform's file": exchange,
    "other digest in the table": edit_row(lambda row: row["_cffi_backend"].__setitem__(1, "0" * 64)),
    "module gone from the table": edit_row(lambda row: row.pop("_cffi_backend")),
    "row that is too short": edit_row(lambda row: row["_cffi_backend"].pop()),
    "table that is no JSON": write_table("{"),
    "table that nests too deep": write_table("[" * 60_000),
    "table of another kind": write_table("[1]"),
    "row of another kind": write_table(json.dumps({_KEY: []})),
    "no table": lambda app: (app / "native.json").unlink(),
}


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout) == (Code.TOOL_DAMAGED.exit_code, "")
    assert done.stderr.startswith("TOOL_DAMAGED: ")
    assert done.stderr.endswith(f". {Code.TOOL_DAMAGED.remedy}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("tampering", _TAMPERINGS)
def test_tampered_folder_is_refused(copied: Packed, tampering: str) -> None:
    _TAMPERINGS[tampering](copied.folder / "app")
    assert_refused(run(copied.shapes["folder"], *copied.verify))


@pytest.mark.parametrize("tampering", ["flipped bit in _cffi_backend", "missing _cffi_backend", "no table"])
def test_tampered_single_file_is_refused(copied: Packed, tampering: str) -> None:
    _TAMPERINGS[tampering](copied.folder / "app")
    with zipfile.ZipFile(copied.single_file, "w") as archive:
        for path in sorted(copied.folder.rglob("*")):
            archive.write(path, path.relative_to(copied.folder))
    assert_refused(run(copied.single_file, *copied.verify))


@pytest.mark.parametrize(
    "name", ["json.py", "simplejson/__init__.py", "portable/__pycache__/__init__.{tag}.pyc"]
)
def test_module_that_was_added_is_not_run(copied: Packed, tmp_path: Path, name: str) -> None:
    """`sha256sum -c` finds nothing wrong: it looks at what is listed."""
    path = copied.folder / "app" / name.format(tag=sys.implementation.cache_tag)
    path.parent.mkdir(exist_ok=True)
    source = path if path.suffix == ".py" else tmp_path / "added.py"
    source.write_text("raise SystemExit('added')\n")
    if path != source:
        py_compile.compile(
            str(source), cfile=str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    added = path.relative_to(copied.folder).as_posix()
    done = run(copied.shapes["folder"], *copied.verify)
    assert (done.returncode, done.stdout) == (Code.TOOL_DAMAGED.exit_code, "")
    assert done.stderr == f"offline-mover: {added} was not packed, nothing was run; use another copy.\n"


def test_what_a_desktop_leaves_in_a_folder_does_no_harm(copied: Packed) -> None:
    (copied.folder / "app" / "._airgap").write_bytes(b"")
    assert run(copied.shapes["folder"], *copied.verify).returncode == 0


def test_single_file_from_a_bad_sector_is_refused(copied: Packed) -> None:
    """Compressed data that no longer decompresses."""
    name = native_file(copied.folder / "app", native_loader.MODULES[1]).relative_to(copied.folder).as_posix()
    with zipfile.ZipFile(copied.single_file) as archive:
        entry = archive.getinfo(name)
    with copied.single_file.open("r+b") as file:
        file.seek(entry.header_offset + 1000)
        file.write(bytes(4096))
    assert_refused(run(copied.single_file, *copied.verify))


def test_copy_that_was_broken_off_says_so(copied: Packed) -> None:
    shutil.rmtree(copied.folder / "app" / "bytecode")
    (copied.folder / "app" / "airgap" / "errors.py").unlink()
    done = run(copied.shapes["folder"], "--help")
    assert (done.returncode, done.stdout) == (Code.TOOL_DAMAGED.exit_code, "")
    assert done.stderr == (
        "offline-mover: this copy is incomplete or damaged (No module named 'airgap.errors'); use another.\n"
    )


def test_row_for_another_python_is_never_used(capsys: pytest.CaptureFixture[str]) -> None:
    table = json.dumps({"linux-x86_64-cp311": {}, "win-amd64-cp311": {}}).encode()
    for key in ("linux-x86_64-cp315", "linux-x86_64-cp313t", "linux-x86_64-pypy311", "win32-cp311"):
        with pytest.raises(SystemExit) as stopped:
            native_loader.files_for(key, "/app", lambda _path: table)
        assert stopped.value.code == Code.USAGE.exit_code
        assert capsys.readouterr().err == (
            f"offline-mover: this copy has nothing for {key}. "
            "It runs with CPython 3.11 on linux-x86_64, win-amd64.\n"
        )


@pytest.mark.parametrize(
    ("platform", "machine", "key"),
    [
        ("macosx-14.0-arm64", "arm64", "macosx-arm64"),
        ("macosx-10.13-universal2", "arm64", "macosx-arm64"),
        ("macosx-10.13-universal2", "x86_64", "macosx-x86_64"),
        ("win-amd64", "", "win-amd64"),
        ("linux-aarch64", "", "linux-aarch64"),
    ],
)
def test_platform_is_what_python_was_built_for(
    monkeypatch: pytest.MonkeyPatch, platform: str, machine: str, key: str
) -> None:
    monkeypatch.setattr(sysconfig, "get_platform", lambda: platform)
    monkeypatch.setattr("os.uname", lambda: type("Machine", (), {"machine": machine}))
    assert native_loader.target_key() == f"{key}-cp{sys.version_info[0]}{sys.version_info[1]}"
