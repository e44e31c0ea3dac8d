"""The source trigger of an import pipeline: its four conditions, and that it fires once."""

import hashlib
import re
import time

import pytest
from azure.storage.blob import BlobBlock, ContentSettings

from local_cloud.acr_transfer.records import Run
from tests.local_cloud.acr_transfer_harness import RUN_TIMEOUT_S, Side, needs_azurite, run_name

pytestmark = [needs_azurite, pytest.mark.e2e]
DAY_S = 24 * 3600


def enable(side: Side) -> None:
    side.put_pipeline("importPipelines", "trigger", trigger={"sourceTrigger": {"status": "Enabled"}})


def poll(side: Side, blob: str) -> list[Run]:
    runs = side.loop.run(side.transfer.poll_triggers())
    return [run for run in runs if run.request.blob_name == blob]


def exported(side: Side, blob: str) -> bytes:
    side.push_image("triggered", "v1", b"layer")
    pipeline = side.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"])
    assert side.run(run_name(), pipeline, blob, "triggered:v1")["provisioningState"] == "Succeeded"
    return side.read_blob(blob)


def deliver(side: Side, blob: str, content: bytes, *, with_md5: bool = True, category: str | None) -> None:
    md5 = hashlib.md5(content, usedforsecurity=False).digest() if with_md5 else None
    metadata = {"category": category} if category else {}
    settings = ContentSettings(content_md5=bytearray(md5) if md5 else None)
    with side.blob(blob) as client:
        client.stage_block("0000", content)
        client.commit_block_list([BlobBlock("0000")], content_settings=settings, metadata=metadata)


def test_an_enabled_trigger_imports_a_delivered_blob_once(source: Side, target: Side) -> None:
    content = exported(source, "trigger/1")
    enable(target)
    deliver(target, "trigger/1", content, category="acr-transfer-blob")
    runs = poll(target, "trigger/1")
    assert len(runs) == 1
    assert re.fullmatch("trigger_[0-9a-f]{32}", runs[0].name)  # an underscore, which no run by hand may have
    run = target.await_run(runs[0].name)
    assert run["provisioningState"] == "Succeeded"
    assert run["response"]["importedArtifacts"] == ["triggered:v1"]
    assert "timestamp" in run["response"]["trigger"]["sourceTrigger"]
    assert poll(target, "trigger/1") == []
    deliver(target, "trigger/1", content, category="acr-transfer-blob")
    assert len(poll(target, "trigger/1")) == 1


def test_the_trigger_fires_by_itself_after_its_interval(source: Side, target: Side) -> None:
    content = exported(source, "trigger/self")
    enable(target)
    target.loop.run(target.transfer.poll_triggers())
    deliver(target, "trigger/self", content, category="acr-transfer-blob")
    target.clock.ahead_s = 16 * 60
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while time.monotonic() < deadline:
        runs = [run for run in target.transfer.runs() if run.request.blob_name == "trigger/self"]
        if runs:
            break
        time.sleep(0.05)
    assert target.await_run(runs[0].name)["provisioningState"] == "Succeeded"


@pytest.mark.parametrize("lacking", ["md5", "category", "other-category", "age", "role", "enabled"])
def test_without_one_of_its_conditions_the_trigger_is_silent(
    source: Side, target: Side, lacking: str
) -> None:
    content = exported(source, "trigger/silent")
    if lacking == "enabled":
        target.put_pipeline("importPipelines", "trigger")
    else:
        enable(target)
    if lacking == "role":
        target.transfer.roles._assigned.clear()
    category = {"category": None, "other-category": "other"}.get(lacking, "acr-transfer-blob")
    deliver(target, "trigger/silent", content, with_md5=lacking != "md5", category=category)
    target.clock.ahead_s = 61 * DAY_S if lacking == "age" else 0.0
    assert poll(target, "trigger/silent") == []
