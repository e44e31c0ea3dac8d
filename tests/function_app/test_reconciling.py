"""What orchestrations left behind: each case is made by the real steps, and taken up by one round."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.manifest import ENVELOPE_NAME
from airgap.states import Kind, State
from function_app.journal import rebuild
from function_app.journal.store import JournalStore, forget_journals, row_of
from function_app.messages import Item
from function_app.ports import RowFilter, TargetSide
from function_app.source import reconciling as source_reconciling
from function_app.source.planning import REQUEST
from function_app.source.wire import RequestDocument
from function_app.storage import pages
from function_app.storage.door import SHARED_PLACES, Door
from function_app.storage.paths import closing_path
from function_app.storage.turns import Turns
from function_app.storage.work_folder import WorkFolder
from function_app.target import closing as target_closing
from function_app.target import reconciling as target_reconciling
from function_app.target.closing import record_decision
from function_app.target.custody import take_custody
from function_app.target.importing import promote_blob, start_import_run
from function_app.target.intake import start_import
from function_app.target.orchestrators import closing_instance
from function_app.target.proving import prove_artifacts
from function_app.target.verifying import hash_staged_parts
from function_app.target.wire import Closing, HeldUpload
from tests.bundles import AUDIENCE, CHANNEL, TRANSFER_ID, Bundle, new_key
from tests.function_app.durable_client import DurableClient, RuntimeStatus, Status
from tests.function_app.memory import START, Host, MemoryBlobs, make_source
from tests.function_app.memory_projection import MemoryProjection
from tests.function_app.test_closing import closing
from tests.function_app.test_import import Target, bundle_of

ENDED = (RuntimeStatus.Completed, RuntimeStatus.Failed, RuntimeStatus.Terminated)
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@dataclass
class TargetRound:
    """A target, and rounds of its reconciler against a durable client."""

    target: Target = field(default_factory=Target)
    client: DurableClient = field(default_factory=DurableClient)

    @property
    def blobs(self) -> MemoryBlobs:
        return self.target.blobs

    def run(self, now: datetime = NOON) -> None:
        asyncio.run(target_reconciling.Reconciler(self.target.side, self.client, now).run())

    def end_all(self) -> None:
        """Every orchestration that was started ends, and gives its place back."""
        for instance, status in self.client.instances.items():
            status.runtime_status = RuntimeStatus.Completed
            Door(self.blobs).leave(instance)

    def journal_state(self, instance: str) -> State | None:
        journals = JournalStore(self.blobs, self.target.side.projection)
        return journals.read(Kind.IMPORTS, instance).state


@pytest.mark.parametrize("state", ENDED)
def test_turn_and_place_of_an_orchestration_that_ended_are_freed(state: RuntimeStatus) -> None:
    scene = TargetRound()
    turns = Turns(scene.blobs, CHANNEL)
    turns.enter(1, "import0001")
    turns.enter(2, "import0002")
    assert turns.take("import0001")
    scene.client.add("import0001", state=state)
    scene.client.add("import0002", state=RuntimeStatus.Running)
    assert not turns.take("import0002")
    scene.run()
    assert turns.take("import0002")


def test_turn_of_a_running_orchestration_is_left_alone() -> None:
    scene = TargetRound()
    turns = Turns(scene.blobs, CHANNEL)
    turns.enter(1, "import0001")
    assert turns.take("import0001")
    scene.client.add("import0001", state=RuntimeStatus.Running)
    before = scene.blobs.names("work")
    scene.run()
    assert scene.blobs.names("work") == before


def test_turn_that_was_taken_by_another_meanwhile_is_not_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = TargetRound()
    turn = f"channels/{CHANNEL}/turn"
    scene.blobs.put("work", turn, b"import0001")
    stat = scene.blobs.stat

    def overtaken(container: str, name: str) -> Any:
        found = stat(container, name)
        scene.blobs.put("work", turn, b"import0002")
        return found

    monkeypatch.setattr(scene.blobs, "stat", overtaken)
    scene.run()
    assert scene.blobs.read("work", turn, max_bytes=100) == b"import0002"


class KilledError(BaseException):
    """The orchestration was terminated here."""


def killed_while(scene: TargetRound, activity: str) -> None:
    """An import whose orchestration was terminated as it was about to run ``activity``."""

    def kill() -> None:
        raise KilledError

    bundle = bundle_of()
    raw = scene.target.upload(bundle)
    scene.target.host.before[activity] = kill
    with pytest.raises(KilledError):
        scene.target.run(raw, instance="import0001")
    scene.client.add("import0001", state=RuntimeStatus.Terminated)


@pytest.mark.parametrize(
    "activity", ["admit_bundle", "take_turn", "hash_staged_parts", "promote_blob", "prove_artifacts"]
)
def test_import_that_was_terminated_is_decided_as_failed_closed_and_told_by_a_receipt(activity: str) -> None:
    scene = TargetRound()
    killed_while(scene, activity)
    scene.run()
    assert scene.journal_state("import0001") is State.FAILED
    closing = scene.client.instances["import0001-closing"]
    outcome = scene.target.host.run("close_import", closing.input_, "import0001-closing")
    assert outcome["closing"] == "closed"
    receipt = scene.target.receipt(outcome)
    assert receipt.code is Code.SERVICE_UNEXPECTED
    assert scene.journal_state("import0001") is State.QUARANTINED
    assert scene.blobs.names("incoming") == scene.blobs.names("transfer") == []
    assert [name for name in scene.blobs.names("work") if "importing" in name or "closing" in name] == []


def terminated_at_once(scene: TargetRound) -> tuple[Bundle, str]:
    """An upload whose orchestration was terminated before it was on record."""
    bundle = bundle_of()
    scene.target.upload(bundle)
    started = start_import(scene.client, scene.target.side, folder=TRANSFER_ID, now=START)
    instance = asyncio.run(started)
    assert instance is not None
    scene.client.instances[instance].runtime_status = RuntimeStatus.Terminated
    return bundle, instance


def test_upload_whose_orchestration_was_terminated_before_it_was_on_record_is_decided() -> None:
    """Its ETag is what an orchestration was started for, so that no event starts another."""
    scene = TargetRound()
    bundle, instance = terminated_at_once(scene)
    scene.run()
    assert scene.journal_state(instance) is State.RECEIVED
    scene.run(NOON + timedelta(minutes=11))
    assert scene.journal_state(instance) is State.FAILED
    order = scene.client.instances[closing_instance(instance)].input_
    outcome = scene.target.host.run("close_import", order, closing_instance(instance))
    assert scene.target.receipt(outcome).code is Code.SERVICE_UNEXPECTED
    assert scene.blobs.names("incoming") == []
    scene.target.upload(bundle)
    scene.run(NOON + timedelta(minutes=20))
    again = scene.client.started[-1]
    assert scene.target.run(bundle.envelope, instance=again)["outcome"] == "imported"
    assert len(scene.blobs.names("receipts")) == 2


def test_orchestration_that_was_started_just_now_puts_its_upload_on_record_itself() -> None:
    scene = TargetRound()
    _, instance = terminated_at_once(scene)
    scene.client.instances[instance].runtime_status = RuntimeStatus.Pending
    scene.run()
    assert scene.journal_state(instance) is None


def unlisted(scene: TargetRound, about: str) -> None:
    """An import that began while the table was away, or whose worker died just then."""
    journals = JournalStore(scene.blobs, MemoryProjection())
    facts = {"incoming": about, "manifestEtag": "any", "envelopeSha256": "0" * 64}
    journals.record(Kind.IMPORTS, about, State.RECEIVED, facts, by="app", at=START)


def test_import_that_is_in_no_list_and_has_no_place_is_decided() -> None:
    """Its first step has written late: its place at the door was freed before, and its upload is gone."""
    scene = TargetRound()
    unlisted(scene, "import0001")
    scene.client.add("import0001", state=RuntimeStatus.Terminated)
    for number in range(2):
        scene.run(NOON + timedelta(minutes=5 * number))
    assert scene.journal_state("import0001") is State.FAILED
    assert closing_instance("import0001") in scene.client.started


def test_some_journals_are_listed_each_round_and_a_broken_one_keeps_none_from_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rebuild, "_ENTRIES_AT_ONCE", 2)
    scene = TargetRound()
    for number in range(5):
        unlisted(scene, f"import000{number}")
        scene.client.add(f"import000{number}", state=RuntimeStatus.Running)
    scene.blobs.put("journal", "imports/import0001/00000001.json", b"{}")
    scene.blobs.put("journal", "imports/readme.txt", b"")
    forget_journals()

    def listed() -> list[str]:
        rows, _ = scene.target.side.projection.page(Kind.IMPORTS, where=RowFilter(), limit=10)
        return [row.about for row in rows]

    told = []
    for _ in range(3):
        scene.run()
        told.append(listed())
    assert told[0] == ["import0000"]
    assert told[1] == ["import0000", "import0002", "import0003"]
    assert told[2] == ["import0000", "import0002", "import0003", "import0004"]
    assert "imports/import0001: JOURNAL_BROKEN" in caplog.text


def test_lists_that_cannot_be_completed_now_are_completed_by_a_later_round() -> None:
    scene = TargetRound()
    unlisted(scene, "import0001")
    scene.client.add("import0001", state=RuntimeStatus.Running)
    table = scene.target.side.projection
    assert isinstance(table, MemoryProjection)
    table.is_away = True
    scene.run()
    table.is_away = False
    scene.run(NOON + timedelta(minutes=5))
    assert [about for _, about in table.rows] == ["import0001"]


def test_import_that_cannot_be_decided_now_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = TargetRound()
    killed_while(scene, "take_turn")
    journals = JournalStore(scene.blobs, scene.target.side.projection)
    facts = {"incoming": "x", "manifestEtag": "x", "envelopeSha256": "0" * 64}
    journals.record(Kind.IMPORTS, "import0000", State.RECEIVED, facts, by="app", at=START)
    scene.client.add("import0000", state=RuntimeStatus.Failed)

    def broken_for_one(side: Any, order: Any) -> Any:
        if order.instance == "import0000":
            raise ServiceError(Code.SERVICE_UNREACHABLE, "work")
        return record_decision(side, order)

    monkeypatch.setattr("function_app.target.reconciling.record_decision", broken_for_one)
    scene.run()
    assert scene.journal_state("import0001") is State.FAILED


def test_import_that_said_something_just_now_is_not_given_up() -> None:
    scene = TargetRound()
    killed_while(scene, "take_turn")
    scene.run(now=scene.target.host.now + timedelta(minutes=5))
    assert scene.journal_state("import0001") is State.WAITING


def test_closing_that_was_put_off_is_done_later() -> None:
    scene = TargetRound()
    scene.target.host.broken["issue_receipt"] = 10**9
    assert scene.target.receive(bundle_of())["closing"] == "put off"
    scene.client.add("import0001", state=RuntimeStatus.Completed)
    scene.client.add("import0001-closing", state=RuntimeStatus.Completed)
    scene.target.host.broken.clear()
    scene.run()
    order = scene.client.instances["import0001-closing"].input_
    outcome = scene.target.host.run("close_import", order, "import0001-closing")
    assert scene.target.receipt(outcome).is_imported
    assert scene.blobs.in_work() == []
    assert scene.journal_state("import0001") is State.CLOSED
    started = len(scene.client.started)
    scene.run()
    assert len(scene.client.started) == started  # nothing is left to be done


def test_closing_that_is_under_way_is_not_started_again() -> None:
    scene = TargetRound()
    scene.target.host.broken["issue_receipt"] = 10**9
    scene.target.receive(bundle_of())
    scene.client.add("import0001", state=RuntimeStatus.Completed)
    scene.client.add("import0001-closing", state=RuntimeStatus.Running)
    scene.run()
    assert "import0001-closing" not in scene.client.started


@pytest.mark.parametrize("activity", ["clean_up", "record_state", "forget_closing"])
def test_closing_that_broke_off_near_its_end_signs_no_second_receipt(activity: str) -> None:
    scene = TargetRound()
    host = scene.target.host

    def kill() -> None:
        raise KilledError

    # The entry that closes is the last that is written, after the cleaning up.
    if activity == "record_state":
        host.before["clean_up"] = lambda: host.before.update(record_state=kill)
    else:
        host.before[activity] = kill
    with pytest.raises(KilledError):
        scene.target.receive(bundle_of())
    scene.client.add("import0001", state=RuntimeStatus.Terminated)
    scene.client.add("import0001-closing", state=RuntimeStatus.Terminated)
    scene.run()
    if "import0001-closing" in scene.client.started:
        order = scene.client.instances["import0001-closing"].input_
        outcome = host.run("close_import", order, "import0001-closing")
        assert outcome["closing"] == "closed"
    assert len(scene.blobs.names("receipts")) == 1
    assert scene.journal_state("import0001") is State.CLOSED
    assert scene.blobs.in_work() == []


def test_decision_that_is_delivered_late_again_closes_nothing_a_second_time() -> None:
    scene = TargetRound()
    scene.target.receive(bundle_of())
    scene.client.add("import0001", state=RuntimeStatus.Completed)
    scene.client.add("import0001-closing", state=RuntimeStatus.Completed)
    target_closing.record_decision(scene.target.side, closing_of(scene, outcome="imported", code=None))
    scene.run()
    assert scene.client.started == []
    assert len(scene.blobs.names("receipts")) == 1
    assert scene.blobs.in_work() == []


def test_import_that_was_closed_while_it_was_looked_at_is_not_told_as_failed() -> None:
    scene = TargetRound()
    scene.target.receive(bundle_of())
    scene.client.add("import0001", state=RuntimeStatus.Completed)
    late = closing_of(scene, outcome="failed", code=Code.SERVICE_UNEXPECTED.name)
    target_closing.record_decision(scene.target.side, late)
    scene.run()
    assert scene.client.started == []
    assert scene.journal_state("import0001") is State.CLOSED
    assert len(scene.blobs.names("receipts")) == 1


def closing_of(scene: TargetRound, *, outcome: Literal["imported", "failed"], code: str | None) -> Closing:
    first = JournalStore(scene.blobs, scene.target.side.projection).read(Kind.IMPORTS, "import0001").first
    assert first is not None
    return Closing(
        incoming=first.facts["incoming"],
        manifest_etag=first.facts["manifestEtag"],
        envelope_sha256=first.facts["envelopeSha256"],
        instance="import0001",
        decided_at="2026-11-24T12:00:00Z",
        outcome=outcome,
        code=code,
        detail="",
    )


@pytest.mark.parametrize(
    "step", [take_custody, hash_staged_parts, promote_blob, start_import_run, prove_artifacts]
)
def test_lanes_of_an_import_that_was_terminated_start_nothing_more(
    step: Callable[[TargetSide, Item], object],
) -> None:
    scene = TargetRound()
    killed_while(scene, step.__name__)
    asyncio.run(target_reconciling.Reconciler(scene.target.side, scene.client, NOON).end_orphans())
    with pytest.raises(PolicyRefusal, match="called off"):
        step(scene.target.side, Item(owner="import0001", number=0))


def test_note_that_cannot_be_read_keeps_no_other_import_from_being_closed() -> None:
    scene = TargetRound()
    scene.target.host.broken["issue_receipt"] = 10**9
    scene.target.receive(bundle_of())
    scene.client.add("import0001", state=RuntimeStatus.Completed)
    scene.client.add("import0001-closing", state=RuntimeStatus.Completed)
    scene.blobs.put("work", "closing/import0000.json", b'{"schema":2}')
    scene.run()
    assert "import0001-closing" in scene.client.started


def test_second_round_at_once_starts_no_closing_again_and_does_the_rest_of_its_work() -> None:
    scene = TargetRound()
    scene.target.host.broken["issue_receipt"] = 10**9
    scene.target.receive(bundle_of())
    scene.client.add("import0001", state=RuntimeStatus.Completed)
    scene.client.racing = Status("import0001-closing", "close_import", RuntimeStatus.Running)
    scene.blobs.upload("incoming", f"another0001/{ENVELOPE_NAME}", b"another")
    scene.run()
    assert "import0001-closing" not in scene.client.started
    assert f"import{hashlib.sha256(b'another').hexdigest()[:32]}" in scene.client.started


def test_turn_behind_any_number_of_others_is_freed() -> None:
    scene = TargetRound()
    for number in range(1, 121):
        Turns(scene.blobs, "a-channel").enter(number, f"import1{number:03d}")
        scene.client.add(f"import1{number:03d}", state=RuntimeStatus.Running)
    turns = Turns(scene.blobs, "b-channel")
    turns.enter(1, "import0001")
    turns.enter(2, "import0002")
    assert turns.take("import0001")
    scene.client.add("import0002", state=RuntimeStatus.Running)
    for tick in range(2):
        scene.run(NOON + timedelta(minutes=5 * tick))
    assert turns.take("import0002")


def test_turn_that_changed_hands_before_it_was_looked_at_is_not_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = TargetRound()
    turn = f"channels/{CHANNEL}/turn"
    scene.blobs.put("work", turn, b"import0001")
    scene.client.add("import0002", state=RuntimeStatus.Running)
    read = scene.blobs.read

    def overtaken(container: str, name: str, *, max_bytes: int, etag: str | None = None) -> bytes | None:
        found = read(container, name, max_bytes=max_bytes, etag=etag)
        scene.blobs.put("work", turn, b"import0002")
        return found

    monkeypatch.setattr(scene.blobs, "read", overtaken)
    scene.run()
    monkeypatch.undo()
    assert scene.blobs.read("work", turn, max_bytes=100) == b"import0002"


def test_manifest_whose_event_never_came_is_imported_and_only_once() -> None:
    scene = TargetRound()
    raw = scene.target.upload(bundle_of())
    scene.run()
    instance = f"import{hashlib.sha256(raw).hexdigest()[:32]}"
    assert scene.client.started == [instance]
    scene.run(NOON + timedelta(minutes=5))
    assert scene.client.started == [instance]


def test_of_many_waiting_manifests_each_gets_its_round() -> None:
    scene = TargetRound()
    for number in range(45):
        scene.blobs.upload("incoming", f"transfer{number:04d}/{ENVELOPE_NAME}", str(number).encode())
    for tick in range(3):
        scene.run(NOON + timedelta(minutes=5 * tick))
        scene.end_all()
    assert len(scene.client.started) == 45


def test_uploads_that_are_refused_have_few_places_and_wait_for_a_free_one() -> None:
    scene = TargetRound()
    for number in range(3 * SHARED_PLACES):
        scene.blobs.upload("incoming", f"transfer{number:04d}/{ENVELOPE_NAME}", str(number).encode())
    for tick in range(20):
        scene.run(NOON + timedelta(minutes=5 * tick))
    assert len(scene.client.started) == SHARED_PLACES
    first = scene.client.started[0]
    refused = scene.target.host.run("import_bundle", scene.client.instances[first].input_, first)
    assert refused["closing"] == "closed"
    scene.client.instances[first].runtime_status = RuntimeStatus.Completed
    for tick in range(20, 24):
        scene.run(NOON + timedelta(minutes=5 * tick))
    assert len(scene.client.started) == SHARED_PLACES + 1


def test_bundle_that_is_accepted_waits_for_none_of_those_that_are_refused() -> None:
    scene = TargetRound()
    for number in range(2 * SHARED_PLACES):
        scene.blobs.upload("incoming", f"a{number:08d}/{ENVELOPE_NAME}", str(number).encode())
    for tick in range(4):
        scene.run(NOON + timedelta(minutes=5 * tick))
    bundle = bundle_of()
    scene.target.upload(bundle)
    instance = asyncio.run(start_import(scene.client, scene.target.side, folder=bundle.transfer_id, now=NOON))
    assert instance is not None
    order = scene.client.instances[instance].input_
    assert scene.target.host.run("import_bundle", order, instance)["outcome"] == "imported"


def test_one_accepted_bundle_in_any_number_of_envelopes_has_one_place_of_its_own() -> None:
    """Whoever has an envelope can sign it once more with a key of his own: other bytes, accepted as well."""
    scene = TargetRound()
    bundle = bundle_of()
    envelope = Envelope.from_bytes(bundle.envelope)
    for _ in range(3 * SHARED_PLACES):
        own = Envelope.sign(envelope.payload, [new_key().signer]).signatures
        copy = replace(envelope, signatures={**envelope.signatures, **own})
        scene.target.upload(bundle, envelope=copy.to_bytes())
        asyncio.run(start_import(scene.client, scene.target.side, folder=bundle.transfer_id, now=NOON))
    assert len(scene.client.started) == 1 + SHARED_PLACES


def test_place_of_an_import_that_was_terminated_is_freed_after_a_while() -> None:
    scene = TargetRound()
    scene.target.upload(bundle_of())
    scene.run(START)
    (place,) = Door(scene.blobs).held()
    scene.client.instances[place.instance].runtime_status = RuntimeStatus.Terminated
    scene.run(START + timedelta(minutes=9))
    scene.run(START + timedelta(minutes=18))
    assert list(Door(scene.blobs).held()) == [place]  # on record for nine minutes
    scene.run(START + timedelta(minutes=20))
    assert list(Door(scene.blobs).held()) == []
    assert scene.journal_state(place.instance) is State.FAILED


def test_manifest_is_reached_whatever_lies_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MAX_PAGES", 3)
    scene = TargetRound()
    for number in range(500):
        scene.blobs.upload("incoming", f"a/{number:04d}", b"")
    raw = scene.target.upload(bundle_of())
    instance = f"import{hashlib.sha256(raw).hexdigest()[:32]}"
    rounds = 0
    while instance not in scene.client.started:
        assert rounds < 10
        scene.run(NOON + timedelta(minutes=5 * rounds))
        rounds += 1
    assert rounds == 9


def test_one_part_of_a_round_that_fails_keeps_no_other_from_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = TargetRound()
    scene.target.upload(bundle_of())
    list_names = scene.blobs.list_names

    def away(container: str, prefix: str) -> Any:
        if (container, prefix) == ("work", "channels/"):
            raise ServiceError(Code.SERVICE_UNREACHABLE, "work")
        return list_names(container, prefix)

    monkeypatch.setattr(scene.blobs, "list_names", away)
    scene.run()
    assert len(scene.client.started) == 1


def test_closing_is_resumed_whatever_lies_before_it() -> None:
    scene = TargetRound()
    for number in range(250):
        scene.blobs.put("work", f"closing/a{number:03d}.json", b'{"schema": 99}')
    note = closing(instance="zimport1", outcome="failed", code=Code.SERVICE_UNEXPECTED.name)
    scene.blobs.put("work", closing_path("zimport1"), msgspec.json.encode(note))
    for number in range(3):
        scene.run(NOON + timedelta(minutes=5 * number))
    assert scene.client.started == [closing_instance("zimport1")]


def test_hold_that_was_lost_is_told_whatever_is_held_before_it() -> None:
    scene = TargetRound()
    journals = JournalStore(scene.blobs, scene.target.side.projection)
    states = (*(State.RECEIVED, State.ADMITTED, State.WAITING, State.DAMAGED), State.HELD)
    for number in range(150):
        instance = f"import{number:04d}"
        for state in states:
            at = START + timedelta(seconds=150 - number)
            journals.record(Kind.IMPORTS, instance, state, {"incoming": instance}, by="app", at=at)
        if number < 149:  # newest first: the last is the one that was lost
            order = closing(incoming=instance, instance=instance, outcome="refused", code="PART_CORRUPT")
            held = HeldUpload(closing=order, blobs=(), until="2027-01-01T00:00:00Z", damaged=())
            scene.blobs.put("work", f"held/{instance}.json", msgspec.json.encode(held))
    for number in range(2):
        scene.run(NOON + timedelta(minutes=5 * number))
    assert scene.journal_state("import0149") is State.SUPERSEDED
    assert scene.journal_state("import0000") is State.HELD


# --- the source --------------------------------------------------------------------------------------------


class SourceRound:
    """A source with one recorded order."""

    def __init__(self, *, with_request: bool = True, expires_in_s: int = 3600) -> None:
        self.side, self.blobs, registry = make_source()
        registry.push_image("team/app", "v1")
        self.client = DurableClient()
        self.journals = JournalStore(self.side.blobs, self.side.projection)
        request = RequestDocument(
            artifacts=("team/app:v1",),
            channel=CHANNEL,
            audience=tuple(AUDIENCE),
            expires_in_seconds=expires_in_s,
            referrers="all",
        )
        facts = {
            "channel": CHANNEL,
            "audience": list(AUDIENCE),
            "requestSha256": request.order_sha256,
        }
        self.journals.record(*(Kind.TRANSFERS, TRANSFER_ID, State.REQUESTED, facts), by="caller", at=START)
        if with_request:
            WorkFolder(self.blobs, TRANSFER_ID).create(REQUEST, request)

    def run(self, now: datetime = NOON) -> None:
        asyncio.run(source_reconciling.Reconciler(self.side, self.client, now).run())

    @property
    def state(self) -> State | None:
        return self.journals.read(Kind.TRANSFERS, TRANSFER_ID).state


def test_order_that_was_recorded_and_never_started_is_started() -> None:
    scene = SourceRound()
    scene.run()
    assert scene.client.started == [TRANSFER_ID]
    order = scene.client.instances[TRANSFER_ID].input_
    assert Host(scene.side).run("export_transfer", order, TRANSFER_ID)["outcome"] == "sealed"


def test_order_that_is_in_no_list_is_listed_and_started() -> None:
    scene = SourceRound()
    table = scene.side.projection
    assert isinstance(table, MemoryProjection)
    table.rows.clear()
    for is_away in (True, False, False):
        table.is_away = is_away
        with suppress(ServiceError):  # of what is looked for in the lists
            scene.run()
    assert scene.client.started == [TRANSFER_ID]


def test_order_of_a_moment_ago_is_left_to_whoever_is_starting_it() -> None:
    scene = SourceRound()
    scene.run(START + timedelta(minutes=9))
    assert scene.client.started == []


def test_order_whose_request_was_never_written_is_told_as_failed() -> None:
    scene = SourceRound(with_request=False)
    scene.run()
    assert scene.state is State.FAILED


@pytest.mark.parametrize("state", ENDED)
def test_transfer_whose_orchestration_ended_without_a_word_has_failed(state: RuntimeStatus) -> None:
    scene = SourceRound()
    scene.client.add(TRANSFER_ID, state=state)
    scene.run()
    assert scene.state is State.FAILED
    assert scene.client.started == []


def test_transfer_that_was_broken_off_while_it_was_sealed_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = SourceRound()
    scene.run()
    order = scene.client.instances[TRANSFER_ID].input_
    create = scene.blobs.create

    def states() -> list[State | None]:
        return [scene.state]

    def broken(container: str, name: str, content: bytes) -> bool:
        if container == "transfer" and name.endswith(".json"):
            raise KeyboardInterrupt
        return create(container, name, content)

    monkeypatch.setattr(scene.blobs, "create", broken)
    with pytest.raises(KeyboardInterrupt):  # as if it had been killed
        Host(scene.side).run("export_transfer", order, TRANSFER_ID)
    monkeypatch.undo()
    assert states() == [State.SEALING]
    scene.client.add(TRANSFER_ID, state=RuntimeStatus.Terminated)
    scene.run(NOON + timedelta(hours=1))
    assert states() == [State.SEALED]
    assert f"{TRANSFER_ID}/bundle-manifest.dsse.json" in scene.blobs.names("transfer")


def test_running_transfer_is_left_alone() -> None:
    scene = SourceRound()
    scene.client.add(TRANSFER_ID, state=RuntimeStatus.Running)
    scene.run()
    assert scene.state is State.REQUESTED


def test_projection_that_is_behind_is_brought_up_to_date_and_decides_nothing() -> None:
    scene = SourceRound()
    behind = row_of(scene.journals.read(Kind.TRANSFERS, TRANSFER_ID))
    scene.journals.record(Kind.TRANSFERS, TRANSFER_ID, State.CANCELLED, {}, by="caller", at=START)
    scene.side.projection.rows.clear()  # type: ignore[attr-defined]  # the double's
    scene.side.projection.put(behind)
    scene.run()
    assert scene.state is State.CANCELLED
    assert scene.client.started == []
    rows, _ = scene.side.projection.page(Kind.TRANSFERS, where=RowFilter(), limit=10)
    assert [row.state for row in rows] == [State.CANCELLED]
