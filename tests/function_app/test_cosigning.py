"""People sign at the source before a bundle is published: all who must, on record, and nobody else."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from airgap.cosigning import KeptSignature
from airgap.envelope import Envelope
from airgap.errors import Code, PolicyRefusal
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME
from airgap.policy import TrustPolicy
from airgap.states import Kind, State
from airgap.verify import verify_bundle
from function_app.azure.wiring import source_settings
from function_app.durable.outcomes import Refused
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.settings import SourceSettings
from function_app.source import http_api, sealing, signature_api
from function_app.source.removing import remove_ended
from function_app.source.sealing import publish, publish_bundle, seal_bundle
from function_app.source.wire import Publishing
from function_app.storage.ledger import Ledger
from offline_mover.commands.sign import sign
from tests.bundles import AUDIENCE, CHANNEL, SigningKey, default_key, make_policy, new_key
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import ENVIRONMENT, START, Host, MemoryBlobs, make_source
from tests.function_app.test_caller import ADA, ADA_ID, principal
from tests.function_app.test_export import TRANSFER_ID, run
from tests.function_app.test_sealing import sealing_order

ADA_KEY, BOB_KEY, EVE_KEY = new_key(), new_key(), new_key()
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def policy(**more: Any) -> bytes:
    """One whose bundles the source signs, and any two of three approvers."""
    people = (ADA_KEY, BOB_KEY, EVE_KEY)
    made = json.loads(make_policy([default_key()]))
    made["keys"] += [
        {"holder": name, "publicKey": key.public_pem}
        for name, key in zip(("ada", "bob", "eve"), people, strict=True)
    ]
    roles = made["channels"][CHANNEL]["bundleRoles"]
    roles["approver"] = {"threshold": 2, "keyids": [key.keyid for key in people]}
    return json.dumps(made | more).encode()


class Source:
    """A source whose channel asks people, and what they do while its transfer waits for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.side: SourceSide
        self.blobs: MemoryBlobs
        self.side, self.blobs, registry = make_source()
        self.use(policy())
        registry.push_image("team/app", "v1")
        for module in (http_api, signature_api):
            monkeypatch.setattr(module, "source_side", lambda: self.side)
        self.journals = JournalStore(self.blobs, self.side.projection)

    def use(self, policy_json: bytes) -> None:
        settings = SourceSettings.from_environment(ENVIRONMENT | {"TRUST_POLICY": policy_json.decode()})
        self.side = replace(self.side, settings=settings)

    def export(self, *rounds: Callable[[], None], transfer_id: str = TRANSFER_ID) -> dict[str, Any]:
        """Run a transfer; before each look at the signatures the next of ``rounds`` happens."""
        host = Host(self.side)
        original, ahead = host.activity, iter(rounds)

        def between(name: str, attempts: int, order: Any) -> Any:
            if name == "publish_bundle":
                next(ahead, lambda: None)()
            return original(name, attempts, order)

        host.activity = between  # type: ignore[method-assign]  # what people do meanwhile
        return run(host, "team/app:v1", transfer_id=transfer_id)

    @property
    def states(self) -> list[State]:
        return [entry.state for entry in self.journals.read(Kind.TRANSFERS, TRANSFER_ID).entries]

    def call(
        self,
        name: str,
        body: bytes = b"",
        transfer_id: str = TRANSFER_ID,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        request = func.HttpRequest(
            method="POST",
            url=f"https://app/api/transfers/{transfer_id}/signatures",
            headers=headers or {},
            params={},
            route_params={"transferId": transfer_id},
            body=body,
        )
        function = getattr(signature_api, name)._function.get_user_function()
        response = asyncio.run(function(req=request))
        return response.status_code, response.get_body()

    def fetch(self) -> bytes:
        status, body = self.call("get_signatures")
        assert status == 200, body
        return body

    def post(self, body: bytes, **more: Any) -> tuple[int, dict[str, Any]]:
        status, answer = self.call("add_signature", body, **more)
        return status, json.loads(answer)

    def signed(self, key: SigningKey) -> bytes:
        """What a person's ``offline-mover sign`` writes."""
        raw, _ = sign(
            self.fetch(),
            policy=self.side.settings.trust_policy,
            signer=key.signer,
            target=None,
            now=START + timedelta(minutes=30),
            saved_as=Path("signature.dsse.json"),
        )
        return raw

    def signs(self, *keys: SigningKey) -> Callable[[], None]:
        def act() -> None:
            for key in keys:
                status, answer = self.post(self.signed(key))
                assert status == 200, answer

        return act

    def published(self) -> bytes:
        return self.blobs.containers["transfer"][f"{TRANSFER_ID}/{ENVELOPE_NAME}"].content


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    source_settings.cache_clear()
    yield Source(monkeypatch)
    source_settings.cache_clear()


def manifest_is_out(source: Source) -> bool:
    return f"{TRANSFER_ID}/{ENVELOPE_NAME}" in source.blobs.names("transfer")


def test_bundle_is_published_once_all_have_signed_and_the_target_accepts_it(source: Source) -> None:
    seen: list[dict[str, Any]] = []

    def look(*keys: SigningKey) -> Callable[[], None]:
        def act() -> None:
            assert not manifest_is_out(source)
            seen.extend(source.post(source.signed(key))[1] for key in keys)

        return act

    assert source.export(look(), look(ADA_KEY), look(BOB_KEY))["outcome"] == "sealed"
    assert [one["signatures"]["missing"] for one in seen] == [["role approver: 1 of 2"], []]
    assert seen[0]["state"] == "awaiting-signatures"
    verdict = verify_bundle(
        source.published(), policy=TrustPolicy.from_bytes(policy()), now=START, target=AUDIENCE[0]
    )
    assert verdict.is_accepted
    assert {one.role for one in verdict.signers} == {"source", "approver"}
    assert source.states[-3:] == [State.AWAITING_SIGNATURES, State.SEALING, State.SEALED]


def test_who_signed_and_who_handed_it_in_is_on_record(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hand_in() -> None:
        monkeypatch.setenv("CALLERS", "appServiceAuthentication")
        source_settings.cache_clear()
        for key in (BOB_KEY, ADA_KEY):
            raw = source.signed(key)
            assert source.post(raw, headers=principal(ADA, *ADA_ID, ("roles", "Transfer.Order")))[0] == 403
            headers = principal(ADA, *ADA_ID, ("roles", "Transfer.Release"))
            assert source.post(raw, headers=headers)[0] == 200

    source.export(hand_in)
    sealing = source.journals.read(Kind.TRANSFERS, TRANSFER_ID).newest(State.SEALING)
    assert sealing is not None
    signed = sealing.facts["signatures"]
    assert {one["holder"] for one in signed} == {"ada", "bob"}
    assert {(one["by"], *one["roles"]) for one in signed} == {("ada@contoso.com", "approver")}


def test_what_is_signed_twice_or_by_one_person_only_is_not_enough(source: Source) -> None:
    def twice() -> None:
        for _ in range(2):
            source.signs(ADA_KEY)()

    outcome = source.export(twice)
    assert (outcome["outcome"], outcome["code"]) == ("refused", "THRESHOLD_NOT_MET")
    assert "role approver: 1 of 2" in outcome["detail"]
    assert source.states[-2:] == [State.AWAITING_SIGNATURES, State.REFUSED]
    assert not manifest_is_out(source)
    assert Ledger(source.blobs).voids(CHANNEL) == {1}


def test_people_have_no_longer_than_the_setting_says(source: Source) -> None:
    source.side = replace(source.side, settings=replace(source.side.settings, signature_timeout_s=120))
    rounds = [lambda: None] * 50
    assert source.export(*rounds)["code"] == "THRESHOLD_NOT_MET"
    awaiting = source.journals.read(Kind.TRANSFERS, TRANSFER_ID).newest(State.AWAITING_SIGNATURES)
    assert awaiting is not None
    assert awaiting.facts["until"] <= format_time(awaiting.at + timedelta(seconds=121))


def test_cancelled_while_it_waits_it_is_never_published_and_its_number_is_given_up(source: Source) -> None:
    def cancel() -> None:
        request = func.HttpRequest(
            method="DELETE", url="https://app/", route_params={"transferId": TRANSFER_ID}, body=b""
        )
        function = http_api.cancel_transfer._function.get_user_function().client_function
        assert asyncio.run(function(req=request, client=DurableClient())).status_code == 200

    def cancel_and_sign() -> None:
        raw = [source.signed(key) for key in (ADA_KEY, BOB_KEY)]
        cancel()
        for one in raw:
            assert source.post(one)[0] == 409

    source.export(cancel_and_sign)
    assert source.states[-1] is State.CANCELLED
    assert not manifest_is_out(source)
    assert Ledger(source.blobs).voids(CHANNEL) == {1}


def test_once_its_number_is_given_up_no_late_signature_publishes_it(source: Source) -> None:
    def refused_and_the_answer_is_lost() -> None:
        raw = [source.signed(key) for key in (ADA_KEY, BOB_KEY)]
        until = format_time(START)
        order = Publishing(transfer_id=TRANSFER_ID, until=until, now=until)
        assert isinstance(publish_bundle(source.side, order), Refused)
        assert Ledger(source.blobs).voids(CHANNEL) == {1}
        for one in raw:
            source.post(one)

    assert source.export(refused_and_the_answer_is_lost)["outcome"] == "refused"
    assert not manifest_is_out(source)
    assert source.states[-2:] == [State.AWAITING_SIGNATURES, State.REFUSED]
    last = source.journals.read(Kind.TRANSFERS, TRANSFER_ID).last
    assert last is not None
    assert last.facts["code"] == "THRESHOLD_NOT_MET"


def test_number_is_given_up_where_nothing_counts_by_the_policy_any_more(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads(policy())
    made["channels"]["another"] = made["channels"].pop(CHANNEL)
    later = TrustPolicy.from_bytes(json.dumps(made).encode())

    def end_channel() -> None:
        monkeypatch.setattr("function_app.source.cosigning.policy_in_force", lambda _: later)

    assert source.export(end_channel)["code"] == "CHANNEL_UNKNOWN"
    assert source.states[-1] is State.REFUSED
    assert Ledger(source.blobs).voids(CHANNEL) == {1}


def test_number_of_one_whose_app_died_before_giving_it_up_is_given_up_within_hours(source: Source) -> None:
    def cancelled() -> None:
        source.journals.record(Kind.TRANSFERS, TRANSFER_ID, State.CANCELLED, {}, by="caller", at=START)

    source.export(cancelled)
    source.blobs.containers["ledger"].pop(f"voids/{CHANNEL}/{1:016d}.json", None)
    remove_ended(source.side, now=START + timedelta(hours=2))
    assert Ledger(source.blobs).voids(CHANNEL) == {1}
    assert source.journals.read(Kind.REMOVALS, TRANSFER_ID).last is None


def test_number_of_a_bundle_that_is_out_is_not_given_up_by_whoever_still_asks_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side, blobs, registry = make_source()
    registry.push_image("team/app", "v1")
    order = sealing_order(side)

    def slower_than_another(*_: Any) -> bool:
        monkeypatch.undo()
        seal_bundle(side, order)
        return True

    monkeypatch.setattr(sealing, "needs_people", slower_than_another)
    with pytest.raises(PolicyRefusal):
        seal_bundle(side, order)
    assert any(name.endswith(ENVELOPE_NAME) for name in blobs.names("transfer"))
    assert not Ledger(blobs).voids(CHANNEL)


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        (lambda _: b"{}", 400, "ENVELOPE_MALFORMED"),
        (
            lambda raw: Envelope.sign(Envelope.from_bytes(raw).payload, [new_key().signer]).to_bytes(),
            403,
            "SIGNER_UNKNOWN",
        ),
        (lambda _: Envelope.sign(b"another", [ADA_KEY.signer]).to_bytes(), 400, "REQUEST_INVALID"),
        (
            lambda raw: Envelope(
                payload=Envelope.from_bytes(raw).payload, signatures={ADA_KEY.keyid: b"forged"}
            ).to_bytes(),
            400,
            "SIGNATURE_INVALID",
        ),
    ],
    ids=["junk", "a stranger's", "of another manifest", "forged"],
)
def test_what_does_not_count_is_not_kept(
    source: Source, spoil: Callable[[bytes], bytes], status: int, code: str
) -> None:
    def hand_in() -> None:
        found, answer = source.post(spoil(source.fetch()))
        assert (found, answer["code"]) == (status, code)
        assert not [name for name in source.blobs.names("ledger") if name.startswith("signatures/")]

    source.export(hand_in)


def test_signature_that_somebody_planted_neither_counts_nor_stands_in_the_way(source: Source) -> None:
    def plant() -> None:
        awaiting = source.journals.read(Kind.TRANSFERS, TRANSFER_ID).newest(State.AWAITING_SIGNATURES)
        assert awaiting is not None
        digest = awaiting.facts["bundle"]["manifestDigest"].removeprefix("sha256:")
        forged = KeptSignature(keyid=EVE_KEY.keyid, signature=b"forged", by="eve", at=NOW)
        source.blobs.put("ledger", f"signatures/{digest}/{EVE_KEY.keyid}.json", forged.to_bytes())
        source.signs(ADA_KEY)()

    outcome = source.export(plant, lambda: None, source.signs(BOB_KEY))
    assert outcome["outcome"] == "sealed"
    assert Envelope.from_bytes(source.published()).signatures.keys() == {
        default_key().keyid,
        ADA_KEY.keyid,
        BOB_KEY.keyid,
    }


@pytest.mark.parametrize("forged", [b"{}", None], ids=["no signature", "another's signature"])
def test_person_in_whose_place_something_else_lies_is_told_so(source: Source, forged: bytes | None) -> None:
    planted = KeptSignature(keyid=EVE_KEY.keyid, signature=b"forged", by="eve", at=NOW).to_bytes()

    def plant() -> None:
        awaiting = source.journals.read(Kind.TRANSFERS, TRANSFER_ID).newest(State.AWAITING_SIGNATURES)
        assert awaiting is not None
        digest = awaiting.facts["bundle"]["manifestDigest"].removeprefix("sha256:")
        source.blobs.put("ledger", f"signatures/{digest}/{EVE_KEY.keyid}.json", forged or planted)
        status, answer = source.post(source.signed(EVE_KEY))
        assert (status >= 500, answer["code"]) == (True, "SERVICE_UNEXPECTED")
        assert EVE_KEY.keyid in answer["detail"]

    source.export(plant)


def test_key_that_is_revoked_while_others_are_waited_for_counts_no_more(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = TrustPolicy.from_bytes(
        policy(version=2, revoked=[{"keyid": ADA_KEY.keyid, "from": "2020-01-01T00:00:00Z"}])
    )

    def revoke() -> None:
        monkeypatch.setattr("function_app.source.cosigning.policy_in_force", lambda _: later)
        source.signs(BOB_KEY)()

    outcome = source.export(source.signs(ADA_KEY), revoke)
    assert outcome["code"] == "THRESHOLD_NOT_MET"
    assert "role approver: 1 of 2" in outcome["detail"]


def test_killed_between_sealing_and_publishing_the_very_envelope_is_published(source: Source) -> None:
    source.export(source.signs(ADA_KEY, BOB_KEY))
    before = source.published()
    source.blobs.delete("transfer", f"{TRANSFER_ID}/{ENVELOPE_NAME}")
    publish(source.side, source.journals.read(Kind.TRANSFERS, TRANSFER_ID))
    assert source.published() == before


def test_nothing_is_to_be_signed_of_a_transfer_that_asks_nobody(source: Source) -> None:
    source.use(make_policy([default_key()]))
    assert source.export()["outcome"] == "sealed"
    assert source.call("get_signatures")[0] == 409
    assert source.post(b"{}")[0] == 409
    assert source.call("get_signatures", transfer_id="fedcba9876543210fedcba9876543210")[0] == 404


def test_repeat_after_it_was_sealed_is_no_fault_and_a_new_one_too_late(source: Source) -> None:
    kept: list[bytes] = []

    def hand_in() -> None:
        kept.extend([source.signed(ADA_KEY), source.signed(EVE_KEY)])
        source.signs(ADA_KEY, BOB_KEY)()

    source.export(hand_in)
    assert source.post(kept[0])[0] == 200
    status, answer = source.post(kept[1])
    assert (status, answer["code"]) == (409, Code.TRANSITION_REFUSED.name)


def test_role_that_nobody_could_meet_is_refused_before_anything_is_exported(source: Source) -> None:
    people: Sequence[SigningKey] = (ADA_KEY, BOB_KEY)
    revoked = [{"keyid": key.keyid, "from": "2020-01-01T00:00:00Z"} for key in people]
    source.use(policy(revoked=revoked))
    outcome = source.export()
    assert (outcome["outcome"], outcome["code"]) == ("refused", "THRESHOLD_NOT_MET")
    assert source.blobs.names("transfer") == []
