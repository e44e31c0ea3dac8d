"""Starts the command many times over without loading Python anew: reads orders, forks, tells how it ended.

Runs as a process of its own, ``python -m tests.faults.launcher``, with nothing of pytest in it. Each order is
one line of JSON on stdin; the child it forks gets exactly the order's environment and becomes the command.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from typing import Any

from tests.faults.injection import Injection


def main() -> int:
    """Take orders until stdin ends."""
    _load_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)
    return 0


def _load_everything() -> None:
    """What a run would import, so that the children share it."""
    import offline_mover.cli.parser
    import offline_mover.cli.session
    import offline_mover.commands.pull
    import offline_mover.commands.push
    import offline_mover.commands.verify
    import offline_mover.storage.blob_store  # noqa: F401


def _run(order: dict[str, Any]) -> dict[str, Any]:
    steps = os.open(order["steps"], os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    child = os.fork()
    if child == 0:
        _become(order, steps)
    try:
        status = _wait(child, order["timeout_s"])
        return {"number": order["number"], "status": status, "steps": int(os.pread(steps, 8, 0) or b"0")}
    finally:
        os.close(steps)


def _wait(child: int, timeout_s: float) -> int | None:
    """The exit code, negative for a signal; ``None`` when it had to be ended."""
    descriptor = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([descriptor], [], [], timeout_s)
    finally:
        os.close(descriptor)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(order: dict[str, Any], steps: int) -> None:
    """Be the command; never returns."""
    code = 1
    try:
        for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            opened = os.open(order.get(name) or os.devnull, flags, 0o600)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        Injection.from_json(order["injection"]).install(steps)
        from offline_mover.cli import main as command

        code = command(order["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - what Python would print
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
