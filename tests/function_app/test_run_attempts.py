"""Import runs that fail: tried anew under a name of their own, as often as that is bounded."""

from collections.abc import Mapping
from typing import Any

import pytest

from airgap.errors import Code
from function_app.ports import BlobStat
from tests.function_app.memory import failed, succeeded
from tests.function_app.test_import import Target, bundle_of


def failing(target: Target, count: int, *, riding: str = "") -> list[str]:
    """The first runs fail, and report what rides along; returns the blobs of all that were started."""
    started: list[str] = []

    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        started.append(request["source"]["name"])
        if len(started) > count:
            return succeeded(importedArtifacts=["team/app001:v1"])
        properties = failed("the storage is away")
        properties["response"]["importedArtifacts"] = [riding] if riding else []
        return properties

    target.pipelines.work = work
    return started


@pytest.mark.parametrize(("failures", "outcome"), [(1, "imported"), (2, "imported"), (3, "failed")])
def test_run_that_failed_is_tried_anew_twice(failures: int, outcome: str) -> None:
    target = Target()
    started = failing(target, failures)
    assert target.receive(bundle_of(blob_sizes=(5000,)))["outcome"] == outcome
    assert len(started) == len(target.pipelines.requests) == min(failures + 1, 3)


def test_what_rode_along_in_a_run_that_failed_is_told_though_the_next_one_succeeds() -> None:
    target = Target()
    failing(target, 1, riding="infra/root-shell:v1")
    receipt = target.assert_refused(target.receive(bundle_of(blob_sizes=(5000,))), Code.UNDECLARED_ARTIFACTS)
    assert receipt.undeclared == ("infra/root-shell:v1",)


def test_run_that_does_not_end_is_not_started_again() -> None:
    target = Target()
    target.pipelines.polls = 10**9
    outcome = target.receive(bundle_of(blob_sizes=(5000,)))
    assert outcome["code"] == Code.PIPELINE_RUN_TIMEOUT.name
    assert len(target.pipelines.requests) == 1


def test_blob_that_was_exchanged_after_a_failed_run_is_not_imported_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target()
    started = failing(target, 3)
    stat = target.blobs.stat

    def exchanged(container: str, name: str) -> BlobStat | None:
        if container == "transfer" and started:
            target.blobs.upload("transfer", name, b"other bytes")
        return stat(container, name)

    monkeypatch.setattr(target.blobs, "stat", exchanged)
    assert target.receive(bundle_of(blob_sizes=(5000,)))["code"] == Code.BLOB_CHANGED.name
    assert len(started) == 1
