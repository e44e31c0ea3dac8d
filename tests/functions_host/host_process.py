"""Runs the host in a process of its own, and talks HTTP to it.

The process is forked from one that has imported the host and the SDK already: that is most of a start.
"""

import json
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, BinaryIO, Self, TextIO

import airgap
from local_cloud.functions_host.__main__ import main

ROOT = Path(__file__).parents[2]
SAMPLE_APP = Path(__file__).parent / "sample_app"
_FINAL = {"Completed", "Failed", "Terminated"}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("local_cloud.functions_host.__main__", "blob_wire"),
        # What the app imports once more in each fork, would it not be here: it is itself imported by role.
        *(
            "azure.keyvault.secrets",
            "azure.mgmt.containerregistry",
            "azurefunctions.extensions.bindings.blob",
        ),
        *(f"airgap.{module.name}" for module in pkgutil.iter_modules(airgap.__path__)),
    ]
)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProcess:
    url: str
    process: ForkServerProcess
    journal: Path

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.join(30)

    def terminate(self) -> int | None:
        """Asks for an orderly end by SIGTERM; gives the exit code, or None if there is none in 30 s."""
        self.process.terminate()
        self.process.join(30)
        return self.process.exitcode

    def lines(self) -> list[str]:
        """What activities noted so far."""
        return self.journal.read_text(encoding="utf-8").splitlines() if self.journal.exists() else []

    def until_noted(self, line: str, count: int = 1) -> None:
        """Waits until activities have noted `line` that often."""
        self._until_lines(lambda lines: lines.count(line) >= count)

    def until_notes(self, count: int) -> None:
        """Waits until activities have noted that many lines, whatever they are."""
        self._until_lines(lambda lines: len(lines) >= count)

    def _until_lines(self, reached: Callable[[list[str]], bool], timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached(lines := self.lines()):
            assert time.monotonic() < deadline, lines
            time.sleep(0.01)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        url = f"{self.url}{path}"
        request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - our own host
        request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - our own host
                return Answer(response.status, response.read(), dict(response.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), dict(error.headers))

    def start(self, name: str, body: object = None, instance_id: str | None = None) -> str:
        suffix = f"/{instance_id}" if instance_id else ""
        answer = self.call("POST", f"/api/start/{name}{suffix}", body)
        assert answer.status == 202, answer
        return str(answer.json["id"])

    def hook(self, method: str, path: str, body: object = None) -> Answer:
        return self.call(method, f"/runtime/webhooks/durabletask/{path}", body)

    def status(self, instance_id: str) -> dict[str, Any]:
        answer = self.hook("GET", f"instances/{instance_id}")
        assert answer.status in {200, 202}, answer
        return dict(answer.json)

    def finish(self, instance_id: str, timeout_s: float = 15) -> dict[str, Any]:
        return self.until(instance_id, lambda status: status["runtimeStatus"] in _FINAL, timeout_s)

    def until(
        self, instance_id: str, reached: Callable[[dict[str, Any]], bool], timeout_s: float = 15
    ) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while not reached(status := self.status(instance_id)):
            assert time.monotonic() < deadline, status
            time.sleep(0.01)
        return status

    def result(self, name: str, body: object = None) -> Any:
        status = self.finish(self.start(name, body))
        assert status["runtimeStatus"] == "Completed", status
        return status["output"]


class ForkedHost:
    """The host of a `Cloud`, which takes it for a `subprocess.Popen`; ends with the process of the tests."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int,
        stdout: BinaryIO,
        stderr: int,
    ) -> None:
        python, option, module, *arguments = command
        assert (python, option, module) == (sys.executable, "-m", "local_cloud.functions_host")
        assert (stdin, stderr) == (subprocess.PIPE, subprocess.STDOUT)
        self._command = command
        reader, self._stdin = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(
            target=_become, args=(arguments, str(cwd), dict(env), stdout.name, reader), daemon=True
        )
        self._process.start()
        reader.close()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(list(self._command), timeout)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        self._process.join()


def _become(
    arguments: Sequence[str], folder: str, environment: Mapping[str, str], log: str, stdin: Connection
) -> None:
    os.dup2(stdin.fileno(), 0)
    stdin.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    sys.exit(main(list(arguments)))


@contextmanager
def running_host(
    folder: Path, *flags: str, app: Path = SAMPLE_APP, environment: dict[str, str] | None = None
) -> Iterator[HostProcess]:
    """A host with its file and its journal in `folder`; killed without mercy at the end."""
    with _started(folder, flags, app, environment) as (process, stdout):
        ready = stdout.readline()
        assert ready, (folder / "log").read_text(encoding="utf-8")
        yield HostProcess(url=json.loads(ready)["url"], process=process, journal=folder / "journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a host that did not stay left behind."""

    code: int | None
    stdout: str
    stderr: str


def start_in_vain(
    folder: Path, *flags: str, app: Path = SAMPLE_APP, environment: dict[str, str] | None = None
) -> Ended:
    """Starts a host that is expected to end by itself."""
    log = folder / "log"
    before = log.stat().st_size if log.exists() else 0
    with _started(folder, flags, app, environment) as (process, stdout):
        text = stdout.read()
        process.join(30)
        return Ended(code=process.exitcode, stdout=text, stderr=log.read_text(encoding="utf-8")[before:])


@contextmanager
def _started(
    folder: Path, flags: Sequence[str], app: Path, environment: dict[str, str] | None
) -> Iterator[tuple[ForkServerProcess, TextIO]]:
    arguments = ("--app", str(app), "--db", str(folder / "state.db"), "--scan-interval-s", "0.05", *flags)
    env = {**os.environ, "SAMPLE_JOURNAL": str(folder / "journal"), **(environment or {})}
    reader, writer = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_serve, args=(arguments, env, str(folder / "log"), writer), daemon=True)
    process.start()
    writer.close()  # so that what is read ends with the process
    try:
        with reader, open(reader.fileno(), encoding="utf-8", closefd=False) as stdout:
            yield process, stdout
    finally:
        process.kill()
        process.join(30)
        process.close()


def _serve(arguments: Sequence[str], environment: dict[str, str], log: str, stdout: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(stdout.fileno(), 1)
    stdout.close()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.exit(main(list(arguments)))
