"""How a step ends: what a retry can cure is raised, everything else comes back as a value.

An outcome is a JSON object whose ``outcome`` says how it went; ``refused`` and ``failed`` carry ``code`` and
``detail``. Orchestrations end with an outcome, never with a stack trace.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airgap.errors import AirgapError, Code, PolicyRefusal, ServiceError, UntrustedInputError

Outcome = dict[str, Any]
P = TypeVar("P")

REFUSED = "refused"
FAILED = "failed"
_ABOUT_THE_ORDER = frozenset({Code.ARTIFACT_NOT_FOUND, Code.REQUEST_INVALID})
_ABOUT_OUR_STORAGE = frozenset({Code.EXPORT_INCONSISTENT, Code.BLOB_CHANGED})
_NAMED_CODE = re.compile(rf"\b({'|'.join(Code.__members__)})\b(?:: (.{{1,500}}))?")


class Ended(Exception):  # noqa: N818 - control flow within an orchestration, not an error
    """The orchestration ends here, with ``outcome``."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome["outcome"])
        self.outcome = outcome


def ending(code: Code, detail: str = "") -> Outcome:
    """The outcome for ``code``: refused where what was handed in is at fault, failed otherwise."""
    is_about_input = any(code.exit_code in kind.exit_codes for kind in (UntrustedInputError, PolicyRefusal))
    is_refusal = (is_about_input or code in _ABOUT_THE_ORDER) and code not in _ABOUT_OUR_STORAGE
    return {"outcome": REFUSED if is_refusal else FAILED, "code": code.name, "detail": detail[:500]}


def has_ended(outcome: Mapping[str, Any]) -> bool:
    """Whether a step came back with a permanent failure."""
    return outcome["outcome"] in {REFUSED, FAILED}


def run_step(step: Callable[[P, Any], Outcome], ports: Callable[[], P], order: Any) -> Outcome:
    """Run a step, as an activity does.

    Args:
        step: what to do; idempotent.
        ports: gives the ports; its refusal of a setting is an outcome too.
        order: the activity's input.

    Raises:
        ServiceError: a retryable one, so that the activity's retry policy applies.
    """
    try:
        return step(ports(), order)
    except AirgapError as error:
        if isinstance(error, ServiceError) and error.code.is_retryable:
            raise
        return ending(error.code, error.detail)


def end_of(error: Exception) -> Outcome:
    """The outcome of an orchestration whose step raised ``error``.

    The Durable SDK reports a failed activity as a plain :class:`Exception` with the activity's text in it;
    the code is found there. Any other type is a fault of ours and is raised again.
    """
    if isinstance(error, Ended):
        return error.outcome
    if type(error) is not Exception:
        raise error
    match = _NAMED_CODE.search(str(error))
    if match is None:
        return ending(Code.SERVICE_UNEXPECTED, "an activity failed; its exception is in the app's log")
    return ending(Code[match[1]], (match[2] or "").strip())
