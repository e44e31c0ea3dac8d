"""Custody logs at the target: first seen, kept for good."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.custody import MAX_LOG_BYTES
from airgap.errors import Code, ServiceError
from airgap.manifest import ENVELOPE_NAME
from airgap.strict_json import dump_canonical
from function_app.target.intake import start_import
from function_app.target.reconciling import Reconciler
from tests.airgap.test_custody_copies import EARLY, LATE, event, log_of
from tests.bundles import TRANSFER_ID, default_key, make_policy
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import MemoryBlobs, make_target

LOG = log_of(event(0))
KEPT = f"{TRANSFER_ID}/{hashlib.sha256(LOG).hexdigest()[:32]}.jsonl"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Scene:
    def __init__(self) -> None:
        self.side, self.blobs = make_target(make_policy([default_key()]))
        self.client = DurableClient()

    def upload(self, content: bytes = LOG, name: str = f"custody/{KEPT}") -> None:
        self.blobs.upload("incoming", name, content)

    def round(self, tick: int = 0) -> None:
        now = NOON + timedelta(minutes=5 * tick)
        asyncio.run(Reconciler(self.side, self.client, now).run())

    def kept(self) -> dict[str, bytes]:
        return {name: blob.content for name, blob in self.blobs.containers["custody"].items()}


def test_log_is_kept_where_its_carrier_cannot_write_and_is_not_left_with_him() -> None:
    scene = Scene()
    scene.upload()
    scene.round()
    assert scene.kept() == {KEPT: LOG}
    assert scene.blobs.names("incoming") == []


@pytest.mark.parametrize("first", [b"forged later", LOG])
def test_log_that_is_uploaded_again_under_its_name_replaces_nothing(first: bytes) -> None:
    scene = Scene()
    scene.upload()
    scene.round()
    scene.upload(first)
    scene.round(1)
    assert scene.kept() == {KEPT: LOG}
    assert scene.blobs.names("incoming") == []


def test_log_that_was_exchanged_before_it_was_seen_is_quarantined_and_not_believed() -> None:
    scene = Scene()
    scene.upload(b"exchanged")
    scene.round()
    assert scene.kept() == {}
    assert [blob.content for blob in scene.blobs.containers["quarantine"].values()] == [b"exchanged"]


@pytest.mark.parametrize(
    "name", ["custody/x", f"custody/{KEPT}/more", f"custody/{TRANSFER_ID}/not-a-digest.jsonl"]
)
def test_what_is_no_custody_log_is_quarantined(name: str) -> None:
    scene = Scene()
    scene.upload(name=name)
    scene.round()
    assert (scene.kept(), scene.blobs.names("incoming")) == ({}, [])
    assert len(scene.blobs.names("quarantine")) == 1


def test_log_larger_than_any_is_not_read() -> None:
    scene = Scene()
    scene.upload(bytes(MAX_LOG_BYTES + 1))
    scene.round()
    assert scene.kept() == {}
    assert len(scene.blobs.names("quarantine")) == 1


@pytest.mark.parametrize("folder", ["custody", f"custody/{TRANSFER_ID}"])
def test_manifest_planted_among_the_logs_starts_nothing_and_moves_no_log(folder: str) -> None:
    scene = Scene()
    scene.upload()
    scene.upload(b"a manifest", f"{folder}/{ENVELOPE_NAME}")
    assert asyncio.run(start_import(scene.client, scene.side, folder=folder, now=NOON)) is None
    scene.round()
    assert scene.client.started == []
    assert scene.kept() == {KEPT: LOG}


def test_one_that_cannot_be_moved_keeps_no_other_from_being_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.upload()
    scene.upload(b"archived", "custody/a")
    copy = MemoryBlobs.copy

    def refuse(blobs: MemoryBlobs, source: tuple[str, str], *args: object, **more: object) -> str | None:
        if source[1] == "custody/a":
            raise ServiceError(Code.CONFLICT, "archived")
        return copy(blobs, source, *args, **more)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(MemoryBlobs, "copy", refuse)
    scene.round()
    assert scene.kept() == {KEPT: LOG}


FORGED = log_of(event(0), event(1, who="mallory"), event(2))


def named(content: bytes) -> str:
    return f"{TRANSFER_ID}/{hashlib.sha256(content).hexdigest()[:32]}"


def deliver(scene: Scene, *contents: bytes) -> None:
    for content in contents:
        scene.upload(content, f"custody/{named(content)}.jsonl")
        scene.round()


def test_log_that_has_grown_since_its_last_copy_is_kept_and_nothing_is_told() -> None:
    scene = Scene()
    deliver(scene, EARLY, LATE)
    assert scene.kept().keys() == {f"{named(EARLY)}.jsonl", f"{named(LATE)}.jsonl"}


def test_log_that_was_rewritten_since_its_last_copy_is_kept_told_and_an_alarm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    deliver(scene, LATE, FORGED)
    told = {
        "schema": 1,
        "log": f"{named(FORGED)}.jsonl",
        "count": 1,
        "findings": [
            {
                "fault": "altered",
                "line": 2,
                "detail": "another copy has another entry 2",
                "against": f"{named(LATE)}.jsonl",
            }
        ],
    }
    assert scene.kept()[f"{named(FORGED)}.findings.json"] == dump_canonical(told)
    assert "has signs of tampering: 1" in caplog.text
    assert scene.kept()[f"{named(FORGED)}.jsonl"] == FORGED


def test_log_that_is_broken_in_itself_is_told() -> None:
    scene = Scene()
    broken = LATE.replace(b"desk-7", b"desk-8", 1)
    deliver(scene, broken)
    told = json.loads(scene.kept()[f"{named(broken)}.findings.json"])
    assert told["findings"][0]["fault"] == "altered"


def test_torn_end_is_no_tampering() -> None:
    scene = Scene()
    deliver(scene, LATE[:-10])
    assert scene.kept().keys() == {f"{named(LATE[:-10])}.jsonl"}


def test_finding_is_written_though_the_app_died_between_log_and_finding() -> None:
    scene = Scene()
    deliver(scene, LATE)
    scene.blobs.create("custody", f"{named(FORGED)}.jsonl", FORGED)
    deliver(scene, FORGED)
    assert f"{named(FORGED)}.findings.json" in scene.kept()


def test_log_of_another_transfer_is_not_compared() -> None:
    scene = Scene()
    scene.blobs.create("custody", f"another001/{'0' * 32}.jsonl", LATE)
    deliver(scene, FORGED)
    assert f"{named(FORGED)}.findings.json" not in scene.kept()


@pytest.mark.parametrize("begin", ["0", "f"])
def test_more_copies_than_are_compared_are_told_as_such(begin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    for number in range(10):
        scene.blobs.create("custody", f"{TRANSFER_ID}/{begin * 31}{number:x}.jsonl", EARLY)
    deliver(scene, EARLY)
    assert f"{named(EARLY)}.findings.json" not in scene.kept()
    read = []
    original = MemoryBlobs.read

    def counted(blobs: MemoryBlobs, container: str, name: str, **more: Any) -> bytes | None:
        read.append(name) if container == "custody" else None
        return original(blobs, container, name, **more)

    monkeypatch.setattr(MemoryBlobs, "read", counted)
    deliver(scene, LATE)
    (finding,) = json.loads(scene.kept()[f"{named(LATE)}.findings.json"])["findings"]
    assert (finding["fault"], len(read)) == ("uncompared", 10)
