"""``GET /api/openapi.json``: what a side can be asked, for whoever may ask it anything."""

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
    """The function that answers with the document of a side."""
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
        """Say which methods there are: 405."""
        return refused_method(req.method, "GET")

    return bp
