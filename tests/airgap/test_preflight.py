"""What the target would refuse is refused at the source: findings are what ``verify_bundle`` says there."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from airgap.errors import Code
from airgap.policy import TrustPolicy
from airgap.preflight import Terms, judge_keys, judge_terms
from airgap.verify import verify_bundle
from tests.bundles import AUDIENCE, CHANNEL, SigningKey, default_key, make_bundle, make_policy, new_key

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
TERMS = Terms(channel=CHANNEL, audience=AUDIENCE, repositories=["team/app001"], good_for=timedelta(days=90))


def policy(*keys: object, **rules: object) -> TrustPolicy:
    return TrustPolicy.from_bytes(make_policy(keys or [default_key()], **rules))  # type: ignore[arg-type]


def test_terms_that_the_target_takes_are_not_objected_to() -> None:
    assert judge_terms(policy(), TERMS) == ()


def test_every_fault_of_the_terms_is_found_at_once() -> None:
    terms = Terms(
        channel=CHANNEL,
        audience=["other.azurecr.io", *AUDIENCE],
        repositories=["team/app", "elsewhere/app"],
        good_for=timedelta(days=90, seconds=1),
    )
    found = judge_terms(policy(repositories=["team/*"]), terms)
    assert [(one.code, one.path) for one in found] == [
        (Code.REPOSITORY_REFUSED, ("artifacts", 1)),
        (Code.AUDIENCE_MISMATCH, ("audience", 0)),
        (Code.TOO_OLD, ("expiresInSeconds",)),
    ]
    assert "7776000 seconds" in found[2].wanted


def test_channel_that_the_policy_does_not_have_is_found() -> None:
    (found,) = judge_terms(policy(channel="dev"), TERMS)
    assert (found.code, found.path) == (Code.CHANNEL_UNKNOWN, ("channel",))
    assert "dev" in found.wanted


@pytest.mark.parametrize(
    ("signing", "code"),
    [("all", None), ("one of two", Code.THRESHOLD_NOT_MET), ("none", Code.THRESHOLD_NOT_MET)],
)
def test_keys_are_judged_as_the_target_will(signing: str, code: Code | None) -> None:
    first, second = new_key(), new_key()
    trusted = policy(first, second)
    keys = {"all": [first, second], "one of two": [first], "none": []}[signing]
    found = judge_keys(trusted, CHANNEL, {key.keyid for key in keys}, now=NOW)
    assert [one.code for one in found] == ([] if code is None else [code])
    if keys:
        envelope = make_bundle(keys=keys, created_at=NOW).envelope
        assert verify_bundle(envelope, policy=trusted, now=NOW, target=AUDIENCE[0]).code is code


def with_people(threshold: int) -> tuple[TrustPolicy, SigningKey, SigningKey]:
    """The source signs, and of two people so many."""
    ada, bob = new_key(), new_key()
    made = json.loads(make_policy([default_key()]))
    for name, key in (("ada", ada), ("bob", bob)):
        made["keys"].append({"holder": name, "publicKey": key.public_pem})
    roles = made["channels"][CHANNEL]["bundleRoles"]
    roles["approver"] = {"threshold": threshold, "keyids": [ada.keyid, bob.keyid]}
    return TrustPolicy.from_bytes(json.dumps(made).encode()), ada, bob


def test_role_that_no_key_of_the_source_is_in_is_left_to_people() -> None:
    trusted, ada, _ = with_people(2)
    assert judge_keys(trusted, CHANNEL, {default_key().keyid}, now=NOW) == ()
    (found,) = judge_keys(trusted, CHANNEL, {ada.keyid}, now=NOW)  # then it must meet that role itself
    assert found.code is Code.THRESHOLD_NOT_MET
    (found,) = judge_keys(trusted, CHANNEL, set(), now=NOW)
    assert found.code is Code.THRESHOLD_NOT_MET


def test_policy_past_its_expiry_is_found() -> None:
    trusted = policy(expires_at="2026-11-23T08:00:00Z")
    (found,) = judge_keys(trusted, CHANNEL, {default_key().keyid}, now=NOW)
    assert found.code is Code.POLICY_EXPIRED
    assert judge_keys(trusted, CHANNEL, {default_key().keyid}, now=NOW - timedelta(seconds=1)) == ()
