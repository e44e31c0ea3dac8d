"""The operator's command, run in a process of its own."""

import asyncio
import shlex
import sys
from dataclasses import dataclass

from local_cloud.cloud import PROJECT
from local_cloud.demo.screen import SCREEN, TIMEOUT_S, DemoError, expect, show_command
from local_cloud.pki import CertificateAuthority

_TOLD_LINES = 6
"""Of what the mover says: its verdict, how long it took, and the next command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The result of a run of the mover: its exit code and its output."""

    exit_code: int
    output: str


async def offline_mover(
    *arguments: str, ca: CertificateAuthority, clean: bool = False, expected: int | None = 0
) -> Moved:
    """Run the mover as the operator does; ``clean`` gives it no network settings at all.

    Raises:
        DemoError: it took too long, or ended with another exit code than ``expected``.
    """
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    if not clean:
        environment["REQUESTS_CA_BUNDLE"] = str(ca.ca_file)
    show_command(shlex.join(["offline-mover", *arguments]))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "offline_mover", *arguments),
        cwd=PROJECT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise DemoError(f"offline-mover {arguments[0]} took longer than {TIMEOUT_S:.0f} s") from None
    text = output.decode(errors="replace").strip()
    for line in text.splitlines()[-_TOLD_LINES:]:
        SCREEN.print(f"    {line}", markup=False)
    if expected is not None:
        expect(
            child.returncode == expected,
            f"offline-mover {arguments[0]} ended with {child.returncode}:\n{text}",
        )
    return Moved(exit_code=child.returncode or 0, output=text)
