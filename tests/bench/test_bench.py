"""The measurements still run; what they measure is not judged here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from bench import hashing, storage, verify
from bench.measuring import BenchError, Contestant, compete, measure
from local_cloud.azurite import is_installed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
_HAS_NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin") is not None


def test_contestants_run_in_turn_and_the_peak_is_their_own() -> None:
    turns: list[str] = []

    def contestant(name: str, code: str) -> Contestant:
        def command() -> list[str]:
            turns.append(name)
            return [sys.executable, "-c", code]

        return Contestant(name=name, command=command)

    small, large = compete(
        [
            contestant("small", "import time; time.sleep(0.1)"),
            contestant("large", "import time; x = b'x' * 50_000_000; time.sleep(0.1)"),
        ],
        runs=2,
        size_bytes=1,
    )
    assert turns == ["small", "large"] * 2
    assert small.times_as_fast == 1
    assert small.peak_mib < 40 < large.peak_mib
    assert large.wall_min_s <= large.wall_s <= large.wall_max_s


def test_contestant_that_fails_is_told_with_its_words() -> None:
    with pytest.raises(BenchError, match="ended with 3: no such luck"):
        measure([sys.executable, "-c", "print('no such luck'); exit(3)"], environment={}, folder=None)


@pytest.mark.e2e
@pytest.mark.skipif(not is_installed(), reason="python -m local_cloud.azurite install")
def test_as_many_parts_at_a_time_as_can_be_take_little_memory(tmp_path: Path) -> None:
    """16 threads, each in the middle of a part; also that the bench runs on Azurite."""
    results = tmp_path / "results.json"
    options = ["--small", "--size", "64", "--concurrency", "16", "--json", str(results)]
    assert storage.main([*options, "--on", "azurite"]) == 0
    tables = json.loads(results.read_bytes())["tables"]
    assert list(tables) == ["pull from Azurite", "push to Azurite"]
    for rows in tables.values():
        assert rows[-1]["peak_mib"] * 1024 * 1024 < 150_000_000


@pytest.mark.skipif(not _HAS_NGINX, reason="apt-get install nginx-light")
def test_storage_bench_runs_on_nginx(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert storage.main(["--small", "--on", "nginx", "--concurrency", "2", "--json", str(results)]) == 0
    assert list(json.loads(results.read_bytes())["tables"]) == ["pull from nginx", "push to nginx"]


@pytest.mark.skipif(not _HAS_NGINX, reason="apt-get install nginx-light")
def test_storage_bench_runs_over_a_long_line(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert storage.main(["--small", "--line", "5,60", "--json", str(results)]) == 0
    tables = json.loads(results.read_bytes())["tables"]
    line = "nginx, 5 ms, 60 MB/s a connection"
    assert list(tables) == [f"pull from {line}", f"push to {line}"]
    assert "offline-mover" in {row["name"] for rows in tables.values() for row in rows}


@pytest.mark.skipif(not _HAS_NGINX, reason="apt-get install nginx-light")
def test_hashing_bench_runs(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert hashing.main(["--small", "--json", str(results)]) == 0
    (rows,) = json.loads(results.read_bytes())["tables"].values()
    assert [row["name"].split()[0] for row in rows] == ["azure-storage-blob,", "the"]


@pytest.mark.skipif(not _HAS_NGINX, reason="apt-get install nginx-light")
def test_verify_bench_runs(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    assert verify.main(["--small", "--json", str(results)]) == 0
    (rows,) = json.loads(results.read_bytes())["tables"].values()
    assert [row["name"].split()[0] for row in rows] == ["sha256sum", "bagit.py", "offline-mover"]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)
    assert verify.main(["--small"]) == 1
    assert "apt-get install nginx-light" in capsys.readouterr().err
