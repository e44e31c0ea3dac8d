"""The source's HTTP API: standing orders are set, looked at and deleted.

The journal of an order's name decides: each change is an entry, whose digest is the ETag of what it led to.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from airgap.errors import Code
from airgap.fields import CHANNEL, format_time
from airgap.journal import MAX_ENTRIES, Journal
from airgap.preflight import judge_terms
from airgap.schedule import Schedule
from airgap.states import Kind, State
from function_app.azure.wiring import source_settings, source_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.bodies import SelfLink, Step, read_body
from function_app.http.caller import ADMIN_ROLE, Caller
from function_app.http.faults import CHANNEL_IN_WORDS, Faults
from function_app.http.incoming import caller_of, etag_of, refused_orderer
from function_app.http.list_request import ListRequest
from function_app.http.preconditions import Preconditions, changed_meanwhile
from function_app.http.problems import problem, refused_method, respond
from function_app.journal.store import JournalStore
from function_app.ports import JournalRow, SourceSide
from function_app.source import bodies
from function_app.source.placing import place_transfer
from function_app.source.standing import last_run
from function_app.source.standing_order import StandingOrder
from function_app.source.transfer_request import transfer_id_for
from function_app.source.transfer_status import describe, path_of
from function_app.storage.policies import policy_in_force

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_POLL_S = "5"
_MAX_NAMES = 500
"""Of all standing orders that there ever were: the timer reads the journal of each."""


@bp.route(route="orders/{name}", methods=["PUT"])
@bp.durable_client_input(client_name="client")
async def set_order(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Set a standing order: answers 201 where there was none of this name, else 200.

    An order that is there is changed only with its ETag as ``If-Match``; a repeat of what it says already
    changes nothing. A dry run sets nothing: it is a transfer that ends with its plan, 202.
    """
    return await answered(_set(req, client))


async def _set(req: func.HttpRequest, client: Any) -> func.HttpResponse:
    faults = Faults().add_unknown_parameters(req.params)
    preconditions = Preconditions.read(req.headers, faults)
    order = StandingOrder.from_bytes(req.get_body(), faults)
    name, caller = req.route_params.get("name", ""), caller_of(req, source_settings())
    refusal = _refuse_caller(name, caller)
    if refusal is not None:
        return refusal
    side, now = source_side(), datetime.now(UTC)
    policy = await asyncio.to_thread(policy_in_force, side)
    policy.require_in_force(now)
    order.request.refuse_findings(judge_terms(policy, order.request.terms))
    if order.request.is_dry_run:
        return await _preview(client, side, order, caller, now)
    journal = await _read(side, name)
    is_repeat = _is_there(journal) and journal.entries[-1].facts["order"] == order.to_json()
    refusal = await _refuse_change(side, journal, caller, None if is_repeat else preconditions)
    if refusal is not None:
        return refusal
    if is_repeat:
        return await _tell(HTTPStatus.OK, side, journal, now)
    return await _change(journal, order.state, order.to_facts(), caller=caller, now=now)


async def _preview(
    client: Any, side: SourceSide, order: StandingOrder, caller: Caller, now: datetime
) -> func.HttpResponse:
    """What the order would send if it were due now, as a transfer of its own."""
    transfer_id = transfer_id_for(None, side.settings.pipeline_resource_id)
    journal = await place_transfer(
        client, side, transfer_id, order.request, facts=caller.facts, by=caller.name, at=now
    )
    headers = {"Location": path_of(transfer_id), "ETag": etag_of(journal), "Retry-After": _POLL_S}
    return respond(HTTPStatus.ACCEPTED, describe(journal), headers)


@bp.route(route="orders/{name}", methods=["GET"])
async def get_order(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with a standing order: what it says, who has set it, when it was placed last and is due next."""
    return await answered(_get(req))


async def _get(req: func.HttpRequest) -> func.HttpResponse:
    Faults().add_unknown_parameters(req.params).refuse_any()
    name, side = req.route_params.get("name", ""), source_side()
    journal = await _read(side, name)
    if not journal.entries:
        return _unknown(name)
    return await _tell(HTTPStatus.OK, side, journal, datetime.now(UTC))


@bp.route(route="orders/{name}", methods=["DELETE"])
async def delete_order(req: func.HttpRequest) -> func.HttpResponse:
    """Delete a standing order, and answer 200; transfers already placed go on. A repeat changes nothing."""
    return await answered(_delete(req))


async def _delete(req: func.HttpRequest) -> func.HttpResponse:
    faults = Faults().add_unknown_parameters(req.params)
    preconditions = Preconditions.read(req.headers, faults)
    faults.refuse_any()
    name, side = req.route_params.get("name", ""), source_side()
    journal = await _read(side, name)
    if not journal.entries:
        return _unknown(name)
    caller, now = caller_of(req, source_settings()), datetime.now(UTC)
    if not _is_there(journal):
        return await _tell(HTTPStatus.OK, side, journal, now)
    refusal = await _refuse_change(side, journal, caller, preconditions)
    if refusal is not None:
        return refusal
    return await _change(journal, State.DELETED, {}, caller=caller, now=now)


@bp.route(route="orders", methods=["GET"])
async def list_orders(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the standing orders, newest first; deleted ones only with ``?state=deleted``."""
    return await answered(_list(req.params))


async def _list(params: Mapping[str, str]) -> func.HttpResponse:
    wanted, side = ListRequest.from_params(Kind.ORDERS, params), source_side()
    rows, after = await asyncio.to_thread(wanted.page, side.projection)
    is_asked = wanted.where.state is State.DELETED
    told = tuple(_summarize(row) for row in rows if is_asked or row.state is not State.DELETED)
    return respond(HTTPStatus.OK, bodies.StandingOrderList(orders=told, next=after))


@bp.route(route="orders", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_orders_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET")


@bp.route(route="orders/{name}", methods=[*(method for method in METHODS_OF_NONE if method != "PUT"), "POST"])
async def refuse_order_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "DELETE", "GET", "PUT")


def order_path_of(name: str) -> str:
    """The path at which a standing order is looked at, changed and deleted."""
    return f"/api/orders/{name}"


async def _read(side: SourceSide, name: str) -> Journal:
    """The journal of a name; empty if it is none, too."""
    if not CHANNEL.fullmatch(name):
        return Journal(kind=Kind.ORDERS, about="none")
    return await asyncio.to_thread(_journals(side).read, Kind.ORDERS, name)


def _refuse_caller(name: str, caller: Caller) -> func.HttpResponse | None:
    """Answer what can be no standing order of this caller, whatever there is."""
    if not CHANNEL.fullmatch(name):
        return _no_name(name)
    if not caller.may_order:
        return refused_orderer()
    return None


async def _refuse_change(
    side: SourceSide, journal: Journal, caller: Caller, preconditions: Preconditions | None
) -> func.HttpResponse | None:
    """Answer a change that this caller may not make, or of another state than it was decided by."""
    if _is_there(journal) and not caller.may_cancel(journal.entries[-1].facts):
        return _not_yours(journal)
    if not journal.entries and await _are_too_many(side):
        return _no_further(
            f"there are {_MAX_NAMES} names of standing orders already, the deleted ones counted"
        )
    return (
        None if preconditions is None else preconditions.refusal(_etag(journal), order_path_of(journal.about))
    )


async def _change(
    journal: Journal, state: State, facts: Mapping[str, Any], *, caller: Caller, now: datetime
) -> func.HttpResponse:
    """Add the change to the journal that it was decided by, and answer with what it led to."""
    side = source_side()
    is_new = not _is_there(journal)
    most = MAX_ENTRIES if state is State.DELETED else MAX_ENTRIES - 1  # it can be deleted at any time
    if len(journal.entries) >= most:
        return _no_further(f"the order was changed {most} times, which is as often as can be")
    # The number tells a change from an equal one before it.
    facts = {**facts, **caller.facts, "change": len(journal.entries) + 1}
    changed = await asyncio.to_thread(_journals(side).append, journal, state, facts, by=caller.name, at=now)
    if changed is None:
        return changed_meanwhile(order_path_of(journal.about))
    return await _tell(HTTPStatus.CREATED if is_new else HTTPStatus.OK, side, changed, now)


async def _tell(status: HTTPStatus, side: SourceSide, journal: Journal, now: datetime) -> func.HttpResponse:
    last = await asyncio.to_thread(last_run, side, journal, now)
    first, newest, order = journal.entries[0], journal.entries[-1], _order_of(journal)
    is_standing = newest.state is State.STANDING
    body = bodies.StandingOrder(
        name=journal.about,
        state=newest.state.value,
        created_at=format_time(first.at),
        updated_at=format_time(newest.at),
        order=read_body(order, bodies.Standing),
        next=format_time(Schedule.parse(order["schedule"]).following(now)) if is_standing else None,
        last=None if last is None else _tell_last(last),
        history=tuple(Step.of(entry) for entry in journal.entries),
        links=SelfLink(self=order_path_of(journal.about)),
    )
    headers = {"ETag": _etag(journal) or ""} if _is_there(journal) else {}
    return respond(status, body, headers)


def _order_of(journal: Journal) -> dict[str, Any]:
    """What it says, or said when it was deleted."""
    return next(dict(entry.facts["order"]) for entry in reversed(journal.entries) if "order" in entry.facts)


def _tell_last(last: Mapping[str, str]) -> bodies.LastRun:
    transfer_id = last["transferId"]
    links = SelfLink(self=path_of(transfer_id))
    return bodies.LastRun(time=last["time"], transfer_id=transfer_id, state=last["state"], links=links)


def _summarize(row: JournalRow) -> bodies.StandingOrderLine:
    return bodies.StandingOrderLine(
        name=row.about,
        state=row.state.value,
        channel=row.channel,
        created_at=format_time(row.created_at),
        updated_at=format_time(row.updated_at),
        links=SelfLink(self=order_path_of(row.about)),
    )


def _is_there(journal: Journal) -> bool:
    return journal.state not in (None, State.DELETED)


def _etag(journal: Journal) -> str | None:
    """The ETag of an order that is there: the digest of the last change."""
    return etag_of(journal) if _is_there(journal) else None


async def _are_too_many(side: SourceSide) -> bool:
    names = await asyncio.to_thread(lambda: list(_journals(side).ids(Kind.ORDERS)))
    return len(names) >= _MAX_NAMES


def _journals(side: SourceSide) -> JournalStore:
    return JournalStore(side.blobs, side.projection)


def _no_name(name: str) -> func.HttpResponse:
    return problem(
        HTTPStatus.BAD_REQUEST,
        Code.REQUEST_INVALID,
        f"{name[:80]!r} is no name of a standing order",
        remedy=f"Take a name that is formed as {CHANNEL_IN_WORDS}.",
    )


def _unknown(name: str) -> func.HttpResponse:
    return problem(
        HTTPStatus.NOT_FOUND,
        Code.NOT_FOUND,
        f"there is no standing order {name[:80]!r}",
        remedy="Check its name: GET /api/orders lists all.",
    )


def _refused_caller(detail: str, instance: str | None = None) -> func.HttpResponse:
    return problem(
        HTTPStatus.FORBIDDEN,
        Code.CALLER_REFUSED,
        detail,
        remedy=f"Have it done by whoever has set it, or by somebody with the app role {ADMIN_ROLE}.",
        instance=instance,
    )


def _not_yours(journal: Journal) -> func.HttpResponse:
    detail = f"it was set by {journal.entries[-1].by}, and is not yours to change"
    return _refused_caller(detail, instance=order_path_of(journal.about))


def _no_further(detail: str) -> func.HttpResponse:
    return problem(
        HTTPStatus.CONFLICT,
        Code.TRANSITION_REFUSED,
        detail,
        remedy="Delete it and set another one, under a name that there was before if there are too many.",
    )
