"""The OpenAPI documents: they tell of every call, and readers and models agree."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Literal

import azure.functions as func
import msgspec
import pytest
from azure.functions.decorators.http import HttpTrigger

from function_app.http import openapi_api
from function_app.http.faults import Faults, RequestRefusedError
from function_app.http.json_body import require_model
from function_app.roles import build_app
from function_app.source.bodies import Order
from function_app.source.openapi import openapi as of_source
from function_app.target.openapi import openapi as of_target

DOCUMENTS: dict[str, Callable[[], dict[str, Any]]] = {"source": of_source, "target": of_target}


def documented(document: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (path.removeprefix("/"), method.upper(), operation["operationId"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


@pytest.mark.parametrize("role", ["source", "target"])
def test_every_call_is_described_and_no_other(role: Literal["source", "target"]) -> None:
    there = set()
    for function in build_app(role).get_functions():
        trigger, name = function.get_trigger(), str(function.get_function_name())
        if isinstance(trigger, HttpTrigger) and not name.startswith("refuse_"):
            methods = [str(getattr(one, "value", one)) for one in trigger.methods or ()]
            there |= {(str(trigger.route), method, name) for method in methods}
    assert documented(DOCUMENTS[role]()) == there


@pytest.mark.parametrize("role", ["source", "target"])
def test_every_parameter_of_a_path_is_described(role: str) -> None:
    for path, methods in DOCUMENTS[role]()["paths"].items():
        for operation in methods.values():
            told = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
            assert told == [piece[1:-1] for piece in path.split("/") if piece.startswith("{")]


def test_document_is_served_to_whoever_may_read() -> None:
    bp = openapi_api.blueprint(of_target)
    (function, _) = bp._function_builders
    request = func.HttpRequest(method="GET", url="https://app/api/openapi.json", body=b"")
    answer = asyncio.run(function._function.get_user_function()(req=request))
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert json.loads(answer.get_body()) == json.loads(json.dumps(of_target()))
    request = func.HttpRequest(method="GET", url="https://app/", body=b"", params={"role": "source"})
    assert asyncio.run(function._function.get_user_function()(req=request)).status_code == 400


def test_what_no_reader_has_words_for_and_the_document_does_not_describe_is_refused() -> None:
    body = {"channel": "prod", "audience": "target.azurecr.io", "artifacts": ["a:1"]}
    require_model(body, Order, Faults())
    with pytest.raises(RequestRefusedError) as refused:
        require_model(body | {"expiresInSeconds": 59}, Order, Faults())
    assert "expiresInSeconds" in refused.value.faults[0].wanted
    with pytest.raises(RequestRefusedError):
        require_model(body | {"when": "now"}, Order, Faults())


def test_members_that_do_not_apply_are_left_out_and_others_are_there_as_null() -> None:
    schemas = of_source()["components"]["schemas"]
    assert "error" not in schemas["Transfer"]["required"]
    assert {"next", "transfers"} <= set(schemas["TransferList"]["required"])
    assert schemas["Order"]["additionalProperties"] is False
    assert schemas["Order"]["dependentRequired"] == {"exclude": ["select"]}
    assert msgspec.json.decode(msgspec.json.encode(schemas)) == schemas
