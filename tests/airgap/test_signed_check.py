"""Signed answers of checks: verified before they are parsed, and bound to exactly what was asked."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from airgap.checks import MAX_ANSWER_BYTES, CheckAnswer
from airgap.envelope import Envelope
from airgap.errors import AirgapError, Code, error_for
from airgap.parts import MAX_BLOBS
from airgap.policy import TrustPolicy
from airgap.signatures import CryptoSigner, VerificationError
from airgap.signed_check import CheckStatement, read_answer
from airgap.strict_json import dump_canonical
from tests.vectors.generate import (
    MLDSA87,
    NOW,
    OFFICER,
    P384,
    REVOKED,
    SCANNER,
    STRANGER,
    check_answer,
    check_question,
    check_statement,
    policy_json,
    release_statement,
)

QUESTION, STATEMENT = check_question(), check_statement()


def read(
    raw: bytes, *signers: CryptoSigner, threshold: int = 1, algorithms: Sequence[str] = ()
) -> CheckAnswer:
    """As a target reads it whose policy wants the signatures of ``signers``."""
    value: Any = policy_json()
    keyids = [one.public_key.keyid for one in signers or (SCANNER,)]
    role = {"threshold": threshold, "keyids": keyids, "requiredAlgorithms": list(algorithms)}
    # In a channel of its own, where nobody has another role.
    value["channels"]["checked"] = value["channels"]["test"] | {
        "bundleRoles": {"source": {"threshold": 1, "keyids": [STRANGER.public_key.keyid]}},
        "checkRoles": {"scan": role},
    }
    value["keys"].append({"holder": "stranger", "publicKey": STRANGER.public_key.keyval["public"]})
    policy = TrustPolicy.from_json(value)
    return read_answer(
        raw, QUESTION, role=policy.channels["checked"].check_roles["scan"], policy=policy, now=NOW
    )


def refusal_of(act: Callable[[], object]) -> AirgapError:
    with pytest.raises(AirgapError) as refusal:
        act()
    assert type(refusal.value) is type(error_for(refusal.value.code))
    return refusal.value


def signed(statement: CheckStatement = STATEMENT, *signers: CryptoSigner) -> bytes:
    return Envelope.sign(statement.to_bytes(), signers or (SCANNER,)).to_bytes()


def test_answer_counts_that_the_role_has_signed_and_says_whose_signature_it_was() -> None:
    answer = read(signed())
    assert answer.passed
    assert [(one.keyid, one.role) for one in answer.signers] == [(SCANNER.public_key.keyid, "scan")]
    failed = replace(STATEMENT, finding=replace(STATEMENT.finding, verdict="fail", detail="EICAR"))
    assert (read(signed(failed)).code, read(signed(failed)).detail) == (Code.CHECK_FAILED, "EICAR")


def test_policy_that_wants_no_signature_takes_the_plain_answer_and_no_signed_one() -> None:
    policy = TrustPolicy.from_json(policy_json())
    answer = read_answer(check_answer(), QUESTION, role=None, policy=policy, now=NOW)
    assert (answer.passed, answer.signers) == (True, ())
    refusal = refusal_of(lambda: read_answer(signed(), QUESTION, role=None, policy=policy, now=NOW))
    assert refusal.code is Code.CHECK_MALFORMED


def forged() -> bytes:
    """The signature of something else, in the scanner's name."""
    other = Envelope.sign(b"{}", [SCANNER])
    return Envelope(payload=STATEMENT.to_bytes(), signatures=other.signatures).to_bytes()


UNSIGNED: dict[str, Callable[[], bytes]] = {
    "nobody": check_answer,
    "a stranger": lambda: signed(STATEMENT, STRANGER),
    "an officer who may not speak for checks": lambda: signed(STATEMENT, OFFICER),
}


@pytest.mark.parametrize("who", UNSIGNED)
def test_answer_is_none_that_was_signed_by(who: str) -> None:
    assert refusal_of(lambda: read(UNSIGNED[who]())).code is Code.CHECK_UNSIGNED


def test_forged_answer_is_told_apart_from_an_unsigned_one() -> None:
    assert refusal_of(lambda: read(forged())).code is Code.CHECK_FORGED


def test_forged_signature_beside_a_good_one_refuses_the_answer() -> None:
    good, bad = Envelope.from_bytes(signed(STATEMENT, P384)), Envelope.from_bytes(forged())
    both = Envelope(payload=good.payload, signatures={**good.signatures, **bad.signatures}).to_bytes()
    assert refusal_of(lambda: read(both, P384, SCANNER)).code is Code.CHECK_FORGED
    assert read(both, P384).passed  # the other's is passed over where nobody asks for it


def test_signature_that_cannot_be_checked_is_neither_forged_nor_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise VerificationError("no such algorithm here")

    monkeypatch.setattr("airgap.envelope.verify_signature", broken)
    assert refusal_of(lambda: read(signed())).code is Code.CHECK_UNCHECKABLE


def test_answer_of_a_revoked_key_does_not_count() -> None:
    refusal = refusal_of(lambda: read(signed(STATEMENT, REVOKED), REVOKED))
    assert refusal.code is Code.CHECK_UNSIGNED
    assert "KEY_REVOKED" in refusal.detail


def test_every_scanner_and_algorithm_that_the_role_asks_for_must_have_signed() -> None:
    assert refusal_of(lambda: read(signed(), SCANNER, OFFICER, threshold=2)).code is Code.CHECK_UNSIGNED
    assert len(read(signed(STATEMENT, SCANNER, OFFICER), SCANNER, OFFICER, threshold=2).signers) == 2
    hybrid, both = (P384, MLDSA87), ("ecdsa-sha2-nistp384", "ml-dsa-87/1")
    one_of_two = signed(STATEMENT, P384)
    assert refusal_of(lambda: read(one_of_two, *hybrid, algorithms=both)).code is Code.CHECK_UNSIGNED
    assert len(read(signed(STATEMENT, *hybrid), *hybrid, algorithms=both).signers) == 2


def test_nothing_counts_by_a_policy_that_has_expired() -> None:
    policy = TrustPolicy.from_json(policy_json())
    role = policy.channels["prod"].check_roles["scan"]
    read_answer(signed(), QUESTION, role=role, policy=policy, now=policy.expires_at - timedelta(seconds=1))
    refusal = refusal_of(
        lambda: read_answer(signed(), QUESTION, role=role, policy=policy, now=policy.expires_at)
    )
    assert refusal.code is Code.POLICY_EXPIRED


OTHERS: dict[str, CheckStatement] = {
    "another bundle": replace(STATEMENT, finding=replace(STATEMENT.finding, manifest_sha256="0" * 64)),
    "another check of the same service": replace(STATEMENT, check="licences"),
    "an earlier import of the bundle": replace(STATEMENT, import_id="import0"),
    "some of the copies": replace(
        STATEMENT, finding=replace(STATEMENT.finding, blobs=STATEMENT.finding.blobs[:1])
    ),
    "an earlier state of a copy": replace(
        STATEMENT,
        finding=replace(STATEMENT.finding, blobs=(("001", "0x0"), STATEMENT.finding.blobs[1])),
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_signed_answer_counts_for_nothing_that_was_given_for(what: str) -> None:
    assert refusal_of(lambda: read(signed(OTHERS[what]))).code is Code.CHECK_MALFORMED


def test_other_words_of_the_same_key_are_no_answer() -> None:
    release = Envelope.sign(release_statement().to_bytes(), [SCANNER]).to_bytes()
    assert refusal_of(lambda: read(release)).code is Code.CHECK_MALFORMED


def test_nothing_of_an_answer_is_parsed_before_its_signature_is_verified() -> None:
    garbage = Envelope(payload=b"[" * 9, signatures={SCANNER.public_key.keyid: b"x"}).to_bytes()
    assert refusal_of(lambda: read(garbage)).code is Code.CHECK_FORGED
    honest = Envelope.sign(b"[" * 9, [SCANNER]).to_bytes()
    assert refusal_of(lambda: read(honest)).code is Code.CHECK_MALFORMED


def test_signed_answer_without_end_is_not_read() -> None:
    assert refusal_of(lambda: read(signed().rstrip().ljust(131_073))).code is Code.TOO_LARGE
    assert read(signed().rstrip().ljust(131_072)).passed


def test_answer_about_as_many_blobs_as_there_may_be_is_read_with_two_hybrid_signers() -> None:
    blobs = tuple((f"{number:03d}", f"0x{number:016X}") for number in range(1, 1 + MAX_BLOBS))
    finding = replace(STATEMENT.finding, blobs=blobs, detail="d" * 500)
    statement = replace(STATEMENT, finding=finding)
    one, two = (len(signed(statement, *by)) for by in ((SCANNER,), (SCANNER, STRANGER, MLDSA87)))
    assert two + (two - one) < MAX_ANSWER_BYTES  # the second pair is as large as the first


INVALID: dict[str, dict[str, Any]] = {
    "a check whose name climbs": {"check": "../scan"},
    "no check": {"check": None},
    "no import": {"importId": ""},
    "an import without end": {"importId": "x" * 101},
    "further member": {"unless": "it rains"},
    "another verdict": {"verdict": "passed"},
}


@pytest.mark.parametrize("name", INVALID)
def test_statement_is_refused_that_has(name: str) -> None:
    raw = json.loads(STATEMENT.to_bytes())
    raw["predicate"] |= INVALID[name]
    assert refusal_of(lambda: CheckStatement.from_bytes(dump_canonical(raw))).code is Code.CHECK_MALFORMED


def test_statement_is_about_one_manifest() -> None:
    raw = json.loads(STATEMENT.to_bytes())
    for subjects in ([raw["subject"][0]] * 2, [raw["subject"][0] | {"name": "bundle"}]):
        statement = dump_canonical(raw | {"subject": subjects})
        refusal = refusal_of(partial(CheckStatement.from_bytes, statement))
        assert refusal.code is Code.CHECK_MALFORMED


def test_statement_that_no_reader_takes_cannot_be_made() -> None:
    assert replace(STATEMENT, import_id="x" * 100).import_id == "x" * 100
    not_found: Any = {"verdict": "pass"}
    for change in (
        lambda: replace(STATEMENT, finding=not_found),
        lambda: replace(STATEMENT.finding, manifest_sha256="A" * 64),
        lambda: replace(STATEMENT.finding, manifest_sha256=""),
    ):
        assert refusal_of(change).code is Code.CHECK_MALFORMED
