"""What lies there of transfers that ended is removed after a while: all of it, and nothing else."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.states import Kind, State
from function_app.journal.store import JournalStore, forget_journals
from function_app.messages import dump, read
from function_app.ports import SourceSide
from function_app.settings import SourceSettings
from function_app.source import removing
from function_app.source.exporting import start_export_run
from function_app.source.looking_up import tell_transfer
from function_app.source.removing import remove_ended
from function_app.source.sealing import seal_bundle
from function_app.source.wire import BlobAttempt
from function_app.storage.ledger import Ledger
from tests.bundles import CHANNEL
from tests.function_app.memory import ENVIRONMENT, START, Host, MemoryBlobs, MemoryPipelines, make_source
from tests.function_app.test_export import TRANSFER_ID, run
from tests.function_app.test_sealing import sealing_order

DAY = timedelta(days=1)
ARTIFACTS = [f"team/app:v{number}" for number in range(60)]
"""More than one run takes: the bundle has two blobs."""


class Source:
    """A source with one sealed transfer of two blobs."""

    def __init__(self) -> None:
        self.side: SourceSide
        self.blobs: MemoryBlobs
        self.side, self.blobs, registry = make_source()
        assert isinstance(self.side.pipelines, MemoryPipelines)
        self.pipelines = self.side.pipelines
        for artifact in ARTIFACTS:
            registry.push_image(*artifact.split(":"))
        self.journals = JournalStore(self.blobs, self.side.projection)

    def export(self, transfer_id: str = TRANSFER_ID, *artifacts: str) -> None:
        run(Host(self.side), *(artifacts or ARTIFACTS), transfer_id=transfer_id)

    def end(self, state: State = State.DELIVERED, transfer_id: str = TRANSFER_ID) -> None:
        facts = {"sequence": 1, "reason": "lost"} if state is State.VOIDED else {}
        self.journals.record(Kind.TRANSFERS, transfer_id, state, facts, by="receipt", at=START + DAY)

    def remove(self, now: datetime = START + 31 * DAY) -> None:
        remove_ended(self.side, now=now)

    def left(self, transfer_id: str = TRANSFER_ID) -> list[str]:
        """What lies there of a transfer, outside what is kept for ever."""
        return [
            f"{container}/{name}"
            for container in ("transfer", "work")
            for name in self.blobs.names(container)
            if transfer_id in name
        ]

    def removal(self, transfer_id: str = TRANSFER_ID) -> dict[str, Any] | None:
        last = self.journals.read(Kind.REMOVALS, transfer_id).last
        return None if last is None else dict(last.facts)


@pytest.fixture
def source() -> Source:
    made = Source()
    made.export()
    return made


def test_all_of_a_delivered_transfer_is_removed_after_its_days_and_that_is_on_record(source: Source) -> None:
    source.end()
    assert len(source.pipelines.requests) == 2
    ledger = dict(source.blobs.containers["ledger"])
    source.remove()
    assert source.left() == []
    assert source.pipelines.requests == {}
    assert source.blobs.containers["ledger"] == ledger
    journal = source.journals.read(Kind.TRANSFERS, TRANSFER_ID)
    assert journal.state is State.DELIVERED
    assert source.removal() == {"state": "delivered", "endedAt": "2026-11-24T08:00:00Z", "keptDays": 30}
    told = dump(asyncio.run(tell_transfer(source.side, journal, with_request=True)))
    assert (told["state"], told["removedAt"]) == ("delivered", "2026-12-24T08:00:00Z")
    assert told["request"]["artifacts"] is None


def test_nothing_is_removed_a_second_before_its_time_or_before_it_has_ended(source: Source) -> None:
    before, runs = source.left(), dict(source.pipelines.requests)
    source.remove(START + 3000 * DAY)  # sealed: whoever carries it may need it
    source.end()
    source.remove(START + 31 * DAY - timedelta(seconds=1))
    assert (source.left(), source.pipelines.requests, source.removal()) == (before, runs, None)


def test_how_long_it_is_kept_is_a_setting(source: Source) -> None:
    source.end()
    settings = SourceSettings.from_environment(ENVIRONMENT | {"ENDED_TRANSFER_DAYS": "2"})
    source.side = replace(source.side, settings=settings)
    source.remove(START + 3 * DAY - timedelta(seconds=1))
    assert source.removal() is None
    source.remove(START + 3 * DAY)
    assert source.left() == []


@pytest.mark.parametrize("state", [State.VOIDED, State.EXPIRED])
def test_bundle_that_was_given_up_or_has_expired_is_removed(source: Source, state: State) -> None:
    source.end(state)
    source.remove()
    assert (source.left(), source.removal() is not None) == ([], True)
    assert Ledger(source.blobs).numbers(CHANNEL) == [1]


@pytest.mark.parametrize("state", [State.CANCELLED, State.FAILED])
def test_half_made_transfer_is_removed(state: State) -> None:
    source = Source()
    host = Host(source.side)
    original = host.activity

    def broken_off(name: str, attempts: int, order: Any) -> Any:
        if name == "divide_blobs":
            source.end(state)
        return original(name, attempts, order)

    host.activity = broken_off  # type: ignore[method-assign]  # to interfere
    run(host, *ARTIFACTS)
    assert f"transfer/{TRANSFER_ID}/001" in source.left()
    source.remove()
    assert (source.left(), source.pipelines.requests) == ([], {})


def test_dry_run_has_no_runs_to_be_removed(source: Source) -> None:
    other = "fedcba9876543210fedcba9876543210"
    run(Host(source.side), "team/app:v1", transfer_id=other, dry_run=True)
    source.pipelines.delete_run = None  # type: ignore[assignment,method-assign]  # it is not called
    source.remove(START + 31 * DAY)
    assert source.left(other) == []


def test_what_is_of_no_transfer_is_left_alone(source: Source) -> None:
    source.end()
    strange = ["strange0001/001", "UPPER/001", "alone"]
    for name in strange:
        source.blobs.upload("transfer", name, b"x")
    source.remove(START + 3000 * DAY)
    assert source.blobs.names("transfer") == sorted(strange)


def test_round_removes_so_much_and_later_ones_the_rest(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.end()
    count = len(source.left())
    monkeypatch.setattr(removing, "_MOST", 4)
    rounds = 0
    while source.removal() is None:
        before = len(source.left()) + len(source.pipelines.requests)
        source.remove(START + (31 + rounds) * DAY)
        assert before - len(source.left()) - len(source.pipelines.requests) <= 5  # beside the manifest
        rounds += 1
        assert rounds < 100
    assert rounds > count / 5
    assert (source.left(), source.pipelines.requests) == ([], {})


def test_what_is_half_removed_is_offered_to_nobody_and_begun_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source()
    host = Host(source.side)
    original, orders = host.activity, []

    def listening(name: str, attempts: int, order: Any) -> Any:
        if name == "start_export_run":
            orders.append(read(order, BlobAttempt))
        return original(name, attempts, order)

    host.activity = listening  # type: ignore[method-assign]  # a probe
    run(host, *ARTIFACTS)
    source.end()
    monkeypatch.setattr(removing, "_MOST", 1)
    source.remove()
    assert source.blobs.names("transfer") == [f"{TRANSFER_ID}/002"]
    assert f"work/plans/{TRANSFER_ID}/plan.json" in source.left()
    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
        start_export_run(source.side, orders[0])


class Broken:
    """Raises once, at the n-th deletion."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "storage")


def test_removal_that_is_broken_off_anywhere_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 100):
        source = Source()
        source.export(TRANSFER_ID, "team/app:v1")
        source.end()
        broken = Broken(number)
        delete, delete_run = source.blobs.delete, source.pipelines.delete_run

        def deleting(*args: Any, delete: Any = delete, broken: Broken = broken, **more: Any) -> None:
            broken()
            delete(*args, **more)

        def deleting_run(name: str, delete_run: Any = delete_run, broken: Broken = broken) -> None:
            broken()
            delete_run(name)

        monkeypatch.setattr(source.blobs, "delete", deleting)
        monkeypatch.setattr(source.pipelines, "delete_run", deleting_run)
        source.remove()
        is_through = broken.left > 0
        assert is_through or source.left() != []
        source.remove(START + 32 * DAY)
        assert (source.left(), source.pipelines.requests) == ([], {})
        assert source.removal() is not None
        if is_through:
            break
    assert number > 8


def test_one_that_cannot_be_removed_stops_no_other(source: Source) -> None:
    other = "fedcba9876543210fedcba9876543210"
    source.export(other, "team/app:v1")
    source.end()
    source.end(transfer_id=other)
    entry = f"transfers/{TRANSFER_ID}/00000002.json"
    source.blobs.put("journal", entry, b"{}")
    forget_journals()
    source.remove(START + 31 * DAY)
    assert source.left() != []
    assert source.left(other) == []


def test_each_of_many_has_its_turn(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "_AT_ONCE", 1)
    source.end()
    source.blobs.upload("transfer", "00000000000000000000000000000000/001", b"x")  # looked at first
    for hours in range(2):
        source.remove(START + 31 * DAY + timedelta(hours=hours))
    assert source.left() == []


def test_activity_that_comes_late_exports_and_publishes_nothing_of_what_was_removed() -> None:
    source = Source()
    sealing = sealing_order(source.side)
    about = sealing.transfer_id
    seal_bundle(source.side, sealing)
    source.end(transfer_id=about)
    source.remove()
    seal_bundle(source.side, sealing)
    late = BlobAttempt(transfer_id=about, number=0, attempt=1, plan="0" * 64, batch=None)
    with pytest.raises((ServiceError, PolicyRefusal)):
        start_export_run(source.side, late)
    assert source.blobs.names("transfer") == []
    assert source.pipelines.requests == {}
