"""A packed mover lays a copy of itself onto a volume, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airgap.errors import Code, OperatorError
from offline_mover.tool_copy import lay_tool
from tests.offline_mover.conftest import flip
from tests.portable.conftest import PACK_TIMEOUT_S, Packed
from tests.portable.pythons import run
from tests.portable.test_contents import files_of

pytestmark = pytest.mark.timeout(PACK_TIMEOUT_S)  # the first test packs

_LAY = """
import sys
sys.path.insert(0, sys.argv[1] + "/app")
from pathlib import Path
from airgap.errors import AirgapError
from offline_mover.tool_copy import lay_tool
try:
    print(lay_tool(Path(sys.argv[2])))
except AirgapError as error:
    print(error)
"""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    return path


def lay(tool: Path, volume: Path) -> str:
    """What :func:`lay_tool` returned or raised, run from a packed mover."""
    command = [sys.executable, "-I", "-B", "-c", _LAY, str(tool), str(volume)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.rstrip("\n")


def test_folder_is_copied_whole_and_runs(packed: Packed, volume: Path) -> None:
    wanted = files_of(packed.folder)
    assert lay(packed.folder, volume) == str(len(wanted))
    assert files_of(volume / "offline-mover") == wanted
    assert run(volume / "offline-mover" / "__main__.py", *packed.verify).returncode == 0


def test_second_copy_writes_only_what_is_missing_or_damaged(packed: Packed, volume: Path) -> None:
    lay(packed.folder, volume)
    assert lay(packed.folder, volume) == "0"
    flip(volume / "offline-mover" / "app" / "native.json")
    (volume / "offline-mover" / "SHA256SUMS").unlink()
    assert lay(packed.folder, volume) == "2"
    assert files_of(volume / "offline-mover") == files_of(packed.folder)


def test_single_file_is_copied(packed: Packed, volume: Path) -> None:
    assert lay(packed.single_file, volume) == "1"
    assert lay(packed.single_file, volume) == "0"
    assert (volume / "offline-mover/offline-mover.pyz").read_bytes() == packed.single_file.read_bytes()


def test_laid_copy_lays_itself_onto_the_same_volume(packed: Packed, volume: Path) -> None:
    lay(packed.folder, volume)
    assert lay(volume / "offline-mover", volume) == "0"


def test_checkout_cannot_be_copied(volume: Path) -> None:
    with pytest.raises(OperatorError) as refused:
        lay_tool(volume)
    assert refused.value.code is Code.USAGE
    assert not list(volume.iterdir())


def test_damaged_tool_does_not_spread(copied: Packed, volume: Path) -> None:
    flip(copied.folder / "app" / "segno" / "__init__.py")
    said = lay(copied.folder, volume)
    assert said == "TOOL_DAMAGED: app/segno/__init__.py is not what SHA256SUMS says"
    assert not (volume / "offline-mover" / "SHA256SUMS").exists()


def test_foreign_files_beside_the_tool_stay_behind(copied: Packed, volume: Path) -> None:
    (copied.folder / "app" / "foreign.py").write_text("")
    (copied.folder / "autorun.inf").write_text("")
    lay(copied.folder, volume)
    assert not list(volume.rglob("foreign.py"))
    assert not list(volume.rglob("autorun.inf"))


@pytest.mark.parametrize("line", ["../outside", "/etc/passwd", "app/../../outside", "x y", ""])
def test_sums_that_lead_outside_are_refused(copied: Packed, volume: Path, line: str) -> None:
    (copied.folder / "SHA256SUMS").write_text(f"{'0' * 64}  {line}\n")
    assert lay(copied.folder, volume) == "TOOL_DAMAGED: SHA256SUMS is not what was packed"


def test_link_in_the_way_is_not_followed(packed: Packed, volume: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (volume / "offline-mover").symlink_to(tmp_path / "elsewhere")
    assert lay(packed.folder, volume).startswith("UNSAFE_NAME: ")
    (volume / "offline-mover").unlink()
    (volume / "offline-mover").mkdir()
    (volume / "offline-mover" / "README.txt").symlink_to(tmp_path / "elsewhere" / "x")
    assert lay(packed.folder, volume).startswith("UNSAFE_NAME: ")
    assert not list((tmp_path / "elsewhere").iterdir())
