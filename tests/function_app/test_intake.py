"""Events of one upload: repeated, late, and of an upload that came again."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from function_app.target.intake import start_import
from tests.bundles import TRANSFER_ID, Bundle, default_key, make_policy
from tests.function_app.durable_client import DurableClient, RuntimeStatus
from tests.function_app.memory import START, MemoryBlobs, failed, make_target
from tests.function_app.test_import import Target, bundle_of

NOW = START + timedelta(hours=1)
FOLDER = "transfer01"
CONTENT = b"an envelope"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIDE, _ = make_target(make_policy([default_key()]))
FIRST = f"import{SHA256[:32]}"


def upload(blobs: MemoryBlobs) -> None:
    blobs.upload("incoming", f"{FOLDER}/{ENVELOPE_NAME}", CONTENT)


def event(client: DurableClient, blobs: MemoryBlobs) -> str | None:
    return asyncio.run(start_import(client, replace(SIDE, blobs=blobs), folder=FOLDER, now=NOW))


def end(client: DurableClient, instance: str) -> None:
    client.instances[instance].runtime_status = RuntimeStatus.Completed


def test_first_event_starts_the_import_with_the_path_and_never_the_content() -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    upload(blobs)
    assert event(client, blobs) == FIRST
    order = client.instances[FIRST].input_
    found = blobs.stat("incoming", f"{FOLDER}/{ENVELOPE_NAME}")
    assert found
    assert order == {
        "schema": 1,
        "incoming": FOLDER,
        "manifestEtag": found.etag,
        "envelopeSha256": SHA256,
        "runsAtOnce": 5,
        "hashesAtOnce": 8,
        "releaseTimeoutS": 604800,
        "isStaged": False,
        "checkTimeoutS": 86400,
    }


@pytest.mark.parametrize("state", [RuntimeStatus.Running, RuntimeStatus.Pending])
def test_repeated_event_of_a_running_import_starts_nothing(state: RuntimeStatus) -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    upload(blobs)
    event(client, blobs)
    client.instances[FIRST].runtime_status = state
    assert event(client, blobs) is None


def test_late_event_of_a_finished_import_starts_nothing_and_replaces_nothing() -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    upload(blobs)
    event(client, blobs)
    end(client, FIRST)
    blobs.delete("incoming", f"{FOLDER}/{ENVELOPE_NAME}")
    assert event(client, blobs) is None
    assert client.instances[FIRST].runtime_status is RuntimeStatus.Completed


def test_each_new_upload_of_a_finished_bundle_gets_one_instance_of_its_own() -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    upload(blobs)
    event(client, blobs)
    end(client, FIRST)
    seen = {FIRST}
    for _ in range(3):
        upload(blobs)
        again = event(client, blobs)
        assert again is not None
        assert again.startswith(FIRST)
        assert again not in seen
        seen.add(again)
        assert event(client, blobs) is None
        end(client, again)
        assert event(client, blobs) is None


def test_bundle_whose_history_was_purged_is_not_imported_a_second_time() -> None:
    target, bundle = Target(), bundle_of()
    client = DurableClient()

    def arrived() -> str | None:
        target.upload(bundle)
        return asyncio.run(start_import(client, target.side, folder=TRANSFER_ID, now=NOW))

    first = arrived()
    assert first is not None
    assert target.run(bundle.envelope, instance=first)["outcome"] == "imported"
    client.instances.clear()
    again = arrived()
    assert again not in (first, None)
    assert target.run(bundle.envelope, instance=again)["code"] == "REPLAYED"


def test_repeated_event_of_an_import_whose_history_was_purged_starts_nothing() -> None:
    target, bundle = Target(), bundle_of()
    client = DurableClient()
    raw = target.upload(bundle)
    events: list[str | None] = []

    def arrived() -> None:
        client.instances.clear()
        events.append(asyncio.run(start_import(client, target.side, folder=TRANSFER_ID, now=NOW)))

    arrived()
    target.pipelines.work = lambda _: failed("no")
    target.host.before["put_away"] = arrived
    assert target.run(raw, instance=events[0])["code"] == "PIPELINE_RUN_FAILED"
    assert events[1:] == [None]


def test_event_that_lost_a_race_is_content() -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    upload(blobs)
    client.racing = DurableClient().add(FIRST, state=RuntimeStatus.Running)
    assert event(client, blobs) is None


def test_host_that_cannot_start_anything_fails_the_event_so_that_it_comes_again() -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    upload(blobs)
    client.racing = DurableClient().add(FIRST, state=RuntimeStatus.Running)
    client.racing.runtime_status = None
    with pytest.raises(Exception, match="unexpected status code 500"):
        event(client, blobs)


def test_new_upload_while_the_first_is_at_work_is_not_lost() -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    upload(blobs)
    event(client, blobs)
    blobs.delete("incoming", f"{FOLDER}/{ENVELOPE_NAME}")
    upload(blobs)
    second = event(client, blobs)
    assert second is not None
    assert second != FIRST
    assert event(client, blobs) is None


@pytest.mark.parametrize("folder", ["..", "a/../b", "a//b", ".", "a\nb", "x" * 201])
def test_names_that_no_bundle_can_have_start_nothing(folder: str) -> None:
    client, blobs = DurableClient(), MemoryBlobs()
    blobs.upload("incoming", f"{folder}/{ENVELOPE_NAME}", CONTENT)
    assert asyncio.run(start_import(client, replace(SIDE, blobs=blobs), folder=folder, now=NOW)) is None
    assert not client.instances


def test_manifest_larger_than_any_is_not_read_and_is_refused_and_quarantined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, client = Target(), DurableClient()
    huge = b"x" * (MAX_ENVELOPE_BYTES + 1)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", huge)
    read = target.blobs.read

    def unread(container: str, name: str, **more: Any) -> bytes | None:
        content = read(container, name, **more)
        assert content is None or container != "incoming"
        return content

    monkeypatch.setattr(target.blobs, "read", unread)
    instance = asyncio.run(start_import(client, target.side, folder=TRANSFER_ID, now=NOW))
    assert instance is not None
    order = client.instances[instance].input_
    outcome = target.host.run("import_bundle", order, instance)
    receipt = target.assert_refused(outcome, Code.TOO_LARGE)
    assert receipt.envelope_sha256 == hashlib.sha256().hexdigest()


def test_second_manifest_larger_than_any_is_put_away_too() -> None:
    target, client = Target(), DurableClient()
    for folder in ("transfer01", "transfer02"):
        target.blobs.upload("incoming", f"{folder}/{ENVELOPE_NAME}", b"x" * (MAX_ENVELOPE_BYTES + 1))
        instance = asyncio.run(start_import(client, target.side, folder=folder, now=NOW))
        assert instance is not None
        outcome = target.host.run("import_bundle", client.instances[instance].input_, instance)
        assert outcome["code"] == Code.TOO_LARGE.name
    assert target.blobs.names("incoming") == []


def test_manifest_that_is_uploaded_again_before_its_import_begins_is_imported_by_the_first() -> None:
    target, bundle, client = Target(), bundle_of(), DurableClient()
    raw = target.upload(bundle)
    instance = asyncio.run(start_import(client, target.side, folder=TRANSFER_ID, now=NOW))
    assert instance is not None
    target.upload(bundle)  # the same bytes, another ETag
    assert (
        target.host.run("import_bundle", client.instances[instance].input_, instance)["outcome"] == "imported"
    )
    second = asyncio.run(start_import(client, target.side, folder=TRANSFER_ID, now=NOW))
    assert second is None or target.run(raw, instance=second)["outcome"] != "imported"
    assert target.blobs.names("incoming") == []


def two_events(target: Target, client: DurableClient, bundle: Bundle) -> list[str]:
    """The instances that are started for two uploads of the same bytes, one after the other."""
    started = []
    for _ in range(2):
        target.upload(bundle)
        instance = asyncio.run(start_import(client, target.side, folder=TRANSFER_ID, now=NOW))
        assert instance is not None
        started.append(instance)
    return started


def ends(target: Target, client: DurableClient, instance: str) -> str:
    outcome = target.host.run("import_bundle", client.instances[instance].input_, instance)
    return str(outcome.get("code") or outcome["outcome"])


@pytest.mark.parametrize("winner", [0, 1])
def test_of_two_uploads_of_the_same_bytes_exactly_one_is_imported_whoever_runs_first(winner: int) -> None:
    target, client = Target(), DurableClient()
    instances = two_events(target, client, bundle_of())
    first, second = instances[winner], instances[1 - winner]
    assert ends(target, client, first) == "imported"
    assert ends(target, client, second) in {"superseded", "REPLAYED"}
    assert (len(target.numbers()), len(target.pipelines.requests)) == (1, 2)  # of two blobs
    assert target.blobs.names("incoming") == []


@pytest.mark.parametrize("activity", ["admit_bundle", "record_decision", "put_away", "clean_up"])
@pytest.mark.parametrize("outer", [0, 1])
def test_of_two_uploads_of_the_same_bytes_exactly_one_is_imported_however_they_interleave(
    activity: str, outer: int
) -> None:
    target, client = Target(), DurableClient()
    instances = two_events(target, client, bundle_of())
    inner: list[str] = []
    target.host.before[activity] = lambda: inner.append(ends(target, client, instances[1 - outer]))
    ended = [ends(target, client, instances[outer]), *inner]
    assert len(ended) == 2
    assert ended.count("imported") == 1, ended
    assert len(target.numbers()) == 1


def test_of_two_events_at_once_of_the_same_bytes_the_faster_one_starts_the_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first has looked at the upload, then it is uploaded again, and the second is faster to start."""
    target, bundle, client = Target(), bundle_of(), DurableClient()
    target.upload(bundle)
    start_new, started = client.start_new, list[str | None]()

    async def overtaken(name: str, instance_id: str, order: Any) -> str:
        monkeypatch.setattr(client, "start_new", start_new)
        target.upload(bundle)
        started.append(await start_import(client, target.side, folder=TRANSFER_ID, now=NOW))
        if instance_id in client.instances:
            raise RuntimeError("The operation failed with an unexpected status code 500")
        return await start_new(name, instance_id, order)

    monkeypatch.setattr(client, "start_new", overtaken)
    started.append(asyncio.run(start_import(client, target.side, folder=TRANSFER_ID, now=NOW)))
    assert [instance for instance in started if instance] == client.started
    assert [ends(target, client, instance) for instance in client.started].count("imported") == 1
    assert len(target.numbers()) == 1
