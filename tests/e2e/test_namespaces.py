"""The gap is proven: source and target in network namespaces, and nothing but the medium between."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from local_cloud.demo.namespaces import run_in_namespaces

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_crossing_between_namespaces_calls_nobody_outside(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--net", "--mount", "true"], check=False).returncode:
        pytest.skip("no network namespaces here")
    asyncio.run(run_in_namespaces(tmp_path / "demo", layer_bytes=9_000_000))
