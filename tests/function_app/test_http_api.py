import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import azure.functions as func
import pytest
from azure.functions.decorators.http import HttpTrigger

from airgap.errors import Code, PolicyRefusal
from airgap.states import TRANSFERS, Kind, State
from function_app.azure.wiring import source_settings
from function_app.http.list_request import PARAMETERS
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.roles import build_app
from function_app.source import http_api
from function_app.source.selection import MEMBERS as SELECTOR_MEMBERS
from function_app.source.transfer_request import MAX_BODY_BYTES
from function_app.storage.work_folder import WorkFolder
from tests.bundles import default_key, make_policy
from tests.function_app.durable_client import DurableClient, RuntimeStatus
from tests.function_app.memory import ENVIRONMENT, START, Host, MemoryBlobs, MemoryRegistry, make_source
from tests.function_app.memory_projection import MemoryProjection
from tests.function_app.test_caller import ADA, ADA_ID, principal
from tests.function_app.test_export import run


@pytest.fixture(autouse=True)
def side(monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceSide]:
    """The app's settings, as the source has them, and its ports in memory."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    source_settings.cache_clear()
    made, _, _ = make_source()
    monkeypatch.setattr(http_api, "source_side", lambda: made)
    yield made
    source_settings.cache_clear()


GOOD = {"artifacts": ["team/app:v1"], "channel": "prod", "audience": "target.azurecr.io"}
ID = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def call(
    name: str,
    client: DurableClient | None,
    *,
    body: Any = None,
    method: str = "?",
    transfer_id: str = "",
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[func.HttpResponse, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = func.HttpRequest(
        method=method,
        url="https://app/api/transfers",
        headers=headers or {},
        params=params or {},
        route_params={"transferId": transfer_id},
        body=raw,
    )
    function = getattr(http_api, name)._function.get_user_function()
    work = function(req=request) if client is None else function.client_function(req=request, client=client)
    response = asyncio.run(work)
    return response, json.loads(response.get_body())


def post(
    body: Any, client: DurableClient | None = None, key: str | None = None, **params: str
) -> tuple[func.HttpResponse, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    return call("create_transfer", client or DurableClient(), body=body, headers=headers, params=params)


def expanded(transfer_id: str) -> dict[str, Any]:
    """A transfer with every reference that was ordered."""
    told: dict[str, Any] = call("get_transfer", None, transfer_id=transfer_id, params={"expand": "request"})[
        1
    ]
    return told


def test_transfer_is_accepted_with_where_to_look() -> None:
    client = DurableClient()
    response, body = post(GOOD, client)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/transfers/{body['transferId']}"
    assert int(response.headers["Retry-After"]) > 0
    assert body["state"] == "requested"
    assert set(body["links"]) == {"self", "cancel"}
    order = client.instances[body["transferId"]].input_
    assert order["artifacts"] == 1


SELECT = [{"repositories": ["team/*"], "tags": ["v*"], "newest": 3}]


def test_order_may_select_and_name_nothing() -> None:
    client = DurableClient()
    response, body = post({"channel": "prod", "audience": "target.azurecr.io", "select": SELECT}, client)
    assert response.status_code == 202
    order = client.instances[body["transferId"]].input_
    assert (order["artifacts"], order["selects"]) == (0, True)
    told = expanded(body["transferId"])["request"]
    assert (told["select"], told["artifacts"], told["exclude"]) == (SELECT, [], [])
    assert told | body["request"] == told


@pytest.mark.parametrize(
    "change",
    [{"select": SELECT}, {"select": SELECT, "exclude": ["team/x"]}, {"dryRun": True}, {"onlyMissing": True}],
)
def test_key_that_met_one_order_does_not_meet_one_that_selects_otherwise(change: dict[str, Any]) -> None:
    assert post(GOOD, key="k")[0].status_code == 202
    assert post(GOOD | change, key="k")[0].status_code == 409
    assert post(GOOD | change, key="other")[0].status_code == 202
    assert post(GOOD | change, key="other")[0].status_code == 202


def test_order_may_be_of_what_is_missing_only() -> None:
    client = DurableClient()
    _, body = post(GOOD | {"onlyMissing": True}, client)
    assert body["request"]["onlyMissing"] is True
    assert client.instances[body["transferId"]].input_["onlyMissing"] is True
    assert post(GOOD, client)[1]["request"]["onlyMissing"] is False


def preview(side: SourceSide, *tags: str) -> dict[str, Any]:
    """A dry run to its end, by the steps that a host would run."""
    registry = side.registry
    assert isinstance(registry, MemoryRegistry)
    for tag in tags:
        registry.push_image("team/app", tag, size=1000, about=tag)
    return run(Host(side), select=tuple(SELECT), dry_run=True, transfer_id=ID)


def test_plan_is_told_of_a_dry_run(side: SourceSide) -> None:
    assert preview(side, "v1", "v2", "latest")["outcome"] == "previewed"
    response, body = call("get_plan", None, transfer_id=ID)
    assert response.status_code == 200
    assert (body["sizeBytes"], body["parts"], body["refused"], body["next"]) == (1000, 1, [], None)
    (blob,) = body["blobs"]
    assert [one["reference"] for one in blob["artifacts"]] == ["team/app:v1", "team/app:v2"]
    assert (blob["name"], blob["artifacts"][0]["sizeBytes"]) == ("001", 1000)
    _, told = call("get_transfer", None, transfer_id=ID)
    assert told["state"] == "previewed"
    assert told["links"] == {"self": f"/api/transfers/{ID}", "plan": f"/api/transfers/{ID}/plan"}
    response, refused = call("cancel_transfer", DurableClient(), transfer_id=ID)
    assert (response.status_code, refused["remedy"].split(":")[0]) == (409, "Nothing to cancel")


def test_long_plan_is_told_page_by_page(side: SourceSide) -> None:
    registry = side.registry
    assert isinstance(registry, MemoryRegistry)
    for number in range(1020):
        registry.tags["team/app", f"v{number}"] = registry.push_image("team/app", size=1)
    run(Host(side), select=({"repositories": ["team/app"]},), dry_run=True, transfer_id=ID)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        response, body = call("get_plan", None, transfer_id=ID, params=cursor)
        assert response.status_code == 200
        seen += [blob["name"] for blob in body["blobs"]]
        if body["next"] is None:
            break
        cursor = {name: values[0] for name, values in parse_qs(urlsplit(body["next"]).query).items()}
    assert seen == [f"{number:03d}" for number in range(1, 22)]


def test_plan_that_is_not_there_is_not_found_and_why(side: SourceSide) -> None:
    assert call("get_plan", None, transfer_id="f" * 32)[0].status_code == 404
    note(side, "requested")
    response, body = call("get_plan", None, transfer_id=ID)
    assert (response.status_code, body["detail"]) == (404, "the transfer is not planned yet")
    note(side, "refused", facts=REFUSED)
    assert call("get_plan", None, transfer_id=ID)[1]["detail"] == "the transfer ended before it was planned"


@pytest.mark.parametrize("cursor", ["", "-1", "x", "٣", "1" * 7])
def test_invalid_cursor_of_a_plan_is_named(cursor: str) -> None:
    response, body = call("get_plan", None, transfer_id=ID, params={"cursor": cursor})
    assert (response.status_code, body["errors"][0]["field"]) == (400, "cursor")


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
        ({"artifacts": [f"app:v{n}" for n in range(50_001)]}, "artifacts"),
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
        ({"onlyMissing": 1}, "onlyMissing"),
        ({"expiresIn": 60}, "expiresIn"),
        ({"referrers": "some"}, "referrers"),
        ({"referrers": None}, "referrers"),
        ({"referrers": []}, "referrers"),
        ({"referrers": [f"a/{n}" for n in range(51)]}, "referrers"),
        ({"referrers": ["a/b", "signature"]}, "referrers[1]"),
        ({"referrers": ["a/b", 7]}, "referrers[1]"),
        ({"referrers": ["a/b", "c/d", "a/b"]}, "referrers[2]"),
        ({"select": []}, "select"),
        ({"select": [{"repositories": ["team/*"], "newest": 0}]}, "select[0].newest"),
        ({"exclude": ["team/app"]}, "exclude"),
        ({"dryRun": "yes"}, "dryRun"),
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


def test_all_faults_of_a_request_are_told_at_once_with_what_was_given_and_what_is_wanted() -> None:
    order = {
        "artifacts": ["team/app:v1", "Team/App:v1", 7, "team/app:v1"],
        "channel": None,
        "audience": ["ok.azurecr.io", "https://x.azurecr.io"],
        "expiresInSeconds": "60",
        "a/b~c": 1,
    }
    client = DurableClient()
    response, body = post(order, client, "ключ", force="1")
    assert response.status_code == 400
    assert [(e["in"], e["field"], e.get("pointer"), e["given"]) for e in body["errors"]] == [
        ("query", "force", None, '"1"'),
        ("header", "Idempotency-Key", None, '"ключ"'),
        ("body", "artifacts[1]", "#/artifacts/1", '"Team/App:v1"'),
        ("body", "artifacts[2]", "#/artifacts/2", "7"),
        ("body", "artifacts[3]", "#/artifacts/3", '"team/app:v1"'),
        ("body", "channel", "#/channel", "null"),
        ("body", "audience[1]", "#/audience/1", '"https://x.azurecr.io"'),
        ("body", "expiresInSeconds", "#/expiresInSeconds", '"60"'),
        ("body", "a/b~c", "#/a~1b~0c", "1"),
    ]
    assert "occurs at artifacts[0] already" in body["errors"][4]["wanted"]
    assert "artifacts[1]" in body["detail"]
    assert client.started == []


@pytest.mark.parametrize("change", [{"artifacts": ["A"]}, {"channel": "A"}, {"audience": "A"}], ids=str)
def test_what_is_wanted_is_said_in_words(change: dict[str, Any]) -> None:
    response, body = post(GOOD | change)
    assert response.status_code == 400
    answer = response.get_body().decode()
    assert not set("\\^$*") & set(body["errors"][0]["wanted"])
    assert "[a-z" not in answer
    assert "(?" not in answer


def test_missing_field_is_told_as_such() -> None:
    _, body = post({})
    assert [(error["field"], error["given"]) for error in body["errors"]] == [
        ("artifacts", "nothing"),
        ("channel", "nothing"),
        ("audience", "nothing"),
    ]


@pytest.mark.parametrize(
    "order",
    [
        {str(number): 0 for number in range(80_000)},
        GOOD | {"artifacts": ["?" * 200] * 5000},
        {"x" * 500_000: "y" * 500_000},
        {"\u202e" * 80_000: "\u202e" * 80_000},
    ],
    ids=["unknown members", "artifacts", "one long member", "not printable"],
)
def test_answer_stays_small_however_much_is_at_fault(order: dict[str, Any]) -> None:
    response, body = post(order)
    assert response.status_code == 400
    assert len(response.get_body()) < 20_000
    assert len(body["errors"]) <= 20
    assert body["errorCount"] >= len(body["errors"])


def test_secret_in_a_wrong_field_is_not_quoted() -> None:
    response, _ = post(GOOD | {"artifacts": ["https://a.blob.core.windows.net/c?sv=1&sig=S3cr3t"]})
    assert b"S3cr3t" not in response.get_body()


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


@pytest.mark.parametrize(
    ("raw", "given"),
    [
        (b"", "an empty body"),
        (b" \r\n", "an empty body"),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "a byte-order mark before the JSON"),
        (json.dumps(GOOD).encode("utf-16"), "UTF-16"),
        (b"[]", "an empty array"),
    ],
    ids=["empty", "blank", "byte-order mark", "UTF-16", "array"],
)
def test_body_that_is_no_object_is_called_what_it_is(raw: bytes, given: str) -> None:
    response, body = post(raw)
    assert response.status_code == 400
    (error,) = body["errors"]
    assert (error["field"], error["pointer"], error["given"]) == ("body", "#", given)
    assert "JSON object" in error["wanted"]


def test_body_beyond_the_cap_is_refused_unparsed() -> None:
    response, body = post(b" " * (MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert body["code"] == "REQUEST_INVALID"


def test_five_thousand_artifacts_are_welcome() -> None:
    response, _ = post(GOOD | {"artifacts": [f"team/app:v{n}" for n in range(5000)]})
    assert response.status_code == 202


def test_fifty_kinds_of_referrers_are_welcome() -> None:
    client = DurableClient()
    kinds = [f"application/vnd.kind{number}+json" for number in range(50)]
    response, body = post(GOOD | {"referrers": kinds}, client)
    assert response.status_code == 202
    assert body["request"]["referrers"] == kinds


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
    assert "key of its own" in body["remedy"]
    assert body["instance"] == f"/api/transfers/{client.started[0]}"
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


BUNDLE = {
    "manifest": f"transfer/{ID}/bundle-manifest.dsse.json",
    "manifestDigest": f"sha256:{'ab' * 32}",
    "sequence": 7,
    "sizeBytes": 1000,
    "parts": 1,
    "blobs": 1,
    "artifacts": 1,
    "expiresAt": "2026-12-23T08:00:00Z",
}
LIFE = ("requested", "planned", "exporting", "hashing", "sealing", "sealed")
REFUSED = {"code": "ARTIFACT_NOT_FOUND", "detail": "a:1", "artifacts": ["a:1"]}


def note(
    side: SourceSide,
    *states: str,
    transfer_id: str = ID,
    facts: Mapping[str, Any] | None = None,
    age: timedelta = timedelta(),
) -> None:
    """What has become of a transfer; ``facts`` go with the last state."""
    for number, state in enumerate(states, start=1):
        requested = {
            "artifacts": 1,
            "channel": "prod",
            "audience": ["a.azurecr.io"],
            "expiresInSeconds": 60,
            "referrers": "none",
            "dryRun": False,
            "onlyMissing": False,
        }
        kept: Mapping[str, Mapping[str, Any]] = {"requested": requested, "sealed": {"bundle": BUNDLE}}
        own = kept.get(state, {})
        JournalStore(side.blobs, side.projection).record(
            *(Kind.TRANSFERS, transfer_id, State(state), facts if facts and number == len(states) else own),
            by="app",
            at=NOW - age,
        )


@pytest.mark.parametrize("states", [LIFE[:count] for count in range(1, 6)], ids=lambda states: states[-1])
def test_transfer_is_told_as_its_journal_has_it(side: SourceSide, states: tuple[str, ...]) -> None:
    note(side, *states, facts={"bundle": BUNDLE} if states[-1] == "sealed" else None)
    response, body = call("get_transfer", None, transfer_id=ID)
    assert response.status_code == 200
    assert body["state"] == states[-1]
    assert [entry["state"] for entry in body["history"]] == list(states)
    assert body["history"][0] == {"state": "requested", "at": "2026-11-23T08:00:00Z", "by": "app"}
    assert body["request"] == {
        "channel": "prod",
        "audience": ["a.azurecr.io"],
        "expiresInSeconds": 60,
        "referrers": "none",
        "dryRun": False,
        "onlyMissing": False,
    }
    assert body["createdAt"] == body["updatedAt"] == "2026-11-23T08:00:00Z"
    assert body.get("bundle") == (BUNDLE if states[-1] == "sealed" else None)
    assert ("Retry-After" in response.headers) == (states[-1] != "sealed")
    assert ("cancel" in body["links"]) == (states[-1] not in {"sealing", "sealed"})
    assert "error" not in body


def test_transfer_tells_which_referrers_go_along_once_it_is_planned(side: SourceSide) -> None:
    note(side, "requested")
    assert "referrers" not in call("get_transfer", None, transfer_id=ID)[1]
    told = [{"artifactType": "a/b", "travels": False, "count": 1, "example": "team/app@sha256:0"}]
    note(side, "planned", facts={"blobs": 1, "artifacts": 1, "referrers": told})
    assert call("get_transfer", None, transfer_id=ID)[1]["referrers"] == told


def test_progress_is_counted_while_it_exports_and_hashes(side: SourceSide) -> None:
    work = WorkFolder(side.blobs, ID)
    host = Host(side)
    seen: list[dict[str, Any] | None] = []

    def look() -> None:
        _, body = call("get_transfer", None, transfer_id=ID)
        seen.append(body.get("progress"))

    assert isinstance(side.registry, MemoryRegistry)
    side.registry.push_image("team/app", "v1")
    host.before |= {"start_export_run": look, "hash_parts": look}
    assert run(host, "team/app:v1", transfer_id=ID)["outcome"] == "sealed"
    assert seen == [
        {"done": 0, "of": 1, "unit": "blobs"},
        {"done": 0, "of": 1, "unit": "groups of parts"},
    ]
    _, body = call("get_transfer", None, transfer_id=ID)
    assert "progress" not in body
    assert len(list(work.names("digests/"))) == 1


@pytest.mark.parametrize("state", ["refused", "failed"])
def test_refusal_names_code_remedy_and_artifacts(side: SourceSide, state: str) -> None:
    note(side, "requested", state, facts=REFUSED)
    response, body = call("get_transfer", None, transfer_id=ID)
    assert body["error"] == REFUSED | {"remedy": Code.ARTIFACT_NOT_FOUND.remedy}
    assert "Retry-After" not in response.headers


def test_code_that_a_newer_version_wrote_is_told_as_it_is(side: SourceSide) -> None:
    note(side, "requested", "failed", facts={"code": "BRAND_NEW"})
    _, body = call("get_transfer", None, transfer_id=ID)
    assert body["error"]["code"] == "BRAND_NEW"
    assert body["error"]["remedy"] == Code.NEWER_FORMAT.remedy


@pytest.mark.parametrize("function", ["get_transfer", "cancel_transfer"])
@pytest.mark.parametrize("transfer_id", ["unknown00", "../x", "", "x" * 300, "receipts"])
def test_what_is_no_transfer_is_404(function: str, transfer_id: str) -> None:
    client = None if function == "get_transfer" else DurableClient()
    response, body = call(function, client, transfer_id=transfer_id)
    assert (response.status_code, body["code"]) == (404, "NOT_FOUND")


def test_broken_journal_is_told_and_decides_nothing(side: SourceSide) -> None:
    note(side, "requested", "planned")
    side.blobs.delete("journal", f"transfers/{ID}/00000001.json")
    for function, client in (("get_transfer", None), ("cancel_transfer", DurableClient())):
        response, body = call(function, client, transfer_id=ID)
        assert (response.status_code, body["code"]) == (500, "JOURNAL_BROKEN")


def listed(**params: str) -> tuple[list[str], str | None]:
    """The ids of one page, and the cursor of the page after."""
    response, body = call("list_transfers", None, params=params)
    assert response.status_code == 200
    cursor = parse_qs(urlsplit(body["next"]).query)["cursor"][0] if body["next"] else None
    return [line["transferId"] for line in body["transfers"]], cursor


def test_list_is_newest_first_and_filtered(side: SourceSide) -> None:
    note(side, *LIFE, transfer_id="old00000", age=timedelta(days=300))
    note(side, *LIFE, transfer_id="new00000", age=timedelta(minutes=5))
    note(side, "requested", transfer_id="run00000", age=timedelta(days=2))
    note(side, "requested", "refused", transfer_id="ref00000", age=timedelta(days=1), facts=REFUSED)
    assert listed() == (["new00000", "ref00000", "run00000", "old00000"], None)
    assert listed(state="sealed") == (["new00000", "old00000"], None)
    assert listed(state="sealed", channel="other") == ([], None)
    assert listed(
        channel="prod", createdFrom="2026-11-21T08:00:00Z", createdBefore="2026-11-23T00:00:00Z"
    ) == (
        ["ref00000", "run00000"],
        None,
    )
    _, body = call("list_transfers", None, params={"state": "refused"})
    assert body["transfers"] == [
        {
            "transferId": "ref00000",
            "state": "refused",
            "channel": "prod",
            "createdAt": "2026-11-22T08:00:00Z",
            "updatedAt": "2026-11-22T08:00:00Z",
            "counts": {"requested": 1, "artifacts": None, "blobs": None},
            "error": {
                "code": "ARTIFACT_NOT_FOUND",
                "detail": "a:1",
                "remedy": Code.ARTIFACT_NOT_FOUND.remedy,
            },
            "links": {"self": "/api/transfers/ref00000"},
        }
    ]


def test_transfer_shows_which_artifacts_and_how_many(side: SourceSide) -> None:
    assert isinstance(side.registry, MemoryRegistry)
    side.registry.push_image("team/app", "v1")
    _, ordered = post(GOOD, key="nightly-1")
    assert ordered["counts"] == {"requested": 1, "artifacts": None, "blobs": None}
    note(side, "planned", transfer_id=ordered["transferId"], facts={"blobs": 2, "artifacts": 7})
    _, body = call("get_transfer", None, transfer_id=ordered["transferId"])
    assert body["counts"] == {"requested": 1, "artifacts": 7, "blobs": 2}
    _, page = call("list_transfers", None)
    assert page["transfers"][0]["counts"] == {"requested": 1, "artifacts": 7, "blobs": 2}
    assert expanded(ordered["transferId"])["request"]["artifacts"] == ["team/app:v1"]
    assert expanded(ordered["transferId"])["counts"] == body["counts"]


@pytest.mark.usefixtures("side")
def test_poll_tells_and_reads_no_reference_that_was_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ordered = post(GOOD | {"artifacts": [f"team/app:v{number}" for number in range(1000)]})
    read: list[str] = []
    before = MemoryBlobs.read

    def note_name(blobs: MemoryBlobs, container: str, name: str, *, max_bytes: int) -> bytes | None:
        read.append(f"{container}/{name}")
        return before(blobs, container, name, max_bytes=max_bytes)

    monkeypatch.setattr(MemoryBlobs, "read", note_name)
    response, body = call("get_transfer", None, transfer_id=ordered["transferId"])
    assert len(response.get_body()) < 2000
    assert {"artifacts", "select", "exclude"}.isdisjoint(body["request"])
    assert not [name for name in read if name.startswith("work/")]


@pytest.mark.parametrize("value", ["", "plan", "request,plan"])
def test_what_cannot_be_expanded_is_told(side: SourceSide, value: str) -> None:
    note(side, "requested")
    response, body = call("get_transfer", None, transfer_id=ID, params={"expand": value})
    assert (response.status_code, body["errors"][0]["field"]) == (400, "expand")


def test_next_link_leads_through_all_pages_with_the_same_filters(side: SourceSide) -> None:
    for number in range(7):
        note(side, "requested", transfer_id=f"{number:08d}", age=timedelta(hours=number))
    note(side, *LIFE, transfer_id="sealed00")
    _, body = call("list_transfers", None, params={"state": "requested", "limit": "3"})
    assert set(parse_qs(urlsplit(body["next"]).query)) == {"state", "limit", "cursor"}
    found, cursor = listed(state="requested", limit="3")
    while cursor is not None:
        page, cursor = listed(state="requested", limit="3", cursor=cursor)
        found += page
    assert found == [f"{number:08d}" for number in range(7)]


@pytest.mark.parametrize(
    "params",
    [
        {"state": "x"},
        {"state": "received"},
        {"channel": "../x"},
        {"limit": "0"},
        {"limit": "501"},
        {"limit": "²"},
        {"createdFrom": "yesterday"},
        {"createdBefore": "2026-13-01T00:00:00Z"},
        {"cursor": "forged"},
    ],
    ids=str,
)
def test_invalid_query_is_named(params: dict[str, str]) -> None:
    response, body = call("list_transfers", None, params=params)
    assert response.status_code == 400
    assert body["errors"][0]["field"] in params
    assert body["errors"][0]["in"] == "query"
    assert body["errors"][0]["given"] == json.dumps(*params.values(), ensure_ascii=False)


def test_all_faults_of_a_query_are_told_at_once() -> None:
    params = {"status": "sealed", "limit": "all", "state": "x", "createdFrom": "now"}
    response, body = call("list_transfers", None, params=params)
    assert response.status_code == 400
    assert {error["field"] for error in body["errors"]} == set(params)
    (unknown,) = (error for error in body["errors"] if error["field"] == "status")
    assert "createdBefore" in unknown["wanted"]


def test_parameter_that_the_api_does_not_know_is_refused_wherever_it_stands(side: SourceSide) -> None:
    note(side, "requested")
    for name in ("get_transfer", "cancel_transfer"):
        client = None if name == "get_transfer" else DurableClient()
        response, body = call(name, client, transfer_id=ID, params={"dryRun": "1"})
        assert (response.status_code, body["errors"][0]["field"]) == (400, "dryRun")


def test_function_key_in_the_query_is_the_hosts_own_and_never_told(side: SourceSide) -> None:
    note(side, "requested")
    response, _ = call("list_transfers", None, params={"code": "k3y", "limit": "x"})
    assert response.status_code == 400
    assert b"k3y" not in response.get_body()
    response, body = call("list_transfers", None, params={"code": "k3y", "limit": "1"})
    assert response.status_code == 200
    assert "k3y" not in str(body)


@pytest.mark.parametrize(
    ("function", "allowed"),
    [("refuse_transfers_method", "GET, POST"), ("refuse_transfer_method", "DELETE, GET")],
)
@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "OPTIONS"])
def test_method_that_there_is_not_is_told_with_those_that_there_are(
    function: str, allowed: str, method: str
) -> None:
    response, body = call(function, None, method=method, transfer_id=ID)
    assert response.status_code == 405
    assert response.headers["Allow"] == allowed
    assert response.mimetype == "application/problem+json"
    assert body["code"] == "REQUEST_INVALID"
    assert method in body["detail"]


def test_lists_that_are_away_are_told_as_passing_while_a_transfer_is_still_found(side: SourceSide) -> None:
    note(side, "requested")
    assert isinstance(side.projection, MemoryProjection)
    side.projection.is_away = True
    response, body = call("list_transfers", None)
    assert (response.status_code, body["code"]) == (503, "SERVICE_UNREACHABLE")
    assert call("get_transfer", None, transfer_id=ID)[0].status_code == 200
    assert post(GOOD)[0].status_code == 202


def test_transfer_is_cancelled_for_good(side: SourceSide) -> None:
    client = DurableClient()
    _, ordered = post(GOOD, client, "nightly-1")
    transfer_id = ordered["transferId"]
    response, body = call("cancel_transfer", client, transfer_id=transfer_id)
    assert (response.status_code, body["state"]) == (200, "cancelled")
    assert client.instances[transfer_id].runtime_status is RuntimeStatus.Terminated
    assert "Retry-After" not in response.headers
    response, body = call("cancel_transfer", client, transfer_id=transfer_id)
    assert (response.status_code, body["code"]) == (409, "TRANSITION_REFUSED")
    with pytest.raises(PolicyRefusal, match="TRANSITION_REFUSED"):
        note(side, "planned", transfer_id=transfer_id)
    response, body = post(GOOD, client, "nightly-1")
    assert (response.status_code, body["state"]) == (200, "cancelled")
    assert client.started == [transfer_id]


@pytest.mark.parametrize("states", [LIFE, ("requested", "failed"), (*LIFE, "delivered")], ids=str)
def test_what_is_sealed_or_ended_is_not_cancelled(side: SourceSide, states: tuple[str, ...]) -> None:
    note(side, *states)
    response, body = call("cancel_transfer", DurableClient(), transfer_id=ID)
    assert (response.status_code, body["code"]) == (409, "TRANSITION_REFUSED")
    assert states[-1] in body["detail"]


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (LIFE, "expires at 2026-12-23T08:00:00Z"),
        (LIFE[:-1], "on its way out"),
        (("requested", "failed"), "ended by itself"),
        (("requested", "cancelled"), "Nothing to do"),
        ((*LIFE, "delivered"), "imported"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_remedy_of_a_late_cancellation_fits_what_became_of_the_transfer(
    side: SourceSide, states: tuple[str, ...], words: str
) -> None:
    facts = {"bundle": BUNDLE | {"expiresAt": "2026-12-23T08:00:00Z"}}
    note(side, *states, facts=facts if states[-1] == "sealed" else None)
    _, body = call("cancel_transfer", DurableClient(), transfer_id=ID)
    assert words in body["remedy"]


def test_cancellation_needs_no_orchestration(side: SourceSide) -> None:
    note(side, "requested")
    response, body = call("cancel_transfer", DurableClient(), transfer_id=ID)
    assert (response.status_code, body["state"]) == (200, "cancelled")


@pytest.mark.parametrize(
    ("states", "facts"),
    [
        (("refused",), REFUSED),
        (("failed",), {"code": "PIPELINE_RUN_FAILED", "detail": "quota"}),
        (LIFE[1:], {"bundle": BUNDLE}),
        ((*LIFE[1:], "delivered"), {"receipt": "receipts/x"}),
    ],
    ids=["refused", "failed", "sealed", "delivered"],
)
def test_repeat_of_what_has_ended_is_told_so_and_not_to_wait(
    side: SourceSide, states: tuple[str, ...], facts: dict[str, Any]
) -> None:
    client = DurableClient()
    _, first = post(GOOD, client, "nightly-1")
    note(side, *states, transfer_id=first["transferId"], facts=facts)
    response, body = post(GOOD, client, "nightly-1")
    assert (response.status_code, body["state"]) == (200, states[-1])
    assert "Retry-After" not in response.headers
    assert body["transferId"] == first["transferId"]
    assert ("error" in body) == (states[-1] in {"refused", "failed"})
    assert len(client.started) == 1


def test_order_whose_app_died_before_starting_it_is_started_by_the_repeat() -> None:
    dying = DurableClient(is_away=True)
    with pytest.raises(ConnectionError):
        post(GOOD, dying, "nightly-1")
    client = DurableClient()
    response, body = post(GOOD, client, "nightly-1")
    assert (response.status_code, body["state"]) == (202, "requested")
    assert client.started == [body["transferId"]]
    post(GOOD, client, "nightly-1")
    assert client.started == [body["transferId"]]


def test_another_request_does_not_take_the_place_of_one_that_was_never_started() -> None:
    with pytest.raises(ConnectionError):
        post(GOOD, DurableClient(is_away=True), "nightly-1")
    client = DurableClient()
    response, body = post(GOOD | {"channel": "other"}, client, "nightly-1")
    assert (response.status_code, body["code"]) == (409, "CONFLICT")
    assert client.started == []


def test_journal_says_what_was_ordered_and_how_much(side: SourceSide) -> None:
    _, body = post(GOOD)
    (entry,) = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, body["transferId"]).entries
    assert entry.by == "caller"
    assert {name: entry.facts[name] for name in entry.facts if name != "requestSha256"} == {
        "artifacts": 1,
        "channel": "prod",
        "audience": ["target.azurecr.io"],
        "expiresInSeconds": 30 * 24 * 3600,
        "referrers": "all",
        "select": 0,
        "exclude": 0,
        "dryRun": False,
        "onlyMissing": False,
    }


@pytest.mark.parametrize(
    ("mode", "name"),
    [("", "caller"), ("functionKeys", "caller"), ("appServiceAuthentication", "ada@contoso.com")],
)
def test_journal_names_who_ordered_and_who_cancelled(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch, mode: str, name: str
) -> None:
    monkeypatch.setenv("CALLERS", mode)
    source_settings.cache_clear()
    headers = principal(ADA, *ADA_ID, MAY_ORDER)
    client = DurableClient()
    _, body = call("create_transfer", client, body=GOOD, headers=headers)
    call("cancel_transfer", client, transfer_id=body["transferId"], headers=headers)
    journal = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, body["transferId"])
    assert [(entry.state.value, entry.by) for entry in journal.entries] == [
        ("requested", name),
        ("cancelled", name),
    ]


EVE = (("tid", "tenant1"), ("oid", "eve1"))
MAY_ORDER = ("roles", "Transfer.Order")


def signing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source whose callers App Service has asked to sign in."""
    monkeypatch.setenv("CALLERS", "appServiceAuthentication")
    source_settings.cache_clear()


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ((), 403),
        ((("roles", "Transfer.Release"),), 403),
        ((MAY_ORDER,), 202),
        ((("roles", "Transfer.Admin"),), 202),
    ],
)
def test_transfer_is_ordered_by_whoever_may_order(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch, claims: tuple[tuple[str, str], ...], status: int
) -> None:
    signing_in(monkeypatch)
    client = DurableClient()
    response, body = call("create_transfer", client, body=GOOD, headers=principal(*EVE, *claims))
    assert response.status_code == status
    if status == 403:
        assert (body["code"], client.instances) == ("CALLER_REFUSED", {})
        assert list(JournalStore(side.blobs, side.projection).ids(Kind.TRANSFERS)) == []


def test_cancel_that_broke_off_is_done_by_the_next(side: SourceSide) -> None:
    """The first was on record when its host died: nothing was stopped yet."""
    client = DurableClient()
    _, ordered = call("create_transfer", client, body=GOOD)
    transfer_id = ordered["transferId"]
    JournalStore(side.blobs, side.projection).record(
        Kind.TRANSFERS, transfer_id, State.CANCELLED, {}, by="caller", at=START
    )
    response, body = call("cancel_transfer", client, transfer_id=transfer_id)
    assert (response.status_code, body["code"]) == (409, "TRANSITION_REFUSED")
    assert client.instances[transfer_id].runtime_status is RuntimeStatus.Terminated


@pytest.mark.parametrize(
    "headers",
    [
        principal(("preferred_username", "eve@contoso.com"), *EVE),
        principal(ADA, *EVE),
        principal(ADA),
        principal(ADA, ("tid", "tenant2"), ("oid", "ada1")),
        principal(*EVE, ("roles", "Transfer.Order")),
        {},
    ],
    ids=["another", "another of her name", "her name alone", "another tenant", "another role", "nobody"],
)
def test_transfer_of_another_is_not_cancelled(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    signing_in(monkeypatch)
    client = DurableClient()
    _, ordered = call("create_transfer", client, body=GOOD, headers=principal(ADA, *ADA_ID, MAY_ORDER))
    transfer_id = ordered["transferId"]
    response, body = call("cancel_transfer", client, transfer_id=transfer_id, headers=headers)
    assert (response.status_code, body["code"]) == (403, "CALLER_REFUSED")
    assert response.mimetype == "application/problem+json"
    assert "Transfer.Admin" in body["remedy"]
    journal = JournalStore(side.blobs, side.projection).read(Kind.TRANSFERS, transfer_id)
    assert journal.state is State.REQUESTED
    assert client.instances[transfer_id].runtime_status is RuntimeStatus.Running


@pytest.mark.parametrize(
    "headers",
    [principal(ADA, *ADA_ID), principal(*EVE, ("roles", "Transfer.Admin"))],
    ids=["who ordered it", "an admin"],
)
def test_transfer_is_cancelled_by_whoever_ordered_it_or_an_admin(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    signing_in(monkeypatch)
    client = DurableClient()
    _, ordered = call("create_transfer", client, body=GOOD, headers=principal(ADA, *ADA_ID, MAY_ORDER))
    response, body = call("cancel_transfer", client, transfer_id=ordered["transferId"], headers=headers)
    assert (response.status_code, body["state"]) == (200, "cancelled")


def test_transfer_that_was_ordered_by_a_key_is_cancelled_by_admins_only_once_callers_sign_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = DurableClient()
    _, ordered = call("create_transfer", client, body=GOOD, headers=principal(ADA, *ADA_ID, MAY_ORDER))
    signing_in(monkeypatch)
    for claims, status in (
        ((ADA, *ADA_ID), 403),
        ((ADA,), 403),  # known by nothing, as is whoever ordered it
        ((ADA, *ADA_ID, ("roles", "Transfer.Admin")), 200),
    ):
        headers = principal(*claims)
        response, _ = call("cancel_transfer", client, transfer_id=ordered["transferId"], headers=headers)
        assert response.status_code == status


def narrow(monkeypatch: pytest.MonkeyPatch, **rules: Any) -> None:
    """A source whose trust policy allows less than the requests of these tests ask for."""
    monkeypatch.setenv("TRUST_POLICY", make_policy([default_key()], version=2, **rules).decode())
    source_settings.cache_clear()
    side = replace(vars(http_api)["source_side"](), settings=source_settings())
    monkeypatch.setattr(http_api, "source_side", lambda: side)


def test_order_that_the_target_would_refuse_is_refused_with_all_that_is_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow(monkeypatch, repositories=["team/*"], max_age=timedelta(days=7))
    client = DurableClient()
    order = GOOD | {"artifacts": ["team/app:v1", "other/app:v1"], "audience": ["elsewhere.azurecr.io"]}
    response, body = post(order, client)
    assert (response.status_code, body["code"]) == (400, "REQUEST_INVALID")
    assert [(e["field"], e["given"]) for e in body["errors"]] == [
        ("artifacts[1]", '"other/app:v1"'),
        ("audience[0]", '"elsewhere.azurecr.io"'),
        ("expiresInSeconds", "2592000"),
    ]
    assert "604800 seconds" in body["errors"][2]["wanted"]
    assert client.started == []


def test_bundle_that_is_good_for_twenty_years_cannot_be_ordered() -> None:
    client = DurableClient()
    response, body = post(GOOD | {"expiresInSeconds": 20 * 366 * 24 * 3600}, client)
    assert (response.status_code, body["errors"][0]["field"]) == (400, "expiresInSeconds")
    assert post(GOOD | {"expiresInSeconds": 90 * 24 * 3600})[0].status_code == 202


def test_channel_without_a_policy_cannot_be_ordered() -> None:
    response, body = post(GOOD | {"channel": "other"})
    assert (response.status_code, body["errors"][0]["field"]) == (400, "channel")


def test_repeat_meets_its_transfer_whatever_the_policy_says_today(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = post(GOOD, key="nightly")
    narrow(monkeypatch, channel="another")
    response, body = post(GOOD, key="nightly")
    assert (response.status_code, body["transferId"]) == (202, first["transferId"])


def test_nothing_is_ordered_under_a_policy_that_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch, expires_at="2020-01-01T00:00:00Z")
    client = DurableClient()
    response, body = post(GOOD, client)
    assert (response.status_code, body["code"]) == (500, "POLICY_EXPIRED")
    assert client.started == []


def test_mistake_in_the_apps_own_settings_is_told_to_its_log_and_not_to_the_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EXPORT_PIPELINE", "not-a-pipeline")
    response, body = post(GOOD)
    assert response.status_code == 500
    assert body["code"] == "SETTING_INVALID"
    assert "not-a-pipeline" not in response.get_body().decode()
    assert "EXPORT_PIPELINE" not in response.get_body().decode()
    assert "EXPORT_PIPELINE: 'not-a-pipeline'" in caplog.text


def test_one_key_at_two_sources_is_two_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = post(GOOD, key="nightly")
    monkeypatch.setenv("EXPORT_PIPELINE", "another")
    source_settings.cache_clear()
    _, second = post(GOOD, key="nightly")
    assert first["transferId"] != second["transferId"]


def test_every_method_of_every_resource_is_answered_by_one_function() -> None:
    answered: dict[str, list[str]] = {}
    for function in build_app("source").get_functions():
        trigger = function.get_trigger()
        if isinstance(trigger, HttpTrigger):
            methods = [str(getattr(method, "value", method)) for method in trigger.methods or ()]
            answered.setdefault(str(trigger.route), []).extend(methods)
    one = "transfers/{transferId}"
    assert set(answered) == {
        "health",
        "openapi.json",
        "orders",
        "orders/{name}",
        "preflight",
        "transfers",
        one,
        f"{one}/plan",
        f"{one}/pickup",
        f"{one}/void",
        "holdings",
        f"{one}/signatures",
    }
    for methods in answered.values():
        assert sorted(methods) == sorted(method.value for method in func.HttpMethod)


PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_functions_whose_keys_operations_tell_to_give_out_are_there() -> None:
    page = (PAGE.parent / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+_(?:transfer|import)s?)`", page))
    functions = {one.get_function_name() for role in ("source", "target") for one in functions_of(role)}
    assert {"get_transfer", "cancel_transfer", "get_import"} <= named <= functions


def functions_of(role: str) -> list[Any]:
    return list(build_app("source" if role == "source" else "target").get_functions())


def test_page_of_the_api_names_every_parameter_state_and_member(side: SourceSide) -> None:
    page = PAGE.read_text(encoding="utf-8")
    _, ordered = post(GOOD)
    note(side, *LIFE, facts={"bundle": BUNDLE}, transfer_id="sealed00")
    note(side, "requested", "refused", transfer_id="ref00000", facts=REFUSED)
    note(side, *LIFE, "voided", transfer_id="void0000", facts={"sequence": 7, "reason": "lost"})
    voided = call("get_transfer", None, transfer_id="void0000")[1]
    answers = [
        ordered,
        voided,
        voided["void"],
        call("get_transfer", None, transfer_id="sealed00")[1],
        call("get_transfer", None, transfer_id="ref00000")[1],
        call("list_transfers", None)[1],
        call("list_transfers", None)[1]["transfers"][0],
        post({})[1],
        post({})[1]["errors"][0],
    ]
    preview(side, "v1")
    plan = call("get_plan", None, transfer_id=ID)[1]
    answers += [plan, plan["blobs"][0], plan["blobs"][0]["artifacts"][0]]
    names = {
        *PARAMETERS,
        *TRANSFERS,
        *GOOD,
        *SELECTOR_MEMBERS,
        *(name for answer in answers for name in answer),
    }
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def cancel(etag: str | None) -> tuple[func.HttpResponse, Any]:
    headers = {} if etag is None else {"If-Match": etag}
    return call("cancel_transfer", DurableClient(), transfer_id=ID, headers=headers)


def test_whoever_saw_another_state_cancels_nothing(side: SourceSide) -> None:
    note(side, "requested")
    seen = call("get_transfer", None, transfer_id=ID)[0].headers["ETag"]
    note(side, *LIFE[1:2])
    response, body = cancel(seen)
    assert (response.status_code, body["code"]) == (412, "CONFLICT")
    now, told = call("get_transfer", None, transfer_id=ID)
    assert told["state"] == "planned"
    assert now.headers["ETag"] != seen


@pytest.mark.parametrize(
    ("form", "status"),
    [("{}", 200), ('"x", {}', 200), ("*", 200), ("W/{}", 412), ('"x"', 412), ("", 400)],
)
def test_if_match_is_compared_strongly(side: SourceSide, form: str, status: int) -> None:
    note(side, "requested")
    seen = call("get_transfer", None, transfer_id=ID)[0].headers["ETag"]
    assert cancel(form.format(seen))[0].status_code == status


def test_etag_stays_as_long_as_the_state_does() -> None:
    _, ordered = post(GOOD, key="k")
    again = post(GOOD, key="k")[0]
    seen = call("get_transfer", None, transfer_id=ordered["transferId"])[0]
    assert again.headers["ETag"] == seen.headers["ETag"]
