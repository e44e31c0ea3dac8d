"""Changes of state told outside: none is lost, none is out of order, and no transfer waits for it."""

import json
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.errors import Code, ServiceError
from airgap.journal import Journal
from airgap.states import TRANSITIONS, Kind, State
from function_app.events.cloud_event import CloudEvent, event_of, type_of
from function_app.events.delivering import deliver_events
from function_app.journal.store import JournalStore, forget_journals
from function_app.ports import SourceSide
from function_app.settings import Role
from function_app.storage.event_notes import Trouble, with_notes
from tests.bundles import TRANSFER_ID
from tests.function_app.memory import START, Host, MemoryBlobs, MemoryReceiver, make_source
from tests.function_app.test_reconciling import SourceRound

LIFE = (State.REQUESTED, State.PLANNED, State.EXPORTING, State.HASHING, State.SEALING, State.SEALED)
MINUTE = timedelta(minutes=1)


class Scene:
    """A source that tells a receiver, a minute at a time."""

    def __init__(self, side: SourceSide | None = None) -> None:
        side = side or make_source()[0]
        self.receiver = MemoryReceiver()
        assert isinstance(side.blobs, MemoryBlobs)
        self.blobs = side.blobs
        self.side = replace(side, blobs=with_notes(side.blobs), events=self.receiver)
        self.now = START
        self.blobs.now = START

    def note(self, about: str, *states: State, **facts: Any) -> None:
        for state in states:
            JournalStore(self.side.blobs, self.side.projection).record(
                Kind.TRANSFERS, about, state, facts, by="app", at=self.now
            )

    def round(self, role: Role = "source", *, rounds: int = 1) -> None:
        for _ in range(rounds):
            deliver_events(role, self.side, lambda: self.now)
            self.now += MINUTE
            self.blobs.now = self.now

    @property
    def told(self) -> list[str]:
        """Ids of the events that were taken, in order."""
        return [event["id"] for event in self.receiver.taken]

    @property
    def noted(self) -> list[str]:
        return sorted(name for name in self.blobs.containers["work"] if name.startswith("events/"))


def ids(about: str, count: int) -> list[str]:
    return [f"transfers/{about}/{number}" for number in range(1, count + 1)]


def test_each_state_of_a_transfer_is_told_once_and_in_order() -> None:
    made = SourceRound()
    scene = Scene(made.side)
    made.run()
    host = Host(scene.side)
    host.run("export_transfer", made.client.instances[TRANSFER_ID].input_, TRANSFER_ID)
    scene.round()
    journal = JournalStore(scene.side.blobs, scene.side.projection).read(Kind.TRANSFERS, TRANSFER_ID)
    told = [event["data"]["state"] for event in scene.receiver.taken]
    # The order was recorded before there was a receiver.
    assert told == [entry.state.value for entry in journal.entries[1:]]
    assert [event["sequence"] for event in scene.receiver.taken] == sorted(
        event["sequence"] for event in scene.receiver.taken
    )
    assert journal.state is State.SEALED
    assert scene.noted == []


def test_event_says_what_the_list_tells_and_nothing_more() -> None:
    scene = Scene()
    facts = {"channel": "prod", "audience": ["t.azurecr.io"], "requestSha256": "ab", "artifacts": 2}
    scene.note("0123456789", State.REQUESTED, **facts)
    scene.note("0123456789", State.REFUSED, code="ARTIFACT_NOT_FOUND", detail="team/secret:v1")
    scene.round()
    assert scene.receiver.taken[1] == {
        "specversion": "1.0",
        "id": "transfers/0123456789/2",
        "source": f"urn:acr-airgap-transfer:source:{scene.side.settings.registry_login_server}",
        "type": "urn:acr-airgap-transfer:event:transfers:refused",
        "subject": "transfers/0123456789",
        "time": "2026-11-23T08:00:00Z",
        "sequence": "00000002",
        "datacontenttype": "application/json",
        "data": {
            "id": "0123456789",
            "state": "refused",
            "previousState": "requested",
            "number": 2,
            "channel": "prod",
            "code": "ARTIFACT_NOT_FOUND",
            "link": "/api/transfers/0123456789",
        },
    }


@pytest.mark.parametrize(("kind", "state"), [(kind, one) for kind in Kind for one in TRANSITIONS[kind]])
def test_every_state_of_every_journal_has_a_type(kind: Kind, state: State) -> None:
    """Those that OpenAPI describes, and attributes with the characters that CloudEvents allows."""
    assert type_of(kind, state) == f"urn:acr-airgap-transfer:event:{kind.value}:{state.value}"
    assert all(name.isascii() and name.islower() for name in CloudEvent.__struct_encode_fields__)


def test_whoever_dies_between_note_and_entry_has_told_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    write = scene.blobs.create

    def die(container: str, name: str, content: bytes) -> bool:
        if container == "journal":
            raise ServiceError(Code.SERVICE_UNREACHABLE, "the process is gone")
        return write(container, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(scene.blobs, "create", die)
        with pytest.raises(ServiceError):
            scene.note("0123456789", State.REQUESTED)
    scene.round(rounds=60)
    assert (scene.told, len(scene.noted)) == ([], 1)
    scene.note("0123456789", State.REQUESTED)  # the activity runs again
    scene.round()
    assert scene.told == ids("0123456789", 1)


def test_note_of_an_entry_that_never_came_is_dropped_once_nobody_can_write_it_any_more() -> None:
    scene = Scene()
    scene.side.blobs.create("work", "events/transfers/0123456789/00000001.json", b"")
    scene.round(rounds=120)
    assert len(scene.noted) == 1
    scene.round(rounds=2)
    assert (scene.noted, scene.told) == ([], [])


def test_whoever_dies_after_the_receiver_took_it_tells_it_again_by_the_same_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    scene.note("0123456789", *LIFE[:2])

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(scene.blobs, "delete", die)
        patch.setattr("function_app.events.delivering.next_names", lambda *_, **__: scene.noted)
        with pytest.raises(SystemExit):
            scene.round()
    forget_journals()
    scene.round()
    assert scene.told == [*ids("0123456789", 1), *ids("0123456789", 2)]


def test_entries_written_while_the_receiver_was_down_all_come_in_order() -> None:
    scene = Scene()
    scene.receiver.refusal = lambda _: Code.SERVICE_UNREACHABLE
    for state in LIFE:
        scene.note("0123456789", state)
        scene.round()
    assert scene.told == []
    scene.receiver.refusal = lambda _: None
    scene.round(rounds=16)
    assert scene.told == ids("0123456789", len(LIFE))
    assert scene.noted == []


def test_event_that_is_never_taken_holds_up_only_what_comes_after_it_of_the_same_transfer() -> None:
    scene = Scene()
    scene.receiver.refusal = lambda one: Code.SERVICE_REJECTED if one.endswith("bad0000000/2") else None
    scene.note("bad0000000", *LIFE)
    scene.note("good000000", *LIFE)
    scene.round(rounds=60)
    assert scene.told == [*ids("bad0000000", 1), *ids("good000000", len(LIFE))]


def test_receiver_that_is_down_is_asked_ever_less_often_and_never_given_up() -> None:
    scene = Scene()
    scene.receiver.refusal = lambda _: Code.SERVICE_UNREACHABLE
    scene.note("0123456789", State.REQUESTED)
    asked = []
    for minute in range(61):
        before = len(scene.receiver.tries)
        scene.round()
        asked += [minute] * (len(scene.receiver.tries) - before)
    assert asked == [0, 1, 3, 7, 15, 30, 45, 60]


def test_round_against_a_receiver_that_is_away_ends_after_a_few_tries() -> None:
    scene = Scene()
    scene.receiver.refusal = lambda _: Code.SERVICE_UNREACHABLE
    for number in range(40):
        scene.note(f"transfer{number:02d}", State.REQUESTED)
    scene.round()
    assert len(scene.receiver.tries) == 5
    scene.round(rounds=7)
    assert len(set(scene.receiver.tries)) == 40  # the others have their turn
    scene.receiver.refusal = lambda _: None
    scene.round(rounds=16)
    assert len(scene.told) == 40


def test_any_number_of_events_that_are_never_taken_hold_up_no_other() -> None:
    scene = Scene()
    scene.receiver.refusal = lambda one: Code.SERVICE_REJECTED if "/bad" in one else None
    for number in range(200):
        scene.note(f"bad{number:07d}", State.REQUESTED)
    scene.note("good000000", State.REQUESTED)
    scene.round(rounds=60)
    scene.note("good000001", State.REQUESTED)
    scene.round(rounds=60)
    assert scene.told == [*ids("good000000", 1), *ids("good000001", 1)]


def test_throttled_round_ends_at_once() -> None:
    scene = Scene()
    scene.receiver.refusal = lambda _: Code.SERVICE_THROTTLED
    for number in range(3):
        scene.note(f"transfer{number:02d}", State.REQUESTED)
    scene.round()
    assert len(scene.receiver.tries) == 1


def test_slow_receiver_ends_a_round_and_not_the_next() -> None:
    """Each event takes it 20 seconds; a round takes up nothing after a minute and a half."""
    scene = Scene()

    def slowly(_: str) -> None:
        scene.now += timedelta(seconds=20)

    scene.receiver.refusal = slowly
    for number in range(20):
        scene.note(f"transfer{number:02d}", State.REQUESTED)
    scene.round()
    assert len(scene.told) == 5
    scene.round(rounds=4)
    assert len(set(scene.told)) == 20


def test_broken_journal_holds_up_no_other() -> None:
    scene = Scene()
    scene.note("bad0000000", *LIFE[:2])
    scene.note("good000000", *LIFE[:2])
    scene.blobs.put("journal", "transfers/bad0000000/00000002.json", b"{}")
    forget_journals()
    scene.round(rounds=3)
    assert scene.told == ids("good000000", 2)


def test_note_that_somebody_scribbled_on_is_told_all_the_same() -> None:
    scene = Scene()
    scene.note("0123456789", State.REQUESTED)
    for junk in (b"{", b'{"schema":1}', b"[]", b"x" * 8192):
        scene.blobs.put("work", "events/transfers/0123456789/00000001.json", junk)
        scene.blobs.put("work", "events/elsewhere", junk)
        scene.note("0123456789", State.REQUESTED)
        scene.round()
    assert scene.told == ids("0123456789", 1) * 4


def test_clock_that_was_set_back_holds_nothing_up() -> None:
    trouble = Trouble.again(None, "away", now=START)
    assert not trouble.is_over(START)
    assert trouble.is_over(START + MINUTE)
    assert trouble.is_over(START - timedelta(days=1))


def test_who_tells_nobody_writes_no_notes() -> None:
    side, blobs, _ = make_source()
    JournalStore(side.blobs, side.projection).record(
        Kind.TRANSFERS, "0123456789", State.REQUESTED, {}, by="app", at=START
    )
    deliver_events("source", side, lambda: START)
    assert blobs.containers["work"] == {}


@pytest.mark.parametrize("is_late", [False, True], ids=["just now", "for long"])
def test_event_that_was_not_taken_for_long_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture, *, is_late: bool
) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()
    scene.receiver.refusal = lambda _: Code.SERVICE_UNREACHABLE
    scene.note("0123456789", State.REQUESTED)
    scene.round(rounds=60 if is_late else 5)
    found = [record for record in caplog.records if record.getMessage().startswith("events behind: ")]
    assert bool(found) is is_late
    assert all(record.levelno == logging.WARNING for record in found)


def test_facts_of_a_journal_do_not_leave_by_its_events() -> None:
    """Whatever a fact says but channel and code stays here: digests, references, names of people, details."""
    journal = Journal(kind=Kind.IMPORTS, about="import0123")
    secret = "only-for-those-who-may-ask"
    steps: list[tuple[State, dict[str, Any]]] = [
        (State.RECEIVED, {"incoming": secret, "envelopeSha256": secret, "channel": "prod"}),
        (State.REFUSED, {"code": "SIGNER_UNKNOWN", "detail": secret, "receipt": secret}),
        (State.QUARANTINED, {"receipt": secret}),
    ]
    for state, facts in steps:
        entry = journal.next(state, facts, by=f"caller:{secret}", at=START)
        assert entry is not None
        journal = journal.extended(entry)
        event = event_of(journal, "target", "t.azurecr.io").to_bytes()
        assert secret not in event.decode()
    assert json.loads(event)["data"]["code"] == "SIGNER_UNKNOWN"  # why it lies there
