"""Fifty bundles that come within one minute, over five channels, at the target as it runs on this machine.

    ./dev bench burst [--channels N] [--bundles N] [--json FILE]

The source exports one small image through its own app; its transfer blob is then signed again and again, as
numbers 1 to 10 of each of five channels that let no gap pass, and all of it is put into the target's
``incoming`` in random order, as the mover would, while the app runs. Measured is how long it takes until each
import is closed; judged is that each was imported, by a receipt that verifies, and that the numbers of each
channel were taken in their order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from airgap.envelope import Envelope
from airgap.keys import signer_from_pem
from airgap.ledger import LedgerEntry
from airgap.manifest import ENVELOPE_NAME, BundleManifest, manifest_digest
from airgap.policy import TrustPolicy
from airgap.receipt import verify_receipt
from bench.measuring import BenchError
from local_cloud.cloud import Cloud
from local_cloud.demo.clouds import CHANNEL, Demo, demo_policy
from local_cloud.demo.screen import SCREEN, until

_WAIT_S = 3600.0
_UPLOADS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """The events that came in one burst, and when each was done with."""

    channels: int
    bundles: int
    blob_bytes: int
    uploaded_s: int
    """From the first blob to the last bundle manifest."""
    closed_s: int
    """From the first blob until the last import was closed."""
    imports: dict[str, int]
    """By what their journals end with."""
    receipts: dict[str, int]
    """By their verdicts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the burst and print what came of it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./dev bench burst", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--channels", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--bundles", type=int, default=10, metavar="N", help="in each (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--folder", type=Path, help="where to work (default: the folder for temporary files)")
    options = parser.parse_args(arguments)
    SCREEN.file = sys.stderr
    with tempfile.TemporaryDirectory(prefix="bench-burst-", dir=options.folder) as scratch:
        target = _Target(Demo.prepare(Path(scratch) / "demo"), options.channels, options.bundles)
        burst = asyncio.run(target.run())
    print(json.dumps(asdict(burst), indent=1))
    if options.json:
        options.json.write_text(json.dumps(asdict(burst), indent=1) + "\n", encoding="utf-8")
    return 0


class _Target:
    """A target that many bundles come to at once, and the key that they are signed with."""

    def __init__(self, demo: Demo, channels: int, bundles: int) -> None:
        self._demo = demo
        self._names = [f"burst{number}" for number in range(channels)]
        self._count = bundles
        key = ec.generate_private_key(ec.SECP384R1())
        self._signer = signer_from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    async def run(self) -> Burst:
        """Bring both clouds up, send everything, wait, judge, and stop them."""
        demo = self._demo
        try:
            await demo.source.connect()
            await demo.target.connect()
            self._trust()
            await asyncio.gather(demo.open(demo.source), demo.open(demo.target))
            references = await asyncio.to_thread(demo.push_samples, 1_000_000)
            transfer_id = await asyncio.to_thread(demo.post_transfer, references[:1])
            await until("sealing", lambda: demo.sealed_transfer(transfer_id), timeout_s=_WAIT_S)
            return await self._send(transfer_id)
        finally:
            await demo.close()

    def _trust(self) -> None:
        """Have the demo's policy know the key and the channels, which let no gap pass."""
        demo = self._demo
        policy = demo_policy(
            source_key=demo.source.public_key_pem,
            target_key=demo.target.public_key_pem,
            audience=demo.target.registry.login_server,
        )
        policy["keys"].append({"holder": "bench", "publicKey": self._public_pem.decode("ascii")})
        role = {"threshold": 1, "keyids": [self._signer.public_key.keyid]}
        rules = {**policy["channels"][CHANNEL], "bundleRoles": {"source": role}, "onGap": "hold"}
        policy["channels"] |= dict.fromkeys(self._names, rules)
        demo.write_policy(policy)

    async def _send(self, transfer_id: str) -> Burst:
        source, target = self._demo.source, self._demo.target
        raw = _read(source, "transfer", f"{transfer_id}/{ENVELOPE_NAME}")
        manifest = BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)
        (blob,) = manifest.blobs
        content = _read(source, "transfer", f"{transfer_id}/{blob.name}")
        bundles = {one.transfer_id: one for name in self._names for one in self._chain(manifest, name)}
        order = random.sample(sorted(bundles), len(bundles))
        began = time.monotonic()
        with target.azurite.service_client() as service, ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            incoming = service.get_container_client("incoming")

            def push(name: str) -> None:
                envelope = Envelope.sign(bundles[name].to_bytes(), [self._signer]).to_bytes()
                incoming.upload_blob(f"{name}/{blob.name}", content)
                incoming.upload_blob(f"{name}/{ENVELOPE_NAME}", envelope)

            await asyncio.gather(
                *(asyncio.get_running_loop().run_in_executor(pool, push, name) for name in order)
            )
        uploaded = time.monotonic() - began
        ends = await until("closing", lambda: self._ends(len(bundles)), timeout_s=_WAIT_S)
        closed = time.monotonic() - began
        self._judge_order()
        return Burst(
            channels=len(self._names),
            bundles=len(bundles),
            blob_bytes=blob.size_bytes,
            uploaded_s=round(uploaded),
            closed_s=round(closed),
            imports=dict(Counter(ends)),
            receipts=dict(Counter(self._verdicts())),
        )

    def _chain(self, manifest: BundleManifest, channel: str) -> list[BundleManifest]:
        """The bundles of a channel, each of which names the one before."""
        chain: list[BundleManifest] = []
        previous = None
        now = datetime.now(UTC).replace(microsecond=0)
        for sequence in range(1, self._count + 1):
            one = replace(
                manifest,
                transfer_id=f"{channel}{sequence:04d}",
                channel=channel,
                sequence=sequence,
                previous_sha256=previous,
                created_at=now,
            )
            chain.append(one)
            previous = manifest_digest(one.to_bytes())
        return chain

    def _ends(self, count: int) -> list[str] | None:
        """What the journals of all imports end with, once each of so many has ended."""
        last: dict[str, str] = {}
        for name in _names(self._demo.target, "journal", "imports/"):
            last[name.split("/")[1]] = name
        if len(last) < count:
            return None
        states = [json.loads(_read(self._demo.target, "journal", name))["state"] for name in last.values()]
        return states if {*states} <= {"closed", "quarantined", "superseded"} else None

    def _judge_order(self) -> None:
        for channel in self._names:
            entries = [
                LedgerEntry.from_bytes(_read(self._demo.target, "ledger", name))
                for name in _names(self._demo.target, "ledger", f"{channel}/")
            ]
            if [one.sequence for one in entries] != [*range(1, self._count + 1)]:
                raise BenchError(f"{channel}: numbers {[one.sequence for one in entries]}")
            if not all(before.taken_at <= after.taken_at for before, after in pairwise(entries)):
                raise BenchError(f"{channel}: the numbers were not taken in their order")

    def _verdicts(self) -> list[str]:
        """What each receipt says, verified by the policy that the target pins."""
        policy = TrustPolicy.from_bytes(self._demo.policy_file.read_bytes())
        found = []
        for name in _names(self._demo.target, "receipts", "burst"):
            raw = _read(self._demo.target, "receipts", name)
            channel = name.partition("/")[0][:-4]
            receipt = verify_receipt(raw, policy=policy, channel=channel, now=datetime.now(UTC))
            found.append(receipt.verdict.value)
        return found


def _names(cloud: Cloud, container: str, prefix: str) -> list[str]:
    with cloud.azurite.service_client() as service:
        return sorted(service.get_container_client(container).list_blob_names(name_starts_with=prefix))


def _read(cloud: Cloud, container: str, name: str) -> Any:
    with cloud.azurite.service_client() as service:
        return service.get_blob_client(container, name).download_blob().readall()


if __name__ == "__main__":
    sys.exit(main())
