"""The golden vectors: what was written once must be written the same and accepted for ever."""

import json

import pytest
from securesystemslib.dsse import Envelope as DsseEnvelope

from airgap.manifest import BundleManifest
from airgap.policy import TrustPolicy
from airgap.receipt import Receipt
from airgap.verify import verify_bundle
from tests.vectors import generate as vectors


@pytest.mark.parametrize("name", vectors.PAYLOADS)
def test_payload_is_written_byte_for_byte_as_recorded(name: str) -> None:
    assert vectors.PAYLOADS[name]() == (vectors.FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", ["manifest-minimal.json", "manifest-full.json"])
def test_manifest_read_and_written_again_is_the_same(name: str) -> None:
    raw = (vectors.FOLDER / name).read_bytes()
    assert BundleManifest.from_bytes(raw).to_bytes() == raw


@pytest.mark.parametrize("name", ["receipt-imported.json", "receipt-refused.json"])
def test_receipt_read_and_written_again_is_the_same(name: str) -> None:
    raw = (vectors.FOLDER / name).read_bytes()
    assert Receipt.from_bytes(raw).to_bytes() == raw


@pytest.mark.parametrize("name", vectors.ENVELOPES)
def test_recorded_envelope_still_verifies(name: str) -> None:
    policy = TrustPolicy.from_bytes((vectors.FOLDER / "policy.json").read_bytes())
    envelope = (vectors.FOLDER / name).read_bytes()
    verdict = verify_bundle(envelope, policy=policy, now=vectors.NOW, target=vectors.TARGET)
    assert verdict.is_accepted, verdict


def test_pre_authentication_encoding_counts_bytes_not_characters() -> None:
    for case in json.loads((vectors.FOLDER / "pae.json").read_bytes()):
        payload_type, payload = case["payloadType"], bytes.fromhex(case["payloadHex"])
        by_hand = b" ".join(
            [
                b"DSSEv1",
                str(len(payload_type.encode())).encode(),
                payload_type.encode(),
                str(len(payload)).encode(),
                payload,
            ]
        )
        assert bytes.fromhex(case["paeHex"]) == by_hand == DsseEnvelope(payload, payload_type, {}).pae()
