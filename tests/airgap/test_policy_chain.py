"""The chain of trust policies under attack: python-tuf's attacks on its root role, and some of our own."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.policy import MAX_POLICY_BYTES, TrustPolicy
from airgap.policy_chain import (
    MAX_FOLLOWING,
    MAX_VERSION_BYTES,
    PREDICATE_TYPE,
    SUBJECT,
    Chain,
    PolicyVersion,
    Stop,
    UsedPolicy,
    follow,
    next_policy,
    officer_keys,
    require_newest,
    sign_version,
    version_name,
)
from airgap.statement import Statement, Subject
from tests.bundles import SigningKey, default_key, make_bundle, make_policy
from tests.policies import ADA, BOB, CLEO, DAN, THREE, chain_of, policy_version, signed

V1 = policy_version(1)
V2 = policy_version(2)
V3 = policy_version(3)
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def read(policy: bytes) -> TrustPolicy:
    return TrustPolicy.from_bytes(policy)


def start(policy: bytes = V1) -> Chain:
    return Chain(links=(read(policy),))


def refused(before: bytes, envelope: bytes) -> Code:
    with pytest.raises(AirgapError) as error:
        next_policy(read(before), envelope)
    return error.value.code


def followed(versions: Mapping[int, bytes], pinned: bytes = V1) -> Chain:
    return follow(start(pinned), versions.get)


def test_version_that_enough_officers_of_both_sign_follows() -> None:
    assert next_policy(read(V1), signed(V1, V2, ADA, BOB)) == read(V2)
    assert next_policy(read(V1), signed(V1, V2, ADA, CLEO, BOB)) == read(V2)


def test_spaces_and_order_of_members_make_no_other_policy() -> None:
    spaced = json.dumps(dict(reversed(json.loads(V1).items())), indent=3).encode()
    assert spaced != V1
    assert read(spaced).sha256 == read(V1).sha256
    assert next_policy(read(spaced), signed(V1, V2, ADA, BOB)) == read(V2)


# root rotation: both thresholds


def test_threshold_of_the_version_before_is_not_reached() -> None:
    assert refused(V1, signed(V1, policy_version(2, threshold=1), ADA)) is Code.THRESHOLD_NOT_MET


def test_threshold_of_the_new_version_is_not_reached() -> None:
    strict = policy_version(2, threshold=3)
    assert refused(V1, signed(V1, strict, ADA, BOB)) is Code.THRESHOLD_NOT_MET
    assert next_policy(read(V1), signed(V1, strict, ADA, BOB, CLEO)) == read(strict)


def test_new_officers_cannot_let_themselves_in() -> None:
    taken = policy_version(2, officers={"Dan": DAN}, threshold=1)
    assert refused(V1, signed(V1, taken, DAN)) is Code.SIGNER_UNKNOWN


def test_officers_cannot_appoint_others_without_these() -> None:
    handed = policy_version(2, officers={"Dan": DAN}, threshold=1)
    assert refused(V1, signed(V1, handed, ADA, BOB)) is Code.SIGNER_UNKNOWN
    assert next_policy(read(V1), signed(V1, handed, ADA, BOB, DAN)) == read(handed)


def test_threshold_is_not_reached_by_many_keys_of_one_holder() -> None:
    keys = {"Ada": ADA, "Ada, again": DAN, "Bob": BOB}
    pinned, following = policy_version(1, officers=keys), policy_version(2, officers=keys)
    assert refused(pinned, signed(pinned, following, ADA, DAN)) is Code.THRESHOLD_NOT_MET
    assert next_policy(read(pinned), signed(pinned, following, ADA, BOB)) == read(following)


def test_threshold_is_not_reached_by_one_signature_given_twice() -> None:
    document = json.loads(signed(V1, V2, ADA))
    document["signatures"] *= 2
    assert refused(V1, json.dumps(document).encode()) is Code.ENVELOPE_MALFORMED


def test_every_policy_role_must_sign() -> None:
    def add_witness(policy: dict[str, Any]) -> None:
        policy["keys"].append({"holder": "Dan", "publicKey": DAN.public_pem})
        policy["policyRoles"]["witness"] = {"threshold": 1, "keyids": [DAN.keyid]}

    pinned = policy_version(1, change=add_witness)
    assert refused(pinned, signed(pinned, V2, ADA, BOB, CLEO)) is Code.THRESHOLD_NOT_MET
    assert next_policy(read(pinned), signed(pinned, V2, ADA, BOB, DAN)) == read(V2)


def test_signer_of_bundles_signs_no_policy() -> None:
    assert refused(V1, signed(V1, V2, default_key())) is Code.SIGNER_UNKNOWN


def test_forged_signature_of_an_officer_refuses_the_version() -> None:
    document = json.loads(signed(V1, V2, ADA, BOB, CLEO))
    document["signatures"][0]["sig"] = document["signatures"][1]["sig"]
    assert refused(V1, json.dumps(document).encode()) is Code.SIGNATURE_INVALID


def test_policy_that_is_pinned_by_hand_has_no_next_one() -> None:
    by_hand = make_policy([default_key()])
    following = policy_version(2)
    assert refused(by_hand, signed(by_hand, following, ADA, BOB)) is Code.SIGNER_UNKNOWN


def test_chain_cannot_be_closed_by_a_version_that_nobody_can_follow() -> None:
    closing = policy_version(2, change=lambda policy: policy.pop("policyRoles"))
    assert refused(V1, signed(V1, closing, ADA, BOB)) is Code.SIGNER_UNKNOWN


# key compromise, rotation, revocation


def test_compromised_key_that_was_rotated_away_signs_no_later_version() -> None:
    rotated = policy_version(2, officers={"Ada": ADA, "Bob": BOB, "Dan": DAN})
    chain = followed({2: signed(V1, rotated, ADA, BOB)})
    assert chain.last == read(rotated)
    with_cleo = policy_version(3, officers=THREE)
    assert refused(rotated, signed(rotated, with_cleo, ADA, CLEO)) is Code.THRESHOLD_NOT_MET


@pytest.mark.parametrize("since", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_revoked_key_signs_no_version_whenever_it_is_revoked_from(since: str) -> None:
    def revoke(policy: dict[str, Any]) -> None:
        policy["revoked"] = [{"keyid": CLEO.keyid, "from": since}]

    revoking = policy_version(2, change=revoke)
    assert refused(V1, signed(V1, revoking, ADA, CLEO)) is Code.THRESHOLD_NOT_MET
    assert next_policy(read(V1), signed(V1, revoking, ADA, BOB)) == read(revoking)
    assert refused(revoking, signed(revoking, V3, ADA, CLEO)) is Code.THRESHOLD_NOT_MET
    assert refused(revoking, signed(revoking, V3, CLEO)) is Code.KEY_REVOKED
    assert next_policy(read(revoking), signed(revoking, V3, ADA, BOB)) == read(V3)


def test_chain_that_was_signed_by_a_key_that_is_revoked_later_goes_on() -> None:
    revoking = policy_version(
        3,
        officers={**THREE, "Dan": DAN},
        change=lambda p: p.update(revoked=[{"keyid": ADA.keyid, "from": "2020-01-01T00:00:00Z"}]),
    )
    versions = {2: signed(V1, V2, ADA, BOB), 3: signed(V2, revoking, BOB, CLEO)}
    assert followed(versions).last == read(revoking)


# arbitrary versions, gaps, replays, mix and match


@pytest.mark.parametrize("version", [1, 3, 99_999_999])
def test_arbitrary_version_is_not_taken_for_the_next(version: int) -> None:
    other = policy_version(version)
    envelope = version_after(read(V1), other, ADA, BOB)
    assert refused(V1, envelope) is Code.POLICY_NOT_NEXT


def version_after(before: TrustPolicy, policy: bytes, *keys: SigningKey) -> bytes:
    """As an officer with tools of his own would sign it, whatever its number."""
    version = PolicyVersion(policy=read(policy), previous_sha256=before.sha256)
    return Envelope.sign(version.to_bytes(), [key.signer for key in keys]).to_bytes()


def test_officers_tool_signs_no_arbitrary_version() -> None:
    with pytest.raises(PolicyRefusal, match="POLICY_NOT_NEXT"):
        sign_version(read(V1), read(V3), [ADA.signer])


def test_missing_version_is_not_passed_over() -> None:
    versions = chain_of([V1, V2, V3], ADA, BOB)
    del versions[2]
    assert followed(versions) == start()


def test_version_under_the_name_of_another_is_not_taken() -> None:
    versions = chain_of([V1, V2, V3], ADA, BOB)
    chain = followed({2: versions[3]})
    assert (chain.last, chain.stop and chain.stop.code) == (read(V1), Code.POLICY_NOT_NEXT)
    chain = followed({2: versions[2], 3: versions[2]})
    assert (chain.last, chain.stop and chain.stop.code) == (read(V2), Code.POLICY_NOT_NEXT)


def test_versions_of_two_histories_are_not_mixed() -> None:
    fork = policy_version(2, threshold=1)
    assert refused(fork, signed(V2, V3, ADA, BOB)) is Code.POLICY_FORKED
    assert followed({2: signed(V1, fork, ADA, BOB), 3: signed(V2, V3, ADA, BOB)}).last == read(fork)


def test_statement_of_another_kind_is_no_policy() -> None:
    bundle = make_bundle(keys=[ADA, BOB])
    assert refused(V1, bundle.envelope) is Code.POLICY_MALFORMED


def statement(**changed: Any) -> bytes:
    """The statement of version 2, something of it changed, signed as it must be."""
    members: dict[str, Any] = {
        "subjects": (Subject(name=SUBJECT, sha256=read(V2).sha256),),
        "predicate_type": PREDICATE_TYPE,
        "predicate": {"previous": f"sha256:{read(V1).sha256}", "policy": json.loads(V2)},
    }
    payload = Statement(**members | changed).to_bytes()
    return Envelope.sign(payload, [ADA.signer, BOB.signer]).to_bytes()


PREDICATE = {"previous": f"sha256:{read(V1).sha256}", "policy": json.loads(V2)}
MALFORMED: Mapping[str, dict[str, Any]] = {
    "another subject": {"subjects": (Subject(name="policy.json", sha256=read(V2).sha256),)},
    "subject of another policy": {"subjects": (Subject(name=SUBJECT, sha256=read(V3).sha256),)},
    "two subjects": {"subjects": (Subject(name=SUBJECT, sha256=read(V2).sha256),) * 2},
    "another type": {"predicate_type": "urn:acr-airgap-transfer:bundle:v1"},
    "without previous": {"predicate": {"policy": json.loads(V2)}},
    "previous is no digest": {"predicate": PREDICATE | {"previous": "latest"}},
    "previous is null": {"predicate": PREDICATE | {"previous": None}},
    "unknown member": {"predicate": PREDICATE | {"lax": True}},
    "policy that could accept nothing": {"predicate": PREDICATE | {"policy": json.loads(V2) | {"keys": []}}},
    "policy as text": {"predicate": PREDICATE | {"policy": V2.decode()}},
}


def test_statement_as_it_must_be_is_read() -> None:
    assert next_policy(read(V1), statement()) == read(V2)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_version_is_refused_though_it_is_signed(name: str) -> None:
    assert refused(V1, statement(**MALFORMED[name])) is Code.POLICY_MALFORMED


def test_version_cannot_be_made_of_what_no_reader_takes() -> None:
    with pytest.raises(PolicyRefusal, match="previous"):
        PolicyVersion(policy=read(V2), previous_sha256="latest")
    with pytest.raises(PolicyRefusal, match="not a TrustPolicy"):
        PolicyVersion(policy=json.loads(V2), previous_sha256="0" * 64)


# garbage, newer tools, what could not be asked


GARBAGE = {
    "nothing": b"",
    "no envelope": b"{}",
    "a policy without signatures": V2,
    "a page": b"<html>not found</html>",
    "too large": b" " * (MAX_VERSION_BYTES + 1),
    "signed by nobody known": signed(V1, V2, DAN),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_in_place_of_the_next_version_stops_nothing(name: str) -> None:
    chain = followed({2: GARBAGE[name]})
    assert chain.links == (read(V1),)
    assert chain.stop is not None
    assert chain.stop.version == 2
    assert followed({2: signed(V1, V2, ADA, BOB)}).stop is None


def test_largest_policy_can_be_signed_by_many_and_read() -> None:
    def fill(policy: dict[str, Any]) -> None:
        patterns = [f"team/{'x' * 240}{number:03d}" for number in range(100)]
        template = policy["channels"]["prod"] | {"repositories": patterns}
        policy["channels"] |= {f"c{number}": template for number in range(10)}

    large = policy_version(2, change=fill)
    assert MAX_POLICY_BYTES * 9 // 10 < len(large) <= MAX_POLICY_BYTES
    envelope = signed(V1, large, ADA, BOB, CLEO)
    assert len(envelope) <= MAX_VERSION_BYTES
    assert next_policy(read(V1), envelope) == read(large)


def test_envelope_of_one_byte_too_many_is_refused_unread() -> None:
    padded = signed(V1, V2, ADA, BOB).ljust(524_288)
    assert next_policy(read(V1), padded) == read(V2)
    assert refused(V1, padded + b" ") is Code.TOO_LARGE


NEWER: Mapping[str, dict[str, Any]] = {
    "statement": {"predicate_type": "urn:acr-airgap-transfer:trust-policy:v2"},
    "document": {"predicate": PREDICATE | {"policy": {"schema": 2}}},
}


@pytest.mark.parametrize("name", NEWER)
def test_version_of_a_newer_tool_that_is_signed_as_it_must_be_is_not_passed_over(name: str) -> None:
    with pytest.raises(UntrustedInputError, match="NEWER_FORMAT"):
        followed({2: statement(**NEWER[name])})


def test_version_that_only_claims_to_be_of_a_newer_tool_stops_nothing() -> None:
    document = json.loads(statement(**NEWER["statement"]))
    document["payload"] = base64.b64encode(base64.b64decode(document["payload"]) + b" ").decode()
    chain = followed({2: json.dumps(document).encode()})
    assert chain.stop is not None
    assert chain.stop.code is Code.SIGNATURE_INVALID


def test_what_could_not_be_asked_is_not_taken_for_absent() -> None:
    def away(_: int) -> bytes:
        raise ServiceError(Code.SERVICE_UNREACHABLE, "storage")

    with pytest.raises(ServiceError):
        follow(start(), away)


def test_version_that_is_too_large_to_be_fetched_stops_nothing() -> None:
    def fetch(_: int) -> bytes:
        raise UntrustedInputError(Code.TOO_LARGE, "00000002.dsse.json")

    assert follow(start(), fetch) == Chain(
        links=(read(V1),), stop=Stop(version=2, code=Code.TOO_LARGE, detail="00000002.dsse.json")
    )


# freeze, expiry, endless chains, rollback, fast-forward


def expired(version: int) -> bytes:
    return policy_version(version, change=lambda p: p.update(expiresAt="2020-01-01T00:00:00Z"))


def test_expired_version_between_leads_to_the_next() -> None:
    policies = [expired(1), expired(2), V3]
    chain = followed(chain_of(policies, ADA, BOB), expired(1))
    assert chain.last == read(V3)
    chain.last.require_in_force(NOW)


def test_freeze_ends_with_the_expiry_of_the_last_version() -> None:
    chain = followed({2: signed(V1, expired(2), ADA, BOB)})
    assert chain.last.version == 2
    with pytest.raises(PolicyRefusal, match="POLICY_EXPIRED"):
        chain.last.require_in_force(NOW)


def test_endless_chain_is_followed_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_FOLLOWING == 1000
    monkeypatch.setattr("airgap.policy_chain.MAX_FOLLOWING", 3)
    policies = [policy_version(number) for number in range(1, 6)]
    versions = chain_of(policies, ADA, BOB)
    chain = followed(versions)
    assert [link.version for link in chain.links] == [1, 2, 3, 4]
    assert chain.stop is not None
    assert (chain.stop.version, chain.stop.code) == (5, Code.POLICY_NOT_NEXT)
    assert follow(chain, versions.get) == chain  # nor by asking again
    del versions[5]
    assert followed(versions).stop is None


def test_fast_forward_is_recovered_from_by_pinning_a_later_version() -> None:
    pinned = policy_version(MAX_FOLLOWING + 2)
    require_newest(start(pinned), {1: read(V1).sha256, MAX_FOLLOWING + 1: "0" * 64})


def test_chain_goes_on_from_where_it_was() -> None:
    versions = chain_of([V1, V2, V3], ADA, BOB)
    first = followed({2: versions[2]})
    asked: list[int] = []

    def find(version: int) -> bytes | None:
        asked.append(version)
        return versions.get(version)

    assert [link.version for link in follow(first, find).links] == [1, 2, 3]
    assert asked == [3, 4]
    assert first.pinned == read(V1)


def test_rollback_to_an_older_version_is_refused() -> None:
    used = {1: read(V1).sha256, 2: read(V2).sha256}
    require_newest(followed({2: signed(V1, V2, ADA, BOB)}), used)
    with pytest.raises(PolicyRefusal, match="POLICY_ROLLED_BACK"):
        require_newest(start(), used)
    require_newest(start(), {})


def test_fork_of_what_was_in_force_is_refused_wherever_it_began() -> None:
    fork = policy_version(2, threshold=1)
    chain = followed({2: signed(V1, fork, ADA, BOB), 3: signed(fork, V3, ADA, BOB)})
    assert chain.last.version == 3
    for used in ({2: read(V2).sha256}, {1: "0" * 64}, {3: "0" * 64}):
        with pytest.raises(PolicyRefusal, match="POLICY_FORKED"):
            require_newest(chain, used)
    require_newest(chain, {2: read(fork).sha256})


# records and names


def test_record_says_which_policy_was_in_force() -> None:
    record = UsedPolicy(version=2, sha256=read(V2).sha256)
    assert UsedPolicy.from_bytes(record.to_bytes()) == record


@pytest.mark.parametrize(
    "change",
    [{"version": 0}, {"version": True}, {"policyDigest": "0" * 64}, {"more": 1}, {"schema": 0}],
    ids=str,
)
def test_planted_record_is_refused(change: dict[str, Any]) -> None:
    raw = json.loads(UsedPolicy(version=2, sha256="0" * 64).to_bytes()) | change
    with pytest.raises(PolicyRefusal, match="POLICY_MALFORMED"):
        UsedPolicy.from_bytes(json.dumps(raw).encode())


def test_record_cannot_be_made_of_what_no_reader_takes() -> None:
    with pytest.raises(PolicyRefusal):
        UsedPolicy(version=2, sha256="latest")
    assert UsedPolicy(version=99_999_999, sha256="0" * 64).version == 99_999_999
    with pytest.raises(PolicyRefusal, match="POLICY_MALFORMED"):
        UsedPolicy(version=100_000_000, sha256="0" * 64)
    with pytest.raises(UntrustedInputError, match="TOO_LARGE"):
        UsedPolicy.from_bytes(b" " * 1025)
    assert UsedPolicy.from_bytes(UsedPolicy(version=1, sha256="0" * 64).to_bytes().ljust(1024)).version == 1


def test_names_come_in_the_order_of_versions() -> None:
    assert [version_name(number) for number in (2, 99_999_999)] == [
        "00000002.dsse.json",
        "99999999.dsse.json",
    ]


def test_officers_are_who_stands_in_a_policy_role_of_either_version_and_is_not_revoked() -> None:
    before = policy_version(1, officers={"Ada": ADA, "Bob": BOB}, threshold=1)
    revoked = {"revoked": [{"keyid": BOB.keyid, "from": "2026-01-01T00:00:00Z"}]}
    after = policy_version(
        2, officers={"Bob": BOB, "Cleo": CLEO}, threshold=1, change=lambda policy: policy.update(revoked)
    )
    assert officer_keys(read(before), read(before)).keys() == {ADA.keyid, BOB.keyid}
    assert officer_keys(read(before), read(after)).keys() == {ADA.keyid, BOB.keyid, CLEO.keyid}
    assert officer_keys(read(after), read(after)).keys() == {CLEO.keyid}
    assert default_key().keyid in read(before).keys
