"""The port for checks: what it promises, in memory and over HTTPS; then against the local scanner."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken

from airgap.checks import MAX_ANSWER_BYTES, Check, CheckAnswer
from airgap.errors import AirgapError, Code, ServiceError
from airgap.policy import TrustPolicy
from airgap.signed_check import read_answer
from blob_wire import paced_socket
from function_app.azure.checks import HttpChecks
from function_app.ports import Checks
from local_cloud.pki import CertificateAuthority
from local_cloud.scanner import Mood, Scanner
from local_cloud.tokens import SCANNER_AUDIENCE, TokenAuthority
from tests.contract.loop import running_loop, served
from tests.function_app.memory import MemoryChecks
from tests.vectors.generate import NOW, SCANNER, check_question, policy_json

QUESTION = check_question()


class Identity:
    """The app's."""

    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        token = self._tokens.mint("1" * 32, scopes[0].removesuffix("/.default"))
        return AccessToken(token, int(time.time()) + 3000)


class Service:
    """A check that answers what a test has it say: bytes, that it does not know yet, or that it is away."""

    def __init__(self) -> None:
        self.says: bytes | None = None
        self.is_away = False
        self.asked: list[bytes] = []

    def app(self) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            self.asked.append(await request.read())
            if self.is_away:
                return web.Response(status=503)
            return web.Response(status=202) if self.says is None else web.Response(body=self.says)

        made = web.Application()
        made.router.add_post("/check", answer)
        return made

    def in_memory(self, _check: Check, question: bytes) -> bytes | None:
        self.asked.append(question)
        if self.is_away:
            raise ServiceError(Code.SERVICE_UNREACHABLE, "away")
        return self.says


@pytest.fixture(params=["memory", "https"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Service, Checks, Check]]:
    service = Service()
    if request.param == "memory":
        port = MemoryChecks()
        port.answer = service.in_memory
        yield service, port, Check(name="scan", url="https://scanner/check", scope="any/.default")
        return
    ca = CertificateAuthority.create(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.ca_file))
    with running_loop() as loop, served(loop, service.app(), ca.server_context("scanner")) as url:
        yield (
            service,
            HttpChecks(Identity(TokenAuthority()), read_s=5),
            Check(name="scan", url=f"{url}/check", scope=f"{SCANNER_AUDIENCE}/.default"),
        )


Site = tuple[Service, Checks, Check]


@pytest.mark.parametrize("said", [b"", b"no JSON", bytes(range(256)) * 512], ids=["empty", "text", "128 KiB"])
def test_answer_is_handed_on_as_it_is_however_often_it_is_asked_for(site: Site, said: bytes) -> None:
    service, port, check = site
    service.says = said
    assert [port.ask(check, b"a question") for _ in range(2)] == [said, said]
    assert service.asked == [b"a question"] * 2


def test_check_that_does_not_know_yet_has_no_answer_and_may_be_asked_again(site: Site) -> None:
    service, port, check = site
    assert port.ask(check, b"a question") is None
    service.says = b"now"
    assert port.ask(check, b"a question") == b"now"


def test_answer_of_more_than_an_answer_may_have_is_none(site: Site) -> None:
    service, port, check = site
    service.says = b"x" * (MAX_ANSWER_BYTES + 1)
    with pytest.raises(ServiceError):
        port.ask(check, b"a question")


def test_check_that_is_away_is_a_fault_of_the_service_that_passes(site: Site) -> None:
    service, port, check = site
    service.is_away, service.says = True, b"later"
    with pytest.raises(ServiceError):
        port.ask(check, b"a question")
    service.is_away = False
    assert port.ask(check, b"a question") == b"later"


@pytest.mark.parametrize("is_chunked", [False, True], ids=["of a told length", "in chunks"])
def test_answer_that_comes_byte_by_byte_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_chunked: bool
) -> None:
    """Each byte seems to come half a minute after the one before, which no time-out of a read notices."""

    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if not is_chunked:
            answer.content_length = 20
        await answer.prepare(request)
        with suppress(ConnectionError):
            for _ in range(20):
                await answer.write(b"x")
                await asyncio.sleep(0.01)
        return answer

    app = web.Application()
    app.router.add_post("/check", drip)
    ca = CertificateAuthority.create(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.ca_file))
    monkeypatch.setattr(paced_socket, "_now", map(float, itertools.count(step=30)).__next__)
    with running_loop() as loop, served(loop, app, ca.server_context("scanner")) as url:
        check = Check(name="scan", url=f"{url}/check", scope=f"{SCANNER_AUDIENCE}/.default")
        with pytest.raises(ServiceError) as refused:
            HttpChecks(Identity(TokenAuthority()), read_s=5).ask(check, b"a question")
    assert refused.value.code is Code.SERVICE_UNREACHABLE
    assert "slow" in refused.value.detail


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
