"""A damaged upload: its blobs are held, only what is damaged comes again, and not for ever."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.journal import Journal
from airgap.manifest import ENVELOPE_NAME
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.target.import_status import describe
from function_app.target.orchestrators import CLOSE_IMPORT
from tests.bundles import CHANNEL, TRANSFER_ID, Bundle, make_policy, new_key
from tests.function_app.memory import START
from tests.function_app.test_import import POLICY, RECEIPT_KEY, Target, bundle_of, flip
from tests.function_app.test_reconciling import TargetRound

LONG_AFTER = datetime(2027, 1, 1, tzinfo=UTC)


def journal_of(target: Target, instance: str) -> Journal:
    return JournalStore(target.side.blobs, target.side.projection).read(Kind.IMPORTS, instance)


def held(target: Target) -> list[str]:
    return [name for name in target.blobs.names("work") if name.startswith("held/")]


def push_damaged(target: Target, bundle: Bundle, instance: str = "import0001") -> bytes:
    """The bundle is pushed whole, and one bit of its first blob flips on the way."""
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], 7))
    outcome = target.run(raw, instance=instance)
    target.assert_damaged(outcome, Code.PART_CORRUPT, held=["001", "002"])
    return raw


def send_again(target: Target, bundle: Bundle, *names: str) -> None:
    """Only these blobs come again, and the bundle manifest after them."""
    for name in names:
        target.blobs.upload("incoming", f"{TRANSFER_ID}/{name}", bundle.blobs[name])
    target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", bundle.envelope)


def test_only_the_damaged_blob_comes_again_and_the_bundle_is_imported() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = push_damaged(target, bundle)
    assert journal_of(target, "import0001").state is State.HELD
    send_again(target, bundle, "001")
    assert target.run(raw, instance="import0002")["outcome"] == "imported"
    assert journal_of(target, "import0001").state is State.SUPERSEDED
    assert journal_of(target, "import0001").entries[-1].facts == {"by": "import0002"}
    assert target.blobs.names("incoming") == held(target) == []


def test_bundle_that_is_damaged_again_is_held_again() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = push_damaged(target, bundle)
    send_again(target, bundle)
    target.assert_damaged(target.run(raw, instance="import0002"), Code.PART_CORRUPT, held=["001", "002"])
    assert [journal_of(target, f"import000{n}").state for n in (1, 2)] == [State.SUPERSEDED, State.HELD]
    send_again(target, bundle, "001")
    assert target.run(raw, instance="import0003")["outcome"] == "imported"


def test_blob_of_another_size_is_not_held_and_neither_is_what_was_never_signed() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/002", bundle.blobs["002"][:-1])
    target.blobs.upload("incoming", f"{TRANSFER_ID}/003", b"a stranger")
    target.assert_damaged(target.run(raw, instance="import0001"), Code.PART_TRUNCATED, held=["001"])
    assert {name.rpartition("/")[2] for name in target.blobs.names("quarantine")} == {
        *("002", "003", ENVELOPE_NAME)
    }


@pytest.mark.parametrize("content", [b"{", None])
def test_forgery_beside_what_is_held_takes_nothing_from_it(content: bytes | None) -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = push_damaged(target, bundle)
    forged = content or Envelope.sign(bundle.payload, [new_key().signer]).to_bytes()
    target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", forged)
    assert target.run(forged, instance="importforged")["outcome"] == "refused"
    assert target.blobs.names("incoming") == [f"{TRANSFER_ID}/001", f"{TRANSFER_ID}/002"]
    send_again(target, bundle, "001")
    assert target.run(raw, instance="import0002")["outcome"] == "imported"


def test_what_nobody_completes_in_time_is_put_away() -> None:
    found = TargetRound()
    target, bundle = found.target, bundle_of(blob_sizes=(5000, 600))
    push_damaged(target, bundle)
    (name,) = held(target)
    receipts = target.blobs.names("receipts")
    found.run(START + timedelta(days=29))
    assert held(target) == [name]
    found.run(LONG_AFTER)
    found.run(LONG_AFTER)
    assert held(target) == []
    (closing,) = found.client.instances
    order = found.client.instances[closing].input_
    assert target.host.run(CLOSE_IMPORT, order, closing)["closing"] == "closed"
    assert target.blobs.names("incoming") == []
    assert journal_of(target, "import0001").state is State.QUARANTINED
    assert target.blobs.names("receipts") == receipts
    found.run(LONG_AFTER)
    assert list(found.client.instances) == [closing]


def test_decision_that_is_delivered_again_late_holds_nothing_anew() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    push_damaged(target, bundle)
    before = target.blobs.names("work")
    (name,) = held(target)
    order = json.loads(target.blobs.containers["work"][name].content)["closing"]
    target.host.activity("record_decision", 1, order)
    assert target.blobs.names("work") == before


def test_status_says_until_when_the_damaged_parts_are_waited_for() -> None:
    target = Target()
    push_damaged(target, bundle_of(blob_sizes=(5000, 600)))
    body = dump(describe(journal_of(target, "import0001")))
    assert body["state"] == "held"
    assert body["heldUntil"] == "2026-12-23T09:00:00Z"


def test_what_is_held_is_the_next_imports_from_its_admission_on() -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000, 600))
    raw = push_damaged(target, bundle)
    send_again(target, bundle, "001")
    seen: list[object] = []

    def look() -> None:
        seen.extend([*held(target), journal_of(target, "import0001").state])

    target.host.before["inspect_blobs"] = look
    target.run(raw, instance="import0002")
    assert seen == [State.SUPERSEDED]


def test_bundle_of_another_channel_takes_nothing_from_what_is_held_under_its_name() -> None:
    """Whoever signs for one channel may give his bundle the name of another's."""
    key = new_key()
    policy = json.loads(POLICY)
    other = json.loads(make_policy([key], receipt_keys=[RECEIPT_KEY], order="rising"))
    policy["keys"] += [one for one in other["keys"] if one not in policy["keys"]]
    policy["channels"]["other"] = other["channels"][CHANNEL]
    target, bundle = Target(json.dumps(policy).encode()), bundle_of(blob_sizes=(5000, 600))
    raw = push_damaged(target, bundle)
    (hold,) = held(target)
    rival = bundle_of(channel="other", keys=[key], blob_sizes=(5000, 600), seed=2)
    rival_raw = target.upload(rival)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(rival.blobs["001"], 7))
    assert target.run(rival_raw, instance="importrival")["code"] == Code.PART_CORRUPT.name
    assert held(target) == [hold]
    assert journal_of(target, "import0001").state is State.HELD
    assert journal_of(target, "importrival").state is State.QUARANTINED
    assert target.upload(bundle) == raw
    assert target.run(raw, instance="import0002")["outcome"] == "imported"
    assert journal_of(target, "import0001").state is State.SUPERSEDED
