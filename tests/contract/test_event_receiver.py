"""The port for who is told of changes of state: in memory, and as a webhook at the local receiver."""

import logging
import runpy
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from airgap.errors import Code, ServiceError
from airgap.journal import Journal
from airgap.states import Kind, State
from airgap.webhook import CLOUD_EVENT, WebhookSecrets
from blob_wire import paced_socket
from function_app.azure.webhook import Webhook
from function_app.events.cloud_event import event_of
from function_app.ports import EventReceiver
from local_cloud.event_receiver import EventReceiver as LocalReceiver
from local_cloud.event_receiver import Mood
from local_cloud.pki import CertificateAuthority
from tests.contract.loop import running_loop, served
from tests.function_app.memory import MemoryReceiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ROOT = Path(__file__).parents[2]
OTHER = "whsec_" + "A" * 32
EVENT = b'{"id":"transfers/0123456789/1"}'
ID = "transfers/0123456789/1"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A receiver, the port to it, and what it has taken."""

    port: EventReceiver
    taken: Callable[[], int]
    refuse: Callable[[bool], object]


@pytest.fixture(params=["memory", "https"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "memory":
        double = MemoryReceiver()

        def refuse(is_away: bool) -> None:
            double.refusal = lambda _: Code.SERVICE_UNREACHABLE if is_away else None

        yield Site(port=double, taken=lambda: len(double.taken), refuse=refuse)
        return
    hook: Hook = request.getfixturevalue("hook")

    def mood(is_away: bool) -> None:
        hook.receiver.mood = "away" if is_away else "takes"

    yield Site(port=hook.port(), taken=lambda: len(hook.receiver.taken), refuse=mood)


@dataclass(frozen=True, kw_only=True)
class Hook:
    """The local receiver, served over TLS."""

    receiver: LocalReceiver
    url: str

    def port(self, *secrets: str) -> Webhook:
        """A webhook whose vault has these secrets, one after the other, the last one for good."""
        kept = list(secrets) or [SECRET]
        return Webhook(self.url, lambda: kept.pop(0) if len(kept) > 1 else kept[0], read_s=1)


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    ca = CertificateAuthority.create(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.ca_file))
    receiver = LocalReceiver(SECRET)
    with running_loop() as loop, served(loop, receiver.app(), ca.server_context("events")) as url:
        yield Hook(receiver=receiver, url=f"{url}/events")


def now() -> datetime:
    return datetime.now(UTC)


def test_event_is_taken_as_often_as_it_is_handed_over(site: Site) -> None:
    for _ in range(2):
        site.port.deliver(ID, EVENT, at=now())
    site.port.require_ready()
    assert site.taken() == 2


def test_event_that_is_not_taken_is_a_fault_of_the_service_and_may_be_taken_later(site: Site) -> None:
    site.refuse(True)
    with pytest.raises(ServiceError) as refused:
        site.port.deliver(ID, EVENT, at=now())
    assert refused.value.code is Code.SERVICE_UNREACHABLE
    site.refuse(False)
    site.port.deliver(ID, EVENT, at=now())
    assert site.taken() == 1


@pytest.mark.parametrize("mood", ["away", "throttling", "silent", "moved"])
def test_receiver_that_does_not_take_it_is_asked_once_and_nobody_else(hook: Hook, mood: Mood) -> None:
    hook.receiver.mood = mood
    with pytest.raises(ServiceError):
        hook.port().deliver(ID, EVENT, at=now())
    assert (hook.receiver.asked, hook.receiver.taken) == (1, [])


def test_throttling_receiver_does_not_say_for_how_long_an_activity_sleeps(hook: Hook) -> None:
    hook.receiver.mood = "throttling"
    with pytest.raises(ServiceError) as refused:
        hook.port().deliver(ID, EVENT, at=now())
    assert refused.value.code is Code.SERVICE_THROTTLED


def test_answer_without_end_is_not_read(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    receive = paced_socket.PacedSocket.recv_into if hasattr(paced_socket, "PacedSocket") else None
    del receive, read, monkeypatch
    hook.receiver.mood = "chatty"
    hook.port().deliver(ID, EVENT, at=now())
    assert len(hook.receiver.taken) == 1


def test_nobody_listens_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = CertificateAuthority.create(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.ca_file))
    with running_loop() as loop, served(loop, LocalReceiver(SECRET).app(), ca.server_context("e")) as url:
        pass
    with pytest.raises(ServiceError) as refused:
        Webhook(f"{url}/events", lambda: SECRET).deliver(ID, EVENT, at=now())
    assert refused.value.code is Code.SERVICE_UNREACHABLE


def test_receiver_with_a_strangers_certificate_is_told_nothing(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CertificateAuthority.create(tmp_path / "other")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca_file))
    with pytest.raises(ServiceError):
        hook.port().deliver(ID, EVENT, at=now())
    assert hook.receiver.asked == 0


def test_signature_of_another_secret_or_another_time_is_not_taken(hook: Hook) -> None:
    for secret, at in ((OTHER, now()), (SECRET, now() - timedelta(minutes=10))):
        with pytest.raises(ServiceError) as refused:
            hook.port(secret).deliver(ID, EVENT, at=at)
        assert refused.value.code is Code.SERVICE_DENIED
    assert hook.receiver.refused == 2


def test_secret_that_was_replaced_is_looked_up_anew_after_a_refusal(hook: Hook) -> None:
    port = hook.port(SECRET, OTHER)
    port.deliver(ID, EVENT, at=now())
    hook.receiver.secret = OTHER
    with pytest.raises(ServiceError):
        port.deliver(ID, EVENT, at=now())
    port.deliver(ID, EVENT, at=now())
    assert len(hook.receiver.taken) == 2


def test_secret_is_not_looked_up_for_each_event(hook: Hook) -> None:
    port = hook.port(SECRET, OTHER)
    for _ in range(3):
        port.deliver(ID, EVENT, at=now())
    assert len(hook.receiver.taken) == 3


@pytest.mark.parametrize("mood", ["away", "silent", "moved", "takes"])
def test_secret_is_never_logged_nor_told(hook: Hook, mood: Mood, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hook.receiver.mood = mood
    told = [caplog.text]
    for secret in (SECRET, OTHER, "whsec_too-short-to-sign"):
        try:
            hook.port(secret).deliver(ID, EVENT, at=now())
        except ServiceError as error:
            told += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
    secrets = [one.removeprefix("whsec_") for one in (SECRET, OTHER, "whsec_too-short-to-sign")]
    assert not any(secret in text for text in [*told, caplog.text] for secret in secrets)


def test_secret_that_cannot_be_had_is_told_and_nothing_is_sent(hook: Hook) -> None:
    def denied() -> str:
        raise ServiceError(Code.SERVICE_DENIED, "secrets/events-webhook: HTTP 403")

    port = Webhook(hook.url, denied)
    for ask in (port.require_ready, lambda: port.deliver(ID, EVENT, at=now())):
        with pytest.raises(ServiceError) as refused:
            ask()
        assert refused.value.code is Code.SERVICE_DENIED
    assert hook.receiver.asked == 0


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address at which ``examples/receive_events.py`` listens."""
    monkeypatch.setenv("EVENTS_SECRET", SECRET)
    handler = runpy.run_path(str(ROOT / "examples" / "receive_events.py"), run_name="example")["Receiver"]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_receiver_among_the_examples_takes_what_is_signed_once_and_nothing_else(
    example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    requested = Journal(kind=Kind.TRANSFERS, about="0123456789").next(
        State.REQUESTED, {"channel": "prod"}, by="caller", at=now()
    )
    assert requested is not None
    journal = Journal(kind=Kind.TRANSFERS, about="0123456789", entries=(requested,))
    event = event_of(journal, "source", "s.azurecr.io")
    body, secrets = event.to_bytes(), WebhookSecrets.parse(f"{OTHER} {SECRET}")

    def post(body: bytes, headers: Mapping[str, str]) -> int:
        headers = {**headers, "Content-Type": CLOUD_EVENT}
        return requests.post(example, data=body, headers=headers, timeout=10).status_code

    headers = secrets.sign(event.id, body, at=now())
    assert [post(body, headers) for _ in range(2)] == [204, 204]
    for forged in (
        {},
        secrets.sign(event.id, body + b" ", at=now()),
        secrets.sign(event.id, body, at=now() - timedelta(minutes=10)),
        WebhookSecrets.parse(OTHER).sign(event.id, body, at=now()),
        {**headers, "webhook-id": "transfers/0123456789/2"},
        {**headers, "webhook-timestamp": "\u0663"},
    ):
        assert post(body, {name: value.encode() for name, value in forged.items()}) == 401  # type: ignore[misc]
    assert post(bytes(65 * 1024), headers) == 413
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[1:] == ["transfers/0123456789", "requested"]
