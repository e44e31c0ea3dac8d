"""The pipeline port on Azure Resource Manager, in plain REST.

No generated client: each release of azure-mgmt-containerregistry speaks one api-version and refuses the
others before it sends anything, but which ones a cloud serves is the cloud's choice (``ARM_API_VERSION``).

Needs the role Container Registry Transfer Pipeline Contributor on the registry.
"""

import json
from collections.abc import Mapping
from typing import Any

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import (
    BearerTokenCredentialPolicy,
    HeadersPolicy,
    RequestIdPolicy,
    RetryPolicy,
    UserAgentPolicy,
)
from azure.core.rest import HttpRequest, HttpResponse

from airgap.errors import Code
from function_app.azure_errors import CONNECT_S, READ_S, service_errors

_OK = frozenset({200, 201})
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409


class AzurePipelines:
    """:class:`~function_app.ports.PipelineService` on one registry."""

    def __init__(
        self, *, endpoint: str, scope: str, api_version: str, registry_id: str, credential: TokenCredential
    ) -> None:
        self._api_version = api_version
        self._runs = f"{registry_id}/pipelineRuns"
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            endpoint,
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            policies=[
                RequestIdPolicy(),
                HeadersPolicy(),
                UserAgentPolicy("acr-airgap-transfer"),
                RetryPolicy(retry_total=4),
                BearerTokenCredentialPolicy(credential, scope),
            ],
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get_run(self, name: str) -> Mapping[str, Any] | None:
        """See the port."""
        with service_errors(f"pipeline run {name}"):
            response = self._send(HttpRequest("GET", self._url(name)))
            if response.status_code == _HTTP_NOT_FOUND:
                return None
            _require(response)
            return _properties(response)

    def put_run(self, name: str, request: Mapping[str, Any]) -> None:
        """See the port. The name is derived from the work, so an existing run is this very work."""
        if self.get_run(name) is not None:
            return
        body = {"properties": {"request": dict(request)}}
        with service_errors(f"pipeline run {name}", http_400=Code.PIPELINE_RUN_FAILED):
            response = self._send(HttpRequest("PUT", self._url(name), json=body))
            if response.status_code != _HTTP_CONFLICT:  # somebody was faster with the same run
                _require(response)

    def _url(self, name: str) -> str:
        return self._client.format_url(f"{self._runs}/{name}?api-version={self._api_version}")

    def _send(self, request: HttpRequest) -> HttpResponse:
        return self._client.send_request(request)


def _require(response: HttpResponse) -> None:
    if response.status_code not in _OK:
        raise HttpResponseError(response=response)


def _properties(response: HttpResponse) -> Mapping[str, Any]:
    try:
        properties = response.json()["properties"]
    except (json.JSONDecodeError, KeyError, TypeError):
        properties = None
    if not isinstance(properties, dict):
        raise HttpResponseError(message="no properties in the answer")
    return properties
