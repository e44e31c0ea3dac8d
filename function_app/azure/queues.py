"""The poison queue on Azure Queue Storage: one call, without the SDK for queues.

Needs the role Storage Queue Data Reader on the queue.
<https://learn.microsoft.com/rest/api/storageservices/get-queue-metadata>
"""

from http import HTTPStatus

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.pipeline.policies import (
    BearerTokenCredentialPolicy,
    HeadersPolicy,
    RetryPolicy,
    UserAgentPolicy,
)
from azure.core.rest import HttpRequest, HttpResponse

from airgap.errors import Code, ServiceError
from airgap.readiness import POISON_QUEUE
from function_app.azure.errors import CONNECT_S, READ_S, code_of_status, service_errors

_SCOPE = "https://storage.azure.com/.default"
_VERSION = "2021-12-02"
_COUNT = "x-ms-approximate-messages-count"


class AzurePoisonQueue:
    """The port :class:`~function_app.ports.PoisonQueue` on one storage account."""

    def __init__(self, account_url: str, credential: TokenCredential, *, retries: int = 2) -> None:
        self._url = f"{account_url.rstrip('/')}/{POISON_QUEUE}"
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            account_url,
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            policies=[
                HeadersPolicy(),
                UserAgentPolicy("acr-airgap-transfer"),
                RetryPolicy(retry_total=retries),
                BearerTokenCredentialPolicy(credential, _SCOPE),
            ],
        )

    def close(self) -> None:
        """Close all connections to the queue service."""
        self._client.close()

    def count(self) -> int:
        """See the port."""
        about = f"queue {POISON_QUEUE}"
        request = HttpRequest(
            "GET", self._url, params={"comp": "metadata"}, headers={"x-ms-version": _VERSION}
        )
        with service_errors(about):
            response = self._client.send_request(request)
        if response.status_code != HTTPStatus.OK:
            raise ServiceError(code_of_status(response.status_code), f"{about}: HTTP {response.status_code}")
        told = response.headers.get(_COUNT, "")
        if not (told.isascii() and told.isdecimal()):
            raise ServiceError(Code.SERVICE_UNEXPECTED, f"{about}: no count given")
        return int(told)
