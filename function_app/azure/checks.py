"""The port for checks: an https service that the app asks as itself, with a token of its managed identity."""

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
from blob_wire.wire import paced_transport
from function_app.azure.errors import CONNECT_S, READ_S, service_errors

_HTTP_OK = 200
_HTTP_ACCEPTED = 202


class HttpChecks:
    """The port :class:`~function_app.ports.Checks` over HTTPS.

    No redirect is followed: the token is for one service. Nothing is asked twice: whoever asks comes again,
    and a service must not say for how long an activity sleeps, nor keep it by an answer that comes byte by
    byte.
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
        transport = paced_transport(connect_s=CONNECT_S, read_s=self._read_s)
        return PipelineClient(check.url, policies=policies, transport=transport)


def _body(response: HttpResponse, check: Check) -> bytes:
    content = b""
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise ServiceError(
                Code.SERVICE_UNEXPECTED, f"check {check.name}: an answer of over {MAX_ANSWER_BYTES} bytes"
            )
    return content
