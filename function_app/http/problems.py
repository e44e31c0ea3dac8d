"""Errors of the HTTP API: RFC 9457 problem details."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import azure.functions as func

from airgap.errors import Code
from airgap.redaction import redact
from function_app.http.caller import ADMIN_ROLE, ORDER_ROLE
from function_app.http.faults import RequestRefusedError


def respond(
    status: HTTPStatus, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """A JSON answer that nobody caches."""
    return func.HttpResponse(
        json.dumps(body) + "\n",
        status_code=status.value,
        headers={"Cache-Control": "no-store", **(headers or {})},
        mimetype="application/json",
    )


def problem(
    status: HTTPStatus,
    code: Code,
    detail: str,
    *,
    remedy: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> func.HttpResponse:
    """A problem: what is wrong, under which stable code, and what to do about it.

    Args:
        status: HTTP status.
        code: what happened.
        detail: about what; a secret in it is taken out.
        remedy: what to do in this very case; else what the code says of all cases.
        headers: further headers.
        **members: further members of the body, such as ``instance`` and ``errors``.
    """
    body = {
        "type": f"urn:acr-airgap-transfer:error:{code.name}",
        "title": status.phrase,
        "status": status.value,
        "detail": redact(detail),
        "code": code.name,
        "remedy": remedy or code.remedy,
        **members,
    }
    return func.HttpResponse(
        json.dumps(body) + "\n",
        status_code=status.value,
        headers={"Cache-Control": "no-store", **(headers or {})},
        mimetype="application/problem+json",
    )


def refused_request(refusal: RequestRefusedError) -> func.HttpResponse:
    """The request's faults, each with its place: 400, or 413 for a body that was too large to be read."""
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if refusal.is_too_large else HTTPStatus.BAD_REQUEST
    return problem(
        status,
        refusal.code,
        refusal.detail,
        remedy="Correct what `errors` names, each as its `wanted` says, and send the request again.",
        errors=[fault.to_json() for fault in refusal.faults],
        errorCount=refusal.count,
    )


def refused_ticket_caller() -> func.HttpResponse:
    """Answer 403: the caller may have no ticket given."""
    return problem(
        HTTPStatus.FORBIDDEN,
        Code.CALLER_REFUSED,
        f"you have neither of the app roles {ORDER_ROLE} and {ADMIN_ROLE}",
        remedy="Have somebody who has one of them take it.",
    )


def refused_method(method: str | None, *allowed: str) -> func.HttpResponse:
    """Answer 405, with the methods that the resource has (RFC 9110 §15.5.6).

    Without a function that answers them, the Functions host says 404 to such methods, and nothing more.
    """
    return problem(
        HTTPStatus.METHOD_NOT_ALLOWED,
        Code.REQUEST_INVALID,
        f"there is no {method} of this resource",
        remedy=f"Use {' or '.join(allowed)}.",
        headers={"Allow": ", ".join(allowed)},
    )
