"""``GET /api/health``: whether the app is there, for whoever watches it; nothing is asked of any service."""

import os
from http import HTTPStatus

import azure.functions as func

import airgap
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.bodies import Health
from function_app.http.faults import Faults
from function_app.http.problems import refused_method, respond
from function_app.settings import read_role

bp = Blueprint()


@bp.route(route="health", methods=["GET"])
async def get_health(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 200 with the side and version; whether the side can do its work, ``preflight`` tells."""

    async def answer() -> func.HttpResponse:
        Faults().add_unknown_parameters(req.params).refuse_any()
        return respond(HTTPStatus.OK, Health(role=read_role(os.environ), version=airgap.__version__))

    return await answered(answer())


@bp.route(route="health", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_health_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET")
