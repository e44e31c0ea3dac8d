"""What still lies there of imports that ended is removed after a while, on record; and of no other."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from airgap.errors import AirgapError, Code, PolicyRefusal, ServiceError
from airgap.manifest import ENVELOPE_NAME
from airgap.states import Kind, State
from function_app.http.caller import read_caller
from function_app.journal.store import JournalStore, forget_journals
from function_app.messages import Item
from function_app.settings import TargetSettings
from function_app.storage.paths import closing_path
from function_app.target import removing
from function_app.target.drop_tickets import give_drop_ticket
from function_app.target.importing import RUN_ATTEMPTS, import_run_name, promote_blob, start_import_run
from function_app.target.removing import remove_ended, told_removals
from function_app.target.wire import RunOrder
from tests.bundles import CHANNEL, TRANSFER_ID
from tests.function_app.memory import ENVIRONMENT, START, failed
from tests.function_app.test_held_uploads import push_damaged
from tests.function_app.test_import import POLICY, Target, bundle_of
from tests.function_app.test_staged import StagedTarget

DAY = timedelta(days=1)
FIRST = "import0001"
NOTES = f"plans/{FIRST}/promoted/"


def remove(target: Target, now: datetime = START + 31 * DAY) -> None:
    remove_ended(target.side, now=now)


def removed(target: Target, about: str = FIRST) -> list[dict[str, Any]]:
    journal = JournalStore(target.blobs, target.side.projection).read(Kind.REMOVALS, about)
    return [dict(entry.facts) for entry in journal.entries]


def journal_ends(target: Target, state: State, about: str = FIRST) -> None:
    assert JournalStore(target.blobs, target.side.projection).read(Kind.IMPORTS, about).state is state


def ended_at(target: Target, about: str = FIRST) -> datetime:
    return JournalStore(target.blobs, target.side.projection).read(Kind.IMPORTS, about).entries[-1].at


def everything(target: Target) -> dict[str, Any]:
    return {name: dict(blobs) for name, blobs in target.blobs.containers.items()}


@pytest.fixture
def refused() -> Target:
    """A target with an upload in quarantine: three blobs and its bundle manifest."""
    target = Target()
    bundle = bundle_of()
    target.upload(bundle, envelope=b"no envelope")
    target.blobs.upload("incoming", f"{TRANSFER_ID}/a/deep/one", b"x")
    outcome = target.run(b"no envelope", instance=FIRST)
    assert outcome["closing"] == "closed"
    assert len(target.blobs.names("quarantine")) == 4
    return target


@pytest.mark.parametrize("make", [Target, StagedTarget])
def test_records_of_the_runs_of_an_import_are_removed_after_its_days_and_that_is_on_record(
    make: Callable[[], Target],
) -> None:
    target, bundle = make(), bundle_of()
    raw = target.upload(bundle)
    work, tries = target.pipelines.work, []

    def fails_once(request: Any) -> dict[str, Any]:
        tries.append(request["source"]["name"])
        return failed("a role is missing yet") if len(tries) == 1 else work(request)

    target.pipelines.work = fails_once
    assert target.run(raw, instance=FIRST)["outcome"] == "imported"
    assert len(target.pipelines.requests) == 3
    assert target.blobs.names("work") == [f"{NOTES}001.json", f"{NOTES}002.json"]
    kept = {name: dict(target.blobs.containers[name]) for name in ("ledger", "receipts")}
    ended = ended_at(target)
    remove(target, ended + 30 * DAY - timedelta(seconds=1))
    assert (len(target.pipelines.requests), removed(target)) == (3, [])
    remove(target, ended + 30 * DAY)
    assert (target.pipelines.requests, target.blobs.names("work")) == ({}, [])
    assert kept == {name: target.blobs.containers[name] for name in kept}
    told = {"container": "work", "state": "closed", "endedAt": f"{ended:%Y-%m-%dT%H:%M:%SZ}", "keptDays": 30}
    assert removed(target) == [told]
    at = f"{ended + 30 * DAY:%Y-%m-%dT%H:%M:%SZ}"
    assert told_removals(target.side, FIRST) == [{"container": "work", "at": at}]


def test_what_is_in_quarantine_is_removed_after_its_days_and_that_is_on_record(refused: Target) -> None:
    before = everything(refused)
    ended = ended_at(refused)
    remove(refused, ended + 180 * DAY - timedelta(seconds=1))
    assert everything(refused) == before
    remove(refused, ended + 180 * DAY)
    assert refused.blobs.names("quarantine") == []
    (told,) = removed(refused)
    assert (told["container"], told["state"], told["keptDays"]) == ("quarantine", "quarantined", 180)


def test_how_long_is_a_setting_each(refused: Target) -> None:
    target, days = (
        refused,
        {"ENDED_IMPORT_DAYS": "2", "QUARANTINE_DAYS": "31", "TRUST_POLICY": POLICY.decode()},
    )
    target.side = replace(target.side, settings=TargetSettings.from_environment(ENVIRONMENT | days))
    target.blobs.upload("work", f"plans/{FIRST}/late.json", b"{}")
    ended = ended_at(target)
    remove(target, ended + 2 * DAY)
    assert target.blobs.names("work") == []
    assert len(target.blobs.names("quarantine")) == 4
    remove(target, ended + 31 * DAY)
    assert target.blobs.names("quarantine") == []
    assert [one["container"] for one in removed(target)] == ["work", "quarantine"]


LATE = [
    ("work", f"plans/{FIRST}/inspection.json"),
    ("staging", "{bundle}/" + f"{FIRST}/001"),
    ("transfer", "{bundle}/001"),
]


@pytest.mark.parametrize(("container", "name"), LATE)
def test_what_a_late_activity_has_left_is_removed(container: str, name: str) -> None:
    target, bundle = Target(), bundle_of()
    assert target.run(target.upload(bundle), instance=FIRST)["outcome"] == "imported"
    name = name.format(bundle=f"{CHANNEL}/{bundle.manifest_sha256}")
    target.blobs.upload(container, name, b"left")
    remove(target, ended_at(target) + 30 * DAY - timedelta(seconds=1))
    assert name in target.blobs.names(container)
    remove(target, ended_at(target) + 30 * DAY)
    assert target.blobs.names(container) == []
    assert container in [one["container"] for one in removed(target)]


def test_what_another_import_of_the_same_bundle_needs_stays() -> None:
    """It waits, and the copies of both lie in one folder of ``staging``."""
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.run(raw, instance=FIRST)
    bundle_folder = f"{CHANNEL}/{bundle.manifest_sha256}"
    journals = JournalStore(target.blobs, target.side.projection)
    facts = {"incoming": TRANSFER_ID, "manifestEtag": "e", "envelopeSha256": "0" * 64}
    for state in (State.RECEIVED, State.ADMITTED, State.WAITING):
        journals.record(Kind.IMPORTS, "import0002", state, facts, by="app", at=START)
    for instance in (FIRST, "import0002"):
        target.blobs.upload("staging", f"{bundle_folder}/{instance}/001", b"copy")
        target.blobs.upload("work", f"plans/{instance}/inspection.json", b"{}")
    remove(target, START + 3000 * DAY)
    assert target.blobs.names("staging") == [f"{bundle_folder}/import0002/001"]
    assert target.blobs.names("work") == ["plans/import0002/inspection.json"]


def test_nothing_is_removed_of_what_is_held_for_its_damaged_parts() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    push_damaged(target, bundle, FIRST)
    journal_ends(target, State.HELD)
    assert target.blobs.names("quarantine") == [f"{TRANSFER_ID}/{FIRST}/{ENVELOPE_NAME}"]
    before = everything(target)
    remove(target, START + 3000 * DAY)
    assert everything(target) == before


@pytest.mark.parametrize(
    "states",
    ["received", "received admitted waiting", "received admitted waiting verified checking awaiting-release"],
)
def test_nothing_is_removed_of_what_waits_for_a_number_checks_or_people(states: str) -> None:
    target = Target()
    journals = JournalStore(target.blobs, target.side.projection)
    for state in states.split():
        facts = {"incoming": TRANSFER_ID} if state == "received" else {}
        journals.record(Kind.IMPORTS, FIRST, State(state), facts, by="app", at=START)
    target.blobs.upload("work", f"plans/{FIRST}/held.json", b"{}")
    target.blobs.upload("staging", f"{CHANNEL}/{'0' * 64}/{FIRST}/001", b"copy")
    target.blobs.upload("quarantine", f"{TRANSFER_ID}/{FIRST}/001", b"x")
    before = everything(target)
    remove(target, START + 3000 * DAY)
    assert everything(target) == before


def test_nothing_is_removed_of_what_is_not_closed_to_the_end(refused: Target) -> None:
    refused.blobs.upload("work", closing_path(FIRST), b"{}")
    before = everything(refused)
    remove(refused, START + 3000 * DAY)
    assert everything(refused) == before


def test_upload_whose_folder_names_another_import_takes_nothing_of_it(refused: Target) -> None:
    """Whoever uploads chooses the folder; here it is called like the place of somebody else's upload."""
    folder = f"{TRANSFER_ID}/{FIRST}"
    refused.blobs.upload("incoming", f"{folder}/{ENVELOPE_NAME}", b"junk")
    assert refused.run(b"junk", folder=folder, instance="import0002")["closing"] == "closed"
    other = f"elsewhere/{FIRST}/001"  # and a name under which that import has put nothing
    refused.blobs.now = ended_at(refused) + DAY
    refused.blobs.upload("quarantine", other, b"x")
    remove(refused, ended_at(refused) + 180 * DAY)
    assert other in refused.blobs.names("quarantine")
    assert not [name for name in refused.blobs.names("quarantine") if name.endswith("deep/one")]


def test_what_no_import_is_known_of_is_removed_by_its_own_age_and_told_by_name() -> None:
    target = Target()
    target.blobs.upload("quarantine", "custody/0123", b"no custody log")
    target.blobs.upload("quarantine", f"{TRANSFER_ID}/importunknown/001", b"x")
    since = target.blobs.containers["quarantine"]["custody/0123"].last_modified
    remove(target, since + 180 * DAY - timedelta(seconds=1))
    assert len(target.blobs.names("quarantine")) == 2
    now = since + 180 * DAY
    remove(target, now)
    assert target.blobs.names("quarantine") == []
    (told,) = removed(target, f"quarantine{now:%Y%m%d%H%M%S}")
    assert told["names"] == ["custody/0123", f"{TRANSFER_ID}/importunknown/001"]


def test_what_is_of_no_import_is_left_alone_elsewhere() -> None:
    target = Target()
    for container, name in (
        ("work", "plans/UPPER/x.json"),
        ("work", "plans/importunknown/x.json"),
        ("staging", "alone"),
        ("staging", f"{CHANNEL}/{'0' * 64}/importunknown/001"),
        ("transfer", "alone"),
        ("transfer", f"{CHANNEL}/{'0' * 64}/001"),
    ):
        target.blobs.upload(container, name, b"x")
    before = everything(target)
    remove(target, START + 3000 * DAY)
    assert everything(target) == before


def test_it_is_on_record_before_anything_goes(refused: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = refused.blobs.delete

    def on_record(container: str, name: str, **more: Any) -> None:
        assert container != "quarantine" or removed(refused)
        delete(container, name, **more)

    monkeypatch.setattr(refused.blobs, "delete", on_record)
    remove(refused, ended_at(refused) + 180 * DAY)
    assert refused.blobs.names("quarantine") == []


def test_round_removes_so_much_and_later_ones_the_rest(
    refused: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_MOST", 1)
    for left in (3, 2, 1, 0):
        remove(refused, ended_at(refused) + 181 * DAY)
        assert len(refused.blobs.names("quarantine")) == left
    assert len(removed(refused)) == 1


def test_removal_that_has_to_wait_is_not_on_record_yet(
    refused: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused.upload(bundle_of(), envelope=b"junk")
    refused.run(b"junk", instance="import0002")
    monkeypatch.setattr(removing, "_MOST", 4)
    remove(refused, ended_at(refused) + 181 * DAY)
    assert (len(removed(refused)), removed(refused, "import0002")) == (1, [])
    remove(refused, ended_at(refused) + 181 * DAY)
    assert (refused.blobs.names("quarantine"), len(removed(refused, "import0002"))) == ([], 1)


def test_quarantine_of_any_size_is_gone_through_page_by_page(
    refused: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_NAMES_AT_ONCE", 10)
    for number in range(35):  # it lies before, and is not due
        refused.blobs.upload("quarantine", f"00000000/{FIRST}/{number:04d}", b"x")
    rounds = 0
    while removed(refused) == []:
        remove(refused, ended_at(refused) + 181 * DAY)
        rounds += 1
        assert rounds < 10
    assert rounds > 2


def test_removal_that_is_broken_off_anywhere_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 50):
        target = Target()
        target.run(target.upload(bundle_of()), instance=FIRST)
        calls = iter(range(1, 1000))

        def broken(
            do: Callable[..., Any], *args: Any, calls: Any = calls, at: int = number, **more: Any
        ) -> Any:
            if next(calls) == at:
                raise ServiceError(Code.SERVICE_UNREACHABLE, "away")
            return do(*args, **more)

        for port, verb in (
            (target.blobs, "delete"),
            (target.pipelines, "delete_run"),
            (target.blobs, "create"),
        ):
            do = getattr(port, verb)
            monkeypatch.setattr(port, verb, lambda *args, _do=do, _b=broken, **more: _b(_do, *args, **more))
        with suppress(ServiceError):  # its position cannot be written down
            remove(target)
        is_through = next(calls) <= number
        remove(target, START + 32 * DAY)
        assert (target.pipelines.requests, target.blobs.names("work")) == ({}, [])
        assert len(removed(target)) == 1
        if is_through:
            break
    assert number > 2 * RUN_ATTEMPTS


def test_one_that_cannot_be_removed_stops_no_other(refused: Target) -> None:
    refused.upload(bundle_of(), envelope=b"junk")
    refused.run(b"junk", instance="import0002")
    refused.blobs.put("journal", f"imports/{FIRST}/00000002.json", b"{}")
    forget_journals()
    remove(refused, START + 3000 * DAY)
    assert {name.split("/")[1] for name in refused.blobs.names("quarantine")} == {FIRST}


def test_blob_that_cannot_be_deleted_keeps_nothing_after_it(
    refused: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = refused.blobs.names("quarantine")[0]
    refused.blobs.upload("quarantine", "nobody/1", b"x")
    refused.blobs.upload("quarantine", "nobody/2", b"x")
    delete = refused.blobs.delete

    def denied(container: str, name: str, **more: Any) -> None:
        if name in {first, "nobody/1"}:
            raise ServiceError(Code.SERVICE_DENIED, name)
        delete(container, name, **more)

    monkeypatch.setattr(refused.blobs, "delete", denied)
    remove(refused, START + 3000 * DAY)
    assert refused.blobs.names("quarantine") == [first, "nobody/1"]


def test_records_of_runs_are_counted_among_what_a_round_removes(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target()
    target.run(target.upload(bundle_of()), instance=FIRST)
    monkeypatch.setattr(removing, "_MOST", 1 + RUN_ATTEMPTS)
    remove(target)
    assert target.blobs.names("work") == [f"{NOTES}002.json"]


def test_without_the_right_to_delete_runs_their_notes_stay_and_it_is_tried_again() -> None:
    target = Target()
    target.run(target.upload(bundle_of()), instance=FIRST)
    delete_run = target.pipelines.delete_run

    def denied(name: str) -> None:
        raise ServiceError(Code.SERVICE_DENIED, name)

    target.pipelines.delete_run = denied  # type: ignore[method-assign]  # to interfere
    remove(target)
    assert target.blobs.names("work") == [f"{NOTES}001.json", f"{NOTES}002.json"]
    target.pipelines.delete_run = delete_run  # type: ignore[method-assign]
    remove(target)
    assert (target.pipelines.requests, target.blobs.names("work")) == ({}, [])


def test_each_of_many_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "_AT_ONCE", 1)
    target = Target()
    target.run(target.upload(bundle_of()), instance=FIRST)
    target.blobs.upload("work", "plans/import0000/x.json", b"{}")  # looked at first
    for hours in range(2):
        remove(target, START + 31 * DAY + timedelta(hours=hours))
    assert target.pipelines.requests == {}


def test_only_runs_of_that_import_are_removed() -> None:
    target = Target()
    target.run(target.upload(bundle_of()), instance=FIRST)
    other = import_run_name("import0002", "001")
    target.pipelines.put_run(other, {})
    remove(target)
    assert list(target.pipelines.requests) == [other]


# --- attacks ------------------------------------------------------------------------------------------------


def test_flood_of_refused_uploads_keeps_no_older_one_from_being_removed(
    refused: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names come first, and none of them is due for months."""
    monkeypatch.setattr(removing, "_AT_ONCE", 3)
    due = ended_at(refused) + 180 * DAY
    refused.blobs.now = refused.host.now = due - DAY
    for number in range(10):
        folder = f"00000000{number}"
        refused.blobs.upload("incoming", f"{folder}/{ENVELOPE_NAME}", b"junk")
        refused.run(b"junk", folder=folder, instance=f"importflood{number}")
    remove(refused, due)
    assert not [name for name in refused.blobs.names("quarantine") if FIRST in name]
    assert len(refused.blobs.names("quarantine")) == 10


def test_flood_of_what_is_no_custody_log_keeps_no_older_one_from_being_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(removing, "_AT_ONCE", 2)
    target = Target()
    target.blobs.upload("quarantine", "custody/ffff", b"old")
    target.blobs.now = START + 100 * DAY
    for number in range(10):
        target.blobs.upload("quarantine", f"custody/{number:04d}", b"young")
    remove(target, START + 181 * DAY)
    assert "custody/ffff" not in target.blobs.names("quarantine")
    assert len(target.blobs.names("quarantine")) == 10


def test_bundle_whose_import_was_removed_by_age_is_refused_as_a_replay() -> None:
    target, bundle = Target(), bundle_of(lifetime=80 * DAY)
    raw = target.upload(bundle)
    assert target.run(raw, instance=FIRST)["outcome"] == "imported"
    remove(target)
    assert target.pipelines.requests == {}
    target.host.now = START + 32 * DAY
    target.upload(bundle)
    assert target.run(raw, instance="import0002")["code"] == Code.REPLAYED.name
    assert target.pipelines.requests == {}


def test_steps_that_come_after_the_removal_start_no_run_and_promote_nothing() -> None:
    target = Target()
    target.run(target.upload(bundle_of()), instance=FIRST)
    remove(target)
    with pytest.raises(AirgapError):
        start_import_run(target.side, RunOrder(owner=FIRST, number=0))
    with pytest.raises(AirgapError):
        promote_blob(target.side, Item(owner=FIRST, number=0))
    assert (target.pipelines.requests, target.blobs.names("transfer")) == ({}, [])
    remove(target, START + 40 * DAY)
    assert target.blobs.names("work") == []


def test_release_that_is_kept_for_a_bundle_outlasts_the_removal_of_its_import() -> None:
    """What people have signed is evidence; it lies in the ledger, where nothing goes by age."""
    target, bundle = Target(), bundle_of()
    target.run(target.upload(bundle), instance=FIRST)
    kept = f"releases/{bundle.manifest_sha256}/{'0' * 64}.dsse.json"
    target.blobs.upload("ledger", kept, b"{}")
    remove(target, START + 3000 * DAY)
    assert kept in target.blobs.names("ledger")


def test_ticket_that_is_taken_after_the_removal_lets_nobody_bring_it_again() -> None:
    target, bundle = Target(), bundle_of(lifetime=80 * DAY)
    target.run(target.upload(bundle), instance=FIRST)
    remove(target)
    with pytest.raises(PolicyRefusal, match="REPLAYED"):
        give_drop_ticket(
            target.side, bundle.envelope, caller=read_caller({}, is_signed_in=False), now=START + 32 * DAY
        )
