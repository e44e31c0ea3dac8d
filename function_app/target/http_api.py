"""The target's HTTP API: what arrived, what was decided about it, and releases by people.

Answers come from the journal and its lists, so that they outlast Durable's history. It decides nothing: a
release is kept here, and counted by the import that waits for it.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import azure.functions as func
import msgspec

from airgap.errors import AirgapError, Code
from airgap.journal import Journal, is_journal_id
from airgap.release import MAX_RELEASE_BYTES, verify_release
from airgap.states import Kind
from function_app.azure.wiring import target_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.bodies import read_body
from function_app.http.faults import Faults
from function_app.http.incoming import caller_of, changed_since, etag_of, read_document, refused_releaser
from function_app.http.json_body import require_json
from function_app.http.list_request import ListRequest
from function_app.http.problems import problem, refused_method, respond
from function_app.journal.store import JournalStore
from function_app.storage.policies import policy_in_force
from function_app.target.acceptance import told_hold
from function_app.target.bodies import ImportList, Removed
from function_app.target.custody_logs import told_custody
from function_app.target.import_status import describe, path_of, read_receipt, receipt_of, summarize
from function_app.target.releasing import bundle_of, keep_release, told_releases
from function_app.target.removing import told_removals

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_POLL_S = "5"


@bp.route(route="imports/{importId}", methods=["GET"])
async def get_import(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with where an import stands, how it came there, and the signed receipt once it is out."""
    return await answered(_get(req.route_params.get("importId", ""), req.params))


async def _get(import_id: str, params: Mapping[str, str]) -> func.HttpResponse:
    Faults().add_unknown_parameters(params).refuse_any()
    journal = await _find(import_id)
    return _unknown(import_id) if journal is None else await _described(journal)


async def _described(journal: Journal) -> func.HttpResponse:
    side = target_side()
    receipt = receipt_of(journal)
    told = None if receipt is None else await asyncio.to_thread(read_receipt, side.blobs, receipt)
    release = await asyncio.to_thread(told_releases, side, journal, datetime.now(UTC))
    held = await asyncio.to_thread(told_hold, side, journal)
    custody = await asyncio.to_thread(told_custody, side, journal)
    removed = await asyncio.to_thread(told_removals, side, journal.about) if journal.is_final else []
    poll = {"Retry-After": _POLL_S} if journal.is_active else {}
    body = msgspec.structs.replace(
        describe(journal),
        held=held,
        release=release,
        custody=custody,
        receipt=told,
        removed=tuple(read_body(one, Removed) for one in removed),
    )
    return respond(HTTPStatus.OK, body, {"ETag": etag_of(journal), **poll})


@bp.route(route="imports/{importId}/release", methods=["POST"])
async def release_import(req: func.HttpRequest) -> func.HttpResponse:
    """Take the release of a bundle that somebody signed, and answer 200 with the import.

    The answer tells what is missing. The body is the envelope, at most 64 KiB. A repeat changes nothing.
    """
    return await answered(_release(req))


async def _release(req: func.HttpRequest) -> func.HttpResponse:
    body = read_document(req, max_bytes=MAX_RELEASE_BYTES, wanted="the envelope of a release")
    side, now = target_side(), datetime.now(UTC)
    caller = caller_of(req, side.settings)
    if not caller.may_release:
        return refused_releaser()
    import_id = req.route_params.get("importId", "")
    journal = await _find(import_id)
    if journal is None:
        return _unknown(import_id)
    if (changed := changed_since(req.headers, journal, path_of(import_id))) is not None:
        return changed
    bundle = bundle_of(side, journal)
    if bundle is None:
        return _nothing_to_release(journal)
    # What is wrong with the app's own policy is not the caller's to put right.
    policy = await asyncio.to_thread(policy_in_force, side)
    try:
        require_json(body, Code.ENVELOPE_MALFORMED)
        release = verify_release(body, bundle=bundle, policy=policy, now=now)
        await asyncio.to_thread(keep_release, side, journal, release, by=caller.name, now=now)
    except AirgapError as error:
        if error.code not in _REFUSALS:
            raise
        status, remedy = _REFUSALS[error.code]
        return problem(
            status, error.code, error.detail, remedy=remedy, instance=f"{path_of(journal.about)}/release"
        )
    return await _described(journal)


_SIGN = "Run offline-mover sign on this very bundle, and send the file that it writes."
_REFUSALS: Mapping[Code, tuple[HTTPStatus, str | None]] = {
    Code.ENVELOPE_MALFORMED: (HTTPStatus.BAD_REQUEST, _SIGN),
    Code.RELEASE_MALFORMED: (HTTPStatus.BAD_REQUEST, _SIGN),
    Code.RELEASE_MISMATCH: (HTTPStatus.BAD_REQUEST, None),
    Code.NEWER_FORMAT: (HTTPStatus.BAD_REQUEST, None),
    Code.NOT_YET_VALID: (HTTPStatus.BAD_REQUEST, "Check the clock of the machine that it was signed on."),
    Code.SIGNATURE_INVALID: (
        HTTPStatus.BAD_REQUEST,
        "Do not use this release: a signature in the name of a trusted key is forged or broken.",
    ),
    Code.SIGNATURE_UNCHECKABLE: (HTTPStatus.BAD_REQUEST, None),
    Code.SIGNER_UNKNOWN: (
        HTTPStatus.FORBIDDEN,
        "Sign with a key that the trust policy has in one of the channel's releaseRoles.",
    ),
    Code.KEY_REVOKED: (HTTPStatus.FORBIDDEN, None),
    Code.CHANNEL_UNKNOWN: (HTTPStatus.CONFLICT, None),
    Code.TRANSITION_REFUSED: (HTTPStatus.CONFLICT, None),
}
"""What is the caller's to put right, as a status, and how where the code speaks of bundles."""


def _nothing_to_release(journal: Journal) -> func.HttpResponse:
    """Nobody vouches for a bundle: it is not admitted yet, or never was."""
    return problem(
        HTTPStatus.CONFLICT,
        Code.TRANSITION_REFUSED,
        f"no bundle was admitted; the import has come to this: {journal.state}",
        remedy="Send it again in a moment." if journal.is_active else None,
        headers={"Retry-After": _POLL_S} if journal.is_active else {},
        instance=path_of(journal.about),
    )


async def _find(import_id: str) -> Journal | None:
    """The journal of an import, if there is one."""
    if not is_journal_id(Kind.IMPORTS, import_id):
        return None
    side = target_side()
    journals = JournalStore(side.blobs, side.projection)
    journal = await asyncio.to_thread(journals.read, Kind.IMPORTS, import_id)
    return journal if journal.entries else None


def _unknown(import_id: str) -> func.HttpResponse:
    return problem(
        HTTPStatus.NOT_FOUND,
        Code.NOT_FOUND,
        f"there is no import {import_id[:40]!r}",
        remedy="Check the import's id: GET /api/imports lists all.",
    )


@bp.route(route="imports", methods=["GET"])
async def list_imports(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the imports, newest first; the body's ``next`` leads to the page after.

    The query parameters are those of the source's list of transfers.
    """
    return await answered(_list(req.params))


async def _list(params: Mapping[str, str]) -> func.HttpResponse:
    wanted = ListRequest.from_params(Kind.IMPORTS, params)
    rows, after = await asyncio.to_thread(wanted.page, target_side().projection)
    return respond(HTTPStatus.OK, ImportList(imports=tuple(summarize(row) for row in rows), next=after))


@bp.route(route="imports", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_imports_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET")


@bp.route(route="imports/{importId}", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_import_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET")


@bp.route(route="imports/{importId}/release", methods=[*METHODS_OF_NONE, "GET", "DELETE"])
async def refuse_release_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "POST")
