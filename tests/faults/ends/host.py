"""The local Functions host, started many times over without loading the app anew, and killed at steps.

Runs as a process of its own, ``python -m tests.faults.ends.host``, with the app's environment. Each order
is one line of JSON on stdin; the child that is forked for it becomes the host, and goes on with what lies in
its file. A *step* is the beginning or the end of one delivery of an activity: at the beginning nothing has
been done, at the end everything, and nobody has heard of it.

App and engine stay as they are. Only waiting is shortened: pauses between tries of an SDK, and the engine's
clock, which is moved to whatever falls due next as soon as nothing is under way.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_IDLE_S = 0.03
"""So long nothing must have been under way before the clock is moved."""
_SHORT_S = 0.02


class Clock:
    """The time, and however much of it was skipped; that is kept in a file, since time only goes on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._skipped_s = float(file.read_text()) if file.exists() else 0.0

    def __call__(self) -> float:
        return time.time() + self._skipped_s

    def move(self, epoch_s: float) -> None:
        """Show another time, which is to come."""
        self._skipped_s += epoch_s - self()
        self._file.write_text(str(self._skipped_s))


class Steps:
    """Ends the process at each ``every``-th step at which it has not been ended before; 0 for never.

    ``file`` has a line for each step that was come to, and for each at which the process was ended.
    """

    def __init__(self, file: Path, every: int) -> None:
        self._file = file
        self._every = every
        lines = file.read_text().splitlines() if file.exists() else []
        self._known = set(lines)
        self._count = len(self._known)

    def at(self, step: str) -> None:
        """Come to a step."""
        if not self._every or step in self._known:
            return
        self._known.add(step)
        with self._file.open("a") as file:
            file.write(f"{step}\n")
        self._count += 1
        if self._count % self._every == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Take orders until stdin ends."""
    from local_cloud.functions_host import host  # so that the children share it
    from local_cloud.functions_host.app import load_app

    app = load_app(Path.cwd())
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", force=True)
    host._LOG.warning("ready")
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(_become(app, json.loads(line)))
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
    return 0


async def _become(app: Any, order: dict[str, Any]) -> None:
    from azure.core.pipeline.transport import HttpTransport

    from local_cloud.functions_host import azure_storage
    from local_cloud.functions_host.host import Host
    from local_cloud.functions_host.invoke import Invoker

    folder = Path(order["folder"])
    # The events' own way to the storage is Azure's and not the app's: it has no proxy.
    own = {"use_env_settings": False, "connection_verify": os.environ["REQUESTS_CA_BUNDLE"]}
    azure_storage.OPTIONS = {**azure_storage.OPTIONS, **own}
    HttpTransport.sleep = lambda *_: time.sleep(_SHORT_S)  # type: ignore[method-assign]
    steps, run = Steps(folder / "steps", order["kill_every"]), Invoker.activity

    async def activity(self: Invoker, name: str, input_text: str | None) -> str | None:
        which = f"{name} {hashlib.sha256((input_text or '').encode()).hexdigest()[:16]}"
        steps.at(f"{which} begins")
        result = await run(self, name, input_text)
        steps.at(f"{which} ends")
        return result

    Invoker.activity = activity  # type: ignore[method-assign]
    clock = Clock(folder / "clock")
    host = Host(
        app,
        db=folder / "host.db",
        clock=clock,
        scan_interval_s=0.1,
        deliver_twice=order["deliver_twice"],
    )
    (folder / "url").write_text(await host.start())
    await asyncio.gather(host.until_broken(), _skip_pauses(host, clock), _end_with(order["owner"]))


async def _end_with(owner: int) -> None:
    """End when the tests do, however they do."""
    while True:
        os.kill(owner, 0)
        await asyncio.sleep(1)


async def _skip_pauses(host: Any, clock: Clock) -> None:
    engine = host.engine
    idle_since = time.monotonic()
    while True:
        await asyncio.sleep(_IDLE_S / 3)
        now, store = clock(), engine._store
        due = store.next_due(now)
        if engine._stepping or engine._activities or store.due_instances(now) or due is None:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= _IDLE_S:
            clock.move(max(due, now))
            host.wake()
            idle_since = time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
