"""Pipeline runs of ACR Transfer: how they are named and divided, and what the service's answers mean.

https://learn.microsoft.com/azure/container-registry/container-registry-transfer-cli
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from airgap.fields import format_time
from airgap.manifest import Artifact

MAX_ARTIFACTS_PER_RUN = 50
"""https://learn.microsoft.com/azure/container-registry/container-registry-transfer-prerequisites"""

MAX_LAYER_BYTES = 8 * 10**9
"""The largest layer that crosses: 8 GB by the same page, read as decimal to be safe."""

MAX_TOLD_CHARACTERS = 512
_CLOCK_TOLERANCE = timedelta(seconds=10)

_T = TypeVar("_T")


class RunState(Enum):
    """The state of a pipeline run, as far as its properties tell."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


def batch(items: Sequence[_T], size: int = MAX_ARTIFACTS_PER_RUN) -> list[list[_T]]:
    """The items in their order, cut into lists of at most ``size``."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def run_name(kind: str, *identity: str) -> str:
    """A deterministic name for a run: ``kind`` and 40 hex digits of what it is for.

    Letters and digits only, 5 to 50 of them, as the service demands; the same work has the same name, so
    that a repeated PUT finds the run instead of starting another.
    """
    return kind + hashlib.sha256("\0".join(identity).encode()).hexdigest()[:40]


def judge_run(properties: Mapping[str, Any]) -> tuple[RunState, str]:
    """The state of a run, and the reason for it in words, from the run's ARM ``properties``.

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


_NOT_ALLOWED = re.compile(r"\b403\b|forbidden|not authorized", re.IGNORECASE)


def failure_cause(message: str, properties: Mapping[str, Any], sas_expires_at: datetime | None) -> str:
    """The likely cause of a failed run, in words; empty where none is known.

    Args:
        message: the reason that :func:`judge_run` gives.
        properties: the run's properties, as ARM tells them.
        sas_expires_at: when the pipeline's SAS ends; ``None`` where it has none, or nobody knows.

    Known are the causes of the service's troubleshooting list, as far as its words can be told apart:
    https://learn.microsoft.com/azure/container-registry/container-registry-transfer-troubleshooting
    """
    if not _NOT_ALLOWED.search(message):
        return ""
    lowered = message.lower()
    if "key vault" in lowered or "keyvault" in lowered or "secret" in lowered:
        return "the pipeline's identity may not read its SAS: it needs Key Vault Secrets User on the secret"
    ended = finish_time(properties)
    if sas_expires_at is not None and ended is not None and ended >= sas_expires_at:
        return f"the pipeline's SAS ended at {format_time(sas_expires_at)}: deploy a later pipelineSasExpiry"
    means = "role on the container is missing" if sas_expires_at is None else "SAS is not good any more"
    return f"the pipeline's {means}, or the storage account is closed to public networks"


def finish_time(properties: Mapping[str, Any]) -> datetime | None:
    """The time at which a run ended, aware; ``None`` where its ARM ``properties`` do not say so."""
    try:
        told = datetime.fromisoformat(str((properties.get("response") or {}).get("finishTime")))
    except ValueError:
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def is_written_by_run(last_modified: datetime, properties: Mapping[str, Any]) -> bool:
    """Whether a blob last modified at that time may be what the run wrote: not after the run had ended.

    Two services' clocks are compared, so ten seconds are allowed for. Where the service does not tell when
    the run ended there is nothing to compare.
    """
    finished = finish_time(properties)
    return finished is None or last_modified <= finished + _CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The difference between the artifacts that a run reports as imported and those signed for its blob."""

    unreported: tuple[str, ...]
    """References of declared artifacts that the run does not report."""
    undeclared: tuple[str, ...]
    """What it reports and nobody declared, each as a printable string of at most 512 characters."""


def compare_imports(
    artifacts: Iterable[Artifact], imported: Iterable[str], *, login_server: str
) -> Comparison:
    """Compare the artifacts that a run reports as imported with those that are signed for its blob.

    Args:
        artifacts: the signed artifacts. Each may be reported by its reference, its digest or any of its tags.
        imported: references as the service tells them, perhaps with the registry's own name in front;
            ``repo`` means ``repo:latest``.
        login_server: the registry's name. A reference that begins with another registry's name is taken for
            another repository.
    """
    declared = list(artifacts)
    reported = {_full(reference.removeprefix(f"{login_server}/")) for reference in imported}
    known = {name for artifact in declared for name in _names(artifact)}
    return Comparison(
        unreported=tuple(one.reference for one in declared if reported.isdisjoint(_names(one))),
        undeclared=tuple(_printable(reference) for reference in sorted(reported - known)),
    )


def _names(artifact: Artifact) -> set[str]:
    tagged = {f"{artifact.repository}:{tag}" for tag in artifact.tags}
    return tagged | {artifact.reference, f"{artifact.repository}@{artifact.digest}"}


def _full(reference: str) -> str:
    """A reference with its tag or digest."""
    name = reference.rsplit("/", 1)[-1]
    return reference if ":" in name or "@" in name else f"{reference}:latest"


def _printable(text: str) -> str:
    return (text if text.isprintable() else ascii(text))[:MAX_TOLD_CHARACTERS] or "(nothing)"
