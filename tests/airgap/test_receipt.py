"""Receipts: signed by the target, for the channel, or worth nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, PolicyRefusal, UnknownCode, UntrustedInputError
from airgap.policy import TrustPolicy
from airgap.receipt import MAX_DAMAGES, ArtifactProof, MissingContent, Receipt, ReceiptVerdict, verify_receipt
from airgap.strict_json import dump_canonical
from tests.vectors.generate import (
    NOW,
    P384,
    REVOKED_TARGET,
    STRANGER,
    TARGET_KEY,
    damaged_receipt,
    imported_receipt,
    policy_json,
    refused_receipt,
)

POLICY = TrustPolicy.from_bytes(dump_canonical(policy_json()))


def test_receipt_of_the_target_is_accepted() -> None:
    raw = Envelope.sign(imported_receipt().to_bytes(), [TARGET_KEY]).to_bytes()
    receipt = verify_receipt(raw, policy=POLICY, channel="prod", now=NOW)
    assert receipt == imported_receipt()
    assert receipt.is_imported
    assert all(proof.is_proven for proof in receipt.artifacts)


def test_refusal_is_a_receipt_too() -> None:
    receipt = Receipt.from_bytes(refused_receipt().to_bytes())
    assert receipt.code is Code.SIGNER_UNKNOWN
    assert not receipt.is_imported


@pytest.mark.parametrize(
    ("signer", "channel", "code"),
    [
        (STRANGER, "prod", Code.SIGNER_UNKNOWN),
        (P384, "prod", Code.SIGNER_UNKNOWN),
        (TARGET_KEY, "test", Code.SIGNER_UNKNOWN),
        (TARGET_KEY, "nowhere", Code.CHANNEL_UNKNOWN),
    ],
    ids=["stranger", "bundle key", "channel without receipt role", "unknown channel"],
)
def test_receipt_by_anybody_else_is_refused(signer: Any, channel: str, code: Code) -> None:
    raw = Envelope.sign(imported_receipt().to_bytes(), [signer]).to_bytes()
    with pytest.raises(AirgapError) as refusal:
        verify_receipt(raw, policy=POLICY, channel=channel, now=NOW)
    assert refusal.value.code is code


@pytest.mark.parametrize("receipt", [imported_receipt(), refused_receipt()], ids=["named", "nameless"])
def test_receipt_for_a_registry_outside_the_channels_audience_is_refused(receipt: Receipt) -> None:
    elsewhere = replace(receipt, target="elsewhere.azurecr.us")
    raw = Envelope.sign(elsewhere.to_bytes(), [TARGET_KEY]).to_bytes()
    with pytest.raises(PolicyRefusal) as refusal:
        verify_receipt(raw, policy=POLICY, channel="prod", now=NOW)
    assert refusal.value.code is Code.AUDIENCE_MISMATCH


def test_receipt_key_of_one_channel_does_not_speak_for_another() -> None:
    other = replace(imported_receipt(), channel="test", ledger=None)
    raw = Envelope.sign(other.to_bytes(), [TARGET_KEY]).to_bytes()
    with pytest.raises(PolicyRefusal) as refusal:
        verify_receipt(raw, policy=POLICY, channel="prod", now=NOW)
    assert refusal.value.code is Code.CHANNEL_UNKNOWN


def test_receipt_under_a_policy_that_nobody_renewed_is_not_believed() -> None:
    raw = Envelope.sign(imported_receipt().to_bytes(), [TARGET_KEY]).to_bytes()
    with pytest.raises(PolicyRefusal) as refusal:
        verify_receipt(raw, policy=POLICY, channel="prod", now=POLICY.expires_at)
    assert refusal.value.code is Code.POLICY_EXPIRED


def test_receipt_needs_the_threshold_of_its_role() -> None:
    raw: dict[str, Any] = policy_json()
    second = REVOKED_TARGET
    raw["revoked"] = []
    keyids = [TARGET_KEY.public_key.keyid, second.public_key.keyid]
    raw["channels"]["prod"]["receiptRoles"]["target"] = {"threshold": 2, "keyids": keyids}
    policy = TrustPolicy.from_bytes(dump_canonical(raw))
    alone = Envelope.sign(imported_receipt().to_bytes(), [TARGET_KEY]).to_bytes()
    with pytest.raises(PolicyRefusal) as refusal:
        verify_receipt(alone, policy=policy, channel="prod", now=NOW)
    assert refusal.value.code is Code.THRESHOLD_NOT_MET
    both = Envelope.sign(imported_receipt().to_bytes(), [TARGET_KEY, second]).to_bytes()
    assert verify_receipt(both, policy=policy, channel="prod", now=NOW).is_imported


def test_verdict_exchanged_under_the_targets_signature() -> None:
    envelope = Envelope.sign(refused_receipt().to_bytes(), [TARGET_KEY])
    forged = Envelope(payload=imported_receipt().to_bytes(), signatures=envelope.signatures)
    with pytest.raises(UntrustedInputError) as refusal:
        verify_receipt(forged.to_bytes(), policy=POLICY, channel="prod", now=NOW)
    assert refusal.value.code is Code.SIGNATURE_INVALID


INVALID: dict[str, Callable[[dict[str, Any]], object]] = {
    "imported with a code": lambda p: p.update(code="EXPIRED"),
    "refused without a code": lambda p: p.update(verdict="refused"),
    "third verdict": lambda p: p.update(verdict="maybe"),
    "code that is no code": lambda p: p.update(verdict="refused", code="fine"),
    "unknown member": lambda p: p.update(extra=1),
    "damage of no code": lambda p: p.update(
        damage=[{"code": "worn", "name": "x", "detail": "", "offset": None, "size": None}], damageCount=1
    ),
    "more damage listed than counted": lambda p: p.update(
        damage=[{"code": "PART_CORRUPT", "name": "x", "detail": "", "offset": None, "size": None}]
    ),
    "damaged without damage": lambda p: p.update(verdict="damaged", code="PART_CORRUPT"),
    "import that names no transfer": lambda p: p.update(
        transferId=None, channel=None, sequence=None, manifestDigest=None, ledger=None
    ),
    "transfer without its bundle": lambda p: p.update(manifestDigest=None),
    "position of another number": lambda p: p["ledger"].update(name="prod/0000000000000006.json"),
    "position that is no entry": lambda p: p["ledger"].update(name="prod/6.json"),
    "policy version zero": lambda p: p.update(policyVersion=0),
    "check that is neither passed nor not": lambda p: p["checks"][0].update(passed="yes"),
    "release at no time": lambda p: p["releases"][0].update(releasedAt=None),
    "negative count": lambda p: p.update(damageCount=-1),
    "undeclared in an import": lambda p: p.update(undeclared=["a:1"], undeclaredCount=1),
    "undeclared only counted in an import": lambda p: p.update(undeclaredCount=1),
    "undeclared that is not counted": lambda p: p.update(
        verdict="partial", code="UNDECLARED_ARTIFACTS", undeclared=["a:1", "b:1"], undeclaredCount=1
    ),
    "undeclared that cannot be printed": lambda p: p.update(
        verdict="partial", code="UNDECLARED_ARTIFACTS", undeclared=["a\n"], undeclaredCount=1
    ),
    "undeclared that is too long": lambda p: p.update(
        verdict="partial", code="UNDECLARED_ARTIFACTS", undeclared=["a" * 513], undeclaredCount=1
    ),
    "more undeclared than are listed": lambda p: p.update(
        verdict="partial", code="UNDECLARED_ARTIFACTS", undeclared=["a:1"] * 1001, undeclaredCount=1001
    ),
    "detail not text": lambda p: p.update(detail=None),
    "missing content of no kind": lambda p: p["artifacts"][0].update(
        missing=[{"kind": "", "digest": f"sha256:{'0' * 64}"}], missingCount=1
    ),
    "missing content without a digest": lambda p: p["artifacts"][0].update(
        missing=[{"kind": "layer", "digest": "latest"}], missingCount=1
    ),
    "more missing than counted": lambda p: p["artifacts"][0].update(
        missing=[{"kind": "layer", "digest": f"sha256:{'0' * 64}"}]
    ),
    "more missing than are listed": lambda p: p["artifacts"][0].update(
        missing=[{"kind": "layer", "digest": f"sha256:{'0' * 64}"}] * 21, missingCount=21
    ),
    "missing count below zero": lambda p: p["artifacts"][0].update(missingCount=-1),
    "found not a digest": lambda p: p["artifacts"][0].update(found="yes"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_receipt_is_refused(name: str) -> None:
    statement = json.loads(imported_receipt().to_bytes())
    INVALID[name](statement["predicate"])
    with pytest.raises(UntrustedInputError) as refusal:
        Receipt.from_bytes(dump_canonical(statement))
    assert refusal.value.code is Code.RECEIPT_MALFORMED


def test_missing_content_of_a_kind_that_a_newer_tool_tells_is_read() -> None:
    content = MissingContent(kind="attestation", digest="sha256:" + "0" * 64)
    proof = replace(imported_receipt().artifacts[0], missing=(content,), missing_count=1)
    assert ArtifactProof.from_json(proof.to_json(), "proof") == proof


def test_proof_needs_the_digest_and_every_tag_and_all_that_the_artifact_consists_of() -> None:
    proof = ArtifactProof(reference="a:1", digest="sha256:" + "0" * 64, found="sha256:" + "0" * 64)
    assert proof.is_proven
    assert not replace(proof, found=None).is_proven
    assert not replace(proof, found="sha256:" + "1" * 64).is_proven
    assert not replace(proof, missing_tags=("1",)).is_proven
    assert not replace(proof, missing_count=1).is_proven


def test_damage_beyond_the_limit_is_counted_not_listed() -> None:
    receipt = damaged_receipt()
    many = replace(receipt, damages=receipt.damages * (MAX_DAMAGES // 2), damage_count=1200)
    again = Receipt.from_bytes(many.to_bytes())
    assert len(again.damages) == MAX_DAMAGES
    assert again.damage_count == 1200
    with pytest.raises(UntrustedInputError):
        replace(receipt, damages=receipt.damages * (MAX_DAMAGES // 2 + 1), damage_count=1200)


def test_code_of_a_newer_tool_is_kept_and_not_called_malformed() -> None:
    statement = json.loads(refused_receipt().to_bytes())
    statement["predicate"]["code"] = "QUANTUM_BROKEN"
    raw = dump_canonical(statement)
    receipt = Receipt.from_bytes(raw)
    assert receipt.code == UnknownCode("QUANTUM_BROKEN")
    assert receipt.code.remedy == Code.NEWER_FORMAT.remedy
    assert receipt.verdict is ReceiptVerdict.REFUSED
    assert receipt.to_bytes() == raw


def test_receipt_by_a_key_that_is_revoked_by_now_is_refused() -> None:
    receipt = replace(imported_receipt(), channel="guarded", ledger=None)
    raw = Envelope.sign(receipt.to_bytes(), [REVOKED_TARGET]).to_bytes()
    before = NOW - timedelta(seconds=1)
    assert verify_receipt(raw, policy=POLICY, channel="guarded", now=before).is_imported
    with pytest.raises(PolicyRefusal) as refusal:
        verify_receipt(raw, policy=POLICY, channel="guarded", now=NOW)
    assert refusal.value.code is Code.KEY_REVOKED
