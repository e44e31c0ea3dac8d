"""The printing of the demo, and its end when something is not as it says on the screen."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from airgap.receipt import Receipt
from local_cloud.cloud import PROJECT

SCREEN = Console(highlight=False, soft_wrap=True)
TIMEOUT_S = 150.0
_POLL_S = 0.25


class DemoError(Exception):
    """Something in the demo was not as it should be."""


def expect(claim: bool, otherwise: str) -> None:
    """Fail the demo with ``otherwise`` as the message unless ``claim`` holds.

    Raises:
        DemoError: it does not hold.
    """
    if not claim:
        raise DemoError(otherwise)


@contextmanager
def step(title: str) -> Iterator[None]:
    """A block that is printed as a step, with how long it took."""
    started = time.monotonic()
    SCREEN.print(f"[bold]▶ {title}[/bold]")
    yield
    SCREEN.print(f"  [dim]{time.monotonic() - started:.1f} s[/dim]")


def show_command(command: str) -> None:
    """Print a command that is run."""
    SCREEN.print(f"  $ {command.replace(f'{PROJECT}/', '')}", style="cyan", markup=False)


async def until(what: str, probe: Callable[[], Any], *, timeout_s: float = TIMEOUT_S) -> Any:
    """The first true answer of ``probe``, which is asked again and again for ``timeout_s`` seconds.

    Raises:
        DemoError: there was no such answer in time; ``what`` says what did not happen.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := await asyncio.to_thread(probe):
            return answer
        await asyncio.sleep(_POLL_S)
    raise DemoError(f"{what} did not happen within {timeout_s:.0f} s")


def show_refusal(receipt: Receipt, code: str) -> None:
    """Print a refusal; the demo fails if it has another code than the expected one."""
    found = receipt.code.name if receipt.code else "imported"
    expect(found == code, f"{found} ({receipt.detail}) where {code} was expected")
    SCREEN.print(f"  [green]✔[/green] {code} — {receipt.code.remedy if receipt.code else ''}")


def show_comparison(references: list[str], at_source: dict[str, str], at_target: dict[str, str]) -> None:
    """Print the table of digests at the source and at the target."""
    table = Table("artifact", "digest", "source", "target", box=None, padding=(0, 2, 0, 2))
    for reference in references:
        digest = at_target.get(reference) or "missing"
        before = at_source.get(reference)
        name = reference if len(reference) < 60 else reference[:48] + "…"  # noqa: PLR2004 - a column's width
        table.add_row(
            name, digest[:26] + "…", "✔" if before == digest else "·", "✔" if digest != "missing" else "✘"
        )
    SCREEN.print(table)


def show_receipt(receipt: Receipt) -> None:
    """Print a receipt so that a person can read it."""
    SCREEN.print("[bold]Receipt[/bold] (signed by the target cloud's key)")
    for name, value in (
        ("verdict", "imported"),
        ("transfer", receipt.transfer_id),
        ("channel, sequence", f"{receipt.channel}, {receipt.sequence}"),
        ("target", receipt.target),
        ("decided at", receipt.decided_at.isoformat()),
        ("bundle manifest", f"sha256:{receipt.manifest_sha256}"),
        ("signed by", ", ".join(f"{s.role} {s.keyid[:16]}… ({s.scheme})" for s in receipt.signers)),
        ("artifacts proven", str(sum(proof.is_proven for proof in receipt.artifacts))),
    ):
        SCREEN.print(f"  {name:18} {value}", markup=False)
