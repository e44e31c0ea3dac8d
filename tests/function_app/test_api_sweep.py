"""Both HTTP APIs, asked by whoever knows no more than their documents: no fault of ours, no other answers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import strategies as st
from schemathesis import Response
from schemathesis.core.failures import FailureGroup

from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.manifest import ENVELOPE_NAME
from function_app.settings import SourceSettings
from function_app.source.openapi import openapi as of_source
from function_app.target.openapi import openapi as of_target
from tests.bundles import Bundle
from tests.function_app.api_bodies import orders, standing_orders
from tests.function_app.api_double import URL, ApiDouble, in_memory
from tests.function_app.api_sweep import Sweep
from tests.function_app.memory import ENVIRONMENT, Host, make_source
from tests.function_app.test_export import TRANSFER_ID, run
from tests.function_app.test_import import Target, bundle_of

EXAMPLES = 20
ONCE = frozenset({"preflight", "get_health", "openapi"})
PREVIEWED = "f" * 32
_ANSWERED = (
    ("get_transfer", 200),
    ("get_plan", 200),
    ("get_order", 200),
    ("create_transfer", 202),
    ("set_order", 201),
    ("pick_up_transfer", 201),
    ("delete_order", 428),
)
"""What must have come of some calls at least, or little was asked."""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiDouble]:
    """With a transfer that is sealed, one that was a dry run, and a standing order."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRANSFER_ROLE", "source")
    side, _, registry = make_source()
    assert isinstance(side.settings, SourceSettings)
    registry.push_image("team/app", "v1")
    assert run(Host(side), "team/app:v1")["outcome"] == "sealed"
    run(Host(side), "team/app:v1", "team/app:v2", transfer_id=PREVIEWED, dry_run=True)
    with in_memory("source", side, monkeypatch) as double:
        order = {"channel": "prod", "audience": "target.azurecr.io", "artifacts": ["team/app:v1"]}
        schedule = {"schedule": "R/2026-12-01T02:00:00Z/P1D"}
        assert double.send(made("PUT", "orders/nightly", order | schedule)).status_code == 201
        yield double


@pytest.fixture
def bundle() -> Bundle:
    return bundle_of()


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> Iterator[ApiDouble]:
    """With an import that was closed."""
    monkeypatch.setenv("TRANSFER_ROLE", "target")
    made = Target()
    made.receive(bundle)
    with in_memory("target", made.side, monkeypatch) as double:
        yield double


def made(method: str, path: str, body: Any) -> requests.PreparedRequest:
    return requests.Request(method, f"{URL}/api/{path}", json=body).prepare()


def test_source_answers_as_its_document_says_whatever_it_is_asked(source: ApiDouble) -> None:
    raw = source.side.blobs.read("transfer", f"{TRANSFER_ID}/{ENVELOPE_NAME}", max_bytes=MAX_ENVELOPE_BYTES)
    sweep = Sweep(
        document=of_source(),
        send=source.send,
        ids=[TRANSFER_ID, PREVIEWED, "nightly"],
        examples=EXAMPLES,
        bodies={
            "create_transfer": orders(),
            "set_order": standing_orders(),
            "pick_up_transfer": st.none(),
            "add_signature": st.just(json.loads(raw or b"")),
        },
        once=ONCE,
    )
    assert sweep.run() > 25 * EXAMPLES
    for name, status in _ANSWERED:
        assert sweep.statuses[name][status] > 0


def test_target_answers_as_its_document_says_whatever_it_is_asked(target: ApiDouble, bundle: Bundle) -> None:
    envelope = st.builds(json.loads, st.just(bundle.envelope))
    sweep = Sweep(
        document=of_target(),
        send=target.send,
        ids=["import0001"],
        examples=EXAMPLES,
        bodies={"create_ticket": envelope, "release_import": envelope},
        once=ONCE,
    )
    assert sweep.run() > 7 * EXAMPLES
    assert sweep.statuses["get_import"][200] > 0


_CHANGED: dict[str, dict[str, Any]] = {
    "fault": {"status_code": 500},
    "undeclared": {"status_code": 418},
    "another body": {"content": b'{"role": "source"}'},
    "another type": {"headers": {"content-type": ["text/plain"]}},
}


@pytest.mark.parametrize("changed", _CHANGED.values(), ids=[*_CHANGED])
def test_answer_that_is_not_as_the_document_says_is_found(source: ApiDouble, changed: dict[str, Any]) -> None:
    def send(request: requests.PreparedRequest) -> Response:
        answer = source.send(request)
        for name, value in changed.items():
            setattr(answer, name, value)
        return answer

    health = {**of_source(), "paths": {"/health": of_source()["paths"]["/health"]}}
    assert Sweep(document=health, send=source.send, examples=1).run() > 0
    with pytest.raises(FailureGroup):
        Sweep(document=health, send=send, examples=1).run()


def test_body_that_the_document_forbids_and_the_app_takes_is_found(source: ApiDouble) -> None:
    def send(request: requests.PreparedRequest) -> Response:
        answer = source.send(request)
        answer.status_code = 202
        answer.content = accepted
        answer.headers["content-type"] = ["application/json"]
        return answer

    order = {"channel": "prod", "audience": "target.azurecr.io", "artifacts": ["team/app:v1"]}
    accepted = source.send(made("POST", "transfers", order)).content
    paths = {"/transfers": {"post": of_source()["paths"]["/transfers"]["post"]}}
    sweep = Sweep(
        document={**of_source(), "paths": paths},
        send=send,
        examples=1,
        bodies={"create_transfer": st.just(order)},
    )
    with pytest.raises((AssertionError, FailureGroup)):
        sweep.run()
