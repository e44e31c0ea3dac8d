"""Checks: what counts as an answer to what was asked, and nothing else does."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airgap.checks import Check, CheckAnswer, CheckedBlob, CheckQuestion, ScanCheck, read_checks
from airgap.errors import AirgapError, Code
from airgap.receipt import CheckResult
from airgap.strict_json import dump_canonical
from tests.vectors.generate import NOW, check_answer, check_question

QUESTION = check_question()
ANSWER: dict[str, Any] = json.loads(check_answer())


def refused(answer: Any) -> Code:
    raw = answer if isinstance(answer, bytes) else dump_canonical(answer)
    with pytest.raises(AirgapError) as refusal:
        CheckAnswer.from_bytes(raw, QUESTION)
    return refusal.value.code


@pytest.mark.parametrize(("verdict", "passed"), [("pass", True), ("fail", False)])
def test_answer_to_the_question_counts(verdict: str, passed: object) -> None:
    raw = dump_canonical(ANSWER | {"verdict": verdict})
    answer = CheckAnswer.from_bytes(raw, QUESTION)
    assert answer.passed is passed
    assert (answer.scanner, answer.sha256) == ("clamav 1.4", hashlib.sha256(raw).hexdigest())


INVALID: dict[str, dict[str, Any]] = {
    "another bundle": {"manifestDigest": f"sha256:{'0' * 64}"},
    "no digest": {"manifestDigest": None},
    "another copy": {"blobs": [ANSWER["blobs"][0] | {"etag": "0x9"}, ANSWER["blobs"][1]]},
    "one copy only": {"blobs": ANSWER["blobs"][:1]},
    "no copy": {"blobs": []},
    "one copy twice": {"blobs": [ANSWER["blobs"][0]] * 2},
    "a copy that nobody asked about": {"blobs": [*ANSWER["blobs"], {"name": "003", "etag": "0x3"}]},
    "another verdict": {"verdict": "passed"},
    "no verdict": {"verdict": None},
    "a verdict that is no word": {"verdict": True},
    "a list of verdicts": {"verdict": ["pass"]},
    "detail that is no text": {"detail": 1},
    "detail without end": {"detail": "x" * 501},
    "no scanner": {"scanner": ""},
    "scanner without end": {"scanner": "x" * 129},
    "further member": {"unless": "it rains"},
}


@pytest.mark.parametrize("name", INVALID)
def test_answer_of_or_about_is_none(name: str) -> None:
    assert refused(ANSWER | INVALID[name]) is Code.CHECK_MALFORMED


def test_answer_of_a_newer_scanner_and_one_without_end_are_told_apart() -> None:
    assert refused(ANSWER | {"schema": 2}) is Code.NEWER_FORMAT
    assert refused(dump_canonical(ANSWER).ljust(131_073)) is Code.TOO_LARGE
    assert CheckAnswer.from_bytes(dump_canonical(ANSWER).ljust(131_072), QUESTION).passed
    assert CheckAnswer.from_bytes(dump_canonical(ANSWER | {"scanner": "x" * 128}), QUESTION).passed
    for raw in (b"", b"[]", b"pass", b'"pass"'):
        assert refused(raw) is Code.CHECK_MALFORMED


def test_order_of_the_copies_does_not_matter() -> None:
    turned = ANSWER | {"blobs": ANSWER["blobs"][::-1]}
    assert CheckAnswer.from_bytes(dump_canonical(turned), QUESTION).passed


def test_bundle_without_a_copy_is_passed_by_nobody_who_speaks_of_one() -> None:
    empty = replace(QUESTION, blobs=())
    with pytest.raises(AirgapError):
        CheckAnswer.from_bytes(dump_canonical(ANSWER), empty)


CHECK = {"name": "scan", "url": "https://scanner.contoso.com/check", "scope": "api://scanner/.default"}


def test_checks_are_read_from_the_setting() -> None:
    assert read_checks(b"[]") == ()
    assert read_checks(dump_canonical([CHECK])) == (Check(**CHECK),)
    longest = CHECK | {"url": "https://" + "x" * 492, "scope": "x" * 300}
    assert read_checks(dump_canonical([longest])) == (Check(**longest),)
    assert len(read_checks(dump_canonical([CHECK | {"name": f"scan{n}"} for n in range(10)]))) == 10


def test_check_of_the_storages_own_scanner_is_read_from_the_setting() -> None:
    assert read_checks(dump_canonical([CHECK, SCAN_CHECK])) == (Check(**CHECK), ScanCheck(name="malware"))


SCAN_CHECK = {"name": "malware", "kind": "defenderForStorage"}
SETTINGS: dict[str, Any] = {
    "another kind": [SCAN_CHECK | {"kind": "clamav"}],
    "a kind that is no word": [SCAN_CHECK | {"kind": None}],
    "a kind and a url": [CHECK | SCAN_CHECK],
    "a scanner of no name": [{"kind": "defenderForStorage"}],
    "a scanner whose name climbs": [SCAN_CHECK | {"name": "../malware"}],
    "a service and a scanner of one name": [CHECK, SCAN_CHECK | {"name": "scan"}],
    "not an array": {},
    "a number for a check": [7],
    "two of one name": [CHECK, CHECK],
    "more than ten": [CHECK | {"name": f"scan{n}"} for n in range(11)],
    "without scope": [{"name": "scan", "url": "https://x"}],
    "further member": [CHECK | {"secret": "x"}],
    "name that climbs": [CHECK | {"name": "../scan"}],
    "no name": [CHECK | {"name": ""}],
    "name of a line": [CHECK | {"name": "scan\n"}],
    "url without end": [CHECK | {"url": "https://" + "x" * 493}],
    "no url": [CHECK | {"url": ""}],
    "scope without end": [CHECK | {"scope": "x" * 301}],
    "no scope": [CHECK | {"scope": ""}],
}


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_refused_that_has(name: str) -> None:
    with pytest.raises(AirgapError) as refusal:
        read_checks(dump_canonical(SETTINGS[name]))
    assert refusal.value.code is Code.CHECK_MALFORMED


def result(**changes: Any) -> CheckResult:
    made = CheckResult(
        name="scan", passed=True, detail="", scanner="x", answer_sha256="a" * 64, checked_at=NOW
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda: result(answer_sha256=None),
        lambda: result(scanner=None),
        lambda: result(scanner=None, answer_sha256=None),
        lambda: result(answer_sha256="A" * 64),
    ],
)
def test_receipt_that_says_passed_without_an_answer_cannot_be(change: Callable[[], object]) -> None:
    with pytest.raises(AirgapError):
        change()
    assert result(passed=False, scanner=None, answer_sha256=None).scanner is None


def test_question_names_every_copy_with_its_state() -> None:
    question = json.loads(QUESTION.to_bytes())
    assert [(one["name"], one["etag"]) for one in question["blobs"]] == [("001", "0x1"), ("002", "0x2")]
    assert QUESTION.blobs[0] == CheckedBlob(
        name="001", url="https://a.blob.core.windows.net/staging/x/001", etag="0x1", size_bytes=10
    )
    assert isinstance(QUESTION, CheckQuestion)
