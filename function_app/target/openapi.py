"""The OpenAPI document of the target's HTTP API (:mod:`function_app.http.openapi`)."""

from http import HTTPStatus as Status
from typing import Any

from airgap.errors import Code
from airgap.states import Kind
from function_app.events.openapi import STATE_CHANGED
from function_app.http.bodies import Ticket
from function_app.http.openapi import IF_MATCH, Answer, Call, Parameter, document, list_parameters
from function_app.target import bodies

_ID = Parameter(name="importId", place="path", schema={"type": "string"})

CALLS = (
    Call(
        name="list_imports",
        method="get",
        path="/imports",
        summary="List imports, newest first",
        parameters=list_parameters(Kind.IMPORTS),
        answers=(Answer(status=Status.OK, body=bodies.ImportList, description="One page."),),
    ),
    Call(
        name="get_import",
        method="get",
        path="/imports/{importId}",
        summary="Where an import stands, how it came there, and the signed receipt once it is out",
        parameters=(_ID,),
        answers=(
            Answer(
                status=Status.OK,
                body=bodies.Import,
                description="The import.",
                headers=("ETag", "Retry-After"),
            ),
        ),
        refusals={Status.NOT_FOUND: [Code.NOT_FOUND]},
    ),
    Call(
        name="release_import",
        method="post",
        path="/imports/{importId}/release",
        summary="Hand in what somebody has signed to release a bundle",
        description="The body is the envelope that `offline-mover sign` writes. A repeat changes nothing.",
        parameters=(_ID, IF_MATCH),
        ask=Any,
        answers=(
            Answer(
                status=Status.OK,
                body=bodies.Import,
                description="It is kept; `release` tells what is missing.",
                headers=("ETag", "Retry-After"),
            ),
        ),
        refusals={
            Status.NOT_FOUND: [Code.NOT_FOUND],
            Status.BAD_REQUEST: [
                *(Code.ENVELOPE_MALFORMED, Code.RELEASE_MALFORMED, Code.NEWER_FORMAT, Code.RELEASE_MISMATCH),
                *(Code.SIGNATURE_INVALID, Code.SIGNATURE_UNCHECKABLE, Code.NOT_YET_VALID),
            ],
            Status.FORBIDDEN: [Code.SIGNER_UNKNOWN, Code.KEY_REVOKED, Code.CALLER_REFUSED],
            Status.CONFLICT: [Code.TRANSITION_REFUSED, Code.CHANNEL_UNKNOWN],
            Status.PRECONDITION_FAILED: [Code.CONFLICT],
        },
    ),
    Call(
        name="create_ticket",
        method="post",
        path="/tickets",
        summary="Have a drop ticket given for a bundle",
        description="The body is the bundle manifest's envelope. Each call gives another ticket.",
        ask=Any,
        answers=(Answer(status=Status.CREATED, body=Ticket, description="The ticket: a secret."),),
        refusals={
            Status.BAD_REQUEST: [Code.ENVELOPE_MALFORMED, Code.SIGNATURE_INVALID, Code.SIGNER_UNKNOWN],
            Status.FORBIDDEN: [
                *(Code.AUDIENCE_MISMATCH, Code.CHANNEL_UNKNOWN, Code.EXPIRED, Code.KEY_REVOKED),
                Code.CALLER_REFUSED,
            ],
            Status.CONFLICT: [
                *(Code.REPLAYED, Code.SEQUENCE_REUSED, Code.SEQUENCE_VOID, Code.SEQUENCE_JUMP),
                *(Code.OUT_OF_ORDER, Code.HISTORY_FORKED),
            ],
        },
    ),
)


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the target, as JSON values."""
    title, what = "ACR Airgap Transfer: target", "Tells what arrived and what was decided about it."
    return document(title, what, CALLS, told=STATE_CHANGED)
