"""What ACR Transfer's answers mean."""

import functools
import operator
from typing import Any

import pytest

from airgap.pipeline_runs import RunState, batch, judge_run, missing_imports, run_name


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


def test_imports_are_compared_with_what_was_signed() -> None:
    expected = ["a/b:1", "c:latest", "d@sha256:1", "e:2"]
    assert missing_imports(expected, ["reg.azurecr.us/a/b:1", "c", "d@sha256:1"]) == ["e:2"]
