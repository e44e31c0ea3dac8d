"""What ACR Transfer's answers mean."""

import functools
import operator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.manifest import Artifact
from airgap.pipeline_runs import (
    RunState,
    batch,
    compare_imports,
    failure_cause,
    finish_time,
    is_written_by_run,
    judge_run,
    run_name,
)


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        ({}, RunState.ACTIVE),
        ({"provisioningState": "Creating"}, RunState.ACTIVE),
        ({"provisioningState": "", "response": {"status": "Succeeded"}}, RunState.ACTIVE),
        ({"provisioningState": "Succeeded", "response": {"status": "Running"}}, RunState.ACTIVE),
        ({"provisioningState": "Succeeded", "response": None}, RunState.ACTIVE),
        ({"provisioningState": "Succeeded", "response": {"status": "Succeeded"}}, RunState.SUCCEEDED),
        ({"provisioningState": "succeeded", "response": {"status": "SUCCEEDED"}}, RunState.SUCCEEDED),
        (
            {
                "provisioningState": "Succeeded",
                "response": {"status": "Succeeded", "pipelineRunErrorMessage": "x"},
            },
            RunState.FAILED,
        ),
        ({"provisioningState": "Failed"}, RunState.FAILED),
        ({"provisioningState": "Succeeded", "response": {"status": "Failed"}}, RunState.FAILED),
        ({"provisioningState": "Canceled", "response": {"status": "Running"}}, RunState.FAILED),
    ],
)
def test_run_state(properties: dict[str, Any], state: RunState) -> None:
    assert judge_run(properties)[0] is state


def test_fifty_one_artifacts_are_two_runs() -> None:
    batches = batch(list(range(51)))
    assert [len(b) for b in batches] == [50, 1]
    assert functools.reduce(operator.iadd, batches, []) == list(range(51))
    assert batch([]) == []


def test_run_name_is_deterministic_and_allowed_by_the_service() -> None:
    name = run_name("e", "transfer", "001", "1")
    assert name == run_name("e", "transfer", "001", "1")
    assert name != run_name("e", "transfer", "0011", "")
    assert name.isalnum()
    assert 5 <= len(name) <= 50


def declared(reference: str, digit: str, *tags: str) -> Artifact:
    digest = f"sha256:{digit * 64}"
    if "@" in reference:
        reference += digest
    return Artifact(reference=reference, digest=digest, media_type="manifest", tags=tags)


def test_imports_are_compared_with_what_was_signed() -> None:
    artifacts = [
        declared("a/b:1", "1", "1", "stable"),
        declared("c:latest", "2", "latest"),
        declared("d@", "3"),
        declared("e:2", "4", "2"),
    ]
    reported = ["reg.azurecr.us/a/b:stable", "c", f"d@sha256:{'3' * 64}"]
    found = compare_imports(artifacts, reported, login_server="reg.azurecr.us")
    assert (found.unreported, found.undeclared) == (("e:2",), ())
    reported += ["other.azurecr.us/e:2", "x/a/b:1", f"d@sha256:{'4' * 64}", "e", "", "f"]
    found = compare_imports(artifacts, reported, login_server="reg.azurecr.us")
    assert found.unreported == ("e:2",)
    assert found.undeclared == (
        ":latest",
        f"d@sha256:{'4' * 64}",
        "e:latest",
        "f:latest",
        "other.azurecr.us/e:2",
        "x/a/b:1",
    )


def test_what_a_run_reports_is_told_in_few_printable_characters() -> None:
    found = compare_imports([], ["x" * 600, "a\n:1"], login_server="reg.azurecr.us")
    assert found.undeclared == (r"'a\n:1'", "x" * 512)


END = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("2026-01-01T00:00:00.0000000+00:00", END),
        ("2026-01-01T02:00:00+02:00", END),
        ("2026-01-01T00:00:00Z", END),
        ("2026-01-01T00:00:00", END),
        ("soon", None),
        (7, None),
        (None, None),
    ],
)
def test_time_at_which_a_run_ended_is_read_as_the_service_writes_it(
    told: object, expected: datetime | None
) -> None:
    assert finish_time({"response": {"finishTime": told}}) == expected
    assert finish_time({}) is None


@pytest.mark.parametrize(("late_s", "is_the_runs"), [(-3600, True), (0, True), (10, True), (11, False)])
def test_what_was_written_after_the_run_is_not_the_runs(late_s: int, is_the_runs: bool) -> None:
    properties = {"response": {"finishTime": "2026-01-01T00:00:00Z"}}
    assert is_written_by_run(END + timedelta(seconds=late_s), properties) is is_the_runs
    assert is_written_by_run(END + timedelta(seconds=late_s), {"response": {}})


SAS_ENDS = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
FORBIDDEN = "Failed to access storage.  Service request failed.  Status: 403 (This request is not authorized)"


@pytest.mark.parametrize(
    ("message", "sas", "ended_at", "cause"),
    [
        ("Key Vault: 403 Forbidden", SAS_ENDS, "08:00:00", "may not read its SAS"),
        (FORBIDDEN, SAS_ENDS, "08:00:00", "SAS ended at 2026-11-23T08:00:00Z"),
        (FORBIDDEN, SAS_ENDS, "07:59:59", "SAS is not good any more"),
        (FORBIDDEN, SAS_ENDS, "", "SAS is not good any more"),
        (FORBIDDEN, None, "08:00:00", "role on the container is missing"),
        ("the blob exists; 4031 bytes", SAS_ENDS, "09:00:00", ""),
    ],
)
def test_cause_of_a_failure_is_told_where_the_services_words_tell_it(
    message: str, sas: datetime | None, ended_at: str, cause: str
) -> None:
    properties = {"response": {"finishTime": f"2026-11-23T{ended_at}.0000000Z"}} if ended_at else {}
    told = failure_cause(message, properties, sas)
    assert cause in told
    assert bool(told) == bool(cause)
