"""The outcomes of activities: what a retry can cure is raised, everything else comes back as a value.

An outcome is a JSON object whose ``outcome`` says how it went; ``refused`` and ``failed`` carry ``code`` and
``detail``. Orchestrations end with an outcome, never with a stack trace.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from airgap.errors import AirgapError, Code, OperatorError, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.redaction import redact
from function_app.messages import Result, dump, read

Outcome = dict[str, Any]
_LOG = logging.getLogger(__name__)
P = TypeVar("P")
O = TypeVar("O")  # noqa: E741 - an order

_ABOUT_THE_ORDER = frozenset({Code.ARTIFACT_NOT_FOUND, Code.REQUEST_INVALID})
_ABOUT_OURSELVES = frozenset(
    {
        Code.EXPORT_INCONSISTENT,
        Code.BLOB_CHANGED,
        Code.NEWER_FORMAT,
        Code.POLICY_EXPIRED,
        Code.POLICY_ROLLED_BACK,
        Code.POLICY_FORKED,
        Code.LEDGER_UNPROVEN,
        Code.CHECK_FORGED,
    }
)
_NAMED_CODE = re.compile(rf"\b({'|'.join(Code.__members__)})\b(?:: (.{{1,500}}))?")
MAX_LISTED = 100
"""References that an ending names."""


class Pending(Result, frozen=True):
    """The outcome of an activity that cannot tell yet; it is to be asked again later."""


class _Ending(Result, frozen=True):
    code: str
    detail: str = ""
    artifacts: tuple[str, ...] = ()
    """The references at fault, where it is about artifacts; at most 100 of them."""


class Refused(_Ending, frozen=True):
    """The outcome of an activity that refuses, because what was handed in is at fault."""


class Failed(_Ending, frozen=True):
    """The outcome of an activity that failed, because a service, the deployment or the app is at fault."""


Ending = Refused | Failed


class Ended(Exception):  # noqa: N818 - control flow within an orchestration, not an error
    """The exception that ends an orchestration with the refusal or failure ``ending``."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.code)
        self.ending = ending


def ending(code: Code, detail: str = "", artifacts: Sequence[str] = ()) -> Ending:
    """The outcome for ``code``: a refusal where what was handed in is at fault, else a failure.

    It goes into history, journal, receipt and log, so secrets are taken out of the words here.
    """
    is_about_input = any(code.exit_code in kind.exit_codes for kind in (UntrustedInputError, PolicyRefusal))
    is_refusal = (is_about_input or code in _ABOUT_THE_ORDER) and code not in _ABOUT_OURSELVES
    kind = Refused if is_refusal else Failed
    named = tuple(redact(artifact) for artifact in artifacts[:MAX_LISTED])
    return kind(code=code.name, detail=redact(detail)[:500], artifacts=named)


def read_ending(outcome: Mapping[str, Any]) -> Ending | None:
    """The refusal or failure that an outcome is; ``None`` if it is neither of them."""
    match outcome.get("outcome"):
        case "refused":
            return read(outcome, Refused)
        case "failed":
            return read(outcome, Failed)
    return None


def run_step(
    step: Callable[[P, O], msgspec.Struct], ports: Callable[[], P], order_type: type[O], raw: Any
) -> Outcome:
    """Run a step as an activity does, and turn what it raises for good into an outcome.

    Args:
        step: the step, which is idempotent.
        ports: gives the ports; a setting that it refuses is an outcome, too.
        order_type: the class of the step's order.
        raw: the activity's input.

    Raises:
        ServiceError: a retryable one, so that the activity's retry policy applies.
    """
    try:
        return dump(step(ports(), read(raw, order_type)))
    except AirgapError as error:
        if isinstance(error, ServiceError) and error.code.is_retryable:
            raise
        if isinstance(error, OperatorError) and error.code is Code.SETTING_INVALID:
            # It is told to whoever ordered the transfer, and what the settings say is none of their business.
            _LOG.error("no step can be taken: %s", error)
            return dump(ending(error.code, "a setting of the app is missing or wrong; its log names it"))
        return dump(ending(error.code, error.detail))


def end_of(error: Exception) -> Ending:
    """The refusal or failure with which an orchestration ends whose step raised ``error``.

    The Durable SDK reports a failed activity as a plain :class:`Exception` with the activity's text in it;
    the code is found there. An exception of any other type is a bug and is raised again.
    """
    if isinstance(error, Ended):
        return error.ending
    if isinstance(error, AirgapError):  # a message of another version
        return ending(error.code, error.detail)
    if type(error) is not Exception:
        raise error
    match = _NAMED_CODE.search(str(error))
    if match is None:
        return ending(Code.SERVICE_UNEXPECTED, "an activity failed; its exception is in the app's log")
    return ending(Code[match[1]], (match[2] or "").strip())
