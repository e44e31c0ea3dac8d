"""No history over 2,000 events or 1 MB, no payload over 64 KiB: whatever the size, however long the outage.

``play`` asserts the bounds for every generation of every orchestration of a scenario; each test says what the
scenario is and how it must end. Where a test takes something else than Azure would, its docstring says so.
"""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from airgap.division import divide
from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.manifest import BundleManifest
from airgap.parts import MIN_PART_SIZE_BYTES, PartRange
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, verify_receipt
from function_app import part_groups
from function_app.durable import flow
from function_app.ports import Ports
from function_app.source import hashing, planning
from function_app.source.dividing import portion_id
from function_app.storage.turns import Turns
from function_app.target import orchestrators, verifying
from tests.bundles import CHANNEL, make_bundle
from tests.function_app.memory import START, MemoryPipelines, MemoryRegistry, succeeded
from tests.histories.harness import Clock, Played
from tests.histories.scenarios import (
    DAY,
    POLICY,
    RECEIPT_KEY,
    SOURCE_KEY,
    TRANSFER_ID,
    HugeBlobs,
    LonelyImages,
    LongRuns,
    Outage,
    Vault,
    digest_of_name,
    huge_bundle,
    new_source,
    new_target,
    order_transfer,
    run,
    upload,
)

GROUPS = 100
BLOBS = 100 if os.environ.get("AIRGAP_FAULTS") == "all" else 10

# The SDK announces its strict typing once in a process, by whichever call comes first.
pytestmark = pytest.mark.filterwarnings("ignore:azure.functions df_loads")


@pytest.fixture(autouse=True)
def _seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits ask every six hours at the longest, where the product asks every minute to every hour.

    A generation ends after a number of rounds whatever they last, so no history gets shorter by it; only
    their number does, and the test's time with it.
    """
    for module, name in ((flow, "OUTAGE"), (orchestrators, "_RECEIPT"), (orchestrators, "_TURN")):
        patience = getattr(module, name)
        monkeypatch.setattr(module, name, structs.replace(patience, longest_pause_s=6 * 3600))
    logging.getLogger("local_cloud.functions_host.engine").setLevel(logging.ERROR)


def sealed(side: Ports, played: Played) -> BundleManifest:
    """The bundle manifest of a transfer that ended as sealed."""
    assert played.outcomes[0]["outcome"] == "sealed", played.outcomes
    return manifest_of(side, TRANSFER_ID)


def manifest_of(side: Ports, transfer_id: str) -> BundleManifest:
    """The bundle manifest that was published of a transfer."""
    raw = side.blobs.read("transfer", f"{transfer_id}/bundle-manifest.dsse.json", max_bytes=10**9)
    assert raw is not None
    return BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)


def receipt_of(side: Ports, outcome: dict[str, object]) -> Receipt:
    """The verified receipt that an import ended with."""
    name = str(outcome["receipt"]).removeprefix("receipts/")
    raw = side.blobs.read("receipts", name, max_bytes=10**9)
    assert raw is not None
    return verify_receipt(raw, policy=TrustPolicy.from_bytes(POLICY), channel=CHANNEL, now=START + 30 * DAY)


def test_vault_is_away_for_a_week_when_a_bundle_is_sealed() -> None:
    clock = Clock()
    side = new_source(signing=Vault([SOURCE_KEY], Outage(clock, START + 7 * DAY)))
    played = run(side, clock, order_transfer(side, images(side, 1)))
    assert sealed(side, played).sequence == 1
    assert START + 7 * DAY <= clock.now < START + 7 * DAY + timedelta(hours=7)


def test_vault_is_away_for_a_week_when_receipts_are_issued() -> None:
    """Two bundles of one channel: the second is imported while the first one's receipt is still to come."""
    clock = Clock(START + timedelta(hours=1))
    side = new_target(signing=Vault([RECEIPT_KEY], Outage(clock, START + 7 * DAY)))
    made: dict[str, Any] = {"blob_sizes": [1000], "created_at": START, "keys": [SOURCE_KEY]}
    first = make_bundle(transfer_id="transfer1", policy_json=POLICY, **made)
    second = make_bundle(
        transfer_id="transfer2",
        sequence=2,
        previous_sha256=first.manifest_sha256,
        policy_json=POLICY,
        **made,
    )
    played = run(side, clock, upload(side, first), upload(side, second))
    for outcome, bundle in zip(played.outcomes, (first, second), strict=True):
        assert (outcome["outcome"], outcome["closing"]) == ("imported", "closed")
        receipt = receipt_of(side, outcome)
        assert receipt.transfer_id == bundle.transfer_id
        assert receipt.decided_at < START + DAY
    assert clock.now >= START + 7 * DAY
    left = list(side.blobs.list_names("work", ""))
    assert [name for name in left if "/promoted/" not in name] == []  # those go with the records of the runs


@pytest.mark.parametrize(("goes_on", "poll_s"), [(7 * DAY - timedelta(hours=2), 600), (DAY / 2, 15)])
def test_pipeline_run_goes_on_for_a_week(goes_on: timedelta, poll_s: int) -> None:
    """How often a run is looked at makes the history, not how long: hence half a day at the usual pause."""
    clock, plain = Clock(), new_source()
    assert isinstance(plain.pipelines, MemoryPipelines)
    side = replace(plain, pipelines=LongRuns(plain.pipelines.work, Outage(clock, START + goes_on)))
    order = order_transfer(side, images(side, 1))
    week_s = str(7 * 24 * 3600)
    played = run(side, clock, order, PIPELINE_RUN_TIMEOUT_S=week_s, PIPELINE_RUN_POLL_S=str(poll_s))
    assert sealed(side, played).sequence == 1
    assert clock.now >= START + goes_on


def stand_in(side_module: object, monkeypatch: pytest.MonkeyPatch, *, failures: int = 0) -> Counter[str]:
    """Digests without bytes, made of each part's name; counts how often each part was asked for.

    The first ``failures`` attempts at each part find the storage unreachable.
    """
    asked: Counter[str] = Counter()

    def hash_part(*_: object, part: PartRange, **__: object) -> str:
        asked[part.name] += 1
        if asked[part.name] <= failures:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "blob storage")
        return digest_of_name(part.name)

    monkeypatch.setattr(side_module, "hash_part", hash_part)
    return asked


def images(side: Ports, count: int) -> list[str]:
    """References of ``count`` images in the registry."""
    registry = side.registry
    assert isinstance(registry, MemoryRegistry)
    for number in range(count):
        registry.push_image("team/app", f"v{number}")
    return [f"team/app:v{number}" for number in range(count)]


def test_export_of_many_blobs_of_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 blobs of 800 parts each for ``./dev faults``, ten for ``./dev test``.

    The steps divide, group and note all parts as ever; only reading and digesting up to 336 GB is left out.
    """
    asked = stand_in(hashing, monkeypatch)
    blobs = HugeBlobs(800 * MIN_PART_SIZE_BYTES)

    def export(request: Mapping[str, Any]) -> dict[str, Any]:
        blobs.upload("transfer", request["target"]["name"], b"huge")
        return succeeded()

    side = new_source(blobs=blobs, registry=LonelyImages(), pipelines=MemoryPipelines(export))
    manifest = sealed(side, run(side, Clock(), order_transfer(side, images(side, 50 * BLOBS))))
    assert (len(manifest.blobs), len(manifest.artifacts)) == (BLOBS, 50 * BLOBS)
    assert manifest.part_count == len(asked) == 800 * BLOBS


def test_import_of_many_blobs_of_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as in the export above, all signed, proven and put away; likewise without reading a byte."""
    asked = stand_in(verifying, monkeypatch)
    bundle = huge_bundle(blobs=BLOBS, parts=800)
    side = new_target(blobs=HugeBlobs(800 * MIN_PART_SIZE_BYTES))
    played = run(side, Clock(START + timedelta(hours=1)), upload(side, bundle))
    assert played.outcomes[0]["outcome"] == "imported", played.outcomes
    assert len(asked) == bundle.manifest.part_count == 800 * BLOBS
    assert set(asked.values()) == {1}
    receipt = receipt_of(side, played.outcomes[0])
    assert (len(receipt.artifacts), receipt.damage_count) == (50 * BLOBS, 0)


def test_outage_meets_every_group_that_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three attempts at each of 100 groups fail, and the fourth is made by ``await_outcome``.

    Digests are made of the parts' names: what is hashed does not matter here.
    """
    asked = stand_in(hashing, monkeypatch, failures=3)
    blobs = HugeBlobs(GROUPS * MIN_PART_SIZE_BYTES)

    def export(request: Mapping[str, Any]) -> dict[str, Any]:
        blobs.upload("transfer", request["target"]["name"], b"huge")
        return succeeded()

    monkeypatch.setattr(part_groups, "PARTS_PER_GROUP", 1)
    side = new_source(blobs=blobs, registry=LonelyImages(), pipelines=MemoryPipelines(export))
    played = run(side, Clock(), order_transfer(side, images(side, 1)), HASHES_AT_ONCE="2")
    assert sealed(side, played).part_count == GROUPS
    assert set(asked.values()) == {4}


def test_bundle_waits_for_its_turn_for_a_month() -> None:
    """Whoever has the turn keeps it for 30 days; then the bundle that waited is imported."""
    side = new_target()
    holder = Turns(side.blobs, CHANNEL)
    holder.enter(1, "holder")
    assert holder.take("holder")

    bundle = make_bundle(
        sequence=2,
        blob_sizes=[1000],
        created_at=START,
        lifetime=60 * DAY,
        keys=[SOURCE_KEY],
        policy_json=POLICY,
    )
    clock = Clock(START + timedelta(hours=1), alarm=(START + 30 * DAY, lambda: holder.leave("holder")))
    played = run(side, clock, upload(side, bundle))
    assert played.outcomes[0]["outcome"] == "imported"
    assert clock.now >= START + 30 * DAY


def test_order_of_many_artifacts_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 artifacts for ``./dev faults``, in five bundles; else a tenth, where a bundle takes a tenth."""
    stand_in(hashing, monkeypatch)
    blobs = HugeBlobs(MIN_PART_SIZE_BYTES)

    def export(request: Mapping[str, Any]) -> dict[str, Any]:
        blobs.upload("transfer", request["target"]["name"], b"huge")
        return succeeded()

    count = 200 * BLOBS
    monkeypatch.setattr(planning, "MAX_ARTIFACTS", count // 4)
    monkeypatch.setattr(planning, "divide", partial(divide, most=count * 9 // 40))
    side = new_source(blobs=blobs, registry=LonelyImages(), pipelines=MemoryPipelines(export))
    played = run(side, Clock(), order_transfer(side, images(side, count)))
    assert played.outcomes == [{"outcome": "divided"}]
    manifests = [manifest_of(side, portion_id(TRANSFER_ID, number)) for number in range(5)]
    assert [manifest.sequence for manifest in manifests] == [1, 2, 3, 4, 5]
    assert [len(manifest.artifacts) for manifest in manifests] == [*[count * 9 // 40] * 4, count // 10]
