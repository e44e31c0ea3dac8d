from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airgap.errors import AirgapError, Code, ServiceError
from airgap.manifest import ENVELOPE_NAME
from airgap.parts import MAX_PARTS_PER_BLOB, PartRange
from airgap.receipt import ReceiptVerdict
from offline_mover.commands.push import block_id, push
from offline_mover.progress import Meter
from tests.bundles import SigningKey, make_bundle, make_policy, new_key
from tests.offline_mover.commands.test_receipts import LEDGER, imported, signed, target_key
from tests.offline_mover.conftest import Bench, flip
from tests.offline_mover.memory_container import HeldBlob, MemoryContainer


def refusal(bench: Bench, target: MemoryContainer) -> Code:
    with pytest.raises(AirgapError) as caught:
        bench.push(target)
    return caught.value.code


def names(bench: Bench, *blobs: str) -> set[str]:
    return {f"{bench.bundle.transfer_id}/{name}" for name in blobs}


@pytest.mark.parametrize("repeats_sends", [False, True])
def test_push_puts_the_blobs_together(loaded: Bench, *, repeats_sends: bool) -> None:
    target = MemoryContainer()
    target.repeats_sends = repeats_sends
    outcome = loaded.push(target)
    assert (outcome.code, outcome.counts["sentParts"], outcome.counts["skippedParts"]) == (None, 4, 0)
    for blob in loaded.bundle.manifest.blobs:
        held = target.blobs[f"{loaded.bundle.transfer_id}/{blob.name}"]
        assert held.content == loaded.bundle.blobs[blob.name]
        assert (held.content_md5, held.metadata) == (blob.content_md5, blob.metadata)
    assert target.blobs[f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}"].content == loaded.bundle.envelope


def test_manifest_is_written_last(loaded: Bench) -> None:
    target = MemoryContainer()
    order: list[str] = []
    target.before = lambda method, name: order.append(f"{method} {name.rpartition('/')[2]}")
    loaded.push(target)
    assert (
        order.index("commit 001") < order.index("commit 002") < order.index(f"create_small {ENVELOPE_NAME}")
    )
    assert order[-1] == f"create_small {ENVELOPE_NAME}"


def test_second_push_sends_nothing(loaded: Bench) -> None:
    target = MemoryContainer()
    loaded.push(target)
    staged = target.count("stage")
    outcome = loaded.push(target)
    assert (outcome.code, outcome.counts["sentParts"], outcome.counts["skippedParts"]) == (None, 0, 4)
    assert target.count("stage") == staged


def test_interrupted_push_goes_on_with_the_rest(loaded: Bench) -> None:
    target = MemoryContainer()

    def cut(method: str, _name: str) -> None:
        if method == "stage" and target.count("stage") == 3:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "unplugged")

    target.before = cut
    with pytest.raises(ServiceError):
        loaded.push(target, concurrency=1)
    assert target.blobs == {}
    target.before = lambda _method, _name: None
    outcome = loaded.push(target)
    assert (outcome.code, outcome.counts["sentParts"], outcome.counts["skippedParts"]) == (None, 2, 2)


def test_truncated_part_leaves_its_blob_uncommitted(loaded: Bench) -> None:
    os.truncate(loaded.part("001/00000003.part"), 10)
    target = MemoryContainer()
    outcome = loaded.push(target)
    assert [(damage.code, damage.name) for damage in outcome.damages] == [
        (Code.PART_TRUNCATED, "001/00000003.part")
    ]
    assert set(target.blobs) == names(loaded, "002")


def test_damage_in_every_blob_is_listed_and_no_bad_byte_is_staged(loaded: Bench) -> None:
    flip(loaded.part("001/00000001.part"), 4_194_303)
    loaded.part("001/00000002.part").unlink()
    flip(loaded.part("002/00000001.part"))
    target = MemoryContainer()
    outcome = loaded.push(target)
    assert [(damage.code.name, damage.name) for damage in outcome.damages] == [
        ("PART_CORRUPT", "001/00000001.part"),
        ("PART_MISSING", "001/00000002.part"),
        ("PART_CORRUPT", "002/00000001.part"),
    ]
    assert outcome.exit_code == Code.PART_MISSING.exit_code
    assert target.blobs == {}
    assert [len(blocks) for blocks in target.staged.values()] == [1]


def test_part_brought_again_is_all_that_is_sent(loaded: Bench) -> None:
    """A block id holds the digest of what was staged: a part that was bad is not taken for sent."""
    flip(loaded.part("001/00000002.part"), 12345)
    target = MemoryContainer()
    loaded.push(target)
    flip(loaded.part("001/00000002.part"), 12345)
    outcome = loaded.push(target)
    assert (outcome.code, outcome.counts["sentParts"]) == (None, 1)
    assert target.blobs[f"{loaded.bundle.transfer_id}/001"].content == loaded.bundle.blobs["001"]


def test_part_that_changes_between_opening_and_reading_is_caught(loaded: Bench) -> None:
    target = MemoryContainer()

    def shrink(method: str, name: str) -> None:
        if method == "stage" and name.endswith("002"):
            os.truncate(loaded.part("002/00000001.part"), 100)

    target.before = shrink
    outcome = loaded.push(target)
    assert [damage.name for damage in outcome.damages] == ["002/00000001.part"]
    assert f"{loaded.bundle.transfer_id}/002" not in target.blobs


def test_undeclared_file_stops_the_push_before_the_network(loaded: Bench) -> None:
    (loaded.bag / "data" / "003").mkdir()
    (loaded.bag / "data" / "003" / "00000001.part").write_bytes(b"smuggled")
    target = MemoryContainer()
    outcome = loaded.push(target)
    assert [(damage.code, damage.name) for damage in outcome.damages] == [
        (Code.UNDECLARED_FILE, "data/003/00000001.part")
    ]
    assert not target.calls


def test_bundle_by_an_unknown_key_stops_the_push_before_the_network(loaded: Bench) -> None:
    target = MemoryContainer()
    judge = Bench(make_bundle(keys=[new_key()]), loaded.volume)
    assert refusal(judge, target) is Code.SIGNER_UNKNOWN
    assert not target.calls


def test_other_manifest_in_the_storage_stops_the_push_before_it_sends(loaded: Bench) -> None:
    target = MemoryContainer()
    target.blobs[f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}"] = HeldBlob(content=b"another")
    assert refusal(loaded, target) is Code.BLOB_MISMATCH
    assert target.count("stage") == 0


@pytest.mark.parametrize("what", ["content", "size", "md5", "metadata", "order"])
def test_other_blob_in_the_storage_is_not_taken_for_ours(loaded: Bench, what: str) -> None:
    target = MemoryContainer()
    loaded.push(target)
    del target.blobs[f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}"]
    held = target.blobs[f"{loaded.bundle.transfer_id}/001"]
    match what:
        case "content":
            held.blocks = []  # uploaded by another tool: nothing proves what is in it
        case "size":
            held.content += b"x"
        case "md5":
            held.content_md5 = None
        case "metadata":
            held.metadata = {"category": "other"}
        case "order":
            held.blocks.reverse()
    assert refusal(loaded, target) is Code.BLOB_MISMATCH
    assert f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}" not in target.blobs


def test_metadata_names_differ_in_case_only(loaded: Bench) -> None:
    target = MemoryContainer()
    loaded.push(target)
    target.blobs[f"{loaded.bundle.transfer_id}/001"].metadata = {"Category": "acr-transfer-blob"}
    assert loaded.push(target).code is None


def test_lost_answer_to_the_commit_is_not_an_error(loaded: Bench) -> None:
    """The commit took place, its answer got lost, and the SDK's retry is told that the blob exists."""
    rival = MemoryContainer()
    loaded.push(rival)
    target = MemoryContainer()

    def take_over(method: str, name: str) -> None:
        if method in {"commit", "create_small"}:
            target.blobs[name] = rival.blobs[name]

    target.before = take_over
    assert loaded.push(target).code is None


def test_commit_lost_to_another_blob_is_refused(loaded: Bench) -> None:
    target = MemoryContainer()

    def take_over(method: str, name: str) -> None:
        if method == "commit":
            target.blobs[name] = HeldBlob(content=b"another")

    target.before = take_over
    assert refusal(loaded, target) is Code.BLOB_MISMATCH


def test_transfer_that_the_target_took_up_is_not_sent_again(loaded: Bench) -> None:
    target = MemoryContainer()
    loaded.push(target)
    sent = target.count("stage")
    del target.blobs[f"{loaded.bundle.transfer_id}/001"]
    assert refusal(loaded, target) is Code.CONFLICT
    assert target.count("stage") == sent


def test_staged_block_of_the_wrong_size_is_sent_again(loaded: Bench) -> None:
    target = MemoryContainer()
    part, sha256 = next(loaded.bundle.manifest.parts())
    target.staged[f"{loaded.bundle.transfer_id}/001"] = {block_id(part, sha256): b"short"}
    assert loaded.push(target).counts["sentParts"] == 4
    assert target.blobs[f"{loaded.bundle.transfer_id}/001"].content == loaded.bundle.blobs["001"]


def planted(bench: Bench, number: int = 1) -> MemoryContainer:
    """A storage to which somebody else who may write there staged other bytes under a part's own name."""
    target = MemoryContainer()
    part, sha256 = list(bench.bundle.manifest.parts())[number - 1]
    name = f"{bench.bundle.transfer_id}/{part.blob}"
    target.staged[name] = {block_id(part, sha256): b"x" * part.size_bytes}
    return target


def put_together_by_a_rival(bench: Bench) -> MemoryContainer:
    """Storage in which a push was cut off after somebody else's block had become part of a blob."""
    rival = planted(bench)
    rival.before = lambda method, _name: _cut_at_manifest(method)
    with pytest.raises(ServiceError):
        bench.push(rival)
    rival.before = lambda _method, _name: None
    return rival


@pytest.mark.parametrize("make", [planted, put_together_by_a_rival])
def test_blob_put_together_from_somebody_elses_blocks_is_not_published(
    loaded: Bench, make: Callable[[Bench], MemoryContainer]
) -> None:
    target = make(loaded)
    part, _ = next(loaded.bundle.manifest.parts())
    loaded.part(part.name).unlink()
    outcome = loaded.push(target)
    assert outcome.code is Code.BLOB_MISMATCH
    assert [damage.name for damage in outcome.damages] == [part.name]
    assert "somebody else" in outcome.verdict
    assert f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}" not in target.blobs


@pytest.mark.parametrize("make", [planted, put_together_by_a_rival])
def test_somebody_elses_blocks_are_replaced_by_the_parts_that_are_at_hand(
    loaded: Bench, make: Callable[[Bench], MemoryContainer]
) -> None:
    target = make(loaded)
    part, sha256 = next(loaded.bundle.manifest.parts())
    name = f"{loaded.bundle.transfer_id}/{part.blob}"
    _, right = [item for item in loaded.bundle.manifest.parts() if item.part.blob == part.blob][:2]
    target.before = lambda method, _name: (
        # While the wrong part is sent again, a right one gets another block under its name.
        target.staged.setdefault(name, {}).update({block_id(*right): b"y" * right.part.size_bytes})
        if method == "replace_blocks"
        else None
    )
    outcome = loaded.push(target)
    assert outcome.code is None
    assert "1 part in the storage was not what was signed, and was replaced" in outcome.verdict
    assert target.blobs[name].content == loaded.bundle.blobs[part.blob]
    assert f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}" in target.blobs
    assert outcome.counts["sentParts"] >= 1
    assert outcome.counts["replacedParts"] == 1
    assert [(found.damage.name, found.is_replaced) for found in outcome.findings] == [(part.name, True)]
    assert "Unless the target had called what was replaced damaged, somebody else" in outcome.next_step
    assert block_id(part, sha256) in {block.block_id for block in target.blobs[name].blocks}


def _cut_at_manifest(method: str) -> None:
    if method in {"read_range", "create_small"}:
        raise ServiceError(Code.SERVICE_UNREACHABLE, "unplugged")


def test_only_what_this_run_did_not_send_is_read_back_and_each_byte_once(loaded: Bench) -> None:
    target = MemoryContainer()
    part, sha256 = next(loaded.bundle.manifest.parts())
    name = f"{loaded.bundle.transfer_id}/{part.blob}"
    right = loaded.bundle.blobs[part.blob][: part.size_bytes]
    target.staged[name] = {block_id(part, sha256): right}
    outcome = loaded.push(target)
    assert (outcome.code, outcome.counts["provenParts"]) == (None, 1)
    assert target.count("read_range") == 1
    assert "1 of those was read back and is right" in outcome.verdict
    assert outcome.counts["replacedParts"] == 0
    assert outcome.next_step.startswith("The import starts by itself; only the receipt proves")
    again = MemoryContainer()
    assert (loaded.push(again).code, again.count("read_range")) == (None, 0)


def test_storage_that_lets_nothing_be_read_back_is_told(loaded: Bench) -> None:
    target = planted(loaded)

    def deny(method: str, _name: str) -> None:
        if method == "read_range":
            raise ServiceError(Code.SERVICE_DENIED, "the SAS has no r")

    target.before = deny
    outcome = loaded.push(target)
    assert outcome.code is None
    assert "could not be read back and are not proven (SERVICE_DENIED the SAS has no r)" in outcome.verdict
    assert outcome.facts["notProven"]


def test_blob_that_is_written_to_while_it_is_read_back_is_not_published(loaded: Bench) -> None:
    target = planted(loaded)

    def swap(method: str, name: str) -> None:
        if method == "read_range":
            target.blobs[name].etag = '"other"'

    target.before = swap
    assert refusal(loaded, target) is Code.BLOB_CHANGED
    assert f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}" not in target.blobs


def test_blob_that_is_written_to_after_it_was_compared_is_not_published(loaded: Bench) -> None:
    """What is read back is the very state that was compared, not whatever is there by then."""
    target = put_together_by_a_rival(loaded)

    def swap(method: str, name: str) -> None:
        if method == "committed_blocks":
            target.blobs[name].etag = '"other"'

    target.before = swap
    assert refusal(loaded, target) is Code.BLOB_CHANGED
    assert f"{loaded.bundle.transfer_id}/{ENVELOPE_NAME}" not in target.blobs


def test_what_is_there_already_is_looked_at_once(loaded: Bench) -> None:
    target = MemoryContainer()
    assert loaded.push(target).code is None
    target.calls.clear()
    assert loaded.push(target).code is None
    blobs, parts = loaded.bundle.manifest.blobs, list(loaded.bundle.manifest.parts())
    asked = {method: target.count(method) for method in ("describe", "committed_blocks", "read_range")}
    assert asked == {"describe": len(blobs), "committed_blocks": len(blobs), "read_range": len(parts)}


def test_part_that_cannot_be_read_is_reported_and_the_rest_is_sent(loaded: Bench, tmp_path: Path) -> None:
    """A folder in place of a part stands for a sector that cannot be read."""
    target = MemoryContainer()

    def swap(method: str, _name: str) -> None:
        if method == "staged_blocks" and loaded.part("001/00000001.part").is_file():
            loaded.part("001/00000001.part").rename(tmp_path / "gone")
            loaded.part("001/00000001.part").mkdir()

    target.before = swap
    outcome = loaded.push(target)
    assert [damage.name for damage in outcome.damages] == ["001/00000001.part"]
    assert len(target.staged[f"{loaded.bundle.transfer_id}/001"]) == 2
    shutil.rmtree(loaded.part("001/00000001.part"))


def test_block_ids_are_of_one_length_and_fit_azure() -> None:
    parts = [
        PartRange(blob="001", number=number, offset_bytes=0, size_bytes=1)
        for number in (1, MAX_PARTS_PER_BLOB)
    ]
    assert {len(block_id(part, digest * 64)) for part in parts for digest in "0f"} == {52}


@pytest.fixture
def receiving(tmp_path: Path) -> Bench:
    """A pulled bundle whose trust policy names the target's receipt key."""
    keys = (new_key(),)
    policy = make_policy(keys, receipt_keys=[target_key()])
    bench = Bench(make_bundle(blob_sizes=[5000], keys=keys, policy_json=policy), tmp_path)
    bench.pull()
    return bench


def test_bundle_that_was_imported_already_is_not_sent_once_more(receiving: Bench) -> None:
    target = MemoryContainer()
    receipt = hold_receipt(receiving)
    outcome = receiving.push(target)
    assert (outcome.code, target.blobs) == (None, {})
    assert outcome.verdict.startswith("target.azurecr.io has imported this bundle already")
    assert outcome.next_command is not None
    assert outcome.next_command.verb == "receipts push"
    receipt.unlink()
    assert receiving.push(target).counts["sentParts"] > 0


def test_one_part_is_told_in_the_singular_all_the_way(tmp_path: Path) -> None:
    bench, target = Bench(make_bundle(blob_sizes=[5000]), tmp_path), MemoryContainer()
    assert "1 of 1 part is on 1 volume; 1 fetched, 0 were there" in bench.pull().verdict
    assert "1 of 1 part is on 1 volume; 0 fetched, 1 was there" in bench.pull().verdict
    assert "1 part, 5.0 kB of transfer" in (verified := bench.verify().verdict)
    assert " is what was signed for " in verified
    assert "1 part sent, 0 were there" in bench.push(target).verdict
    assert "0 parts sent, 1 was there; 1 of those was read back and is right" in bench.push(target).verdict
    (bench.bag / "foreign").write_bytes(b"")
    assert re.search("^all 1 part, 5.0 kB of .* is whole and right", bench.verify().verdict)


def test_receipt_of_a_bundle_that_was_imported_already_is_carried_by_the_volume_that_has_it(
    tmp_path: Path,
) -> None:
    keys = (new_key(),)
    policy = make_policy(keys, receipt_keys=[target_key()])
    bundle = make_bundle(blob_sizes=[5000], keys=keys, policy_json=policy)
    benches = [Bench(bundle, tmp_path / name) for name in ("first", "second")]
    for bench in benches:
        bench.volume.mkdir()
        bench.pull()
    hold_receipt(benches[1])
    outcome = push(
        MemoryContainer(),
        [bench.volume for bench in benches],
        transfer_id=None,
        policy=bundle.policy,
        now=datetime.now(UTC),
        concurrency=2,
        meter=Meter(),
    )
    assert "has imported this bundle already" in outcome.verdict
    assert outcome.next_command is not None
    assert outcome.next_command.words["volume"] == (str(benches[1].volume),)


@pytest.mark.parametrize("verdict", [ReceiptVerdict.PARTIAL, ReceiptVerdict.REFUSED], ids=str)
def test_bundle_whose_number_was_taken_for_less_than_an_import_is_not_sent_to_be_refused(
    receiving: Bench, verdict: ReceiptVerdict
) -> None:
    target = MemoryContainer()
    hold_receipt(receiving, verdict=verdict, code=Code.SERVICE_UNEXPECTED)
    outcome = receiving.push(target)
    assert (outcome.code, target.blobs) == (Code.REPLAYED, {})
    assert (
        f"has decided about this bundle already, at 2026-01-31T08:00:00Z: {verdict.value}" in outcome.verdict
    )
    assert outcome.next_command is not None
    assert outcome.next_command.verb == "receipts push"


def test_address_that_only_the_command_line_knows_goes_to_the_verb_that_it_is_for(receiving: Bench) -> None:
    """A receipt is fetched from the target and brought to the source."""
    sent = receiving.push(MemoryContainer()).beside(
        "receipts pull", address="https://target.example/receipts"
    )
    hold_receipt(receiving)
    held = receiving.push(MemoryContainer()).beside(
        "receipts pull", address="https://target.example/receipts"
    )
    assert sent.next_command is not None
    assert sent.next_command.words["address"] == ("https://target.example/receipts",)
    assert held.next_command is not None
    assert "address" not in held.next_command.words


@pytest.mark.parametrize(
    "change",
    [
        {"ledger": None},
        {"verdict": ReceiptVerdict.PARTIAL, "code": Code.SERVICE_UNEXPECTED, "ledger": None},
        {"verdict": ReceiptVerdict.REFUSED, "code": Code.REPLAYED, "ledger": None},
        {"target": "another.azurecr.io"},
    ],
    ids=str,
)
def test_receipt_of_no_decision_that_took_the_number_holds_nothing_up(
    receiving: Bench, change: dict[str, Any]
) -> None:
    hold_receipt(receiving, **change)
    assert receiving.push(MemoryContainer()).counts["sentParts"] > 0


def test_forged_receipt_holds_nothing_up(receiving: Bench) -> None:
    hold_receipt(receiving, key=new_key())
    assert receiving.push(MemoryContainer()).counts["sentParts"] > 0


def hold_receipt(bench: Bench, *, key: SigningKey | None = None, **change: Any) -> Path:
    """A receipt of the target on the volume, beside the bag."""
    bundle = bench.bundle
    changed = {"envelope_sha256": hashlib.sha256(bundle.envelope).hexdigest(), "ledger": LEDGER, **change}
    folder = bench.volume / "receipts" / bundle.transfer_id
    folder.mkdir(parents=True)
    path = folder / "import000000000000.dsse.json"
    path.write_bytes(signed(imported(bundle, **changed), key or target_key()))
    return path
