"""The receiver of events as a webhook: one POST over HTTPS for each, signed by Standard Webhooks.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md. Its handshake (OPTIONS) keeps
senders from being pointed at others by whoever may register addresses; here only who deploys names one, so
that it is not asked for.
"""

from collections.abc import Callable
from datetime import datetime

from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest, HttpResponse

from airgap.webhook import CLOUD_EVENT, WebhookSecrets
from blob_wire.wire import paced_transport
from function_app.azure.errors import service_errors

_CONNECT_S, _READ_S = 10, 20
"""Shorter than elsewhere: a receiver takes an event in and works on it afterwards."""


class Webhook:
    """:class:`~function_app.ports.EventReceiver` at an https address.

    Any 2xx takes the event. No redirect is followed, nothing is sent twice, and of an answer not a byte of
    the body is read. The secret is looked up when it is first needed, and anew after each event that was not
    taken: that may have been because it was replaced.

    Args:
        url: where to.
        read_secret: looks the secret up; raises a ServiceError.
        read_s: how long an answer is waited for.
    """

    def __init__(self, url: str, read_secret: Callable[[], str], *, read_s: float = _READ_S) -> None:
        self._url = url
        self._read_secret = read_secret
        self._secrets: WebhookSecrets | None = None
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            url,
            policies=[HeadersPolicy(), UserAgentPolicy("acr-airgap-transfer")],
            transport=paced_transport(connect_s=_CONNECT_S, read_s=read_s),
        )

    def deliver(self, event_id: str, event: bytes, *, at: datetime) -> None:
        """See the port."""
        secrets = self._secrets or WebhookSecrets.parse(self._read_secret())
        self._secrets = None
        headers = {"Content-Type": CLOUD_EVENT, **secrets.sign(event_id, event, at=at)}
        request = HttpRequest("POST", self._url, headers=headers, content=event)
        with service_errors("the receiver of events"):
            response = self._client.send_request(request, stream=True)
            response.close()
            if not 200 <= response.status_code < 300:  # noqa: PLR2004 - success, in HTTP
                raise HttpResponseError(message=f"HTTP {response.status_code}", response=response)
        self._secrets = secrets

    def require_ready(self) -> None:
        """See the port."""
        WebhookSecrets.parse(self._read_secret())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
