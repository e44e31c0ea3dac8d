"""What is deployed, and how the host is set up."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = {"airgap", "function_app", "function_app.py", "host.json", "requirements.txt"}


@pytest.fixture
def is_ignored(tmp_path: Path) -> Callable[[list[str]], set[str]]:
    """Gives the paths that .funcignore leaves out: its syntax is git's, so git evaluates it, elsewhere."""
    git = str(shutil.which("git"))
    subprocess.run([git, "init", "--quiet", str(tmp_path)], check=True)
    shutil.copyfile(ROOT / ".funcignore", tmp_path / ".gitignore")

    def evaluate(paths: list[str]) -> set[str]:
        done = subprocess.run(
            [git, "check-ignore", "--no-index", "--stdin"],
            input="\n".join(paths),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        return set(done.stdout.splitlines())

    return evaluate


def test_only_what_the_app_runs_on_is_deployed(is_ignored: Callable[[list[str]], set[str]]) -> None:
    top = {path.name + "/" * path.is_dir() for path in ROOT.iterdir() if path.name != ".git"}
    secrets = {".env", "local.settings.json", ".venv/", "tests/", "infra/", "key.pem"}
    kept = {name.rstrip("/") for name in (top | secrets) - is_ignored(sorted(top | secrets))}
    assert kept == SHIPPED


def test_modules_are_deployed_and_their_caches_are_not(is_ignored: Callable[[list[str]], set[str]]) -> None:
    modules = [
        str(path.relative_to(ROOT))
        for folder in ("airgap", "function_app")
        for path in (ROOT / folder).rglob("*.py")
    ]
    caches = ["airgap/__pycache__/manifest.cpython-311.pyc", "function_app/settings.pyc"]
    assert is_ignored([*modules, *caches]) == set(caches)


def test_host_settings_are_those_the_app_counts_on() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert host["version"] == "2.0"
    assert host["extensionBundle"]["version"] == "[4.*, 5.0.0)"
    assert host["extensions"]["http"]["routePrefix"] == "api"
    durable = host["extensions"]["durableTask"]
    chunks_in_memory_mib = durable["maxConcurrentActivityFunctions"] * 2 * 4
    assert chunks_in_memory_mib <= 150
    assert durable["tracing"]["traceInputsAndOutputs"] is False
