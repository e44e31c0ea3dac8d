"""The port for checks: an https service that the app asks as itself, with a token of its managed identity."""

import time

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import (
    BearerTokenCredentialPolicy,
    HeadersPolicy,
    UserAgentPolicy,
)
from azure.core.rest import HttpRequest, HttpResponse

from airgap.checks import MAX_ANSWER_BYTES, Check
from airgap.errors import Code, ServiceError
from function_app.azure.errors import CONNECT_S, READ_S, service_errors

_ANSWER_S = 60
"""For a whole answer, which is small: one that comes byte by byte holds nobody up."""

_HTTP_OK = 200
_HTTP_ACCEPTED = 202


class HttpChecks:
    """:class:`~function_app.ports.Checks` over HTTPS.

    No redirect is followed: the token is for one service. Nothing is asked twice: whoever asks comes again,
    and a service must not say for how long an activity sleeps.
    """

    def __init__(self, credential: TokenCredential, *, read_s: int = READ_S) -> None:
        self._credential = credential
        self._read_s = read_s

    def ask(self, check: Check, question: bytes) -> bytes | None:
        """See the port."""
        with service_errors(f"check {check.name}"), self._client(check) as client:
            request = HttpRequest(
                "POST",
                check.url,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                content=question,
            )
            response = client.send_request(request, stream=True)
            with response:
                if response.status_code == _HTTP_ACCEPTED:
                    return None
                if response.status_code != _HTTP_OK:
                    raise HttpResponseError(message=f"HTTP {response.status_code}", response=response)
                return _body(response, check)

    def _client(self, check: Check) -> PipelineClient[HttpRequest, HttpResponse]:
        policies = [
            HeadersPolicy(),
            UserAgentPolicy("acr-airgap-transfer"),
            BearerTokenCredentialPolicy(self._credential, check.scope),
        ]
        return PipelineClient(
            check.url, connection_timeout=CONNECT_S, read_timeout=self._read_s, policies=policies
        )


def _body(response: HttpResponse, check: Check) -> bytes:
    content = b""
    deadline = time.monotonic() + _ANSWER_S
    for chunk in response.iter_bytes():
        content += chunk
        if time.monotonic() > deadline:
            raise ServiceError(Code.SERVICE_UNREACHABLE, f"check {check.name}: no end after {_ANSWER_S} s")
        if len(content) > MAX_ANSWER_BYTES:
            raise ServiceError(
                Code.SERVICE_UNEXPECTED, f"check {check.name}: an answer of over {MAX_ANSWER_BYTES} bytes"
            )
    return content
