"""What is delivered twice at once, or late, or not to the end: found by ``./dev simulate``, and mended."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.fields import format_time
from airgap.states import Kind, State
from airgap.verify import Verdict
from function_app.durable.flow import PENDING, waited
from function_app.journal.store import JournalStore
from function_app.messages import Item
from function_app.ports import TargetSide
from function_app.storage.door import Door
from function_app.storage.paths import closing_path
from function_app.storage.work_folder import WorkFolder
from function_app.target import admission
from function_app.target.admission import admit_bundle, noted_verdict
from function_app.target.closing import issue_receipt, record_decision
from function_app.target.custody import inspect_blobs, take_custody
from function_app.target.importing import promote_blob
from function_app.target.orchestrators import closing_instance
from function_app.target.proving import note_report, prove_artifacts
from function_app.target.reconciling import Reconciler
from function_app.target.staged import bring_digests, bring_tags, prove_staged
from function_app.target.wire import INSPECT_BLOBS, Inspected, Inspection, Judging, Upload
from tests.bundles import CHANNEL, TRANSFER_ID, default_key, make_policy, new_key
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import START, STEPS, make_target
from tests.function_app.memory_projection import MemoryProjection
from tests.function_app.test_closing import INSTANCE, closing
from tests.function_app.test_import import Target, bundle_of


def test_blob_promoted_by_two_deliveries_at_once_is_still_the_one_that_was_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second has found no note yet when the first begins, and ends after it."""
    target, bundle = Target(), bundle_of()
    get_pipeline = target.pipelines.get_pipeline
    first = [Item(owner=INSTANCE, number=0)]

    def meanwhile(kind: str, name: str) -> Mapping[str, Any] | None:
        if first:
            promote_blob(target.side, first.pop())
        return get_pipeline(kind, name)

    monkeypatch.setattr(target.pipelines, "get_pipeline", meanwhile)
    assert target.receive(bundle)["outcome"] == "imported"


def test_receipt_that_is_asked_for_after_all_was_closed_is_the_one_that_was_issued() -> None:
    target, bundle = Target(), bundle_of()
    outcome = target.receive(bundle)
    late = issue_receipt(target.side, closing(envelope_sha256=target.sha256_of(bundle)))
    assert late.receipt == outcome["receipt"]
    assert len(target.blobs.names("receipts")) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_admission_that_is_refused_once_and_accepted_once_works_by_what_accepted(
    is_first: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the first is lost, and meanwhile the policy is another: taken back, or in force again."""
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    order = Judging(
        incoming=TRANSFER_ID,
        manifest_etag="any",
        envelope_sha256=target.sha256_of(bundle),
        instance=INSTANCE,
        now=format_time(START),
    )
    refusal = Verdict(
        code=Code.POLICY_ROLLED_BACK, detail="", manifest=None, manifest_sha256=None, signers=()
    )
    JournalStore(target.blobs, target.side.projection).record(
        Kind.IMPORTS, INSTANCE, State.RECEIVED, {}, by="app", at=START
    )

    def refused() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(admission, "judge_bundle", lambda *_: refusal)
            with pytest.raises(PolicyRefusal):
                admit_bundle(target.side, order)

    if is_first:
        refused()
    admit_bundle(target.side, order)
    if not is_first:
        refused()
    noted = noted_verdict(WorkFolder(target.blobs, INSTANCE))
    assert noted is not None
    assert (noted.channel, noted.sequence) == (CHANNEL, 1)
    assert target.run(raw)["outcome"] == "imported"


def test_artifacts_that_are_looked_up_after_all_was_cleaned_up_are_not_found() -> None:
    target = Target()
    target.receive(bundle_of())
    with pytest.raises(ServiceError) as refused:
        prove_artifacts(target.side, Item(owner=INSTANCE, number=0))
    assert refused.value.code is Code.NOT_FOUND


def test_blobs_that_are_inspected_after_all_was_put_away_are_not_noted_again() -> None:
    target, bundle = Target(), bundle_of()
    seen: list[Upload] = []

    def watched(side: TargetSide, order: Upload) -> Inspected:
        seen.append(order)
        return inspect_blobs(side, order)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, INSPECT_BLOBS.name, (INSPECT_BLOBS, watched))
        target.receive(bundle)
    with pytest.raises(PolicyRefusal) as refused:
        inspect_blobs(target.side, seen[0])
    assert refused.value.code is Code.TRANSITION_REFUSED
    assert f"plans/{INSTANCE}/inspection.json" not in target.blobs.names("work")


@pytest.mark.parametrize("step", [take_custody, promote_blob, note_report])
def test_blob_that_a_late_inspection_did_not_find_any_more_is_not_worked_on(
    step: Callable[[TargetSide, Item], object],
) -> None:
    target = Target()
    upload = Upload(incoming=TRANSFER_ID, manifest_etag="any", envelope_sha256="0" * 64, instance=INSTANCE)
    work = WorkFolder(target.blobs, INSTANCE)
    work.create("inspection", Inspection(upload=upload, bundle="any", blobs=()))
    with pytest.raises(ServiceError) as refused:
        step(target.side, Item(owner=INSTANCE, number=0))
    assert refused.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("step", [prove_staged, bring_digests, bring_tags])
def test_artifacts_that_are_brought_over_after_all_was_cleaned_up_are_not_found(
    step: Callable[[TargetSide, Item], object],
) -> None:
    side, _ = make_target(make_policy([default_key()], receipt_keys=[new_key()]), is_staged=True)
    with pytest.raises(ServiceError) as refused:
        step(side, Item(owner=INSTANCE, number=0))
    assert refused.value.code is Code.NOT_FOUND


def test_wait_that_somebody_terminates_ends_as_a_failure() -> None:
    context = SimpleNamespace(call_sub_orchestrator=lambda *_: None, current_utc_datetime=closing_time())
    flow = waited(context, "put_away", {}, PENDING)
    next(flow)
    with pytest.raises(StopIteration) as end:
        flow.throw(Exception("terminated"))
    assert end.value.value["code"] == Code.SERVICE_UNEXPECTED.name


def closing_time() -> Any:
    return Target().host.now


def test_closing_that_cannot_be_recorded_is_put_off_with_all_that_it_needs() -> None:
    target, bundle = Target(), bundle_of()
    target.host.before["clean_up"] = lambda: target.host.broken.update(record_state=10**9)
    outcome = target.receive(bundle)
    assert outcome["closing"] == "put off"
    assert f"closing/{INSTANCE}.json" in target.blobs.names("work")
    journal = JournalStore(target.blobs, target.side.projection).read(Kind.IMPORTS, INSTANCE)
    assert journal.state is State.PROVEN


def begun(target: Target) -> JournalStore:
    """The journals, with an import that began while the table was away."""
    assert isinstance(target.side.projection, MemoryProjection)
    target.side.projection.is_away = True
    journals = JournalStore(target.blobs, target.side.projection)
    facts = {"incoming": TRANSFER_ID, "manifestEtag": "any", "envelopeSha256": "0" * 64}
    journals.record(Kind.IMPORTS, INSTANCE, State.RECEIVED, facts, by="app", at=START)
    target.side.projection.is_away = False
    return journals


def test_import_that_began_and_ended_while_the_table_was_away_is_decided_by_its_place_at_the_door() -> None:
    target = Target()
    journals = begun(target)
    assert Door(target.blobs).enter(INSTANCE, accepted=None)
    asyncio.run(Reconciler(target.side, DurableClient(), START + timedelta(hours=1)).run())
    assert journals.read(Kind.IMPORTS, INSTANCE).state is State.FAILED
    assert not any(name.startswith("door/") for name in target.blobs.names("work"))


def test_place_of_an_import_that_may_be_decided_any_moment_is_left_to_it() -> None:
    target = Target()
    journals = begun(target)
    assert Door(target.blobs).enter(INSTANCE, accepted=None)
    target.blobs.containers["work"] = {
        name: replace(blob, last_modified=START - timedelta(hours=1))
        for name, blob in target.blobs.containers["work"].items()
    }
    asyncio.run(Reconciler(target.side, DurableClient(), START + timedelta(minutes=10)).free_places())
    assert journals.read(Kind.IMPORTS, INSTANCE).state is State.RECEIVED
    assert target.blobs.names("work")


def test_decision_that_broke_off_after_its_note_is_recorded_before_it_is_closed() -> None:
    target = Target()
    journals = begun(target)
    note = closing(outcome="failed", code=Code.SERVICE_UNEXPECTED.name)
    target.blobs.create("work", closing_path(INSTANCE), msgspec.json.encode(note))
    client = DurableClient()
    asyncio.run(Reconciler(target.side, client, START + timedelta(hours=1)).resume_closings())
    assert client.started == [closing_instance(INSTANCE)]
    assert journals.read(Kind.IMPORTS, INSTANCE).state is State.FAILED


def test_bundle_that_is_accepted_late_after_it_was_given_up_takes_no_number() -> None:
    target = Target()
    given_up = closing(outcome="failed", code=Code.SERVICE_UNEXPECTED.name)

    def give_up() -> None:
        record_decision(target.side, given_up)

    target.host.before["accept_bundle"] = give_up
    assert target.receive(bundle_of())["code"] == Code.TRANSITION_REFUSED.name
    assert target.numbers() == []


def test_of_two_decisions_the_first_that_was_noted_is_the_one_on_record() -> None:
    """The first broke off before the journal; the second comes from the reconciler."""
    target = Target()
    journals = begun(target)
    first = closing(outcome="refused", code=Code.EXPIRED.name)
    target.blobs.create("work", closing_path(INSTANCE), msgspec.json.encode(first))
    record_decision(target.side, closing(outcome="failed", code=Code.SERVICE_UNEXPECTED.name))
    assert journals.read(Kind.IMPORTS, INSTANCE).state is State.REFUSED
