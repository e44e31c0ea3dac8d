"""Errors of the HTTP API: RFC 9457 problem details."""

from collections.abc import Mapping
from http import HTTPStatus

import azure.functions as func
import msgspec
from msgspec import UNSET

from airgap.errors import Code
from airgap.redaction import redact
from function_app.http.bodies import Body, Fault, Problem, read_body
from function_app.http.faults import RequestRefusedError


def respond(
    status: HTTPStatus,
    body: Body,
    headers: Mapping[str, str] | None = None,
    *,
    mimetype: str = "application/json",
) -> func.HttpResponse:
    """A JSON answer that nobody caches."""
    return func.HttpResponse(
        msgspec.json.encode(body) + b"\n",
        status_code=status.value,
        headers={"Cache-Control": "no-store", **(headers or {})},
        mimetype=mimetype,
    )


def problem(
    status: HTTPStatus,
    code: Code,
    detail: str,
    *,
    remedy: str | None = None,
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
    refusal: RequestRefusedError | None = None,
) -> func.HttpResponse:
    """An answer with problem details: what is wrong, under which stable code, and what to do about it.

    Args:
        status: the HTTP status.
        code: what happened.
        detail: words on what it is about; a secret in them is taken out.
        remedy: what to do in this very case; without it, the code's remedy is told.
        headers: further headers.
        instance: the path of what it is about, if that is not the resource itself.
        refusal: the refusal with a request's faults.
    """
    body = Problem(
        kind=f"urn:acr-airgap-transfer:error:{code.name}",
        title=status.phrase,
        status=status.value,
        detail=redact(detail),
        code=code.name,
        remedy=remedy or code.remedy,
        instance=instance or UNSET,
        errors=UNSET if refusal is None else tuple(read_body(one.to_json(), Fault) for one in refusal.faults),
        error_count=UNSET if refusal is None else refusal.count,
    )
    return respond(status, body, headers, mimetype="application/problem+json")


def refused_request(refusal: RequestRefusedError) -> func.HttpResponse:
    """Answer 400, or 413 for a body that was too large to be read, with the request's faults."""
    return problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE if refusal.is_too_large else HTTPStatus.BAD_REQUEST,
        refusal.code,
        refusal.detail,
        remedy="Correct what `errors` names, each as its `wanted` says, and send the request again.",
        refusal=refusal,
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
