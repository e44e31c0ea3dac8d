"""Runs the host as users do, in a process of its own, and talks HTTP to it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SAMPLE_APP = Path(__file__).parent / "sample_app"
_FINAL = {"Completed", "Failed", "Terminated"}


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
    process: subprocess.Popen[str]
    journal: Path

    def lines(self) -> list[str]:
        """What activities noted so far."""
        return self.journal.read_text(encoding="utf-8").splitlines() if self.journal.exists() else []

    def until_noted(self, line: str, count: int = 1, timeout_s: float = 15) -> None:
        """Waits until activities have noted `line` that often."""
        deadline = time.monotonic() + timeout_s
        while self.lines().count(line) < count:
            assert time.monotonic() < deadline, self.lines()
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


@contextmanager
def running_host(
    folder: Path, *flags: str, app: Path = SAMPLE_APP, environment: dict[str, str] | None = None
) -> Iterator[HostProcess]:
    """A host with its file and its journal in `folder`; killed without mercy at the end."""
    command: Sequence[str] = (
        *(sys.executable, "-m", "local_cloud.functions_host", "--app", str(app)),
        *("--db", str(folder / "state.db"), "--scan-interval-s", "0.05", *flags),
    )
    journal = folder / "journal"
    env = {**os.environ, "SAMPLE_JOURNAL": str(journal), **(environment or {})}
    with (folder / "log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready, (folder / "log").read_text(encoding="utf-8")
        yield HostProcess(url=json.loads(ready)["url"], process=process, journal=journal)
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
