"""The source's HTTP API: order a transfer, look at it, list all, cancel one.

Each function asks the durable client and nothing else; what takes time is the orchestration's business.
"""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from airgap.errors import Code, OperatorError
from airgap.fields import TRANSFER_ID
from airgap.states import Kind, State
from function_app.azure.wiring import source_settings, source_side
from function_app.durable.blueprint import Blueprint
from function_app.durable.instances import Instance, find_instance, newest_instances
from function_app.durable.stopping import stop
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.source.planning import REQUEST
from function_app.source.problems import problem, respond
from function_app.source.transfer_request import (
    FieldError,
    RequestRefusedError,
    TransferRequest,
    transfer_id_for,
)
from function_app.source.transfer_status import ENDED, STATUSES, describe, links_of, status_of, summarize
from function_app.source.wire import RequestDocument, TransferOrder
from function_app.storage.work_folder import WorkFolder

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_ORCHESTRATION = "export_transfer"
_POLL_S = "5"
_DEFAULT_LIMIT = 50
_MAX_LIMIT = 500
_CLOCK_SKEW = timedelta(minutes=10)


@bp.route(route="transfers", methods=["POST"])
@bp.durable_client_input(client_name="client")
async def create_transfer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Order a transfer: 202; with an ``Idempotency-Key`` a repeat gets the same one."""
    try:
        request = TransferRequest.from_bytes(req.get_body())
        transfer_id = transfer_id_for(
            req.headers.get("Idempotency-Key"), source_settings().pipeline_resource_id
        )
    except RequestRefusedError as refusal:
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if refusal.is_too_large else HTTPStatus.BAD_REQUEST
        return problem(status, refusal.code, refusal.detail, refusal.errors)
    except OperatorError as error:
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, error.code, error.detail)
    found = await _find(client, transfer_id) or await _start(client, transfer_id, request)
    if found is not None and found.order.get("requestSha256") != request.sha256:
        return problem(
            HTTPStatus.CONFLICT, Code.CONFLICT, "this Idempotency-Key was used for another request"
        )
    links = links_of(transfer_id)
    status_word = "accepted" if found is None else status_of(found)
    body = {"transferId": transfer_id, "status": status_word, "links": links}
    return respond(HTTPStatus.ACCEPTED, body, {"Location": links["self"], "Retry-After": _POLL_S})


@bp.route(route="transfers/{transferId}", methods=["GET"])
@bp.durable_client_input(client_name="client")
async def get_transfer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Where a transfer stands."""
    transfer_id = req.route_params.get("transferId", "")
    found = await _find(client, transfer_id)
    if found is None:
        return _unknown(transfer_id)
    body = describe(found)
    return respond(HTTPStatus.OK, body, {} if body["status"] in ENDED else {"Retry-After": _POLL_S})


@bp.route(route="transfers", methods=["GET"])
@bp.durable_client_input(client_name="client")
async def list_transfers(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """The transfers, newest first: ``?status=`` filters, ``?limit=`` bounds (50, at most 500)."""
    wanted = req.params.get("status")
    if wanted is not None and wanted not in STATUSES:
        return _bad_query("status", f"not one of {', '.join(STATUSES)}")
    limit = req.params.get("limit", str(_DEFAULT_LIMIT))
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= _MAX_LIMIT:
        return _bad_query("limit", f"not a number from 1 to {_MAX_LIMIT}")
    transfers, is_complete = await newest_instances(
        client,
        _ORCHESTRATION,
        wanted=lambda one: wanted in (None, status_of(one)),
        limit=int(limit),
        now=datetime.now(UTC) + _CLOCK_SKEW,
    )
    body = {"transfers": [summarize(one) for one in transfers], "isComplete": is_complete}
    return respond(HTTPStatus.OK, body)


@bp.route(route="transfers/{transferId}", methods=["DELETE"])
@bp.durable_client_input(client_name="client")
async def cancel_transfer(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Cancel a transfer: it is never sealed, unless it is being sealed now.

    What is under way (pipeline runs, hashing) ends by itself: ARM has no cancel.
    """
    transfer_id = req.route_params.get("transferId", "")
    found = await _find(client, transfer_id)
    if found is None:
        return _unknown(transfer_id)
    if (status := status_of(found)) in ENDED:
        return problem(HTTPStatus.CONFLICT, Code.CONFLICT, f"the transfer has ended: {status}")
    await asyncio.to_thread(stop, source_side().blobs, transfer_id)
    await client.terminate(transfer_id, "cancelled by request")
    body = {"transferId": transfer_id, "status": "cancelled", "links": links_of(transfer_id)}
    return respond(HTTPStatus.ACCEPTED, body)


async def _find(client: Any, transfer_id: str) -> Instance | None:
    """A transfer; ``None`` also for instances that are none, as sub-orchestrations."""
    if not TRANSFER_ID.fullmatch(transfer_id):
        return None
    found = await find_instance(client, transfer_id, show_input=True)
    return found if found is not None and found.name == _ORCHESTRATION else None


async def _start(client: Any, transfer_id: str, request: TransferRequest) -> Instance | None:
    """Start it; what is there instead, if a request with the same key was faster."""
    side = source_side()
    document = RequestDocument(
        artifacts=request.artifacts,
        channel=request.channel,
        audience=request.audience,
        expires_in_seconds=request.expires_in_s,
    )
    order = TransferOrder(
        transfer_id=transfer_id,
        request_sha256=request.sha256,
        artifacts=len(request.artifacts),
        channel=request.channel,
        audience=request.audience,
        expires_in_seconds=request.expires_in_s,
        runs_at_once=side.settings.pipeline_runs_at_once,
        hashes_at_once=side.settings.hashes_at_once,
    )
    await asyncio.to_thread(WorkFolder(side.blobs, transfer_id).create, REQUEST, document)
    facts = {
        "requestSha256": request.sha256,
        "channel": request.channel,
        "audience": list(request.audience),
        "artifacts": len(request.artifacts),
        "expiresInSeconds": request.expires_in_s,
    }
    await asyncio.to_thread(
        partial(
            JournalStore(side.blobs, side.projection).record,
            *(Kind.TRANSFERS, transfer_id, State.REQUESTED, facts),
            by="caller",
            at=datetime.now(UTC),
        )
    )
    try:
        await client.start_new(_ORCHESTRATION, transfer_id, dump(order))
    except Exception:  # the SDK raises nothing more precise
        found = await _find(client, transfer_id)
        if found is None:
            raise
        return found
    return None


def _unknown(transfer_id: str) -> func.HttpResponse:
    return problem(HTTPStatus.NOT_FOUND, Code.NOT_FOUND, f"there is no transfer {transfer_id[:40]!r}")


def _bad_query(name: str, why: str) -> func.HttpResponse:
    return problem(HTTPStatus.BAD_REQUEST, Code.REQUEST_INVALID, f"{name}: {why}", [FieldError(name, why)])
