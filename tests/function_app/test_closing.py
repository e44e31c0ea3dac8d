"""The decision on record, its receipt, and what is removed afterwards."""

from dataclasses import replace
from typing import Any

import pytest

from airgap.errors import Code, ServiceError
from airgap.ledger import LedgerEntry
from airgap.states import Kind, State
from function_app.durable.outcomes import Pending
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.storage.ledger import Ledger
from function_app.storage.work_folder import WorkFolder
from function_app.target.admission import VERDICT
from function_app.target.closing import clean_up, issue_receipt, record_decision
from function_app.target.wire import Cleaned, Closing, Issued, MissingNumbers, VerdictNote
from tests.bundles import CHANNEL, TRANSFER_ID
from tests.function_app.memory import START, failed
from tests.function_app.test_import import Target, bundle_of, flip

INSTANCE = "import0001"


def closing(**more: Any) -> Closing:
    return Closing(
        **{
            "incoming": TRANSFER_ID,
            "manifest_etag": "any",
            "envelope_sha256": "0" * 64,
            "instance": INSTANCE,
            "decided_at": "2026-11-24T12:00:00Z",
            "outcome": "imported",
            "code": None,
            "detail": "",
            **more,
        }
    )


def decision(target: Target, state: State) -> dict[str, Any]:
    """What the journal says of the decision."""
    journal = JournalStore(target.blobs, target.side.projection).read(Kind.IMPORTS, INSTANCE)
    entry = journal.newest(state)
    assert entry is not None
    return dict(entry.facts)


def test_decision_is_on_record_with_its_code_and_its_words() -> None:
    target, bundle = Target(), bundle_of()
    assert target.receive(bundle)["outcome"] == "imported"
    told = {"detail": "2 artifacts; 2 not reported as imported", "channel": CHANNEL, "policyVersion": 1}
    assert decision(target, State.PROVEN) == told
    other = Target()
    outcome = other.run(other.upload(bundle, envelope=b"junk"))
    facts = decision(other, State.REFUSED)
    assert f"receipts/{facts.pop('receiptName')}" == outcome["receipt"]
    assert facts == {"code": outcome["code"], "detail": outcome["detail"], "policyVersion": 1}


@pytest.mark.parametrize("is_damaged", [True, False])
@pytest.mark.parametrize("activity", [None, "accept_bundle"])
def test_damage_is_told_apart_from_refusals_and_failures(is_damaged: object, activity: str | None) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    if is_damaged:
        target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 3))
    else:
        target.pipelines.work = lambda _: failed("no")
    if activity is not None:
        target.host.broken[activity] = 10**9
    target.run(raw)
    decision(target, State.DAMAGED if is_damaged and activity is None else State.FAILED)


def test_failure_with_the_code_of_the_damage_is_no_damage() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 3))

    def fail() -> None:
        record_decision(target.side, closing(outcome="failed", code="PART_CORRUPT"))

    target.host.before["accept_bundle"] = fail
    target.run(raw)
    assert decision(target, State.FAILED)["code"] == "PART_CORRUPT"


def test_decision_that_is_delivered_after_all_was_closed_is_not_noted_again() -> None:
    target = Target()
    target.receive(bundle_of())
    record_decision(target.side, closing())
    assert target.blobs.in_work() == []


def test_receipt_that_is_out_is_not_signed_a_second_time() -> None:
    target, bundle = Target(), bundle_of()
    again: list[Issued] = []

    def vault_is_away() -> None:
        class Away:
            def signers(self) -> Any:
                raise ServiceError(Code.SERVICE_UNREACHABLE, "the vault is away")

        side = replace(target.side, signing=Away())
        again.append(issue_receipt(side, closing(envelope_sha256=target.sha256_of(bundle))))

    target.host.before["clean_up"] = vault_is_away
    outcome = target.receive(bundle)
    assert [issued.receipt for issued in again] == [outcome["receipt"]]


def test_receipt_keeps_its_place_whatever_is_noted_and_taken_late() -> None:
    """The first closing was terminated with the receipt written, and the second knows transfer and number."""
    target = Target()
    record_state(target.side, State.RECEIVED)
    given_up = closing(outcome="failed", code="SERVICE_UNEXPECTED")
    record_decision(target.side, given_up)
    first = issue_receipt(target.side, given_up)
    WorkFolder(target.blobs, INSTANCE).create(VERDICT, noted())
    assert issue_receipt(target.side, given_up) == first
    entry = LedgerEntry(
        channel=CHANNEL,
        sequence=1,
        manifest_sha256="d" * 64,
        transfer_id=TRANSFER_ID,
        owner=INSTANCE,
        taken_at=START,
    )
    Ledger(target.blobs).take(entry)  # as a late step of it may
    assert issue_receipt(target.side, given_up) == first
    assert len(target.blobs.names("receipts")) == 1


def record_state(side: TargetSide, state: State) -> None:
    journals = JournalStore(side.blobs, side.projection)
    journals.record(Kind.IMPORTS, INSTANCE, state, {}, by="app", at=START)


def noted(manifest_sha256: str = "d" * 64) -> VerdictNote:
    return VerdictNote(
        manifest_etag="any",
        transfer_id=TRANSFER_ID,
        channel=CHANNEL,
        sequence=1,
        manifest_sha256=manifest_sha256,
        policy_version=1,
        signers=(),
    )


@pytest.mark.parametrize(("blobs", "left"), [(200, 0), (201, 1), (450, 250)])
def test_copies_in_custody_are_removed_two_hundred_a_step(blobs: int, left: int) -> None:
    target = Target()
    WorkFolder(target.blobs, INSTANCE).create(VERDICT, noted())
    for number in range(blobs):
        target.blobs.put("staging", f"{CHANNEL}/{'d' * 64}/{INSTANCE}/{number:03d}", b"")
    assert isinstance(clean_up(target.side, closing()), Pending if left else Cleaned)
    assert len(target.blobs.names("staging")) == left


def test_working_documents_are_removed_a_thousand_a_step_and_the_verdict_is_kept() -> None:
    target = Target()
    work = WorkFolder(target.blobs, INSTANCE)
    work.create(VERDICT, noted())
    for number in range(1001):
        work.create(f"note{number:04d}", MissingNumbers(sequences=()))
    assert isinstance(clean_up(target.side, closing()), Pending)
    assert isinstance(clean_up(target.side, closing()), Cleaned)
    assert list(work.names("")) == [VERDICT]


def test_what_another_import_promoted_is_not_removed() -> None:
    target = Target()
    WorkFolder(target.blobs, INSTANCE).create(VERDICT, noted())
    target.blobs.put("transfer", f"{CHANNEL}/{'d' * 64}/001", b"")
    assert isinstance(clean_up(target.side, closing()), Cleaned)
    assert len(target.blobs.names("transfer")) == 1
