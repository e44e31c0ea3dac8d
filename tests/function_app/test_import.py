"""The target under attack. ``Target`` is one in memory; what happens to it is said by each test's name."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code
from airgap.manifest import ENVELOPE_NAME
from airgap.parts import MIN_PART_SIZE_BYTES
from airgap.policy import TrustPolicy
from airgap.receipt import LedgerPosition, Receipt, ReceiptVerdict, verify_receipt
from airgap.states import Kind, State
from function_app.journal.store import JournalStore
from function_app.messages import dump
from function_app.ports import BlobStat
from function_app.storage.door import Door
from function_app.target.wire import ImportOrder
from tests.bundles import (
    CHANNEL,
    TRANSFER_ID,
    Bundle,
    default_key,
    make_bundle,
    make_policy,
    new_key,
)
from tests.function_app.memory import (
    START,
    Host,
    MemoryPipelines,
    MemoryRegistry,
    failed,
    make_target,
    succeeded,
)

RECEIPT_KEY = new_key()
POLICY = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], order="rising")


def bundle_of(**more: Any) -> Bundle:
    more.setdefault("blob_sizes", (MIN_PART_SIZE_BYTES + 10, 500))
    return make_bundle(created_at=START, policy_json=POLICY, **more)


class Target:
    """A target, and what somebody uploaded to it."""

    def __init__(self, policy_json: bytes = POLICY) -> None:
        self.side, self.blobs = make_target(policy_json, key=RECEIPT_KEY)
        self.policy_json = policy_json
        self.host = Host(self.side, start=START + timedelta(hours=1))
        assert isinstance(self.side.pipelines, MemoryPipelines)
        self.pipelines = self.side.pipelines
        assert isinstance(self.side.registry, MemoryRegistry)
        self.registry = self.side.registry
        self.instances = 0
        self.release_timeout_s = 3600

    def upload(self, bundle: Bundle, *, folder: str | None = None, envelope: bytes | None = None) -> bytes:
        """As the mover does; the import "works": its artifacts are in the registry."""
        folder = folder or bundle.transfer_id
        for name, content in bundle.blobs.items():
            self.blobs.upload("incoming", f"{folder}/{name}", content)
        for artifact in bundle.manifest.artifacts:
            self.registry.manifests[artifact.repository, artifact.digest] = (artifact.media_type, {})
            for tag in artifact.tags:
                self.registry.tags[artifact.repository, tag] = artifact.digest
        raw = bundle.envelope if envelope is None else envelope
        self.blobs.upload("incoming", f"{folder}/{ENVELOPE_NAME}", raw)
        return raw

    def run(self, raw: bytes, *, folder: str = TRANSFER_ID, instance: str | None = None) -> dict[str, Any]:
        self.instances += 1
        found = self.blobs.stat("incoming", f"{folder}/{ENVELOPE_NAME}")
        order = ImportOrder(
            incoming=folder,
            manifest_etag=found.etag if found else "gone",
            envelope_sha256=hashlib.sha256(raw).hexdigest(),
            runs_at_once=5,
            hashes_at_once=8,
            release_timeout_s=self.release_timeout_s,
            is_staged=self.side.staged is not None,
            check_timeout_s=3600,
        )
        return self.host.run("import_bundle", dump(order), instance or f"import{self.instances:04d}")

    def receive(self, bundle: Bundle, **more: Any) -> dict[str, Any]:
        folder = more.get("folder") or bundle.transfer_id
        return self.run(self.upload(bundle, **more), folder=folder)

    def receipt(self, outcome: Mapping[str, Any]) -> Receipt:
        name = outcome["receipt"].removeprefix("receipts/")
        return verify_receipt(
            self.blobs.containers["receipts"][name].content,
            policy=TrustPolicy.from_bytes(self.policy_json),
            channel=CHANNEL,
            now=datetime.now(UTC),
        )

    @staticmethod
    def sha256_of(bundle: Bundle) -> str:
        return hashlib.sha256(bundle.envelope).hexdigest()

    def numbers(self) -> list[str]:
        return [name for name in self.blobs.names("ledger") if name.startswith(f"{CHANNEL}/")]

    def assert_damaged(self, outcome: Mapping[str, Any], code: Code, *, held: Sequence[str]) -> Receipt:
        """Nothing was imported or left importable; these blobs are held; the receipt says what is damaged."""
        assert outcome["code"] == code.name, outcome
        assert self.blobs.names("incoming") == [f"{TRANSFER_ID}/{name}" for name in held]
        assert self.blobs.names("transfer") == []
        receipt = self.receipt(outcome)
        assert (receipt.code, receipt.verdict) == (code, ReceiptVerdict.DAMAGED)
        return receipt

    def assert_refused(self, outcome: Mapping[str, Any], code: Code) -> Receipt:
        """Nothing was imported or left importable; the upload is in quarantine; the receipt says why."""
        assert outcome["code"] == code.name, outcome
        assert self.blobs.names("incoming") == []
        assert self.blobs.names("transfer") == []
        assert self.blobs.names("quarantine")
        receipt = self.receipt(outcome)
        assert receipt.code is code
        return receipt


def test_bundle_is_imported_proven_and_answered_by_a_signed_receipt() -> None:
    target, bundle = Target(), bundle_of()
    outcome = target.receive(bundle)
    receipt = target.receipt(outcome)
    assert receipt.is_imported
    assert receipt.manifest_sha256 == bundle.manifest_sha256
    assert receipt.policy_version == 1
    (number,) = target.numbers()
    entry = target.blobs.containers["ledger"][number].content
    assert receipt.ledger == LedgerPosition(name=number, sha256=hashlib.sha256(entry).hexdigest())
    assert all(proof.is_proven for proof in receipt.artifacts)
    assert [request["source"]["name"] for request in target.pipelines.requests.values()] == [
        f"{CHANNEL}/{bundle.manifest_sha256}/001",
        f"{CHANNEL}/{bundle.manifest_sha256}/002",
    ]
    assert outcome["closing"] == "closed"
    assert target.blobs.names("incoming") == target.blobs.names("transfer") == []
    assert [name.split("/")[0] for name in target.blobs.names("ledger")] == [
        "envelopes",
        "policies",
        CHANNEL,
    ]


def test_promoted_copy_carries_the_signed_metadata_and_md5_whatever_the_upload_had() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    for name, content in bundle.blobs.items():
        target.blobs.put("incoming", f"{TRANSFER_ID}/{name}", content)  # neither metadata nor MD5
    copies: list[BlobStat | None] = []

    def import_run(request: Mapping[str, Any]) -> dict[str, Any]:
        copies.append(target.blobs.stat("transfer", request["source"]["name"]))
        return succeeded()

    target.pipelines.work = import_run
    assert target.run(raw)["outcome"] == "imported"
    for blob, copy in zip(bundle.manifest.blobs, copies, strict=True):
        assert copy is not None
        assert copy.content_md5 == blob.content_md5
        assert copy.metadata["category"] == "acr-transfer-blob"


def test_slow_copy_is_waited_for_and_not_started_twice() -> None:
    target, bundle = Target(), bundle_of()
    target.blobs.polls_per_copy = 5
    assert target.receive(bundle)["outcome"] == "imported"
    assert target.blobs.copies_started == 4  # two blobs, into custody and to where they are imported from


def replaced_payload(bundle: Bundle) -> bytes:
    other = make_bundle(seed=2, blob_sizes=(10,), policy_json=POLICY)
    return replace(Envelope.from_bytes(bundle.envelope), payload=other.payload).to_bytes()


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (lambda b: Envelope.sign(b.payload, [new_key().signer]).to_bytes(), Code.SIGNER_UNKNOWN),
        (lambda b: b.envelope.replace(b"payloadType", b"payloadtype"), Code.ENVELOPE_MALFORMED),
        (lambda _: b"<html>", Code.ENVELOPE_MALFORMED),
        (lambda _: b"", Code.ENVELOPE_MALFORMED),
        (lambda _: b"\x00" * (MAX_ENVELOPE_BYTES + 1), Code.TOO_LARGE),
        (replaced_payload, Code.SIGNATURE_INVALID),
    ],
    ids=["unknown key", "other member", "not JSON", "empty", "too large", "payload swapped"],
)
def test_manifest_that_no_trusted_key_signed_is_refused_unparsed(
    forge: Callable[[Bundle], bytes], code: Code
) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle, envelope=forge(bundle))
    receipt = target.assert_refused(target.run(raw), code)
    assert receipt.transfer_id is None
    assert receipt.envelope_sha256 == hashlib.sha256(raw).hexdigest()
    assert target.numbers() == []
    assert target.pipelines.requests == {}


@pytest.mark.parametrize(
    ("bundle", "code"),
    [
        ({"audience": ["other.azurecr.io"]}, Code.AUDIENCE_MISMATCH),
        ({"lifetime": timedelta(seconds=60)}, Code.EXPIRED),
    ],
    ids=["another registry", "expired"],
)
def test_trusted_manifest_that_is_not_for_here_and_now_is_refused_by_name(
    bundle: dict[str, Any], code: Code
) -> None:
    target = Target()
    receipt = target.assert_refused(target.receive(bundle_of(**bundle)), code)
    assert receipt.transfer_id == TRANSFER_ID
    assert target.numbers() == []


def test_holder_of_a_key_has_no_transfer_refused_by_name_in_a_channel_that_is_not_his() -> None:
    target = Target()
    receipt = target.assert_refused(target.receive(bundle_of(channel="dev")), Code.CHANNEL_UNKNOWN)
    assert (receipt.transfer_id, receipt.manifest_sha256, receipt.signers) == (None, None, ())


def test_manifest_from_the_future_is_refused() -> None:
    target = Target()
    target.host.now = START - timedelta(hours=1)
    target.assert_refused(target.receive(bundle_of()), Code.NOT_YET_VALID)


def test_manifest_under_the_path_of_another_transfer_is_refused() -> None:
    target = Target()
    outcome = target.receive(bundle_of(), folder="another0001")
    target.assert_refused(outcome, Code.BLOB_MISMATCH)


def test_replayed_bundle_is_refused_and_imported_only_once() -> None:
    target, bundle = Target(), bundle_of()
    assert target.receive(bundle)["outcome"] == "imported"
    target.assert_refused(target.receive(bundle), Code.REPLAYED)
    assert len(target.pipelines.requests) == 2


def test_second_bundle_under_a_used_number_raises_the_alarm() -> None:
    target = Target()
    assert target.receive(bundle_of())["outcome"] == "imported"
    other = bundle_of(seed=9, transfer_id="another0001")
    target.assert_refused(target.receive(other), Code.SEQUENCE_REUSED)


def test_older_bundle_than_the_last_is_refused_and_a_gap_is_put_on_record() -> None:
    target = Target()
    outcome = target.receive(bundle_of(sequence=3))
    assert target.receipt(outcome).missing_sequences == (1, 2)
    late = bundle_of(sequence=2, seed=5, transfer_id="another0001")
    target.assert_refused(target.receive(late), Code.OUT_OF_ORDER)


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def test_all_damage_is_listed_and_the_same_bundle_is_imported_after_a_new_push() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", flip(bundle.blobs["001"], MIN_PART_SIZE_BYTES + 3))
    target.blobs.delete("incoming", f"{TRANSFER_ID}/002")
    receipt = target.assert_damaged(target.run(raw), Code.PART_MISSING, held=["001"])
    found = {(damage.name, damage.code) for damage in receipt.damages}
    assert found == {
        ("001/00000002.part", Code.PART_CORRUPT),
        ("002/00000001.part", Code.PART_MISSING),
    }
    assert receipt.damage_count == 2
    assert receipt.ledger is None
    assert target.numbers() == []
    assert target.receive(bundle)["outcome"] == "imported"


def test_two_parts_that_changed_places_are_both_found() -> None:
    target = Target()
    bundle = bundle_of(blob_sizes=(2 * MIN_PART_SIZE_BYTES,))
    raw = target.upload(bundle)
    content = bundle.blobs["001"]
    swapped = content[MIN_PART_SIZE_BYTES:] + content[:MIN_PART_SIZE_BYTES]
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", swapped)
    receipt = target.assert_damaged(target.run(raw), Code.PART_CORRUPT, held=["001"])
    assert [damage.name for damage in receipt.damages] == ["001/00000001.part", "001/00000002.part"]


@pytest.mark.parametrize(
    ("size", "codes"),
    [
        (MIN_PART_SIZE_BYTES - 1, {Code.PART_TRUNCATED, Code.PART_MISSING}),
        (MIN_PART_SIZE_BYTES, {Code.PART_MISSING}),
        (MIN_PART_SIZE_BYTES + 5, {Code.PART_TRUNCATED}),
        (MIN_PART_SIZE_BYTES + 11, {Code.BLOB_MISMATCH}),
    ],
)
def test_blob_of_another_size_than_signed_is_damage(size: int, codes: set[Code]) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    content = bundle.blobs["001"].ljust(size, b"\0")[:size]
    target.blobs.upload("incoming", f"{TRANSFER_ID}/001", content)
    outcome = target.run(raw)
    receipt = target.receipt(outcome)
    assert {damage.code for damage in receipt.damages} == codes
    assert target.numbers() == []


@pytest.mark.parametrize("activity", ["hash_staged_parts", "promote_blob"])
def test_copy_in_custody_exchanged_under_the_hash_never_reaches_the_import_pipeline(activity: str) -> None:
    target, bundle = Target(), bundle_of(blob_sizes=(5000,))
    raw = target.upload(bundle)
    evil = flip(bundle.blobs["001"], 7)
    staged = f"{CHANNEL}/{bundle.manifest_sha256}/import0001/001"
    target.host.before[activity] = lambda: target.blobs.upload("staging", staged, evil)
    target.assert_refused(target.run(raw), Code.BLOB_CHANGED)
    assert target.pipelines.requests == {}


def test_manifest_exchanged_after_its_event_is_left_to_its_own_event() -> None:
    target, bundle = Target(), bundle_of()
    target.upload(bundle)
    assert target.run(b"what the event was about")["outcome"] == "superseded"
    assert target.blobs.names("receipts") == target.blobs.names("quarantine") == []
    assert f"{TRANSFER_ID}/{ENVELOPE_NAME}" in target.blobs.names("incoming")


def test_import_that_was_superseded_comes_to_no_decision_when_it_is_started_anew() -> None:
    """By an event that had looked before it ended; what lies there has been put back meanwhile."""
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    manifest = f"{TRANSFER_ID}/{ENVELOPE_NAME}"
    target.blobs.upload("incoming", manifest, b"exchanged")
    assert target.run(raw, instance="import0001")["outcome"] == "superseded"
    target.blobs.upload("incoming", manifest, raw)
    assert Door(target.blobs).enter("import0001", accepted=None)
    assert target.run(raw, instance="import0001")["outcome"] == "superseded"
    assert target.blobs.names("receipts") == target.blobs.names("quarantine") == []
    assert list(Door(target.blobs).held()) == []


def test_decision_about_an_arrival_that_could_not_be_recorded_has_a_journal_of_its_own() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)

    def denied() -> None:
        raise Exception("Activity function 'record_state' failed:  ServiceError: SERVICE_DENIED: journal")  # noqa: TRY002 - what the SDK raises

    target.host.before["record_state"] = denied
    outcome = target.run(raw, instance="import0001")
    journal = JournalStore(target.blobs, target.side.projection).read(Kind.IMPORTS, "import0001")
    assert [entry.state for entry in journal.entries] == [State.RECEIVED, State.FAILED, State.QUARANTINED]
    assert journal.entries[0].facts["envelopeSha256"] == hashlib.sha256(raw).hexdigest()
    assert target.receipt(outcome).code is Code.SERVICE_DENIED


def test_manifest_exchanged_after_its_admission_changes_nothing() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    target.host.before["accept_bundle"] = lambda: target.blobs.upload(
        "incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", b"forged"
    )
    assert target.run(raw)["outcome"] == "imported"


@pytest.mark.parametrize("activity", ["take_turn", "inspect_blobs", "accept_bundle"])
def test_kept_manifest_exchanged_for_another_that_is_signed_as_well_is_not_acted_on(activity: str) -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    kept = f"envelopes/{hashlib.sha256(raw).hexdigest()}.dsse.json"
    other = bundle_of(blob_sizes=(5000,)).envelope

    def exchange() -> None:
        assert target.blobs.read("ledger", kept, max_bytes=len(raw)) == raw
        target.blobs.put("ledger", kept, other)

    target.host.before[activity] = exchange
    outcome = target.run(raw)
    assert (outcome["outcome"], outcome["code"]) == ("failed", Code.BLOB_CHANGED.name)
    assert not target.pipelines.requests


def test_forgery_beside_a_running_import_is_put_away_alone() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    forged = Envelope.sign(bundle.payload, [new_key().signer]).to_bytes()

    def attack() -> None:
        target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", forged)
        outcome = target.run(forged, instance="theattack")
        assert outcome["code"] == "SIGNER_UNKNOWN"
        assert target.blobs.names("quarantine") == [f"{TRANSFER_ID}/theattack/{ENVELOPE_NAME}"]

    target.host.before["hash_staged_parts"] = attack
    assert target.run(raw, instance="thehonestone")["outcome"] == "imported"


def test_copy_beside_a_running_import_is_refused_and_does_not_disturb_it() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)

    def push_again() -> None:
        target.blobs.upload("incoming", f"{TRANSFER_ID}/{ENVELOPE_NAME}", raw)
        assert target.run(raw, instance="thesecond")["code"] == "REPLAYED"

    target.host.before["start_import_run"] = push_again
    assert target.run(raw, instance="thefirst")["outcome"] == "imported"


def test_failed_import_run_is_a_refusal_and_its_number_stays_used() -> None:
    target, bundle = Target(), bundle_of()
    target.pipelines.work = lambda _: failed("tag is locked")
    receipt = target.assert_refused(target.receive(bundle), Code.PIPELINE_RUN_FAILED)
    assert "tag is locked" in receipt.detail
    assert target.numbers() == [f"{CHANNEL}/0000000000000001.json"]
    assert receipt.verdict is ReceiptVerdict.PARTIAL
    assert receipt.ledger is not None
    assert receipt.ledger.name == f"{CHANNEL}/0000000000000001.json"
    replay = target.assert_refused(target.receive(bundle), Code.REPLAYED)
    assert (replay.verdict, replay.ledger) == (ReceiptVerdict.REFUSED, None)


def test_secret_in_a_runs_error_gets_into_no_history_journal_or_receipt() -> None:
    target = Target()
    target.pipelines.work = lambda _: failed(
        "403 at https://a.blob.core.windows.net/c?sv=1&sig=c2VjcmV0&sp=r"
    )
    outcome = target.receive(bundle_of())
    assert "403 at" in target.receipt(outcome).detail
    assert "c2VjcmV0" not in json.dumps(outcome)
    kept = [blob.content for container in target.blobs.containers.values() for blob in container.values()]
    assert not any(b"c2VjcmV0" in content or b"YzJWamNtVjA" in content for content in kept)
    assert "c2VjcmV0" not in target.receipt(outcome).detail


def test_run_that_succeeds_without_importing_everything_is_found_out() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle)
    del target.registry.tags["team/app001", "v1"]
    target.registry.manifests.pop(("team/app002", bundle.manifest.artifacts[1].digest))
    receipt = target.assert_refused(target.run(raw), Code.IMPORT_INCOMPLETE)
    assert [(proof.found, proof.missing_tags) for proof in receipt.artifacts] == [
        (bundle.manifest.artifacts[0].digest, ("v1",)),
        (None, ("v1",)),
    ]


@pytest.mark.parametrize(
    "activity",
    [
        *("admit_bundle", "inspect_blobs", "hash_staged_parts", "accept_bundle", "promote_blob"),
        *("start_import_run", "read_pipeline_run", "prove_artifacts", "issue_receipt", "clean_up"),
    ],
)
def test_storage_that_is_away_for_a_while_is_waited_for(activity: str) -> None:
    target = Target()
    target.host.broken[activity] = 11
    assert target.receive(bundle_of())["outcome"] == "imported"


def test_lasting_outage_ends_with_its_code_and_a_receipt() -> None:
    target, bundle = Target(), bundle_of()
    target.host.broken["inspect_blobs"] = 10**9
    target.assert_refused(target.receive(bundle), Code.SERVICE_UNREACHABLE)
    assert target.numbers() == []


def test_vault_that_is_away_for_days_costs_no_receipt() -> None:
    target = Target()
    target.host.broken["issue_receipt"] = 600
    outcome = target.receive(bundle_of())
    assert target.receipt(outcome).is_imported
    assert target.host.now - START > timedelta(days=7)


def test_receipt_that_can_never_be_signed_ends_with_a_code_and_leaves_what_it_is_made_from() -> None:
    target = Target()
    target.host.broken["issue_receipt"] = 10**9
    outcome = target.receive(bundle_of())
    assert outcome["outcome"] == "imported"
    assert outcome["receipt"] is None
    assert outcome["closingError"] == Code.SERVICE_UNREACHABLE.name
    assert any(name.startswith("plans/") for name in target.blobs.names("work"))


def test_receipt_that_cannot_be_signed_for_ten_days_holds_up_no_other_bundle_of_the_channel() -> None:
    target, first = Target(), bundle_of()
    second = bundle_of(sequence=2, seed=5, transfer_id="another0001", previous_sha256=first.manifest_sha256)
    between: list[dict[str, Any]] = []

    def import_the_second() -> None:
        target.host.broken.clear()
        between.append(target.receive(second))
        target.host.broken["issue_receipt"] = 10**9

    target.host.before["issue_receipt"] = import_the_second
    assert target.receive(first)["receipt"] is None
    assert [outcome["outcome"] for outcome in between] == ["imported"]
    assert not [name for name in target.blobs.names("work") if name.startswith("channels/")]


def test_channel_is_waited_for_while_another_bundle_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    target, bundle = Target(), bundle_of()
    turn = ("work", f"channels/{CHANNEL}/turn")
    target.blobs.put(*turn, b"the import of another")
    read, seen = target.blobs.read, []

    def read_and_free_the_turn_at_last(container: str, name: str, **more: Any) -> bytes | None:
        if (container, name) == turn:
            seen.append(target.blobs.names("transfer"))
            if len(seen) == 5:
                target.blobs.delete(*turn)
        return read(container, name, **more)

    monkeypatch.setattr(target.blobs, "read", read_and_free_the_turn_at_last)
    outcome = target.receive(bundle)
    assert outcome["outcome"] == "imported", outcome
    assert seen[:5] == [[]] * 5  # nothing was promoted while it waited
    assert target.blobs.in_work() == []  # the turn was given back


def test_dot_segments_in_an_uploaded_name_reach_nothing() -> None:
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle, envelope=b"junk")
    target.blobs.upload("incoming", f"{TRANSFER_ID}/../../ledger/{CHANNEL}/0000000000000001.json", b"x")
    outcome = target.run(raw)
    assert outcome["closing"] == "closed"
    assert [name for name in target.blobs.names("quarantine") if ".." in name] == []


def test_upload_of_a_thousand_files_is_quarantined_whole_the_manifest_last() -> None:
    target = Target()
    for number in range(1000):
        target.blobs.upload("incoming", f"junk0000/{number:04d}", b"x")
    target.blobs.upload("incoming", f"junk0000/{ENVELOPE_NAME}", b"junk")
    outcome = target.run(b"junk", folder="junk0000")
    assert outcome["closing"] == "closed"
    assert target.blobs.names("incoming") == []
    assert len(target.blobs.names("quarantine")) == 1001


@pytest.mark.parametrize("content", [None, b"no envelope"], ids=["imported", "refused"])
def test_place_at_the_door_is_given_back_when_all_is_done(content: bytes | None) -> None:
    """Were it kept, the twentieth refusal would be the last until the reconciler comes by."""
    target, bundle = Target(), bundle_of()
    raw = target.upload(bundle, envelope=content)
    assert Door(target.blobs).enter("theimport", accepted=None)
    target.run(raw, instance="theimport")
    assert list(Door(target.blobs).held()) == []
