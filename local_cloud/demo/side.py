"""One side of the gap as a process in a network namespace of its own: it is told what to do, line by line.

A third side, the desk, has no services at all: there the operator verifies the medium on the way.

Each line on standard input is a JSON object ``{"do": NAME, "with": {…}}``, answered by one line on standard
output: ``{"done": …}`` or ``{"failed": TEXT}``. What people should see goes to standard error. The end of
standard input ends it. Nothing but the files of the media passes between sides, and what whoever tells them
hands on.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import requests

from local_cloud.azurite import AzuriteError
from local_cloud.cloud import Cloud, CloudError
from local_cloud.demo.clouds import Demo
from local_cloud.demo.mover import offline_mover
from local_cloud.demo.network import CountedNetwork
from local_cloud.demo.screen import SCREEN, DemoError, until


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A side that can be told what to do; each method's result is sent as JSON."""

    demo: Demo
    role: str
    network: CountedNetwork

    @property
    def cloud(self) -> Cloud:
        """The cloud that belongs to this side."""
        return self.demo.source if self.role == "source" else self.demo.target

    @property
    def receipts_sas_file(self) -> Path:
        """The file with the operator's SAS for the receipts."""
        return self.demo.folder / "receipts.sas"

    @property
    def _trust(self) -> tuple[str, str]:
        return ("--trust", str(self.demo.policy_file))

    async def connect(self) -> dict[str, str]:
        """Start every service; returns the public key in PEM, and the registry's name."""
        await self.cloud.connect()
        return {"publicKey": self.cloud.public_key_pem, "registry": self.cloud.registry.login_server}

    async def open(self, policy: Mapping[str, Any]) -> None:
        """Deploy the app with the trust policy, and start it."""
        self.demo.write_policy(policy)
        await self.demo.open(self.cloud)
        permissions = "rcl" if self.role == "source" else "rl"
        self.receipts_sas_file.touch(mode=0o600)
        self.receipts_sas_file.write_text(await asyncio.to_thread(self.cloud.sas, "receipts", permissions))

    async def push_samples(self, layer_bytes: int) -> dict[str, str]:
        """Put artifacts with about so many bytes of layers into the registry; returns their digests."""
        references = await asyncio.to_thread(self.demo.push_samples, layer_bytes)
        return await self.digests(references)

    async def digests(self, references: list[str]) -> dict[str, str]:
        """The digests that the registry tells for references."""
        return await asyncio.to_thread(self.demo.digests, self.cloud, references)

    async def order(self, references: list[str], audience: str) -> str:
        """Order a transfer, and wait until it is sealed; returns its id."""
        transfer_id = await asyncio.to_thread(self.demo.post_transfer, references, audience)
        await until("sealing", lambda: self.demo.sealed_transfer(transfer_id))
        return transfer_id

    async def state_of(self, transfer_id: str) -> str:
        """The state of a transfer, once it is closed by a receipt."""
        return cast(
            "str",
            await until(
                "closing",
                lambda: next(
                    (state for state in [self._state(transfer_id)] if state in {"delivered", "refused"}), None
                ),
            ),
        )

    def _state(self, transfer_id: str) -> str:
        url = f"{self.cloud.api_url}/api/transfers/{transfer_id}"
        return str(requests.get(url, timeout=30).json()["state"])

    async def pull(self, transfer_id: str, medium: str) -> None:
        """Write a sealed transfer onto a medium."""
        await offline_mover(
            *("pull", f"{self.cloud.container_url}/{transfer_id}", medium, "--allow-system-disk"),
            *(*self._trust, "--sas-file", str(self.demo.sas_file(self.cloud))),
            ca=self.demo.ca,
        )

    async def verify(self, medium: str, policy: Mapping[str, Any]) -> None:
        """Compare what lies on a medium with what was signed, without any network."""
        self.demo.write_policy(policy)
        await offline_mover("verify", medium, *self._trust, ca=self.demo.ca, clean=True)

    async def push(self, medium: str) -> None:
        """Upload what lies on a medium."""
        await offline_mover(
            *("push", medium, f"{self.cloud.blob_url}/incoming"),
            *(*self._trust, "--sas-file", str(self.demo.sas_file(self.cloud))),
            ca=self.demo.ca,
        )

    async def receipt(self) -> dict[str, Any]:
        """The first receipt, once it is out and verified."""
        _, receipt = await self.demo.next_receipt(set())
        return {
            "verdict": receipt.verdict.value,
            "transferId": receipt.transfer_id,
            "detail": receipt.detail,
            "references": sorted(proof.reference for proof in receipt.artifacts),
        }

    async def receipts(self, direction: str, medium: str) -> None:
        """Take receipts onto a medium (``pull``), or bring them from it (``push``)."""
        url = f"{self.cloud.blob_url}/receipts"
        places = (url, medium) if direction == "pull" else (medium, url)
        await offline_mover(
            *("receipts", direction, *places, *self._trust, "--sas-file", str(self.receipts_sas_file)),
            ca=self.demo.ca,
        )

    async def calls(self) -> list[dict[str, Any]]:
        """The calls to somebody outside the namespace."""
        return [asdict(call) for call in self.network.calls()]


async def serve(side: Side) -> None:
    """Do what each line on standard input says, until there are no more."""
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            told = json.loads(line)
            try:
                answer = {"done": await getattr(side, told["do"])(**told["with"])}
            except (DemoError, CloudError, AzuriteError, requests.RequestException) as error:
                answer = {"failed": str(error)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        await side.demo.close()


def main() -> None:
    """Set the namespace up, then serve the side in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("source", "desk", "target"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    SCREEN.file = sys.stderr
    arguments.folder.mkdir(parents=True, exist_ok=True)
    network = CountedNetwork.set_up(arguments.folder)
    side = Side(demo=Demo.prepare(arguments.folder), role=arguments.role, network=network)
    asyncio.run(serve(side))


if __name__ == "__main__":
    main()
