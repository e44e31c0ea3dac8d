"""The port for checks, against the local scanner: over HTTPS, with a token made out for it alone."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from airgap.checks import Check, CheckAnswer
from airgap.errors import AirgapError, Code, ServiceError
from airgap.policy import TrustPolicy
from airgap.signed_check import read_answer
from function_app.azure.checks import HttpChecks
from local_cloud.pki import CertificateAuthority
from local_cloud.scanner import Mood, Scanner
from local_cloud.tokens import SCANNER_AUDIENCE, TokenAuthority
from tests.contract.loop import running_loop, served
from tests.vectors.generate import NOW, SCANNER, check_question, policy_json

QUESTION = check_question()


class Identity:
    """The app's."""

    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        token = self._tokens.mint("1" * 32, scopes[0].removesuffix("/.default"))
        return AccessToken(token, int(time.time()) + 3000)


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scanner, Check, HttpChecks]]:
    ca = CertificateAuthority.create(tmp_path_factory.mktemp("scanner"))
    tokens = TokenAuthority()
    made = Scanner(tokens)
    with (
        pytest.MonkeyPatch.context() as patch,
        running_loop() as loop,
        served(loop, made.app(), ca.server_context("scanner")) as url,
    ):
        patch.setenv("REQUESTS_CA_BUNDLE", str(ca.ca_file))
        check = Check(name="scan", url=f"{url}/check", scope=f"{SCANNER_AUDIENCE}/.default")
        yield made, check, HttpChecks(Identity(tokens), read_s=1)


def test_verdict_comes_back_as_the_scanner_wrote_it(scanner: tuple[Scanner, Check, HttpChecks]) -> None:
    made, check, port = scanner
    for mood, passed in (("pass", True), ("fail", False)):
        made.mood = "pass" if mood == "pass" else "fail"
        raw = port.ask(check, QUESTION.to_bytes())
        assert raw is not None
        assert CheckAnswer.from_bytes(raw, QUESTION).passed is passed
    assert made.questions[-1] == json.loads(QUESTION.to_bytes())


def test_scanner_that_does_not_know_yet_is_no_fault(scanner: tuple[Scanner, Check, HttpChecks]) -> None:
    made, check, port = scanner
    made.mood = "slow"
    assert port.ask(check, QUESTION.to_bytes()) is None


@pytest.mark.parametrize("mood", ["away", "silent", "chatty", "moved"])
def test_scanner_that_gives_no_answer_is_a_fault_of_the_service(
    mood: Mood, scanner: tuple[Scanner, Check, HttpChecks]
) -> None:
    made, check, port = scanner
    made.mood = mood
    before = len(made.questions)
    with pytest.raises(ServiceError) as fault:
        port.ask(check, QUESTION.to_bytes())
    assert "check scan" in fault.value.detail
    assert len(made.questions) == before + 1  # not sent anywhere else


def test_answer_about_another_bundle_is_handed_on_and_counts_for_nothing(
    scanner: tuple[Scanner, Check, HttpChecks],
) -> None:
    made, check, port = scanner
    made.mood = "lying"
    raw = port.ask(check, QUESTION.to_bytes())
    assert raw is not None
    with pytest.raises(AirgapError) as refusal:
        CheckAnswer.from_bytes(raw, QUESTION)
    assert refusal.value.code is Code.CHECK_MALFORMED


def test_answers_of_a_scanner_with_a_key_count_by_its_signature_alone(
    scanner: tuple[Scanner, Check, HttpChecks],
) -> None:
    made, check, port = scanner
    policy = TrustPolicy.from_json(policy_json())
    role = policy.channels["prod"].check_roles["scan"]
    codes: dict[str, Code | None] = {}
    made.signer = SCANNER
    moods: tuple[Mood, ...] = ("pass", "fail", "unsigned", "forged")
    for mood in moods:
        made.mood = mood
        raw = port.ask(check, QUESTION.to_bytes())
        assert raw is not None
        try:
            codes[mood] = read_answer(raw, QUESTION, role=role, policy=policy, now=NOW).code
        except AirgapError as refusal:
            codes[mood] = refusal.code
    made.signer = None
    assert codes == {
        "pass": None,
        "fail": Code.CHECK_FAILED,
        "unsigned": Code.CHECK_UNSIGNED,
        "forged": Code.CHECK_FORGED,
    }


def test_token_for_another_service_is_not_taken(scanner: tuple[Scanner, Check, HttpChecks]) -> None:
    made, check, port = scanner
    made.mood = "pass"
    other = Check(name="scan", url=check.url, scope="https://storage.azure.com/.default")
    with pytest.raises(ServiceError) as fault:
        port.ask(other, QUESTION.to_bytes())
    assert fault.value.code is Code.SERVICE_DENIED
