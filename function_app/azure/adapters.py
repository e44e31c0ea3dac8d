"""The ports in Azure, connected as the settings say. Imports the SDK of every service that the app uses."""

import os
from typing import Any

from azure.core.credentials import TokenCredential
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

from function_app.azure.arm import AzureImageImports, AzurePipelines
from function_app.azure.blob import AzureBlobs
from function_app.azure.checks import HttpChecks
from function_app.azure.keyvault import VaultKeys, read_secret
from function_app.azure.pipeline_sas import VaultPipelineSas
from function_app.azure.queues import AzurePoisonQueue
from function_app.azure.registry import AzureRegistry
from function_app.azure.tables import AzureTables
from function_app.azure.tickets import AzureTickets
from function_app.azure.webhook import Webhook
from function_app.ports import BlobStore, EventReceiver, Staged, TargetSide
from function_app.settings import Settings, TargetSettings
from function_app.storage.event_notes import with_notes


def target_side_of(settings: TargetSettings) -> TargetSide:
    """The target's settings and ports; those of the staging registry are ``None`` where there is none."""
    staging, staged = settings.staging_registry, None
    credential = credential_of(settings)
    if staging is not None:
        staged = Staged(
            registry=_registry(settings, staging.login_server, credential),
            imports=AzureImageImports(
                source_id=staging.resource_id, **_arm(settings, settings.registry_resource_id, credential)
            ),
        )
    checks = HttpChecks(credential)
    return TargetSide(settings=settings, staged=staged, checks=checks, **ports_of(settings))


def ports_of(settings: Settings) -> dict[str, Any]:
    """The ports that both sides have, by their names in :class:`~function_app.ports.Ports`."""
    credential = credential_of(settings)
    blobs: BlobStore = AzureBlobs(settings.blob_service_url, credential)
    events = _events(settings, credential)
    return {
        "blobs": blobs if events is None else with_notes(blobs),
        "events": events,
        "projection": AzureTables(settings.table_service_url, credential),
        "registry": _registry(settings, settings.registry_login_server, credential),
        "pipelines": AzurePipelines(**_arm(settings, settings.pipeline_registry.resource_id, credential)),
        "signing": VaultKeys(settings.signing_keys, credential),
        "tickets": AzureTickets(settings.blob_service_url, _ticket_credential(settings)),
        "poison": AzurePoisonQueue(settings.queue_service_url, credential),
        "pipeline_sas": _pipeline_sas(settings),
    }


def _registry(settings: Settings, login_server: str, credential: TokenCredential) -> AzureRegistry:
    return AzureRegistry(login_server, scope=settings.registry_scope, credential=credential)


def _arm(settings: Settings, registry_id: str, credential: TokenCredential) -> dict[str, Any]:
    """What ARM's part of a registry is asked with."""
    return {
        "endpoint": settings.arm_endpoint,
        "scope": settings.arm_scope,
        "api_version": settings.arm_api_version,
        "registry_id": registry_id,
        "credential": credential,
    }


def credential_of(settings: Settings) -> TokenCredential:
    """The app's own identity; a developer's sign-in where there is none."""
    return _identity_of(settings.client_id)


def _ticket_credential(settings: Settings) -> TokenCredential | None:
    """The identity that signs tickets, which is never the app's own; ``None`` where there is none."""
    return None if settings.ticket_client_id is None else _identity_of(settings.ticket_client_id)


def _pipeline_sas(settings: Settings) -> VaultPipelineSas | None:
    """The renewal of the pipeline's SAS, as an identity of its own; ``None`` where nothing is renewed."""
    if settings.pipeline_sas_secret is None:
        return None
    credential = _identity_of(settings.pipeline_sas_client_id)
    return VaultPipelineSas(settings.pipeline_sas_secret, settings.blob_service_url, credential)


def _identity_of(client_id: str | None) -> TokenCredential:
    if "IDENTITY_ENDPOINT" in os.environ:
        return ManagedIdentityCredential(client_id=client_id)
    return DefaultAzureCredential(managed_identity_client_id=client_id)


def _events(settings: Settings, credential: TokenCredential) -> EventReceiver | None:
    if settings.events_webhook_url is None or settings.events_webhook_secret is None:
        return None
    secret_id = settings.events_webhook_secret
    return Webhook(settings.events_webhook_url, lambda: read_secret(secret_id, credential))
