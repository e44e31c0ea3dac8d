"""Before a bundle is imported others have a say: two scanners look at it, and an officer releases it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from airgap.errors import Code
from airgap.receipt import Receipt, ReceiptVerdict
from local_cloud.demo.clouds import CHANNEL, Demo
from local_cloud.demo.mover import offline_mover
from local_cloud.demo.screen import until
from local_cloud.demo.story import push
from local_cloud.scanner import Scanner
from local_cloud.tokens import SCANNER_AUDIENCE
from local_cloud.web import serve
from tests.bundles import new_key
from tests.e2e.conftest import Crossing
from tests.e2e.test_crossing import export, pull

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
OFFICER, SCANNER = new_key(), new_key()


class Guarded:
    """A target that asks a scanner and an officer."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.scanner = Scanner(demo.target.tokens, signer=SCANNER.signer)

    async def open(self) -> None:
        """Both clouds; the target deployed once more, with the officer in the policy and the scanner."""
        demo = self.demo
        await demo.start()
        policy = json.loads(demo.policy_file.read_text()) | {"version": 2}
        policy["keys"].append({"holder": "security office", "publicKey": OFFICER.public_pem})
        policy["keys"].append({"holder": "scanner", "publicKey": SCANNER.public_pem})
        policy["channels"][CHANNEL] |= {
            "releaseRoles": {"officer": {"threshold": 1, "keyids": [OFFICER.keyid]}},
            "checkRoles": {"scan": {"threshold": 1, "keyids": [SCANNER.keyid]}},
        }
        demo.write_policy(policy)
        context = demo.ca.server_context("scanner")
        self.server = await serve(self.scanner.app(), ssl_context=context)
        check = {"name": "scan", "url": f"{self.server.url}/check", "scope": f"{SCANNER_AUDIENCE}/.default"}
        await asyncio.to_thread(demo.target.stop_app)
        await demo.target.deploy(trustPolicy=policy, checks=[check], malwareScanning="defender")
        await demo.target.start_app()
        demo.medium.mkdir()

    def imports(self) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.demo.target.api_url}/api/imports", timeout=10)
        lines: list[dict[str, Any]] = answer.json()["imports"]
        return lines

    def waiting(self) -> str | None:
        found = [line["importId"] for line in self.imports() if line["state"] == "awaiting-release"]
        return found[0] if found else None

    def tell(self, import_id: str) -> dict[str, Any]:
        answer = requests.get(f"{self.demo.target.api_url}/api/imports/{import_id}", timeout=10)
        told: dict[str, Any] = answer.json()
        return told

    def post(self, import_id: str, release: bytes) -> requests.Response:
        url = f"{self.demo.target.api_url}/api/imports/{import_id}/release"
        return requests.post(url, data=release, timeout=10)

    async def sign(self) -> bytes:
        """As the officer does, on a machine without network."""
        demo = self.demo
        key, out = demo.folder / "officer.pem", demo.folder / "release.dsse.json"
        key.write_bytes(OFFICER.private_pem)
        await offline_mover(
            *("sign", str(demo.medium), "--trust", str(demo.policy_file)),
            *("--key", str(key), "--out", str(out)),
            ca=demo.ca,
            clean=True,
        )
        return await asyncio.to_thread(out.read_bytes)


@pytest.fixture(scope="module")
def crossing(make_crossing: Callable[[], Crossing]) -> Crossing:
    return make_crossing()


def test_bundle_is_imported_after_the_scanner_has_passed_and_the_officer_has_released_it(
    crossing: Crossing,
) -> None:
    guarded = Guarded(crossing.demo)
    receipt = crossing.run(cross(guarded), timeout_s=300)
    assert receipt.is_imported, receipt
    assert [(one.name, one.scanner) for one in receipt.checks] == [
        ("malware", "Microsoft Defender for Storage"),
        ("scan", "local scanner 1"),
    ]
    assert [[signer.keyid for signer in one.signers] for one in receipt.checks] == [[], [SCANNER.keyid]]
    assert [(one.holder, one.role) for one in receipt.releases] == [("security office", "officer")]
    assert guarded.scanner.questions[0]["channel"] == CHANNEL
    refused = crossing.run(cross_with_malware(guarded), timeout_s=300)
    assert (refused.verdict, refused.code) == (ReceiptVerdict.REFUSED, Code.CHECK_FAILED)
    assert refused.detail == "scan: EICAR-Test-File"
    told, waiting = crossing.run(tell_before_histories_are_lost(guarded), timeout_s=300)
    crossing.run(lose_histories(guarded), timeout_s=120)
    assert [one["state"] for one in told] == ["awaiting-release", "quarantined", "closed"]
    assert [guarded.tell(one["importId"]) for one in guarded.imports()] == told
    assert guarded.waiting() == waiting
    assert [one["receipt"] is None for one in told] == [True, False, False]
    crossing.run(guarded.server.close())


async def cross(guarded: Guarded) -> Receipt:
    await guarded.open()
    demo = guarded.demo
    known = set(await asyncio.to_thread(demo.receipts))
    references = await asyncio.to_thread(demo.push_samples, 2_000_000)
    sealed = await export(demo, references)
    await pull(demo, sealed["transferId"])
    await push(demo)
    import_id = await until("the release that is missing", guarded.waiting)
    forged = await asyncio.to_thread(guarded.post, import_id, b"{}")
    assert (forged.status_code, forged.json()["code"]) == (400, "ENVELOPE_MALFORMED")
    answer = await asyncio.to_thread(guarded.post, import_id, await guarded.sign())
    assert (answer.status_code, answer.json()["release"]["missing"]) == (200, [])
    _, receipt = await demo.next_receipt(known)
    return receipt


async def cross_with_malware(guarded: Guarded) -> Receipt:
    demo = guarded.demo
    guarded.scanner.mood = "fail"
    known = set(await asyncio.to_thread(demo.receipts))
    sealed = await export(demo, ["samples/app:1.0"])
    demo_medium = demo.medium
    await pull(demo, sealed["transferId"])
    await push_one(demo, demo_medium, sealed["transferId"])
    _, receipt = await demo.next_receipt(known)
    return receipt


async def tell_before_histories_are_lost(guarded: Guarded) -> tuple[list[dict[str, Any]], str]:
    """What the API tells of all imports, of which one has come as far as its release; and that one."""
    demo = guarded.demo
    guarded.scanner.mood = "pass"
    sealed = await export(demo, ["samples/app:1.0"])
    await pull(demo, sealed["transferId"])
    await push_one(demo, demo.medium, sealed["transferId"])
    waiting: str = await until("the release that is missing", guarded.waiting)
    lines = await asyncio.to_thread(guarded.imports)
    return [await asyncio.to_thread(guarded.tell, line["importId"]) for line in lines], waiting


async def lose_histories(guarded: Guarded) -> None:
    """As if somebody had removed all that Durable keeps, in the middle of an import."""
    target = guarded.demo.target
    await asyncio.to_thread(target.stop_app)
    databases = list(target.folder.glob("functions-host.db*"))
    assert databases
    for path in databases:
        path.unlink()
    await target.start_app()


async def push_one(demo: Demo, medium: Path, transfer_id: str) -> None:
    await offline_mover(
        *("push", str(medium), f"{demo.target.blob_url}/incoming", "--transfer", transfer_id),
        *("--trust", str(demo.policy_file), "--sas-file", str(demo.sas_file(demo.target))),
        ca=demo.ca,
    )
