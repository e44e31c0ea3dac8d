"""``python -m function_app.journal``."""

import subprocess
import sys
from pathlib import Path

import pytest

from airgap.errors import Code
from airgap.states import Kind, State
from function_app.journal import __main__ as command
from function_app.journal.store import JournalStore
from tests.bundles import default_key, make_policy
from tests.function_app.memory import START, make_source, make_target
from tests.function_app.memory_projection import MemoryProjection

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("role", ["source", "target"])
def test_lists_of_either_side_are_rebuilt(
    role: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    side = make_source()[0] if role == "source" else make_target(make_policy([default_key()]))[0]
    kind, state = (Kind.TRANSFERS, State.REQUESTED) if role == "source" else (Kind.IMPORTS, State.RECEIVED)
    lost = JournalStore(side.blobs, MemoryProjection())
    lost.record(kind, "0123456789abcdef", state, {}, by="app", at=START)
    monkeypatch.setenv("TRANSFER_ROLE", role)
    monkeypatch.setattr(command, f"{role}_side", lambda: side)
    assert command.main(["rebuild"]) == 0
    assert "journals read: 1, broken: 0" in capsys.readouterr().out
    assert isinstance(side.projection, MemoryProjection)
    assert list(side.projection.rows) == [(kind, "0123456789abcdef")]


def test_storage_that_is_away_ends_it_with_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    side, _, _ = make_source()
    JournalStore(side.blobs, side.projection).record(
        Kind.TRANSFERS, "0123456789abcdef", State.REQUESTED, {}, by="app", at=START
    )
    assert isinstance(side.projection, MemoryProjection)
    side.projection.is_away = True
    monkeypatch.setenv("TRANSFER_ROLE", "source")
    monkeypatch.setattr(command, "source_side", lambda: side)
    assert command.main(["rebuild"]) == Code.SERVICE_UNREACHABLE.exit_code
    assert Code.SERVICE_UNREACHABLE.remedy in capsys.readouterr().err


def test_command_names_the_setting_that_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "function_app.journal", "rebuild"],
        cwd=ROOT,
        env={"TRANSFER_ROLE": "source", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == Code.SETTING_INVALID.exit_code
    assert "SETTING_INVALID: TransferStorage__blobServiceUri: missing" in done.stderr
    assert "Traceback" not in done.stderr
