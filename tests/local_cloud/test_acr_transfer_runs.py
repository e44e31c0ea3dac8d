"""Exports and imports against real storage and real registries, over HTTPS."""

import hashlib
import os
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.local_cloud.acr_transfer_harness import (
    INDEX,
    MANIFEST,
    Side,
    descriptor,
    digest_of,
    needs_azurite,
    run_body,
    run_name,
)

pytestmark = [needs_azurite, pytest.mark.e2e]


def export(side: Side, blob: str, *artifacts: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    pipeline = side.put_pipeline("exportPipelines", "exp01", options=options)
    return side.run(run_name(), pipeline, blob, *artifacts)


def carry_and_import(
    source: Side, target: Side, blob: str, options: tuple[str, ...] = (), **request: Any
) -> dict[str, Any]:
    target.write_blob(blob, source.read_blob(blob))
    pipeline = target.put_pipeline("importPipelines", "imp01", options=options)
    return target.run(run_name(), pipeline, blob, **request)


def failure(run: dict[str, Any]) -> str:
    assert (run["provisioningState"], run["response"]["status"]) == ("Failed", "Failed"), run
    assert "finishTime" in run["response"]
    return str(run["response"]["pipelineRunErrorMessage"])


def succeeded(run: dict[str, Any]) -> bool:
    return (run["provisioningState"], run["response"]["status"]) == ("Succeeded", "Succeeded")


def test_what_is_exported_arrives_with_equal_digests(source: Side, target: Side) -> None:
    layer = os.urandom(300_000)
    tagged = source.push_image("team/app", "v1", layer)
    untagged = source.push_image("team/tool", None, layer, b"second")
    exported = export(source, "t1/001", "team/app:v1", f"team/tool@{untagged}")
    assert succeeded(exported), exported
    with source.blob("t1/001") as blob:
        found = blob.get_blob_properties()
        content = blob.download_blob().readall()
    assert found.metadata == {"category": "acr-transfer-blob"}
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    assert found.content_settings.content_md5 == bytearray(md5)
    assert exported["response"]["catalogDigest"] == digest_of(content)
    assert content.count(layer) == 1

    imported = carry_and_import(source, target, "t1/001")
    assert succeeded(imported), imported
    assert imported["response"]["importedArtifacts"] == ["team/app:v1", f"team/tool@{untagged}"]
    assert imported["response"]["catalogDigest"] == digest_of(content)
    assert imported["response"]["progress"] == {"percentage": "100"}
    assert target.digest_at("team/app", "v1") == tagged
    assert target.digest_at("team/tool", untagged) == untagged
    assert target.registry_get("team/tool/tags/list").json()["tags"] in ([], None)
    assert target.registry_get(f"team/app/blobs/{digest_of(layer)}").content == layer


def test_equal_exports_make_equal_blobs(source: Side) -> None:
    source.push_image("equal", "v1", b"layer")
    first = export(source, "equal/1", "equal:v1")
    second = export(source, "equal/2", "equal:v1")
    assert first["response"]["catalogDigest"] == second["response"]["catalogDigest"]


def test_a_reference_without_tag_means_latest(source: Side, target: Side) -> None:
    digest = source.push_image("plain", "latest", b"layer")
    assert export(source, "latest", "plain")["response"]["status"] == "Succeeded"
    assert carry_and_import(source, target, "latest")["response"]["importedArtifacts"] == ["plain:latest"]
    assert target.digest_at("plain", "latest") == digest


def push_index(side: Side, repository: str, tag: str) -> tuple[str, list[str]]:
    children = [side.push_image(repository, None, arch.encode()) for arch in ("amd64", "arm64")]
    entries = [
        {**descriptor(side.registry_get(f"{repository}/manifests/{child}").content, MANIFEST)}
        for child in children
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return side.push_manifest(repository, tag, index), children


def test_an_index_carries_all_its_platforms(source: Side, target: Side) -> None:
    top, children = push_index(source, "multi", "v1")
    assert succeeded(export(source, "multi", "multi:v1"))
    assert succeeded(carry_and_import(source, target, "multi"))
    assert target.digest_at("multi", "v1") == top
    assert [target.digest_at("multi", child) for child in children] == children


@pytest.mark.parametrize("carries", [False, True])
def test_referrers_travel_only_when_the_switch_says_so(source: Side, target: Side, *, carries: bool) -> None:
    repository = f"signed-{str(carries).lower()}"
    digest = source.push_image(repository, "v1", b"layer")
    content = source.registry_get(f"{repository}/manifests/v1").content
    signature = source.push_image(repository, None, b"signature", subject=descriptor(content, MANIFEST))
    source.behaviour.carries_referrers = carries
    assert succeeded(export(source, repository, f"{repository}:v1"))
    assert succeeded(carry_and_import(source, target, repository))
    assert target.digest_at(repository, "v1") == digest
    assert target.digest_at(repository, signature) == (signature if carries else None)


def test_an_unknown_artifact_fails_the_export_and_no_blob_appears(source: Side) -> None:
    source.push_image("known", "v1", b"layer")
    run = export(source, "unknown/001", "known:v1", "unknown:v1")
    assert failure(run) == "unknown:v1 was not found in the registry"
    with source.blob("unknown/001") as blob:
        assert not blob.exists()


@pytest.mark.parametrize("outcome", ["Succeeded", "Failed"])
def test_continue_on_errors_exports_the_rest_and_says_what_is_missing(source: Side, outcome: Any) -> None:
    source.push_image("rest", "v1", b"layer")
    source.behaviour.partial_result = outcome
    run = export(source, f"rest/{outcome}", "absent:v1", "rest:v1", options=("ContinueOnErrors",))
    assert run["provisioningState"] == outcome
    assert "absent:v1" in run["response"]["pipelineRunErrorMessage"]
    assert b"rest:v1" in source.read_blob(f"rest/{outcome}")


def test_nothing_exported_is_a_failure_even_with_continue_on_errors(source: Side) -> None:
    run = export(source, "none", "absent:v1", options=("ContinueOnErrors",))
    assert "none of the artifacts" in failure(run)


def test_a_layer_over_the_limit_is_refused(source: Side) -> None:
    source.push_image("heavy", "v1", bytes(1000))
    source.behaviour.max_layer_bytes = 999
    assert "at most 999" in failure(export(source, "heavy", "heavy:v1"))


def test_foreign_layers_stay_behind(source: Side, target: Side) -> None:
    foreign = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": digest_of(b"elsewhere"),
        "size": 9,
        "urls": ["https://elsewhere.invalid/layer"],
    }
    config = b"{}"
    source.push_blobs("windows", config)
    fields = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config, "application/json")}
    digest = source.push_manifest("windows", "v1", {**fields, "layers": [foreign]})
    assert succeeded(export(source, "windows", "windows:v1"))
    assert succeeded(carry_and_import(source, target, "windows"))
    assert target.digest_at("windows", "v1") == digest
    assert target.registry_get(f"windows/blobs/{foreign['digest']}").status_code == 404


@pytest.mark.parametrize(
    ("options", "rule", "state", "is_replaced"),
    [
        ((), "fail", "Failed", False),
        ((), "skip", "Succeeded", False),
        (("OverwriteBlobs",), "fail", "Succeeded", True),
    ],
)
def test_an_existing_blob_is_replaced_only_with_overwrite_blobs(
    source: Side, options: tuple[str, ...], rule: Any, state: str, *, is_replaced: bool
) -> None:
    source.push_image("again", "v1", b"layer")
    source.write_blob("again", b"before")
    source.behaviour.existing_blob = rule
    assert export(source, "again", "again:v1", options=options)["provisioningState"] == state
    assert (source.read_blob("again") != b"before") is is_replaced


@pytest.mark.parametrize(
    ("options", "rule", "state", "is_replaced"),
    [
        ((), "fail", "Failed", False),
        ((), "skip", "Succeeded", False),
        (("OverwriteTags",), "fail", "Succeeded", True),
    ],
)
def test_an_existing_tag_is_moved_only_with_overwrite_tags(
    source: Side, target: Side, options: tuple[str, ...], rule: Any, state: str, *, is_replaced: bool
) -> None:
    repository = f"taken-{rule}-{len(options)}"
    new = source.push_image(repository, "v1", b"new")
    old = target.push_image(repository, "v1", b"old")
    target.behaviour.existing_tag = rule
    assert succeeded(export(source, repository, f"{repository}:v1"))
    run = carry_and_import(source, target, repository, options)
    assert run["provisioningState"] == state
    assert run["response"]["importedArtifacts"] == ([f"{repository}:v1"] if is_replaced else [])
    assert target.digest_at(repository, "v1") == (new if is_replaced else old)


def test_importing_the_same_blob_twice_is_no_conflict(source: Side, target: Side) -> None:
    source.push_image("twice", "v1", b"layer")
    assert succeeded(export(source, "twice", "twice:v1"))
    assert succeeded(carry_and_import(source, target, "twice"))
    assert succeeded(carry_and_import(source, target, "twice"))


@pytest.mark.parametrize("is_good", [True, False])
def test_the_source_blob_is_deleted_after_success_only(source: Side, target: Side, *, is_good: bool) -> None:
    name = f"deleted-{str(is_good).lower()}"
    source.push_image(name, "v1", b"layer")
    export(source, name, f"{name}:v1")
    content = source.read_blob(name)
    target.write_blob(name, content if is_good else content[:-1])
    pipeline = target.put_pipeline("importPipelines", "imp01", options=["DeleteSourceBlobOnSuccess"])
    assert succeeded(target.run(run_name(), pipeline, name)) is is_good
    with target.blob(name) as blob:
        assert blob.exists() is not is_good


def test_a_wrong_catalog_digest_is_refused_unless_the_switch_is_off(source: Side, target: Side) -> None:
    source.push_image("catalog", "v1", b"layer")
    export(source, "catalog", "catalog:v1")
    target.write_blob("catalog", source.read_blob("catalog"))
    pipeline = target.put_pipeline("importPipelines", "imp01")
    body = run_body(pipeline, "catalog")
    body["properties"]["request"]["catalogDigest"] = digest_of(b"another")
    target.call("PUT", "pipelineRuns/wrong01", body)
    assert "catalogDigest" in failure(target.await_run("wrong01"))
    target.behaviour.checks_catalog_digest = False
    target.call("PUT", "pipelineRuns/wrong02", body)
    assert succeeded(target.await_run("wrong02"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tar"),
        (b"not a tar at all" * 100, "not a tar"),
        (bytes(1024), "FORMAT.json is not a JSON object"),
    ],
    ids=["empty", "text", "empty-tar"],
)
def test_a_blob_that_is_no_transfer_blob_fails_the_import(target: Side, content: bytes, message: str) -> None:
    target.write_blob("garbage", content)
    pipeline = target.put_pipeline("importPipelines", "imp01")
    run = target.run(run_name(), pipeline, "garbage")
    assert message in failure(run)
    assert run["response"]["importedArtifacts"] == []


def test_one_flipped_byte_in_a_layer_fails_the_import(source: Side, target: Side) -> None:
    layer = os.urandom(5000)
    source.push_image("flipped", "v1", layer)
    export(source, "flipped", "flipped:v1")
    content = bytearray(source.read_blob("flipped"))
    content[content.index(layer) + 17] ^= 0xFF
    target.write_blob("flipped", bytes(content))
    pipeline = target.put_pipeline("importPipelines", "imp01")
    assert "damaged" in failure(target.run(run_name(), pipeline, "flipped"))
    assert target.digest_at("flipped", "v1") is None
    assert target.registry_get(f"flipped/blobs/{digest_of(layer)}").status_code == 404


def test_runs_over_the_parallel_cap_wait(source: Side) -> None:
    source.push_image("queue", "v1", b"layer")
    source.behaviour.max_parallel_runs = 1
    source.behaviour.run_delay_s = 0.2
    pipeline = source.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"])
    for number in range(3):
        source.call("PUT", f"pipelineRuns/queue{number}", run_body(pipeline, f"q{number}", "queue:v1"))
    ends = [
        datetime.fromisoformat(source.await_run(f"queue{number}")["response"]["finishTime"])
        for number in range(3)
    ]
    waits = [later - earlier for earlier, later in pairwise(ends)]
    assert all(wait.total_seconds() > 0.15 for wait in waits), waits


def test_closing_the_service_does_not_wait_for_a_long_run(source: Side) -> None:
    source.push_image("long", "v1", b"layer")
    source.behaviour.run_delay_s = 600
    pipeline = source.put_pipeline("exportPipelines", "exp01")
    source.call("PUT", "pipelineRuns/long01", run_body(pipeline, "long", "long:v1"))
    source.loop.run(source.transfer.close())
    with source.blob("long") as blob:
        assert not blob.exists()
