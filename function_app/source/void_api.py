"""The source's HTTP API for voids: a sealed transfer whose bundle will not arrive is given up, on record."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import azure.functions as func

from airgap.errors import Code, PolicyRefusal
from airgap.journal import Journal
from airgap.states import State
from function_app.azure.wiring import source_settings, source_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.faults import MISSING, Faults
from function_app.http.incoming import caller_of, changed_since, etag_of
from function_app.http.json_body import read_object, require_model
from function_app.http.problems import problem, refused_method, respond
from function_app.source.bodies import MAX_REASON_CHARACTERS, Void
from function_app.source.looking_up import find_transfer, not_yours, tell_transfer, unknown_transfer
from function_app.source.transfer_status import path_of
from function_app.source.voiding import void_transfer

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

MAX_BODY_BYTES = 4096
_REASON = "reason"
_REASON_IN_WORDS = f"why it is given up: a text of 1 to {MAX_REASON_CHARACTERS} printable characters"
_POLL_S = "5"
_WITHOUT_NUMBER = "Nothing to void: it took no number, or gave it up when it ended."
_REMEDIES: Mapping[State | None, str] = {
    State.SEALING: "Its bundle is on its way out: send this again in a moment.",
    State.DELIVERED: "Nothing to void: the target has imported it.",
    State.REFUSED: _WITHOUT_NUMBER,
    State.FAILED: _WITHOUT_NUMBER,
    State.CANCELLED: _WITHOUT_NUMBER,
    State.PREVIEWED: _WITHOUT_NUMBER,
    State.NOTHING_MISSING: _WITHOUT_NUMBER,
    State.DIVIDED: "Nothing to void: the transfers that its `transfers` names have numbers, each its own.",
}
"""What to do about a transfer that cannot be voided; of any other state: cancel it."""


@bp.route(route="transfers/{transferId}/void", methods=["POST"])
async def void_sealed_transfer(req: func.HttpRequest) -> func.HttpResponse:
    """Give up the number of a sealed transfer for good, and answer 200 with the transfer.

    The body is ``{"reason": …}``. A repeat changes nothing. A caller who has signed in may do it to its own
    transfers only, unless it is an admin.
    """
    return await answered(_void(req))


async def _void(req: func.HttpRequest) -> func.HttpResponse:
    reason = _read_reason(req.get_body(), Faults().add_unknown_parameters(req.params))
    side = source_side()
    transfer_id = req.route_params.get("transferId", "")
    journal = await find_transfer(side, transfer_id)
    if journal is None:
        return unknown_transfer(transfer_id)
    caller = caller_of(req, source_settings())
    if not caller.may_cancel(journal.entries[0].facts):
        return not_yours(journal, "void")
    if (changed := changed_since(req.headers, journal, path_of(transfer_id))) is not None:
        return changed
    try:
        journal = await asyncio.to_thread(
            void_transfer, side, journal, reason=reason, by=caller.name, now=datetime.now(UTC)
        )
    except PolicyRefusal as refusal:
        return _refused(refusal, await find_transfer(side, transfer_id) or journal)
    return respond(HTTPStatus.OK, await tell_transfer(side, journal), {"ETag": etag_of(journal)})


def _read_reason(body: bytes, faults: Faults) -> str:
    raw = read_object(body, faults, max_bytes=MAX_BODY_BYTES)
    reason = raw.get(_REASON, MISSING)
    if type(reason) is not str or not 1 <= len(reason) <= MAX_REASON_CHARACTERS or not reason.isprintable():
        faults.add("body", (_REASON,), reason, _REASON_IN_WORDS)
    for name, value in raw.items():
        if name != _REASON:
            faults.add("body", (name,), value, f"no member but {_REASON}")
    require_model(raw, Void, faults)
    return str(reason)


def _refused(refusal: PolicyRefusal, journal: Journal) -> func.HttpResponse:
    return problem(
        HTTPStatus.CONFLICT,
        Code.TRANSITION_REFUSED,
        refusal.detail,
        remedy=_REMEDIES.get(journal.state, "It is not sealed yet: DELETE cancels it."),
        headers={"Retry-After": _POLL_S} if journal.state is State.SEALING else {},
        instance=path_of(journal.about),
    )


@bp.route(route="transfers/{transferId}/void", methods=[*METHODS_OF_NONE, "GET", "DELETE"])
async def refuse_void_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "POST")
