"""The target's HTTP API for tickets: whoever shows a bundle's envelope may get rights to bring the rest."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import azure.functions as func

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, PolicyRefusal, UntrustedInputError
from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.bodies import Ticket, read_body
from function_app.http.incoming import caller_of, read_document, refused_ticket_caller
from function_app.http.json_body import require_json
from function_app.http.problems import problem, refused_method, respond
from function_app.target.drop_tickets import give_drop_ticket

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)


@bp.route(route="tickets", methods=["POST"])
async def create_ticket(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 201 with a drop ticket, which is a secret until it expires.

    The body is the bundle manifest's envelope as it was sealed. Each call gives another ticket.
    """
    return await answered(_create(req))


async def _create(req: func.HttpRequest) -> func.HttpResponse:
    envelope = read_document(req, max_bytes=MAX_ENVELOPE_BYTES, wanted="the envelope of a bundle manifest")
    side, now = target_side(), datetime.now(UTC)
    caller = caller_of(req, side.settings)
    if not caller.may_take_tickets:
        return refused_ticket_caller()
    try:
        require_json(envelope, Code.ENVELOPE_MALFORMED)
        ticket = await asyncio.to_thread(give_drop_ticket, side, envelope, caller=caller, now=now)
    except (UntrustedInputError, PolicyRefusal) as refusal:
        if refusal.code in _OWN_FAULTS:
            raise
        return _refused(refusal)
    return respond(HTTPStatus.CREATED, read_body(ticket.to_json(), Ticket))


_OWN_FAULTS = frozenset(
    {
        *(Code.POLICY_MALFORMED, Code.POLICY_EXPIRED, Code.POLICY_NOT_NEXT, Code.POLICY_ROLLED_BACK),
        *(Code.POLICY_FORKED, Code.JOURNAL_BROKEN, Code.LEDGER_UNPROVEN, Code.BLOB_CHANGED),
    }
)
"""What is wrong here, and not with the bundle."""

_STATUSES: Mapping[Code, HTTPStatus] = dict.fromkeys(
    (
        *(Code.REPLAYED, Code.SEQUENCE_REUSED, Code.SEQUENCE_VOID, Code.SEQUENCE_JUMP, Code.OUT_OF_ORDER),
        *(Code.HISTORY_FORKED, Code.TRANSITION_REFUSED),
    ),
    HTTPStatus.CONFLICT,
)
"""By code, what the channel has come to meanwhile."""


def _refused(refusal: AirgapError) -> func.HttpResponse:
    """The bundle would not be admitted: 400 for one that is malformed or forged, 403 and 409 for others."""
    otherwise = HTTPStatus.BAD_REQUEST if isinstance(refusal, UntrustedInputError) else HTTPStatus.FORBIDDEN
    remedy = _SEND if refusal.code is Code.ENVELOPE_MALFORMED else None
    return problem(_STATUSES.get(refusal.code, otherwise), refusal.code, refusal.detail, remedy=remedy)


_SEND = "Send bundle-manifest.dsse.json as it lies on each volume, byte for byte: curl --data-binary."


@bp.route(route="tickets", methods=[*METHODS_OF_NONE, "GET", "DELETE"])
async def refuse_tickets_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "POST")
