"""The OpenAPI document of the source's HTTP API (:mod:`function_app.http.openapi`)."""

from http import HTTPStatus as Status
from typing import Any

from airgap.errors import Code
from airgap.fields import CHANNEL, LOGIN_SERVER
from airgap.recarry import MAX_REQUEST_BYTES
from airgap.states import Kind
from function_app.events.openapi import STATE_CHANGED
from function_app.http.bodies import Envelope, Ticket, whole
from function_app.http.openapi import (
    CURSOR,
    IF_MATCH,
    IF_NONE_MATCH,
    LIMIT,
    Answer,
    Call,
    Parameter,
    document,
    list_parameters,
)
from function_app.source import bodies
from function_app.source.transfer_request import KEY_HEADER

_ID = Parameter(name="transferId", place="path", schema={"type": "string"})
_NAME = Parameter(name="name", place="path", schema={"type": "string"})
_NOT_FOUND = {Status.NOT_FOUND: [Code.NOT_FOUND]}
_POLLED = ("ETag", "Retry-After")


def _transfer(status: Status, description: str, *headers: str) -> Answer:
    return Answer(status=status, body=bodies.Transfer, description=description, headers=headers)


def _order(status: Status, description: str) -> Answer:
    return Answer(status=status, body=bodies.StandingOrder, description=description)


CALLS = (
    Call(
        name="create_transfer",
        method="post",
        path="/transfers",
        summary="Order a transfer",
        parameters=(
            Parameter(
                name=KEY_HEADER,
                place="header",
                schema={"type": "string", "pattern": "^[ -~]{1,128}$"},
                description="A repeat with the same key meets the same transfer, for good.",
            ),
        ),
        ask=bodies.Order,
        answers=(
            _transfer(Status.ACCEPTED, "It is at work.", "Location", *_POLLED),
            _transfer(Status.OK, "A repeat meets one that has ended.", "Location", "ETag"),
        ),
        refusals={Status.FORBIDDEN: [Code.CALLER_REFUSED], Status.CONFLICT: [Code.CONFLICT]},
    ),
    Call(
        name="list_transfers",
        method="get",
        path="/transfers",
        summary="List transfers, newest first",
        parameters=list_parameters(Kind.TRANSFERS),
        answers=(Answer(status=Status.OK, body=bodies.TransferList, description="One page."),),
    ),
    Call(
        name="get_transfer",
        method="get",
        path="/transfers/{transferId}",
        summary="Where a transfer stands, and how it came there",
        parameters=(
            _ID,
            Parameter(
                name="expand",
                place="query",
                schema={"type": "string", "enum": ["request"]},
                description="`request`: with every reference, selector and exclusion that was ordered.",
            ),
        ),
        answers=(_transfer(Status.OK, "The transfer.", *_POLLED),),
        refusals=_NOT_FOUND,
    ),
    Call(
        name="cancel_transfer",
        method="delete",
        path="/transfers/{transferId}",
        summary="Cancel a transfer for good, as long as it is not sealed",
        parameters=(_ID, IF_MATCH),
        answers=(_transfer(Status.OK, "It is cancelled.", "ETag"),),
        refusals={
            **_NOT_FOUND,
            Status.FORBIDDEN: [Code.CALLER_REFUSED],
            Status.CONFLICT: [Code.TRANSITION_REFUSED],
            Status.PRECONDITION_FAILED: [Code.CONFLICT],
        },
    ),
    Call(
        name="get_plan",
        method="get",
        path="/transfers/{transferId}/plan",
        summary="What a transfer consists of, or would, after a dry run",
        parameters=(_ID, CURSOR),
        answers=(Answer(status=Status.OK, body=bodies.Plan, description="Ten blobs to a page."),),
        refusals=_NOT_FOUND,
    ),
    Call(
        name="pick_up_transfer",
        method="post",
        path="/transfers/{transferId}/pickup",
        summary="Have a pickup ticket given, for the bundle or for what a re-carry request needs",
        description=f"The body is empty, or a re-carry request of at most {MAX_REQUEST_BYTES} bytes.",
        parameters=(_ID,),
        ask=Any,
        must_ask=False,
        answers=(Answer(status=Status.CREATED, body=Ticket, description="The ticket: a secret."),),
        refusals={
            **_NOT_FOUND,
            Status.BAD_REQUEST: [Code.RECARRY_MALFORMED, Code.NEWER_FORMAT],
            Status.FORBIDDEN: [Code.CALLER_REFUSED],
            Status.CONFLICT: [Code.TRANSITION_REFUSED],
            Status.GONE: [Code.NOT_FOUND],
        },
    ),
    Call(
        name="get_signatures",
        method="get",
        path="/transfers/{transferId}/signatures",
        summary="The envelope of the bundle manifest that people are to sign",
        parameters=(_ID,),
        answers=(
            Answer(status=Status.OK, body=Envelope, description="With the signatures that count so far."),
        ),
        refusals={**_NOT_FOUND, Status.CONFLICT: [Code.TRANSITION_REFUSED]},
    ),
    Call(
        name="add_signature",
        method="post",
        path="/transfers/{transferId}/signatures",
        summary="Hand in what somebody has signed",
        description="The body is the envelope that `offline-mover sign` writes. A repeat changes nothing.",
        parameters=(_ID, IF_MATCH),
        ask=Any,
        answers=(_transfer(Status.OK, "It is kept; `signatures` tells what is missing.", "ETag"),),
        refusals={
            **_NOT_FOUND,
            Status.BAD_REQUEST: [
                *(Code.ENVELOPE_MALFORMED, Code.SIGNATURE_INVALID, Code.SIGNATURE_UNCHECKABLE),
            ],
            Status.FORBIDDEN: [Code.SIGNER_UNKNOWN, Code.KEY_REVOKED, Code.CALLER_REFUSED],
            Status.CONFLICT: [Code.TRANSITION_REFUSED, Code.CHANNEL_UNKNOWN],
            Status.PRECONDITION_FAILED: [Code.CONFLICT],
        },
    ),
    Call(
        name="void_sealed_transfer",
        method="post",
        path="/transfers/{transferId}/void",
        summary="Give up the number of a sealed transfer whose bundle will not arrive",
        parameters=(_ID, IF_MATCH),
        ask=bodies.Void,
        answers=(_transfer(Status.OK, "It is given up; a repeat changes nothing.", "ETag"),),
        refusals={
            **_NOT_FOUND,
            Status.FORBIDDEN: [Code.CALLER_REFUSED],
            Status.CONFLICT: [Code.TRANSITION_REFUSED],
            Status.PRECONDITION_FAILED: [Code.CONFLICT],
        },
    ),
    Call(
        name="list_orders",
        method="get",
        path="/orders",
        summary="List standing orders, newest first; the deleted ones only with `state=deleted`",
        parameters=list_parameters(Kind.ORDERS),
        answers=(Answer(status=Status.OK, body=bodies.StandingOrderList, description="One page."),),
    ),
    Call(
        name="get_order",
        method="get",
        path="/orders/{name}",
        summary="What a standing order says, what it came to last, and when it comes next",
        parameters=(_NAME,),
        answers=(_order(Status.OK, "The order; without `ETag` if it is deleted."),),
        refusals=_NOT_FOUND,
    ),
    Call(
        name="set_order",
        method="put",
        path="/orders/{name}",
        summary="Set a standing order, or change one",
        description="At most 32 KiB. What it says already changes nothing.",
        parameters=(_NAME, IF_MATCH, IF_NONE_MATCH),
        ask=bodies.StandingOrderAsk,
        answers=(
            _order(Status.OK, "It is changed, or was so already."),
            _order(Status.CREATED, "It is set."),
            _transfer(Status.ACCEPTED, "A dry run: nothing is set.", "Location", *_POLLED),
        ),
        refusals={
            Status.FORBIDDEN: [Code.CALLER_REFUSED],
            Status.CONFLICT: [Code.TRANSITION_REFUSED],
            Status.PRECONDITION_FAILED: [Code.CONFLICT],
            Status.PRECONDITION_REQUIRED: [Code.CONFLICT],
        },
    ),
    Call(
        name="delete_order",
        method="delete",
        path="/orders/{name}",
        summary="Delete a standing order; what it has ordered goes on",
        parameters=(_NAME, IF_MATCH, IF_NONE_MATCH),
        answers=(_order(Status.OK, "It is deleted."),),
        refusals={
            **_NOT_FOUND,
            Status.FORBIDDEN: [Code.CALLER_REFUSED],
            Status.CONFLICT: [Code.TRANSITION_REFUSED],
            Status.PRECONDITION_FAILED: [Code.CONFLICT],
            Status.PRECONDITION_REQUIRED: [Code.CONFLICT],
        },
    ),
    Call(
        name="list_holdings",
        method="get",
        path="/holdings",
        summary="What a target registry holds, as far as receipts prove it",
        parameters=(
            Parameter(
                name="channel",
                place="query",
                schema={"type": "string", "pattern": whole(CHANNEL)},
                is_required=True,
            ),
            Parameter(
                name="registry",
                place="query",
                schema={"type": "string", "pattern": whole(LOGIN_SERVER)},
                is_required=True,
            ),
            LIMIT,
            CURSOR,
        ),
        answers=(Answer(status=Status.OK, body=bodies.HoldingList, description="One page."),),
    ),
)


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the source, as JSON values."""
    title, what = "ACR Airgap Transfer: source", "Orders transfers and tells what became of them."
    return document(title, what, CALLS, told=STATE_CHANGED)
