"""What the source knows of a target's registry, by the receipts that came back and by nothing else."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import azure.functions as func
import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.fields import format_time
from airgap.holdings import Holdings, KeptReceipt
from airgap.policy import TrustPolicy
from airgap.receipt import ArtifactProof, Receipt
from airgap.states import State
from function_app.azure.wiring import source_settings
from function_app.source import __main__ as command
from function_app.source import holdings_api
from function_app.source.holdings import keep_receipt, read_holdings
from function_app.source.reconciling import Reconciler
from function_app.storage.paths import LEDGER
from tests.bundles import AUDIENCE, default_key, make_policy, new_key
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import ENVIRONMENT
from tests.function_app.test_export import TRANSFER_ID
from tests.function_app.test_receiving import LATER, POLICY, RECEIPT_KEY, Gap, flip_first_byte

TARGET = AUDIENCE[0]
BOTH = (TARGET, "second.azurecr.io")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    source_settings.cache_clear()
    yield
    source_settings.cache_clear()


@pytest.fixture
def gap(monkeypatch: pytest.MonkeyPatch) -> Gap:
    made = Gap()
    monkeypatch.setattr(holdings_api, "source_side", lambda: made.source)
    return made


def get(**params: str) -> tuple[int, dict[str, Any]]:
    request = func.HttpRequest(
        method="GET", url="https://app/api/holdings", params=params, route_params={}, body=b""
    )
    response = asyncio.run(holdings_api.list_holdings._function.get_user_function()(req=request))
    return response.status_code, json.loads(response.get_body())


def kept(gap: Gap) -> list[str]:
    return [name for name in gap.source_blobs.names(LEDGER) if name.startswith("holdings/")]


def holdings(gap: Gap, now: datetime = LATER) -> Holdings:
    return read_holdings(gap.source, "prod", TARGET, now=now)


def receipt_of(gap: Gap, name: str) -> Receipt:
    return Receipt.from_bytes(
        Envelope.from_bytes(gap.source_blobs.containers["receipts"][name].content).payload
    )


def digest_of(gap: Gap, tag: str = "v1") -> str:
    found = gap.source.registry.resolve("team/app", tag)
    assert found
    return found.digest


def test_imported_artifacts_are_held_and_told_with_the_receipt(gap: Gap) -> None:
    assert get(channel="prod", registry=TARGET)[1]["holdings"] == []
    name = gap.carry()
    gap.receive(name)
    status, body = get(channel="prod", registry=TARGET)
    assert status == 200
    (receipt,) = kept(gap)
    assert body == {
        "channel": "prod",
        "registry": TARGET,
        "holdings": [
            {
                "repository": "team/app",
                "digest": digest_of(gap),
                "tags": ["v1"],
                "receipt": f"{LEDGER}/{receipt}",
                "transferId": TRANSFER_ID,
                "decidedAt": format_time(receipt_of(gap, name).decided_at),
            }
        ],
        "next": None,
    }
    content = gap.source_blobs.containers["receipts"][name].content
    assert gap.source_blobs.containers[LEDGER][receipt].content == content


def test_holdings_are_of_one_channel_and_one_registry(gap: Gap) -> None:
    gap.receive(gap.carry())
    for channel, registry in (("other", TARGET), ("prod", "other.azurecr.io")):
        assert get(channel=channel, registry=registry)[1]["holdings"] == []


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({}, ["channel", "registry"]),
        ({"channel": "Prod", "registry": "https://x"}, ["channel", "registry"]),
        ({"channel": "prod", "registry": TARGET, "limit": "0"}, ["limit"]),
        ({"channel": "prod", "registry": TARGET, "limit": "501"}, ["limit"]),
        ({"channel": "prod", "registry": TARGET, "cursor": "team/app:v1"}, ["cursor"]),
        ({"channel": "prod", "registry": TARGET, "cursor": "x@y"}, ["cursor"]),
        ({"channel": "prod", "registry": TARGET, "state": "sealed"}, ["state"]),
    ],
)
def test_list_that_is_asked_wrongly_is_refused_with_every_fault(
    params: dict[str, str], fields: list[str]
) -> None:
    status, body = get(**params)
    assert (status, [fault["field"] for fault in body["errors"]]) == (400, fields)


def signed(gap: Gap, receipt: Receipt, key: Any = RECEIPT_KEY) -> None:
    """Kept as if it had been received."""
    keep_receipt(gap.source_blobs, Envelope.sign(receipt.to_bytes(), [key.signer]).to_bytes(), receipt)


def test_long_list_is_told_page_by_page(gap: Gap) -> None:
    receipt = receipt_of(gap, gap.carry())
    digests = [f"sha256:{number:064x}" for number in range(7)]
    proofs = [ArtifactProof(reference=f"team/app@{one}", digest=one, found=one) for one in digests]
    signed(gap, replace(receipt, artifacts=tuple(proofs)))
    seen: list[str] = []
    params = {"channel": "prod", "registry": TARGET, "limit": "3"}
    for size in (3, 3, 1):
        _, body = get(**params)
        assert len(body["holdings"]) == size
        seen += [one["digest"] for one in body["holdings"]]
        if body["next"]:
            params = {name: values[0] for name, values in parse_qs(urlsplit(body["next"]).query).items()}
    assert (seen, body["next"]) == (digests, None)


def test_one_receipt_is_kept_once_however_often_and_in_whatever_envelope_it_comes(gap: Gap) -> None:
    name = gap.carry()
    gap.receive(name)
    before = dict(gap.source_blobs.containers[LEDGER])
    envelope = Envelope.from_bytes(gap.source_blobs.containers["receipts"][name].content)
    signers = [RECEIPT_KEY.signer, new_key().signer]
    for number, content in enumerate(
        [envelope.to_bytes(), Envelope.sign(envelope.payload, signers).to_bytes()]
    ):
        copy = f"{TRANSFER_ID}/copy{number:04d}.dsse.json"
        gap.source_blobs.put("receipts", copy, content)
        assert gap.receive(copy) is State.DELIVERED
    assert gap.source_blobs.containers[LEDGER] == before


def test_receipts_that_decide_nothing_are_not_kept(gap: Gap) -> None:
    gap.receive(gap.carry(flip_first_byte))
    assert kept(gap) == []
    name = gap.carry()
    envelope = Envelope.from_bytes(gap.source_blobs.containers["receipts"][name].content)
    forged = Envelope.sign(envelope.payload, [new_key().signer]).to_bytes()
    gap.source_blobs.put("receipts", f"{TRANSFER_ID}/forged00.dsse.json", forged)
    other = replace(receipt_of(gap, name), manifest_sha256="0" * 64).to_bytes()
    gap.source_blobs.put(
        *("receipts", f"{TRANSFER_ID}/another0.dsse.json"),
        Envelope.sign(other, [RECEIPT_KEY.signer]).to_bytes(),
    )
    for planted in ("forged00", "another0"):
        assert gap.receive(f"{TRANSFER_ID}/{planted}.dsse.json") is None
    assert kept(gap) == []


def test_receipt_that_somebody_planted_in_the_ledger_proves_nothing(gap: Gap) -> None:
    gap.receive(gap.carry())
    (name,) = kept(gap)
    content = gap.source_blobs.containers[LEDGER].pop(name).content
    receipt = Receipt.from_bytes(Envelope.from_bytes(content).payload)
    signed(gap, receipt, new_key())
    assert list(holdings(gap).all()) == []
    gap.source_blobs.containers[LEDGER].clear()
    sha256 = KeptReceipt.from_name(name)
    assert sha256
    elsewhere = replace(sha256, registry="elsewhere.azurecr.io")
    gap.source_blobs.put(LEDGER, elsewhere.name, content)
    assert list(read_holdings(gap.source, "prod", elsewhere.registry, now=LATER).all()) == []
    gap.source_blobs.put(LEDGER, f"holdings/{TARGET}/junk", b"x")
    gap.source_blobs.put(LEDGER, replace(sha256, sha256="0" * 64).name, b"x")
    gap.source_blobs.put(LEDGER, name, content)
    assert [held.digest for held in holdings(gap).all()] == [digest_of(gap)]


def test_receipt_of_a_key_that_is_revoked_by_now_proves_nothing_any_more(gap: Gap) -> None:
    gap.receive(gap.carry())
    policy = json.loads(POLICY)
    policy["version"] = 2
    policy["revoked"] = [{"keyid": RECEIPT_KEY.signer.public_key.keyid, "from": format_time(LATER)}]
    settings = replace(gap.source.settings, trust_policy=TrustPolicy.from_bytes(json.dumps(policy).encode()))
    gap.source = replace(gap.source, settings=settings)
    assert list(holdings(gap, LATER - timedelta(seconds=1)).all())
    assert list(holdings(gap, LATER).all()) == []


def test_storage_that_is_away_is_not_taken_for_an_empty_registry(
    gap: Gap, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap.receive(gap.carry())
    read = gap.source_blobs.read

    def away(container: str, name: str, **more: Any) -> bytes | None:
        if name.startswith("holdings/"):
            raise ServiceError(Code.SERVICE_UNREACHABLE, "blob storage")
        return read(container, name, **more)

    monkeypatch.setattr(gap.source_blobs, "read", away)
    with pytest.raises(ServiceError):
        holdings(gap)
    monkeypatch.setattr(gap.source_blobs, "read", lambda *_, **__: None)
    with pytest.raises(ServiceError):
        holdings(gap)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Gap:
    """A transfer to two registries."""
    policy = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], audience=BOTH, order="rising")
    made = Gap(BOTH, policy)
    monkeypatch.setattr(holdings_api, "source_side", lambda: made.source)
    return made


def second_registry(gap: Gap) -> str:
    """The receipt of another registry of the audience for the same bundle has come back; its name."""
    name = gap.carry()
    other = replace(receipt_of(gap, name), target=BOTH[1])
    second = f"{TRANSFER_ID}/another0.dsse.json"
    gap.source_blobs.put("receipts", second, Envelope.sign(other.to_bytes(), [RECEIPT_KEY.signer]).to_bytes())
    assert gap.receive(name) is State.PARTLY_DELIVERED
    return second


def test_each_registry_of_the_audience_holds_what_it_has_said(two: Gap) -> None:
    second = second_registry(two)
    assert len(kept(two)) == 1
    assert two.receive(second) is State.DELIVERED
    assert len(kept(two)) == 2
    assert get(channel="prod", registry=BOTH[1])[1]["holdings"][0]["digest"] == digest_of(two)


@pytest.mark.parametrize("days", [59, 3000])
def test_receipt_of_another_registry_whose_event_was_missed_is_read_all_the_same(two: Gap, days: int) -> None:
    second_registry(two)
    first = two.journal.first
    assert first
    now = first.at + timedelta(days=days)
    asyncio.run(Reconciler(two.source, DurableClient(), now).run())
    assert len(kept(two)) == 2
    assert two.journal.state is State.DELIVERED


def test_command_keeps_what_came_back_before_anything_was_kept(
    gap: Gap, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gap.receive(gap.carry())
    gap.carry()  # its receipt says REPLAYED
    before = kept(gap)
    del gap.source_blobs.containers[LEDGER][before[0]]
    monkeypatch.setenv("TRANSFER_ROLE", "source")
    monkeypatch.setattr(command, "source_side", lambda: gap.source)
    assert command.main(["receipts"]) == 0
    assert kept(gap) == before
    assert capsys.readouterr().out == "receipts read: 2, which decide something: 1\n"


def test_command_is_the_sources(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRANSFER_ROLE", "target")
    assert command.main(["receipts"]) == Code.SETTING_INVALID.exit_code
    assert "TRANSFER_ROLE" in capsys.readouterr().err
