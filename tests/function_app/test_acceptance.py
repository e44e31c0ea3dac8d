"""What is judged again when the number is taken, and what a number is given for."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal
from airgap.ledger import LedgerEntry
from airgap.receipt import ReceiptVerdict
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.settings import TargetSettings
from function_app.storage.ledger import Ledger
from function_app.target.acceptance import accept_bundle
from function_app.target.longest_waits import FOR_THE_TURN
from tests.bundles import CHANNEL, TRANSFER_ID, Bundle, default_key, new_key
from tests.function_app.memory import ENVIRONMENT, START, failed
from tests.function_app.test_admission import judging
from tests.function_app.test_import import POLICY, Target, bundle_of, flip

FIRST = f"{CHANNEL}/0000000000000001.json"


def with_policy(target: Target, policy_json: bytes) -> None:
    """The app starts again with another trust policy among its settings."""
    environment = ENVIRONMENT | {"TRUST_POLICY": policy_json.decode()}
    side = target.host.side
    assert isinstance(side, TargetSide)
    target.host.side = replace(side, settings=TargetSettings.from_environment(environment))


def changed_policy(change: Callable[[dict[str, Any]], object]) -> bytes:
    policy = json.loads(POLICY)
    policy["version"] += 1
    change(policy)
    return json.dumps(policy).encode()


def revoke_the_key(policy: dict[str, Any]) -> None:
    policy["revoked"] = [{"keyid": default_key().keyid, "from": "2026-11-01T00:00:00Z"}]


def drop_the_channel(policy: dict[str, Any]) -> None:
    policy["channels"]["another"] = policy["channels"].pop(CHANNEL)


def carry_no_repository_of_it(policy: dict[str, Any]) -> None:
    policy["channels"][CHANNEL]["repositories"] = ["another/**"]


@pytest.mark.parametrize("activity", ["take_turn", "hash_staged_parts", "accept_bundle"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (revoke_the_key, Code.KEY_REVOKED),
        (drop_the_channel, Code.CHANNEL_UNKNOWN),
        (carry_no_repository_of_it, Code.REPOSITORY_REFUSED),
    ],
)
def test_policy_in_force_when_the_number_is_taken_decides(
    activity: str, change: Callable[[dict[str, Any]], object], code: Code
) -> None:
    target = Target()
    target.host.before[activity] = lambda: with_policy(target, changed_policy(change))
    outcome = target.receive(bundle_of())
    assert outcome["code"] == code.name, outcome
    assert target.numbers() == []
    assert target.pipelines.requests == {}


def test_bundle_that_expires_while_it_waits_is_refused_and_takes_no_number() -> None:
    target = Target()

    def days_pass() -> None:
        target.host.now += timedelta(days=3)

    target.host.before["take_turn"] = days_pass
    outcome = target.receive(bundle_of(lifetime=timedelta(days=2)))
    target.assert_refused(outcome, Code.EXPIRED)
    assert target.numbers() == []


def test_acceptance_that_is_delivered_again_after_the_expiry_stays_an_acceptance() -> None:
    target = Target()
    target.host.before["promote_blob"] = lambda: None
    bundle = bundle_of(lifetime=timedelta(days=2))

    def again() -> None:
        target.host.now = START + timedelta(days=9)
        order = {
            "schema": 1,
            "incoming": TRANSFER_ID,
            "manifestEtag": "any",
            "envelopeSha256": target.sha256_of(bundle),
            "instance": "import0001",
            "now": "2027-01-01T00:00:00Z",
        }
        assert target.host.activity("accept_bundle", 1, order)["outcome"] == "accepted"

    target.host.before["promote_blob"] = again
    assert target.receive(bundle)["outcome"] == "imported"


@pytest.mark.parametrize("order", ["any", "rising"])
def test_forked_history_is_refused_under_every_order(order: str) -> None:
    policy = changed_policy(lambda policy: policy["channels"][CHANNEL].update(order=order))
    target = Target(policy)
    first = bundle_of()
    assert target.receive(first)["outcome"] == "imported"
    forked = bundle_of(sequence=2, seed=5, transfer_id="another0001", previous_sha256="0" * 64)
    target.assert_refused(target.receive(forked), Code.HISTORY_FORKED)
    honest = bundle_of(sequence=2, seed=6, transfer_id="another0002", previous_sha256=first.manifest_sha256)
    assert target.receive(honest)["outcome"] == "imported"


@pytest.mark.parametrize("activity", ["take_turn", "accept_bundle"])
def test_history_that_forks_while_the_bundle_waits_is_refused(activity: str) -> None:
    target = Target(changed_policy(lambda policy: policy["channels"][CHANNEL].update(order="any")))
    second = bundle_of(sequence=2, seed=5, transfer_id="another0001", previous_sha256="0" * 64)
    first = bundle_of()

    def import_the_first() -> None:
        waiting = target.blobs.containers["work"]
        turn = waiting.pop(f"channels/{CHANNEL}/turn", None)
        assert target.receive(first)["outcome"] == "imported"
        if turn is not None:
            waiting[f"channels/{CHANNEL}/turn"] = turn

    target.host.before[activity] = import_the_first
    assert target.receive(second)["code"] == Code.HISTORY_FORKED.name
    assert target.numbers() == [FIRST]


@pytest.mark.parametrize("removed", ["hashed/", "damage/"])
def test_bundle_is_accepted_for_the_proof_of_every_group_and_not_for_the_want_of_damage(removed: str) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    if removed == "damage/":
        target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 3))

    def remove_notes() -> None:
        notes = [name for name in target.blobs.names("work") if f"/{removed}" in name]
        assert notes
        target.blobs.delete("work", notes[0])

    target.host.before["accept_bundle"] = remove_notes
    outcome = target.run(raw)
    assert outcome["outcome"] == "failed"
    assert target.numbers() == []
    assert target.pipelines.requests == {}


def test_proof_of_another_state_of_the_copy_is_none() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    raw = target.upload(bundle)
    note = "plans/import0001/custody/001.json"

    def exchange() -> None:
        noted = json.loads(target.blobs.containers["work"][note].content)
        target.blobs.put("work", note, json.dumps(noted | {"etag": "0xANOTHER"}).encode())

    target.host.before["accept_bundle"] = exchange
    assert target.run(raw)["outcome"] == "failed"
    assert target.numbers() == []


def test_damage_and_another_reason_to_refuse_is_no_damaged_bundle_to_be_carried_again() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 3))
    target.host.before["accept_bundle"] = lambda: with_policy(target, changed_policy(revoke_the_key))
    receipt = target.assert_refused(target.run(raw), Code.KEY_REVOKED)
    assert receipt.verdict is ReceiptVerdict.REFUSED


@pytest.mark.parametrize("is_imported", [True, False])
def test_replay_is_refused_though_the_ledger_entry_is_gone(is_imported: bool) -> None:
    target, bundle = Target(), bundle_of()
    if not is_imported:
        target.pipelines.work = lambda _: failed("no")
    assert target.receive(bundle)["outcome"] == ("imported" if is_imported else "failed")
    target.blobs.delete("ledger", FIRST)
    target.assert_refused(target.receive(bundle), Code.REPLAYED)
    assert target.numbers() == []


def test_replay_is_refused_though_entry_and_receipt_are_gone() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    instance = f"import{target.sha256_of(bundle)[:32]}"
    assert target.run(raw, instance=instance)["outcome"] == "imported"
    target.blobs.delete("ledger", FIRST)
    target.blobs.containers["receipts"].clear()
    again = target.run(target.upload(bundle), instance=f"{instance}0123abcd")
    target.assert_refused(again, Code.REPLAYED)


def test_later_receipts_about_an_imported_bundle_take_nothing_from_its_decision() -> None:
    target, bundle = Target(), bundle_of()
    imported = target.receive(bundle)
    standing = f"{TRANSFER_ID}/{bundle.manifest_sha256}.dsse.json"
    assert imported["receipt"] == f"receipts/{standing}"
    before = target.blobs.containers["receipts"][standing]
    replayed = target.receive(bundle)
    two_signatures = Envelope.sign(bundle.payload, [default_key().signer, new_key().signer]).to_bytes()
    copied = target.run(target.upload(bundle, envelope=two_signatures))
    assert [replayed["code"], copied["code"]] == [Code.REPLAYED.name] * 2
    assert target.blobs.containers["receipts"][standing] == before
    assert target.receipt(imported).ledger is not None
    assert [target.receipt(later).ledger for later in (replayed, copied)] == [None, None]
    assert len(target.blobs.names("receipts")) == 3


def test_number_that_was_taken_with_only_part_imported_is_the_decision_too() -> None:
    target, bundle = Target(), bundle_of()
    target.pipelines.work = lambda _: failed("no")
    outcome = target.receive(bundle)
    assert outcome["receipt"] == f"receipts/{TRANSFER_ID}/{bundle.manifest_sha256}.dsse.json"
    assert target.receipt(outcome).verdict is ReceiptVerdict.PARTIAL


def test_damage_is_no_decision_about_the_number() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 3))
    assert target.run(raw)["receipt"] == f"receipts/{TRANSFER_ID}/import0001.dsse.json"
    imported = target.receive(bundle)
    assert imported["receipt"] == f"receipts/{TRANSFER_ID}/{bundle.manifest_sha256}.dsse.json"


def other_entry(sequence: int, manifest_sha256: str = "e" * 64) -> LedgerEntry:
    return LedgerEntry(
        channel=CHANNEL,
        sequence=sequence,
        manifest_sha256=manifest_sha256,
        transfer_id="another0001",
        owner="import9999",
        taken_at=START,
    )


def test_order_of_the_channel_is_judged_again_when_the_number_is_taken() -> None:
    target, second = Target(), other_entry(2)

    def overtake() -> None:
        Ledger(target.blobs).take(second)

    target.host.before["accept_bundle"] = overtake
    target.assert_refused(target.receive(bundle_of()), Code.OUT_OF_ORDER)
    assert target.numbers() == [second.name]


@pytest.mark.parametrize("same", [True, False])
def test_number_that_another_took_the_moment_before_is_not_taken_twice(
    same: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, bundle = Target(), bundle_of()
    faster = other_entry(1, bundle.manifest_sha256 if same else "e" * 64)
    take, told = Ledger.take, list[str]()

    def overtaken(ledger: Ledger, entry: LedgerEntry) -> LedgerEntry:
        take(ledger, faster)
        return take(ledger, entry)

    def accept_once() -> None:
        monkeypatch.setattr(Ledger, "take", overtaken)
        with pytest.raises(PolicyRefusal) as refusal:
            accept_bundle(target.side, judging(bundle.envelope))
        told.append(refusal.value.code.name)

    target.host.before["accept_bundle"] = accept_once
    code = Code.REPLAYED if same else Code.SEQUENCE_REUSED
    target.assert_refused(target.receive(bundle), code)
    assert told == [code.name]
    assert target.pipelines.requests == {}


def test_fork_further_on_in_a_history_is_refused() -> None:
    target = Target()
    first = bundle_of()
    second = bundle_of(sequence=2, seed=5, transfer_id="another0002", previous_sha256=first.manifest_sha256)
    third = bundle_of(sequence=3, seed=6, transfer_id="another0003", previous_sha256=first.manifest_sha256)
    for honest in (first, second):
        assert target.receive(honest)["outcome"] == "imported"
    target.assert_refused(target.receive(third), Code.HISTORY_FORKED)


def activity_again(target: Target, bundle: Bundle, name: str) -> dict[str, Any]:
    """A step of the first import, delivered once more."""
    order = {
        "schema": 1,
        "incoming": TRANSFER_ID,
        "manifestEtag": "any",
        "envelopeSha256": target.sha256_of(bundle),
        "instance": "import0001",
    }
    if name in {"accept_bundle", "take_turn"}:
        order["now"] = "2026-11-24T13:00:00Z"
    outcome: dict[str, Any] = target.host.activity(name, 1, order)
    return outcome


def test_import_whose_turn_does_not_come_ends_before_the_storage_forgets_it() -> None:
    target, bundle = Target(), bundle_of(lifetime=timedelta(days=80))
    raw = target.upload(bundle)
    target.blobs.put("work", f"channels/{CHANNEL}/turn", b"importother")

    def days_pass() -> None:
        target.host.now = START + FOR_THE_TURN - timedelta(seconds=2)  # the next round is over the time

    target.host.before["take_turn"] = days_pass
    outcome = target.run(raw)
    assert target.host.called.count("take_turn") == 2
    assert (outcome["outcome"], outcome["code"]) == ("failed", Code.TURN_EXPIRED.name)
    receipt = target.receipt(outcome)
    assert (receipt.verdict, receipt.ledger) == (ReceiptVerdict.REFUSED, None)
    assert target.numbers() == []
    assert target.blobs.names("work") == [f"channels/{CHANNEL}/turn"]  # it waits for nothing any more
    assert target.blobs.names("incoming") == []
    target.blobs.delete("work", f"channels/{CHANNEL}/turn")
    assert target.receive(bundle)["outcome"] == "imported"  # its number was not used up


def test_turn_that_is_delivered_again_after_the_acceptance_stays_taken() -> None:
    target, bundle = Target(), bundle_of()
    outcomes: list[dict[str, Any]] = []
    target.host.before["promote_blob"] = lambda: outcomes.append(activity_again(target, bundle, "take_turn"))
    assert target.receive(bundle)["outcome"] == "imported"
    assert outcomes[0]["outcome"] == "turn"


def test_import_whose_entry_is_lost_while_it_runs_takes_its_number_again() -> None:
    target, bundle = Target(), bundle_of()
    outcomes: list[dict[str, Any]] = []

    def lose_the_entry() -> None:
        target.blobs.delete("ledger", FIRST)
        outcomes.append(activity_again(target, bundle, "accept_bundle"))

    target.host.before["promote_blob"] = lose_the_entry
    assert target.receive(bundle)["outcome"] == "imported"
    assert outcomes[0]["outcome"] == "accepted"


def verified(target: Target, instance: str) -> None:
    """A journal of an import that took its number."""
    journals = JournalStore(target.blobs, target.side.projection)
    for state in (State.RECEIVED, State.ADMITTED, State.WAITING, State.VERIFIED):
        facts = {"manifestEtag": "any"} if state is State.RECEIVED else {}
        journals.record(Kind.IMPORTS, instance, state, facts, by="a test", at=START)


@pytest.mark.parametrize(("journals", "code"), [(49, "REPLAYED"), (50, "imported")])
def test_of_an_envelope_that_was_uploaded_again_and_again_fifty_journals_are_asked(
    journals: int, code: str
) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    instance = f"import{target.sha256_of(bundle)[:32]}"
    store = JournalStore(target.blobs, target.side.projection)
    for number in range(journals):
        facts = {"manifestEtag": "any"}
        name = f"{instance}{number:08x}"
        store.record(Kind.IMPORTS, name, State.RECEIVED, facts, by="a test", at=START)
    verified(target, f"{instance}f0000000")
    outcome = target.run(raw, instance=f"{instance}ffffffff")
    assert (outcome.get("code") or outcome["outcome"]) == code


def test_journal_of_another_envelope_is_not_taken_for_one_of_this() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    sha256 = target.sha256_of(bundle)
    verified(target, f"import{sha256[:31]}{'0' if sha256[31] != '0' else '1'}")
    assert target.run(raw, instance=f"import{sha256[:32]}")["outcome"] == "imported"
