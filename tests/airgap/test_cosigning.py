"""Signatures by people: how one is kept, and that what is kept is read strictly."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airgap.cosigning import (
    MAX_SIGNATURE_BYTES,
    KeptSignature,
    SignatureTally,
    count_signatures,
    put_together,
    roles_of_people,
)
from airgap.envelope import Envelope
from airgap.errors import Code, UntrustedInputError
from airgap.policy import TrustPolicy
from airgap.strict_json import dump_canonical
from tests.bundles import CHANNEL, SigningKey, default_key, make_bundle, make_policy, new_key

KEPT = KeptSignature(
    keyid=default_key().keyid, signature=b"signature", by="ada", at=datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
)


def test_kept_signature_is_read_as_it_was_written() -> None:
    assert KeptSignature.from_bytes(KEPT.to_bytes()) == KEPT


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": 2}, Code.NEWER_FORMAT),
        ({"keyid": "x"}, Code.ENVELOPE_MALFORMED),
        ({"sig": "no base64"}, Code.ENVELOPE_MALFORMED),
        ({"sig": ""}, Code.ENVELOPE_MALFORMED),
        ({"by": "a\nb"}, Code.ENVELOPE_MALFORMED),
        ({"at": "today"}, Code.ENVELOPE_MALFORMED),
        ({"more": 1}, Code.ENVELOPE_MALFORMED),
        ({"by": "x" * MAX_SIGNATURE_BYTES}, Code.TOO_LARGE),
    ],
    ids=str,
)
def test_what_is_no_kept_signature_is_refused(change: dict[str, Any], code: Code) -> None:
    raw = json.dumps(json.loads(KEPT.to_bytes()) | change).encode()
    with pytest.raises(UntrustedInputError) as caught:
        KeptSignature.from_bytes(raw)
    assert caught.value.code is code


# --- what counts --------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
APP, ADA, BOB, CARL, EVE = (default_key(), *(new_key() for _ in range(4)))
PERSONS = {"app": APP, "ada": ADA, "bob": BOB, "carl": CARL}


def policy_of(**changes: Any) -> TrustPolicy:
    """The source app signs, two approve, and one reviews; everybody has one key."""
    document = json.loads(make_policy([APP]))
    document["keys"] = [{"holder": name, "publicKey": key.public_pem} for name, key in PERSONS.items()]
    document["channels"][CHANNEL]["bundleRoles"] |= {
        "approver": {"threshold": 2, "keyids": [ADA.keyid, BOB.keyid]},
        "reviewer": {"threshold": 1, "keyids": [CARL.keyid]},
    }
    return TrustPolicy.from_bytes(json.dumps(document | changes).encode())


POLICY = policy_of()
BUNDLE = make_bundle(created_at=NOW, policy_json=make_policy([APP]))
OWN = Envelope.from_bytes(BUNDLE.envelope)


def kept(key: SigningKey, *, of: bytes = BUNDLE.payload, keyid: str | None = None) -> KeptSignature:
    signature = Envelope.sign(of, [key.signer]).signatures[key.keyid]
    return KeptSignature(keyid=keyid or key.keyid, signature=signature, by="somebody", at=NOW)


def tally(*signatures: KeptSignature, policy: TrustPolicy = POLICY) -> SignatureTally:
    channel = policy.channels[CHANNEL]
    return count_signatures(OWN, signatures, channel=channel, policy=policy, now=NOW)


def keyids(found: SignatureTally) -> list[str]:
    return [one.keyid for one in found.signed]


def test_roles_of_people_are_those_that_no_key_of_the_source_is_in() -> None:
    channel = POLICY.channels[CHANNEL]
    assert set(roles_of_people(channel, [APP.keyid])) == {"approver", "reviewer"}
    assert set(roles_of_people(channel, [APP.keyid, BOB.keyid])) == {"reviewer"}
    assert roles_of_people(channel, [APP.keyid, ADA.keyid, CARL.keyid]) == {}
    assert dict(roles_of_people(channel, [])) == dict(channel.bundle_roles)


def test_bundle_is_complete_once_each_role_has_its_persons() -> None:
    found = tally(kept(CARL), kept(BOB), kept(ADA))
    assert (found.is_complete, found.missing) == (True, ())
    assert keyids(found) == sorted([ADA.keyid, BOB.keyid, CARL.keyid])
    assert list(found.envelope.signatures) == [APP.keyid, *keyids(found)]
    assert found.envelope.payload == BUNDLE.payload


def test_what_is_missing_is_told_role_by_role() -> None:
    found = tally(kept(ADA))
    assert not found.is_complete
    assert [line.split(":")[0] for line in found.missing] == ["role approver", "role reviewer"]
    assert keyids(found) == [ADA.keyid]
    assert set(found.envelope.signatures) == {APP.keyid, ADA.keyid}
    assert [line.split(":")[0] for line in tally(kept(ADA), kept(BOB)).missing] == ["role reviewer"]
    assert len(tally().missing) == 2


@pytest.mark.parametrize(
    "planted",
    [
        kept(EVE),
        kept(EVE, keyid=BOB.keyid),
        kept(BOB, of=BUNDLE.payload + b" "),
        kept(ADA, keyid=BOB.keyid),
    ],
    ids=["stranger", "in bob's name", "another manifest", "ada's as bob's"],
)
def test_signature_that_somebody_planted_neither_counts_nor_travels(planted: KeptSignature) -> None:
    found = tally(kept(ADA), planted, kept(CARL))
    assert keyids(found) == sorted([ADA.keyid, CARL.keyid])
    assert [line.split(":")[0] for line in found.missing] == ["role approver"]
    assert set(found.envelope.signatures) == {APP.keyid, ADA.keyid, CARL.keyid}


def test_forged_signature_of_the_source_pushes_its_own_not_aside() -> None:
    found = tally(kept(EVE, keyid=APP.keyid), kept(ADA), kept(BOB), kept(CARL))
    assert found.is_complete
    assert found.envelope.signatures[APP.keyid] == OWN.signatures[APP.keyid]
    assert APP.keyid not in keyids(found)


def test_key_that_is_revoked_or_in_no_role_of_the_channel_does_not_count() -> None:
    revoked = policy_of(revoked=[{"keyid": BOB.keyid, "from": "2026-11-23T08:00:00Z"}])
    found = tally(kept(ADA), kept(BOB), kept(CARL), policy=revoked)
    assert (keyids(found), found.is_complete) == (sorted([ADA.keyid, CARL.keyid]), False)
    document = json.loads(make_policy([APP]))
    document["keys"] = [{"holder": name, "publicKey": key.public_pem} for name, key in PERSONS.items()]
    document["channels"] |= {
        "other": document["channels"][CHANNEL]
        | {"bundleRoles": {"approver": {"threshold": 1, "keyids": [ADA.keyid, BOB.keyid, CARL.keyid]}}}
    }
    found = tally(kept(ADA), policy=TrustPolicy.from_bytes(json.dumps(document).encode()))
    assert (keyids(found), found.missing) == ([], ())
    assert set(found.envelope.signatures) == {APP.keyid}


def test_signatures_are_put_together_in_order_of_their_key_ids_after_the_own() -> None:
    signatures = [kept(key) for key in (ADA, BOB, CARL)]
    for order in (signatures, signatures[::-1]):
        whole = put_together(OWN, order)
        assert list(whole.signatures) == [APP.keyid, *sorted(one.keyid for one in signatures)]
        assert whole.signatures[BOB.keyid] == signatures[1].signature


@pytest.mark.parametrize(("characters", "is_read"), [(128, True), (129, False)])
def test_who_handed_it_in_has_at_most_128_characters(characters: int, *, is_read: bool) -> None:
    raw = json.loads(KEPT.to_bytes()) | {"by": "x" * characters}
    if is_read:
        assert KeptSignature.from_bytes(dump_canonical(raw)).by == "x" * 128
        return
    with pytest.raises(UntrustedInputError, match=r"ENVELOPE_MALFORMED: .*by"):
        KeptSignature.from_bytes(dump_canonical(raw))


@pytest.mark.parametrize(("more", "is_read"), [(0, True), (1, False)])
def test_kept_signature_has_at_most_16_kib(more: int, *, is_read: bool) -> None:
    raw = dump_canonical(json.loads(KEPT.to_bytes())).ljust(16 * 1024 + more)
    if is_read:
        assert KeptSignature.from_bytes(raw) == KEPT
        return
    with pytest.raises(UntrustedInputError, match="TOO_LARGE"):
        KeptSignature.from_bytes(raw)


@pytest.mark.parametrize(
    "at", [NOW.replace(tzinfo=None), NOW.replace(microsecond=1)], ids=["without a zone", "a fraction"]
)
def test_time_that_could_not_be_written_is_refused(at: datetime) -> None:
    with pytest.raises(UntrustedInputError, match=r"ENVELOPE_MALFORMED: .*at"):
        replace(KEPT, at=at)


def test_largest_signature_there_is_is_kept() -> None:
    """One by ML-DSA-87 (FIPS 204)."""
    large = replace(KEPT, signature=b"s" * 4627)
    assert KeptSignature.from_bytes(large.to_bytes()) == large
