"""A transfer whose pipelines come to their storage the other way round than in all other tests here."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest

from airgap.envelope import Envelope
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.receipt import Receipt
from bench.costs import Tally
from local_cloud.demo.clouds import Demo
from local_cloud.demo.mover import offline_mover
from local_cloud.demo.screen import until
from local_cloud.demo.story import push
from tests.e2e.conftest import Crossing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def cross(demo: Demo) -> tuple[list[str], Receipt]:
    """Carry a small transfer from the order to its receipt; returns what was ordered, too."""
    references = await asyncio.to_thread(demo.push_samples, 2_000_000)
    transfer_id = await asyncio.to_thread(demo.post_transfer, references)
    await until("sealing", lambda: demo.sealed_transfer(transfer_id))
    await offline_mover(
        *("pull", f"{demo.source.container_url}/{transfer_id}", str(demo.medium), "--allow-system-disk"),
        *("--trust", str(demo.policy_file), "--sas-file", str(demo.sas_file(demo.source))),
        ca=demo.ca,
    )
    await push(demo)
    _, receipt = await demo.next_receipt(set())
    return references, receipt


def test_source_pipeline_comes_by_its_identity_and_target_pipeline_by_a_sas(
    make_crossing: Callable[[], Crossing],
) -> None:
    crossing = make_crossing()
    demo = crossing.demo
    demo.source.access_mode, demo.target.access_mode = "ManagedIdentity", "SasToken"
    crossing.run(demo.start())
    demo.medium.mkdir()
    tallies = [Tally(cloud=cloud) for cloud in (demo.source, demo.target)]
    for tally in tallies:
        tally.cloud.machine.watch_storage(tally.add)
    references, receipt = crossing.run(cross(demo), timeout_s=250)
    assert receipt.is_imported, receipt
    assert demo.digests(demo.target, references) == demo.digests(demo.source, references)
    assert not demo.source.machine.takes_keys(demo.source._account)
    assert set(demo.source.vault._secrets) == set()
    sas = demo.target.vault._secrets["acrimportsas"][-1]
    (rights,) = parse_qs(sas.value.removeprefix("?"))["sp"]
    assert rights == "rl"
    # what docs/operations.md says of costs: a read for each part at either side, two copies for a blob
    manifest = BundleManifest.from_bytes(
        Envelope.from_bytes(next(demo.medium.rglob(ENVELOPE_NAME)).read_bytes()).payload
    )
    (blob,) = manifest.blobs
    reads = len(blob.part_sha256)
    source, target = (tally.counts[f"{tally.cloud.role} app"] for tally in tallies)
    assert (source["read of content"], target["read of content"], target["copy"]) == (reads, reads, 2)
