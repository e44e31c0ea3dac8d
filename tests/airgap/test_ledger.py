"""Replay and order."""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from airgap.errors import Code, PolicyRefusal, UntrustedInputError
from airgap.ledger import (
    Floor,
    LedgerEntry,
    VoidEntry,
    awaited_number,
    entry_name,
    free_number,
    judge_previous,
    judge_sequence,
    judge_taken,
    prove_entry,
    require_entry,
    sequence_of,
    void_sequence_of,
)
from airgap.manifest import BundleManifest, Void
from airgap.policy import OnGap, Order, TrustPolicy
from airgap.strict_json import dump_canonical
from tests.bundles import default_key, make_bundle, new_key
from tests.vectors.generate import NOW, minimal_manifest, policy_json

ENTRY = LedgerEntry(
    channel="prod",
    sequence=7,
    manifest_sha256="a" * 64,
    transfer_id="0123456789abcdef",
    owner="import1",
    taken_at=NOW,
)


def manifest(sequence: int) -> BundleManifest:
    return replace(minimal_manifest(), sequence=sequence, previous_sha256=None if sequence == 1 else "0" * 64)


RULES = TrustPolicy.from_bytes(dump_canonical(policy_json())).channels["test"]


@pytest.mark.parametrize(
    ("order", "on_gap", "sequence", "taken", "outcome"),
    [
        (Order.ANY, OnGap.RECORD, 5, [6, 7], (1, 2, 3, 4)),
        (Order.RISING, OnGap.RECORD, 8, [6, 7], (1, 2, 3, 4, 5)),
        (Order.RISING, OnGap.RECORD, 7, [6, 7], Code.OUT_OF_ORDER),
        (Order.RISING, OnGap.RECORD, 5, [6, 7], Code.OUT_OF_ORDER),
        (Order.RISING, OnGap.RECORD, 1, [], ()),
        (Order.RISING, OnGap.REFUSE, 1, [], ()),
        (Order.RISING, OnGap.REFUSE, 2, [], Code.SEQUENCE_GAP),
        (Order.RISING, OnGap.REFUSE, 8, [6, 7], (1, 2, 3, 4, 5)),
        (Order.RISING, OnGap.REFUSE, 9, [6, 7], Code.SEQUENCE_GAP),
        (Order.RISING, OnGap.REFUSE, 7, [6, 7], Code.OUT_OF_ORDER),
        (Order.RISING, OnGap.HOLD, 8, [7], (1, 2, 3, 4, 5, 6)),
        (Order.RISING, OnGap.HOLD, 9, [7], Code.SEQUENCE_GAP),
    ],
)
def test_order(
    order: Order, on_gap: OnGap, sequence: int, taken: list[int], outcome: Code | tuple[int, ...]
) -> None:
    channel = replace(RULES, order=order, on_gap=on_gap)
    if isinstance(outcome, tuple):
        assert judge_sequence(manifest(sequence), channel, taken) == outcome
        return
    with pytest.raises(PolicyRefusal) as refusal:
        judge_sequence(manifest(sequence), channel, taken)
    assert refusal.value.code is outcome


@pytest.mark.parametrize(
    ("voids", "outcome"), [((8, 9), ()), ((9,), Code.SEQUENCE_GAP), ((8,), Code.SEQUENCE_GAP)]
)
def test_number_that_the_source_gave_up_is_not_missing(
    voids: tuple[int, ...], outcome: Code | tuple[int, ...]
) -> None:
    channel = replace(RULES, order=Order.RISING, on_gap=OnGap.REFUSE)
    given_up = tuple(Void(sequence=number, reason="cancelled", who="olga") for number in voids)
    bundle = replace(manifest(10), voids=given_up)
    taken = range(1, 8)
    if isinstance(outcome, tuple):
        assert judge_sequence(bundle, channel, taken) == outcome
        return
    with pytest.raises(PolicyRefusal) as refusal:
        judge_sequence(bundle, channel, taken)
    assert refusal.value.code is outcome
    assert "next would be" in refusal.value.detail


@pytest.mark.parametrize(
    ("on_gap", "voids", "outcome"),
    [
        (OnGap.REFUSE, {8, 9}, (1, 2, 3, 4, 5, 6)),
        (OnGap.REFUSE, {8}, Code.SEQUENCE_GAP),
        (OnGap.RECORD, {2, 8}, (1, 3, 4, 5, 6, 9)),
        (OnGap.RECORD, {10}, Code.SEQUENCE_VOID),
        (OnGap.RECORD, {11}, (1, 2, 3, 4, 5, 6, 8, 9)),
    ],
)
def test_number_that_another_manifest_called_void_is_not_missing_and_not_taken(
    on_gap: OnGap, voids: set[int], outcome: Code | tuple[int, ...]
) -> None:
    channel = replace(RULES, order=Order.RISING, on_gap=on_gap)
    if isinstance(outcome, tuple):
        assert judge_sequence(manifest(10), channel, [7], voids) == outcome
        return
    with pytest.raises(PolicyRefusal) as refusal:
        judge_sequence(manifest(10), channel, [7], voids)
    assert refusal.value.code is outcome


@pytest.mark.parametrize(
    ("taken", "voids", "number"), [([], {1, 2, 4}, 3), ([7], (), 8), ([3, 7], {8, 4}, 9)]
)
def test_number_that_is_awaited(taken: list[int], voids: Collection[int], number: int) -> None:
    assert awaited_number(taken, voids) == number


VOID = Void(sequence=7, reason="lost", who="olga")


def test_void_entry_lies_under_its_number() -> None:
    entry = VoidEntry(channel="prod", void=VOID, manifest_sha256="0" * 64)
    assert entry.name == "voids/prod/0000000000000007.json"
    assert void_sequence_of(entry.name) == 7
    assert VoidEntry.from_bytes(entry.to_bytes()) == entry
    for other in ("prod/0000000000000007.json", "voids/prod/7.json", f"{entry.name}.bak"):
        assert void_sequence_of(other) is None


@pytest.mark.parametrize(
    "change",
    [
        *({"channel": "a/b"}, {"sequence": 0}, {"reason": ""}, {"who": ""}, {"manifestDigest": "0" * 64}),
        *({"schema": 0}, {"note": "x"}),
    ],
    ids=str,
)
def test_void_entry_in_another_form_is_refused(change: dict[str, object]) -> None:
    entry = VoidEntry(channel="prod", void=VOID, manifest_sha256="0" * 64)
    raw = json.loads(entry.to_bytes()) | change
    with pytest.raises(UntrustedInputError, match="MANIFEST_MALFORMED"):
        VoidEntry.from_bytes(dump_canonical(raw))
    with pytest.raises(UntrustedInputError, match="TOO_LARGE"):
        VoidEntry.from_bytes(b" " * 4097)


def test_void_entry_cannot_be_made_of_what_no_reader_takes() -> None:
    for wrong in ({"channel": "a/b"}, {"manifest_sha256": "latest"}, {"void": {"sequence": 7}}):
        with pytest.raises(UntrustedInputError, match="MANIFEST_MALFORMED"):
            VoidEntry(**{"channel": "prod", "void": VOID, "manifest_sha256": "0" * 64} | wrong)  # type: ignore[arg-type]


def test_gaps_on_record_are_bounded() -> None:
    assert len(judge_sequence(manifest(1000), RULES, [])) == 100


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("taken", [[], [7]], ids=["empty ledger", "channel in use"])
def test_one_bundle_with_the_highest_number_does_not_close_the_channel(
    order: Order, taken: list[int]
) -> None:
    channel = replace(RULES, order=order)
    for sequence in (2**53 - 1, max(taken, default=0) + channel.max_sequence_jump + 1):
        with pytest.raises(PolicyRefusal) as refusal:
            judge_sequence(manifest(sequence), channel, taken)
        assert refusal.value.code is Code.SEQUENCE_JUMP
    judge_sequence(manifest(max(taken, default=0) + channel.max_sequence_jump), channel, taken)


def test_numbers_called_void_do_not_lengthen_a_jump() -> None:
    voids = tuple(Void(sequence=number, reason="cancelled", who="eve") for number in range(1, 1001))
    with pytest.raises(PolicyRefusal, match="SEQUENCE_JUMP"):
        judge_sequence(replace(manifest(1001), voids=voids), RULES, [])


def test_retry_of_the_same_owner_goes_on() -> None:
    judge_taken(ENTRY, manifest_sha256="a" * 64, owner="import1")


def test_same_bundle_again_is_a_replay() -> None:
    with pytest.raises(PolicyRefusal) as refusal:
        judge_taken(ENTRY, manifest_sha256="a" * 64, owner="import2")
    assert refusal.value.code is Code.REPLAYED


def test_two_bundles_with_one_number_raise_the_alarm() -> None:
    with pytest.raises(PolicyRefusal) as refusal:
        judge_taken(ENTRY, manifest_sha256="b" * 64, owner="import1")
    assert refusal.value.code is Code.SEQUENCE_REUSED


def test_entry_survives_the_storage() -> None:
    assert LedgerEntry.from_bytes(ENTRY.to_bytes()) == ENTRY
    assert sequence_of(ENTRY.name) == 7
    assert ENTRY.name == entry_name("prod", 7) == "prod/0000000000000007.json"


@pytest.mark.parametrize("name", ["prod/7.json", "plans/x.json", "prod/0000000000000007.json.bak", ""])
def test_foreign_names_in_the_ledger_are_no_entries(name: str) -> None:
    assert sequence_of(name) is None


def test_entry_moved_to_another_number_is_refused() -> None:
    with pytest.raises(UntrustedInputError):
        require_entry(ENTRY, channel="prod", sequence=8)
    assert require_entry(ENTRY, channel="prod", sequence=7) is ENTRY


def with_field(name: str, value: object) -> bytes:
    return dump_canonical({**json.loads(ENTRY.to_bytes()), name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channel", "prod/../test"),
        ("sequence", 0),
        ("manifestDigest", "a" * 64),
        ("transferId", "../../secret"),
        ("owner", "o" * 257),
        ("takenAt", "yesterday"),
        ("more", 1),
    ],
)
def test_entry_that_somebody_else_wrote_is_refused(name: str, value: object) -> None:
    with pytest.raises(UntrustedInputError, match="MANIFEST_MALFORMED"):
        LedgerEntry.from_bytes(with_field(name, value))


@pytest.mark.parametrize(
    "change",
    [
        {"manifest_sha256": "A" * 64},
        {"manifest_sha256": "a" * 63},
        {"taken_at": NOW.replace(tzinfo=None)},
        {"taken_at": NOW.replace(microsecond=1)},
        {"sequence": 0},
        {"owner": ""},
    ],
)
def test_entry_that_could_not_be_read_again_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        replace(ENTRY, **change)
    assert refusal.value.code is Code.MANIFEST_MALFORMED


def test_first_entry_and_the_longest_owner_are_read() -> None:
    assert LedgerEntry.from_bytes(with_field("sequence", 1)).sequence == 1
    assert LedgerEntry.from_bytes(with_field("owner", "o" * 256)).owner == "o" * 256


def test_entry_is_at_most_4_kib() -> None:
    assert LedgerEntry.from_bytes(ENTRY.to_bytes().ljust(4096)) == ENTRY
    with pytest.raises(UntrustedInputError):
        LedgerEntry.from_bytes(ENTRY.to_bytes().ljust(4097))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (b'"schema":2', Code.NEWER_FORMAT),
        (b'"schema":0', Code.MANIFEST_MALFORMED),
        (b'"schema":true', Code.MANIFEST_MALFORMED),
        (b'"schema":null', Code.MANIFEST_MALFORMED),
    ],
)
def test_entry_of_another_schema_is_refused(change: bytes, code: Code) -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        LedgerEntry.from_bytes(ENTRY.to_bytes().replace(b'"schema":1', change))
    assert refusal.value.code is code


def test_manifest_follows_the_one_that_has_the_number_before_or_is_a_fork() -> None:
    before = replace(ENTRY, sequence=7, manifest_sha256="0" * 64)
    judge_previous(manifest(8), before)
    judge_previous(manifest(8), None)
    with pytest.raises(PolicyRefusal, match="HISTORY_FORKED"):
        judge_previous(manifest(8), replace(before, manifest_sha256="0" * 63 + "1"))


# --- what a source believes of its own ledger --------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "floor", "expected"),
    [
        ((), 1, 1),
        ((1, 2, 3), 1, 4),
        ((1, 2, 2**53 - 1), 1, 3),
        ((2, 3), 1, 1),
        ((1, 2), 58, 58),
        ((1, 58, 59), 58, 60),
    ],
)
def test_next_number_is_the_lowest_free_one(taken: tuple[int, ...], floor: int, expected: int) -> None:
    assert free_number(taken, floor) == expected


def proven(**change: Any) -> tuple[LedgerEntry, bytes, list[Any]]:
    bundle = make_bundle()
    entry = LedgerEntry(
        channel=bundle.manifest.channel,
        sequence=bundle.manifest.sequence,
        manifest_sha256=bundle.manifest_sha256,
        transfer_id=bundle.transfer_id,
        owner=bundle.transfer_id,
        taken_at=bundle.manifest.created_at,
    )
    return replace(entry, **change), bundle.envelope, [default_key().signer.public_key]


def test_entry_with_its_signed_envelope_is_believed() -> None:
    entry, envelope, keys = proven()
    assert prove_entry(entry, envelope, keys).transfer_id == entry.transfer_id


@pytest.mark.parametrize(
    "change",
    [
        {"channel": "other"},
        {"sequence": 2},
        {"transfer_id": "another0001"},
        {"manifest_sha256": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_entry_that_says_something_else_than_its_envelope_is_not_believed(change: dict[str, Any]) -> None:
    entry, envelope, keys = proven(**change)
    with pytest.raises(UntrustedInputError, match="LEDGER_UNPROVEN"):
        prove_entry(entry, envelope, keys)


def test_entry_without_an_envelope_or_a_signature_that_counts_is_not_believed() -> None:
    entry, envelope, keys = proven()
    stranger = [new_key().signer.public_key]
    for raw, trusted in ((None, keys), (b"{}", keys), (envelope, []), (envelope, stranger)):
        with pytest.raises(UntrustedInputError, match="LEDGER_UNPROVEN"):
            prove_entry(entry, raw, trusted)


@pytest.mark.parametrize(("sequence", "previous"), [(1, None), (2, "b" * 64), (10**9, "b" * 64)])
def test_floor_is_read_as_it_was_written(sequence: int, previous: str | None) -> None:
    digest = None if previous is None else f"sha256:{previous}"
    floor = Floor.from_json({"sequence": sequence, "previous": digest}, "prod")
    assert (floor.sequence, floor.previous_sha256) == (sequence, previous)
    assert floor == Floor(sequence=sequence, previous_sha256=previous)
    assert Floor() == Floor(sequence=1, previous_sha256=None)


@pytest.mark.parametrize(
    ("sequence", "previous"),
    [
        *((0, None), (0, "b" * 64), (-1, "b" * 64), (1.5, "b" * 64), (True, None), ("2", "b" * 64)),
        *((1, "b" * 64), (2, None), (2, "B" * 64), (2, "b" * 63), (2, ""), (2, 7)),
    ],
)
def test_floor_that_begins_nowhere_is_refused(sequence: Any, previous: Any) -> None:
    with pytest.raises(UntrustedInputError) as refused:
        Floor(sequence=sequence, previous_sha256=previous)
    assert refused.value.code is Code.MANIFEST_MALFORMED
    with pytest.raises(UntrustedInputError):
        Floor.from_json({"sequence": sequence, "previous": previous and f"sha256:{previous}"}, "prod")


@pytest.mark.parametrize(
    "raw", [None, [], {"sequence": 2}, {"sequence": 1, "previous": None, "more": 1}, {"previous": None}]
)
def test_floor_of_other_members_is_refused(raw: Any) -> None:
    with pytest.raises(UntrustedInputError):
        Floor.from_json(raw, "prod")


def test_fault_of_a_floor_names_its_channel() -> None:
    with pytest.raises(UntrustedInputError, match="prod"):
        Floor.from_json({"sequence": 2, "previous": "sha256:x"}, "prod")
