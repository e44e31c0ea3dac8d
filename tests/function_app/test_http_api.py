import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func
import pytest

from airgap.fields import parse_time
from function_app.azure.wiring import source_settings
from function_app.source import http_api
from function_app.source.transfer_request import MAX_BODY_BYTES
from tests.function_app.durable_client import DurableClient, RuntimeStatus
from tests.function_app.memory import ENVIRONMENT, make_source


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The app's settings, as the source has them."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    side, _, _ = make_source()
    monkeypatch.setattr(http_api, "source_side", lambda: side)
    source_settings.cache_clear()
    yield
    source_settings.cache_clear()


GOOD = {"artifacts": ["team/app:v1"], "channel": "prod", "audience": "target.azurecr.io"}
ID = "0123456789abcdef0123456789abcdef"


def call(
    name: str,
    client: DurableClient,
    *,
    body: Any = None,
    transfer_id: str = "",
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[func.HttpResponse, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = func.HttpRequest(
        method="?",
        url="https://app/api/transfers",
        headers=headers or {},
        params=params or {},
        route_params={"transferId": transfer_id},
        body=raw,
    )
    function = getattr(http_api, name)._function.get_user_function().client_function
    response = asyncio.run(function(req=request, client=client))
    return response, json.loads(response.get_body())


def post(
    body: Any, client: DurableClient | None = None, key: str | None = None
) -> tuple[func.HttpResponse, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    return call("create_transfer", client or DurableClient(), body=body, headers=headers)


def test_transfer_is_accepted_with_where_to_look() -> None:
    client = DurableClient()
    response, body = post(GOOD, client)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/transfers/{body['transferId']}"
    assert int(response.headers["Retry-After"]) > 0
    assert body["status"] == "accepted"
    assert set(body["links"]) == {"self", "cancel"}
    order = client.instances[body["transferId"]].input_
    assert order["audience"] == ["target.azurecr.io"]
    assert order["expiresInSeconds"] == 30 * 24 * 3600


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"artifacts": []}, "artifacts"),
        ({"artifacts": "team/app:v1"}, "artifacts"),
        ({"artifacts": ["team/app"]}, "artifacts[0]"),
        ({"artifacts": ["a:1", "Team/App:v1"]}, "artifacts[1]"),
        ({"artifacts": ["r.azurecr.io/team/app:v1"]}, None),
        ({"artifacts": ["https://r.azurecr.io/app:v1"]}, "artifacts[0]"),
        ({"artifacts": ["app@sha256:abc"]}, "artifacts[0]"),
        ({"artifacts": ["app:v1", "app:v1"]}, "artifacts[1]"),
        ({"artifacts": [f"app:v{n}" for n in range(5001)]}, "artifacts"),
        ({"artifacts": [7]}, "artifacts[0]"),
        ({"artifacts": None}, "artifacts"),
        ({"channel": "Prod"}, "channel"),
        ({"channel": "../prod"}, "channel"),
        ({"channel": ""}, "channel"),
        ({"audience": []}, "audience"),
        ({"audience": "https://target.azurecr.io"}, "audience"),
        ({"audience": ["ok.azurecr.io", "no slash/"]}, "audience[1]"),
        ({"expiresInSeconds": 59}, "expiresInSeconds"),
        ({"expiresInSeconds": 20 * 366 * 24 * 3600 + 1}, "expiresInSeconds"),
        ({"expiresInSeconds": True}, "expiresInSeconds"),
        ({"expiresInSeconds": "60"}, "expiresInSeconds"),
        ({"expiresIn": 60}, "expiresIn"),
    ],
)
def test_invalid_field_is_named(change: dict[str, Any], field: str | None) -> None:
    client = DurableClient()
    response, body = post(GOOD | change, client)
    if field is None:  # a dot is allowed in a repository's name, so only the registry can tell
        assert response.status_code == 202
        return
    assert response.status_code == 400
    assert response.mimetype == "application/problem+json"
    assert body["type"] == "urn:acr-airgap-transfer:error:REQUEST_INVALID"
    assert body["code"] == "REQUEST_INVALID"
    assert body["status"] == 400
    assert {"title", "detail", "remedy"} <= set(body)
    assert [error["field"] for error in body["errors"]] == [field]
    assert client.started == []


def test_all_fields_at_fault_are_named_at_once() -> None:
    _, body = post({"artifacts": [], "channel": "NO", "surprise": 1})
    assert {error["field"] for error in body["errors"]} == {"artifacts", "channel", "audience", "surprise"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'{"artifacts":["a:1"],"channel":"c","channel":"d","audience":"x.io"}',
        b'{"artifacts":["a:1"],"channel":"c","audience":"x.io","expiresInSeconds":NaN}',
        b'{"artifacts":["a:1"],"channel":"c","audience":"x.io","expiresInSeconds":1e3}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"channel":"\\ud800"}',
    ],
    ids=["empty", "text", "list", "null", "twice", "NaN", "float", "UTF-16", "deep", "surrogate"],
)
def test_body_that_is_no_strict_json_object_is_refused(raw: bytes) -> None:
    response, body = post(raw)
    assert response.status_code == 400
    assert body["errors"][0]["field"] == "body"


def test_body_beyond_the_cap_is_refused_unparsed() -> None:
    response, body = post(b" " * (MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert body["code"] == "REQUEST_INVALID"


def test_five_thousand_artifacts_are_welcome() -> None:
    response, _ = post(GOOD | {"artifacts": [f"team/app:v{n}" for n in range(5000)]})
    assert response.status_code == 202


def test_same_key_and_request_meet_the_same_transfer() -> None:
    client = DurableClient()
    _, first = post(GOOD, client, "nightly-1")
    respelled = dict(reversed(GOOD.items())) | {"audience": ["target.azurecr.io"]}
    response, second = post(respelled, client, "nightly-1")
    assert response.status_code == 202
    assert second["transferId"] == first["transferId"]
    assert len(client.started) == 1


def test_same_key_with_another_request_is_a_conflict() -> None:
    client = DurableClient()
    post(GOOD, client, "nightly-1")
    response, body = post(GOOD | {"channel": "other"}, client, "nightly-1")
    assert (response.status_code, body["code"]) == (409, "CONFLICT")
    assert len(client.started) == 1


def test_request_that_lost_a_race_meets_the_winners_transfer() -> None:
    client = DurableClient()
    post(GOOD, client, "nightly-1")
    winner = client.instances.popitem()[1]
    client.racing = winner
    response, body = post(GOOD, client, "nightly-1")
    assert (response.status_code, body["transferId"]) == (202, winner.instance_id)


@pytest.mark.parametrize("key", ["", "x" * 129, "ключ", "a\tb"])
def test_invalid_idempotency_key_is_named(key: str) -> None:
    response, body = post(GOOD, key=key)
    assert response.status_code == 400
    assert body["errors"][0]["field"] == "Idempotency-Key"


SEALED = {"outcome": "sealed", "bundle": {"sequence": 7}}
REFUSED = {"outcome": "refused", "code": "ARTIFACT_NOT_FOUND", "detail": "a:1", "artifacts": ["a:1"]}


@pytest.mark.parametrize(
    ("state", "custom", "output", "expected"),
    [
        (RuntimeStatus.Pending, None, None, "accepted"),
        (RuntimeStatus.Running, None, None, "accepted"),
        (RuntimeStatus.Running, {"phase": "hashing"}, None, "hashing"),
        (RuntimeStatus.Running, {"phase": "no such"}, None, "accepted"),
        (RuntimeStatus.Completed, {"phase": "sealing"}, SEALED, "sealed"),
        (RuntimeStatus.Completed, None, json.dumps(SEALED), "sealed"),
        (RuntimeStatus.Completed, None, REFUSED, "refused"),
        (RuntimeStatus.Completed, None, {"outcome": "failed", "code": "CONFLICT", "detail": ""}, "failed"),
        (RuntimeStatus.Completed, None, None, "failed"),
        (RuntimeStatus.Failed, None, "Orchestrator function failed: Traceback …", "failed"),
        (RuntimeStatus.Terminated, None, "cancelled by request", "cancelled"),
    ],
)
def test_state_of_a_transfer(state: RuntimeStatus, custom: Any, output: Any, expected: str) -> None:
    client = DurableClient()
    order = GOOD | {"artifacts": 1, "audience": ["target.azurecr.io"], "expiresInSeconds": 60}
    client.add(ID, state=state, custom_status=custom, output=output, order=json.dumps(order))
    response, body = call("get_transfer", client, transfer_id=ID)
    assert response.status_code == 200
    assert body["status"] == expected
    assert body["request"]["artifacts"] == 1
    assert parse_time(body["createdAt"]) <= datetime.now(UTC)
    assert ("bundle" in body) == (expected == "sealed")
    assert ("error" in body) == (expected in {"failed", "refused"})
    assert "Traceback" not in json.dumps(body)


def test_refusal_names_code_remedy_and_artifacts() -> None:
    client = DurableClient()
    client.add(ID, state=RuntimeStatus.Completed, output=REFUSED)
    _, body = call("get_transfer", client, transfer_id=ID)
    assert body["error"]["code"] == "ARTIFACT_NOT_FOUND"
    assert body["error"]["artifacts"] == ["a:1"]
    assert body["error"]["remedy"]


@pytest.mark.parametrize("function", ["get_transfer", "cancel_transfer"])
@pytest.mark.parametrize("transfer_id", ["unknown00", "../x", "", "x" * 300, "sub00001"])
def test_unknown_transfer_is_404_and_so_is_what_is_no_transfer(function: str, transfer_id: str) -> None:
    client = DurableClient()
    client.add("sub00001", name="hash_blob", state=RuntimeStatus.Running)
    response, body = call(function, client, transfer_id=transfer_id)
    assert (response.status_code, body["code"]) == (404, "NOT_FOUND")


def test_list_is_newest_first_filtered_and_bounded() -> None:
    client = DurableClient()
    client.add("old00000", state=RuntimeStatus.Completed, output=SEALED, age=timedelta(days=300))
    client.add("new00000", state=RuntimeStatus.Completed, output=SEALED, age=timedelta(minutes=5))
    client.add("run00000", state=RuntimeStatus.Running, age=timedelta(days=2))
    client.add("sub00000", name="export_blob", state=RuntimeStatus.Running, age=timedelta(days=1))
    _, body = call("list_transfers", client)
    assert [line["transferId"] for line in body["transfers"]] == ["new00000", "run00000", "old00000"]
    _, body = call("list_transfers", client, params={"status": "sealed", "limit": "1"})
    assert [line["transferId"] for line in body["transfers"]] == ["new00000"]
    assert body["isComplete"] is False


def test_list_finds_all_of_many_though_the_host_gives_a_hundred_at_a_time() -> None:
    client = DurableClient()
    for number in range(450):
        client.add(f"{number:08d}", state=RuntimeStatus.Running, age=timedelta(minutes=7 * number))
        client.add(
            f"sub{number}", name="export_blob", state=RuntimeStatus.Running, age=timedelta(minutes=number)
        )
    _, body = call("list_transfers", client, params={"limit": "500"})
    assert [line["transferId"] for line in body["transfers"]] == [f"{number:08d}" for number in range(450)]
    assert body["isComplete"] is True
    assert client.queries < 60


@pytest.mark.parametrize("params", [{"status": "x"}, {"limit": "0"}, {"limit": "501"}, {"limit": "²"}])
def test_invalid_query_is_named(params: dict[str, str]) -> None:
    response, body = call("list_transfers", DurableClient(), params=params)
    assert response.status_code == 400
    assert body["errors"][0]["field"] in params


def test_transfer_is_cancelled_once() -> None:
    client = DurableClient()
    client.add(ID, state=RuntimeStatus.Running)
    response, body = call("cancel_transfer", client, transfer_id=ID)
    assert (response.status_code, body["status"]) == (202, "cancelled")
    response, body = call("cancel_transfer", client, transfer_id=ID)
    assert (response.status_code, body["code"]) == (409, "CONFLICT")


def test_missing_setting_is_named_to_the_caller_instead_of_a_stack_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EXPORT_PIPELINE")
    response, body = post(GOOD)
    assert response.status_code == 500
    assert body["code"] == "SETTING_INVALID"
    assert "EXPORT_PIPELINE" in body["detail"]


def test_one_key_at_two_sources_is_two_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = post(GOOD, key="nightly")
    monkeypatch.setenv("EXPORT_PIPELINE", "another")
    source_settings.cache_clear()
    _, second = post(GOOD, key="nightly")
    assert first["transferId"] != second["transferId"]
