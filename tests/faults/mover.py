"""The command as the tests run it: a process of its own each time, with a fault in it or without."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tests.faults.injection import Injection

ROOT = Path(__file__).parents[2]
_DEADLINE_S = 60.0
_QUICK = {"offline_mover.storage.retrying:FIRST_WAIT_S": 0.02}
"""The first wait before a request is repeated is shortened in every run; nothing else of the product is."""

NOTHING = Injection()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run ended. ``status``: the exit code, negative for a signal, ``None`` when it hung."""

    status: int | None
    steps: int
    result: Mapping[str, Any]
    errors: str

    @property
    def was_killed(self) -> bool:
        """As it was meant to be."""
        return self.status == -signal.SIGKILL

    @property
    def code(self) -> str | None:
        """The name of the code; ``None`` when all is well."""
        found: str | None = self.result["code"]
        return found

    def __getitem__(self, name: str) -> Any:
        """A member of the event ``result``."""
        return self.result[name]


class Mover:
    """Runs the command, one run at a time."""

    def __init__(self, launcher: subprocess.Popen[str], folder: Path, ca_file: Path) -> None:
        self._launcher = launcher
        self._folder = folder
        self._ca_file = ca_file
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def start(cls, folder: Path, ca_file: Path) -> Iterator[Self]:
        """A launcher, for as long as the block lasts."""
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-m", "tests.faults.launcher"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            try:
                yield cls(child, folder, ca_file)
            finally:
                child.stdin.close()
                child.wait(_DEADLINE_S)

    def run(
        self, *arguments: str, injection: Injection = NOTHING, environment: Mapping[str, str] | None = None
    ) -> Run:
        """One run, to its end."""
        number = next(self._numbers)
        out, err = self._folder / f"{number}.out", self._folder / f"{number}.err"
        order = {
            "number": number,
            "arguments": [*arguments, "--json"],
            "environment": {
                "PATH": "/usr/bin:/bin",
                "REQUESTS_CA_BUNDLE": str(self._ca_file),
                "XDG_STATE_HOME": str(self._folder / "state"),
                "OFFLINE_MOVER_RETRIES": "2",
                "OFFLINE_MOVER_WHO": "somebody",
                "OFFLINE_MOVER_DEBUG": "1",
                **(environment or {}),
            },
            "folder": str(self._folder),
            "stdout": str(out),
            "stderr": str(err),
            "steps": str(self._folder / "steps"),
            "timeout_s": _DEADLINE_S,
            "injection": asdict(injection) | {"constants": {**_QUICK, **injection.constants}},
        }
        with self._lock:
            assert self._launcher.stdin is not None
            assert self._launcher.stdout is not None
            self._launcher.stdin.write(json.dumps(order) + "\n")
            self._launcher.stdin.flush()
            ended = json.loads(self._launcher.stdout.readline())
            while ended["number"] != number:  # of a run that a test did not wait for: its time was over
                ended = json.loads(self._launcher.stdout.readline())
        errors = err.read_text(errors="replace")
        run = Run(status=ended["status"], steps=ended["steps"], result=_result(out), errors=errors)
        out.unlink()
        err.unlink()
        self._require_orderly(run, arguments)
        return run

    def _require_orderly(self, run: Run, arguments: tuple[str, ...]) -> None:
        """Whatever happens, it ends, by itself, in words: no fault may end in a stack trace or in exit 1."""
        told = f"{arguments}: {run.errors[-4000:]}"
        assert run.status is not None, f"hangs: {told}"
        assert "Traceback" not in run.errors, told
        if not run.was_killed:
            assert run.status != 1, told
            assert run.result.get("exitCode") == run.status, told


def _result(out: Path) -> dict[str, Any]:
    lines = out.read_text().splitlines()
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return last if last.get("event") == "result" else {}
