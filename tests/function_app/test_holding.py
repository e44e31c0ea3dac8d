"""``onGap: hold``: a bundle waits for the numbers before its own, and holds nobody up meanwhile."""

import hashlib
import json
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airgap.errors import AirgapError, Code, PolicyRefusal
from airgap.fields import format_time
from airgap.ledger import LedgerEntry, VoidEntry
from airgap.parts import MIN_PART_SIZE_BYTES
from airgap.policy_chain import version_name
from airgap.states import Kind, State
from function_app.durable.outcomes import Pending
from function_app.journal.recording import BY_APP
from function_app.journal.store import JournalStore
from function_app.storage.ledger import Ledger
from function_app.storage.turns import Turns
from function_app.target import http_api
from function_app.target.acceptance import take_turn, told_hold
from function_app.target.admission import admit_bundle
from function_app.target.custody import inspect_blobs
from function_app.target.longest_waits import FOR_THE_TURN
from function_app.target.wire import Judging, Turn, Upload
from tests.airgap.test_override import with_overriders
from tests.bundles import CHANNEL, Bundle, make_bundle
from tests.function_app.memory import START
from tests.function_app.test_import import POLICY, Target
from tests.function_app.test_import_api import call
from tests.function_app.test_overriding import permit
from tests.policies import ADA, BOB, policy_version, signed

SOON = START + timedelta(hours=1)
TURN = f"channels/{CHANNEL}/turn"


def hold(policy: dict[str, Any]) -> None:
    policy["channels"][CHANNEL]["onGap"] = "hold"


HOLDING = policy_version(1, base=POLICY, change=hold)


class Queue:
    """A target whose channel holds, and uploads that wait for their turn."""

    def __init__(self) -> None:
        self.target = Target(HOLDING)
        self.ledger = Ledger(self.target.blobs)

    def bundle(self, sequence: int, **more: Any) -> Bundle:
        """That of a number; it follows the one that has the number before."""
        before = self.ledger.find(CHANNEL, sequence - 1) if sequence > 1 else None
        more.setdefault("created_at", START)
        more.setdefault("previous_sha256", before and before.manifest_sha256)
        return make_bundle(
            transfer_id=f"transfer{sequence:04d}",
            sequence=sequence,
            policy_json=HOLDING,
            blob_sizes=(MIN_PART_SIZE_BYTES + 10, 500),
            **more,
        )

    def order(self, bundle: Bundle, now: datetime = SOON) -> Judging:
        return Judging(
            incoming=bundle.transfer_id,
            manifest_etag="any",
            envelope_sha256=hashlib.sha256(bundle.envelope).hexdigest(),
            instance=f"import{bundle.manifest.sequence:04d}",
            now=format_time(now),
        )

    def admit(self, sequence: int, **more: Any) -> Bundle:
        bundle = self.bundle(sequence, **more)
        self.target.upload(bundle)
        order = self.order(bundle)
        admit_bundle(self.target.side, order)
        upload = {name: getattr(order, name) for name in Upload.__struct_fields__}
        inspect_blobs(self.target.side, Upload(**upload))
        return bundle

    def ask(self, bundle: Bundle, now: datetime = SOON) -> Turn | Pending | Code:
        try:
            found = take_turn(self.target.side, self.order(bundle, now))
        except AirgapError as error:
            return error.code
        assert isinstance(found, Turn | Pending)
        return found

    def take(self, sequence: int) -> None:
        """Somebody's bundle has taken the number."""
        entry = LedgerEntry(
            channel=CHANNEL,
            sequence=sequence,
            manifest_sha256=hashlib.sha256(str(sequence).encode()).hexdigest(),
            transfer_id=f"another{sequence:04d}",
            owner="another",
            taken_at=SOON,
        )
        self.ledger.take(entry)

    @property
    def holder(self) -> bytes | None:
        return self.target.blobs.read("work", TURN, max_bytes=1000)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(http_api, "target_side", lambda: made.target.side)
    # An import's journal begins with its arrival, which these tests do without.
    monkeypatch.setattr(
        "function_app.journal.store.JournalStore.record", lambda *_args, **_more: None, raising=True
    )
    return made


def test_bundle_before_which_one_is_missing_waits_without_the_turn(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    assert queue.ask(third) == Pending()
    assert queue.holder is None


def test_missing_one_goes_first_though_it_came_later_and_then_the_held_one(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3, previous_sha256=hashlib.sha256(b"2").hexdigest())
    assert queue.ask(third) == Pending()
    second = queue.admit(2)
    assert queue.ask(second) == Turn()
    assert queue.ask(third) == Pending()  # as long as the second has the turn
    assert queue.holder == b"import0002"
    queue.take(2)
    queue.target.blobs.delete("work", TURN)
    queue.target.blobs.delete("work", f"channels/{CHANNEL}/waiting/{2:016d}-import0002")
    assert queue.ask(third) == Turn()


def test_bundle_that_lacks_two_waits_for_both(queue: Queue) -> None:
    fourth = queue.admit(4, previous_sha256=hashlib.sha256(b"3").hexdigest())
    for number in (1, 2, 3):
        assert queue.ask(fourth) == Pending()
        queue.take(number)
    assert queue.ask(fourth) == Turn()


def test_number_that_a_later_bundle_calls_void_is_waited_for_no_more(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    fourth = queue.admit(4, voids=[2])
    assert queue.ask(fourth) == Pending()  # the third is before it
    assert queue.ask(third) == Turn()


def test_bundle_that_calls_the_missing_ones_void_itself_is_not_held(queue: Queue) -> None:
    queue.take(1)
    assert queue.ask(queue.admit(4, voids=[2, 3])) == Turn()


def test_waiting_ends_when_the_bundle_is_too_old(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3, lifetime=timedelta(days=2))
    last = START + timedelta(days=2, seconds=300)
    assert queue.ask(third) == Pending()
    assert queue.ask(third, last) == Pending()
    assert queue.ask(third, last + timedelta(seconds=1)) is Code.SEQUENCE_GAP


def test_waiting_ends_with_the_channels_maximum_age_too(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3, lifetime=timedelta(days=1000), created_at=START - timedelta(days=60))
    last = START + timedelta(days=90 - 60, seconds=300)
    assert (queue.ask(third), queue.ask(third, last)) == (Pending(), Pending())
    assert queue.ask(third, last + timedelta(seconds=1)) is Code.SEQUENCE_GAP


def test_policy_that_holds_no_more_lets_it_go_on(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    released = policy_version(2, base=POLICY)
    queue.target.blobs.upload("policy", version_name(2), signed(HOLDING, released, ADA, BOB))
    assert queue.ask(third) == Turn()


def test_override_of_the_gap_lets_it_go_on(queue: Queue) -> None:
    policy = json.loads(POLICY)
    hold(policy)
    permitting = with_overriders(json.dumps(policy).encode())
    target = queue.target = Target(permitting)
    queue.ledger = Ledger(target.blobs)
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    permit(target, third, Code.SEQUENCE_GAP)
    assert queue.ask(third) == Turn()


def test_turn_that_was_kept_by_a_crash_is_given_back(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    queue.target.blobs.put("work", TURN, b"import0003")  # it died between the note and giving back
    assert queue.ask(third) == Pending()
    assert queue.holder is None


def test_turn_of_another_is_not_given_back(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    queue.target.blobs.put("work", TURN, b"import0002")
    assert queue.ask(third) == Pending()
    assert queue.holder == b"import0002"


def test_held_manifest_is_not_read_again_and_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    monkeypatch.setattr("function_app.target.acceptance.admitted_manifest", None)
    assert queue.ask(third) == Pending()


def test_channel_that_refuses_gaps_holds_nothing(queue: Queue) -> None:
    refusing = policy_version(1, base=POLICY, change=lambda p: p["channels"][CHANNEL].update(onGap="refuse"))
    queue.target = Target(refusing)
    assert queue.ask(queue.admit(3)) is Code.SEQUENCE_GAP


def test_bundle_that_is_held_no_more_stands_in_the_queue_by_its_number(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3, previous_sha256=hashlib.sha256(b"2").hexdigest())
    assert queue.ask(third) == Pending()
    queue.take(2)
    assert queue.ask(third) == Turn()
    assert f"channels/{CHANNEL}/waiting/{3:016d}-import0003" in queue.target.blobs.names("work")


def test_bundle_that_was_decided_upon_while_it_was_held_takes_no_place_any_more() -> None:
    queue = Queue()
    side = queue.target.side
    journals = JournalStore(side.blobs, side.projection)
    facts = {"incoming": "transfer0003", "manifestEtag": "any", "envelopeSha256": "a" * 64}
    journals.record(Kind.IMPORTS, "import0003", State.RECEIVED, facts, by=BY_APP, at=SOON)
    queue.take(1)
    third = queue.admit(3, previous_sha256=hashlib.sha256(b"2").hexdigest())
    assert queue.ask(third) == Pending()
    decision = {"code": "FAILED", "detail": ""}
    journals.record(Kind.IMPORTS, "import0003", State.FAILED, decision, by=BY_APP, at=SOON)
    queue.take(2)
    assert queue.ask(third) is Code.TRANSITION_REFUSED
    assert not Turns(queue.target.blobs, CHANNEL).waits("import0003")


def test_bundle_that_asks_first_when_its_time_is_over_is_not_held(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third, START + timedelta(days=40)) is Code.SEQUENCE_GAP


def test_number_that_is_awaited_is_none_that_anybody_called_void(queue: Queue) -> None:
    queue.take(1)
    queue.admit(9, voids=[2], previous_sha256="a" * 64)
    fifth = queue.admit(5, voids=[3])
    assert queue.ask(fifth) == Pending()
    waiting: Any = SimpleNamespace(state=State.WAITING, about="import0005")
    told = told_hold(queue.target.side, waiting)
    assert told is not None
    assert told.awaits == 4


def test_number_that_is_awaited_is_none_that_the_bundle_calls_void_itself_though_it_jumped_too_far_then(
    queue: Queue,
) -> None:
    queue.take(1)
    jump = queue.target.side.settings.trust_policy.channels[CHANNEL].max_sequence_jump
    far = queue.admit(2 + jump, voids=[4])
    assert queue.ledger.voids(CHANNEL) == frozenset()
    queue.take(3)
    assert queue.ask(far) == Pending()
    waiting: Any = SimpleNamespace(state=State.WAITING, about=f"import{2 + jump:04d}")
    told = told_hold(queue.target.side, waiting)
    assert told is not None
    assert told.awaits == 5


def test_held_bundle_is_told_by_its_state_and_imported_when_the_missing_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = Queue()
    told: list[dict[str, Any]] = []
    imported: list[dict[str, Any]] = []
    monkeypatch.setattr(http_api, "target_side", lambda: queue.target.side)
    first = queue.bundle(1)
    assert queue.target.receive(first)["outcome"] == "imported"
    second = queue.bundle(2, voids=[])
    third = queue.bundle(3, previous_sha256=second.manifest_sha256)
    fourth = queue.bundle(4, previous_sha256=third.manifest_sha256)
    read = queue.target.blobs.read

    def bring_the_missing_ones(container: str, name: str, **more: Any) -> bytes | None:
        found = read(container, name, **more)
        if name.endswith("/import0004/held.json") and found is not None and not told:
            told.append({})
            told[0] |= call("get_import", "import0004")[1]
            for bundle, instance in ((second, "import0002"), (third, "import0003")):
                raw = queue.target.upload(bundle)
                imported.append(queue.target.run(raw, folder=bundle.transfer_id, instance=instance))
        return found

    monkeypatch.setattr(queue.target.blobs, "read", bring_the_missing_ones)
    raw = queue.target.upload(fourth)
    outcome = queue.target.run(raw, folder=fourth.transfer_id, instance="import0004")
    assert [one["outcome"] for one in (outcome, *imported)] == ["imported"] * 3
    assert told[0]["state"] == "waiting"
    assert told[0]["held"] == {"awaits": 2, "until": format_time(START + timedelta(days=30, seconds=300))}
    assert call("get_import", "import0004")[1]["held"] is None
    assert queue.target.receipt(outcome).missing_sequences == ()


# voids


def test_voids_are_entered_once_by_whoever_says_so_first(queue: Queue) -> None:
    first = queue.admit(4, voids=[2])
    queue.admit(5, voids=[2, 3])
    assert queue.ledger.voids(CHANNEL) == {2, 3}
    raw = queue.target.blobs.read("ledger", f"voids/{CHANNEL}/{2:016d}.json", max_bytes=4096)
    assert raw is not None
    assert VoidEntry.from_bytes(raw).manifest_sha256 == first.manifest_sha256


def test_number_that_was_given_up_is_not_imported_however_late_it_comes(queue: Queue) -> None:
    queue.take(1)
    second = queue.admit(2)
    queue.admit(3, voids=[2])
    assert queue.ask(second) is Code.SEQUENCE_VOID


def test_voids_of_what_nobody_vouches_for_are_not_entered(queue: Queue) -> None:
    bundle = queue.bundle(4, voids=[2])
    document = json.loads(bundle.envelope)
    document["signatures"][0]["sig"] = "AAAA"
    raw = queue.target.upload(bundle, envelope=json.dumps(document).encode())
    order = Judging(
        incoming=bundle.transfer_id,
        manifest_etag="any",
        envelope_sha256=hashlib.sha256(raw).hexdigest(),
        instance="import0004",
        now=format_time(SOON),
    )
    with pytest.raises(AirgapError):
        admit_bundle(queue.target.side, order)
    assert queue.ledger.voids(CHANNEL) == frozenset()


def test_voids_of_one_channel_are_none_of_another(queue: Queue) -> None:
    queue.target.blobs.put("ledger", "voids/other/0000000000000002.json", b"")
    queue.target.blobs.put("ledger", f"voids/{CHANNEL}/2.json", b"")
    assert queue.ledger.voids(CHANNEL) == frozenset()


def test_late_refusal_names_how_long_it_was_held(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3)
    queue.ask(third)
    with pytest.raises(PolicyRefusal, match="next would be 2; held until 2026-12-23T08:05:00Z"):
        take_turn(queue.target.side, queue.order(third, START + timedelta(days=40)))


def test_admitted_bundle_has_its_place_before_it_asks_so_that_no_later_one_overtakes(queue: Queue) -> None:
    queue.target = Target()  # whose channel holds nothing
    queue.admit(1)
    second = queue.admit(2)
    assert queue.ask(second) == Pending()
    assert queue.holder is None


def test_what_a_bundle_calls_void_that_jumps_too_far_is_not_believed(queue: Queue) -> None:
    far = queue.admit(10**9, previous_sha256="a" * 64, voids=[1, 2, 3])
    assert queue.ask(far) is Code.SEQUENCE_JUMP
    Turns(queue.target.blobs, CHANNEL).leave(f"import{10**9:04d}")
    assert queue.ask(queue.admit(1)) == Turn()


def test_what_a_bundle_calls_void_that_jumps_as_far_as_it_may_is_believed(queue: Queue) -> None:
    queue.take(1)
    jump = queue.target.side.settings.trust_policy.channels[CHANNEL].max_sequence_jump
    queue.admit(1 + jump, previous_sha256="a" * 64, voids=[2])
    assert queue.ledger.voids(CHANNEL) == {2}


@pytest.mark.parametrize(("beyond", "believed"), [(0, {2}), (1, set())])
def test_jump_of_a_channel_without_any_number_is_counted_from_0(
    queue: Queue, beyond: int, believed: set[int]
) -> None:
    jump = queue.target.side.settings.trust_policy.channels[CHANNEL].max_sequence_jump
    queue.admit(jump + beyond, previous_sha256="a" * 64, voids=[2])
    assert queue.ledger.voids(CHANNEL) == believed


def test_bundle_that_is_held_does_not_stand_before_one_that_break_glass_lets_pass(queue: Queue) -> None:
    policy = json.loads(POLICY)
    hold(policy)
    queue.target = Target(with_overriders(json.dumps(policy).encode()))
    queue.ledger = Ledger(queue.target.blobs)
    queue.take(1)
    third = queue.admit(3)
    assert queue.ask(third) == Pending()
    fourth = queue.admit(4, previous_sha256="a" * 64)
    permit(queue.target, fourth, Code.SEQUENCE_GAP, until=START + timedelta(days=20))
    assert queue.ask(fourth) == Turn()
    assert queue.ask(third) == Pending()


def test_bundle_that_has_its_turn_is_told_as_held_no_more(queue: Queue) -> None:
    waiting: Any = SimpleNamespace(state=State.WAITING, about="import0003")
    queue.take(1)
    third = queue.admit(3, previous_sha256=hashlib.sha256(b"2").hexdigest())
    assert queue.ask(third) == Pending()
    assert told_hold(queue.target.side, waiting) is not None
    decided: Any = SimpleNamespace(state=State.REFUSED, about="import0003")
    assert told_hold(queue.target.side, decided) is None
    queue.take(2)
    assert queue.ask(third) == Turn()
    assert told_hold(queue.target.side, waiting) is None


# --- how long -----------------------------------------------------------------------------------------------


def test_bundle_waits_for_its_turn_for_45_days_and_then_gives_its_place_up(queue: Queue) -> None:
    queue.take(1)
    second = queue.admit(2)
    assert isinstance(queue.ask(second), Turn)  # and keeps it
    queue.take(2)
    third = queue.admit(3, previous_sha256=queue.ledger.find(CHANNEL, 2).manifest_sha256)  # type: ignore[union-attr]
    moment = START + FOR_THE_TURN
    assert queue.ask(third, moment - timedelta(seconds=1)) == Pending()
    assert queue.ask(third, moment) is Code.TURN_EXPIRED
    assert queue.holder == b"import0002"


def test_bundle_that_is_held_waits_no_longer_however_long_it_is_good(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3, lifetime=timedelta(days=80))
    moment = START + FOR_THE_TURN
    assert queue.ask(third, moment) == Pending()
    assert queue.ask(third, moment + timedelta(seconds=1)) is Code.SEQUENCE_GAP


def test_number_that_has_not_come_is_told_whoever_has_the_turn_when_the_time_is_over(queue: Queue) -> None:
    queue.take(1)
    third = queue.admit(3, lifetime=timedelta(days=80))
    assert queue.ask(third) == Pending()
    queue.target.blobs.put("work", TURN, b"another")
    moment = START + FOR_THE_TURN
    assert queue.ask(third, moment) == Pending()
    with pytest.raises(
        PolicyRefusal, match=f"SEQUENCE_GAP: .*next would be 2; held until {format_time(moment)}"
    ):
        take_turn(queue.target.side, queue.order(third, moment + timedelta(seconds=1)))
    queue.take(2)  # it has come after all, and the turn is another's still
    assert queue.ask(third, moment + timedelta(seconds=1)) is Code.TURN_EXPIRED


def test_bundle_whose_turn_comes_late_is_taken_all_the_same(queue: Queue) -> None:
    queue.take(1)
    second = queue.admit(2)
    assert queue.ask(second, START + FOR_THE_TURN + timedelta(days=1)) == Turn()
