"""A packed mover runs with any Python that it supports, from media that allow nothing but reading."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.portable.conftest import PACK_TIMEOUT_S, Packed
from tests.portable.pythons import SUPPORTED, TOO_OLD, python, run
from tests.portable.test_contents import described

pytestmark = pytest.mark.timeout(PACK_TIMEOUT_S)  # the first test packs

_SHAPES = ("folder", "single file")

_IMPORT = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
import io
import offline_mover.storage.blob_store, azure.identity, segno
from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
azure.identity.DefaultAzureCredential()
Console(file=io.StringIO()).print(Panel(Table("column")))
segno.make("transfer").svg_inline()
files = [str(getattr(module, "__file__", "")) for module in sys.modules.values()]
foreign = [file for file in files if "-packages" in file]
assert not foreign, foreign
print("imported")
"""

# $1: medium; the rest: the command. Nothing can be written anywhere, nothing on the medium is executable.
_LOCK_DOWN = """
set -e
medium=$1; shift
mount --bind "$medium" "$medium"
mount -o remount,bind,ro,noexec,nosuid,nodev "$medium"
while read -r _ point _; do mount -o remount,bind,ro "$point" 2>/dev/null || true; done < /proc/mounts
mount -o remount,bind,ro,noexec,nosuid,nodev "$medium"
for folder in /tmp /var/tmp /dev/shm "$medium"; do
  if touch "$folder/written" 2>/dev/null; then echo "unshare: $folder is writable" >&2; exit 99; fi
done
exec "$@"
"""


def namespaces(*kinds: str) -> tuple[str, ...]:
    """A command prefix that runs in namespaces of its own; skips where that is not permitted."""
    prefix = ("unshare", *(("-r",) if os.geteuid() else ()), *kinds)
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    return prefix


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("version", SUPPORTED)
def test_verifies_with_every_python(packed: Packed, shape: str, version: str) -> None:
    done = run(packed.shapes[shape], *packed.verify, interpreter=python(version))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK: ")


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("version", SUPPORTED)
def test_everything_push_needs_is_carried(packed: Packed, shape: str, version: str) -> None:
    command = [python(version), "-W", "error", "-I", "-S", "-c", _IMPORT, str(packed.shapes[shape])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={}, cwd="/", timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("imported\n")


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("version", TOO_OLD)
def test_old_python_gets_one_plain_line(packed: Packed, shape: str, version: str) -> None:
    done = run(packed.shapes[shape], "--help", interpreter=python(version))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"offline-mover needs Python 3.11 or later; this is Python {version}.\n"


@pytest.mark.parametrize("shape", _SHAPES)
def test_other_platform_gets_one_plain_line(packed: Packed, shape: str) -> None:
    done = run(packed.shapes[shape], *packed.verify, _PYTHON_HOST_PLATFORM="linux-riscv64")
    assert (done.returncode, done.stdout) == (2, "")
    minor = f"{sys.version_info[0]}{sys.version_info[1]}"
    assert done.stderr == (
        f"offline-mover: this copy has nothing for linux-riscv64-cp{minor}. It runs with CPython 3.11, 3.12, "
        "3.13, 3.14 on linux-aarch64, linux-x86_64, macosx-arm64, win-amd64.\n"
    )


@pytest.mark.parametrize("shape", _SHAPES)
def test_nothing_is_written_beside_the_tool(copied: Packed, shape: str) -> None:
    before = without_custody(described(copied.medium))
    assert run(copied.shapes[shape], *copied.verify).returncode == 0
    assert without_custody(described(copied.medium)) == before


def without_custody(described: dict[str, Any]) -> dict[str, Any]:
    """All but the custody log, to which every command adds a line: it is beside the bags, not in them."""
    return {name: what for name, what in described.items() if not name.startswith("custody-")}


def test_folder_itself_can_be_started(copied: Packed) -> None:
    assert run(copied.folder, *copied.verify).returncode == 0


def test_launcher_finds_a_python(packed: Packed) -> None:
    launcher = packed.folder / "offline-mover.sh"
    for command, folder in ((["sh", str(launcher)], "/"), (["sh", launcher.name], packed.folder)):
        done = subprocess.run(
            [*command, *packed.verify],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": f"{Path(python(f'3.{sys.version_info[1]}')).parent}:/bin"},
            cwd=folder,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_launcher_without_a_python_says_so(packed: Packed, tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(packed.folder / "offline-mover.sh"), "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(tmp_path)},
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "offline-mover: no Python 3.11, 3.12, 3.13 or 3.14 was found on this machine.\n"


def test_installed_packages_do_not_stand_in_for_carried_ones(packed: Packed, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "cryptography").mkdir(parents=True)
    (site / "cryptography" / "__init__.py").write_text("raise SystemExit('foreign')")
    done = run(packed.shapes["folder"], *packed.verify, PYTHONPATH=str(site))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("version", SUPPORTED)
def test_runs_where_only_reading_is_allowed(packed: Packed, shape: str, version: str) -> None:
    prefix = (*namespaces("--mount", "--net"), "sh", "-c", _LOCK_DOWN, "sh", str(packed.medium))
    for arguments in (["--help"], packed.verify):
        done = run(
            packed.shapes[shape],
            *arguments,
            interpreter=python(version),
            prefix=prefix,
            PATH=os.environ["PATH"],
        )
        assert done.returncode == 0
        # The one thing that cannot be done here is told, and changes no verdict.
        assert re.fullmatch(r"(custody log: \S+: this is in no custody log: [^\n]*\n)?", done.stderr)
    assert done.stdout.startswith("OK: ")


def test_lock_down_is_real(packed: Packed) -> None:
    library = next((packed.folder / "app" / "native" / "linux-x86_64").glob("_rust*"))
    prefix = (*namespaces("--mount", "--net"), "sh", "-c", _LOCK_DOWN, "sh", str(packed.medium))
    command = [*prefix, sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "failed to map segment from shared object" in done.stderr


@pytest.mark.skipif(
    not Path("/proc/sys/vm/memfd_noexec").exists() or bool(os.geteuid()), reason="root, Linux 6.3 or later"
)
@pytest.mark.parametrize("shape", _SHAPES)
def test_kernel_that_forbids_programs_in_memory(packed: Packed, shape: str) -> None:
    script = 'echo 2 > /proc/sys/vm/memfd_noexec && exec "$@"'
    prefix = (*namespaces("--pid", "--fork", "--mount-proc"), "sh", "-c", script, "sh")
    done = run(packed.shapes[shape], *packed.verify, prefix=prefix)
    assert (done.returncode, done.stderr) == (0, "")


_NO_PROC = "mount -t tmpfs -o ro none /proc"


@pytest.mark.parametrize("shape", _SHAPES)
def test_system_that_loads_nothing_from_memory(packed: Packed, shape: str, tmp_path: Path) -> None:
    """The folder's files are loaded where they lie, the single file's from a folder that is gone after."""
    prefix = (*namespaces("--mount"), "sh", "-c", f'{_NO_PROC} && exec "$@"', "sh")
    done = run(packed.shapes[shape], *packed.verify, prefix=prefix, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", _SHAPES)
def test_system_that_loads_nothing_gets_one_plain_line(packed: Packed, shape: str) -> None:
    script = _LOCK_DOWN.replace("\nexec", f"\n{_NO_PROC}\nexec")
    prefix = (*namespaces("--mount"), "sh", "-c", script, "sh", str(packed.medium))
    done = run(packed.shapes[shape], *packed.verify, prefix=prefix)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("offline-mover: this system does not load ")
    assert done.stderr.count("\n") == 1
