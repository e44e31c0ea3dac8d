"""Break-glass at the target: one bundle is let in for once, and everybody can see by whom and why."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from airgap.errors import Code, ServiceError
from airgap.override import Override, override_name
from airgap.parts import MIN_PART_SIZE_BYTES
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from tests.airgap.test_override import with_overriders
from tests.bundles import AUDIENCE, CHANNEL, Bundle, SigningKey, make_bundle
from tests.function_app.memory import START
from tests.function_app.test_import import POLICY, Target
from tests.policies import ADA, BOB

PERMITTING = with_overriders(POLICY)
NOW = START + timedelta(hours=1)


def late(sequence: int = 1, **more: Any) -> Bundle:
    """A bundle that has expired."""
    more.setdefault("created_at", START - timedelta(days=10))
    more.setdefault("lifetime", timedelta(days=2))
    sizes = (MIN_PART_SIZE_BYTES + 10, 500)
    return make_bundle(sequence=sequence, policy_json=PERMITTING, blob_sizes=sizes, **more)


def permit(
    target: Target,
    bundle: Bundle,
    *lifts: Code,
    keys: tuple[SigningKey, ...] = (ADA, BOB),
    until: datetime = NOW + timedelta(days=1),
    under: str | None = None,
) -> bytes:
    override = Override(
        manifest_sha256=bundle.manifest_sha256,
        channel=CHANNEL,
        target=AUDIENCE[0],
        lifts=frozenset(lifts),
        reason="the courier was held up",
        expires_at=until,
    )
    raw = override.sign([key.signer for key in keys]).to_bytes()
    target.blobs.upload("policy", override_name(under or bundle.manifest_sha256), raw)
    return raw


def test_expired_bundle_is_imported_once_by_an_override_and_that_is_on_record() -> None:
    target, bundle = Target(PERMITTING), late()
    assert target.receive(bundle)["code"] == "EXPIRED"
    raw = permit(target, bundle, Code.EXPIRED)
    outcome = target.receive(bundle)
    assert outcome["outcome"] == "imported"
    receipt = target.receipt(outcome)
    assert receipt.override is not None
    assert (receipt.override.lifts, receipt.override.reason) == (("EXPIRED",), "the courier was held up")
    assert sorted(one.keyid for one in receipt.override.signers) == sorted([ADA.keyid, BOB.keyid])
    journal = JournalStore(target.side.blobs, target.side.projection).read(Kind.IMPORTS, "import0002")
    proven = journal.newest(State.PROVEN)
    assert proven is not None
    assert proven.facts["override"] == receipt.override.to_json()
    kept = [name for name in target.blobs.names("ledger") if name.startswith("overrides/")]
    assert [target.blobs.containers["ledger"][name].content for name in kept] == [raw]


def test_override_lets_nothing_in_a_second_time() -> None:
    target, bundle = Target(PERMITTING), late()
    permit(target, bundle, Code.EXPIRED)
    assert target.receive(bundle)["outcome"] == "imported"
    assert target.receive(bundle)["code"] == "REPLAYED"
    assert len(target.numbers()) == 1


def test_bundle_in_time_needs_no_override_and_tells_none() -> None:
    target, bundle = Target(PERMITTING), late(created_at=START)
    permit(target, bundle, Code.EXPIRED)
    assert target.receipt(target.receive(bundle)).override is None
    assert not [name for name in target.blobs.names("ledger") if name.startswith("overrides/")]


def test_override_for_another_rule_does_not_help() -> None:
    target, bundle = Target(PERMITTING), late()
    permit(target, bundle, Code.TOO_OLD, Code.SEQUENCE_GAP, Code.OUT_OF_ORDER)
    receipt = target.assert_refused(target.receive(bundle), Code.EXPIRED)
    assert receipt.override is None


@pytest.mark.parametrize(
    "more",
    [
        {"keys": (ADA,)},
        {"until": NOW},
    ],
    ids=["signed by one", "over"],
)
def test_override_that_does_not_count_lets_nothing_in(more: dict[str, Any]) -> None:
    target, bundle = Target(PERMITTING), late()
    permit(target, bundle, Code.EXPIRED, **more)
    target.assert_refused(target.receive(bundle), Code.EXPIRED)
    assert target.pipelines.requests == {}


def test_override_of_another_bundle_under_its_name_lets_nothing_in() -> None:
    target, bundle = Target(PERMITTING), late()
    permit(target, late(seed=2), Code.EXPIRED, under=bundle.manifest_sha256)
    target.assert_refused(target.receive(bundle), Code.EXPIRED)


@pytest.mark.parametrize("garbage", [b"", b"{}", b" " * 300_000], ids=len)
def test_garbage_in_place_of_an_override_stops_nothing(garbage: bytes) -> None:
    target, bundle = Target(PERMITTING), late()
    target.blobs.upload("policy", override_name(bundle.manifest_sha256), garbage)
    target.assert_refused(target.receive(bundle), Code.EXPIRED)
    good = late(created_at=START)
    target.blobs.upload("policy", override_name(good.manifest_sha256), garbage)
    assert target.receive(good)["outcome"] == "imported"


def test_storage_that_does_not_answer_is_no_absent_override(monkeypatch: pytest.MonkeyPatch) -> None:
    target, bundle = Target(PERMITTING), late()
    permit(target, bundle, Code.EXPIRED)
    read, away = target.blobs.read, [True, True]

    def flaky(container: str, name: str, **more: Any) -> bytes | None:
        if name.startswith("overrides/") and away:
            away.pop()
            raise ServiceError(Code.SERVICE_UNREACHABLE, "storage")
        return read(container, name, **more)

    monkeypatch.setattr(target.blobs, "read", flaky)
    assert target.receive(bundle)["outcome"] == "imported"


def test_late_number_is_imported_by_an_override_of_order() -> None:
    target = Target(PERMITTING)
    first = late(1, created_at=START)
    third = late(3, created_at=START, transfer_id="transfer0003")
    second = late(
        2, created_at=START, transfer_id="transfer0002", previous_sha256=first.manifest_sha256, seed=5
    )
    for bundle in (first, third):
        assert target.receive(bundle)["outcome"] == "imported"
    assert target.receive(second)["code"] == "OUT_OF_ORDER"
    permit(target, second, Code.OUT_OF_ORDER)
    outcome = target.receive(second)
    assert outcome["outcome"] == "imported"
    override = target.receipt(outcome).override
    assert override is not None
    assert override.lifts == ("OUT_OF_ORDER",)


def test_override_lifts_no_damage() -> None:
    target, bundle = Target(PERMITTING), late()
    permit(target, bundle, Code.EXPIRED)
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{bundle.transfer_id}/002", b"another content")
    assert target.run(raw)["code"] != "EXPIRED"
    assert target.numbers() == []
    assert target.pipelines.requests == {}
