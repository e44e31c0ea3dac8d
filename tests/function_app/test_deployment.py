"""What is deployed, and how the host is set up."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Ignored = Callable[[Iterable[str]], set[str]]
SHIPPED = {"airgap", "blob_wire", "function_app", "function_app.py", "host.json", "requirements.txt"}


def ignored(folder: Path, rules: str, paths: Iterable[str]) -> set[str]:
    """The paths that a ``.funcignore`` leaves out: its syntax is git's, so git evaluates it, elsewhere."""
    git = str(shutil.which("git"))
    subprocess.run([git, "init", "--quiet", str(folder)], check=True)
    (folder / ".gitignore").write_text(rules, encoding="utf-8")
    done = subprocess.run(
        [git, "check-ignore", "--no-index", "--stdin"],
        input="\n".join(paths),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    return set(done.stdout.splitlines())


@pytest.fixture
def is_ignored(tmp_path: Path) -> Ignored:
    """As :func:`ignored`, by the rules that are deployed with."""
    rules = (ROOT / ".funcignore").read_text(encoding="utf-8")
    return lambda paths: ignored(tmp_path, rules, paths)


def modules_of(tree: Path) -> list[str]:
    """Every module that the app may import, however deep it lies."""
    return [
        str(path.relative_to(tree))
        for folder in ("airgap", "blob_wire", "function_app")
        for path in (tree / folder).rglob("*.py")
    ]


def test_only_what_the_app_runs_on_is_deployed(is_ignored: Ignored) -> None:
    top = {path.name + "/" * path.is_dir() for path in ROOT.iterdir() if path.name != ".git"}
    secrets = {".env", "local.settings.json", ".venv/", "tests/", "infra/", "key.pem"}
    kept = {name.rstrip("/") for name in (top | secrets) - is_ignored(sorted(top | secrets))}
    assert kept == SHIPPED


def test_modules_are_deployed_and_their_caches_are_not(is_ignored: Ignored) -> None:
    caches = [
        "airgap/__pycache__/manifest.cpython-311.pyc",
        "function_app/settings.pyc",
        "function_app/source/__pycache__/planning.cpython-311.pyc",
    ]
    assert is_ignored([*modules_of(ROOT), *caches]) == set(caches)


def test_module_that_would_not_be_deployed_is_seen_in_a_folder_of_a_folder(tmp_path: Path) -> None:
    module = tmp_path / "function_app" / "source" / "local" / "flows.py"
    module.parent.mkdir(parents=True)
    module.touch()
    rules = (ROOT / ".funcignore").read_text(encoding="utf-8") + "local/\n"
    assert modules_of(tmp_path) == ["function_app/source/local/flows.py"]
    assert ignored(tmp_path, rules, modules_of(tmp_path)) == {"function_app/source/local/flows.py"}


def test_host_settings_are_those_the_app_counts_on() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert host["version"] == "2.0"
    assert host["extensionBundle"]["version"] == "[4.*, 5.0.0)"
    assert host["extensions"]["http"]["routePrefix"] == "api"
    assert host["telemetryMode"] == "OpenTelemetry"  # else the identity for telemetry is not asked for
    assert host["functionTimeout"] == "00:30:00"
    assert host["extensions"]["blobs"]["poisonBlobThreshold"] == 5
    durable = host["extensions"]["durableTask"]
    assert durable["storageProvider"]["type"] == "AzureStorage"
    chunks_in_memory_mib = durable["maxConcurrentActivityFunctions"] * 2 * 4
    assert chunks_in_memory_mib <= 150
    assert durable["tracing"]["traceInputsAndOutputs"] is False
