"""The target's HTTP API: what arrived, and what was decided about it. It decides nothing itself.

Answers come from the journal and its lists, so that they outlast Durable's history.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

import azure.functions as func

from airgap.errors import Code
from airgap.journal import is_journal_id
from airgap.states import Kind
from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.faults import Faults
from function_app.http.list_request import ListRequest
from function_app.http.problems import problem, refused_method, respond
from function_app.journal.store import JournalStore
from function_app.target.import_status import describe, read_receipt, receipt_of, summarize

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_POLL_S = "5"


@bp.route(route="imports/{importId}", methods=["GET"])
async def get_import(req: func.HttpRequest) -> func.HttpResponse:
    """Where an import stands, how it came there, and the signed receipt once it is out."""
    return await answered(_get(req.route_params.get("importId", ""), req.params))


async def _get(import_id: str, params: Mapping[str, str]) -> func.HttpResponse:
    Faults().add_unknown_parameters(params).refuse_any()
    side = target_side()
    journals = JournalStore(side.blobs, side.projection)
    is_id = is_journal_id(Kind.IMPORTS, import_id)
    journal = await asyncio.to_thread(journals.read, Kind.IMPORTS, import_id) if is_id else None
    if journal is None or not journal.entries:
        return problem(
            HTTPStatus.NOT_FOUND,
            Code.NOT_FOUND,
            f"there is no import {import_id[:40]!r}",
            remedy="Check the import's id: GET /api/imports lists all.",
        )
    receipt = receipt_of(journal)
    told = None if receipt is None else await asyncio.to_thread(read_receipt, side.blobs, receipt)
    headers = {"Retry-After": _POLL_S} if journal.is_active else {}
    return respond(HTTPStatus.OK, describe(journal) | {"receipt": told}, headers)


@bp.route(route="imports", methods=["GET"])
async def list_imports(req: func.HttpRequest) -> func.HttpResponse:
    """The imports, newest first, page by page: the body's ``next`` leads to the page after.

    The query parameters are those of the source's list of transfers.
    """
    return await answered(_list(req.params))


async def _list(params: Mapping[str, str]) -> func.HttpResponse:
    wanted = ListRequest.from_params(Kind.IMPORTS, params)
    rows, after = await asyncio.to_thread(wanted.page, target_side().projection)
    return respond(HTTPStatus.OK, {"imports": [summarize(row) for row in rows], "next": after})


@bp.route(route="imports", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_imports_method(req: func.HttpRequest) -> func.HttpResponse:
    """Say which methods there are: 405."""
    return refused_method(req.method, "GET")


@bp.route(route="imports/{importId}", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_import_method(req: func.HttpRequest) -> func.HttpResponse:
    """Say which methods there are: 405."""
    return refused_method(req.method, "GET")
