"""The source's HTTP API: people fetch a bundle manifest that awaits their signatures, and hand these in."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import azure.functions as func

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code
from airgap.journal import Journal
from airgap.states import State
from function_app.azure.wiring import source_settings, source_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.faults import Faults
from function_app.http.incoming import caller_of, changed_since, etag_of, read_document, refused_releaser
from function_app.http.problems import problem, refused_method, respond
from function_app.source.cosigning import SignedManifest
from function_app.source.looking_up import find_transfer, tell_transfer, unknown_transfer
from function_app.source.transfer_status import path_of
from function_app.storage.policies import policy_in_force

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_POLL_S = "5"
_THIS_ENVELOPE = "the envelope of this transfer's bundle manifest, as GET of this resource answers it, signed"


@bp.route(route="transfers/{transferId}/signatures", methods=["GET"])
async def get_signatures(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what is to be signed: the manifest's envelope with all signatures that count so far."""
    return await answered(_get(req))


async def _get(req: func.HttpRequest) -> func.HttpResponse:
    Faults().add_unknown_parameters(req.params).refuse_any()
    side, transfer_id = source_side(), req.route_params.get("transferId", "")
    journal = await find_transfer(side, transfer_id)
    if journal is None:
        return unknown_transfer(transfer_id)
    manifest = SignedManifest.of(side, journal)
    if manifest is None:
        return _nothing_to_sign(journal)
    tally = await asyncio.to_thread(manifest.count, datetime.now(UTC))
    return func.HttpResponse(
        tally.envelope.to_bytes(),
        status_code=HTTPStatus.OK.value,
        headers={"Cache-Control": "no-store"},
        mimetype="application/json",
    )


@bp.route(route="transfers/{transferId}/signatures", methods=["POST"])
async def add_signature(req: func.HttpRequest) -> func.HttpResponse:
    """Take what somebody signed, and answer 200 with the transfer, which tells what is missing.

    A repeat changes nothing. The body is the envelope that ``offline-mover sign`` writes.
    """
    return await answered(_add(req))


async def _add(req: func.HttpRequest) -> func.HttpResponse:
    body = read_document(req, max_bytes=MAX_ENVELOPE_BYTES, wanted="the envelope of a bundle manifest")
    caller = caller_of(req, source_settings())
    if not caller.may_release:
        return refused_releaser()
    side, transfer_id = source_side(), req.route_params.get("transferId", "")
    journal = await find_transfer(side, transfer_id)
    if journal is None:
        return unknown_transfer(transfer_id)
    if (changed := changed_since(req.headers, journal, path_of(transfer_id))) is not None:
        return changed
    manifest = SignedManifest.of(side, journal)
    if manifest is None:
        return _nothing_to_sign(journal)
    # What is wrong with the app's own policy is not the caller's to put right.
    await asyncio.to_thread(policy_in_force, side)
    try:
        is_this = await asyncio.to_thread(
            manifest.keep,
            body,
            is_open=journal.state is State.AWAITING_SIGNATURES,
            by=caller.name,
            now=datetime.now(UTC),
        )
    except AirgapError as error:
        if error.code not in _REFUSALS:
            raise
        status, remedy = _REFUSALS[error.code]
        return problem(status, error.code, error.detail, remedy=remedy, instance=path_of(transfer_id))
    if not is_this:
        faults = Faults()
        faults.add_words("body", (), "the envelope of something else", _THIS_ENVELOPE)
        raise faults.refusal()
    return respond(HTTPStatus.OK, await tell_transfer(side, journal), {"ETag": etag_of(journal)})


_SIGN = "Run offline-mover sign on what GET of this resource answers, and send the file that it writes."
_REFUSALS: Mapping[Code, tuple[HTTPStatus, str | None]] = {
    Code.ENVELOPE_MALFORMED: (HTTPStatus.BAD_REQUEST, _SIGN),
    Code.SIGNATURE_INVALID: (HTTPStatus.BAD_REQUEST, "Do not use it: a signature is forged or broken."),
    Code.SIGNATURE_UNCHECKABLE: (HTTPStatus.BAD_REQUEST, None),
    Code.SIGNER_UNKNOWN: (
        HTTPStatus.FORBIDDEN,
        "Sign with a key that the trust policy has in one of the channel's bundleRoles.",
    ),
    Code.KEY_REVOKED: (HTTPStatus.FORBIDDEN, None),
    Code.CHANNEL_UNKNOWN: (HTTPStatus.CONFLICT, None),
    Code.TRANSITION_REFUSED: (HTTPStatus.CONFLICT, "Nothing to sign: it was sealed without this, or ended."),
}
"""What is the caller's to put right, as a status, and how where the code's own remedy does not fit."""


def _nothing_to_sign(journal: Journal) -> func.HttpResponse:
    """Answer 409: nobody is asked to sign anything of the transfer, or not yet."""
    return problem(
        HTTPStatus.CONFLICT,
        Code.TRANSITION_REFUSED,
        f"nothing awaits signatures; the transfer has come to this: {journal.state}",
        remedy="Send it again in a while." if journal.is_active else "Nothing to sign.",
        headers={"Retry-After": _POLL_S} if journal.is_active else {},
        instance=path_of(journal.about),
    )


@bp.route(route="transfers/{transferId}/signatures", methods=[*METHODS_OF_NONE, "DELETE"])
async def refuse_signatures_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET", "POST")
