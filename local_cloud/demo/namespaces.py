"""The crossing with a real gap: source and target in network namespaces that have only their own services.

Nothing passes between them but the files of the medium, and what this process, which stands for the people,
reads from one side and says to the other: public keys, names, digests. Every attempt of any process on either
side to reach somebody else is counted (:mod:`local_cloud.demo.network`), and there must be none.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from local_cloud.cloud import PROJECT
from local_cloud.demo.clouds import demo_policy
from local_cloud.demo.network import Call
from local_cloud.demo.screen import SCREEN, TIMEOUT_S, DemoError, expect, show_comparison, step

_MAX_ANSWER_BYTES = 1024 * 1024
_END_S = 60.0
_NEEDED = ("unshare", "ip", "mount")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A side in its network namespace, as a process that is told what to do."""

    role: str
    told: asyncio.StreamWriter
    answers: asyncio.StreamReader

    async def do(self, name: str, **arguments: Any) -> Any:
        """Have the side do something, and return its result.

        Raises:
            DemoError: it failed, took too long, or the side has ended.
        """
        with suppress(ConnectionError):
            self.told.write(json.dumps({"do": name, "with": arguments}).encode() + b"\n")
            await self.told.drain()
        try:
            line = await asyncio.wait_for(self.answers.readline(), 2 * TIMEOUT_S)
        except TimeoutError:
            raise DemoError(f"{self.role}: {name} took too long") from None
        answer = json.loads(line or b'{"failed": "its process has ended"}')
        expect("failed" not in answer, f"{self.role}: {name}: {answer.get('failed')}")
        return answer["done"]


@asynccontextmanager
async def namespace(role: str, folder: Path) -> AsyncIterator[Namespace]:
    """A side in new network and mount namespaces, which end with the block, as does all that it started.

    Raises:
        DemoError: this system has no namespaces, or does not let us make them.
    """
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    expect(sys.platform == "linux" and not missing, f"this needs Linux with {', '.join(_NEEDED)}")
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "--mount", *as_root, sys.executable, "-m", "local_cloud.demo.side"),
        *(role, str(folder)),
        cwd=PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=1,  # what people should see
        limit=_MAX_ANSWER_BYTES,
        start_new_session=True,  # it is told to end by the end of its input, not by Ctrl-C
    )
    told, answers = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    try:
        yield Namespace(role, told, answers)
    finally:
        told.close()
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def run_in_namespaces(folder: Path, *, layer_bytes: int = 110_000_000) -> None:
    """Run the whole crossing, there and back, in an empty folder; artifacts have about ``layer_bytes``.

    Raises:
        DemoError: something was not as it should be, such as a call to somebody outside.
    """
    medium = folder / "medium"
    medium.mkdir(parents=True)
    async with AsyncExitStack() as held:
        with step("Start both clouds, each in a network namespace with nothing but its own services"):
            source, desk, target = [
                await held.enter_async_context(namespace(role, folder / role))
                for role in ("source", "desk", "target")
            ]
            at_source, at_target = await asyncio.gather(source.do("connect"), target.do("connect"))
        with step("People: exchange the public keys, and pin the trust policy at both sides"):
            policy = demo_policy(
                source_key=at_source["publicKey"],
                target_key=at_target["publicKey"],
                audience=at_target["registry"],
            )
            await asyncio.gather(source.do("open", policy=policy), target.do("open", policy=policy))
        with step("Source: put real artifacts into the registry, order a transfer, pull it onto the medium"):
            before = await source.do("push_samples", layer_bytes=layer_bytes)
            transfer_id = await source.do("order", references=sorted(before), audience=at_target["registry"])
            await source.do("pull", transfer_id=transfer_id, medium=str(medium))
        with step("On the way: verify the medium, in a third namespace without any service"):
            await desk.do("verify", medium=str(medium), policy=policy)
        with step("Target: push from the medium; admit, hash, import, prove, sign a receipt"):
            await target.do("push", medium=str(medium))
            receipt = await target.do("receipt")
            expect(receipt["verdict"] == "imported", f"{receipt['verdict']}: {receipt['detail']}")
            expect(receipt["transferId"] == transfer_id, "the receipt speaks of another transfer")
        with step("Compare every digest in both registries"):
            carried = sorted({*before, *receipt["references"]})
            after = await target.do("digests", references=carried)
            show_comparison(carried, before, after)
            expect(all(after.get(one) == digest for one, digest in before.items()), "a digest differs")
        with step("Carry the receipt back: the transfer is closed"):
            await target.do("receipts", direction="pull", medium=str(medium))
            await source.do("receipts", direction="push", medium=str(medium))
            state = await source.do("state_of", transfer_id=transfer_id)
            expect(state == "delivered", f"the transfer is {state}")
        with step("Count: whom did any process call outside of its namespace?"):
            for side in (source, desk, target):
                await expect_no_calls(side)
    SCREEN.print("\n[bold green]Everything was as said, and nothing crossed but the medium.[/bold green]")


async def expect_no_calls(side: Namespace) -> None:
    """Print how often a process of a side's namespace called somebody outside.

    Raises:
        DemoError: one did; the message says whom it called.
    """
    calls = [Call(**call) for call in await side.do("calls")]
    SCREEN.print(f"  {side.role}: {len(calls)} connection attempts left", markup=False)
    expect(not calls, f"{side.role} called {', '.join(map(str, calls[:10]))}")
