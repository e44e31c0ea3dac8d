"""Pipelines and runs as the emulator keeps them, and as ARM shows them.

Casing and omissions follow the recorded traffic of the real service where there is any.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local_cloud.acr_transfer.behaviour import Behaviour
from local_cloud.acr_transfer.resources import Container, Kind, PipelineRequest, RunRequest
from local_cloud.acr_transfer.runs import Progress

_TYPE = "Microsoft.ContainerRegistry/registries"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedIdentity:
    """The principal in the tenant that a pipeline acts as."""

    principal_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorship:
    """The record of who made a resource and who changed it last; times are seconds since the epoch."""

    created_by: str
    created_s: float
    modified_by: str
    modified_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the member ``systemData`` of an ARM resource."""
        return {
            "createdBy": self.created_by,
            "createdByType": "Application",
            "createdAt": timestamp(self.created_s),
            "lastModifiedBy": self.modified_by,
            "lastModifiedByType": "Application",
            "lastModifiedAt": timestamp(self.modified_s),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """An export pipeline or import pipeline as the emulator keeps it."""

    kind: Kind
    name: str
    resource_id: str
    request: PipelineRequest
    identity: ManagedIdentity
    tenant_id: str
    authorship: Authorship

    def to_json(self, *, version: str) -> dict[str, Any]:
        """Return the resource as the api-version shows it."""
        is_import = self.kind == "importPipelines"
        properties: dict[str, Any] = {
            "source" if is_import else "target": self.request.container.to_json(version=version)
        }
        if is_import:
            status = "Enabled" if self.request.has_enabled_trigger else "Disabled"
            properties["trigger"] = {"sourceTrigger": {"status": status}}
        if self.request.options:
            properties["options"] = list(self.request.options)
        properties["provisioningState"] = "Succeeded"
        body = {
            "type": f"{_TYPE}/{self.kind}",
            "identity": self._identity(),
            "id": self.resource_id,
            "name": self.name,
            "systemData": self.authorship.to_json(),
            "properties": properties,
        }
        return body | ({"location": self.request.location} if self.request.location else {})

    def _identity(self) -> dict[str, Any]:
        principal = {"principalId": self.identity.principal_id}
        if asked := self.request.identity.user_assigned:
            one = principal | {"clientId": self.identity.client_id}
            return {"type": "userAssigned", "userAssignedIdentities": {asked: one}}
        return principal | {"tenantId": self.tenant_id, "type": "systemAssigned"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A pipeline run; ``progress`` changes while it goes on."""

    name: str
    resource_id: str
    request: RunRequest
    pipeline: Pipeline
    progress: Progress
    authorship: Authorship
    triggered_s: float | None  # when the source changed, on a run that the source trigger made
    operation_id: str = field(default_factory=lambda: f"pipelineruns-{uuid.uuid4()}")

    @property
    def is_running(self) -> bool:
        """Whether the run has not come to its end."""
        return self.progress.status == "Running"

    def to_json(self, *, version: str, behaviour: Behaviour) -> dict[str, Any]:
        """Return the resource as the api-version shows it."""
        state: str = self.progress.status
        if state == "Running":
            state = {"creating": "Creating", "succeeded": "Succeeded", "empty": ""}[behaviour.running_state]
        properties: dict[str, Any] = {
            "provisioningState": state,
            "request": self._request(),
            "response": self._response(version=version),
        }
        if self.request.force_update_tag:
            properties["forceUpdateTag"] = self.request.force_update_tag
        return {
            "type": f"{_TYPE}/pipelineRuns",
            "id": self.resource_id,
            "name": self.name,
            "systemData": self.authorship.to_json(),
            "properties": properties,
        }

    def operation_to_json(self, *, behaviour: Behaviour) -> dict[str, Any]:
        """Return the status of the run's creation as an asynchronous operation."""
        status: str = self.progress.status
        if status == "Running" and behaviour.running_state == "succeeded":
            status = "Succeeded"
        body: dict[str, Any] = {
            "id": f"{self.resource_id}/operationStatuses/{self.operation_id}",
            "name": self.operation_id,
            "status": status,
            "startTime": timestamp(self.authorship.modified_s),
        }
        if self.progress.finished_s is not None:
            body["endTime"] = timestamp(self.progress.finished_s)
        if status == "Failed" and behaviour.operation_error_body:
            body["error"] = {"code": "PipelineRunFailed", "message": self.progress.error_message or ""}
        return body

    @property
    def _end(self) -> str:
        return "target" if self.pipeline.kind == "exportPipelines" else "source"

    def _request(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "pipelineResourceId": self.request.pipeline_id,
            self._end: {"type": self.request.blob_type, "name": self.request.blob_name},
        }
        if self.request.artifacts:
            body["artifacts"] = list(self.request.artifacts)
        if self.request.catalog_digest:
            body["catalogDigest"] = self.request.catalog_digest
        return body

    def _response(self, *, version: str) -> dict[str, Any]:
        progress, container = self.progress, self.pipeline.request.container
        body: dict[str, Any] = {
            "status": progress.status,
            "progress": {"percentage": str(progress.percentage)},
            "startTime": timestamp(self.authorship.modified_s),
            self._end: _blob(container, self.request, version=version),
        }
        if progress.finished_s is not None:
            body["finishTime"] = timestamp(progress.finished_s)
        if progress.catalog_digest:
            body["catalogDigest"] = progress.catalog_digest
        if self._end == "source":
            body["importedArtifacts"] = list(progress.imported)
        if self.triggered_s is not None:
            body["trigger"] = {"sourceTrigger": {"timestamp": timestamp(self.triggered_s)}}
        if progress.error_message:
            body["pipelineRunErrorMessage"] = progress.error_message
        return body


def timestamp(seconds: float) -> str:
    """Return RFC 3339 in UTC with seven fractional digits, as the service writes it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0+00:00"


def _blob(container: Container, request: RunRequest, *, version: str) -> Mapping[str, Any]:
    shown = container.to_json(version=version)
    return shown | {"type": request.blob_type, "uri": f"{container.uri}/{request.blob_name}"}
