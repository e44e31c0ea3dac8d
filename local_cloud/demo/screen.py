"""What the demo prints, and how it ends when something is not as it is said on the screen."""

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
    """Something was not as it should be."""


def expect(claim: bool, otherwise: str) -> None:
    """Fail the demo unless ``claim`` holds."""
    if not claim:
        raise DemoError(otherwise)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a step and how long it took."""
    started = time.monotonic()
    SCREEN.print(f"[bold]▶ {title}[/bold]")
    yield
    SCREEN.print(f"  [dim]{time.monotonic() - started:.1f} s[/dim]")


def show_command(command: str) -> None:
    """Print a command that is run."""
    SCREEN.print(f"  $ {command.replace(f'{PROJECT}/', '')}", style="cyan", markup=False)


async def until(what: str, probe: Callable[[], Any], *, timeout_s: float = TIMEOUT_S) -> Any:
    """The first true answer of ``probe``, asked again for a bounded time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := await asyncio.to_thread(probe):
            return answer
        await asyncio.sleep(_POLL_S)
    raise DemoError(f"{what} did not happen within {timeout_s:.0f} s")


def show_refusal(receipt: Receipt, code: str) -> None:
    """Print a refusal; fail if it is another one than expected."""
    found = receipt.code.name if receipt.code else "imported"
    expect(found == code, f"{found} ({receipt.detail}) where {code} was expected")
    SCREEN.print(f"  [green]✔[/green] {code} — {receipt.code.remedy if receipt.code else ''}")


def show_comparison(references: list[str], at_source: dict[str, str], at_target: dict[str, str]) -> None:
    """The table of digests."""
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
    """The receipt, readable."""
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
