"""Checks before promotion: what others say of a bundle decides, and nothing they leave unsaid passes."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airgap.checks import Check
from airgap.errors import Code, ServiceError
from airgap.receipt import Receipt, ReceiptVerdict
from airgap.states import Kind
from function_app.durable.stopping import stop
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.target.closing import record_decision
from tests.bundles import CHANNEL, default_key, make_policy
from tests.function_app.memory import START, MemoryChecks
from tests.function_app.test_acceptance import changed_policy, revoke_the_key, with_policy
from tests.function_app.test_closing import closing
from tests.function_app.test_import import RECEIPT_KEY, Target, bundle_of
from tests.function_app.test_releasing import ADA

SCAN = Check(name="scan", url="https://scanner.contoso.com/check", scope="api://scanner/.default")
LICENCES = replace(SCAN, name="licences")
IMPORT = "import0001"


class Guarded:
    """A target that asks others before it imports."""

    def __init__(self, *checks: Check, policy: bytes | None = None) -> None:
        self.target = Target(policy) if policy else Target()
        side = self.target.side
        settings = replace(side.settings, checks=checks)
        self.target.side = self.target.host.side = replace(side, settings=settings)
        assert isinstance(side.checks, MemoryChecks)
        self.checks = side.checks
        self.checks.answer = lambda _, question: answer_to(question)

    def history(self) -> list[str]:
        side = self.target.side
        journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, IMPORT)
        return [entry.state.value for entry in journal.entries]

    def facts(self, state: str) -> Mapping[str, Any]:
        side = self.target.side
        journal = JournalStore(side.blobs, side.projection).read(Kind.IMPORTS, IMPORT)
        return next(entry.facts for entry in journal.entries if entry.state.value == state)

    def assert_nothing_imported(self, outcome: Mapping[str, Any], code: Code) -> Receipt:
        assert outcome["code"] == code.name, outcome
        assert self.target.pipelines.requests == {}
        assert self.target.blobs.names("transfer") == []
        assert "promoting" not in self.history()
        receipt = self.target.receipt(outcome)
        assert (receipt.verdict, receipt.code) == (ReceiptVerdict.REFUSED, code)
        assert receipt.ledger is not None
        assert self.target.blobs.names("work") == []  # the turn, too
        return receipt


def answer_to(question: bytes, **changes: Any) -> bytes:
    asked = json.loads(question)
    return json.dumps(
        {
            "schema": 1,
            "manifestDigest": asked["manifestDigest"],
            "blobs": [{"name": one["name"], "etag": one["etag"]} for one in asked["blobs"]],
            "verdict": "pass",
            "detail": "nothing found",
            "scanner": "tests 1",
            **changes,
        }
    ).encode()


def test_bundle_is_imported_after_every_check_has_passed_and_each_is_on_record() -> None:
    guarded, bundle = Guarded(SCAN, LICENCES), bundle_of()
    outcome = guarded.target.receive(bundle)
    assert outcome["outcome"] == "imported"
    receipt = guarded.target.receipt(outcome)
    assert [(one.name, one.passed, one.scanner) for one in receipt.checks] == [
        ("licences", True, "tests 1"),
        ("scan", True, "tests 1"),
    ]
    (check, question), *_ = guarded.checks.asked
    assert check == SCAN
    assert receipt.checks[1].answer_sha256 == hashlib.sha256(answer_to(question)).hexdigest()
    asked = json.loads(question)
    assert (asked["importId"], asked["channel"], asked["sequence"]) == (IMPORT, CHANNEL, 1)
    assert asked["manifestDigest"] == f"sha256:{bundle.manifest_sha256}"
    assert asked["blobs"][0]["url"] == (
        f"https://account.blob.core.windows.net/staging/{CHANNEL}/{bundle.manifest_sha256}/{IMPORT}/001"
    )
    assert guarded.facts("checking")["checks"] == ["scan", "licences"]
    assert [one["name"] for one in guarded.facts("promoting")["checks"]] == ["scan", "licences"]
    assert "awaiting-release" not in guarded.history()


def test_target_without_checks_asks_nobody() -> None:
    guarded = Guarded()
    assert guarded.target.receive(bundle_of())["outcome"] == "imported"
    assert guarded.checks.asked == []
    assert "checking" not in guarded.history()


def test_bundle_in_which_a_check_finds_something_is_refused_at_once_and_the_next_is_not_asked() -> None:
    guarded = Guarded(SCAN, LICENCES)
    guarded.checks.answer = lambda _, question: answer_to(question, verdict="fail", detail="EICAR")
    outcome = guarded.target.receive(bundle_of())
    assert outcome["outcome"] == "refused"
    receipt = guarded.assert_nothing_imported(outcome, Code.CHECK_FAILED)
    assert receipt.detail == "scan: EICAR"
    assert [(one.name, one.passed, one.detail) for one in receipt.checks] == [("scan", False, "EICAR")]
    assert {check.name for check, _ in guarded.checks.asked} == {"scan"}
    assert guarded.target.host.called.count("run_check") == 1


def away(_check: Check, _question: bytes) -> bytes:
    raise ServiceError(Code.SERVICE_DENIED, "HTTP 403")


NO_ANSWERS: dict[str, tuple[Callable[[Check, bytes], bytes | None], str]] = {
    "that never comes": (lambda _c, _q: None, "not come to a verdict"),
    "from a service that refuses": (away, "SERVICE_DENIED"),
    "about another bundle": (
        lambda _c, q: answer_to(q, manifestDigest=f"sha256:{'0' * 64}"),
        "another bundle",
    ),
    "about some of the copies": (
        lambda _c, q: answer_to(q, blobs=json.loads(answer_to(q))["blobs"][:1]),
        "not exactly the copies",
    ),
    "about an earlier state of a copy": (
        lambda _c, q: answer_to(q, blobs=[{"name": n, "etag": "0x0"} for n in ("001", "002")]),
        "not exactly the copies",
    ),
    "that says nothing": (lambda _c, _q: b"", "CHECK_MALFORMED"),
    "of a newer scanner": (lambda _c, q: answer_to(q, schema=2), "NEWER_FORMAT"),
    "with another verdict": (lambda _c, q: answer_to(q, verdict="No threats found"), "verdict"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_answer_is_no_pass_that_is_or_comes(name: str) -> None:
    guarded = Guarded(SCAN)
    guarded.checks.answer, told = NO_ANSWERS[name]
    outcome = guarded.target.receive(bundle_of())
    assert outcome["outcome"] == "failed"
    receipt = guarded.assert_nothing_imported(outcome, Code.CHECK_UNAVAILABLE)
    assert told in receipt.detail
    (check,) = receipt.checks
    assert (check.passed, check.scanner, check.answer_sha256) == (False, None, None)
    assert guarded.target.host.now >= START + timedelta(hours=2)


def test_check_that_answers_late_is_waited_for_and_its_first_verdict_stays() -> None:
    guarded = Guarded(SCAN)
    rounds: list[int] = []

    def late(_: Check, question: bytes) -> bytes | None:
        rounds.append(1)
        if len(rounds) < 8:
            return None
        return answer_to(question, verdict="pass" if len(rounds) == 8 else "fail")

    guarded.checks.answer = late
    assert guarded.target.receive(bundle_of())["outcome"] == "imported"
    assert len(rounds) == 8  # a step runs twice here: what was said first is not asked for again


def test_check_that_is_no_longer_among_the_settings_has_not_passed() -> None:
    guarded = Guarded(SCAN)

    def forget() -> None:
        side = guarded.target.host.side
        assert isinstance(side, TargetSide)
        guarded.target.host.side = replace(side, settings=replace(side.settings, checks=()))

    guarded.target.host.before["run_check"] = forget
    guarded.assert_nothing_imported(guarded.target.receive(bundle_of()), Code.CHECK_UNAVAILABLE)


def test_bundle_that_went_bad_while_it_was_checked_is_not_imported() -> None:
    guarded = Guarded(SCAN)
    guarded.target.host.before["run_check"] = lambda: with_policy_kept(
        guarded, changed_policy(revoke_the_key)
    )
    outcome = guarded.target.receive(bundle_of())
    receipt = guarded.assert_nothing_imported(outcome, Code.KEY_REVOKED)
    assert [check.passed for check in receipt.checks] == [True]


def with_policy_kept(guarded: Guarded, policy: bytes) -> None:
    """Another policy among the settings, with the same checks."""
    with_policy(guarded.target, policy)
    side = guarded.target.host.side
    assert isinstance(side, TargetSide)
    guarded.target.host.side = replace(side, settings=replace(side.settings, checks=(SCAN,)))


def test_people_are_asked_after_the_checks_have_passed() -> None:
    policy = make_policy([default_key()], receipt_keys=[RECEIPT_KEY], release_keys=[ADA], order="rising")
    guarded = Guarded(SCAN, policy=policy)
    outcome = guarded.target.receive(bundle_of())
    receipt = guarded.assert_nothing_imported(outcome, Code.RELEASE_EXPIRED)
    assert [check.passed for check in receipt.checks] == [True]
    history = guarded.history()
    assert history.index("checking") < history.index("awaiting-release")


def call_off(target: Target) -> None:
    stop(target.blobs, IMPORT)


def give_up(target: Target) -> None:
    record_decision(target.side, closing(outcome="failed", code=Code.SERVICE_UNEXPECTED.name))


@pytest.mark.parametrize("end", [call_off, give_up])
def test_nobody_is_asked_about_an_import_that_was_called_off(end: Callable[[Target], None]) -> None:
    guarded = Guarded(SCAN)
    guarded.target.host.before["run_check"] = lambda: end(guarded.target)
    assert guarded.target.receive(bundle_of())["code"] == Code.TRANSITION_REFUSED.name
    assert guarded.checks.asked == []
    assert guarded.target.pipelines.requests == {}
