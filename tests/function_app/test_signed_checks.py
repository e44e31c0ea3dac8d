"""Checks that the trust policy wants to be signed: who answers without the key passes nothing."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.checks import Check, Finding, ScanCheck
from airgap.envelope import Envelope
from airgap.errors import Code
from airgap.signed_check import CheckStatement
from function_app.ports import TargetSide
from tests.bundles import SigningKey, default_key, make_policy, new_key
from tests.function_app.memory import START
from tests.function_app.test_acceptance import with_policy
from tests.function_app.test_checking import SCAN, Guarded, answer_to
from tests.function_app.test_import import RECEIPT_KEY, bundle_of
from tests.function_app.test_releasing import ADA

SCANNER, OTHER = new_key(), new_key()


def policy_with(*, checks: tuple[str, ...] = ("scan",), **changes: Any) -> bytes:
    """A policy in which the scanner must sign these checks."""
    release_keys = changes.pop("release_keys", ())
    made = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], release_keys=release_keys, order="rising")
    policy = json.loads(made)
    (channel,) = policy["channels"].values()
    keys = dict(zip(checks, (SCANNER, OTHER), strict=False))
    channel["checkRoles"] = {name: {"threshold": 1, "keyids": [key.keyid]} for name, key in keys.items()}
    policy["keys"] += [{"holder": name, "publicKey": key.public_pem} for name, key in keys.items()]
    return json.dumps(policy | changes).encode()


def signed(question: bytes, key: SigningKey = SCANNER, **changes: Any) -> bytes:
    asked = json.loads(question)
    finding = Finding(
        manifest_sha256=asked["manifestDigest"].removeprefix("sha256:"),
        blobs=tuple((one["name"], one["etag"]) for one in asked["blobs"]),
        verdict="pass",
        detail="nothing found",
        scanner="tests 1",
    )
    told = {"check": asked["check"], "import_id": asked["importId"], "finding": finding} | changes
    return Envelope.sign(CheckStatement(**told).to_bytes(), [key.signer]).to_bytes()


def forged(question: bytes) -> bytes:
    envelope = Envelope.from_bytes(signed(question, OTHER))
    return Envelope(
        payload=envelope.payload, signatures={SCANNER.keyid: envelope.signatures[OTHER.keyid]}
    ).to_bytes()


def test_signed_pass_lets_the_bundle_in_and_is_kept_as_evidence() -> None:
    guarded, bundle = Guarded(SCAN, policy=policy_with()), bundle_of()
    guarded.checks.answer = lambda _, question: signed(question)
    outcome = guarded.target.receive(bundle)
    assert outcome["outcome"] == "imported"
    (check,) = guarded.target.receipt(outcome).checks
    assert [(one.keyid, one.role) for one in check.signers] == [(SCANNER.keyid, "scan")]
    kept = f"checks/{bundle.manifest_sha256}/{check.answer_sha256}.dsse.json"
    assert kept in guarded.target.blobs.names("ledger")
    raw = guarded.target.blobs.containers["ledger"][kept].content
    assert hashlib.sha256(raw).hexdigest() == check.answer_sha256
    (told,) = guarded.facts("promoting")["checks"]
    assert told["answerSha256"] == check.answer_sha256
    assert [one["keyid"] for one in told["signers"]] == [SCANNER.keyid]


def test_signed_objection_refuses_the_bundle() -> None:
    guarded = Guarded(SCAN, policy=policy_with())

    def found(_: Check, question: bytes) -> bytes:
        asked = json.loads(question)
        blobs = tuple((one["name"], one["etag"]) for one in asked["blobs"])
        finding = Finding(
            manifest_sha256=asked["manifestDigest"].removeprefix("sha256:"),
            blobs=blobs,
            verdict="fail",
            detail="EICAR",
            scanner="tests 1",
        )
        return signed(question, finding=finding)

    guarded.checks.answer = found
    receipt = guarded.assert_nothing_imported(guarded.target.receive(bundle_of()), Code.CHECK_FAILED)
    assert [one.keyid for one in receipt.checks[0].signers] == [SCANNER.keyid]


NO_ANSWERS: dict[str, tuple[Callable[[bytes], bytes], Code]] = {
    "an unsigned pass": (answer_to, Code.CHECK_UNSIGNED),
    "a pass signed by the key of another check": (lambda q: signed(q, OTHER), Code.CHECK_UNSIGNED),
    "a forged pass": (forged, Code.CHECK_FORGED),
    "a signed pass of another check": (lambda q: signed(q, check="licences"), Code.CHECK_UNAVAILABLE),
    "a signed pass of an earlier import": (lambda q: signed(q, import_id="x"), Code.CHECK_UNAVAILABLE),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_nothing_is_imported_by(name: str) -> None:
    answer, code = NO_ANSWERS[name]
    guarded = Guarded(SCAN, policy=policy_with())
    guarded.checks.answer = lambda _, question: answer(question)
    outcome = guarded.target.receive(bundle_of())
    receipt = guarded.assert_nothing_imported(outcome, code)
    assert outcome["outcome"] == "failed"
    assert (receipt.checks[0].passed, receipt.checks[0].answer_sha256) == (False, None)
    assert guarded.target.host.now >= START + timedelta(hours=2)  # an honest answer would have come in time
    assert not [name for name in guarded.target.blobs.names("ledger") if name.startswith("checks/")]


def test_honest_answer_after_forged_ones_counts(caplog: pytest.LogCaptureFixture) -> None:
    guarded, asked = Guarded(SCAN, policy=policy_with()), []

    def answer(_: Check, question: bytes) -> bytes:
        asked.append(1)
        return forged(question) if len(asked) < 4 else signed(question)

    guarded.checks.answer = answer
    assert guarded.target.receive(bundle_of())["outcome"] == "imported"
    assert "CHECK_FORGED" in caplog.text  # an alarm the moment that it is seen


def test_check_of_the_policy_that_the_settings_do_not_name_lets_nothing_in() -> None:
    guarded = Guarded(policy=policy_with())
    receipt = guarded.assert_nothing_imported(guarded.target.receive(bundle_of()), Code.CHECK_UNAVAILABLE)
    assert receipt.detail == "scan: not among the settings"
    assert guarded.checks.asked == []


def test_scanner_of_the_storage_signs_nothing() -> None:
    guarded = Guarded(policy=policy_with())
    side = guarded.target.host.side
    assert isinstance(side, TargetSide)
    settings = replace(side.settings, checks=(ScanCheck(name="scan"),))
    guarded.target.host.side = guarded.target.side = replace(side, settings=settings)
    guarded.assert_nothing_imported(guarded.target.receive(bundle_of()), Code.CHECK_UNSIGNED)


def change_policy(guarded: Guarded, policy: bytes) -> None:
    """Another policy among the settings, with the same checks."""
    with_policy(guarded.target, policy)
    side = guarded.target.host.side
    assert isinstance(side, TargetSide)
    guarded.target.host.side = replace(side, settings=replace(side.settings, checks=(SCAN,)))


def test_answer_whose_key_is_revoked_while_people_are_waited_for_does_not_count() -> None:
    guarded = Guarded(SCAN, policy=policy_with(release_keys=[ADA]))
    guarded.checks.answer = lambda _, question: signed(question)
    revoked = [{"keyid": SCANNER.keyid, "from": "2026-11-01T00:00:00Z"}]
    guarded.target.host.before["clear_bundle"] = lambda: change_policy(
        guarded, policy_with(release_keys=[ADA], version=2, revoked=revoked)
    )
    receipt = guarded.assert_nothing_imported(guarded.target.receive(bundle_of()), Code.CHECK_UNSIGNED)
    assert "KEY_REVOKED" in receipt.detail


@pytest.mark.parametrize("name", ["scan", "licences"])
def test_check_that_must_sign_only_since_it_was_asked_has_not_passed(name: str) -> None:
    guarded = Guarded(SCAN)
    guarded.target.host.before["clear_bundle"] = lambda: change_policy(
        guarded, policy_with(checks=(name,), version=2)
    )
    code = Code.CHECK_UNSIGNED if name == "scan" else Code.CHECK_UNAVAILABLE
    receipt = guarded.assert_nothing_imported(guarded.target.receive(bundle_of()), code)
    assert receipt.policy_version == 2


def test_policy_that_came_before_the_check_and_refused_its_answer_is_named_by_the_decision() -> None:
    guarded = Guarded(SCAN)
    guarded.target.host.before["run_check"] = lambda: change_policy(guarded, policy_with(version=2))
    receipt = guarded.assert_nothing_imported(guarded.target.receive(bundle_of()), Code.CHECK_UNSIGNED)
    assert receipt.policy_version == 2
