"""`python -m local_cloud.functions_host --app DIR --db FILE`: runs a function app on this machine."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from local_cloud.functions_host.app import AppError, load_app
from local_cloud.functions_host.host import Host
from local_cloud.functions_host.telemetry import sending

_LOG = logging.getLogger(__name__)
_GRACE_S = 2.0
_BAD_APP = 2


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; the exit code is 0 then, 2 if the app or the file cannot be used."""
    options = _parse(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("azure").setLevel(logging.WARNING)
    # The SDK's way of saying that it and the replay disagree about sequence ids: in Azure a hang or worse.
    warnings.filterwarnings("error", message=r"Potential duplicate Task completion for TaskId: \d+$")
    ready = sys.stdout
    # Only the ready line goes to stdout, whatever the app prints.
    with sending(os.environ), contextlib.redirect_stdout(sys.stderr):
        try:
            host = Host(
                load_app(options.app.resolve()),
                db=options.db,
                scan_interval_s=options.scan_interval_s,
                deliver_twice=options.deliver_twice,
            )
        except (AppError, sqlite3.DatabaseError) as error:
            _LOG.error("%s", error)
            return _BAD_APP
        _LOG.info("authLevel is ignored: every caller on this machine is let in")

        def announce(url: str) -> None:
            line = json.dumps({"url": url})
            ready.write(line + "\n")
            ready.flush()
            if options.ready_file is not None:
                _write_atomically(options.ready_file, line)

        try:
            asyncio.run(_serve(host, options.port, announce, watches_stdin=options.until_stdin_closes))
        except (AppError, OSError) as error:
            _LOG.error("The host cannot go on: %s", error)
            return _BAD_APP
    _leave()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local_cloud.functions_host", description=__doc__)
    parser.add_argument("--app", type=Path, required=True, help="folder with function_app.py and host.json")
    parser.add_argument("--db", type=Path, required=True, help="SQLite file that holds all state")
    parser.add_argument("--port", type=int, default=0, help="0 (default): a free one")
    parser.add_argument("--ready-file", type=Path, help='gets the line {"url": ...} when the host is ready')
    parser.add_argument("--scan-interval-s", type=float, default=0.5, help="pause between blob scans")
    parser.add_argument(
        "--deliver-twice", action="store_true", help="every activity and blob event comes twice"
    )
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end also when stdin does: with whoever started it"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 1 << 16:
        parser.error("--port must be from 0 to 65535")
    if not options.scan_interval_s > 0:
        parser.error("--scan-interval-s must be above 0")
    return options


async def _serve(host: Host, port: int, announce: Callable[[str], None], *, watches_stdin: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if watches_stdin:
        threading.Thread(target=_await_stdin_end, args=(loop, stopping), daemon=True).start()
    try:
        announce(await host.start(port))
        working = asyncio.create_task(host.until_broken())
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if working.done():
            working.result()
        working.cancel()
    finally:
        await host.stop()


def _await_stdin_end(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            continue
    with contextlib.suppress(RuntimeError):  # the loop has ended before
        loop.call_soon_threadsafe(stopping.set)


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(path)


def _leave() -> None:
    """Does not wait for a sync function that hangs: all state is on disk, it will run again."""
    deadline = time.monotonic() + _GRACE_S
    me = threading.current_thread()
    others = [thread for thread in threading.enumerate() if thread is not me and not thread.daemon]
    for thread in others:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in others):
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
