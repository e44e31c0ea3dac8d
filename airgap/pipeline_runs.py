"""What an ACR Transfer pipeline run is asked for, and what its answers mean.

https://learn.microsoft.com/azure/container-registry/container-registry-transfer-cli
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

MAX_ARTIFACTS_PER_RUN = 50
"""https://learn.microsoft.com/azure/container-registry/container-registry-transfer-prerequisites"""

MAX_LAYER_BYTES = 8 * 10**9
"""The largest layer that crosses: 8 GB by the same page, read as decimal to be safe."""

_T = TypeVar("_T")


class RunState(Enum):
    """What is known of a pipeline run."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


def batch(items: Sequence[_T], size: int = MAX_ARTIFACTS_PER_RUN) -> list[list[_T]]:
    """``items`` in order, in lists of at most ``size``."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def run_name(kind: str, *identity: str) -> str:
    """A deterministic name for a run: ``kind`` and 40 hex digits of what it is for.

    Letters and digits only, 5 to 50 of them, as the service demands; the same work has the same name, so
    that a repeated PUT finds the run instead of starting another.
    """
    return kind + hashlib.sha256("\0".join(identity).encode()).hexdigest()[:40]


def judge_run(properties: Mapping[str, Any]) -> tuple[RunState, str]:
    """State of a run, and why, from its ARM ``properties``.

    Succeeded only if ``provisioningState`` *and* ``response.status`` say so and there is no error message:
    the service's own examples show a provisioningState "Succeeded" beside a status "Running".
    """
    response = properties.get("response") or {}
    states = [str(properties.get("provisioningState") or ""), str(response.get("status") or "")]
    message = str(response.get("pipelineRunErrorMessage") or "")
    for state in states:
        if state.lower() in {"failed", "canceled", "timedout"}:
            return RunState.FAILED, message or f"pipeline run {state}"
    if all(state.lower() == "succeeded" for state in states):
        return (RunState.FAILED, message) if message else (RunState.SUCCEEDED, "")
    return RunState.ACTIVE, ""


def missing_imports(expected: Iterable[str], imported: Iterable[str]) -> list[str]:
    """The expected references that the run does not report as imported, in order.

    A reported reference may carry the registry's name in front; ``repo`` means ``repo:latest``.
    """
    reported = set(imported)
    return [
        reference
        for reference in expected
        if not any(r == reference or r.endswith("/" + reference) for r in reported)
        and not (reference.endswith(":latest") and reference.removesuffix(":latest") in reported)
    ]
