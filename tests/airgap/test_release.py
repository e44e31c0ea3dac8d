"""Releases: what counts, for which bundle, and how many have said so."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, PolicyRefusal
from airgap.policy import TrustedKey, TrustPolicy
from airgap.release import (
    ReleaseStatement,
    ReleaseTally,
    VerifiedRelease,
    count_releases,
    verify_release,
)
from airgap.signatures import CryptoSigner, SSlibKey
from airgap.strict_json import dump_canonical
from tests.vectors.generate import (
    ED25519,
    NOW,
    OFFICER,
    P256,
    P384,
    STRANGER,
    TARGET_KEY,
    policy_json,
    public_pem,
    release_statement,
)

STATEMENT = release_statement()


def policy_of(change: Callable[[dict[str, Any]], object] = lambda _: None) -> TrustPolicy:
    raw: dict[str, Any] = policy_json()
    change(raw)
    return TrustPolicy.from_bytes(dump_canonical(raw))


def roles(**wanted: tuple[int, tuple[CryptoSigner, ...]]) -> Callable[[dict[str, Any]], object]:
    """The guarded channel with these release roles: threshold, and keys."""

    def change(policy: dict[str, Any]) -> None:
        policy["channels"]["guarded"]["releaseRoles"] = {
            name: {"threshold": threshold, "keyids": [key.public_key.keyid for key in keys]}
            for name, (threshold, keys) in wanted.items()
        }

    return change


def signed(*signers: CryptoSigner, statement: ReleaseStatement = STATEMENT) -> bytes:
    return Envelope.sign(statement.to_bytes(), signers or (OFFICER,)).to_bytes()


def judge(raw: bytes, policy: TrustPolicy | None = None, **other: Any) -> VerifiedRelease:
    arguments = {"bundle": STATEMENT.bundle, "policy": policy or policy_of(), "now": NOW, **other}
    return verify_release(raw, **arguments)


def refused(raw: bytes, policy: TrustPolicy | None = None, **other: Any) -> AirgapError:
    with pytest.raises(AirgapError) as refusal:
        judge(raw, policy, **other)
    return refusal.value


def count(*raw: bytes, policy: TrustPolicy | None = None) -> ReleaseTally:
    return count_releases(raw, bundle=STATEMENT.bundle, policy=policy or policy_of(), now=NOW)


def test_release_by_a_release_role_of_the_channel_counts() -> None:
    release = judge(signed())
    assert release.statement == STATEMENT
    assert {key.holder for key in release.keys.values()} == {"security office"}
    tally = count(signed())
    assert tally.is_complete
    assert [(one.holder, one.role, one.released_at) for one in tally.releases] == [
        ("security office", "officer", NOW)
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"manifest_sha256": "0" * 64},
        {"transfer_id": "another0001"},
        {"channel": "prod"},
        {"sequence": 2},
        {"target": "other.azurecr.us"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_release_of_another_bundle_channel_or_target_counts_for_nothing(other: dict[str, Any]) -> None:
    elsewhere = replace(STATEMENT, bundle=replace(STATEMENT.bundle, **other))
    assert refused(signed(statement=elsewhere)).code is Code.RELEASE_MISMATCH
    assert not count(signed(statement=elsewhere)).is_complete


@pytest.mark.parametrize("signer", [P384, TARGET_KEY, STRANGER, ED25519])
def test_key_of_another_role_or_channel_releases_nothing(signer: CryptoSigner) -> None:
    assert refused(signed(signer)).code is Code.SIGNER_UNKNOWN
    assert count(signed(signer)) == ReleaseTally(releases=(), missing=("role officer: 0 of 1",))


def test_officer_releases_nothing_in_a_channel_that_does_not_name_him() -> None:
    elsewhere = replace(STATEMENT, bundle=replace(STATEMENT.bundle, channel="prod"))
    refusal = refused(signed(statement=elsewhere), bundle=elsewhere.bundle)
    assert refusal.code is Code.SIGNER_UNKNOWN


def test_stranger_beside_the_officer_is_passed_over_and_not_kept() -> None:
    release = judge(signed(STRANGER, OFFICER))
    assert release.keys.keys() == {OFFICER.public_key.keyid}
    (kept,) = release.apart().values()
    assert Envelope.from_bytes(kept).signatures.keys() == {OFFICER.public_key.keyid}
    assert count(kept).is_complete


def test_forged_release_counts_for_nothing() -> None:
    by_stranger = Envelope.from_bytes(signed(STRANGER))
    (signature,) = by_stranger.signatures.values()
    keyid = OFFICER.public_key.keyid
    forged = Envelope(payload=by_stranger.payload, signatures={keyid: signature}).to_bytes()
    assert refused(forged).code is Code.SIGNATURE_INVALID
    assert not count(forged).is_complete


def test_release_that_could_not_be_checked_is_not_called_forged() -> None:
    policy, keyid = policy_of(), OFFICER.public_key.keyid
    broken = SSlibKey(keyid, "ecdsa", "ecdsa-sha2-nistp384", {"public": "not a key"})
    held = TrustedKey(holder="security office", public_key=broken)
    policy = replace(policy, keys={**policy.keys, keyid: held})
    assert refused(signed(), policy).code is Code.SIGNATURE_UNCHECKABLE
    assert not count(signed(), policy=policy).is_complete


def test_statement_of_another_kind_is_no_release_though_the_officer_signed_it() -> None:
    manifest = json.loads(STATEMENT.to_bytes()) | {"predicateType": "urn:acr-airgap-transfer:bundle:v1"}
    raw = Envelope.sign(dump_canonical(manifest), [OFFICER]).to_bytes()
    assert refused(raw).code is Code.RELEASE_MALFORMED


@pytest.mark.parametrize("seconds", [0, 1])
def test_release_of_the_future_does_not_count(seconds: int) -> None:
    later = replace(STATEMENT, released_at=NOW + timedelta(seconds=seconds))  # the channel's skew is 0
    assert count(signed(statement=later)).is_complete is (seconds == 0)
    if seconds:
        assert refused(signed(statement=later)).code is Code.NOT_YET_VALID


def test_skew_of_the_channel_is_allowed_for() -> None:
    policy = policy_of(lambda p: p["channels"]["guarded"].update(clockSkewSeconds=60))
    for seconds, is_in_time in ((60, True), (61, False)):
        later = replace(STATEMENT, released_at=NOW + timedelta(seconds=seconds))
        assert count(signed(statement=later), policy=policy).is_complete is is_in_time


def test_release_by_a_revoked_key_does_not_count() -> None:
    def revoke(policy: dict[str, Any]) -> None:
        policy["revoked"].append({"keyid": OFFICER.public_key.keyid, "from": "2026-01-31T08:00:00Z"})

    assert refused(signed(), policy_of(revoke)).code is Code.KEY_REVOKED
    assert not count(signed(), policy=policy_of(revoke)).is_complete


def test_nothing_counts_by_a_policy_that_nobody_renewed_or_that_has_lost_the_channel() -> None:
    expired = policy_of(lambda p: p.update(expiresAt="2026-01-31T08:00:00Z"))
    lost = policy_of(lambda p: p["channels"].pop("guarded"))
    for policy, code in ((expired, Code.POLICY_EXPIRED), (lost, Code.CHANNEL_UNKNOWN)):
        assert refused(signed(), policy).code is code
        with pytest.raises(PolicyRefusal) as refusal:
            count(policy=policy)
        assert refusal.value.code is code


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_release_beyond_64_kib_is_refused_unread(size: int) -> None:
    raw = signed().ljust(size)
    if size > 64 * 1024:
        assert refused(raw).code is Code.TOO_LARGE
    else:
        assert judge(raw).statement == STATEMENT


@pytest.mark.parametrize(
    "subject",
    [
        [],
        [{"name": "bundle-manifest", "digest": {"sha256": "0" * 64}}] * 2,
        [{"name": "another", "digest": {"sha256": "0" * 64}}],
    ],
    ids=["none", "two", "another name"],
)
def test_release_of_other_than_one_manifest_is_refused(subject: list[Any]) -> None:
    raw = dump_canonical(json.loads(STATEMENT.to_bytes()) | {"subject": subject})
    with pytest.raises(AirgapError) as refusal:
        ReleaseStatement.from_bytes(raw)
    assert refusal.value.code is Code.RELEASE_MALFORMED


def two_roles(policy: dict[str, Any]) -> None:
    """Two officers of three keys, one of whom has two, and an auditor."""
    roles(officer=(2, (OFFICER, STRANGER, P256)), auditor=(1, (ED25519,)))(policy)
    policy["keys"].append({"holder": "security office", "publicKey": public_pem(STRANGER)})


@pytest.mark.parametrize(
    ("signers", "missing"),
    [
        ((), ("role auditor: 0 of 1", "role officer: 0 of 2")),
        ((OFFICER, STRANGER), ("role auditor: 0 of 1", "role officer: 1 of 2")),
        ((OFFICER, P256), ("role auditor: 0 of 1",)),
        ((OFFICER, STRANGER, ED25519), ("role officer: 1 of 2",)),
        ((OFFICER, P256, ED25519), ()),
    ],
)
@pytest.mark.parametrize("is_together", [True, False])
def test_holders_are_counted_and_every_role_is_asked_whether_they_sign_together_or_apart(
    signers: tuple[CryptoSigner, ...], missing: tuple[str, ...], is_together: object
) -> None:
    envelopes = [signed(*signers)] if is_together and signers else [signed(one) for one in signers]
    tally = count(*envelopes, policy=policy_of(two_roles))
    assert tally.missing == missing
    assert len(tally.releases) == len(signers)


def test_second_algorithm_that_a_role_requires_must_be_there() -> None:
    def hybrid(policy: dict[str, Any]) -> None:
        roles(officer=(1, (OFFICER, ED25519)))(policy)
        policy["keys"][2]["holder"] = "security office"
        policy["channels"]["prod"]["bundleRoles"].pop("releaser")
        role = policy["channels"]["guarded"]["releaseRoles"]["officer"]
        role["requiredAlgorithms"] = ["ecdsa-sha2-nistp384", "ed25519"]

    policy = policy_of(hybrid)
    assert "each of" in count(signed(), policy=policy).missing[0]
    assert count(signed(), signed(ED25519), policy=policy).is_complete


def test_what_does_not_count_stands_in_nobodys_way() -> None:
    assert count(b"", b"{}", signed(STRANGER), signed(), signed(P384)).is_complete


def test_channel_without_release_roles_misses_nothing() -> None:
    policy = policy_of(lambda p: p["channels"]["guarded"].pop("releaseRoles"))
    assert count(policy=policy) == ReleaseTally(releases=(), missing=())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("manifest_sha256", "A" * 64),
        ("manifest_sha256", 7),
        ("transfer_id", "../x"),
        ("transfer_id", None),
        ("channel", "Prod"),
        ("channel", None),
        ("sequence", 0),
        ("sequence", None),
        ("target", "https://x"),
        ("target", None),
    ],
)
def test_release_of_a_bundle_that_cannot_be_cannot_be_made(member: str, value: object) -> None:
    change: dict[str, Any] = {member: value}
    with pytest.raises(AirgapError) as refusal:
        replace(STATEMENT.bundle, **change)
    assert refusal.value.code is Code.RELEASE_MALFORMED


@pytest.mark.parametrize("member", ["bundle", "released_at", "tool"])
def test_release_without_one_of_its_members_cannot_be_made(member: str) -> None:
    change: dict[str, Any] = {member: None}
    with pytest.raises(AirgapError) as refusal:
        replace(STATEMENT, **change)
    assert refusal.value.code is Code.RELEASE_MALFORMED
