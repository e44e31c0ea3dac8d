"""Every line of verify.py's list, each by the attack that it stops."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import AirgapError, Code, PolicyRefusal, UntrustedInputError
from airgap.manifest import BundleManifest
from airgap.policy import TrustedKey, TrustPolicy
from airgap.signatures import CryptoSigner, SSlibKey
from airgap.strict_json import dump_canonical
from airgap.verify import Verdict, count_roles, verify_bundle, verify_unfinished
from tests.vectors.generate import (
    ED25519,
    MLDSA87,
    NOW,
    OFFICER,
    P256,
    P384,
    RETIRING,
    REVOKED,
    STRANGER,
    TARGET,
    TARGET_KEY,
    full_manifest,
    guarded_manifest,
    minimal_manifest,
    policy_json,
)

POLICY = TrustPolicy.from_bytes(dump_canonical(policy_json()))


def judge(raw: bytes, **overrides: Any) -> Verdict:
    return verify_bundle(raw, **{"policy": POLICY, "now": NOW, "target": TARGET, **overrides})


def signed(manifest: BundleManifest | None = None, *signers: CryptoSigner) -> bytes:
    return Envelope.sign((manifest or minimal_manifest()).to_bytes(), signers or (P384,)).to_bytes()


def with_json(raw: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    value = json.loads(raw)
    change(value)
    return json.dumps(value).encode()


def test_accepts_what_a_trusted_key_signed() -> None:
    verdict = judge(signed())
    assert verdict.is_accepted
    assert verdict.require() == minimal_manifest()
    assert [(s.role, s.scheme) for s in verdict.signers] == [("source", "ecdsa-sha2-nistp384")]


def test_accepts_a_hybrid_of_two_roles() -> None:
    verdict = judge(signed(full_manifest(), P384, MLDSA87, ED25519))
    assert verdict.is_accepted, verdict
    assert {s.role for s in verdict.signers} == {"source", "releaser"}


def test_envelope_larger_than_any_valid_one_is_refused_unread() -> None:
    assert judge(b" " * (MAX_ENVELOPE_BYTES + 1)).code is Code.TOO_LARGE


def test_bundle_signed_by_an_unknown_key_is_refused_unparsed() -> None:
    verdict = judge(signed(None, STRANGER))
    assert verdict.code is Code.SIGNER_UNKNOWN
    assert verdict.manifest is None


def test_payload_exchanged_under_a_trusted_signature() -> None:
    def exchange(value: dict[str, Any]) -> None:
        other = replace(minimal_manifest(), audience=("attacker.azurecr.io",))
        value["payload"] = base64.b64encode(other.to_bytes()).decode()

    verdict = judge(with_json(signed(), exchange))
    assert verdict.code is Code.SIGNATURE_INVALID
    assert verdict.manifest is None


def test_one_forged_signature_beside_a_valid_one_refuses_the_whole() -> None:
    def forge(value: dict[str, Any]) -> None:
        stolen = json.loads(signed(full_manifest(), P256))["signatures"][0]
        value["signatures"].append(stolen)

    assert judge(with_json(signed(), forge)).code is Code.SIGNATURE_INVALID


def test_signature_that_could_not_be_checked_refuses_with_its_own_code() -> None:
    keyid = P384.public_key.keyid
    broken = SSlibKey(keyid, "ecdsa", "ecdsa-sha2-nistp384", {"public": "not a key"})
    held = TrustedKey(holder=POLICY.keys[keyid].holder, public_key=broken)
    policy = replace(POLICY, keys={**POLICY.keys, keyid: held})
    assert judge(signed(full_manifest(), P384, ED25519), policy=policy).code is Code.SIGNATURE_UNCHECKABLE


def test_stranger_beside_a_trusted_signer_changes_nothing() -> None:
    assert judge(signed(None, P384, STRANGER)).is_accepted


def test_key_of_another_channel_does_not_count() -> None:
    assert judge(signed(None, P256)).code is Code.THRESHOLD_NOT_MET


def test_receipt_key_cannot_sign_bundles() -> None:
    assert judge(signed(None, TARGET_KEY)).code is Code.THRESHOLD_NOT_MET


@pytest.mark.parametrize(
    ("manifest", "signer"),
    [
        (minimal_manifest(), P256),
        (minimal_manifest(), TARGET_KEY),
        (minimal_manifest(), OFFICER),
        (replace(minimal_manifest(), channel="other"), P384),
    ],
    ids=["of another channel", "of receipts", "of policies and releases", "channel that nobody knows"],
)
def test_key_that_signs_nothing_in_a_channel_gets_no_transfer_of_it_named(
    manifest: BundleManifest, signer: CryptoSigner
) -> None:
    verdict = judge(signed(manifest, signer))
    assert not verdict.is_accepted
    assert (verdict.manifest, verdict.manifest_sha256, verdict.signers) == (None, None, ())


def test_key_of_the_channel_has_its_refused_transfer_named() -> None:
    verdict = judge(signed(full_manifest(), ED25519))
    assert (verdict.code, verdict.manifest) == (Code.THRESHOLD_NOT_MET, full_manifest())
    assert judge(signed(), now=NOW + timedelta(days=30)).manifest == minimal_manifest()


def test_threshold_of_each_role_must_be_met() -> None:
    assert judge(signed(full_manifest(), P384, MLDSA87)).code is Code.THRESHOLD_NOT_MET
    assert judge(signed(full_manifest(), ED25519)).code is Code.THRESHOLD_NOT_MET


@pytest.mark.parametrize("alone", [P384, MLDSA87], ids=["no ml-dsa", "no p-384"])
def test_broken_algorithm_of_one_role_is_not_made_good_by_another_role(alone: CryptoSigner) -> None:
    assert judge(signed(full_manifest(), alone, ED25519)).code is Code.ALGORITHM_MISSING


def with_two_sources(*, second_key: CryptoSigner) -> TrustPolicy:
    """The channel ``test`` asks for two holders; the second key is ``second_key``."""
    raw: dict[str, Any] = policy_json()
    raw["channels"]["test"]["bundleRoles"]["source"] = {
        "threshold": 2,
        "keyids": [signer.public_key.keyid for signer in (P384, MLDSA87, second_key)],
    }
    return TrustPolicy.from_bytes(dump_canonical(raw))


def test_two_keys_of_one_holder_are_one_signer() -> None:
    policy = with_two_sources(second_key=ED25519)
    assert judge(signed(None, P384, MLDSA87), policy=policy).code is Code.THRESHOLD_NOT_MET
    verdict = judge(signed(None, P384, MLDSA87, ED25519), policy=policy)
    assert verdict.is_accepted
    assert len(verdict.signers) == 3


def test_holder_who_left_out_an_algorithm_does_not_count_beside_one_who_did_not() -> None:
    raw: dict[str, Any] = policy_json()
    raw["keys"][2]["holder"] = "source app"  # Ed25519, beside P-384
    raw["channels"]["prod"]["bundleRoles"]["releaser"]["keyids"] = [P256.public_key.keyid]
    raw["channels"]["test"]["bundleRoles"]["source"] = {
        "threshold": 1,
        "keyids": [signer.public_key.keyid for signer in (P384, ED25519, P256)],
        "requiredAlgorithms": ["ed25519", "ecdsa-sha2-nistp384"],
    }
    policy = TrustPolicy.from_bytes(dump_canonical(raw))
    assert judge(signed(None, P384, P256), policy=policy).code is Code.ALGORITHM_MISSING
    verdict = judge(signed(None, P384, ED25519, P256), policy=policy)
    assert {signer.keyid for signer in verdict.signers} == {P384.public_key.keyid, ED25519.public_key.keyid}


def test_stolen_key_that_was_revoked_signs_nothing_however_it_dates_back() -> None:
    long_ago = replace(
        guarded_manifest(), created_at=NOW - timedelta(hours=20), expires_at=NOW + timedelta(days=1)
    )
    before = NOW - timedelta(seconds=1)
    assert judge(signed(long_ago, REVOKED), now=before, target=None).is_accepted
    verdict = judge(signed(long_ago, REVOKED), target=None)
    assert (verdict.code, verdict.manifest) == (Code.KEY_REVOKED, None)


def test_key_that_retires_tomorrow_counts_today() -> None:
    assert judge(signed(guarded_manifest(), RETIRING), target=None).is_accepted
    tomorrow = NOW + timedelta(days=1)
    assert judge(signed(guarded_manifest(), RETIRING), target=None, now=tomorrow).code is Code.KEY_REVOKED


def test_revoked_key_beside_a_key_in_force_does_not_fill_up_the_threshold() -> None:
    raw: dict[str, Any] = policy_json()
    raw["channels"]["guarded"]["bundleRoles"]["source"]["threshold"] = 2
    policy = TrustPolicy.from_bytes(dump_canonical(raw))
    both = signed(guarded_manifest(), P384, REVOKED)
    assert judge(both, policy=policy, target=None, now=NOW - timedelta(seconds=1)).code is Code.NOT_YET_VALID
    assert judge(both, policy=policy, target=None).code is Code.THRESHOLD_NOT_MET


def test_forgery_in_the_name_of_a_revoked_key_is_told_as_nobody_known() -> None:
    envelope = Envelope.from_bytes(signed(full_manifest(), REVOKED))
    forged = Envelope(payload=guarded_manifest().to_bytes(), signatures=envelope.signatures).to_bytes()
    assert judge(forged).code is Code.SIGNER_UNKNOWN


def test_newer_bundle_manifest_is_not_called_malformed() -> None:
    payload = json.loads(minimal_manifest().to_bytes()) | {
        "predicateType": "urn:acr-airgap-transfer:bundle:v2",
        "predicate": {"everything": "else"},
    }
    verdict = judge(Envelope.sign(dump_canonical(payload), [P384]).to_bytes())
    assert (verdict.code, verdict.manifest) == (Code.NEWER_FORMAT, None)


@pytest.mark.parametrize("member", ["payload", "sig"])
@pytest.mark.parametrize("how", ["padding", "unused bits", "spaces"])
def test_signature_spelled_in_another_way_is_not_a_second_envelope(member: str, how: str) -> None:
    manifest = minimal_manifest()
    while len(manifest.to_bytes()) % 3 != 1:
        manifest = replace(manifest, tool=replace(manifest.tool, version=manifest.tool.version + "0"))

    def respell(value: dict[str, Any]) -> None:
        holder = value if member == "payload" else value["signatures"][0]
        text = holder[member]
        assert text.endswith("==")
        last = chr(ord(text[-3]) + 1)
        other = {"padding": text + "=", "unused bits": text[:-3] + last + "==", "spaces": text + "\n"}
        holder[member] = other[how]

    raw = signed(manifest, ED25519)
    assert judge(raw).code is Code.THRESHOLD_NOT_MET, "the spelling that counts"
    verdict = judge(with_json(raw, respell))
    assert verdict.code is Code.ENVELOPE_MALFORMED
    assert member in verdict.detail


def test_nobody_is_trusted_where_there_is_no_role() -> None:
    with pytest.raises(PolicyRefusal, match="THRESHOLD_NOT_MET"):
        count_roles(POLICY.keys, {})


def test_verdict_without_a_manifest_is_no_acceptance() -> None:
    verdict = Verdict(code=None, detail="", manifest=None, manifest_sha256=None, signers=())
    with pytest.raises(UntrustedInputError, match="MANIFEST_MALFORMED"):
        verdict.require()


def test_one_signature_given_twice_is_not_two() -> None:
    def double(value: dict[str, Any]) -> None:
        value["signatures"] *= 2

    assert judge(with_json(signed(), double)).code is Code.ENVELOPE_MALFORMED


def test_algorithm_downgrade_is_refused() -> None:
    raw = policy_json()
    channel: Any = raw["channels"]
    channel["test"]["bundleRoles"]["source"] = {
        "threshold": 1,
        "keyids": [P384.public_key.keyid, MLDSA87.public_key.keyid],
        "requiredAlgorithms": ["ml-dsa-87/1"],
    }
    policy = TrustPolicy.from_bytes(dump_canonical(raw))
    assert judge(signed(), policy=policy).code is Code.ALGORITHM_MISSING
    assert judge(signed(None, MLDSA87), policy=policy).is_accepted


def of_repositories(*repositories: str) -> BundleManifest:
    manifest = minimal_manifest()
    artifact = manifest.artifacts[0]
    artifacts = tuple(replace(artifact, reference=f"{name}:1.0") for name in repositories)
    return replace(manifest, blobs=(replace(manifest.blobs[0], artifacts=artifacts),))


def test_image_of_a_repository_that_the_channel_does_not_carry_refuses_the_bundle() -> None:
    assert judge(signed(of_repositories("samples/app", "team/a/b"))).is_accepted
    verdict = judge(signed(of_repositories("samples/app", "base/os", "team/a")))
    assert (verdict.code, verdict.detail) == (Code.REPOSITORY_REFUSED, "base/os:1.0")
    assert judge(signed(of_repositories("base/os")), target=None).code is Code.REPOSITORY_REFUSED


def test_policy_that_nobody_renewed_accepts_nothing() -> None:
    last = POLICY.expires_at - timedelta(seconds=1)
    late = replace(minimal_manifest(), created_at=last, expires_at=last + timedelta(days=7))
    assert judge(signed(late), now=last).is_accepted
    verdict = judge(signed(late), now=POLICY.expires_at)
    assert (verdict.code, verdict.manifest) == (Code.POLICY_EXPIRED, None)


def test_bundle_for_another_registry_is_refused() -> None:
    stray = replace(minimal_manifest(), audience=("elsewhere.azurecr.us",))
    assert judge(signed(stray)).code is Code.AUDIENCE_MISMATCH
    assert judge(signed(stray), target=None).code is Code.AUDIENCE_MISMATCH


def test_target_outside_the_channels_audience_is_refused() -> None:
    assert judge(signed(), target="elsewhere.azurecr.us").code is Code.AUDIENCE_MISMATCH


def test_target_outside_the_channels_audience_is_refused_though_the_bundle_is_made_for_it() -> None:
    stray = replace(minimal_manifest(), audience=("elsewhere.azurecr.us", TARGET))
    assert judge(signed(stray), target="elsewhere.azurecr.us").code is Code.AUDIENCE_MISMATCH
    assert judge(signed(stray)).is_accepted


def test_bundle_is_judged_without_a_target_by_the_channels_audience() -> None:
    assert judge(signed(), target=None).is_accepted


def test_channel_that_the_policy_does_not_name() -> None:
    assert judge(signed(replace(minimal_manifest(), channel="other"))).code is Code.CHANNEL_UNKNOWN


@pytest.mark.parametrize(
    ("shift", "code"),
    [
        (timedelta(seconds=-301), Code.NOT_YET_VALID),
        (timedelta(seconds=-300), None),
        (timedelta(days=14, seconds=300), None),
        (timedelta(days=14, seconds=301), Code.EXPIRED),
        (timedelta(days=-365), Code.NOT_YET_VALID),
        (timedelta(days=365), Code.EXPIRED),
    ],
)
def test_clock(shift: timedelta, code: Code | None) -> None:
    assert judge(signed(), now=NOW + shift).code is code


def test_bundle_older_than_the_channel_allows_is_refused_though_not_expired() -> None:
    eternal = replace(minimal_manifest(), expires_at=NOW + timedelta(days=3650))
    assert judge(signed(eternal), now=NOW + timedelta(days=30, seconds=301)).code is Code.TOO_OLD
    assert judge(signed(eternal), now=NOW + timedelta(days=30, seconds=300)).is_accepted


def test_signed_nonsense_is_malformed_not_trusted() -> None:
    raw = Envelope.sign(b'{"_type":"https://in-toto.io/Statement/v1"}', [P384]).to_bytes()
    verdict = judge(raw)
    assert verdict.code is Code.MANIFEST_MALFORMED
    with pytest.raises(UntrustedInputError):
        verdict.require()


def test_refusal_by_policy_raises_as_such() -> None:
    with pytest.raises(PolicyRefusal, match="EXPIRED"):
        judge(signed(), now=NOW + timedelta(days=30)).require()


NOT_AN_ENVELOPE = {
    "empty": b"",
    "not json": b"PK\x03\x04",
    "html": b"<html>403</html>",
    "bom": b"\xef\xbb\xbf{}",
    "utf-16": '{"a":1}'.encode("utf-16"),
    "array": b"[]",
    "no signatures": signed().replace(b'"signatures":[', b'"signatures":[],"x":['),
    "payload given twice": signed().replace(b'{"payload":', b'{"payload":"e30=","payload":'),
    "nan": b'{"payload":NaN}',
    "huge integer": b'{"payload":' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "objects by the million": b"[" + b"{}," * 1_000_000 + b"{}]",
    "other payload type": signed().replace(b"vnd.in-toto+json", b"vnd.other+json"),
    "url-safe base64": signed().replace(b'"payload":"', b'"payload":"-_'),
    "upper-case keyid": signed().replace(
        P384.public_key.keyid.encode(), P384.public_key.keyid.upper().encode()
    ),
    "unknown member": signed().replace(b'{"payload"', b'{"extra":1,"payload"'),
    "lone surrogate": b'{"payload":"\\ud800"}',
}


@pytest.mark.parametrize("name", NOT_AN_ENVELOPE)
def test_what_is_not_an_envelope_is_refused(name: str) -> None:
    assert judge(NOT_AN_ENVELOPE[name]).code is Code.ENVELOPE_MALFORMED


_VALID = signed(full_manifest(), P384, MLDSA87, ED25519)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, len(_VALID) - 2), flip=st.integers(1, 255))
def test_no_byte_of_an_envelope_can_be_changed(position: int, flip: int) -> None:
    """The newline at the end is the only byte without meaning."""
    changed = bytearray(_VALID)
    changed[position] ^= flip
    verdict = judge(bytes(changed))
    assert not verdict.is_accepted or verdict.require() == full_manifest()


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused_without_an_exception(raw: bytes) -> None:
    assert judge(raw).code in {Code.ENVELOPE_MALFORMED, Code.TOO_LARGE}


def test_bundle_that_others_are_still_to_sign_is_read_by_whoever_is_about_to() -> None:
    raw = signed(full_manifest(), ED25519)
    assert judge(raw).code is Code.THRESHOLD_NOT_MET
    assert verify_unfinished(raw, policy=POLICY, now=NOW) == full_manifest()


@pytest.mark.parametrize(
    ("raw", "now", "code"),
    [
        (signed(None, STRANGER), NOW, Code.SIGNER_UNKNOWN),
        (signed(None, P256), NOW, Code.THRESHOLD_NOT_MET),
        (signed(None, TARGET_KEY), NOW, Code.THRESHOLD_NOT_MET),
        (signed(replace(minimal_manifest(), channel="other")), NOW, Code.CHANNEL_UNKNOWN),
        (signed(replace(minimal_manifest(), audience=("x.azurecr.io",))), NOW, Code.AUDIENCE_MISMATCH),
        (signed(of_repositories("base/os")), NOW, Code.REPOSITORY_REFUSED),
        (signed(), POLICY.expires_at, Code.POLICY_EXPIRED),
        (signed(), minimal_manifest().expires_at + timedelta(days=1), Code.EXPIRED),
        (signed(), minimal_manifest().created_at - timedelta(days=1), Code.NOT_YET_VALID),
    ],
)
def test_nobody_is_asked_to_sign_what_would_be_refused_for_more_than_that(
    raw: bytes, now: datetime, code: Code
) -> None:
    with pytest.raises(AirgapError) as refusal:
        verify_unfinished(raw, policy=POLICY, now=now)
    assert refusal.value.code is code
