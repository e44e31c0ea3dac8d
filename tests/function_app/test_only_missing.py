"""``onlyMissing``: what every target holds by its receipts stays here, and nothing else does."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.holdings import Holdings
from airgap.receipt import Receipt
from airgap.states import State
from function_app.messages import dump
from function_app.source.holdings import keep_receipt
from function_app.source.looking_up import tell_transfer
from function_app.source.transfer_plan import describe_plan
from function_app.storage.paths import LEDGER
from function_app.storage.work_folder import WorkFolder
from tests.bundles import AUDIENCE, default_key, make_policy, new_key
from tests.function_app.memory import Host, MemoryBlobs
from tests.function_app.test_export import journal_of, pipelines, run, sealed_manifest
from tests.function_app.test_receiving import RECEIPT_KEY, Gap
from tests.function_app.test_referrers import attach

NEXT = "fedcba9876543210fedcba9876543210"
TARGET = AUDIENCE[0]


@pytest.fixture
def gap() -> Gap:
    """A source whose first transfer, of team/app:v1, was imported."""
    made = Gap()
    assert made.receive(made.carry()) is State.DELIVERED
    return made


def again(gap: Gap, *artifacts: str, **said: Any) -> dict[str, Any]:
    """A second transfer, of what is missing only, to its end."""
    return run(Host(gap.source), *artifacts, transfer_id=NEXT, only_missing=True, **said)


def exported(gap: Gap) -> list[str]:
    return [artifact.reference for artifact in sealed_manifest(gap.source_blobs, NEXT).artifacts]


def plan(gap: Gap, page: int = 0) -> Mapping[str, Any]:
    told = describe_plan(WorkFolder(gap.source_blobs, NEXT), page)
    assert told is not None
    return dump(told)


def receipts(gap: Gap) -> list[str]:
    return [f"{LEDGER}/{name}" for name in gap.source_blobs.names(LEDGER) if name.startswith("holdings/")]


def test_what_the_target_holds_is_left_out_and_told_with_the_receipt(gap: Gap) -> None:
    digest = gap.registry.tags["team/app", "v1"]
    gap.registry.push_image("team/app", "v2", about="v2")
    assert again(gap, "team/app:v1", "team/app:v2")["outcome"] == "sealed"
    assert exported(gap) == ["team/app:v2"]
    (held,) = plan(gap)["held"]
    assert (held["reference"], held["digest"], list(held["held"])) == ("team/app:v1", digest, [TARGET])
    assert [held["held"][TARGET]["receipt"]] == receipts(gap)
    told = dump(asyncio.run(tell_transfer(gap.source, journal_of(gap.source, NEXT))))
    assert told["held"] == {"artifacts": 1, "receipts": receipts(gap)}
    assert told["counts"] == {"requested": None, "artifacts": 1, "blobs": 1}


def test_transfer_of_which_nothing_is_missing_ends_without_run_or_number(gap: Gap) -> None:
    before = dict(pipelines(gap.source).requests)
    numbers = [name for name in gap.source_blobs.names(LEDGER) if name.startswith("prod/")]
    assert again(gap, "team/app:v1") == {"outcome": "nothing-missing"}
    journal = journal_of(gap.source, NEXT)
    assert [entry.state for entry in journal.entries] == ["requested", "planned", "nothing-missing"]
    assert journal.is_final
    assert pipelines(gap.source).requests == before
    assert [name for name in gap.source_blobs.names(LEDGER) if name.startswith("prod/")] == numbers
    assert (plan(gap)["blobs"], len(plan(gap)["held"])) == ([], 1)


def test_without_it_everything_is_exported_again(gap: Gap) -> None:
    assert run(Host(gap.source), "team/app:v1", transfer_id=NEXT)["outcome"] == "sealed"
    assert exported(gap) == ["team/app:v1"]
    assert plan(gap)["held"] == []
    assert "held" not in dump(asyncio.run(tell_transfer(gap.source, journal_of(gap.source, NEXT))))


def test_tag_that_points_elsewhere_by_now_is_exported(gap: Gap) -> None:
    gap.registry.push_image("team/app", "v1", about="newer")
    assert again(gap, "team/app:v1")["outcome"] == "sealed"
    assert exported(gap) == ["team/app:v1"]


def test_other_tag_of_what_is_held_is_exported_and_its_digest_is_not(gap: Gap) -> None:
    digest = gap.registry.tags["team/app", "v1"]
    gap.registry.tags["team/app", "latest"] = digest
    assert again(gap, "team/app:latest", f"team/app@{digest}")["outcome"] == "sealed"
    assert exported(gap) == ["team/app:latest"]


def test_new_signature_of_what_is_held_travels_alone(gap: Gap) -> None:
    digest = gap.registry.tags["team/app", "v1"]
    gap.registry.push_image("team/app", f"{digest.replace(':', '-')}.sig", about="signature")
    assert again(gap, "team/app:v1")["outcome"] == "sealed"
    assert exported(gap) == [f"team/app:{digest.replace(':', '-')}.sig"]


def test_dry_run_tells_what_is_held_and_what_would_go(gap: Gap) -> None:
    gap.registry.push_image("team/app", "v2", about="v2")
    assert again(gap, "team/app:v1", "team/app:v2", dry_run=True) == {"outcome": "previewed"}
    told = plan(gap)
    assert [one["reference"] for one in told["held"]] == ["team/app:v1"]
    assert [one["reference"] for blob in told["blobs"] for one in blob["artifacts"]] == ["team/app:v2"]


def test_selection_is_subtracted_from_likewise(gap: Gap) -> None:
    gap.registry.push_image("team/app", "v2", about="v2")
    assert again(gap, select=({"repositories": ["team/*"]},))["outcome"] == "sealed"
    assert exported(gap) == ["team/app:v2"]


def test_what_one_registry_of_the_audience_lacks_is_exported() -> None:
    both = (TARGET, "second.azurecr.io")
    gap = Gap(both, make_policy([default_key()], receipt_keys=[RECEIPT_KEY], audience=both, order="rising"))
    name = gap.carry()
    assert gap.receive(name) is State.PARTLY_DELIVERED
    assert again(gap, "team/app:v1", audience=both, dry_run=True)["outcome"] == "previewed"
    assert plan(gap)["held"] == []
    raw = Envelope.from_bytes(gap.source_blobs.containers["receipts"][name].content)
    other = replace(Receipt.from_bytes(raw.payload), target=both[1])
    keep_receipt(gap.source_blobs, Envelope.sign(other.to_bytes(), [RECEIPT_KEY.signer]).to_bytes(), other)
    third = "0000000000000000000000000000000c"
    outcome = run(Host(gap.source), "team/app:v1", transfer_id=third, audience=both, only_missing=True)
    assert outcome == {"outcome": "nothing-missing"}


def test_forged_receipt_leaves_nothing_out() -> None:
    gap = Gap()
    raw = Envelope.from_bytes(gap.source_blobs.containers["receipts"][gap.carry()].content)
    receipt = Receipt.from_bytes(raw.payload)
    keep_receipt(gap.source_blobs, Envelope.sign(raw.payload, [new_key().signer]).to_bytes(), receipt)
    assert again(gap, "team/app:v1")["outcome"] == "sealed"


def test_what_somebody_wrote_in_place_of_what_is_held_leaves_nothing_out(
    gap: Gap, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap.registry.push_image("team/app", "v2", about="v2")
    put = MemoryBlobs.put

    def forge(blobs: MemoryBlobs, container: str, name: str, content: bytes) -> None:
        is_held = f"{NEXT}/held/" in name
        put(blobs, container, name, content.replace(b"team/app:v1", b"team/app:v2") if is_held else content)

    monkeypatch.setattr(MemoryBlobs, "put", forge)
    outcome = again(gap, "team/app:v1", "team/app:v2")
    assert (outcome["outcome"], outcome["code"]) == ("failed", "BLOB_CHANGED")


def test_long_list_of_what_is_held_goes_over_pages(gap: Gap) -> None:
    digest = gap.registry.tags["team/app", "v1"]
    first = next(name for name in receipts(gap)).removeprefix(f"{LEDGER}/")
    raw = Envelope.from_bytes(gap.source_blobs.containers[LEDGER][first].content)
    receipt = Receipt.from_bytes(raw.payload)
    tags = [f"t{number:03d}" for number in range(501)]
    gap.registry.tags |= {("team/app", tag): digest for tag in tags}
    many = replace(
        receipt,
        artifacts=tuple(replace(receipt.artifacts[0], reference=f"team/app:{tag}") for tag in tags),
    )
    keep_receipt(gap.source_blobs, Envelope.sign(many.to_bytes(), [RECEIPT_KEY.signer]).to_bytes(), many)
    assert again(gap, *(f"team/app:{tag}" for tag in tags)) == {"outcome": "nothing-missing"}
    assert [len(plan(gap, page)["held"]) for page in (0, 1)] == [500, 1]
    kept = [blob for name, blob in gap.source_blobs.containers["work"].items() if f"{NEXT}/held/" in name]
    assert sorted(blob.content.count(b'"reference"') for blob in kept) == [0, 1, 500]
    assert (plan(gap)["next"], plan(gap, 1)["next"]) == (f"/api/transfers/{NEXT}/plan?cursor=1", None)


def test_only_what_the_order_comes_to_is_kept_of_what_a_registry_holds(
    gap: Gap, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = gap.registry.tags["team/app", "v1"]
    asked: list[object] = []
    told_by = Holdings.told_by

    def note(channel: str, receipts: Any, about: Any) -> Holdings:
        asked.append(about)
        return told_by(channel, receipts, about)

    monkeypatch.setattr(Holdings, "told_by", note)
    assert again(gap, "team/app:v1") == {"outcome": "nothing-missing"}
    assert asked[0] == {"team/app:v1", f"team/app@{digest}"}


def test_what_the_target_holds_is_not_told_as_left_behind(gap: Gap) -> None:
    """It was ordered, and is of a kind that was not."""
    image = gap.registry.tags["team/app", "v1"]
    sbom = attach(gap.registry, image, "application/spdx+json")
    raw = Envelope.from_bytes(
        gap.source_blobs.containers[LEDGER][receipts(gap)[0].removeprefix(f"{LEDGER}/")].content
    )
    receipt = Receipt.from_bytes(raw.payload)
    proof = replace(receipt.artifacts[0], reference=f"team/app@{sbom}", digest=sbom, found=sbom)
    both = replace(receipt, artifacts=(receipt.artifacts[0], proof))
    keep_receipt(gap.source_blobs, Envelope.sign(both.to_bytes(), [RECEIPT_KEY.signer]).to_bytes(), both)
    gap.registry.push_image("team/app", "v2", about="v2")
    ordered = ("team/app:v1", f"team/app@{sbom}", "team/app:v2")
    assert again(gap, *ordered, referrers=("application/other",))["outcome"] == "sealed"
    assert exported(gap) == ["team/app:v2"]
    assert "referrers" not in journal_of(gap.source, NEXT).entries[1].facts
