"""Standing orders: set, changed and deleted on record, and placed once for each of their times."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func
import pytest

from airgap.holdings import Word
from airgap.states import Kind, State
from function_app.azure.wiring import source_settings
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.ports import SourceSide
from function_app.settings import SourceSettings
from function_app.source import orders_api, placing
from function_app.source.looking_up import tell_transfer
from function_app.source.standing import place_due_orders
from function_app.source.standing_order import MAX_BODY_BYTES
from tests.bundles import default_key, make_policy
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import ENVIRONMENT, Host, MemoryBlobs, MemoryRegistry, make_source
from tests.function_app.test_caller import ADA, ADA_ID, principal

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
SCHEDULE = "R/2020-01-01T02:00:00Z/P1D"
ORDER = {
    "select": [{"repositories": ["team/*"], "tags": ["v*"]}],
    "channel": "prod",
    "audience": ["target.azurecr.io"],
    "schedule": SCHEDULE,
    "onlyMissing": True,
    "labels": {"team": "base"},
}
EVE = (("preferred_username", "eve@contoso.com"), ("tid", "tenant1"), ("oid", "eve1"))
MAY = ("roles", "Transfer.Order")


@pytest.fixture(autouse=True)
def side(monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceSide]:
    """The app's settings, as the source has them, and its ports in memory."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    source_settings.cache_clear()
    made, _, _ = make_source()
    monkeypatch.setattr(orders_api, "source_side", lambda: made)
    set_clock(monkeypatch, NOW)
    yield made
    source_settings.cache_clear()


def call(
    function: str,
    name: str = "nightly",
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    client: DurableClient | None = None,
) -> tuple[func.HttpResponse, Any]:
    request = func.HttpRequest(
        method="?",
        url="https://app/api/orders",
        headers=headers or {},
        params=params or {},
        route_params={"name": name},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )
    user = getattr(orders_api, function)._function.get_user_function()
    if function == "set_order":
        work = user.client_function(req=request, client=client or DurableClient())
    else:
        work = user(req=request)
    response = asyncio.run(work)
    return response, json.loads(response.get_body())


def put(name: str = "nightly", *, match: str | None = None, **change: Any) -> tuple[func.HttpResponse, Any]:
    return call("set_order", name, body=ORDER | change, headers={"If-Match": match} if match else {})


def journals(side: SourceSide) -> JournalStore:
    return JournalStore(side.blobs, side.projection)


def tick(side: SourceSide, now: datetime, client: DurableClient | None = None) -> DurableClient:
    client = client or DurableClient()
    asyncio.run(place_due_orders(side, client, now=now))
    return client


def after(count: int = 1) -> datetime:
    """The ``count``-th time of the schedule after ``NOW``, and a second."""
    return datetime(2026, 11, 23, 2, 0, 1, tzinfo=UTC) + count * DAY


def set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    """Have the API take another time for now."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls.fromtimestamp(now.timestamp(), tz)

    monkeypatch.setattr(orders_api, "datetime", Clock)


def ordered(side: SourceSide) -> list[str]:
    return list(journals(side).ids(Kind.TRANSFERS))


# --- set, looked at, deleted --------------------------------------------------------------------------------


def test_order_is_set_and_told() -> None:
    response, body = put()
    assert response.status_code == 201
    assert (body["name"], body["state"], body["last"]) == ("nightly", "standing", None)
    assert body["next"] == "2026-11-24T02:00:00Z"
    assert [entry["by"] for entry in body["history"]] == ["caller"]
    response, told = call("get_order")
    assert (response.status_code, told) == (200, body)
    (line,) = call("list_orders")[1]["orders"]
    assert {name: line[name] for name in ("name", "state", "channel")} == {
        "name": "nightly",
        "state": "standing",
        "channel": "prod",
    }


def test_what_is_told_can_be_sent_again_and_changes_nothing(side: SourceSide) -> None:
    told = put()[1]["order"]
    assert told == ORDER | {"expiresInSeconds": 2592000, "referrers": "all", "paused": False}
    response, body = call("set_order", body=told)
    assert (response.status_code, len(body["history"])) == (200, 1)
    assert len(journals(side).read(Kind.ORDERS, "nightly").entries) == 1


def test_order_is_changed_by_whoever_has_seen_it_as_it_is() -> None:
    first = put()[0].headers["ETag"]
    response, body = put(match=first, paused=True)
    assert (response.status_code, body["state"], body["next"]) == (200, "paused", None)
    assert response.headers["ETag"] not in (first, "")
    assert call("get_order")[0].headers["ETag"] == response.headers["ETag"]
    assert put(match=first, labels={})[0].status_code == 412
    assert put(labels={})[0].status_code == 428
    assert put(match="*", labels={})[1]["state"] == "standing"
    assert put("other", match=first)[0].status_code == 412
    assert call("get_order", "other")[0].status_code == 404


def test_order_is_made_only_where_none_is() -> None:
    new = {"If-None-Match": "*"}
    assert call("set_order", body=ORDER, headers=new)[0].status_code == 201
    assert call("set_order", body=ORDER | {"paused": True}, headers=new)[0].status_code == 412
    assert call("get_order")[1]["state"] == "standing"


def test_of_two_changes_at_once_one_is_refused(side: SourceSide, monkeypatch: pytest.MonkeyPatch) -> None:
    etag = put()[0].headers["ETag"]
    blobs = side.blobs
    assert isinstance(blobs, MemoryBlobs)
    create = blobs.create

    def late(container: str, name: str, content: bytes) -> bool:
        monkeypatch.setattr(blobs, "create", create)
        assert put(match=etag, labels={"by": "the faster one"})[0].status_code == 200
        return create(container, name, content)

    monkeypatch.setattr(blobs, "create", late)
    assert put(match=etag, paused=True)[0].status_code == 412
    assert call("get_order")[1]["order"]["labels"] == {"by": "the faster one"}


def test_change_back_to_what_it_was_is_a_change() -> None:
    etag = put()[0].headers["ETag"]
    for paused in (True, False, True):
        response, body = put(match=etag, paused=paused)
        etag = response.headers["ETag"]
    assert [entry["state"] for entry in body["history"]] == ["standing", "paused", "standing", "paused"]


def test_order_is_deleted_on_record_and_its_name_can_be_given_again(side: SourceSide) -> None:
    etag = put()[0].headers["ETag"]
    assert call("delete_order", headers={"If-Match": '"other"'})[0].status_code == 412
    assert call("delete_order")[0].status_code == 428
    response, body = call("delete_order", headers={"If-Match": etag})
    assert (response.status_code, body["state"], body["next"]) == (200, "deleted", None)
    assert "ETag" not in response.headers
    assert call("delete_order")[1] == body
    assert call("get_order")[1] == body
    assert call("list_orders")[1]["orders"] == []
    assert [one["name"] for one in call("list_orders", params={"state": "deleted"})[1]["orders"]] == [
        "nightly"
    ]
    assert tick(side, after()).started == []
    assert put(channel="prod", match=etag)[0].status_code == 412
    assert put()[0].status_code == 201
    assert len(tick(side, after()).started) == 1


def test_unknown_order_is_not_found() -> None:
    for name in ("nightly", "No Name", "x" * 64):
        assert call("get_order", name)[0].status_code == 404
        assert call("delete_order", name)[0].status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schedule": "0 2 * * *"}, "schedule"),
        ({"schedule": 5}, "schedule"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": []}, "labels"),
        ({"labels": {f"l{number}": "x" for number in range(21)}}, "labels"),
        ({"labels": {"a": "x" * 129}}, "labels.a"),
        ({"paused": "no"}, "paused"),
        ({"select": []}, "select"),
        ({"channel": "Prod"}, "channel"),
        ({"channel": "unknown"}, "channel"),
        ({"audience": ["elsewhere.azurecr.io"]}, "audience[0]"),
        ({"priority": 1}, "priority"),
    ],
    ids=str,
)
def test_what_would_never_cross_is_refused_when_it_is_set(change: dict[str, Any], field: str) -> None:
    response, body = put(**change)
    assert response.status_code == 400
    assert field in [one["field"] for one in body["errors"]]
    assert call("get_order")[0].status_code == 404


def test_schedule_is_required_and_names_are_names() -> None:
    body = {name: value for name, value in ORDER.items() if name != "schedule"}
    assert call("set_order", body=body)[1]["errors"][0]["field"] == "schedule"
    assert call("set_order", "No Name", body=ORDER)[0].status_code == 400
    assert call("set_order", body=ORDER, headers={"If-Match": "abc"})[1]["errors"][0]["field"] == "If-Match"
    assert call("set_order", body=ORDER, headers={"If-None-Match": '"a"'})[0].status_code == 400
    assert call("set_order", body=b" " * (MAX_BODY_BYTES + 1))[0].status_code == 413


def test_largest_order_fits_its_journal() -> None:
    artifacts: list[str] = []
    while len(json.dumps(ORDER | {"artifacts": artifacts}).encode()) < MAX_BODY_BYTES - 600:
        artifacts.append(f"team/{len(artifacts):0200d}:v1")
    assert put(artifacts=artifacts)[0].status_code == 201
    assert len(call("get_order")[1]["order"]["artifacts"]) == len(artifacts)


def test_there_is_an_end_to_names_and_to_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_api, "_MAX_NAMES", 1)
    monkeypatch.setattr(orders_api, "MAX_ENTRIES", 3)
    etag = put()[0].headers["ETag"]
    assert put("other")[0].status_code == 409
    etag = put(match=etag, paused=True)[0].headers["ETag"]
    assert put(match=etag, paused=False)[0].status_code == 409
    assert call("delete_order", headers={"If-Match": etag})[1]["state"] == "deleted"


# --- whose it is --------------------------------------------------------------------------------------------


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLERS", "appServiceAuthentication")
    source_settings.cache_clear()


@pytest.mark.usefixtures("signed_in")
def test_order_is_set_by_whoever_may_order_and_changed_by_the_same_or_an_admin(side: SourceSide) -> None:
    ada, eve = principal(ADA, *ADA_ID, MAY), principal(*EVE, MAY)
    admin = principal(*EVE, ("roles", "Transfer.Admin"))
    assert call("set_order", body=ORDER, headers=principal(ADA, *ADA_ID))[0].status_code == 403
    response, body = call("set_order", body=ORDER, headers=ada)
    assert (response.status_code, body["history"][0]["by"]) == (201, "ada@contoso.com")
    match = {"If-Match": response.headers["ETag"]}
    paused = ORDER | {"paused": True}
    for function in ("set_order", "delete_order"):
        response, body = call(function, body=paused, headers=eve | match)
        assert (response.status_code, body["code"]) == (403, "CALLER_REFUSED")
    assert tick(side, after()).started != []
    (transfer_id,) = ordered(side)
    first = journals(side).read(Kind.TRANSFERS, transfer_id).entries[0]
    assert (first.by, first.facts["orderedBy"]) == ("ada@contoso.com", "tenant1/ada1")
    response, body = call("set_order", body=paused, headers=admin | match)
    assert [entry["by"] for entry in body["history"]] == ["ada@contoso.com", "eve@contoso.com"]


# --- placed -------------------------------------------------------------------------------------------------


def test_order_is_placed_once_for_each_time(side: SourceSide) -> None:
    put()
    client = tick(side, after() - 2 * SECOND)
    assert client.started == []
    for now in (after(), after() + SECOND, after() + 23 * HOUR, after(2), after(2) + HOUR):
        tick(side, now, client)
    assert len(client.started) == len(set(client.started)) == 2
    assert sorted(client.started) == ordered(side)
    order = client.instances[client.started[0]].input_
    assert (order["selects"], order["onlyMissing"]) == (True, True)


def test_two_hosts_place_one_transfer(side: SourceSide) -> None:
    """Neither knows of what the other has started: as when both ask before either has."""
    put()
    assert tick(side, after()).started == tick(side, after()).started
    assert len(ordered(side)) == 1


def test_missed_times_are_made_up_for_by_one_transfer(side: SourceSide) -> None:
    put()
    assert len(tick(side, after(30) + 5 * HOUR).started) == 1


def test_placing_that_broke_off_is_gone_on_with(side: SourceSide, monkeypatch: pytest.MonkeyPatch) -> None:
    put()

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(placing, "find_instance", dies)
        with pytest.raises(KeyboardInterrupt):
            tick(side, after())
    (transfer_id,) = ordered(side)
    assert journals(side).read(Kind.TRANSFERS, transfer_id).state is State.REQUESTED
    assert tick(side, after() + 300 * SECOND).started == [transfer_id]


def test_paused_order_places_nothing_and_makes_up_for_nothing(side: SourceSide) -> None:
    etag = put(paused=True)[0].headers["ETag"]
    assert tick(side, after()).started == []
    put(match=etag, paused=False)
    assert len(tick(side, after(3)).started) == 1


def test_transfer_tells_which_order_it_is_of_and_the_order_tells_the_transfer(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    put()
    now = after()
    client = tick(side, now)
    (transfer_id,) = client.started
    body = dump(asyncio.run(tell_transfer(side, journals(side).read(Kind.TRANSFERS, transfer_id))))
    time = f"{now - SECOND:%Y-%m-%dT%H:%M:%SZ}"
    assert body["order"] == {"name": "nightly", "time": time, "labels": {"team": "base"}}

    set_clock(monkeypatch, now + 3 * DAY)
    assert call("get_order")[1]["last"] == {
        "time": time,
        "transferId": transfer_id,
        "state": "requested",
        "links": {"self": f"/api/transfers/{transfer_id}"},
    }


def test_nothing_new_is_on_record_and_takes_no_number(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = side.registry
    assert isinstance(registry, MemoryRegistry)
    registry.push_image("team/app", "v1")
    put()
    client = tick(side, after())
    (transfer_id,) = client.started
    monkeypatch.setattr("function_app.source.planning.read_holdings", lambda *_, **__: _Everything())
    outcome = Host(side).run("export_transfer", client.instances[transfer_id].input_, transfer_id)
    assert outcome["outcome"] == "nothing-missing"
    assert list(side.blobs.list_names("ledger", "prod/")) == []
    assert tick(side, after(), client).started == [transfer_id]


def test_what_the_policy_forbids_by_then_is_refused_on_record(side: SourceSide) -> None:
    registry = side.registry
    assert isinstance(registry, MemoryRegistry)
    registry.push_image("team/app", "v1")
    put(onlyMissing=False)
    client = tick(side, after())
    (transfer_id,) = client.started
    stricter = make_policy([default_key()], audience=["other.azurecr.io"], version=2)
    settings = SourceSettings.from_environment(ENVIRONMENT | {"TRUST_POLICY": stricter.decode()})
    host = Host(replace(side, settings=settings))
    outcome = host.run("export_transfer", client.instances[transfer_id].input_, transfer_id)
    assert (outcome["outcome"], outcome["code"]) == ("refused", "AUDIENCE_MISMATCH")
    assert journals(side).read(Kind.TRANSFERS, transfer_id).state is State.REFUSED


class _Everything:
    """Holdings of a registry that holds whatever it is asked for."""

    def word_for(self, reference: str, digest: str) -> Any:
        del reference, digest
        return Word(receipt="receipt", transfer_id="before", decided_at=NOW)


def test_one_order_that_cannot_be_read_stands_before_no_other(side: SourceSide) -> None:
    put("a")
    put("b")
    blobs = side.blobs
    assert isinstance(blobs, MemoryBlobs)
    blobs.upload("journal", "orders/a/00000002.json", b"{}")
    assert len(tick(side, after()).started) == 1


def test_order_that_fails_by_the_sdk_stands_before_no_other(
    side: SourceSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a")
    put("b")
    client = DurableClient()
    start_new, fails = client.start_new, iter([True])

    async def failing(*arguments: Any, **more: Any) -> Any:
        if next(fails, False):
            raise RuntimeError("the SDK raises nothing more precise")
        return await start_new(*arguments, **more)

    monkeypatch.setattr(client, "start_new", failing)
    assert len(tick(side, after(), client).started) == 1


def test_every_order_is_looked_at_in_every_round(side: SourceSide) -> None:
    for number in range(101):
        put(f"order{number:03d}")
    assert len(tick(side, after()).started) == 101


def test_dry_run_sets_nothing_and_ends_with_a_plan(side: SourceSide) -> None:
    client = DurableClient()
    response, body = call("set_order", body=ORDER | {"dryRun": True}, client=client)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/transfers/{body['transferId']}"
    assert client.instances[body["transferId"]].input_["isDryRun"] is True
    assert call("get_order")[0].status_code == 404
    placed = journals(side).read(Kind.TRANSFERS, body["transferId"])
    assert "order" not in dump(asyncio.run(tell_transfer(side, placed)))
