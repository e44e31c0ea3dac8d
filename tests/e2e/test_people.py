"""What people do at the source: two officers sign every bundle, and one that was lost is given up."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from airgap.errors import Code
from airgap.receipt import Receipt, ReceiptVerdict
from local_cloud.demo.clouds import CHANNEL, Demo, demo_policy
from local_cloud.demo.mover import offline_mover
from local_cloud.demo.screen import until
from tests.bundles import SigningKey, new_key
from tests.e2e.conftest import Crossing
from tests.e2e.test_crossing import pull
from tests.e2e.test_release import push_one

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
OFFICERS = {"security office": new_key(), "release office": new_key()}
STRANGER = new_key()
REASON = "the medium was lost on the way"


class Office:
    """Both clouds, under a policy that asks for two officers, and lets no number be missing."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.out = demo.folder / "signature.json"
        """What was signed last."""

    async def open(self) -> None:
        demo = self.demo
        await demo.source.connect()
        await demo.target.connect()
        policy = demo_policy(
            source_key=demo.source.public_key_pem,
            target_key=demo.target.public_key_pem,
            audience=demo.target.registry.login_server,
        )
        policy["keys"] += [{"holder": name, "publicKey": key.public_pem} for name, key in OFFICERS.items()]
        officers = {"threshold": 2, "keyids": [key.keyid for key in OFFICERS.values()]}
        channel = policy["channels"][CHANNEL]
        channel["bundleRoles"]["officers"] = officers
        channel["onGap"] = "refuse"
        demo.write_policy(policy)
        await asyncio.gather(demo.open(demo.source), demo.open(demo.target))
        demo.medium.mkdir()

    async def awaiting(self, references: list[str]) -> str:
        """Order a transfer; its id, once it is waiting for people."""
        transfer_id = await asyncio.to_thread(self.demo.post_transfer, references)
        await until("a bundle manifest to sign", lambda: self.state(transfer_id) == "awaiting-signatures")
        return transfer_id

    def state(self, transfer_id: str) -> str:
        return str(self.demo.ask(transfer_id)["state"])

    async def signed_by(self, transfer_id: str, key: SigningKey, *, expected: int = 0) -> Path:
        """What somebody with that key signs, on a machine without network; nothing if it must not be."""
        demo, folder = self.demo, self.demo.folder
        fetched = await asyncio.to_thread(requests.get, self.signatures_url(transfer_id), timeout=30)
        assert fetched.status_code == requests.codes.ok
        manifest, pem, out = folder / "to-sign.json", folder / "officer.pem", self.out
        manifest.write_bytes(fetched.content)
        pem.write_bytes(key.private_pem)
        out.unlink(missing_ok=True)
        await offline_mover(
            *("sign", str(manifest), "--trust", str(demo.policy_file), "--key", str(pem), "--out", str(out)),
            ca=demo.ca,
            clean=True,
            expected=expected,
        )
        return out

    async def hand_in(self, transfer_id: str, envelope: bytes) -> requests.Response:
        url = self.signatures_url(transfer_id)
        return await asyncio.to_thread(requests.post, url, data=envelope, timeout=30)

    def signatures_url(self, transfer_id: str) -> str:
        return f"{self.demo.source.api_url}/api/transfers/{transfer_id}/signatures"

    async def sealed(self, transfer_id: str) -> dict[str, Any]:
        """Have both officers sign a transfer."""
        for key in OFFICERS.values():
            out = await self.signed_by(transfer_id, key)
            answer = await self.hand_in(transfer_id, out.read_bytes())
            assert answer.status_code == requests.codes.ok, answer.text
        told: dict[str, Any] = await until("sealing", lambda: self.demo.sealed_transfer(transfer_id))
        return told

    def void(self, transfer_id: str) -> requests.Response:
        url = f"{self.demo.source.api_url}/api/transfers/{transfer_id}/void"
        return requests.post(url, json={"reason": REASON}, timeout=30)

    async def carried(self, transfer_id: str) -> Receipt:
        """Push what is on the medium, and wait for the receipt."""
        known = set(await asyncio.to_thread(self.demo.receipts))
        await push_one(self.demo, self.demo.medium, transfer_id)
        _, receipt = await self.demo.next_receipt(known)
        return receipt


@pytest.fixture(scope="module")
def crossing(make_crossing: Callable[[], Crossing]) -> Crossing:
    return make_crossing()


def test_two_officers_sign_and_a_lost_bundle_is_given_up_and_never_imported(crossing: Crossing) -> None:
    office = Office(crossing.demo)
    lost = crossing.run(sign_as_two(office), timeout_s=200)
    sealed, receipt = crossing.run(lose_one_and_send_another(office, lost), timeout_s=200)
    assert receipt.is_imported, receipt
    assert (receipt.transfer_id, receipt.sequence) == (sealed["transferId"], 2)
    late = crossing.run(office.carried(lost), timeout_s=60)
    assert (late.verdict, late.code) == (ReceiptVerdict.REFUSED, Code.SEQUENCE_VOID)
    assert office.state(lost) == "voided"


async def sign_as_two(office: Office) -> str:
    """Until the bundle is published, which it is when both officers have signed and not before."""
    await office.open()
    references = await asyncio.to_thread(office.demo.push_samples, 2_000_000)
    transfer_id = await office.awaiting(references)
    nothing = await office.signed_by(transfer_id, STRANGER, expected=Code.USAGE.exit_code)
    assert not nothing.exists()
    first, second = OFFICERS.values()
    for _ in range(2):  # one officer twice is one officer
        out = await office.signed_by(transfer_id, first)
        answer = await office.hand_in(transfer_id, out.read_bytes())
        assert (answer.status_code, answer.json()["state"]) == (200, "awaiting-signatures")
        assert answer.json()["signatures"]["missing"] == ["role officers: 1 of 2"]
    answer = await office.hand_in(transfer_id, (await office.signed_by(transfer_id, second)).read_bytes())
    assert (answer.status_code, answer.json()["signatures"]["missing"]) == (200, [])
    sealed = await until("sealing", lambda: office.demo.sealed_transfer(transfer_id))
    assert {one["holder"] for one in sealed["signatures"]["signed"]} == set(OFFICERS)
    return transfer_id


async def lose_one_and_send_another(office: Office, lost: str) -> tuple[dict[str, Any], Receipt]:
    """The first bundle is given up at the source although it was fetched; the second one is carried."""
    await pull(office.demo, lost)
    answer = await asyncio.to_thread(office.void, lost)
    assert (answer.status_code, answer.json()["state"]) == (200, "voided")
    transfer_id = await office.awaiting(["samples/app:1.0"])
    swapped = await office.hand_in(transfer_id, office.out.read_bytes())
    assert (swapped.status_code, swapped.json()["code"]) == (400, "REQUEST_INVALID")
    sealed = await office.sealed(transfer_id)
    await pull(office.demo, transfer_id)
    return sealed, await office.carried(transfer_id)
