"""The source's HTTP API: order a transfer, look at it, list all, cancel one.

The journal decides about each request, and tells where a transfer stands; the lists come from its projection.
Durable is asked for nothing but to run an orchestration, or to end it.
"""

import asyncio
import re
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlencode

import azure.durable_functions as df
import azure.functions as func

from airgap.errors import AirgapError, Code, OperatorError, PolicyRefusal, ServiceError
from airgap.fields import CHANNEL, parse_time
from airgap.journal import Journal, is_journal_id
from airgap.states import TRANSFERS, Kind, State
from function_app.azure.wiring import source_settings, source_side
from function_app.durable.blueprint import Blueprint
from function_app.durable.instances import find_instance
from function_app.durable.stopping import stop
from function_app.journal.store import JournalStore
from function_app.ports import RowFilter
from function_app.source.planning import REQUEST
from function_app.source.problems import problem, respond
from function_app.source.starting import start_transfer
from function_app.source.transfer_request import (
    FieldError,
    RequestRefusedError,
    TransferRequest,
    transfer_id_for,
)
from function_app.source.transfer_status import describe, links_of, progress_of, summarize
from function_app.source.wire import RequestDocument
from function_app.storage.work_folder import WorkFolder

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_POLL_S = "5"
_DEFAULT_LIMIT = 50
_MAX_LIMIT = 500
_FILTERS = ("state", "channel", "createdFrom", "createdBefore")
_CALLER = "caller"


@bp.route(route="transfers", methods=["POST"])
@bp.durable_client_input(client_name="client")
async def create_transfer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Order a transfer: 202 while it is at work, 200 with what it came to once it is not.

    With an ``Idempotency-Key`` a repeat meets the same transfer, whatever became of it.
    """
    return await _answered(_create(req, client))


async def _create(req: func.HttpRequest, client: Any) -> func.HttpResponse:
    request = TransferRequest.from_bytes(req.get_body())
    transfer_id = transfer_id_for(req.headers.get("Idempotency-Key"), source_settings().pipeline_resource_id)
    terms = {**request.to_json(), "artifacts": len(request.artifacts)}
    journal = await asyncio.to_thread(
        _journals().record,
        *(Kind.TRANSFERS, transfer_id, State.REQUESTED, {**terms, "requestSha256": request.sha256}),
        by=_CALLER,
        at=datetime.now(UTC),
    )
    if journal.entries[0].facts["requestSha256"] != request.sha256:
        return problem(
            HTTPStatus.CONFLICT, Code.CONFLICT, "this Idempotency-Key was used for another request"
        )
    if not journal.is_active:
        return respond(HTTPStatus.OK, describe(journal), {"Location": links_of(transfer_id)["self"]})
    # The entry may be older than its orchestration: whoever wrote it may have died before starting one.
    if await find_instance(client, transfer_id) is None:
        side = source_side()
        document = RequestDocument(
            artifacts=request.artifacts,
            channel=request.channel,
            audience=request.audience,
            expires_in_seconds=request.expires_in_s,
        )
        await asyncio.to_thread(WorkFolder(side.blobs, transfer_id).create, REQUEST, document)
        await start_transfer(client, side, transfer_id)
    headers = {"Location": links_of(transfer_id)["self"], "Retry-After": _POLL_S}
    return respond(HTTPStatus.ACCEPTED, describe(journal), headers)


@bp.route(route="transfers/{transferId}", methods=["GET"])
async def get_transfer(req: func.HttpRequest) -> func.HttpResponse:
    """Where a transfer stands, and how it came there."""
    return await _answered(_get(req.route_params.get("transferId", "")))


async def _get(transfer_id: str) -> func.HttpResponse:
    journal = await _find(transfer_id)
    if journal is None:
        return _unknown(transfer_id)
    work = WorkFolder(source_side().blobs, transfer_id)
    progress = await asyncio.to_thread(progress_of, journal, work) if journal.is_active else None
    body = describe(journal) | ({} if progress is None else {"progress": progress})
    return respond(HTTPStatus.OK, body, {"Retry-After": _POLL_S} if journal.is_active else {})


@bp.route(route="transfers", methods=["GET"])
async def list_transfers(req: func.HttpRequest) -> func.HttpResponse:
    """The transfers, newest first, page by page: the body's ``next`` leads to the page after.

    ``?state=``, ``?channel=``, ``?createdFrom=`` and ``?createdBefore=`` (RFC 3339, UTC) filter, ``?limit=``
    bounds a page (50, at most 500). A page may hold fewer than that although there is a next one.
    """
    return await _answered(_list(req.params))


async def _list(params: Mapping[str, str]) -> func.HttpResponse:
    where, limit = _read_filter(params), params.get("limit", str(_DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= _MAX_LIMIT:
        _refuse_query("limit", f"not a number from 1 to {_MAX_LIMIT}")
    try:
        rows, token = await asyncio.to_thread(
            _journals().projection.page,
            Kind.TRANSFERS,
            where=where,
            limit=int(limit),
            token=params.get("cursor"),
        )
    except OperatorError:
        _refuse_query("cursor", "not one that a list of ours ended with")
    kept = {name: params[name] for name in (*_FILTERS, "limit") if name in params}
    following = None if token is None else f"/api/transfers?{urlencode({**kept, 'cursor': token})}"
    return respond(HTTPStatus.OK, {"transfers": [summarize(row) for row in rows], "next": following})


@bp.route(route="transfers/{transferId}", methods=["DELETE"])
@bp.durable_client_input(client_name="client")
async def cancel_transfer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Cancel a transfer for good, as long as it is not sealed.

    What is under way (pipeline runs, hashing) ends by itself: ARM has no cancel.
    """
    return await _answered(_cancel(req.route_params.get("transferId", ""), client))


async def _cancel(transfer_id: str, client: Any) -> func.HttpResponse:
    journal = await _find(transfer_id)
    if journal is None:
        return _unknown(transfer_id)
    if not journal.is_active:
        return _decided(journal)
    try:
        journal = await asyncio.to_thread(
            _journals().record,
            *(Kind.TRANSFERS, transfer_id, State.CANCELLED, {}),
            by=_CALLER,
            at=datetime.now(UTC),
        )
    except PolicyRefusal:  # it was sealed just now, or has failed
        return _decided(await _find(transfer_id) or journal)
    # Decided: what is not reached now finds it written before its next step.
    await asyncio.to_thread(stop, source_side().blobs, transfer_id)
    instance = await find_instance(client, transfer_id)
    if instance is not None and instance.is_active:
        await client.terminate(transfer_id, "cancelled by request")
    return respond(HTTPStatus.OK, describe(journal))


def _journals() -> JournalStore:
    side = source_side()
    return JournalStore(side.blobs, side.projection)


async def _answered(work: Awaitable[func.HttpResponse]) -> func.HttpResponse:
    """The answer, or the problem that came instead."""
    try:
        return await work
    except RequestRefusedError as refusal:
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if refusal.is_too_large else HTTPStatus.BAD_REQUEST
        return problem(status, refusal.code, refusal.detail, refusal.errors)
    except ServiceError as error:
        is_passing = error.code.is_retryable
        status = HTTPStatus.SERVICE_UNAVAILABLE if is_passing else HTTPStatus.INTERNAL_SERVER_ERROR
        return problem(status, error.code, error.detail)
    except AirgapError as error:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, error.code, error.detail)


async def _find(transfer_id: str) -> Journal | None:
    """The journal of a transfer, if there is one."""
    if not is_journal_id(Kind.TRANSFERS, transfer_id):
        return None
    journal = await asyncio.to_thread(_journals().read, Kind.TRANSFERS, transfer_id)
    return journal if journal.entries else None


def _read_filter(params: Mapping[str, str]) -> RowFilter:
    state, channel = params.get("state"), params.get("channel")
    if state is not None and state not in {one.value for one in TRANSFERS}:
        _refuse_query("state", f"not one of {', '.join(TRANSFERS)}")
    if channel is not None and not CHANNEL.fullmatch(channel):
        _refuse_query("channel", "not the name of a channel")
    return RowFilter(
        state=None if state is None else State(state),
        channel=channel,
        created_from=_time(params, "createdFrom"),
        created_before=_time(params, "createdBefore"),
    )


def _time(params: Mapping[str, str], name: str) -> datetime | None:
    try:
        return parse_time(params[name]) if name in params else None
    except ValueError as error:
        _refuse_query(name, str(error))


def _unknown(transfer_id: str) -> func.HttpResponse:
    return problem(HTTPStatus.NOT_FOUND, Code.NOT_FOUND, f"there is no transfer {transfer_id[:40]!r}")


def _decided(journal: Journal) -> func.HttpResponse:
    return problem(
        HTTPStatus.CONFLICT, Code.TRANSITION_REFUSED, f"the transfer has come to this: {journal.state}"
    )


def _refuse_query(name: str, why: str) -> NoReturn:
    raise RequestRefusedError((FieldError(name, why),))
