"""What lies in ``examples/`` does what it says, against the local cloud."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from local_cloud.demo.clouds import CHANNEL
from tests.e2e.conftest import Crossing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
_SCRIPT = re.compile(r"^( *)(?:run|script): \|\n((?:\1 +[^\n]*\n)+)", re.MULTILINE)


@pytest.fixture(scope="module")
def environment(make_crossing: Callable[[], Crossing]) -> Mapping[str, str]:
    """What the examples are told: where the app is, and what to order."""
    crossing = make_crossing()
    crossing.run(crossing.demo.start())
    (reference, *_) = crossing.demo.push_samples(50_000)
    return {
        **os.environ,
        "AIRGAP_URL": crossing.demo.source.api_url,
        "AIRGAP_KEY": "of-the-function",
        "CHANNEL": CHANNEL,
        "AUDIENCE": crossing.demo.target.registry.login_server,
        "ARTIFACT": reference,
        "POLL_SECONDS": "1",
    }


def run(
    script: str, environment: Mapping[str, str], key: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    (folder / "examples").symlink_to(EXAMPLES)
    return subprocess.run(
        ["/bin/sh", "-eu", "-c", script],
        cwd=folder,
        env={**environment, "IDEMPOTENCY_KEY": key},
        capture_output=True,
        text=True,
        check=False,
    )


def steps_of(name: str) -> str:
    """The script steps of a workflow or pipeline, one after the other."""
    text = (EXAMPLES / name).read_text(encoding="utf-8").replace("- script", "  script")
    return "".join(dedent(script) for _, script in _SCRIPT.findall(text))


def test_curl_orders_and_waits(environment: Mapping[str, str], tmp_path: Path) -> None:
    ended = run("examples/order_transfer.sh", environment, "curl", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["state"] == "sealed"


def test_curl_tells_the_problem(environment: Mapping[str, str], tmp_path: Path) -> None:
    ended = run("examples/order_transfer.sh", {**environment, "CHANNEL": "Nowhere"}, "bad", tmp_path)
    assert ended.returncode != 0
    assert '"field":"channel"' in ended.stderr


@pytest.mark.parametrize("name", ["github-actions.yml", "azure-pipelines.yml"])
def test_script_steps_order_and_wait(name: str, environment: Mapping[str, str], tmp_path: Path) -> None:
    script = steps_of(name)
    assert script.count("python3") == 2
    ended = run(script, environment, name, tmp_path)
    assert ended.returncode == 0, ended.stderr
    told = json.loads((tmp_path / "transfer.json").read_text(encoding="utf-8"))
    assert told["state"] == "sealed"
    assert ended.stdout == f"Carry {told['transferId']}\n"


def test_python_tells_the_problem_with_its_remedy(environment: Mapping[str, str], tmp_path: Path) -> None:
    words = 'python3 examples/order_transfer.py --channel nowhere --audience "$AUDIENCE" "$ARTIFACT"'
    ended = run(words, environment, "", tmp_path)
    assert ended.returncode == 1
    assert "REQUEST_INVALID" in ended.stderr
    assert environment["AIRGAP_KEY"] not in ended.stderr + ended.stdout
