"""Errors of the HTTP API: RFC 9457 problem details."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import azure.functions as func

from airgap.errors import Code
from function_app.source.transfer_request import FieldError


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
    status: HTTPStatus, code: Code, detail: str, errors: Iterable[FieldError] = ()
) -> func.HttpResponse:
    """A problem: what is wrong, under which stable code, and what to do about it."""
    body = {
        "type": f"urn:acr-airgap-transfer:error:{code.name}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code.name,
        "remedy": code.remedy,
    }
    fields = [{"field": error.field, "message": error.message} for error in errors]
    return func.HttpResponse(
        json.dumps(body | ({"errors": fields} if fields else {})) + "\n",
        status_code=status.value,
        headers={"Cache-Control": "no-store"},
        mimetype="application/problem+json",
    )
