"""The mover, packed once for all tests, and a small volume that it can verify."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.offline_mover.conftest import Bench

ROOT = Path(__file__).parents[2]
PACK_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Both shapes side by side, as on a medium, with a transfer that was pulled onto it."""

    medium: Path

    @property
    def folder(self) -> Path:
        return self.medium / "offline-mover"

    @property
    def single_file(self) -> Path:
        return self.medium / "offline-mover.pyz"

    @property
    def shapes(self) -> dict[str, Path]:
        # Started as a folder, Python would keep its bytecode there.
        return {"folder": self.folder / "__main__.py", "single file": self.single_file}

    @property
    def verify(self) -> tuple[str, ...]:
        return "verify", str(self.medium), "--trust", str(self.medium / "policy.json")


def pack(output: Path, *options: str, **environment: str) -> None:
    """What ``./dev pack`` does."""
    subprocess.run(
        [sys.executable, "-m", "portable", "--output", str(output), *options],
        cwd=ROOT,
        env={**environment} or None,
        check=True,
        timeout=PACK_TIMEOUT_S,
        stdout=subprocess.DEVNULL,
    )


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Packed:
    """Packed once for all workers of a run; each has a copy, since ``verify`` keeps a custody log on it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "packed"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "policy.json").exists():
            shutil.rmtree(shared, ignore_errors=True)
            pack(shared)
            bundle = make_bundle(blob_sizes=(4 * 2**20, 777))
            assert Bench(bundle, shared).pull().code is None
            (shared / "policy.json").write_bytes(bundle.policy_json)
    medium = base / "medium"
    shutil.copytree(shared, medium)
    return Packed(medium=medium)


@pytest.fixture
def copied(packed: Packed, tmp_path: Path) -> Packed:
    """A copy that the test may damage."""
    medium = tmp_path / "medium"
    shutil.copytree(packed.medium, medium)
    return Packed(medium=medium)
