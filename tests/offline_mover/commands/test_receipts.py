from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from airgap.carried_receipt import verified_receipt
from airgap.damage import Damage
from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import AirgapError, Code, MediaError, ServiceError, UnknownCode, UntrustedInputError
from airgap.ledger import entry_name
from airgap.manifest import ENVELOPE_NAME, Tool
from airgap.policy import TrustPolicy
from airgap.recarry import RecarryRequest
from airgap.receipt import ArtifactProof, LedgerPosition, Receipt, ReceiptVerdict
from airgap.strict_json import dump_canonical
from offline_mover.bags.volumes import transfers_on
from offline_mover.commands.receipts import MAX_RECEIPTS, receipts_pull, receipts_push
from offline_mover.medium import medium_read
from offline_mover.outcome import Outcome
from offline_mover.progress import Meter
from tests.bundles import Bundle, SigningKey, make_bundle, make_policy, new_key
from tests.offline_mover.memory_container import HeldBlob, MemoryContainer
from tests.vectors.generate import imported_receipt

NOW = datetime(2026, 1, 31, 8, 0, 0, tzinfo=UTC)
OTHER_ID = "anothertransfer"
INSTANCE = "import" + "0" * 32


@cache
def target_key() -> SigningKey:
    return new_key()


@cache
def prod() -> Bundle:
    keys = (new_key(),)
    return make_bundle(created_at=NOW, keys=keys, policy_json=make_policy(keys, receipt_keys=[target_key()]))


class Container(MemoryContainer):
    """A container ``receipts``."""

    def hold(self, receipt: Receipt, key: SigningKey | None = None, *, name: str | None = None) -> str:
        name = name or f"{receipt.transfer_id or receipt.envelope_sha256[:32]}/{INSTANCE}.dsse.json"
        self.blobs[name] = HeldBlob(content=signed(receipt, key))
        return name


def signed(receipt: Receipt, key: SigningKey | None = None) -> bytes:
    return Envelope.sign(receipt.to_bytes(), [(key or target_key()).signer]).to_bytes()


def imported(bundle: Bundle, **changes: Any) -> Receipt:
    receipt = Receipt(
        envelope_sha256="e" * 64,
        incoming=f"{bundle.transfer_id}/{ENVELOPE_NAME}",
        target="target.azurecr.io",
        decided_at=NOW,
        verdict=ReceiptVerdict.IMPORTED,
        code=None,
        detail="",
        transfer_id=bundle.transfer_id,
        channel=bundle.manifest.channel,
        sequence=1,
        manifest_sha256=bundle.manifest_sha256,
        policy_version=1,
        ledger=None,
        signers=(),
        artifacts=tuple(
            ArtifactProof(reference=a.reference, digest=a.digest, found=a.digest)
            for a in bundle.manifest.artifacts
        ),
        damages=(),
        damage_count=0,
        missing_sequences=(),
        tool=Tool(name="tests", version="0"),
    )
    return replace(receipt, **changes)


def refused(bundle: Bundle, *names: str, **changes: Any) -> Receipt:
    damages = tuple(Damage(code=Code.PART_CORRUPT, name=name) for name in names)
    changes = {"damages": damages, "damage_count": len(damages), "artifacts": ()} | changes
    verdict = ReceiptVerdict.DAMAGED if damages else ReceiptVerdict.REFUSED
    return imported(bundle, **({"verdict": verdict, "code": Code.PART_CORRUPT} | changes))


def unread(**changes: Any) -> Receipt:
    """A refusal before any signature counted."""
    nothing = {"transfer_id": None, "channel": None, "sequence": None, "manifest_sha256": None}
    return refused(prod(), **({"code": Code.ENVELOPE_MALFORMED} | nothing | changes))


@pytest.fixture
def storage() -> Container:
    return Container()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with the bag of one transfer, as far as receipts look at it."""
    add_bag(tmp_path, prod())
    return tmp_path


def add_bag(volume: Path, bundle: Bundle) -> Path:
    bag = volume / bundle.transfer_id
    (bag / "data").mkdir(parents=True)
    (bag / ENVELOPE_NAME).write_bytes(bundle.envelope)
    return bag


def pull(storage: Container, volume: Path, *, now: datetime = NOW, **options: Any) -> Outcome:
    options = {"policy": prod().policy} | options
    return receipts_pull(storage, volume, now=now, meter=Meter(), **options)


def push(volume: Path, storage: Container, **options: Any) -> Outcome:
    return receipts_push(volume, storage, policy=prod().policy, now=NOW, meter=Meter(), **options)


def files(volume: Path) -> dict[str, bytes]:
    root = volume / "receipts"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def codes(outcome: Outcome) -> list[Code | UnknownCode]:
    return [damage.code for damage in outcome.damages]


def test_receipt_travels_to_the_volume_and_on_to_the_source(storage: Container, volume: Path) -> None:
    name = storage.hold(imported(prod()))
    outcome = pull(storage, volume)
    assert (outcome.code, outcome.counts["written"], outcome.counts["imports"]) == (None, 1, 1)
    assert outcome.lines == (
        "k3v9x2m7q1: imported by target.azurecr.io at 2026-01-31T08:00:00Z, 2 of 2 artifacts proven",
    )
    assert (outcome.transfer_id, outcome.manifest_sha256) == (prod().transfer_id, prod().manifest_sha256)
    assert files(volume) == {name: storage.blobs[name].content}
    source = Container()
    assert push(volume, source).counts["sent"] == 1
    assert source.blobs[name].content == storage.blobs[name].content
    json.dumps(outcome.to_json())


def test_second_run_of_both_finds_everything_done(storage: Container, volume: Path) -> None:
    name = storage.hold(imported(prod()))
    source = Container()
    for _ in range(2):
        pulled, pushed = pull(storage, volume), push(volume, source)
    assert (pulled.code, pulled.counts["kept"], pulled.counts["written"]) == (None, 1, 0)
    assert (pushed.code, pushed.counts["kept"], pushed.counts["sent"]) == (None, 1, 0)
    assert list(source.blobs) == [name]


def test_only_receipts_of_the_volumes_transfers_are_brought_unless_told(
    storage: Container, volume: Path
) -> None:
    storage.hold(imported(prod()))
    other = storage.hold(imported(prod(), transfer_id=OTHER_ID))
    assert pull(storage, volume).counts["receipts"] == 1
    assert pull(storage, volume, transfer_id=OTHER_ID).counts["written"] == 1
    assert other in files(volume)
    assert pull(storage, volume, every=True).counts["kept"] == 2
    only = Container()
    assert push(volume, only, transfer_id=OTHER_ID).counts["sent"] == 1
    assert list(only.blobs) == [other]


def test_refusal_of_the_very_envelope_is_found_by_its_digest(storage: Container, volume: Path) -> None:
    digest = hashlib.sha256(prod().envelope).hexdigest()
    name = storage.hold(unread(envelope_sha256=digest))
    outcome = pull(storage, volume)
    assert (outcome.code, outcome.counts["refusals"]) == (None, 1)
    assert "an envelope" in outcome.lines[0]
    assert name in files(volume)


def test_no_receipt_yet_is_told_apart_from_success(storage: Container, volume: Path) -> None:
    outcome = pull(storage, volume)
    assert outcome.code is Code.NOT_FOUND
    assert outcome.facts["withoutReceipt"] == [prod().transfer_id]
    assert not (volume / "receipts").exists()


def test_volume_without_transfers_needs_to_be_told_which(storage: Container, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as refusal:
        pull(storage, tmp_path)
    assert refusal.value.code is Code.VOLUME_EMPTY
    storage.hold(imported(prod()))
    assert pull(storage, tmp_path, every=True).counts["written"] == 1


FORGERIES: dict[str, tuple[dict[str, Any], Callable[[], SigningKey], Code]] = {
    "signed by nobody known": ({}, new_key, Code.SIGNER_UNKNOWN),
    "signed by the source": ({}, lambda: prod().keys[0], Code.SIGNER_UNKNOWN),
    "for another bundle of the same name": (
        {"manifestDigest": f"sha256:{'0' * 64}"},
        target_key,
        Code.VOLUME_CONFLICT,
    ),
    "for a transfer without saying which bundle": (
        {"manifestDigest": None},
        target_key,
        Code.RECEIPT_MALFORMED,
    ),
    "for a channel that the policy does not have": (
        {"channel": "elsewhere"},
        target_key,
        Code.CHANNEL_UNKNOWN,
    ),
    "naming a bundle but no channel": ({"channel": None}, target_key, Code.RECEIPT_MALFORMED),
}


def forged(receipt: Receipt, changes: dict[str, Any], key: SigningKey) -> bytes:
    """A receipt with other members, under a signature of that key."""
    statement = json.loads(receipt.to_bytes())
    statement["predicate"] |= changes
    return Envelope.sign(dump_canonical(statement), [key.signer]).to_bytes()


@pytest.mark.parametrize("name", FORGERIES)
def test_unacceptable_receipt_is_reported_and_not_written(
    storage: Container, volume: Path, name: str
) -> None:
    changes, key, code = FORGERIES[name]
    blob = storage.hold(imported(prod()))
    storage.blobs[blob] = HeldBlob(content=forged(imported(prod()), changes, key()))
    outcome = pull(storage, volume)
    assert (codes(outcome), outcome.code, outcome.damages[0].name) == ([code], code, blob)
    assert not (volume / "receipts").exists()
    assert outcome.facts["withoutReceipt"] == [prod().transfer_id]


@pytest.mark.parametrize("name", FORGERIES)
def test_unacceptable_receipt_on_the_volume_is_not_sent(volume: Path, name: str) -> None:
    changes, key, code = FORGERIES[name]
    path = volume / "receipts" / prod().transfer_id / f"{INSTANCE}.dsse.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(forged(imported(prod()), changes, key()))
    source = Container()
    outcome = push(volume, source)
    assert (codes(outcome), source.blobs) == ([code], {})


def test_receipt_with_a_code_of_a_newer_tool_is_carried_and_told(storage: Container, volume: Path) -> None:
    blob = storage.hold(imported(prod()))
    newer = forged(refused(prod()), {"code": "QUANTUM_BROKEN"}, target_key())
    storage.blobs[blob] = HeldBlob(content=newer)
    outcome = pull(storage, volume)
    assert (outcome.code, outcome.counts["written"], outcome.counts["refusals"]) == (None, 1, 1)
    (line,) = outcome.lines
    assert "QUANTUM_BROKEN" in line
    assert "a newer tool's" in line


def test_one_bad_receipt_does_not_hold_up_the_others(storage: Container, volume: Path) -> None:
    storage.hold(imported(prod()))
    bad = storage.hold(imported(prod()), new_key(), name=f"{prod().transfer_id}/{INSTANCE}bad.dsse.json")
    outcome = pull(storage, volume)
    assert (outcome.code, outcome.counts["written"], outcome.counts["leftOut"]) == (
        Code.SIGNER_UNKNOWN,
        1,
        1,
    )
    assert bad not in files(volume)


def test_receipt_under_another_transfers_name_is_refused(storage: Container, volume: Path) -> None:
    storage.hold(imported(prod(), transfer_id=OTHER_ID), name=f"{prod().transfer_id}/{INSTANCE}.dsse.json")
    assert codes(pull(storage, volume)) == [Code.RECEIPT_MALFORMED]


def test_container_of_the_uploads_is_told_from_that_of_the_receipts(storage: Container, volume: Path) -> None:
    storage.hold(imported(prod()), name=f"{prod().transfer_id}/bundle-manifest.dsse.json")
    outcome = pull(storage, volume)
    assert (outcome.code, outcome.counts["leftOut"]) == (Code.UNSAFE_NAME, 1)
    assert outcome.next_step.startswith("Give the container of the receipts")


@pytest.mark.parametrize(
    "tail",
    [
        "../../evil.dsse.json",
        "con.dsse.json",
        "UPPERCASE1.dsse.json",
        "a/b.dsse.json",
        "import.json",
        "x" * 300,
    ],
)
def test_names_that_could_be_paths_never_become_one(storage: Container, volume: Path, tail: str) -> None:
    storage.hold(imported(prod()), name=f"{prod().transfer_id}/{tail}")
    before = sorted(volume.rglob("*"))
    assert codes(pull(storage, volume)) == [Code.UNSAFE_NAME]
    assert sorted(volume.rglob("*")) == before


@pytest.mark.parametrize("place", ["receipts", f"receipts/{prod().transfer_id}"])
def test_links_on_the_volume_are_not_followed(
    storage: Container, volume: Path, tmp_path_factory: pytest.TempPathFactory, place: str
) -> None:
    storage.hold(imported(prod()))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (volume / place).parent.mkdir(exist_ok=True)
    (volume / place).symlink_to(elsewhere, target_is_directory=True)
    assert codes(pull(storage, volume)) == [Code.UNSAFE_NAME]
    assert list(elsewhere.iterdir()) == []


def test_link_in_place_of_a_receipt_is_neither_overwritten_nor_sent(
    storage: Container, volume: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = storage.hold(imported(prod()))
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_bytes(storage.blobs[name].content)
    path = volume / "receipts" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)
    assert codes(pull(storage, volume)) == [Code.UNSAFE_NAME]
    source = Container()
    assert codes(push(volume, source)) == [Code.UNSAFE_NAME]
    assert source.blobs == {}


def test_link_in_place_of_the_folder_is_refused_at_push(
    volume: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (volume / "receipts").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(UntrustedInputError) as refusal:
        push(volume, Container())
    assert refusal.value.code is Code.UNSAFE_NAME


def test_other_bytes_under_the_same_name_are_refused_on_the_volume(storage: Container, volume: Path) -> None:
    name = storage.hold(imported(prod()))
    pull(storage, volume)
    held = files(volume)
    storage.hold(imported(prod(), detail="again"))
    assert codes(pull(storage, volume)) == [Code.VOLUME_CONFLICT]
    assert files(volume)[name] == held[name]


def test_other_bytes_under_the_same_name_are_refused_in_the_storage(storage: Container, volume: Path) -> None:
    name = storage.hold(imported(prod()))
    pull(storage, volume)
    source = Container()
    source.hold(imported(prod(), detail="another"))
    held = source.blobs[name]
    assert codes(push(volume, source)) == [Code.BLOB_MISMATCH]
    assert source.blobs[name] is held


def test_oversized_blob_is_refused_before_it_is_read(storage: Container, volume: Path) -> None:
    name = storage.hold(imported(prod()))
    storage.blobs[name].content = b"x" * (MAX_ENVELOPE_BYTES + 1)
    assert codes(pull(storage, volume)) == [Code.TOO_LARGE]


def test_more_receipts_than_anybody_has_are_refused(storage: Container, volume: Path) -> None:
    for number in range(MAX_RECEIPTS + 1):
        storage.blobs[f"{prod().transfer_id}/import{number:032d}.dsse.json"] = HeldBlob(content=b"")
    with pytest.raises(UntrustedInputError) as refusal:
        pull(storage, volume)
    assert refusal.value.code is Code.TOO_LARGE
    assert storage.count("read_small") == 0


def test_blob_gone_since_it_was_listed_is_reported(storage: Container, volume: Path) -> None:
    storage.hold(imported(prod()))

    def vanish(method: str, _name: str) -> None:
        if method == "read_small":
            storage.blobs.clear()

    storage.before = vanish
    assert codes(pull(storage, volume)) == [Code.BLOB_CHANGED]


def test_outage_keeps_what_was_written(storage: Container, volume: Path) -> None:
    first = storage.hold(imported(prod()))
    again = refused(prod(), code=Code.REPLAYED)
    second = storage.hold(again, name=f"{prod().transfer_id}/{INSTANCE}again.dsse.json")

    def fail(_method: str, name: str) -> None:
        if name == second:
            raise ServiceError(Code.SERVICE_UNREACHABLE)

    storage.before = fail
    with pytest.raises(ServiceError):
        pull(storage, volume)
    assert list(files(volume)) == [first]


def test_medium_that_gives_back_something_else_is_found(
    storage: Container, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.hold(imported(prod()))
    monkeypatch.setattr(medium_read, "hash_file", lambda *_, **__: "0" * 64)
    with pytest.raises(MediaError) as refusal:
        pull(storage, volume)
    assert refusal.value.code is Code.MEDIA_LIED


def test_litter_and_half_written_files_are_passed_over_and_strangers_reported(
    storage: Container, volume: Path
) -> None:
    name = storage.hold(imported(prod()))
    pull(storage, volume)
    for stranger in (".DS_Store", "note.txt", f"{name}.partial", f"{prod().transfer_id}/recarry.json"):
        (volume / "receipts" / stranger).write_bytes(b"x")
    source = Container()
    outcome = push(volume, source)
    assert [damage.name for damage in outcome.damages] == ["receipts/note.txt"]
    assert list(source.blobs) == [name]


def test_receipt_that_the_storage_does_not_take_keeps_no_other_from_going(
    storage: Container, volume: Path
) -> None:
    first = storage.hold(imported(prod()))
    again = refused(prod(), code=Code.REPLAYED)
    second = storage.hold(again, name=f"{prod().transfer_id}/{INSTANCE}again.dsse.json")
    pull(storage, volume)
    source = Container()

    def deny(method: str, name: str) -> None:
        if (method, name) == ("create_small", first):
            raise ServiceError(Code.SERVICE_DENIED, f"receipts/{name}: the SAS has the permissions r")

    source.before = deny
    outcome = push(volume, source)
    assert (codes(outcome), outcome.code) == ([Code.SERVICE_DENIED], Code.SERVICE_DENIED)
    assert (list(source.blobs), outcome.counts["sent"]) == ([second], 1)
    assert outcome.next_step == Code.SERVICE_DENIED.remedy


def test_receipt_that_somebody_else_brought_meanwhile_is_delivered(storage: Container, volume: Path) -> None:
    name = storage.hold(imported(prod()))
    pull(storage, volume)
    source = Container()

    def outrun(method: str, _name: str) -> None:
        if method == "create_small":
            source.blobs[name] = storage.blobs[name]
            raise ServiceError(Code.SERVICE_DENIED, "it may not be overwritten")

    source.before = outrun
    outcome = push(volume, source)
    assert (outcome.code, outcome.counts["kept"]) == (None, 1)


def test_volume_without_receipts_is_told(volume: Path) -> None:
    with pytest.raises(MediaError) as refusal:
        push(volume, Container())
    assert refusal.value.code is Code.VOLUME_EMPTY


# --- parts to bring again ----------------------------------------------------------------------------------


def recarry(volume: Path) -> RecarryRequest:
    return RecarryRequest.from_bytes((volume / "receipts" / prod().transfer_id / "recarry.json").read_bytes())


def test_damage_in_a_receipt_becomes_a_recarry_request(storage: Container, volume: Path) -> None:
    storage.hold(refused(prod(), "001/00000002.part", "001/00000003.part", "003", detail="2 parts"))
    outcome = pull(storage, volume)
    asked = recarry(volume).require_matches(prod().manifest, prod().manifest_sha256)
    assert [part.name for part, _ in asked] == ["001/00000002.part", "001/00000003.part"]
    assert outcome.facts["recarryRequests"] == [f"receipts/{prod().transfer_id}/recarry.json"]
    assert "to bring again: 001/00000002-00000003" in outcome.lines[0]
    assert "PART_CORRUPT (2 parts)" in outcome.lines[0]
    assert "recarry.json" in outcome.next_step


def test_same_receipts_always_give_the_same_request(storage: Container, volume: Path) -> None:
    storage.hold(refused(prod(), "001/00000002.part"))
    pull(storage, volume)
    first = files(volume)
    pull(storage, volume, now=NOW + timedelta(days=3))
    assert files(volume) == first


def test_newest_receipt_decides_what_is_asked_for(storage: Container, volume: Path) -> None:
    storage.hold(refused(prod(), "001/00000002.part"))
    pull(storage, volume)
    later = imported(prod(), decided_at=NOW + timedelta(hours=1))
    storage.hold(later, name=f"{prod().transfer_id}/aaaaaaaa.dsse.json")
    assert pull(storage, volume).facts["recarryRequests"] == []
    assert not (volume / "receipts" / prod().transfer_id / "recarry.json").exists()


LEDGER = LedgerPosition(name=entry_name("prod", 1), sha256="1" * 64)


def decided(bundle: Bundle) -> str:
    return f"{bundle.transfer_id}/{bundle.manifest_sha256}.dsse.json"


def later(hours: int = 1) -> datetime:
    return NOW + timedelta(hours=hours)


def test_refusal_that_came_later_takes_back_no_request(storage: Container, volume: Path) -> None:
    storage.hold(refused(prod(), "001/00000002.part"))
    spoofed = refused(prod(), code=Code.REPLAYED, decided_at=later())
    storage.hold(spoofed, name=f"{prod().transfer_id}/zzzzzzzz.dsse.json")
    outcome = pull(storage, volume)
    assert outcome.facts["recarryRequests"] == [f"receipts/{prod().transfer_id}/recarry.json"]
    del storage.blobs[f"{prod().transfer_id}/{INSTANCE}.dsse.json"]
    pull(storage, volume)
    assert len(recarry(volume).require_matches(prod().manifest, prod().manifest_sha256)) == 1


def test_import_is_not_hidden_by_a_later_refusal_or_later_damage(storage: Container, volume: Path) -> None:
    storage.hold(imported(prod(), ledger=LEDGER), name=decided(prod()))
    for number, code in enumerate((Code.REPLAYED, Code.PART_CORRUPT), 1):
        parts = ["001/00000002.part"] if code is Code.PART_CORRUPT else []
        told = refused(prod(), *parts, code=code, decided_at=later(number))
        storage.hold(told, name=f"{prod().transfer_id}/later00{number}.dsse.json")
    outcome = pull(storage, volume)
    assert outcome.facts["recarryRequests"] == []
    assert [one["verdict"] for one in outcome.facts["receiptList"] if one["counts"]] == ["imported"]
    assert [line.rpartition("; ")[2] for line in outcome.lines] == [
        "this one counts",
        "another one counts",
        "another one counts",
    ]


def test_other_receipt_under_the_name_of_the_decision_is_refused(storage: Container, volume: Path) -> None:
    storage.hold(refused(prod(), code=Code.REPLAYED), name=decided(prod()))
    outcome = pull(storage, volume)
    assert codes(outcome) == [Code.RECEIPT_MALFORMED]
    assert files(volume) == {}


def test_one_receipt_under_fifty_names_is_carried_once(storage: Container, volume: Path) -> None:
    receipt = imported(prod(), ledger=LEDGER)
    for number in range(49):
        storage.hold(receipt, name=f"{prod().transfer_id}/aaaaaa{number:02}.dsse.json")
    storage.hold(receipt, name=decided(prod()))
    outcome = pull(storage, volume)
    assert (outcome.code, outcome.counts["receipts"], outcome.counts["double"]) == (None, 1, 49)
    assert files(volume).keys() == {decided(prod())}
    source = Container()
    for number in range(49):
        copied = volume / "receipts" / prod().transfer_id / f"bbbbbb{number:02}.dsse.json"
        copied.write_bytes(files(volume)[decided(prod())])
    assert push(volume, source).counts["sent"] == 1
    assert source.blobs.keys() == {decided(prod())}


def test_receipt_for_a_registry_outside_the_audience_is_refused(storage: Container, volume: Path) -> None:
    storage.hold(imported(prod(), target="elsewhere.azurecr.io"))
    outcome = pull(storage, volume)
    assert codes(outcome) == [Code.AUDIENCE_MISMATCH]
    assert outcome.next_step.startswith("Do not believe this receipt: ")


def test_nothing_is_asked_for_where_no_bag_says_what_was_signed(storage: Container, tmp_path: Path) -> None:
    storage.hold(refused(prod(), "001/00000002.part"))
    outcome = pull(storage, tmp_path, every=True)
    assert (outcome.counts["written"], outcome.facts["recarryRequests"]) == (1, [])


def test_expired_bundle_still_gets_its_receipt_but_no_request(storage: Container, volume: Path) -> None:
    storage.hold(refused(prod(), "001/00000002.part"))
    outcome = pull(storage, volume, now=NOW + timedelta(days=365))
    assert (outcome.code, outcome.counts["written"], outcome.facts["recarryRequests"]) == (None, 1, [])


def test_damaged_envelope_on_the_volume_does_not_hold_up_its_receipt(
    storage: Container, volume: Path
) -> None:
    storage.hold(imported(prod()))
    (volume / prod().transfer_id / ENVELOPE_NAME).write_bytes(b"scratched")
    assert pull(storage, volume).counts["written"] == 1


def test_long_list_of_damage_says_that_it_is_not_all(storage: Container, volume: Path) -> None:
    storage.hold(refused(prod(), "001/00000002.part", damage_count=5000))
    assert "only 1 finding is listed" in pull(storage, volume).lines[0]


# --- which channel -----------------------------------------------------------------------------------------


@cache
def two_channels() -> tuple[TrustPolicy, SigningKey, SigningKey]:
    """``prod`` trusts the first key for receipts, ``test`` the second."""
    prod_key, test_key = new_key(), new_key()
    raw = json.loads(make_policy(prod().keys, receipt_keys=[prod_key]))
    other = json.loads(make_policy(prod().keys, channel="test", receipt_keys=[test_key]))
    raw["channels"] |= other["channels"]
    raw["keys"].append({"holder": "target of test", "publicKey": test_key.public_pem})
    return TrustPolicy.from_bytes(json.dumps(raw).encode()), prod_key, test_key


def test_receipt_is_judged_by_the_channel_it_names_under_signature() -> None:
    policy, prod_key, test_key = two_channels()
    in_test = imported(prod(), channel="test")
    assert verified_receipt(signed(imported(prod()), prod_key), policy, NOW).channel == "prod"
    assert verified_receipt(signed(in_test, test_key), policy, NOW).channel == "test"
    for receipt, key in ((imported(prod()), test_key), (in_test, prod_key)):
        with pytest.raises(AirgapError) as refusal:
            verified_receipt(signed(receipt, key), policy, NOW)
        assert refusal.value.code is Code.CHANNEL_UNKNOWN


def test_receipt_without_a_channel_is_accepted_from_any_channels_target() -> None:
    policy, prod_key, test_key = two_channels()
    for key in (prod_key, test_key):
        assert verified_receipt(signed(unread(), key), policy, NOW).code is Code.ENVELOPE_MALFORMED


@pytest.mark.parametrize(
    "changes",
    [
        {"transferId": "k3v9x2m7q1"},
        {"manifestDigest": f"sha256:{'0' * 64}"},
        {"verdict": "imported", "code": None},
        {"verdict": "damaged", "damageCount": 1},
        {"artifacts": [imported_receipt().artifacts[0].to_json()]},
    ],
    ids=["transfer", "bundle", "import", "damage", "artifacts"],
)
def test_receipt_without_a_channel_may_not_speak_of_a_transfer(changes: dict[str, Any]) -> None:
    policy, _, test_key = two_channels()
    with pytest.raises(UntrustedInputError) as refusal:
        verified_receipt(forged(unread(), changes, test_key), policy, NOW)
    assert refusal.value.code is Code.RECEIPT_MALFORMED


def test_forged_signature_in_a_trusted_name_is_called_forged() -> None:
    policy, prod_key, _ = two_channels()
    honest = Envelope.from_bytes(signed(refused(prod()), prod_key))
    exchanged = Envelope(payload=imported(prod()).to_bytes(), signatures=honest.signatures)
    with pytest.raises(UntrustedInputError) as refusal:
        verified_receipt(exchanged.to_bytes(), policy, NOW)
    assert refusal.value.code is Code.SIGNATURE_INVALID


def test_folder_of_receipts_is_no_transfer(volume: Path, storage: Container) -> None:
    storage.hold(imported(prod()))
    pull(storage, volume)
    assert transfers_on(volume) == [prod().transfer_id]
