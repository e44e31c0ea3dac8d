"""Carries real artifacts across a simulated air gap, then shows what is refused. Run it by ``./dev demo``.

Everything lies in ``.demo/`` below the project, unless told otherwise. Each step is checked; the exit code is
not zero unless everything was as it is said on the screen.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from local_cloud.azurite import AzuriteError
from local_cloud.cloud import PROJECT, CloudError
from local_cloud.demo.namespaces import run_in_namespaces
from local_cloud.demo.screen import SCREEN, DemoError
from local_cloud.demo.story import run
from offline_mover.medium.file_lock import exclusive_lock

FOLDER = PROJECT / ".demo"


async def _run(folder: Path, arguments: argparse.Namespace) -> None:
    _end_in_order_when_told()
    await (
        run_in_namespaces(folder)
        if arguments.namespaces
        else run(folder, keep=arguments.keep, with_az=arguments.az)
    )


def _end_in_order_when_told() -> None:
    """SIGINT and SIGTERM end the task, also where a shell has started it with SIGINT ignored.

    Told twice it ends no sooner: what is being stopped would be left running.
    """
    task = asyncio.current_task()
    if sys.platform == "win32" or task is None:
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)


class FolderTakenError(Exception):
    """The folder for the demo is taken; the message says by whom, and what to do."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """The folder, for this demo alone: emptied at first, and removed at the end unless the demo fails.

    Raises:
        FolderTakenError: another demo runs in it, or it holds what no demo left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    if any(folder.iterdir()) and not lock.exists():
        raise FolderTakenError(
            f"{folder} is not empty, and no demo left what is in it: take another --folder"
        )
    with lock.open("wb") as file, ExitStack() as held:
        try:
            held.enter_context(exclusive_lock(file.fileno(), wait_s=0))
        except TimeoutError:
            other = "end it (Ctrl-C there), or take another folder: ./dev demo --folder FOLDER"
            raise FolderTakenError(f"another demo runs in {folder}: {other}") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != lock:
                path.unlink()
        yield
        if os.name != "nt":  # where nothing can be removed that is open
            shutil.rmtree(folder)
    shutil.rmtree(folder, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; ``./dev demo --help`` works before anything is set up."""
    made = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    way = made.add_mutually_exclusive_group()
    way.add_argument("--keep", action="store_true", help="leave everything running and print the addresses")
    way.add_argument(
        "--namespaces",
        action="store_true",
        help="each cloud in a network namespace of its own, and whoever is called outside of it is counted",
    )
    made.add_argument(
        "--az", action="store_true", help="the az on the path deploys both sides; not with --namespaces"
    )
    made.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        help="where everything lies; what is in it is removed (default: .demo)",
    )
    return made


def main() -> int:
    """Run the demo as the command line says; returns 0 only if everything was as said on the screen."""
    told = parser()
    arguments = told.parse_args()
    if arguments.az and arguments.namespaces:
        told.error("--az is of this machine, and in a namespace of --namespaces there is no az")
    folder = arguments.folder.absolute()
    try:
        with owned(folder):
            try:
                asyncio.run(_run(folder, arguments))
            except (KeyboardInterrupt, asyncio.CancelledError):
                SCREEN.print("Ended.")
                return 130
    except FolderTakenError as error:
        SCREEN.print(str(error), markup=False)
        return 1
    except (DemoError, CloudError, AzuriteError) as error:
        SCREEN.print("Not as said:", style="bold red", end=" ")
        SCREEN.print(str(error), markup=False)
        SCREEN.print(f"The logs are below {folder}.", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
