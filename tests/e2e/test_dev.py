"""``./dev`` where its reader is: behind a proxy that inspects TLS, and twice at once in the background."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local_cloud.pki import CertificateAuthority
from tests.e2e.test_readme import dev

ROOT = Path(__file__).parents[2]

# Its uv says where it would keep what it downloads and that it can do nothing else: pip takes its place.
PACKAGES = {
    "uv": "import json, os, sys; json.dump(dict(os.environ), open('uv.json', 'w')); sys.exit(1)",
    "greeting": "print('here')",
}
# Its Azurite is set up by a module of the same name that needs no network; test_azurite.py has the real one.
AZURITE = "import json, os; json.dump(dict(os.environ), open('azurite.json', 'w'))"


def wheel(folder: Path, name: str, main: str) -> str:
    """Write the wheel of a package that can only be run; returns its line of a lock."""
    path = folder / name / f"{name}-1.0-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/__main__.py": main,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        file: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for file, text in files.items()
    }
    record = "".join(f"{file},sha256={digests[file]},{len(text)}\n" for file, text in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One on which nothing is set up, in a network whose proxy shows certificates of its own."""

    folder: Path
    index_url: str
    ca_file: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def set_up(self, **named: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: os.environ[name] for name in ("SYSTEMROOT", "LANG") if name in os.environ},
            # Not all of the path: pip asks a Rust for its version, and that one makes a folder at home.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "temp"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.index_url,
            "PIP_RETRIES": "0",
            **named,
        }
        return subprocess.run(
            [sys.executable, "dev", "setup"],
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def seen(self, name: str) -> Any:
        return json.loads((self.project / name).read_bytes())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    index, project = tmp_path / "index", tmp_path / "project"
    for folder in (project / "local_cloud", tmp_path / "home", tmp_path / "temp"):
        folder.mkdir(parents=True)
    lock = "".join(wheel(index, name, main) for name, main in PACKAGES.items())
    (project / "requirements-dev.lock").write_text(lock)
    shutil.copy(ROOT / "dev", project)
    (project / "local_cloud" / "azurite.py").write_text(AZURITE)

    class Index(SimpleHTTPRequestHandler):
        """A folder for each package is the "simple" index of PEP 503."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(index))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    ca = CertificateAuthority.create(tmp_path / "pki")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.socket = ca.server_context("inspecting").wrap_socket(server.socket, server_side=True)
    answering = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    answering.start()
    try:
        yield Machine(
            folder=tmp_path, index_url=f"https://localhost:{server.server_port}/", ca_file=ca.ca_file
        )
    finally:
        server.shutdown()
        answering.join()
        server.server_close()


@pytest.mark.timeout(180)
def test_set_up_names_what_a_proxy_that_inspects_tls_needs_then_leaves_nothing_outside(
    machine: Machine,
) -> None:
    refused = machine.set_up()
    assert refused.returncode == 2
    remedy = refused.stderr.splitlines()[-1].partition("name its certificates: export ")[2]
    assert remedy.count("=/path/to/ca.pem") == 3
    pasted = dict(word.split("=") for word in remedy.replace("/path/to/ca.pem", str(machine.ca_file)).split())
    assert set(pasted) == {"SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"}

    done = machine.set_up(**pasted)
    assert (done.returncode, done.stderr.count("could not be installed")) == (0, 0), done.stderr
    python = machine.project / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-m", "greeting"], capture_output=True, check=True).stdout == b"here\n"
    for path in (machine.home, machine.folder / "temp"):
        assert list(path.iterdir()) == []
    for caches in (machine.seen("uv.json"), machine.seen("azurite.json")):
        for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR"):
            assert machine.project in Path(caches[name]).parents


def test_two_suites_at_once_in_the_background_pass_and_leave_nothing(tmp_path: Path) -> None:
    """As a script's ``&`` starts them: SIGINT is ignored, yet what a test interrupts has to end by it."""
    chosen = "tests/offline_mover/commands/test_azurite.py::test_interrupted_push_resumes_with_the_rest"
    temp = tmp_path / "temp"
    temp.mkdir()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    bash = str(shutil.which("bash"))
    suites = [
        subprocess.Popen(
            [bash, "-c", "trap '' INT HUP; exec \"$@\"", bash, *dev("test", "-n", "0", chosen)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**ours, "TMPDIR": str(temp)},
        )
        for _ in range(2)
    ]
    for suite in suites:
        printed, _ = suite.communicate(timeout=180)
        assert suite.returncode == 0, printed
    assert [path for path in temp.rglob("*") if not path.is_dir()] == []
