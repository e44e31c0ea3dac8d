"""Receipts that come back to the source: what they close, and what they must not.

Each transfer here is exported, carried and imported by the real steps of both sides, in memory.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from airgap.envelope import Envelope
from airgap.errors import Code, ServiceError
from airgap.fields import parse_time
from airgap.journal import Journal
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt, ReceiptVerdict
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.settings import SourceSettings
from function_app.source.receiving import receive
from function_app.source.reconciling import Reconciler
from function_app.source.transfer_status import describe
from function_app.source.voiding import can_be_voided, void_transfer
from function_app.target.wire import ImportOrder
from tests.bundles import AUDIENCE, default_key, make_policy, new_key
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import (
    ENVIRONMENT,
    START,
    Host,
    MemoryBlobs,
    MemoryRegistry,
    make_source,
    make_target,
)
from tests.function_app.test_export import TRANSFER_ID, run

RECEIPT_KEY = new_key()
POLICY = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], order="rising")
LATER = START + timedelta(days=3)


class Gap:
    """A source with one sealed transfer, a target, and the person who carries between them."""

    def __init__(self, audience: Sequence[str] = AUDIENCE, policy: bytes = POLICY) -> None:
        side, self.source_blobs, self.registry = make_source()
        settings = SourceSettings.from_environment(ENVIRONMENT | {"TRUST_POLICY": policy.decode()})
        self.source = replace(side, settings=settings)
        self.target, self.target_blobs = make_target(policy, key=RECEIPT_KEY)
        self.registry.push_image("team/app", "v1")
        assert run(Host(self.source), "team/app:v1", audience=audience)["outcome"] == "sealed"
        self.imports = 0

    def carry(
        self, spoil: Callable[[MemoryBlobs], None] = lambda _: None, transfer_id: str = TRANSFER_ID
    ) -> str:
        """Carry the bundle over, have it imported, carry the receipt back; returns the receipt's name."""
        for name, blob in self.source_blobs.containers["transfer"].items():
            if name.startswith(f"{transfer_id}/"):
                self.target_blobs.upload("incoming", name, blob.content)
        raw = self.target_blobs.containers["incoming"][f"{transfer_id}/{ENVELOPE_NAME}"].content
        manifest = BundleManifest.from_bytes(Envelope.from_bytes(raw).payload)
        assert isinstance(self.target.registry, MemoryRegistry)
        for artifact in manifest.artifacts:
            self.target.registry.manifests[artifact.repository, artifact.digest] = (artifact.media_type, {})
            for tag in artifact.tags:
                self.target.registry.tags[artifact.repository, tag] = artifact.digest
        spoil(self.target_blobs)
        found = self.target_blobs.stat("incoming", f"{transfer_id}/{ENVELOPE_NAME}")
        assert found
        order = ImportOrder(
            incoming=transfer_id,
            manifest_etag=found.etag,
            envelope_sha256=hashlib.sha256(raw).hexdigest(),
            runs_at_once=5,
            hashes_at_once=8,
            release_timeout_s=600,
            check_timeout_s=600,
        )
        self.imports += 1
        host = Host(self.target, start=START + timedelta(minutes=5 * self.imports))
        outcome = host.run("import_bundle", dump(order), f"import{self.imports:04d}")
        name = str(outcome["receipt"]).removeprefix("receipts/")
        self.source_blobs.put("receipts", name, self.target_blobs.containers["receipts"][name].content)
        return name

    def receive(self, name: str) -> State | None:
        return receive(self.source, name, now=LATER)

    @property
    def journal(self) -> Journal:
        return JournalStore(self.source_blobs, self.source.projection).read(Kind.TRANSFERS, TRANSFER_ID)


def flip_first_byte(blobs: MemoryBlobs) -> None:
    content = blobs.containers["incoming"][f"{TRANSFER_ID}/001"].content
    blobs.upload("incoming", f"{TRANSFER_ID}/001", bytes([content[0] ^ 0xFF]) + content[1:])


def test_receipt_of_an_import_closes_the_transfer_as_delivered() -> None:
    gap = Gap()
    name = gap.carry()
    assert gap.receive(name) is State.DELIVERED
    last = gap.journal.last
    assert last is not None
    assert last.facts["receipt"] == f"receipts/{name}"
    assert gap.journal.is_final
    assert gap.receive(name) is State.DELIVERED  # the event comes again
    assert len([entry for entry in gap.journal.entries if entry.state is State.DELIVERED]) == 1


def test_receipt_whose_event_was_missed_is_read_by_the_reconciler() -> None:
    gap = Gap()
    gap.carry()
    asyncio.run(Reconciler(gap.source, DurableClient(), LATER).run())
    assert gap.journal.state is State.DELIVERED


def reconcile(gap: Gap, now: datetime) -> State | None:
    asyncio.run(Reconciler(gap.source, DurableClient(), now).run())
    return gap.journal.state


@pytest.mark.parametrize("spoil", [None, flip_first_byte])
def test_transfer_without_a_receipt_expires_two_weeks_after_its_bundle_and_one_that_comes_late_counts(
    spoil: Callable[[MemoryBlobs], None] | None,
) -> None:
    gap = Gap()
    sealed = gap.journal.newest(State.SEALED)
    assert sealed is not None
    last = parse_time(sealed.facts["bundle"]["expiresAt"]) + timedelta(days=14)
    before = State.SEALED
    if spoil is not None:
        gap.receive(gap.carry(spoil))
        before, last = State.DAMAGED, LATER + timedelta(days=14)
    assert reconcile(gap, last) is before
    assert reconcile(gap, last + timedelta(seconds=1)) is State.EXPIRED
    assert not gap.journal.is_final
    gap.carry()
    assert reconcile(gap, last + timedelta(days=1)) is State.DELIVERED


def test_receipt_is_read_however_many_newer_transfers_wait_for_theirs() -> None:
    gap = Gap()
    journals = JournalStore(gap.source_blobs, gap.source.projection)
    gap.carry()
    states = ("requested", "planned", "exporting", "hashing", "sealing", "sealed")
    for number in range(150):
        for state in states:
            at = START + timedelta(days=1, seconds=number)
            facts = {"channel": "prod"} if state == "requested" else {}
            journals.record(Kind.TRANSFERS, f"waiting{number:04d}", State(state), facts, by="app", at=at)
    for number in range(2):
        reconcile(gap, LATER + timedelta(days=2, minutes=5 * number))
    assert gap.journal.state is State.DELIVERED


def test_damage_is_told_and_the_transfer_is_delivered_after_it_was_mended() -> None:
    gap = Gap()
    damaged = gap.carry(flip_first_byte)
    assert gap.receive(damaged) is State.DAMAGED
    assert not gap.journal.is_final
    assert gap.receive(gap.carry()) is State.DELIVERED
    assert gap.receive(damaged) is State.DAMAGED  # late: what came after it stays
    assert gap.journal.state is State.DELIVERED


def test_refusal_is_told_and_an_import_after_all_as_well() -> None:
    gap = Gap()
    for_another = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], audience=["other.azurecr.io"])
    settings = gap.target.settings
    raised = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], order="rising", version=2)
    gap.target = replace(
        gap.target, settings=replace(settings, trust_policy=TrustPolicy.from_bytes(for_another))
    )
    assert gap.receive(gap.carry()) is State.REFUSED
    last = gap.journal.last
    assert last is not None
    assert last.facts["code"] == Code.AUDIENCE_MISMATCH.name
    assert gap.journal.is_final
    gap.target = replace(gap.target, settings=replace(settings, trust_policy=TrustPolicy.from_bytes(raised)))
    assert gap.receive(gap.carry()) is State.DELIVERED


def test_second_push_of_an_imported_bundle_does_not_turn_the_transfer_into_a_refused_one() -> None:
    gap = Gap()
    gap.carry()
    replay = gap.carry()
    assert gap.receive(replay) is None
    assert gap.journal.state is State.SEALED


def test_receipt_forged_altered_or_of_an_unknown_key_closes_nothing() -> None:
    gap = Gap()
    name = gap.carry()
    envelope = Envelope.from_bytes(gap.source_blobs.containers["receipts"][name].content)
    forgeries = {
        "foreign": Envelope.sign(envelope.payload, [new_key().signer]).to_bytes(),
        "junk": b"{}",
        "payload": replace(envelope, payload=envelope.payload.replace(b"target", b"tarpet")).to_bytes(),
    }
    for forged, content in forgeries.items():
        gap.source_blobs.put("receipts", f"{TRANSFER_ID}/{forged}.dsse.json", content)
        assert gap.receive(f"{TRANSFER_ID}/{forged}.dsse.json") is None
    assert gap.journal.state is State.SEALED


def test_receipt_of_another_transfer_under_this_ones_name_closes_nothing() -> None:
    gap = Gap()
    name = gap.carry()
    other = "fedcba9876543210fedcba9876543210"
    run(Host(gap.source), "team/app:v1", transfer_id=other)
    content = gap.source_blobs.containers["receipts"][name].content
    gap.source_blobs.put("receipts", f"{other}/planted.dsse.json", content)
    assert gap.receive(f"{other}/planted.dsse.json") is None
    journals = JournalStore(gap.source_blobs, gap.source.projection)
    assert journals.read(Kind.TRANSFERS, other).state is State.SEALED


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"manifest_sha256": "0" * 64}, "it speaks of another bundle manifest"),
        ({"target": "third.azurecr.us"}, "the bundle was not made for third.azurecr.us"),
    ],
)
def test_receipt_for_another_bundle_or_of_another_registry_closes_nothing(
    change: dict[str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is genuine, and the channel serves that registry, too; but it is not about this transfer."""
    gap = Gap()
    name = gap.carry()
    receipt = Receipt.from_bytes(
        Envelope.from_bytes(gap.source_blobs.containers["receipts"][name].content).payload
    )
    served = make_policy(
        [default_key()],
        receipt_keys=[RECEIPT_KEY],
        order="rising",
        audience=[receipt.target, "third.azurecr.us"],
        version=2,
    )
    settings = SourceSettings.from_environment(ENVIRONMENT | {"TRUST_POLICY": served.decode()})
    gap.source = replace(gap.source, settings=settings)
    other = replace(receipt, **change)  # type: ignore[arg-type]  # each a text
    content = Envelope.sign(other.to_bytes(), [RECEIPT_KEY.signer]).to_bytes()
    gap.source_blobs.put("receipts", f"{TRANSFER_ID}/other.dsse.json", content)
    assert gap.receive(f"{TRANSFER_ID}/other.dsse.json") is None
    assert gap.journal.state is State.SEALED
    assert why in caplog.text
    assert gap.receive(name) is State.DELIVERED


@pytest.mark.parametrize(
    "name", ["../x.dsse.json", "UPPER000/x", "unknown00000/x.dsse.json", f"{TRANSFER_ID}/../x", "x"]
)
def test_receipt_under_a_name_of_no_transfer_is_left_alone(name: str) -> None:
    gap = Gap()
    gap.source_blobs.upload("receipts", name, b"x")
    assert gap.receive(name) is None


def test_receipt_that_is_gone_again_decides_nothing() -> None:
    gap = Gap()
    assert gap.receive(f"{TRANSFER_ID}/gone.dsse.json") is None


def test_storage_that_is_away_is_not_taken_for_a_bad_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    gap = Gap()
    name = gap.carry()

    def away(*_: object, **__: object) -> bytes:
        raise ServiceError(Code.SERVICE_UNREACHABLE, "blob storage")

    monkeypatch.setattr(gap.source_blobs, "read", away)
    with pytest.raises(ServiceError):
        gap.receive(name)


# --- several registries -------------------------------------------------------------------------------------

BOTH = (*AUDIENCE, "second.azurecr.io")


def answered_by(gap: Gap, name: str, target: str, **more: object) -> str:
    """The receipt of that name, as another registry of the audience would have signed it; its own name."""
    raw = Envelope.from_bytes(gap.source_blobs.containers["receipts"][name].content)
    other = replace(Receipt.from_bytes(raw.payload), target=target, **more)  # type: ignore[arg-type]
    second = f"{TRANSFER_ID}/{hashlib.sha256(other.to_bytes()).hexdigest()[:16]}.dsse.json"
    gap.source_blobs.put("receipts", second, Envelope.sign(other.to_bytes(), [RECEIPT_KEY.signer]).to_bytes())
    return second


@pytest.fixture
def two() -> tuple[Gap, str, str]:
    """A transfer to two registries, and the receipts of both for it, which nobody has read yet."""
    policy = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], audience=BOTH, order="rising")
    gap = Gap(BOTH, policy)
    name = gap.carry()
    return gap, name, answered_by(gap, name, BOTH[1])


def test_receipt_of_one_registry_delivers_nothing_to_another_and_each_is_told(
    two: tuple[Gap, str, str],
) -> None:
    gap, first, second = two
    assert gap.receive(first) is State.PARTLY_DELIVERED
    told = dump(describe(gap.journal))
    assert [(one["registry"], one["verdict"]) for one in told["answers"]] == [
        (BOTH[0], "imported"),
        (BOTH[1], None),
    ]
    assert can_be_voided(gap.journal)
    assert gap.receive(first) is State.PARTLY_DELIVERED  # the event comes again
    assert gap.receive(second) is State.DELIVERED
    assert [one["verdict"] for one in dump(describe(gap.journal))["answers"]] == [
        "imported",
        "imported",
    ]
    assert not can_be_voided(gap.journal)


def test_registry_that_refused_is_told_whatever_the_other_says(two: tuple[Gap, str, str]) -> None:
    gap, first, second = two
    refused = answered_by(
        gap, second, BOTH[1], verdict=ReceiptVerdict.REFUSED, code=Code.EXPIRED, ledger=None
    )
    assert gap.receive(refused) is State.REFUSED
    assert gap.receive(first) is State.REFUSED
    assert can_be_voided(gap.journal)
    assert [one["verdict"] for one in dump(describe(gap.journal))["answers"]] == ["imported", "refused"]
    assert gap.receive(second) is State.DELIVERED


def test_two_receipts_that_are_read_at_once_deliver_it(
    two: tuple[Gap, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gap, first, second = two
    record = JournalStore.record
    begun: list[State | None] = []

    def record_after_the_other(self: JournalStore, *args: object, **more: object) -> Journal:
        if not begun:
            begun.append(None)
            begun.append(gap.receive(second))
        return record(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(JournalStore, "record", record_after_the_other)
    assert gap.receive(first) is State.DELIVERED
    assert begun[1] is State.PARTLY_DELIVERED
    assert gap.journal.state is State.DELIVERED


def test_app_that_died_between_two_answers_and_what_they_come_to_says_so_later(
    two: tuple[Gap, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gap, first, second = two
    with monkeypatch.context() as patch:
        patch.setattr("function_app.source.receiving.state_after", lambda *_: State.PARTLY_DELIVERED)
        patch.setattr("function_app.source.receiving.state_by_answers", lambda _: None)
        gap.receive(first)
        gap.receive(second)
    assert gap.journal.state is State.PARTLY_DELIVERED
    assert reconcile(gap, LATER) is State.DELIVERED


def test_one_that_never_answers_lets_it_expire_and_counts_when_it_does(two: tuple[Gap, str, str]) -> None:
    gap, first, second = two
    content = gap.source_blobs.containers["receipts"].pop(second).content
    gap.receive(first)
    last = LATER + timedelta(days=15)  # so long after the last word
    assert reconcile(gap, last) is State.EXPIRED
    assert reconcile(gap, last) is State.EXPIRED
    gap.source_blobs.put("receipts", second, content)
    assert reconcile(gap, last) is State.DELIVERED


def test_import_of_one_registry_after_the_void_is_on_record_and_the_number_stays_given_up(
    two: tuple[Gap, str, str],
) -> None:
    gap, first, second = two
    void_transfer(gap.source, gap.journal, reason="lost", by="caller", now=LATER)
    (void,) = [name for name in gap.source_blobs.names("ledger") if name.startswith("voids/")]
    gap.source_blobs.delete("ledger", void)  # as if the app had died before it was entered
    assert gap.receive(first) is State.PARTLY_DELIVERED
    assert void in gap.source_blobs.names("ledger")
    refused = answered_by(
        gap, second, BOTH[1], verdict=ReceiptVerdict.REFUSED, code=Code.SEQUENCE_VOID, ledger=None
    )
    assert gap.receive(refused) is None
    assert dump(describe(gap.journal))["void"]["reason"] == "lost"
    assert gap.receive(second) is State.DELIVERED


@pytest.mark.parametrize(("days", "state"), [(59, State.DELIVERED), (61, State.REFUSED)])
def test_answers_whose_event_was_missed_after_a_refusal_are_read_while_it_is_young(
    two: tuple[Gap, str, str], days: int, state: State
) -> None:
    gap, _, second = two
    more = {"verdict": ReceiptVerdict.REFUSED, "code": Code.EXPIRED, "ledger": None}
    assert gap.receive(answered_by(gap, second, BOTH[1], **more)) is State.REFUSED
    first = gap.journal.first
    assert first is not None
    assert reconcile(gap, first.at + timedelta(days=days)) is state


def test_what_expired_before_damage_was_told_expires_again() -> None:
    """The registries that had answered are the same both times."""
    policy = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], audience=BOTH, order="rising")
    gap = Gap(BOTH, policy)
    first = gap.carry()
    gap.receive(first)
    assert reconcile(gap, LATER + timedelta(days=15)) is State.EXPIRED
    journals = JournalStore(gap.source_blobs, gap.source.projection)
    journals.record(
        Kind.TRANSFERS, gap.journal.about, State.PARTLY_DELIVERED, {}, by="app", at=LATER + timedelta(days=16)
    )
    assert reconcile(gap, LATER + timedelta(days=31)) is State.EXPIRED


def test_what_is_partly_delivered_after_its_time_expires_again() -> None:
    three = (*BOTH, "third.azurecr.io")
    policy = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], audience=three, order="rising")
    gap = Gap(three, policy)
    first = gap.carry()
    gap.receive(first)
    assert reconcile(gap, LATER + timedelta(days=15)) is State.EXPIRED
    answered_by(gap, first, three[1])
    assert reconcile(gap, LATER + timedelta(days=16)) is State.PARTLY_DELIVERED
    assert reconcile(gap, LATER + timedelta(days=31)) is State.EXPIRED
