"""The source's HTTP API: what a target registry holds, as far as receipts prove it."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import azure.functions as func

from airgap.fields import CHANNEL, LOGIN_SERVER
from airgap.holdings import Held
from airgap.manifest import REFERENCE
from function_app.azure.wiring import source_side
from function_app.durable.blueprint import Blueprint
from function_app.http.answering import METHODS_OF_NONE, answered
from function_app.http.faults import CHANNEL_IN_WORDS, MISSING, Faults
from function_app.http.list_request import DEFAULT_LIMIT, LIMIT_IN_WORDS, read_limit
from function_app.http.problems import refused_method, respond
from function_app.source import bodies
from function_app.source.holdings import read_holdings, tell_word

bp = Blueprint(http_auth_level=func.AuthLevel.FUNCTION)

_PARAMETERS = ("channel", "registry", "limit", "cursor")


@bp.route(route="holdings", methods=["GET"])
async def list_holdings(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what ``?channel=`` may consider present in ``?registry=``; ``next`` leads to the next page.

    The list is empty where no receipt tells anything, whatever the registry holds.
    """
    return await answered(_list(req.params))


async def _list(params: Mapping[str, str]) -> func.HttpResponse:
    faults = Faults().add_unknown_parameters(params, _PARAMETERS)

    def read(name: str, is_right: Callable[[str], Any], wanted: str) -> str:
        text = params.get(name, "")
        if not is_right(text):
            faults.add("query", (name,), params.get(name, MISSING), wanted)
        return text

    channel = read("channel", CHANNEL.fullmatch, CHANNEL_IN_WORDS)
    registry = read("registry", LOGIN_SERVER.fullmatch, "the login server of a target, in lower case")
    cursor = read("cursor", _is_cursor, "the cursor of a list's own next link, unchanged")
    limit = read_limit(params.get("limit", str(DEFAULT_LIMIT)))
    if limit is None:
        faults.add("query", ("limit",), params["limit"], LIMIT_IN_WORDS)
    faults.refuse_any()
    now = datetime.now(UTC)
    holdings = await asyncio.to_thread(read_holdings, source_side(), channel, registry, now=now)
    size = limit or DEFAULT_LIMIT
    found = list(islice((one for one in holdings.all() if _reference(one) > cursor), size + 1))
    page, rest = found[:size], found[size:]
    kept = {name: params[name] for name in ("channel", "registry", "limit") if name in params}
    after = {**kept, "cursor": _reference(page[-1])} if rest else None
    body = bodies.HoldingList(
        channel=channel,
        registry=registry,
        holdings=tuple(_tell(one) for one in page),
        next=None if after is None else f"/api/holdings?{urlencode(after)}",
    )
    return respond(HTTPStatus.OK, body)


def _tell(held: Held) -> bodies.Holding:
    word = tell_word(held.word)
    return bodies.Holding(
        repository=held.repository,
        digest=held.digest,
        tags=tuple(held.tags),
        receipt=word["receipt"],
        transfer_id=word["transferId"],
        decided_at=word["decidedAt"],
    )


def _reference(held: Held) -> str:
    return f"{held.repository}@{held.digest}"


def _is_cursor(text: str) -> bool:
    return not text or ("@" in text and REFERENCE.fullmatch(text) is not None)


@bp.route(route="holdings", methods=[*METHODS_OF_NONE, "POST", "DELETE"])
async def refuse_holdings_method(req: func.HttpRequest) -> func.HttpResponse:
    """Answer 405 with the methods that the resource has."""
    return refused_method(req.method, "GET")
