"""The ports of pipelines and image imports on Azure Resource Manager, through azure-mgmt-containerregistry.

Requests go by ``send_request`` with an api-version of the settings (``ARM_API_VERSION``): the typed
operations of each release refuse every api-version but one before anything is sent, and which ones a cloud
serves is its own choice (``docs/adr/0003-arm-through-the-management-client.md``).

Pipelines need Container Registry Transfer Pipeline Contributor on the registry, or ``pipelineRunner`` of our
own, and ``runRemover`` where runs are deleted; image imports need ``imageImporter`` on the one registry and
``importSource`` on the other (``infra/roles.json``).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest, HttpResponse
from azure.mgmt.containerregistry import ContainerRegistryManagementClient

from airgap.errors import Code, ServiceError
from function_app.azure.errors import CONNECT_S, READ_S, service_errors

_RUNS = "pipelineRuns"
_OK = frozenset({200, 201})
_HTTP_ACCEPTED = 202
_HTTP_NO_CONTENT = 204
_HTTP_FORBIDDEN = 403
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
_DONE = frozenset({*_OK, _HTTP_ACCEPTED, _HTTP_NO_CONTENT})
_PASSING = frozenset({401, 408, 429, 500, 502, 503, 504})
"""Of the asking, not of what is asked after."""


class _OneRegistry:
    """ARM's part of one registry."""

    def __init__(
        self, *, endpoint: str, scope: str, api_version: str, registry_id: str, credential: TokenCredential
    ) -> None:
        self._endpoint = endpoint
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

    def _send(self, request: HttpRequest) -> HttpResponse:
        return self._client.send_request(request)


class AzurePipelines(_OneRegistry):
    """The port :class:`~function_app.ports.PipelineService` on one registry."""

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

    def delete_run(self, name: str) -> None:
        """See the port."""
        with service_errors(f"pipeline run {name}"):
            response = self._send(HttpRequest("DELETE", self._url(_RUNS, name)))
            # Accepted is enough: the record is asked for by nobody any more.
            if response.status_code not in {*_DONE, _HTTP_NOT_FOUND}:
                raise HttpResponseError(response=response)

    def _url(self, kind: str, name: str) -> str:
        return f"{self._registry}/{kind}/{name}?api-version={self._api_version}"


class AzureImageImports(_OneRegistry):
    """The port :class:`~function_app.ports.ImageImports` into one registry, from the one with ``source_id``.

    https://learn.microsoft.com/rest/api/containerregistry/registries/import-image
    """

    def __init__(self, *, source_id: str, **arm: Any) -> None:
        super().__init__(**arm)
        self._source = source_id

    def begin(self, repository: str, digest: str, tags: Sequence[str]) -> str | None:
        """See the port."""
        image = f"{repository}@{digest}"
        body = {
            "source": {"resourceId": self._source, "sourceImage": image},
            # NoForce fails where a tag is there, also where it is right already, as after a repeat.
            "mode": "Force" if tags else "NoForce",
            **(
                {"targetTags": [f"{repository}:{tag}" for tag in tags]}
                if tags
                else {"untaggedTargetRepositories": [repository]}
            ),
        }
        url = f"{self._registry}/importImage?api-version={self._api_version}"
        with service_errors(f"import of {image}", http_400=Code.IMAGE_IMPORT_FAILED):
            response = self._send(HttpRequest("POST", url, json=body))
            if response.status_code != _HTTP_ACCEPTED:
                _require(response)
                return None
            operation = response.headers.get("Location", "")
            if not self._is_ours(operation):
                raise HttpResponseError(message="no address to ask after it in the answer")
        return operation

    def failure(self, operation: str) -> str | None:
        """See the port."""
        # The operation is the subscription's and not the registry's: who asks after it may be refused.
        if not self._is_ours(operation):
            raise ServiceError(Code.SERVICE_UNEXPECTED, "an import is to be asked after elsewhere")
        with service_errors("import"):
            response = self._send(HttpRequest("GET", operation))
            if response.status_code in {*_DONE, _HTTP_FORBIDDEN, _HTTP_NOT_FOUND}:
                return _told_failure(response)
            if response.status_code in _PASSING:
                raise HttpResponseError(response=response)
            return _message(response)

    def _is_ours(self, url: str) -> bool:
        """Whether it is at the endpoint: the app's token goes nowhere else."""
        here, there = urlsplit(self._endpoint), urlsplit(url)
        return (there.scheme, there.netloc.lower()) == (here.scheme, here.netloc.lower())


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


def _told_failure(response: HttpResponse) -> str | None:
    """What an answer in good order says of an operation that has failed all the same."""
    status = str(_content(response).get("status") or "").lower()
    return _message(response) if status in {"failed", "canceled"} else None


def _message(response: HttpResponse) -> str:
    error = _content(response).get("error")
    told = error if isinstance(error, dict) else {}
    return f"HTTP {response.status_code} {told.get('code', '')} {told.get('message', '')}".strip()


def _content(response: HttpResponse) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}
