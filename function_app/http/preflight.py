"""The call ``GET /api/preflight``: whether the side is ready; ``infra/check`` shows its answer."""

import asyncio
import os
from datetime import UTC, datetime
from http import HTTPStatus

import azure.functions as func

import airgap
from function_app.azure.wiring import surveyed_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.bodies import Preflight, PreflightCheck, read_body
from function_app.http.faults import Faults
from function_app.http.problems import refused_method, respond
from function_app.preflight import check_side
from function_app.settings import read_role

bp = Blueprint()


# It names settings and what is in them, which is no business of those who order transfers, so the host's
# master key is asked for. Not by the blueprint: the app that it is registered with puts its own level there.
@bp.route(route="preflight", methods=["GET"], auth_level=func.AuthLevel.ADMIN)
async def preflight(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 200 with every check and its remedy; ``ok`` tells whether all are right."""

    async def answer() -> func.HttpResponse:
        Faults().add_unknown_parameters(req.params).refuse_any()
        role = read_role(os.environ)
        ports, faults = surveyed_side()
        checks = await asyncio.to_thread(check_side, role, ports, faults, now=datetime.now(UTC))
        body = Preflight(
            role=role,
            version=airgap.__version__,
            ok=all(check.is_ok for check in checks),
            checks=tuple(read_body(check.to_json(), PreflightCheck) for check in checks),
        )
        return respond(HTTPStatus.OK, body)

    return await answered(answer())


@bp.route(route="preflight", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_preflight_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET")
