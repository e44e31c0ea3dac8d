"""The target's HTTP API: what arrived and what was decided, as the journal and the signed receipt have it."""

import asyncio
import json
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import azure.functions as func
import pytest

from airgap.errors import Code
from airgap.policy import TrustPolicy
from airgap.receipt import verify_receipt
from function_app.target import http_api, import_status
from function_app.target.custody_logs import keep_custody_logs
from function_app.target.removing import remove_ended
from tests.airgap.test_custody_copies import LATE
from tests.bundles import CHANNEL, TRANSFER_ID
from tests.function_app.test_custody_logs import FORGED, named
from tests.function_app.test_held_uploads import LONG_AFTER
from tests.function_app.test_import import POLICY, Target, bundle_of


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    made = Target()
    monkeypatch.setattr(http_api, "target_side", lambda: made.side)
    return made


def call(
    name: str, import_id: str = "", params: dict[str, str] | None = None, method: str = "GET"
) -> tuple[func.HttpResponse, Any]:
    request = func.HttpRequest(
        method=method,
        url="https://app/api/imports",
        params=params or {},
        route_params={"importId": import_id},
        body=b"",
    )
    response = asyncio.run(getattr(http_api, name)._function.get_user_function()(req=request))
    return response, json.loads(response.get_body())


def test_import_tells_who_vouched_what_was_decided_and_shows_the_signed_receipt(target: Target) -> None:
    bundle = bundle_of()
    outcome = target.receive(bundle)
    response, body = call("get_import", "import0001")
    assert response.status_code == 200
    assert "Retry-After" not in response.headers
    assert (body["importId"], body["state"]) == ("import0001", "closed")
    assert body["upload"] == {
        "folder": TRANSFER_ID,
        "envelopeDigest": f"sha256:{Target.sha256_of(bundle)}",
    }
    assert body["bundle"] == {
        "transferId": TRANSFER_ID,
        "channel": CHANNEL,
        "sequence": bundle.manifest.sequence,
        "requestedBy": "ada@contoso.com",
        "manifestDigest": f"sha256:{bundle.manifest_sha256}",
        "keyids": [signer["keyid"] for signer in json.loads(bundle.envelope)["signatures"]],
    }
    assert body["decision"]["verdict"] == "proven"
    assert [entry["state"] for entry in body["history"]][:2] == ["received", "admitted"]
    assert body["receipt"]["blob"] == outcome["receipt"]
    # What is shown is what was signed: it can be verified as it stands.
    receipt = verify_receipt(
        json.dumps(body["receipt"]["envelope"]).encode(),
        policy=TrustPolicy.from_bytes(POLICY),
        channel=CHANNEL,
        now=datetime.fromisoformat(body["decision"]["at"]),
    )
    assert receipt.is_imported


def test_refusal_is_told_in_the_list_too_with_its_remedy(target: Target) -> None:
    bundle = bundle_of()
    target.receive(bundle)
    replayed = target.receive(bundle)
    assert replayed["code"] == "REPLAYED"
    _, body = call("get_import", "import0002")
    assert (body["state"], body["decision"]["verdict"]) == ("quarantined", "refused")
    assert body["decision"]["error"]["code"] == "REPLAYED"
    assert body["decision"]["error"]["remedy"] == Code.REPLAYED.remedy
    assert body["receipt"]["envelope"]["payload"]
    _, page = call("list_imports", params={"state": "quarantined"})
    (line,) = page["imports"]
    assert (line["importId"], line["error"]["code"]) == ("import0002", "REPLAYED")
    assert line["channel"] == CHANNEL
    _, page = call("list_imports", params={"channel": CHANNEL})
    assert [line["importId"] for line in page["imports"]] == ["import0001", "import0002"]
    assert line["links"] == {"self": "/api/imports/import0002"}
    _, page = call("list_imports", params={"state": "closed"})
    assert [line["importId"] for line in page["imports"]] == ["import0001"]
    assert "error" not in page["imports"][0]


def test_custody_logs_that_were_written_anew_are_told(target: Target) -> None:
    target.receive(bundle_of())
    _, body = call("get_import", "import0001")
    assert body["custody"] == {"logs": 0, "tampered": []}
    for content in (LATE, FORGED):
        target.blobs.upload("incoming", f"custody/{named(content)}.jsonl", content)
        keep_custody_logs(target.side, [f"custody/{named(content)}.jsonl"])
    _, body = call("get_import", "import0001")
    assert body["custody"]["logs"] == 2
    assert [one["log"] for one in body["custody"]["tampered"]] == [f"{named(FORGED)}.jsonl"]


def test_what_was_removed_of_it_by_age_is_told(target: Target) -> None:
    target.receive(bundle_of())
    _, body = call("get_import", "import0001")
    assert body["removed"] == []
    remove_ended(target.side, now=LONG_AFTER)
    _, body = call("get_import", "import0001")
    assert body["removed"] == [{"container": "work", "at": "2027-01-01T00:00:00Z"}]


def test_nothing_is_told_of_a_bundle_that_nobody_vouched_for(target: Target) -> None:
    assert target.receive(bundle_of(), envelope=b"{}")["code"] == "ENVELOPE_MALFORMED"
    _, body = call("get_import", "import0001")
    assert body["bundle"] is body["custody"] is None
    assert call("list_imports")[1]["imports"][0]["channel"] is None
    assert body["decision"]["error"]["code"] == "ENVELOPE_MALFORMED"


def test_receipt_that_is_too_large_is_named_only(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = target.receive(bundle_of())
    monkeypatch.setattr(import_status, "MAX_RECEIPT_BYTES", 100)
    _, body = call("get_import", "import0001")
    assert body["receipt"] == {"blob": outcome["receipt"], "envelope": None}


def test_list_has_pages(target: Target) -> None:
    for number in range(5):
        target.receive(bundle_of(), folder=f"{number:010d}")
    found = []
    params = {"limit": "2"}
    for _ in range(5):
        _, page = call("list_imports", params=params)
        found += [line["importId"] for line in page["imports"]]
        if page["next"] is None:
            break
        assert page["next"].startswith("/api/imports?")
        params = {name: values[0] for name, values in parse_qs(urlsplit(page["next"]).query).items()}
    assert sorted(found) == [f"import{number:04d}" for number in range(1, 6)]


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize(
    ("name", "params", "field"),
    [
        ("list_imports", {"state": "sealed"}, "state"),
        ("list_imports", {"since": "1"}, "since"),
        ("list_imports", {"cursor": "forged"}, "cursor"),
        ("get_import", {"full": "1"}, "full"),
    ],
)
def test_invalid_query_is_named(name: str, params: dict[str, str], field: str) -> None:
    response, body = call(name, "import0001", params)
    assert (response.status_code, body["errors"][0]["field"]) == (400, field)


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("import_id", ["import9999", "../x", "", "x" * 500])
def test_unknown_import_is_not_found(import_id: str) -> None:
    response, body = call("get_import", import_id)
    assert (response.status_code, body["code"]) == (404, "NOT_FOUND")
    assert len(response.get_body()) < 1000


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("name", ["refuse_imports_method", "refuse_import_method"])
def test_other_methods_are_refused(name: str) -> None:
    response, body = call(name, method="DELETE")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET")
    assert body["remedy"] == "Use GET."
