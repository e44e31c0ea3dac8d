"""A number that is given up: on record, in the bundles after it, and believed by the target."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import azure.functions as func
import pytest

from airgap.envelope import Envelope
from airgap.ledger import VoidEntry, void_name
from airgap.manifest import ENVELOPE_NAME, MAX_VOIDS, BundleManifest, Void
from airgap.states import Kind, State
from function_app.azure.wiring import source_settings
from function_app.journal.store import JournalStore
from function_app.settings import TargetSettings
from function_app.source import void_api
from function_app.source.reconciling import Reconciler
from function_app.source.sealing import seal_bundle
from function_app.source.voiding import void_transfer
from function_app.storage.ledger import Ledger
from function_app.storage.paths import LEDGER
from tests.bundles import CHANNEL, default_key, make_policy
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import ENVIRONMENT, START, Host
from tests.function_app.test_caller import ADA, ADA_ID, principal
from tests.function_app.test_export import TRANSFER_ID, run
from tests.function_app.test_receiving import LATER, RECEIPT_KEY, Gap, flip_first_byte
from tests.function_app.test_sealing import sealing_order

LOST = {"reason": "the stick fell into the sea"}
NEXT = "fedcba9876543210fedcba9876543210"


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
    monkeypatch.setattr(void_api, "source_side", lambda: made.source)
    return made


def post(
    body: Any, transfer_id: str = TRANSFER_ID, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    request = func.HttpRequest(
        method="POST",
        url=f"https://app/api/transfers/{transfer_id}/void",
        headers=headers or {},
        params={},
        route_params={"transferId": transfer_id},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )
    response = asyncio.run(void_api.void_sealed_transfer._function.get_user_function()(req=request))
    return response.status_code, json.loads(response.get_body())


def next_manifest(gap: Gap, transfer_id: str = NEXT) -> BundleManifest:
    """That of another transfer of the channel, exported now."""
    assert run(Host(gap.source), "team/app:v1", transfer_id=transfer_id)["outcome"] == "sealed"
    raw = gap.source_blobs.containers["transfer"][f"{transfer_id}/{ENVELOPE_NAME}"].content
    return BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)


def test_lost_transfer_is_voided_on_record_and_the_next_manifest_says_so(gap: Gap) -> None:
    status, body = post(LOST)
    assert (status, body["state"]) == (200, "voided")
    assert (body["void"]["reason"], body["void"]["by"]) == (LOST["reason"], "caller")
    entry = gap.journal.last
    assert entry is not None
    assert (entry.state, entry.facts) == (State.VOIDED, {"sequence": 1, **LOST})
    void = Void(sequence=1, reason=LOST["reason"], who="caller")
    assert next_manifest(gap).voids == (void,)
    assert next_manifest(gap, "00000000000000000000000000000003").voids == (void,)


def test_repeat_changes_nothing(gap: Gap) -> None:
    _, first = post(LOST)
    before = dict(gap.source_blobs.containers[LEDGER])
    assert post({"reason": "another"}) == (200, first)
    assert gap.source_blobs.containers[LEDGER] == before


def holding(gap: Gap) -> None:
    """A target that takes no bundle before whose number one is missing."""
    policy = json.loads(make_policy([default_key()], receipt_keys=[RECEIPT_KEY], order="rising"))
    policy["channels"][CHANNEL]["onGap"] = "refuse"
    environment = ENVIRONMENT | {"TRUST_POLICY": json.dumps(policy)}
    gap.target = replace(gap.target, settings=TargetSettings.from_environment(environment))


@pytest.mark.parametrize(("is_voided", "state"), [(True, State.DELIVERED), (False, State.REFUSED)])
def test_target_that_lets_no_gap_pass_takes_the_bundle_after_a_void(
    gap: Gap, is_voided: bool, state: State
) -> None:
    holding(gap)
    if is_voided:
        post(LOST)
    next_manifest(gap)
    assert gap.receive(gap.carry(transfer_id=NEXT)) is state
    # The one that was lost turns up after all.
    assert gap.receive(gap.carry()) is (None if is_voided else State.DELIVERED)
    assert gap.journal.state is (State.VOIDED if is_voided else State.DELIVERED)


def test_import_that_is_told_after_the_void_is_on_record(gap: Gap) -> None:
    receipt = gap.carry()
    post(LOST)
    asyncio.run(Reconciler(gap.source, DurableClient(), LATER).run())  # its event was missed
    assert gap.journal.state is State.DELIVERED
    assert gap.receive(receipt) is State.DELIVERED
    status, body = post(LOST)
    assert (status, body["state"], body["void"]["reason"]) == (200, "delivered", LOST["reason"])
    assert [entry["state"] for entry in body["history"]][-2:] == ["voided", "delivered"]


def damaged(gap: Gap) -> None:
    assert gap.receive(gap.carry(flip_first_byte)) is State.DAMAGED


def refused(gap: Gap) -> None:
    another = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], audience=["other.azurecr.io"])
    environment = ENVIRONMENT | {"TRUST_POLICY": another.decode()}
    gap.target = replace(gap.target, settings=TargetSettings.from_environment(environment))
    assert gap.receive(gap.carry()) is State.REFUSED


def note(gap: Gap, *states: State, transfer_id: str = TRANSFER_ID) -> None:
    for state in states:
        facts = {"channel": CHANNEL} if state is State.REQUESTED else {"detail": str(state)}
        JournalStore(gap.source_blobs, gap.source.projection).record(
            *(Kind.TRANSFERS, transfer_id, state, facts), by="app", at=START
        )


@pytest.mark.parametrize(
    "ended",
    [damaged, refused, lambda gap: note(gap, State.EXPIRED)],
    ids=["damaged", "refused", "expired"],
)
def test_whatever_became_of_a_number_that_no_import_was_told_of_it_is_given_up(
    gap: Gap, ended: Callable[[Gap], None]
) -> None:
    ended(gap)
    assert post(LOST)[0] == 200
    assert gap.journal.state is State.VOIDED
    assert [void.sequence for void in next_manifest(gap).voids] == [1]


LIFE = (State.REQUESTED, State.PLANNED, State.EXPORTING, State.HASHING)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (LIFE, "DELETE cancels it"),
        ((*LIFE, State.CANCELLED), "it took no number"),
        ((*LIFE, State.REFUSED), "it took no number"),
        ((*LIFE, State.FAILED), "it took no number"),
        ((*LIFE[:2], State.PREVIEWED), "it took no number"),
        ((*LIFE, State.SEALING), "in a moment"),
        ((*LIFE, State.SEALING, State.SEALED, State.DELIVERED), "has imported it"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_what_has_no_number_or_arrived_is_not_voided_and_why_is_told(
    gap: Gap, states: tuple[State, ...], words: str
) -> None:
    note(gap, *states, transfer_id=NEXT)
    status, body = post(LOST, NEXT)
    assert (status, body["code"]) == (409, "TRANSITION_REFUSED")
    assert words in body["remedy"]
    assert Ledger(gap.source_blobs).voids(CHANNEL) == frozenset()


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"reason": ""}, {"reason": "x" * 201}, {"reason": "a\nb"}, {"reason": 7}, LOST | {"who": "me"}),
        *(b"", b"[]", b"{"),
    ],
    ids=str,
)
def test_reason_that_no_manifest_could_carry_is_refused(gap: Gap, body: Any) -> None:
    status, answer = post(body)
    assert (status, answer["code"]) == (400, "REQUEST_INVALID")
    assert gap.journal.state is State.SEALED


def test_longest_reason_is_taken(gap: Gap) -> None:
    assert post({"reason": "x" * 200})[0] == 200
    assert next_manifest(gap).voids[0].reason == "x" * 200


def test_body_larger_than_any_reason_is_refused_unread(gap: Gap) -> None:
    assert post(b" " * (void_api.MAX_BODY_BYTES + 1))[0] == 413
    assert gap.journal.state is State.SEALED


def test_transfer_that_is_not_known_cannot_be_voided(gap: Gap) -> None:
    del gap
    assert post(LOST, NEXT)[0] == 404
    assert post(LOST, "../ledger")[0] == 404


@pytest.mark.parametrize(
    ("roles", "status"), [(("Transfer.Order",), 403), (("Transfer.Admin",), 200)], ids=["another", "an admin"]
)
def test_transfer_of_another_is_voided_by_admins_only(
    gap: Gap, monkeypatch: pytest.MonkeyPatch, roles: tuple[str, ...], status: int
) -> None:
    monkeypatch.setenv("CALLERS", "appServiceAuthentication")
    source_settings.cache_clear()
    headers = principal(ADA, *ADA_ID, *(("roles", role) for role in roles))
    assert post(LOST, headers=headers)[0] == status
    if status == 200:
        assert next_manifest(gap).voids[0].who == "ada@contoso.com"
    else:
        assert gap.journal.state is State.SEALED


def test_void_whose_app_died_before_the_ledger_is_entered_by_the_reconciler(gap: Gap) -> None:
    post(LOST)
    gap.source_blobs.delete(LEDGER, void_name(CHANNEL, 1))  # as if it had died before
    asyncio.run(Reconciler(gap.source, DurableClient(), LATER).run())
    assert Ledger(gap.source_blobs).voids(CHANNEL) == {1}


def test_number_that_was_taken_while_the_transfer_was_cancelled_is_given_up() -> None:
    gap = Gap()
    last = sealing_order(gap.source)
    create = gap.source_blobs.create

    def cancelled_meanwhile(container: str, name: str, content: bytes) -> bool:
        done = create(container, name, content)
        if container == LEDGER and name.startswith(f"{CHANNEL}/"):
            note(gap, State.CANCELLED, transfer_id=last.transfer_id)
        return done

    gap.source_blobs.create = cancelled_meanwhile  # type: ignore[method-assign]  # to interfere
    with pytest.raises(Exception, match="TRANSITION_REFUSED"):
        seal_bundle(gap.source, last)
    gap.source_blobs.create = create  # type: ignore[method-assign]  # as before
    manifest = next_manifest(gap)
    assert (manifest.sequence, [void.sequence for void in manifest.voids]) == (3, [2])
    assert manifest.voids[0].who == "app"


@pytest.mark.parametrize("where", ["of a free number", "of another bundle", "junk", "moved"])
def test_void_that_somebody_planted_is_not_signed_and_stops_nothing(gap: Gap, where: str) -> None:
    sequence = 9 if where == "of a free number" else 1
    void = VoidEntry(
        channel=CHANNEL, void=Void(sequence=sequence, reason="x", who="eve"), manifest_sha256="0" * 64
    )
    content = b"{}" if where == "junk" else void.to_bytes()
    if where == "moved":
        taken = Ledger(gap.source_blobs).find(CHANNEL, 1)
        assert taken is not None
        moved = replace(void, channel="another", manifest_sha256=taken.manifest_sha256)
        content = moved.to_bytes()
    gap.source_blobs.put(LEDGER, void_name(CHANNEL, sequence), content)
    for number in range(sequence, 10):
        manifest = next_manifest(gap, f"{number:032d}")
        assert manifest.voids == ()


def test_manifest_carries_the_last_of_more_voids_than_it_can(
    gap: Gap, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_VOIDS == 1000
    monkeypatch.setattr("function_app.source.voiding.MAX_VOIDS", 2)
    for number in range(2, 5):
        next_manifest(gap, f"{number:032d}")
        journal = JournalStore(gap.source_blobs, gap.source.projection).read(Kind.TRANSFERS, f"{number:032d}")
        void_transfer(gap.source, journal, reason="lost", by="caller", now=START + timedelta(days=1))
    assert [void.sequence for void in next_manifest(gap).voids] == [3, 4]
