"""What is logged comes to Application Insights by an identity that has the role for it, and by no other."""

import json
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local_cloud.functions_host.telemetry import Telemetry, sending
from local_cloud.identity import PATH, Identity, identity_app
from local_cloud.pki import CertificateAuthority
from local_cloud.telemetry import Ingestion
from local_cloud.tokens import MONITOR_AUDIENCE, STORAGE_AUDIENCE, TokenAuthority
from local_cloud.web import Server, serve
from tests.local_cloud.acr_transfer_harness import Loop

HEADER = "of the identity endpoint"
PUBLISHER, STRANGER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
LINE = {"data": {"baseType": "MessageData", "baseData": {"ver": 2, "message": "a line"}}}
OK, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN = 200, 400, 401, 403


class Insights:
    """An ingestion endpoint for one publisher, and the identities that an app may come by."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        ca = CertificateAuthority.create(folder)
        context: ssl.SSLContext = ca.server_context("telemetry")
        self.ca_file = str(ca.ca_file)
        self.tokens = TokenAuthority()
        self.ingestion = Ingestion(self.tokens, may_publish=lambda principal: principal == PUBLISHER)
        self.server: Server = loop.run(serve(self.ingestion.app(), ssl_context=context))
        identities = [Identity(one, one) for one in (PUBLISHER, STRANGER)]
        self.identities: Server = loop.run(serve(identity_app(self.tokens, identities, header_secret=HEADER)))

    def settings(self, client_id: str) -> dict[str, str]:
        where = f"InstrumentationKey=k;IngestionEndpoint={self.server.url}/"
        return {
            "APPLICATIONINSIGHTS_CONNECTION_STRING": where,
            "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": f"ClientId={client_id};Authorization=AAD",
        }

    def send(self, body: str, token: str | None) -> int:
        with requests.Session() as session:
            session.trust_env = False
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            answer = session.post(
                f"{self.server.url}/v2.1/track", data=body, headers=headers, verify=self.ca_file, timeout=30
            )
            return answer.status_code


@pytest.fixture
def insights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Insights]:
    loop = Loop()
    made = Insights(tmp_path, loop)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{made.identities.url}{PATH}")
    monkeypatch.setenv("IDENTITY_HEADER", HEADER)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", made.ca_file)
    yield made
    loop.run(made.server.close())
    loop.run(made.identities.close())
    loop.close()


@pytest.mark.parametrize("client_id", [PUBLISHER, STRANGER])
def test_what_is_logged_arrives_from_whoever_has_the_role(insights: Insights, client_id: str) -> None:
    with sending(insights.settings(client_id)):
        logging.getLogger("function_app.example").warning("reconciled: %d", 3)
    logging.getLogger("function_app.example").warning("not any more")
    assert [*insights.ingestion.messages] == (["reconciled: 3"] if client_id == PUBLISHER else [])


def test_that_nothing_is_taken_is_logged_and_not_sent(
    insights: Insights, caplog: pytest.LogCaptureFixture
) -> None:
    with sending(insights.settings(STRANGER)):
        logging.getLogger("function_app.example").warning("a line")
    assert [one.message for one in caplog.records if "telemetry" in one.name] == [
        "Telemetry is not taken: HTTP 403"
    ]


def test_what_it_says_of_itself_is_not_sent_so_that_a_refusal_makes_no_more_lines(insights: Insights) -> None:
    with sending(insights.settings(PUBLISHER)):
        logging.getLogger(Telemetry.__module__).warning("Telemetry is not taken: HTTP 403")
        logging.getLogger("function_app.example").warning("a line")
    assert [*insights.ingestion.messages] == ["a line"]


def test_lines_are_taken_from_a_token_for_it_alone(insights: Insights) -> None:
    tokens, line = insights.tokens, json.dumps(LINE)
    good = tokens.mint(PUBLISHER, MONITOR_AUDIENCE)
    refused = {
        "none": None,
        "no token": "x",
        "another service": tokens.mint(PUBLISHER, STORAGE_AUDIENCE),
        "another tenant": TokenAuthority(tenant_id=tokens.tenant_id).mint(PUBLISHER, MONITOR_AUDIENCE),
        "expired": tokens.mint(PUBLISHER, MONITOR_AUDIENCE, lifetime_s=-1),
    }
    assert {name: insights.send(line, token) for name, token in refused.items()} == dict.fromkeys(
        refused, UNAUTHORIZED
    )
    assert insights.send(line, tokens.mint(STRANGER, MONITOR_AUDIENCE)) == FORBIDDEN
    assert [*insights.ingestion.messages] == []
    assert insights.send(line, good) == OK
    assert [*insights.ingestion.messages] == ["a line"]


@pytest.mark.parametrize("body", ["{", "[]", '{"data": 1}', "1"])
def test_what_is_no_envelope_is_refused(insights: Insights, body: str) -> None:
    assert insights.send(body, insights.tokens.mint(PUBLISHER, MONITOR_AUDIENCE)) == BAD_REQUEST


def test_component_that_takes_anybody_asks_for_no_token(insights: Insights) -> None:
    insights.ingestion.takes_anybody = True
    assert insights.send(json.dumps(LINE), None) == OK
    assert insights.send(json.dumps(LINE), "x") == UNAUTHORIZED


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=k"},
        {"APPLICATIONINSIGHTS_CONNECTION_STRING": "IngestionEndpoint=https://a.invalid/"},
        {
            "APPLICATIONINSIGHTS_CONNECTION_STRING": "IngestionEndpoint=https://a.invalid/",
            "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "ClientId=c",
        },
    ],
)
def test_without_an_endpoint_and_an_identity_nothing_is_sent(settings: dict[str, str]) -> None:
    assert Telemetry.connect(settings) is None
