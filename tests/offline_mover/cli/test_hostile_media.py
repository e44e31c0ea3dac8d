"""A medium prepared by somebody else, and the whole command on it: nothing of the operator's is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airgap.errors import Code
from offline_mover.cli import main
from offline_mover.custody.file import LOG_NAME
from offline_mover.medium import held_volumes
from tests.offline_mover.conftest import Bench

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="planted with the means of a POSIX system"),
    pytest.mark.timeout(60),
]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    return path


@pytest.fixture
def policy(loaded: Bench, tmp_path: Path) -> str:
    path = tmp_path / "policy.json"
    path.write_bytes(loaded.bundle.policy_json)
    return str(path)


def _run(loaded: Bench, policy: str, verb: str, *words: str) -> int:
    custody = str(loaded.volume.parent / "custody")
    return main([verb, str(loaded.volume), *words, "--trust", policy, "--custody-dir", custody])


def test_no_volume_is_held_once_the_command_is_over(loaded: Bench, policy: str) -> None:
    assert _run(loaded, policy, "verify") == 0
    assert held_volumes.find(loaded.volume) is None


@pytest.mark.parametrize("name", ["recarry.json", "recarry.json.partial"])
def test_link_planted_beside_the_request_overwrites_nothing(
    loaded: Bench, policy: str, victim: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The tool runs from the medium, so that its files land there."""
    loaded.part("001/00000001.part").unlink()
    (loaded.volume / name).symlink_to(victim)
    monkeypatch.chdir(loaded.volume)
    code = _run(loaded, policy, "verify")
    assert victim.read_bytes() == b"precious"
    assert code == (Code.PART_MISSING if name.endswith(".partial") else Code.USAGE).exit_code


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_link_planted_beside_the_report_overwrites_nothing(
    loaded: Bench, policy: str, victim: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (loaded.volume / f"{name}.partial").symlink_to(victim)
    monkeypatch.chdir(loaded.volume)
    assert _run(loaded, policy, "report") == 0
    assert victim.read_bytes() == b"precious"
    assert (loaded.volume / name).stat().st_size > 1000


@pytest.mark.parametrize("to", ["precious", "policy.html", "policy.json"])
def test_report_is_written_over_nothing_else(loaded: Bench, policy: str, victim: Path, to: str) -> None:
    """The twin of ``policy.html`` would be the trust policy."""
    trusted = Path(policy).read_bytes()
    assert _run(loaded, policy, "report", "--to", str(victim.with_name(to))) == Code.USAGE.exit_code
    assert (Path(policy).read_bytes(), victim.read_bytes()) == (trusted, b"precious")
    assert not victim.with_name("policy.html").exists()
    assert not victim.with_name("precious.json").exists()


def test_report_takes_the_place_of_the_last_one(loaded: Bench, policy: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert _run(loaded, policy, "report", "--to", str(tmp_path / "page.html")) == 0


def test_request_for_parts_is_written_over_an_older_one_and_nothing_else(
    loaded: Bench, policy: str, victim: Path
) -> None:
    loaded.part("001/00000001.part").unlink()
    assert _run(loaded, policy, "verify", "--recarry", str(victim)) == Code.USAGE.exit_code
    assert victim.read_bytes() == b"precious"
    for _ in range(2):
        again = _run(loaded, policy, "verify", "--recarry", str(victim.with_name("recarry.json")))
        assert again == Code.PART_MISSING.exit_code


def test_folder_link_on_the_medium_leads_no_report_off_it(loaded: Bench, policy: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (loaded.volume / "reports").symlink_to(home)
    assert _run(loaded, policy, "report", "--to", str(loaded.volume / "reports" / "x.html")) == 2
    assert not list(home.iterdir())


def test_pipe_in_place_of_a_half_written_file_does_not_hang(
    loaded: Bench, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(loaded.volume / "report.html.partial")
    monkeypatch.chdir(loaded.volume)
    assert _run(loaded, policy, "report") == 0


def test_pipe_in_place_of_the_request_does_not_hang(loaded: Bench, policy: str) -> None:
    os.mkfifo(loaded.volume / "recarry.json")
    source = "https://127.0.0.1:1/acct/transfer/k3v9x2m7q1"
    words = ["pull", source, str(loaded.volume), "--recarry", str(loaded.volume / "recarry.json")]
    assert main([*words, "--trust", policy, "--allow-system-disk"]) == Code.USAGE.exit_code


@pytest.mark.parametrize("verb", ["verify", "report"])
def test_custody_log_hard_linked_to_a_part_leaves_the_part_whole(
    loaded: Bench, policy: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str
) -> None:
    part = loaded.part("001/00000001.part")
    before = part.read_bytes()
    log = loaded.volume / LOG_NAME
    log.unlink(missing_ok=True)
    log.hardlink_to(part)
    words = ("--to", str(tmp_path / "r.html")) if verb == "report" else ()
    code = _run(loaded, policy, verb, *words)
    assert part.read_bytes() == before
    assert code in {0, Code.CUSTODY_BROKEN.exit_code}
    assert "hard link" in capsys.readouterr().err
    assert loaded.verify().code is None


def test_envelope_reached_by_a_folder_link_is_not_read(loaded: Bench, policy: str, tmp_path: Path) -> None:
    """The transfer's folder leads to another place of this machine, which holds a whole bag."""
    elsewhere = tmp_path / "elsewhere"
    loaded.bag.rename(elsewhere)
    loaded.bag.symlink_to(elsewhere)
    assert _run(loaded, policy, "verify", "--transfer", loaded.bundle.transfer_id) in {
        Code.UNSAFE_NAME.exit_code,
        Code.VOLUME_EMPTY.exit_code,
    }
