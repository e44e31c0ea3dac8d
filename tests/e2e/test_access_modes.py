"""A transfer whose pipelines come to their storage the other way round than in all other tests here."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
import requests

from airgap.envelope import Envelope
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.receipt import Receipt
from bench.costs import Tally
from local_cloud.cloud import Cloud
from local_cloud.demo.clouds import Demo
from local_cloud.demo.mover import offline_mover
from local_cloud.demo.screen import until
from local_cloud.demo.story import push
from tests.e2e.conftest import SAS_SECRETS, Crossing, renewed_sas

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


def opens(cloud: Cloud, sas: str) -> int:
    """What the storage answers to whoever lists the container by this SAS."""
    url = f"{cloud.container_url}?restype=container&comp=list&{sas.removeprefix('?')}"
    return requests.get(url, verify=str(cloud.ca.ca_file), timeout=30).status_code


def access(cloud: Cloud) -> dict[str, Any]:
    """What the preflight says of how the pipeline comes to the storage."""
    checks = requests.get(f"{cloud.api_url}/api/preflight", timeout=60).json()["checks"]
    (found,) = (check for check in checks if check["id"] == "pipeline-access")
    assert isinstance(found, dict)
    return found


def assert_is_shown_nowhere(demo: Demo, sas: str) -> None:
    (signature,) = parse_qs(sas.removeprefix("?"))["sig"]
    for cloud in (demo.source, demo.target):
        told = "\n".join(cloud.machine.telemetry.messages)
        for text in (cloud.host_log.read_text(encoding="utf-8"), told):
            assert signature not in text
            assert quote(signature, safe="") not in text


def test_pipelines_by_sas_go_on_over_two_renewals_and_a_sas_that_ended_is_refused(
    make_crossing: Callable[[], Crossing],
) -> None:
    """The end that is written on the version is moved instead of the clock: three days go by so."""
    crossing = make_crossing()
    demo = crossing.demo
    demo.source.access_mode = demo.target.access_mode = "SasToken"
    crossing.run(demo.start())
    clouds = (demo.source, demo.target)
    every = []
    for _ in range(2):
        for cloud in clouds:
            every.append((cloud, crossing.run(renewed_sas(cloud))))
            assert access(cloud)["ok"], access(cloud)
            cloud.vault.age_secret(SAS_SECRETS[cloud.role], expires_s=int(time.time()) + 2 * 24 * 3600)
            assert "is to be renewed since" in access(cloud)["detail"]
    for cloud, sas in every:
        said = parse_qs(sas.removeprefix("?"))
        assert (said["sp"], said["sr"]) == ([{"source": "rawl", "target": "rl"}[cloud.role]], ["c"])
        assert "skoid" in said  # an identity's, not the account key's
        assert opens(cloud, sas) == 200
    demo.medium.mkdir()
    references, receipt = crossing.run(cross(demo), timeout_s=250)
    assert receipt.is_imported, receipt
    assert demo.digests(demo.target, references) == demo.digests(demo.source, references)
    for _, sas in every:
        assert_is_shown_nowhere(demo, sas)
    source = demo.source
    source.vault.set_secret(
        SAS_SECRETS["source"], f"?{source.sas('transfer', 'rawl', lifetime=timedelta(hours=-1))}"
    )
    told = crossing.run(failed(demo, references[:1]), timeout_s=120)
    assert "403" in told
    crossing.run(renewed_sas(source))
    assert access(source)["ok"]
    source.vault.disable_secret(SAS_SECRETS["source"])
    assert "--enabled true" in access(source)["remedy"]


async def failed(demo: Demo, references: list[str]) -> str:
    """Order a transfer whose run fails; returns what is told of why."""
    transfer_id = await asyncio.to_thread(demo.post_transfer, references)

    def ended() -> str | None:
        answer = requests.get(f"{demo.source.api_url}/api/transfers/{transfer_id}", timeout=30)
        return answer.text if answer.json().get("state") in {"failed", "refused"} else None

    found: str = await until("the failure of the run", ended)
    return found


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
    sas = demo.target.vault.secret_values("acrimportsas")[-1]
    (rights,) = parse_qs(sas.removeprefix("?"))["sp"]
    assert rights == "rl"
    # what docs/operations.md says of costs: a read for each part at either side, two copies for a blob
    manifest = BundleManifest.from_bytes(
        Envelope.from_bytes(next(demo.medium.rglob(ENVELOPE_NAME)).read_bytes()).payload
    )
    (blob,) = manifest.blobs
    reads = len(blob.part_sha256)
    source, target = (tally.counts[f"{tally.cloud.role} app"] for tally in tallies)
    assert (source["read of content"], target["read of content"], target["copy"]) == (reads, reads, 2)
