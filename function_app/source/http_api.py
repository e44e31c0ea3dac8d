"""The source's HTTP API: order a transfer, look at it, list all, cancel one.

The journal decides about each request, and tells where a transfer stands; the lists come from its projection.
Durable is asked for nothing but to run an orchestration, or to end it.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import msgspec
from msgspec import UNSET

from airgap.errors import AirgapError, Code, PolicyRefusal
from airgap.journal import Journal
from airgap.preflight import judge_terms
from airgap.recarry import MAX_REQUEST_BYTES, RecarryRequest
from airgap.states import Kind, State
from function_app.azure.wiring import source_settings, source_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.bodies import Ticket, read_body
from function_app.http.faults import Faults
from function_app.http.incoming import (
    caller_of,
    changed_since,
    etag_of,
    read_document,
    refused_orderer,
    refused_ticket_caller,
)
from function_app.http.json_body import require_json
from function_app.http.list_request import ListRequest
from function_app.http.problems import problem, refused_method, respond
from function_app.journal.store import JournalStore
from function_app.source.bodies import TransferList
from function_app.source.cancelling import cancel_transfer as cancel
from function_app.source.looking_up import find_transfer, not_yours, tell_transfer, unknown_transfer
from function_app.source.pickup_tickets import give_pickup_ticket
from function_app.source.placing import place_transfer
from function_app.source.transfer_plan import CURSOR, describe_plan, read_page
from function_app.source.transfer_request import KEY_HEADER, read_order, transfer_id_for
from function_app.source.transfer_status import (
    describe,
    path_of,
    progress_of,
    remedy_of_late_cancel,
    summarize,
)
from function_app.storage.policies import policy_in_force
from function_app.storage.work_folder import WorkFolder

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_POLL_S = "5"
EXPAND = "expand"
REQUEST = "request"
"""The member that is told whole if it is asked for."""


@bp.route(route="transfers", methods=["POST"])
@bp.durable_client_input(client_name="client")
async def create_transfer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Order a transfer: 202 while it is at work, 200 with what it came to once it is not.

    With an ``Idempotency-Key`` a repeat meets the same transfer, whatever became of it.
    """
    return await answered(_create(req, client))


async def _create(req: func.HttpRequest, client: Any) -> func.HttpResponse:
    request = read_order(req.get_body(), req.headers, req.params)
    caller = caller_of(req, source_settings())
    if not caller.may_order:
        return refused_orderer()
    transfer_id = transfer_id_for(req.headers.get(KEY_HEADER), source_settings().pipeline_resource_id)
    # A repeat meets its transfer, whatever the trust policy says today.
    if await find_transfer(source_side(), transfer_id) is None:
        policy = await asyncio.to_thread(policy_in_force, source_side())
        policy.require_in_force(datetime.now(UTC))
        request.refuse_findings(judge_terms(policy, request.terms))
    journal = await place_transfer(
        client, source_side(), transfer_id, request, facts=caller.facts, by=caller.name, at=datetime.now(UTC)
    )
    if journal.entries[0].facts["requestSha256"] != request.sha256:
        return problem(
            HTTPStatus.CONFLICT,
            Code.CONFLICT,
            f"this {KEY_HEADER} was used for another request",
            remedy="Send this request with a key of its own; `instance` is the transfer that has this one.",
            instance=path_of(transfer_id),
        )
    body = describe(journal)
    headers = {"Location": path_of(transfer_id), "ETag": etag_of(journal)}
    if not journal.is_active:
        return respond(HTTPStatus.OK, body, headers)
    return respond(HTTPStatus.ACCEPTED, body, {**headers, "Retry-After": _POLL_S})


@bp.route(route="transfers/{transferId}", methods=["GET"])
async def get_transfer(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with where a transfer stands, and how it came there; all references with ``?expand=request``."""
    return await answered(_get(req.route_params.get("transferId", ""), req.params))


async def _get(transfer_id: str, params: Mapping[str, str]) -> func.HttpResponse:
    faults = Faults().add_unknown_parameters(params, (EXPAND,))
    expand = params.get(EXPAND)
    if expand not in (None, REQUEST):
        faults.add("query", (EXPAND,), expand, f"{REQUEST}, or nothing")
    faults.refuse_any()
    journal = await find_transfer(source_side(), transfer_id)
    if journal is None:
        return unknown_transfer(transfer_id)
    work = WorkFolder(source_side().blobs, transfer_id)
    progress = await asyncio.to_thread(progress_of, journal, work) if journal.is_active else UNSET
    told = await tell_transfer(source_side(), journal, with_request=expand is not None)
    body = msgspec.structs.replace(told, progress=progress)
    poll = {"Retry-After": _POLL_S} if journal.is_active else {}
    return respond(HTTPStatus.OK, body, {"ETag": etag_of(journal), **poll})


@bp.route(route="transfers/{transferId}/plan", methods=["GET"])
async def get_plan(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what a transfer consists of, or would, after a dry run: ten blobs to a page."""
    return await answered(_get_plan(req.route_params.get("transferId", ""), req.params))


async def _get_plan(transfer_id: str, params: Mapping[str, str]) -> func.HttpResponse:
    faults = Faults().add_unknown_parameters(params, (CURSOR,))
    page = read_page(params.get(CURSOR))
    if page is None:
        faults.add("query", (CURSOR,), params[CURSOR], "what `next` of the page before leads to")
    faults.refuse_any()
    journal = await find_transfer(source_side(), transfer_id)
    if journal is None:
        return unknown_transfer(transfer_id)
    body = await asyncio.to_thread(describe_plan, WorkFolder(source_side().blobs, transfer_id), page or 0)
    if body is not None and journal.newest(State.PLANNED) is not None:
        return respond(HTTPStatus.OK, body)
    return _without_plan(journal)


@bp.route(route="transfers", methods=["GET"])
async def list_transfers(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the transfers, newest first; the body's ``next`` leads to the page after.

    ``?state=``, ``?channel=``, ``?createdFrom=`` and ``?createdBefore=`` (RFC 3339, UTC) filter, ``?limit=``
    bounds a page (50, at most 500). A page may hold fewer than that although there is a next one.
    """
    return await answered(_list(req.params))


async def _list(params: Mapping[str, str]) -> func.HttpResponse:
    wanted = ListRequest.from_params(Kind.TRANSFERS, params)
    rows, after = await asyncio.to_thread(wanted.page, _journals().projection)
    return respond(HTTPStatus.OK, TransferList(transfers=tuple(summarize(row) for row in rows), next=after))


@bp.route(route="transfers/{transferId}", methods=["DELETE"])
@bp.durable_client_input(client_name="client")
async def cancel_transfer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Cancel a transfer for good, as long as it is not sealed; with signed-in callers only one's own.

    The transfers that it was divided into are cancelled with it, as far as they are not sealed.
    """
    return await answered(_cancel(req, client))


async def _cancel(req: func.HttpRequest, client: Any) -> func.HttpResponse:
    Faults().add_unknown_parameters(req.params).refuse_any()
    transfer_id = req.route_params.get("transferId", "")
    journal = await find_transfer(source_side(), transfer_id)
    if journal is None:
        return unknown_transfer(transfer_id)
    caller = caller_of(req, source_settings())
    if not caller.may_cancel(journal.entries[0].facts):
        return not_yours(journal, "cancel")
    if (changed := changed_since(req.headers, journal, path_of(transfer_id))) is not None:
        return changed
    if journal.state is State.CANCELLED:  # an earlier call may have ended before its work did
        await cancel(client, source_side(), journal, by=caller.name, at=datetime.now(UTC))
    if not journal.is_active or journal.state is State.SEALING:
        return _decided(journal)
    try:
        journal = await cancel(client, source_side(), journal, by=caller.name, at=datetime.now(UTC))
    except PolicyRefusal:  # it was sealed just now, or has failed
        return _decided(await find_transfer(source_side(), transfer_id) or journal)
    return respond(HTTPStatus.OK, await tell_transfer(source_side(), journal), {"ETag": etag_of(journal)})


@bp.route(route="transfers/{transferId}/pickup", methods=["POST"])
async def pick_up_transfer(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 201 with a pickup ticket for a transfer; it is a secret until it expires.

    The body is empty, or a re-carry request: then the ticket is for the blobs that it needs. Each call gives
    another ticket.
    """
    return await answered(_pick_up(req))


async def _pick_up(req: func.HttpRequest) -> func.HttpResponse:
    body = read_document(req, max_bytes=MAX_REQUEST_BYTES, wanted="nothing, or a re-carry request")
    caller = caller_of(req, source_settings())
    if not caller.may_take_tickets:
        return refused_ticket_caller()
    transfer_id = req.route_params.get("transferId", "")
    journal = await find_transfer(source_side(), transfer_id)
    if journal is None:
        return unknown_transfer(transfer_id)
    try:
        if body:
            require_json(body, Code.RECARRY_MALFORMED)
        recarry = RecarryRequest.from_bytes(body) if body else None
        now = datetime.now(UTC)
        ticket = await asyncio.to_thread(
            give_pickup_ticket, source_side(), journal, recarry, caller=caller, now=now
        )
    except AirgapError as error:
        if error.code not in _PICKUP_REFUSALS:
            raise
        status = _PICKUP_REFUSALS[error.code]
        headers = {"Retry-After": _POLL_S} if journal.is_active else {}
        return problem(status, error.code, error.detail, headers=headers, instance=path_of(transfer_id))
    return respond(HTTPStatus.CREATED, read_body(ticket.to_json(), Ticket))


_PICKUP_REFUSALS: Mapping[Code, HTTPStatus] = {
    Code.RECARRY_MALFORMED: HTTPStatus.BAD_REQUEST,
    Code.NEWER_FORMAT: HTTPStatus.BAD_REQUEST,
    Code.TRANSITION_REFUSED: HTTPStatus.CONFLICT,
    Code.NOT_FOUND: HTTPStatus.GONE,
}
"""What is the caller's to put right, or cannot be had any more, as a status."""


@bp.route(route="transfers", methods=[*METHODS_OF_NONE, "DELETE"])
async def refuse_transfers_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET", "POST")


@bp.route(route="transfers/{transferId}/plan", methods=[*METHODS_OF_NONE, "DELETE", "POST"])
async def refuse_plan_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET")


@bp.route(route="transfers/{transferId}", methods=[*METHODS_OF_NONE, "POST"])
async def refuse_transfer_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "DELETE", "GET")


@bp.route(route="transfers/{transferId}/pickup", methods=[*METHODS_OF_NONE, "GET", "DELETE"])
async def refuse_pickup_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "POST")


def _journals() -> JournalStore:
    side = source_side()
    return JournalStore(side.blobs, side.projection)


def _without_plan(journal: Journal) -> func.HttpResponse:
    if journal.newest(State.PLANNED) is not None:
        detail, remedy = "the plan has no such page, or is not kept any more", "Begin again without cursor."
    elif journal.is_active:
        detail, remedy = "the transfer is not planned yet", "Ask again in a while."
    else:
        detail, remedy = "the transfer ended before it was planned", "Its `error` says why."
    return problem(
        HTTPStatus.NOT_FOUND, Code.NOT_FOUND, detail, remedy=remedy, instance=path_of(journal.about)
    )


def _decided(journal: Journal) -> func.HttpResponse:
    return problem(
        HTTPStatus.CONFLICT,
        Code.TRANSITION_REFUSED,
        f"the transfer has come to this: {journal.state}",
        remedy=remedy_of_late_cancel(journal),
        instance=path_of(journal.about),
    )
