"""Custody logs at the target: first seen, kept for good."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from airgap.custody import MAX_LOG_BYTES
from airgap.errors import Code, ServiceError
from airgap.manifest import ENVELOPE_NAME
from function_app.target.intake import start_import
from function_app.target.reconciling import Reconciler
from tests.bundles import TRANSFER_ID, default_key, make_policy
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import MemoryBlobs, make_target

LOG = b'{"schema":1}\n'
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
