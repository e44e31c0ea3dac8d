"""Parts of the target that meet: late deliveries, uploads of one bundle side by side, what others hold up."""

import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest

from airgap.errors import Code, PolicyRefusal, ServiceError
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME
from airgap.override import override_name
from airgap.policy_chain import version_name
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.storage.turns import STAGING_QUEUE, Turns
from function_app.target.admission import admit_bundle
from function_app.target.longest_waits import FOR_STAGING
from function_app.target.orchestrators import CLOSE_IMPORT
from function_app.target.staged import empty_staging, take_staging
from function_app.target.wire import Judging, Upload
from tests.bundles import TRANSFER_ID, Bundle
from tests.function_app.memory import START
from tests.function_app.test_held_uploads import LONG_AFTER, held, journal_of, push_damaged, send_again
from tests.function_app.test_import import Target, bundle_of, flip
from tests.function_app.test_reconciling import TargetRound
from tests.function_app.test_staged import StagedTarget

FIRST, SECOND = "import0001", "import0002"


def judging(raw: bytes, instance: str, now: datetime) -> Judging:
    return Judging(
        incoming=TRANSFER_ID,
        manifest_etag="any",
        envelope_sha256=hashlib.sha256(raw).hexdigest(),
        instance=instance,
        now=format_time(now),
    )


def upload_damaged(target: Target, bundle: Bundle) -> bytes:
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 7))
    return raw


def admit(target: Target, raw: bytes, instance: str = SECOND) -> None:
    """The import of an upload is admitted; it goes on later, if at all."""
    side = target.side
    facts = {
        "incoming": TRANSFER_ID,
        "manifestEtag": "any",
        "envelopeSha256": hashlib.sha256(raw).hexdigest(),
    }
    journals = JournalStore(side.blobs, side.projection)
    journals.record(Kind.IMPORTS, instance, State.RECEIVED, facts, by="app", at=target.host.now)
    admit_bundle(side, judging(raw, instance, target.host.now))


def close_all(found: TargetRound) -> None:
    """What the reconciler starts runs to its end."""
    closings = {name: one for name, one in found.client.instances.items() if name.endswith("-closing")}
    for instance, status in closings.items():
        found.target.host.run(CLOSE_IMPORT, status.input_, instance)


# damaged uploads


def test_damaged_import_whose_parts_came_again_while_it_was_closed_is_not_held_for_ever() -> None:
    found, bundle = TargetRound(), bundle_of(blob_sizes=(5000, 600))
    target = found.target
    raw = upload_damaged(target, bundle)
    second: list[dict[str, Any]] = []

    def again() -> None:
        send_again(target, bundle, "001")
        second.append(target.run(raw, instance=SECOND))

    target.host.before["clean_up"] = again
    target.run(raw, instance=FIRST)
    assert second[0]["outcome"] == "imported"
    found.run(LONG_AFTER)
    assert journal_of(target, FIRST).state is State.SUPERSEDED
    assert target.blobs.names("incoming") == held(target) == []


def test_upload_that_another_import_was_admitted_with_is_held_by_nobody_else() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = upload_damaged(target, bundle)

    def again() -> None:
        send_again(target, bundle, "001")
        admit(target, raw)

    target.host.before["accept_bundle"] = again
    target.run(raw, instance=FIRST)
    assert held(target) == []
    assert target.run(raw, instance=SECOND)["outcome"] == "imported"
    assert target.blobs.names("incoming") == []
    assert journal_of(target, FIRST).is_final


def test_of_two_damaged_imports_of_one_upload_one_holds_it_and_both_end() -> None:
    found, bundle = TargetRound(), bundle_of(blob_sizes=(5000, 600))
    target = found.target
    raw = upload_damaged(target, bundle)

    def again() -> None:
        target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", raw)
        admit(target, raw)

    target.host.before["accept_bundle"] = again
    target.run(raw, instance=FIRST)
    target.run(raw, instance=SECOND)
    assert [journal_of(target, one).state for one in (FIRST, SECOND)] == [State.QUARANTINED, State.HELD]
    found.run(LONG_AFTER)
    close_all(found)
    assert journal_of(target, SECOND).state is State.QUARANTINED
    assert target.blobs.names("incoming") == held(target) == []


class Died(BaseException):
    """The worker is gone."""


def test_closing_that_is_resumed_takes_nothing_back_from_the_upload_that_came_since() -> None:
    found, bundle = TargetRound(), bundle_of(blob_sizes=(5000, 600))
    target = found.target
    raw = upload_damaged(target, bundle)

    def die() -> None:
        raise Died

    target.host.before["issue_receipt"] = die
    with pytest.raises(Died):
        target.run(raw, instance=FIRST)
    send_again(target, bundle, "001")
    target.host.before["put_away"] = lambda: found.run(target.host.now + timedelta(minutes=15))
    assert target.run(raw, instance=SECOND)["outcome"] == "imported"
    close_all(found)
    assert target.blobs.names("incoming") == held(target) == []
    assert journal_of(target, FIRST).is_final
    assert len(target.blobs.names("receipts")) == 2


def test_admission_that_is_delivered_late_begins_nothing_anew() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = push_damaged(target, bundle, FIRST)
    send_again(target, bundle)
    target.run(raw, instance=SECOND)
    send_again(target, bundle, "001")
    work = target.blobs.names("work")
    for instance in (FIRST, SECOND):
        with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
            admit_bundle(target.side, judging(raw, instance, target.host.now))
    assert target.blobs.names("work") == work
    assert target.run(raw, instance="import0003")["outcome"] == "imported"
    assert target.blobs.names("incoming") == []


def test_admission_that_broke_off_and_met_another_upload_leaves_nothing_behind() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = target.upload(bundle)
    admit(target, raw, FIRST)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", b"another")
    admitted = admit_bundle(target.side, judging(raw, FIRST, target.host.now))
    assert not admitted.is_current
    assert [name for name in target.blobs.names("work") if name.startswith(("uploads/", "channels/"))] == []


def test_note_of_an_upload_whose_import_has_ended_is_removed() -> None:
    found = TargetRound()
    found.blobs.create("work", f"uploads/{TRANSFER_ID}/{FIRST}", b"")
    found.run()
    assert found.blobs.names("work") == []


# policies and numbers


@pytest.mark.parametrize("is_override", [False, True])
def test_blob_beside_the_policy_that_the_storage_never_gives_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, *, is_override: bool
) -> None:
    target, bundle = Target(), bundle_of()
    locked = override_name(bundle.manifest_sha256) if is_override else version_name(2)
    read = target.blobs.read

    def archived(container: str, name: str, **more: Any) -> bytes | None:
        if (container, name) == ("policy", locked):
            raise ServiceError(Code.CONFLICT, "HTTP 409 BlobArchived")
        return read(container, name, **more)

    monkeypatch.setattr(target.blobs, "read", archived)
    if is_override:
        target.host.now = START + timedelta(days=400)
        target.assert_refused(target.receive(bundle), Code.EXPIRED)
    else:
        assert target.receive(bundle)["outcome"] == "imported"


# the staging registry


def test_import_that_waits_for_the_staging_registry_has_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    target, bundle = StagedTarget(), bundle_of()
    raw = target.upload(bundle)
    rounds: list[str] = []
    real = Turns.take

    def take(self: Turns, instance: str) -> bool:
        if self.channel == STAGING_QUEUE and len(rounds) < 50:
            rounds.append(instance)
            return False
        return real(self, instance)

    monkeypatch.setattr(Turns, "take", take)
    places: list[str] = []

    def look() -> None:
        places.extend(one for one in target.blobs.names("work") if f"{STAGING_QUEUE}/waiting" in one)

    target.host.before["empty_staging"] = look
    assert target.run(raw)["outcome"] == "imported"
    assert len(places) == 1


def test_registry_is_not_emptied_once_more_when_the_runs_have_brought_something() -> None:
    target, bundle = StagedTarget(), bundle_of()
    raw = target.upload(bundle)
    order = Upload(
        incoming=TRANSFER_ID,
        manifest_etag="any",
        envelope_sha256=hashlib.sha256(raw).hexdigest(),
        instance=FIRST,
    )

    def again() -> None:
        empty_staging(target.side, order)

    target.host.before["prove_staged"] = again
    assert target.run(raw)["outcome"] == "imported"


def test_decided_import_takes_no_turn_of_the_staging_registry_late() -> None:
    target, bundle = StagedTarget(), bundle_of()
    raw = target.upload(bundle)

    def late() -> None:
        with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
            take_staging(target.side, judging(raw, FIRST, target.host.now))

    target.host.before["issue_receipt"] = late
    assert target.run(raw)["outcome"] == "imported"
    assert target.is_tidy


def test_import_that_waits_for_the_staging_registry_for_too_long_gives_the_channel_back() -> None:
    target, bundle = StagedTarget(), bundle_of()
    raw = target.upload(bundle)
    target.blobs.put("work", f"channels/{STAGING_QUEUE}/turn", b"importother")

    def days_pass() -> None:
        target.host.now = START + FOR_STAGING - timedelta(seconds=2)  # the next round is over the time

    target.host.before["take_staging"] = days_pass
    outcome = target.run(raw)
    assert target.host.called.count("take_staging") == 2
    assert (outcome["outcome"], outcome["code"]) == ("failed", Code.TURN_EXPIRED.name)
    assert target.pipelines.requests == {}
    assert target.blobs.in_work() == [f"channels/{STAGING_QUEUE}/turn"]


def test_no_run_is_started_while_another_import_has_the_staging_registry() -> None:
    target, bundle = StagedTarget(), bundle_of()
    raw = target.upload(bundle)

    def lose() -> None:
        Turns(target.blobs, STAGING_QUEUE).leave(FIRST)
        target.blobs.put("work", f"channels/{STAGING_QUEUE}/turn", b"importother")

    target.host.before["start_import_run"] = lose
    assert target.run(raw)["outcome"] == "refused"
    assert target.pipelines.requests == {}
