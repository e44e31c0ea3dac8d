"""The answer to a request whose work may fail."""

import logging
from collections.abc import Awaitable
from http import HTTPStatus

import azure.functions as func

from airgap.errors import AirgapError, OperatorError, ServiceError
from function_app.http.faults import RequestRefusedError
from function_app.http.problems import problem, refused_request

METHODS_OF_NONE = ("HEAD", "PUT", "PATCH", "OPTIONS")
"""Of no resource here; each function that refuses methods adds those that its own resource lacks."""

_OUTAGE_S = "60"
_LOG = logging.getLogger(__name__)


async def answered(work: Awaitable[func.HttpResponse]) -> func.HttpResponse:
    """The answer that ``work`` gives, or the problem details for the error that it raised."""
    try:
        return await work
    except RequestRefusedError as refusal:
        return refused_request(refusal)
    except ServiceError as error:
        is_passing = error.code.is_retryable
        status = HTTPStatus.SERVICE_UNAVAILABLE if is_passing else HTTPStatus.INTERNAL_SERVER_ERROR
        headers = {"Retry-After": _OUTAGE_S} if is_passing else {}
        return problem(status, error.code, error.detail, headers=headers)
    except OperatorError as error:
        # The caller did nothing wrong, and what the settings say is none of its business.
        _LOG.error("no request can be answered: %s", error)
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            error.code,
            "a setting of this app is missing or wrong",
            remedy="Tell those who run the app: its log names the setting.",
        )
    except AirgapError as error:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, error.code, error.detail)
