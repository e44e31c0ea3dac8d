"""Break-glass under attack: what an override may lift, for whom, and signed by whom."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, UntrustedInputError
from airgap.ledger import judge_sequence
from airgap.manifest import BundleManifest
from airgap.override import (
    LIFTABLE,
    MAX_OVERRIDE_BYTES,
    PREDICATE_TYPE,
    SUBJECT,
    Override,
    override_name,
    verify_override,
)
from airgap.policy import OnGap, Order, TrustPolicy
from airgap.receipt import OverrideUse
from airgap.statement import Statement, Subject
from airgap.verify import CountedKey, verify_bundle
from tests.bundles import AUDIENCE, CHANNEL, Bundle, SigningKey, default_key, make_bundle, new_key
from tests.policies import ADA, BOB, CLEO, DAN
from tests.vectors.generate import NOW

SHA256 = "a" * 64


def with_overriders(policy_json: bytes, threshold: int = 2) -> bytes:
    """A policy whose channel has three people who may lift its rules together."""
    policy = json.loads(policy_json)
    policy["keys"] += [
        {"holder": name, "publicKey": key.public_pem}
        for name, key in (("Ada", ADA), ("Bob", BOB), ("Cleo", CLEO))
    ]
    keyids = [key.keyid for key in (ADA, BOB, CLEO)]
    policy["channels"][CHANNEL]["overrideRoles"] = {"officer": {"threshold": threshold, "keyids": keyids}}
    return json.dumps(policy).encode()


BUNDLE = make_bundle(created_at=NOW)
POLICY = TrustPolicy.from_bytes(with_overriders(BUNDLE.policy_json))


def override(**changed: Any) -> Override:
    members: dict[str, Any] = {
        "manifest_sha256": SHA256,
        "channel": CHANNEL,
        "target": AUDIENCE[0],
        "lifts": frozenset({Code.EXPIRED}),
        "reason": "the courier was late",
        "expires_at": NOW + timedelta(days=7),
    }
    return Override(**members | changed)


def verified(raw: bytes, policy: TrustPolicy = POLICY, **changed: Any) -> tuple[Override, OverrideUse]:
    meant: dict[str, Any] = {"manifest_sha256": SHA256, "channel": CHANNEL, "target": AUDIENCE[0], "now": NOW}
    return verify_override(raw, policy=policy, **meant | changed)


def signed(what: Override, *keys: SigningKey) -> bytes:
    return what.sign([key.signer for key in keys]).to_bytes()


def refused(raw: bytes, policy: TrustPolicy = POLICY, **changed: Any) -> Code:
    with pytest.raises(AirgapError) as error:
        verified(raw, policy, **changed)
    return error.value.code


def test_override_that_enough_have_signed_says_what_is_lifted_by_whom() -> None:
    found, use = verified(signed(override(), ADA, BOB))
    assert found == override()
    assert (use.lifts, use.reason) == (("EXPIRED",), "the courier was late")
    assert sorted(one.keyid for one in use.signers) == sorted([ADA.keyid, BOB.keyid])


def test_override_of_one_where_two_must_sign_lifts_nothing() -> None:
    assert refused(signed(override(), ADA)) is Code.THRESHOLD_NOT_MET


@pytest.mark.parametrize("key", [DAN, default_key()], ids=["stranger", "signer of bundles"])
def test_override_of_whoever_has_no_such_role_lifts_nothing(key: SigningKey) -> None:
    assert refused(signed(override(), key)) is Code.SIGNER_UNKNOWN


def test_channel_without_override_roles_has_none() -> None:
    assert refused(signed(override(), ADA, BOB), BUNDLE.policy) is Code.SIGNER_UNKNOWN


def test_forged_signature_refuses_the_override() -> None:
    document = json.loads(signed(override(), ADA, BOB, CLEO))
    document["signatures"][0]["sig"] = document["signatures"][1]["sig"]
    assert refused(json.dumps(document).encode()) is Code.SIGNATURE_INVALID


def test_revoked_officer_does_not_count() -> None:
    revoked = replace(POLICY, revoked={ADA.keyid: NOW})
    assert refused(signed(override(), ADA, BOB), revoked) is Code.THRESHOLD_NOT_MET


@pytest.mark.parametrize(
    "changed", [{"manifest_sha256": "b" * 64}, {"target": "other.azurecr.io"}], ids=lambda c: next(iter(c))
)
def test_override_for_something_else_lifts_nothing(changed: dict[str, Any]) -> None:
    assert refused(signed(override(**changed), ADA, BOB)) is Code.OVERRIDE_MISMATCH


def test_override_for_another_channel_lifts_nothing() -> None:
    assert refused(signed(override(channel="dev"), ADA, BOB)) is Code.OVERRIDE_MISMATCH
    assert refused(signed(override(), ADA, BOB), channel="dev") is Code.CHANNEL_UNKNOWN


def test_override_is_good_until_the_very_moment_that_it_ends() -> None:
    raw = signed(override(), ADA, BOB)
    end = NOW + timedelta(days=7)
    verified(raw, now=end - timedelta(seconds=1))
    assert refused(raw, now=end) is Code.OVERRIDE_MISMATCH


def test_larger_file_than_any_override_is_refused_unread() -> None:
    raw = signed(override(), ADA, BOB)
    assert MAX_OVERRIDE_BYTES == 262_144
    verified(raw.ljust(262_144))
    assert refused(raw.ljust(262_145)) is Code.TOO_LARGE


@pytest.mark.parametrize("code", [code for code in Code if code not in LIFTABLE])
def test_nothing_but_time_and_order_can_be_lifted(code: Code) -> None:
    with pytest.raises(UntrustedInputError, match="OVERRIDE_MALFORMED: lifts"):
        override(lifts=frozenset({code, Code.EXPIRED}))


def test_what_can_be_lifted_is_a_short_list() -> None:
    assert {code.name for code in LIFTABLE} == {
        *("NOT_YET_VALID", "EXPIRED", "TOO_OLD"),
        *("OUT_OF_ORDER", "SEQUENCE_GAP"),
    }


GOOD = {
    "channel": CHANNEL,
    "target": AUDIENCE[0],
    "lifts": ["EXPIRED"],
    "reason": "late",
    "expiresAt": "2036-01-31T08:00:00Z",
}
MALFORMED: Mapping[str, dict[str, Any]] = {
    "signatures lifted": {"predicate": GOOD | {"lifts": ["SIGNATURE_INVALID"]}},
    "nothing lifted": {"predicate": GOOD | {"lifts": []}},
    "no reason": {"predicate": GOOD | {"reason": ""}},
    "for ever": {"predicate": {name: value for name, value in GOOD.items() if name != "expiresAt"}},
    "unknown member": {"predicate": GOOD | {"again": True}},
    "another subject": {"subjects": (Subject(name="bundle", sha256=SHA256),)},
    "two subjects": {"subjects": (Subject(name=SUBJECT, sha256=SHA256),) * 2},
    "no digest": {"subjects": (Subject(name=SUBJECT, sha256="latest"),)},
    "a release": {"predicate_type": "urn:acr-airgap-transfer:release:v1"},
    "channel": {"predicate": GOOD | {"channel": "a/b"}},
    "target": {"predicate": GOOD | {"target": "*"}},
}


def statement(**changed: Any) -> bytes:
    members: dict[str, Any] = {
        "subjects": (Subject(name=SUBJECT, sha256=SHA256),),
        "predicate_type": PREDICATE_TYPE,
        "predicate": GOOD,
    }
    return Envelope.sign(Statement(**members | changed).to_bytes(), [ADA.signer, BOB.signer]).to_bytes()


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_override_lifts_nothing_though_it_is_signed(name: str) -> None:
    verified(statement())
    assert refused(statement(**MALFORMED[name])) is Code.OVERRIDE_MALFORMED


def test_override_of_a_newer_tool_lifts_nothing() -> None:
    assert refused(statement(predicate_type="urn:acr-airgap-transfer:override:v2")) is Code.NEWER_FORMAT


def test_override_has_a_name_by_its_manifest() -> None:
    assert override_name(SHA256) == f"overrides/{SHA256}.dsse.json"


# what is lifted, and what is not


def judged(bundle: Bundle, *lifted: Code, after: timedelta = timedelta()) -> Code | None:
    return verify_bundle(bundle.envelope, policy=bundle.policy, now=NOW + after, lifted=lifted).code


@pytest.mark.parametrize(
    ("code", "created", "lifetime"),
    [
        (Code.EXPIRED, timedelta(days=-3), timedelta(days=1)),
        (Code.TOO_OLD, timedelta(days=-100), timedelta(days=200)),
        (Code.NOT_YET_VALID, timedelta(days=1), timedelta(days=9)),
    ],
)
def test_each_rule_of_time_is_lifted_by_itself_only(
    code: Code, created: timedelta, lifetime: timedelta
) -> None:
    bundle = make_bundle(created_at=NOW + created, lifetime=lifetime)
    assert judged(bundle) is code
    assert judged(bundle, code) is None
    assert judged(bundle, *(LIFTABLE - {code})) is code


def test_every_override_at_once_lifts_no_other_rule() -> None:
    for other, code in (
        (make_bundle(created_at=NOW, audience=["other.azurecr.io"]), Code.AUDIENCE_MISMATCH),
        (make_bundle(created_at=NOW, channel="dev"), Code.CHANNEL_UNKNOWN),
        (make_bundle(created_at=NOW, keys=[new_key()]), Code.SIGNER_UNKNOWN),
    ):
        verdict = verify_bundle(other.envelope, policy=POLICY, now=NOW, lifted=LIFTABLE)
        assert verdict.code is code


def numbered(sequence: int) -> BundleManifest:
    return replace(BUNDLE.manifest, sequence=sequence, previous_sha256="0" * 64)


@pytest.mark.parametrize(
    ("sequence", "lifted", "code"),
    [
        (9, (), Code.SEQUENCE_GAP),
        (9, (Code.SEQUENCE_GAP,), None),
        (9, (Code.OUT_OF_ORDER,), Code.SEQUENCE_GAP),
        (5, (), Code.OUT_OF_ORDER),
        (5, (Code.OUT_OF_ORDER,), None),
        (5, (Code.SEQUENCE_GAP,), Code.OUT_OF_ORDER),
        (5000, tuple(LIFTABLE), Code.SEQUENCE_JUMP),
        (8, (), None),
    ],
)
def test_each_rule_of_order_is_lifted_by_itself_only(
    sequence: int, lifted: tuple[Code, ...], code: Code | None
) -> None:
    channel = replace(POLICY.channels[CHANNEL], order=Order.RISING, on_gap=OnGap.REFUSE)
    if code is None:
        judge_sequence(numbered(sequence), channel, [6, 7], frozenset(), lifted)
        return
    with pytest.raises(AirgapError) as error:
        judge_sequence(numbered(sequence), channel, [6, 7], frozenset(), lifted)
    assert error.value.code is code


def test_number_that_was_given_up_is_not_lifted() -> None:
    channel = replace(POLICY.channels[CHANNEL], order=Order.RISING)
    with pytest.raises(AirgapError, match="SEQUENCE_VOID"):
        judge_sequence(numbered(8), channel, [7], {8}, LIFTABLE)


def test_receipt_tells_no_override_without_rule_or_signer() -> None:
    signer = CountedKey(keyid=ADA.keyid, role="officer", scheme="ed25519")
    use = OverrideUse(lifts=("EXPIRED",), reason="late", signers=(signer,))
    assert OverrideUse.from_json(use.to_json()) == use
    faults: tuple[dict[str, Any], ...] = (
        *({"lifts": []}, {"lifts": ["expired"]}, {"signers": []}, {"reason": 7}, {"more": 1}),
    )
    for wrong in faults:
        with pytest.raises(UntrustedInputError, match="RECEIPT_MALFORMED: override"):
            OverrideUse.from_json(use.to_json() | wrong)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("lifts", frozenset()),
        ("lifts", frozenset({Code.SIGNATURE_INVALID})),
        ("reason", ""),
        ("reason", "x" * 201),
        ("expires_at", NOW.replace(tzinfo=None)),
        ("expires_at", NOW.replace(microsecond=5)),
    ],
)
def test_override_that_says_too_little_or_too_much_cannot_be_made(member: str, value: Any) -> None:
    with pytest.raises(UntrustedInputError) as error:
        override(**{member: value})
    assert error.value.code is Code.OVERRIDE_MALFORMED


@pytest.mark.parametrize(("member", "value"), [("lifts", frozenset(LIFTABLE)), ("reason", "x" * 200)])
def test_override_may_lift_all_that_can_be_lifted_and_give_a_long_reason(member: str, value: Any) -> None:
    found, _ = verified(signed(override(**{member: value}), ADA, BOB))
    assert getattr(found, member) == value


def test_override_that_lifts_nothing_is_malformed() -> None:
    statement = json.loads(override().to_bytes())
    statement["predicate"]["lifts"] = []
    raw = Envelope.sign(json.dumps(statement, sort_keys=True).encode(), [ADA.signer, BOB.signer]).to_bytes()
    assert refused(raw) is Code.OVERRIDE_MALFORMED
