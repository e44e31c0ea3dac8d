"""The call ``GET /api/openapi.json``: the description of all that a side can be asked."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import azure.functions as func
import msgspec

from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.faults import Faults
from function_app.http.problems import refused_method


def blueprint(document: Callable[[], dict[str, Any]]) -> Blueprint:
    """A blueprint with the function that answers with the side's OpenAPI document."""
    bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

    @bp.route(route="openapi.json", methods=["GET"])
    async def openapi(req: func.HttpRequest) -> func.HttpResponse:
        """The OpenAPI document."""

        async def answer() -> func.HttpResponse:
            Faults().add_unknown_parameters(req.params).refuse_any()
            return func.HttpResponse(
                msgspec.json.encode(document()),
                status_code=HTTPStatus.OK.value,
                headers={"Cache-Control": "no-store"},
                mimetype="application/json",
            )

        return await answered(answer())

    @bp.route(route="openapi.json", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
    async def refuse_openapi_method(req: func.HttpRequest) -> func.HttpResponse:
        """Answer 405 with the methods that the resource has."""
        return refused_method(req.method, "GET")

    return bp
