"""Hostile and honest uploads side by side: real storage and host, the roles of infra/, a SAS for everything.

``HOSTILE_UPLOADS`` says how many hostile manifests there are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, ContainerClient

from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from local_cloud.demo.clouds import Demo
from local_cloud.demo.screen import until
from local_cloud.demo.story import push
from tests.bundles import new_key
from tests.e2e.conftest import Crossing, by_ticket

HOSTILE = int(os.environ.get("HOSTILE_UPLOADS", "24"))
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600 + 4 * HOSTILE)]

ALL_RIGHTS = "racwdxltmei"
"""Of a SAS that was made out far too generously; the documented one has three of them."""


@contextmanager
def incoming(demo: Demo) -> Iterator[ContainerClient]:
    """The container for uploads, for whoever may do everything there."""
    url = f"{demo.target.blob_url}/incoming?{demo.target.sas('incoming', ALL_RIGHTS)}"
    with ContainerClient.from_container_url(url, connection_verify=str(demo.ca.ca_file)) as container:
        yield container


def forged(envelope: bytes, number: int) -> bytes:
    """The same bundle manifest, signed by nobody who is known; each of other bytes."""
    payload = Envelope.from_bytes(envelope).payload
    return Envelope.sign(payload, [new_key().signer]).to_bytes() + b" " * number


def pile_up(demo: Demo, manifests: Sequence[bytes]) -> None:
    """Manifests in folders of their own, parts that belong to none, and custody logs."""

    def one(number: int) -> None:
        folder = f"a{number:07x}"
        container.upload_blob(f"{folder}/001", b"x" * 1000)
        container.upload_blob(f"custody/{folder}/log.jsonl", b"{}\n")
        container.upload_blob(f"{folder}/{ENVELOPE_NAME}", manifests[number % len(manifests)] + b" " * number)

    with incoming(demo) as container, ThreadPoolExecutor(4) as pool:
        assert all(done is None for done in pool.map(one, range(HOSTILE)))


def spoil(demo: Demo, folder: str, manifest: bytes) -> int:
    """Do to every blob of an upload what can be done to a blob; returns how much of it was possible."""
    steps: tuple[Callable[[BlobClient], object], ...] = (
        lambda blob: blob.create_snapshot(),
        lambda blob: blob.upload_blob(manifest, overwrite=True),
        lambda blob: blob.set_blob_metadata({"hdi_isfolder": "true"}),
        lambda blob: blob.acquire_lease(),  # without an end
        lambda blob: blob.set_standard_blob_tier("Archive"),
    )
    done = 0
    with incoming(demo) as container:
        for name in list(container.list_blob_names(name_starts_with=f"{folder}/")):
            for step in steps:
                with suppress(HttpResponseError):
                    step(container.get_blob_client(name))
                    done += 1
        container.upload_blob(f"{folder}/002", b"one more", overwrite=True)
    return done


def names_in(demo: Demo, container: str) -> list[str]:
    """Names of the blobs of a container of the target, as its owner sees them."""
    with ContainerClient.from_connection_string(
        demo.target.azurite.connection_string, container, connection_verify=str(demo.ca.ca_file)
    ) as client:
        return list(client.list_blob_names())


def has_all_in_custody(demo: Demo, folder: str) -> bool:
    """Whether the app has its own copy of every blob of an upload."""
    with ContainerClient.from_connection_string(
        demo.target.azurite.connection_string, "staging", connection_verify=str(demo.ca.ca_file)
    ) as staging:
        copied = list(staging.list_blobs(include=["copy"]))
    with incoming(demo) as container:
        sent = [name for name in container.list_blob_names(name_starts_with=f"{folder}/") if "/00" in name]
    return len(copied) >= len(sent) > 0 and all(blob.copy.status in {None, "success"} for blob in copied)


async def cross_in_bad_company(demo: Demo) -> str:
    """Carry one bundle across while hostile uploads come, and spoil what is left of it; returns its id."""
    references = await asyncio.to_thread(demo.push_samples, 2_000_000)
    transfer_id = await asyncio.to_thread(demo.post_transfer, references[:2])
    await until("sealing", lambda: demo.sealed_transfer(transfer_id))
    pickup = await asyncio.to_thread(demo.pickup_ticket, transfer_id)
    await by_ticket(demo, "pull", demo.medium, pickup, "--allow-system-disk")
    envelope = (demo.medium / transfer_id / ENVELOPE_NAME).read_bytes()
    manifests = [forged(envelope, number) for number in range(3)]
    piling = asyncio.create_task(asyncio.to_thread(pile_up, demo, manifests))
    await push(demo)
    await until("custody", lambda: has_all_in_custody(demo, transfer_id))
    # Stopped here, so that the import cannot end before the spoiling has.
    await asyncio.to_thread(demo.target.stop_app, kill=True)
    assert transfer_id not in {one.transfer_id for one in (await asyncio.to_thread(demo.receipts)).values()}
    assert await asyncio.to_thread(spoil, demo, transfer_id, manifests[0]) > 0
    await piling
    await demo.target.start_app()
    return transfer_id


@pytest.fixture(scope="module")
def crossed(make_crossing: Callable[[], Crossing]) -> tuple[Demo, str]:
    crossing = make_crossing()
    crossing.run(crossing.demo.start())
    crossing.demo.medium.mkdir()
    return crossing.demo, crossing.run(cross_in_bad_company(crossing.demo), timeout_s=600)


def test_honest_bundle_is_imported_as_it_was_admitted(crossed: tuple[Demo, str]) -> None:
    demo, transfer_id = crossed
    receipt = asyncio.run(
        until(
            "the honest import",
            lambda: next((one for one in demo.receipts().values() if one.transfer_id == transfer_id), None),
        )
    )
    assert (receipt.code, receipt.verdict.value, receipt.damage_count) == (None, "imported", 0)
    found = {proof.reference: proof.found for proof in receipt.artifacts}
    assert found == demo.digests(demo.target, list(found))
    assert len([one for one in demo.receipts().values() if one.transfer_id == transfer_id]) == 1


def test_hostile_manifests_are_refused_and_come_to_nothing(crossed: tuple[Demo, str]) -> None:
    demo, transfer_id = crossed

    seen = -1

    def refused() -> bool:
        nonlocal seen
        before, seen = seen, len(names_in(demo, "receipts"))
        if seen == before:  # as its timer would: who found no free place is asked in
            requests.post(f"{demo.target.api_url}/admin/functions/reconcile_imports", json={}, timeout=30)
        return seen > HOSTILE

    asyncio.run(until("refusal of all hostile manifests", refused, timeout_s=300 + 3 * HOSTILE))
    hostile = [one for one in demo.receipts().values() if one.transfer_id != transfer_id]
    assert {(one.code, one.transfer_id, one.ledger) for one in hostile} == {(Code.SIGNER_UNKNOWN, None, None)}
    assert len({one.incoming for one in hostile}) == len(hostile)
    # The number was taken once, and nothing of theirs is where pipelines read.
    assert len(demo.blobs("ledger", "demo/")) == 1
    assert {name.split("/")[0] for name in names_in(demo, "transfer")} <= {"demo"}
