"""The pipeline port on Azure Resource Manager, through azure-mgmt-containerregistry.

``send_request`` with an api-version of our own (``ARM_API_VERSION``): the typed operations of each release
refuse every api-version but one before anything is sent, and which ones a cloud serves is its own choice
(``docs/adr/0003-arm-through-the-management-client.md``).

Needs Container Registry Transfer Pipeline Contributor on the registry, or ``pipelineRunner`` of our own
(``infra/roles.json``).
"""

import json
from collections.abc import Mapping
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.containerregistry import ContainerRegistryManagementClient

from airgap.errors import Code, ServiceError
from function_app.azure.errors import CONNECT_S, READ_S, service_errors

_RUNS = "pipelineRuns"
_OK = frozenset({200, 201})
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409


class AzurePipelines:
    """:class:`~function_app.ports.PipelineService` on one registry."""

    def __init__(
        self, *, endpoint: str, scope: str, api_version: str, registry_id: str, credential: TokenCredential
    ) -> None:
        self._api_version = api_version
        self._registry = registry_id
        self._client = ContainerRegistryManagementClient(
            credential,
            subscription_id=registry_id.split("/")[2],
            base_url=endpoint,
            credential_scopes=[scope],
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            retry_total=4,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get_pipeline(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """See the port."""
        return self._get(kind, name, f"pipeline {name}")

    def get_run(self, name: str) -> Mapping[str, Any] | None:
        """See the port."""
        return self._get(_RUNS, name, f"pipeline run {name}")

    def _get(self, kind: str, name: str, about: str) -> Mapping[str, Any] | None:
        with service_errors(about):
            response = self._send(HttpRequest("GET", self._url(kind, name)))
            if response.status_code == _HTTP_NOT_FOUND:
                return None
            _require(response)
            return _properties(response)

    def put_run(self, name: str, request: Mapping[str, Any]) -> None:
        """See the port."""
        if self.get_run(name) is not None:  # the name is derived from the work: it is this very work
            return
        body = {"properties": {"request": dict(request)}}
        with service_errors(f"pipeline run {name}", http_400=Code.PIPELINE_RUN_FAILED):
            response = self._send(HttpRequest("PUT", self._url(_RUNS, name), json=body))
            if response.status_code != _HTTP_CONFLICT:
                _require(response)
                return
        if self.get_run(name) is None:  # nobody was faster with the same run: something else is in the way
            raise ServiceError(Code.SERVICE_THROTTLED, f"pipeline run {name}: HTTP 409, the registry is busy")

    def _url(self, kind: str, name: str) -> str:
        return f"{self._registry}/{kind}/{name}?api-version={self._api_version}"

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
