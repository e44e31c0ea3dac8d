"""The OpenAPI 3.1 document of a side: what each call takes and answers, made of the models of its bodies.

Each side says in a table which calls it has (:class:`Call`); what holds for all of them is added here: the
ways to show who one is, and how a request is refused that is at fault, or that cannot be answered now.
https://spec.openapis.org/oas/v3.1.0
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import msgspec

import airgap
from airgap.errors import Code
from airgap.fields import CHANNEL
from airgap.states import TRANSITIONS, Kind
from function_app.http.bodies import Ask, Envelope, Health, Preflight, Problem, whole
from function_app.http.list_request import DEFAULT_LIMIT, MAX_LIMIT

Method = Literal["get", "post", "put", "delete"]

_TIME = {"type": "string", "format": "date-time", "pattern": "Z$", "examples": ["2026-11-23T08:00:00Z"]}
_REF = "#/components/schemas/{name}"
_TEXT = {"type": "string"}
_HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Location": {"description": "Where the transfer is looked at.", "schema": _TEXT, "required": True},
    "Retry-After": {
        "description": "Seconds after which it is worth asking again.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "ETag": {
        "description": "Of the state: another one with each entry of the journal. For `If-Match`.",
        "schema": {"type": "string", "pattern": '^"[0-9a-f]{64}"$'},
        "required": True,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a call, in the path, the query or a header."""

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    description: str = ""
    is_required: bool = False

    def to_json(self) -> dict[str, Any]:
        """The parameter as a Parameter Object of OpenAPI."""
        said = {"description": self.description} if self.description else {}
        return {
            "name": self.name,
            "in": self.place,
            "required": self.is_required or self.place == "path",
            **said,
            "schema": dict(self.schema),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a call with one status of success."""

    status: HTTPStatus
    body: Any
    description: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of an API: what it takes, answers and refuses.

    Args:
        name: the name of the function that answers it; ``operationId``.
        method: the HTTP method in lower case.
        path: the path, with the names of its parameters in braces.
        summary: one line on what it does.
        description: words on what is worth knowing besides.
        parameters: all parameters that it takes; others are refused.
        ask: the model of the body; ``Any`` for a document with a format of its own.
        must_ask: whether there has to be a body.
        answers: the answers when all is well.
        refusals: the codes by status, beyond what holds for all.
    """

    name: str
    method: Method
    path: str
    summary: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    ask: Any = None
    must_ask: bool = True
    answers: tuple[Answer, ...]
    refusals: Mapping[HTTPStatus, Sequence[Code]] = field(default_factory=dict)


IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    schema=_TEXT,
    description="Do it only if the ETag is still this one; 412 otherwise.",
)


IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    place="header",
    schema={"type": "string", "enum": ["*"]},
    description="Do it only if there is none yet; 412 otherwise.",
)


def list_parameters(kind: Kind) -> tuple[Parameter, ...]:
    """The parameters of a list of transfers or imports, by which it is filtered and paged."""
    states = [state.value for state in TRANSITIONS[kind]]
    return (
        Parameter(name="state", place="query", schema={"type": "string", "enum": states}),
        Parameter(name="channel", place="query", schema={"type": "string", "pattern": whole(CHANNEL)}),
        Parameter(name="createdFrom", place="query", schema=_TIME, description="From then on."),
        Parameter(name="createdBefore", place="query", schema=_TIME, description="Before then."),
        LIMIT,
        CURSOR,
    )


LIMIT = Parameter(
    name="limit",
    place="query",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    description="How many to a page.",
)
CURSOR = Parameter(name="cursor", place="query", schema=_TEXT, description="Comes with `next`.")

COMMON = (
    Call(
        name="get_health",
        method="get",
        path="/health",
        summary="Whether the app is there",
        description="No service is asked: whether it can do its work, preflight says.",
        answers=(Answer(status=HTTPStatus.OK, body=Health, description="It is."),),
    ),
    Call(
        name="preflight",
        method="get",
        path="/preflight",
        summary="Whether the side is ready to work: every check with its remedy",
        description="It names settings, so it asks for the master key of the app.",
        answers=(Answer(status=HTTPStatus.OK, body=Preflight, description="Whatever the checks say."),),
    ),
    Call(
        name="openapi",
        method="get",
        path="/openapi.json",
        summary="This document",
        answers=(Answer(status=HTTPStatus.OK, body=dict[str, Any], description="An OpenAPI 3.1 document."),),
    ),
)
"""The calls of either side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A request that the app itself sends to an address that the deployment names.

    Args:
        name: of the webhook; ``operationId``.
        summary: when, in one line.
        description: what is worth knowing besides.
        body: the model of what is sent.
        content_type: of it.
        headers: that go along, by name with what they are.
    """

    name: str
    summary: str
    description: str
    body: Any
    content_type: str
    headers: Mapping[str, str]


def document(title: str, description: str, calls: Sequence[Call], *, told: Told) -> dict[str, Any]:
    """The OpenAPI document of a side with these calls, and with what it sends itself."""
    calls = (*calls, *COMMON)
    models = {model: None for call in calls for model in _models(call)} | {told.body: None}
    schemas, components = msgspec.json.schema_components([Problem, Envelope, *models], ref_template=_REF)
    for model in models:
        if isinstance(model, type) and issubclass(model, Ask):
            components[model.__name__] |= getattr(model, "json_schema", {})
    of = dict(zip([Problem, Envelope, *models], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method] = _operation(call, of)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": airgap.__version__, "description": description},
        "servers": [{"url": "/api"}],
        "security": [{"functionKey": []}, {"functionKeyInQuery": []}, {"signedIn": []}],
        "paths": paths,
        "webhooks": {told.name: {"post": _told(told, of[told.body])}},
        "components": {
            "schemas": components,
            "responses": {
                "Unauthorized": {"description": "No key, or none of this app; nobody has signed in."}
            },
            "securitySchemes": {
                "functionKey": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "functionKeyInQuery": {"type": "apiKey", "in": "query", "name": "code"},
                "signedIn": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where App Service authentication is on (setting `CALLERS`).",
                },
            },
        },
    }


def _models(call: Call) -> list[Any]:
    asked = [] if call.ask is None else [call.ask]
    return [*asked, *(answer.body for answer in call.answers)]


def _operation(call: Call, schema_of: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """The Operation Object."""
    said: dict[str, Any] = {"operationId": call.name, "summary": call.summary}
    if call.description:
        said["description"] = call.description
    if call.parameters:
        said["parameters"] = [parameter.to_json() for parameter in call.parameters]
    if call.ask is not None:
        said["requestBody"] = {"required": call.must_ask, "content": _json(schema_of[call.ask])}
    responses = {
        str(answer.status.value): {
            "description": answer.description,
            **(
                {"headers": {name: dict(_HEADERS[name]) for name in answer.headers}} if answer.headers else {}
            ),
            "content": _json(schema_of[answer.body]),
        }
        for answer in call.answers
    }
    refusals: dict[HTTPStatus, Sequence[Code]] = {
        HTTPStatus.BAD_REQUEST: (),
        **call.refusals,
        HTTPStatus.INTERNAL_SERVER_ERROR: (),
        HTTPStatus.SERVICE_UNAVAILABLE: (),
    }
    if call.ask is not None:
        refusals[HTTPStatus.REQUEST_ENTITY_TOO_LARGE] = ()
    for status, codes in sorted(refusals.items()):
        responses[str(status.value)] = _refusal(status, codes)
    responses["401"] = {"$ref": "#/components/responses/Unauthorized"}
    return {**said, "responses": dict(sorted(responses.items()))}


def _told(told: Told, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The Operation Object of a webhook."""
    parameters = [
        Parameter(name=name, place="header", schema=_TEXT, description=what, is_required=True)
        for name, what in told.headers.items()
    ]
    return {
        "operationId": told.name,
        "summary": told.summary,
        "description": told.description,
        "security": [],
        "parameters": [parameter.to_json() for parameter in parameters],
        "requestBody": {"required": True, "content": {told.content_type: {"schema": dict(schema)}}},
        "responses": {
            "2XX": {"description": "It was taken; of the answer nothing else is read."},
            "default": {"description": "It was not taken, and comes again. No redirect is followed."},
        },
    }


_ALWAYS: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "`REQUEST_INVALID`: the request is at fault, as `errors` tells",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "`REQUEST_INVALID`: the body is larger than any",
    HTTPStatus.INTERNAL_SERVER_ERROR: "the app is set up wrongly, or what it has kept cannot be read",
    HTTPStatus.SERVICE_UNAVAILABLE: "a service that the app needs is away",
}


def _refusal(status: HTTPStatus, codes: Sequence[Code]) -> dict[str, Any]:
    """The Response Object of problem details."""
    told = [_ALWAYS[status]] if status in _ALWAYS else []
    if codes:
        told.append(", ".join(f"`{code.name}`" for code in codes))
    headers = ("Retry-After",) if status in {HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE} else ()
    return {
        "description": "; or ".join(told),
        **({"headers": {name: dict(_HEADERS[name]) for name in headers}} if headers else {}),
        "content": {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}},
    }


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}
