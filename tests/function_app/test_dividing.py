"""An order that is more than one bundle takes becomes several transfers, one after the other."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from airgap.division import divide
from airgap.errors import PolicyRefusal
from airgap.journal import Journal
from airgap.states import Kind, State
from function_app.durable.stopping import stop
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.source import planning, reconciling, surveying
from function_app.source.cancelling import cancel_transfer
from function_app.source.dividing import order_portion, portion_id
from function_app.source.looking_up import tell_transfer
from function_app.source.planning import PORTIONS
from function_app.source.transfer_plan import describe_plan
from function_app.source.wire import PortionOrder, Portions
from function_app.storage.work_folder import WorkFolder, digest_of
from tests.function_app.durable_client import DurableClient, RuntimeStatus
from tests.function_app.memory import START, Host, make_source
from tests.function_app.test_export import TRANSFER_ID, journal_of, run, sealed_manifest
from tests.function_app.test_referrers import attach

DAY = timedelta(days=1)
WHOLE = TRANSFER_ID
SIGNATURE = "application/vnd.example.signature"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bundle takes ten artifacts, and a portion is planned to have eight."""
    monkeypatch.setattr(planning, "MAX_ARTIFACTS", 10)
    monkeypatch.setattr(planning, "divide", partial(divide, most=8))


class Source:
    """A source with signed images: two artifacts each."""

    def __init__(self, images: int = 10) -> None:
        self.side, self.blobs, self.registry = make_source()
        self.host = Host(self.side)
        self.references = [f"team/app:v{number}" for number in range(images)]
        self.digests = {}
        for reference in self.references:
            digest = self.registry.push_image(*reference.split(":"), about=reference)
            self.digests[reference] = digest
            attach(self.registry, digest, SIGNATURE, about=reference)

    def run(self, **more: Any) -> dict[str, Any]:
        return run(self.host, *self.references, transfer_id=WHOLE, **more)

    def portions(self, count: int = 3, of: str = WHOLE) -> list[Journal]:
        return [journal_of(self.side, portion_id(of, number)) for number in range(count)]

    def tell(self, transfer_id: str = WHOLE) -> dict[str, Any]:
        journal = journal_of(self.side, transfer_id)
        return dump(asyncio.run(tell_transfer(self.side, journal, with_request=True)))

    def cancel(self, transfer_id: str = WHOLE, client: DurableClient | None = None) -> None:
        journal = journal_of(self.side, transfer_id)
        asyncio.run(
            cancel_transfer(client or DurableClient(), self.side, journal, by="ada", at=self.host.now)
        )


@pytest.fixture
def source() -> Source:
    return Source()


def states(journal: Journal) -> str:
    return " ".join(entry.state for entry in journal.entries)


SEALED = "requested planned exporting hashing sealing sealed"


def test_order_becomes_several_bundles_in_the_order_of_its_references(source: Source) -> None:
    assert source.run() == {"outcome": "divided"}
    assert states(journal_of(source.side)) == "requested planned dividing divided"
    portions = source.portions()
    assert [states(portion) for portion in portions] == [SEALED] * 3
    manifests = [sealed_manifest(source.blobs, portion.about) for portion in portions]
    assert [manifest.sequence for manifest in manifests] == [1, 2, 3]
    ordered = [one.reference for each in manifests for one in each.artifacts if one.subject is None]
    assert ordered == source.references
    assert [len(manifest.artifacts) for manifest in manifests] == [8, 8, 4]
    for manifest in manifests:
        subjects = {one.subject for one in manifest.artifacts if one.subject}
        assert subjects == {one.digest for one in manifest.artifacts if one.subject is None}


def test_whole_names_its_transfers_and_each_of_them_the_whole(source: Source) -> None:
    source.run()
    body = source.tell()
    assert [(one["transferId"], one["state"]) for one in body["transfers"]] == [
        (portion_id(WHOLE, number), "sealed") for number in range(3)
    ]
    assert (body["counts"]["artifacts"], body["counts"]["blobs"]) == (20, 3)
    assert body["transfers"][2]["counts"] == {"requested": 2, "artifacts": 4, "blobs": 1}
    assert set(body["links"]) == {"self", "plan"}
    told = source.tell(portion_id(WHOLE, 1))
    assert told["portion"] == {"of": WHOLE, "number": 2}
    assert told["request"]["artifacts"] == source.references[4:8]
    assert told["history"][0]["by"] == "caller"


def tell_plan(work: WorkFolder, page: int) -> dict[str, Any]:
    told = describe_plan(work, page)
    assert told is not None
    return dump(told)


@pytest.mark.parametrize("dry_run", [True, False])
def test_plan_shows_the_division(source: Source, dry_run: bool) -> None:
    source.run(dry_run=dry_run)
    plan = tell_plan(WorkFolder(source.blobs, WHOLE), 0)
    assert [(one["number"], one["requested"], one["artifacts"]) for one in plan["transfers"]] == [
        (1, 4, 8),
        (2, 4, 8),
        (3, 2, 4),
    ]
    assert [(blob["transfer"], blob["name"]) for blob in plan["blobs"]] == [
        (1, "001"),
        (2, "001"),
        (3, "001"),
    ]
    assert plan["refused"] == []
    assert sum(one["sizeBytes"] for one in plan["transfers"]) == plan["sizeBytes"]
    if dry_run:
        assert journal_of(source.side).state is State.PREVIEWED
        assert list(source.side.blobs.list_names("journal", "transfers/")) == [
            f"transfers/{WHOLE}/0000000{number}.json" for number in (1, 2, 3)
        ]
    else:
        first = tell_plan(WorkFolder(source.blobs, portion_id(WHOLE, 0)), 0)
        assert first["blobs"] == [{**plan["blobs"][0], "transfer": None}]


def test_what_one_bundle_takes_is_not_divided() -> None:
    source = Source(images=5)
    assert source.run()["outcome"] == "sealed"
    plan = tell_plan(WorkFolder(source.blobs, WHOLE), 0)
    assert plan["transfers"] == []
    assert Source(images=6).run()["outcome"] == "divided"


def test_single_artifact_with_more_referrers_than_a_bundle_takes_is_refused() -> None:
    source = Source(images=2)
    for number in range(10):
        attach(source.registry, source.digests[source.references[1]], SIGNATURE, number=number)
    outcome = source.run()
    assert (outcome["outcome"], outcome["code"]) == ("refused", "REQUEST_INVALID")
    assert "has 12 with its referrers" in outcome["detail"]


@pytest.mark.parametrize(("most", "outcome"), [(20, "divided"), (19, "refused")])
def test_order_that_comes_to_more_than_can_be_planned_is_refused(
    source: Source, monkeypatch: pytest.MonkeyPatch, most: int, outcome: str
) -> None:
    for module in (planning, surveying):
        monkeypatch.setattr(module, "MAX_PLANNED_ARTIFACTS", most)
    for only_missing, transfer_id in ((False, WHOLE), (True, "f" * 32)):
        source.host.called.clear()
        told = run(source.host, *source.references, transfer_id=transfer_id, only_missing=only_missing)
        assert told["outcome"] == outcome
        assert ("plan_transfer" in source.host.called) is (outcome == "divided" or not only_missing)
        if outcome == "refused":
            assert told["code"] == "REQUEST_INVALID"
            assert "over 19: divide the order" in told["detail"]


def test_what_is_left_behind_counts_among_what_can_be_planned(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveying, "MAX_PLANNED_ARTIFACTS", 19)
    assert source.run(referrers="none")["outcome"] == "sealed"
    told = run(source.host, *source.references, transfer_id="f" * 32, referrers=("application/other",))
    assert told["code"] == "REQUEST_INVALID"


def test_what_two_transfers_share_travels_in_both() -> None:
    """A signature that is ordered by itself, far from what it is of."""
    source = Source(images=50)
    signature = next(
        digest
        for (_, digest), (_, manifest) in source.registry.manifests.items()
        if manifest.get("subject", {}).get("digest") == source.digests["team/app:v0"]
    )
    source.references.append(f"team/app@{signature}")
    assert source.run(dry_run=True) == {"outcome": "previewed"}
    assert source.tell()["counts"]["artifacts"] == 100
    work = WorkFolder(source.blobs, WHOLE)
    pages = [tell_plan(work, number) for number in (0, 1)]
    assert sum(one["artifacts"] for one in pages[0]["transfers"]) == 101
    shared = [
        blob["transfer"]
        for page in pages
        for blob in page["blobs"]
        for one in blob["artifacts"]
        if one["reference"] == f"team/app@{signature}"
    ]
    assert shared == [1, 13]


def test_selection_is_divided_too(source: Source) -> None:
    select = ({"repositories": ["team/*"], "tags": ["v*"]},)
    assert run(source.host, transfer_id=WHOLE, select=select) == {"outcome": "divided"}
    assert source.tell(portion_id(WHOLE, 0))["request"]["select"] == []
    carried = [
        one.reference
        for portion in source.portions()
        for one in sealed_manifest(source.blobs, portion.about).artifacts
        if one.subject is None
    ]
    assert sorted(carried) == sorted(source.references)


def test_portion_that_is_refused_stops_none_after_it(source: Source) -> None:
    def remove() -> None:
        del source.registry.tags["team/app", "v5"]

    source.host.before["order_portion"] = remove
    assert source.run() == {"outcome": "divided"}
    assert [portion.state for portion in source.portions()] == ["sealed", "refused", "sealed"]
    assert [one["state"] for one in source.tell()["transfers"]] == ["sealed", "refused", "sealed"]


def test_portion_that_has_grown_meanwhile_is_divided_itself(source: Source) -> None:
    def attach_more() -> None:
        for number in range(3):
            attach(source.registry, source.digests["team/app:v5"], SIGNATURE, number=number)

    source.host.before["order_portion"] = attach_more
    assert source.run() == {"outcome": "divided"}
    middle = portion_id(WHOLE, 1)
    assert [portion.state for portion in source.portions()] == ["sealed", "divided", "sealed"]
    parts = source.portions(2, of=middle)
    assert [portion.state for portion in parts] == ["sealed", "sealed"]
    assert {portion.entries[0].facts["instance"] for portion in parts} == {WHOLE}


def test_cancelled_whole_stops_what_is_not_sealed(source: Source) -> None:
    client = DurableClient()
    client.add(WHOLE, state=RuntimeStatus.Running)
    starts = {"count": 0}

    def cancel_second() -> None:
        starts["count"] += 1
        if starts["count"] == 2:
            source.cancel(client=client)
        else:
            source.host.before["start_export_run"] = cancel_second

    source.host.before["start_export_run"] = cancel_second
    source.run()
    assert states(journal_of(source.side)) == "requested planned dividing cancelled"
    first, second, third = source.portions()
    assert states(first) == SEALED
    assert states(second) == "requested planned exporting cancelled"
    assert third.entries == ()
    assert client.instances[WHOLE].runtime_status is RuntimeStatus.Terminated
    assert source.tell()["links"] == {
        "self": f"/api/transfers/{WHOLE}",
        "plan": f"/api/transfers/{WHOLE}/plan",
    }


def test_cancelled_portion_leaves_the_others_alone(source: Source) -> None:
    def cancel_first() -> None:
        source.cancel(portion_id(WHOLE, 0))

    source.host.before["start_export_run"] = cancel_first
    assert source.run() == {"outcome": "divided"}
    assert [portion.state for portion in source.portions()] == ["cancelled", "sealed", "sealed"]


def placed(source: Source) -> PortionOrder:
    """A whole that is planned and is to be divided, and the order of its first portion."""

    class DiedError(Exception):
        pass

    def die() -> None:
        raise DiedError

    source.host.before["order_portion"] = die
    with pytest.raises(DiedError):
        source.run(by="ada@contoso.com")
    portions = WorkFolder(source.blobs, WHOLE).get(PORTIONS, Portions)
    return PortionOrder(whole=WHOLE, number=0, pinned=digest_of(portions), at="2026-11-23T09:00:00Z")


def test_portion_is_ordered_by_whoever_ordered_the_whole_and_once(source: Source) -> None:
    order = placed(source)
    assert order_portion(source.side, order) == order_portion(source.side, order)
    (entry,) = source.portions(1)[0].entries
    assert (entry.by, entry.facts["portion"]) == ("ada@contoso.com", {"of": WHOLE, "number": 1})
    assert entry.facts["requestSha256"] != journal_of(source.side).entries[0].facts.get("requestSha256")


def test_no_portion_is_ordered_of_a_whole_whose_cancelling_broke_off(source: Source) -> None:
    """It is on record, and nothing was stopped yet."""
    order = placed(source)
    JournalStore(source.side.blobs, source.side.projection).record(
        Kind.TRANSFERS, WHOLE, State.CANCELLED, {}, by="caller", at=START
    )
    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
        order_portion(source.side, order)
    assert source.portions(1)[0].entries == ()


def test_portion_that_is_ordered_while_the_whole_is_cancelled_is_cancelled_too(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = placed(source)
    create = source.blobs.create

    def cancelled_meanwhile(container: str, name: str, content: bytes) -> bool:
        if container == "journal":
            monkeypatch.setattr(source.blobs, "create", create)
            stop(source.blobs, WHOLE)
        return create(container, name, content)

    monkeypatch.setattr(source.blobs, "create", cancelled_meanwhile)
    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
        order_portion(source.side, order)
    assert states(source.portions(1)[0]) == "requested cancelled"


def test_whole_that_was_called_off_orders_no_further_portion(source: Source) -> None:
    order = placed(source)
    stop(source.blobs, WHOLE)
    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
        order_portion(source.side, order)
    assert source.portions(1)[0].entries == ()


@pytest.mark.parametrize("is_running", [True, False])
def test_portion_is_at_work_as_long_as_its_whole(source: Source, is_running: bool) -> None:
    order_portion(source.side, placed(source))
    client = DurableClient()
    if is_running:
        client.add(WHOLE, state=RuntimeStatus.Running)
    asyncio.run(reconciling.Reconciler(source.side, client, START + DAY).run())
    assert client.started == []
    state = source.portions(1)[0].state
    assert state is (State.REQUESTED if is_running else State.FAILED)
