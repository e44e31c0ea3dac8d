"""The README's commands, run as they stand there against ``./dev demo --keep``."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from local_cloud.demo.__main__ import parser

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.readme, pytest.mark.timeout(420)]


@dataclass(frozen=True, kw_only=True)
class Running:
    """``./dev demo --keep`` once it is up, in ``folder``/.demo."""

    folder: Path
    printed: str


def dev(*arguments: str) -> list[str]:
    """``./dev`` for the environment that runs the tests."""
    environment = Path(sys.prefix).name.removeprefix(".venv").removeprefix("-")
    chosen = ["--python", environment] if environment else []
    return [sys.executable, str(ROOT / "dev"), arguments[0], *chosen, *arguments[1:]]


@pytest.fixture(scope="module")
def running_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A demo in a folder whose name a shell would take apart; two Ctrl-C end it, and leave nothing."""
    folder = tmp_path_factory.mktemp("readme") / "it's a größe folder"
    folder.mkdir()
    with subprocess.Popen(
        dev("demo", "--keep", "--folder", str(folder / ".demo")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        printed = []
        for line in demo.stdout:
            printed.append(line)
            if "Ctrl-C ends it." in line:
                break
        started = psutil.Process(demo.pid).children(recursive=True) if demo.poll() is None else []
        try:
            assert started, "".join(printed)
            yield Running(folder=folder, printed="".join(printed))
        finally:
            for _ in range(2):
                os.killpg(demo.pid, signal.SIGINT)
            demo.stdout.read()
            assert demo.wait(60) == 130
    assert not [child for child in started if child.is_running()]
    assert list(folder.glob(".demo")) == []


def test_help_of_the_demo_tells_its_options_before_anything_is_set_up(tmp_path: Path) -> None:
    shutil.copy(ROOT / "dev", tmp_path)
    done = subprocess.run(
        [sys.executable, "dev", "demo", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    options = set(re.findall(r"--[a-z]+", parser().format_help())) - {"--help"}
    assert options
    assert options <= set(re.findall(r"--[a-z]+", done.stdout))
    # How long it takes and how much it needs, before it begins.
    assert "a minute and 1 GB of disk" in " ".join(done.stdout.split())
    assert [path.name for path in tmp_path.iterdir()] == ["dev"]


def blocks(page: str, kind: str = "[a-z]*") -> list[str]:
    """The code blocks of a page of the project, as they stand there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("shell", "page"), [("bash", "README.md"), ("zsh", "README.ru.md")])
def test_commands_of_the_readme_work_against_the_running_demo(
    running_demo: Running, shell: str, page: str
) -> None:
    assert "Everything was as said" in running_demo.printed
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    script = "set -euo pipefail\n" + "\n".join(blocks(page, "bash"))
    # In the second shell all of it is done once more: nothing that is there already may be in the way.
    done = subprocess.run(
        [program, "-c", script],
        cwd=running_demo.folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"verdict": "imported"' in done.stdout


@pytest.mark.parametrize("side", ["source", "target"])
def test_lines_for_az_can_be_pasted_and_say_all_that_it_needs(running_demo: Running, side: str) -> None:
    """With an `az` that says what it was told; tests/e2e/test_az.py has the real one."""
    found = re.search(f"^az at the {side}, .*\n((?:  .*\n)+)", running_demo.printed, re.MULTILINE)
    assert found is not None, running_demo.printed
    told = 'az() { printf "%s\\n" "$*"; [ "$2" != show ]; }'
    script = f'set -eu\n{told}\n{found[1]}\nprintf "%s\\n" "$SSL_CERT_FILE"'
    bash = str(shutil.which("bash"))
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
    *_, register, use, login, subscription, ca_file = done.stdout.splitlines()
    arm = register.rpartition("--endpoint-resource-manager ")[2]
    metadata = requests.get(
        f"{arm}/metadata/endpoints", params={"api-version": "2022-09-01"}, verify=ca_file, timeout=20
    ).json()
    assert login.endswith(f"--tenant {metadata['authentication']['tenant']}")
    assert (use, subscription[:27]) == (f"cloud set --name local-{side}", "account set --subscription ")
    secret = Path(login.partition("@")[2].rpartition(" --tenant")[0])
    assert (secret.stat().st_mode & 0o777, len(secret.read_text())) == (0o600, 40)


def test_commands_that_the_demo_shows_can_be_pasted_beside_it(running_demo: Running) -> None:
    """The shell makes of them names of what is there, once the line that is shown for it has been run."""
    shown = [
        line.partition("$ ")[2] or line.strip()
        for line in running_demo.printed.splitlines()
        if re.match(r" +(\$ |cd |offline-mover )", line)
    ]
    enter = next(line for line in shown if line.startswith("cd "))
    commands = [line for line in shown if line.startswith("offline-mover ") and " FILE" not in line]
    assert len(commands) >= 8
    script = f"set -eu\n{enter}\noffline-mover() {{ printf '%s\\n' \"$@\"; }}\n" + "\n".join(commands)
    bash = str(shutil.which("bash"))
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
    named = [word for word in done.stdout.splitlines() if "/.demo/" in word or word.startswith(".demo/")]
    assert len(named) >= 16
    assert [word for word in named if not (running_demo.folder / word).exists()] == []


def test_second_demo_leaves_the_running_ones_folder_alone(running_demo: Running) -> None:
    folder = running_demo.folder / ".demo"
    refused = subprocess.run(
        dev("demo", "--folder", str(folder)), capture_output=True, text=True, timeout=60, check=False
    )
    assert (refused.returncode, (folder / "environment").exists()) == (1, True)
    assert "another demo runs in" in refused.stdout


def test_russian_readme_says_the_same_with_the_same_commands() -> None:
    english, russian = ((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "README.ru.md"))
    assert len(blocks("README.md", "bash")) >= 6
    assert blocks("README.ru.md") == blocks("README.md")
    for pattern in (r"^##? ", r"^\| ", r"^\*\*"):
        found = [re.findall(pattern, text, re.MULTILINE) for text in (english, russian)]
        assert len(found[0]) == len(found[1]), pattern
    targets = [set(re.findall(r"\]\(([^)#]+)", text)) for text in (english, russian)]
    assert targets[0] ^ targets[1] == {"README.md", "README.ru.md"}
