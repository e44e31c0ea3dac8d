"""The README's commands, run as they stand there against ``./dev demo --keep``."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.readme, pytest.mark.timeout(420)]


@pytest.fixture
def running_demo() -> Iterator[str]:
    """``./dev demo --keep``; yields what it printed once it is up."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "local_cloud.demo", "--keep"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    printed = []
    for line in demo.stdout:
        printed.append(line)
        if "Ctrl-C ends it." in line:
            break
    try:
        assert demo.poll() is None, "".join(printed)
        yield "".join(printed)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        demo.stdout.close()
        assert demo.wait(60) == 130
    assert not (ROOT / ".demo").exists()


def test_commands_of_the_readme_work_against_the_running_demo(running_demo: str) -> None:
    assert "Everything was as said" in running_demo
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 6
    script = "set -euo pipefail\n" + "\n".join(blocks)
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"verdict": "imported"' in done.stdout
