"""How pipelines reach their storage: as a managed identity, or with a SAS out of Key Vault."""

from typing import Any

import pytest

from local_cloud.acr_transfer.storage import NOT_AUTHORIZED
from tests.local_cloud.acr_transfer_harness import Side, needs_azurite, run_name

pytestmark = [needs_azurite, pytest.mark.e2e]


def sas_pipeline(side: Side, kind: str, secret: str, **grants: bool) -> str:
    """Make a pipeline in SAS mode whose identity may read the vault; return its resource id."""
    end = "target" if kind == "exportPipelines" else "source"
    container = {
        "type": "AzureStorageBlobContainer",
        "uri": side.container_url,
        "storageAccessMode": "SasToken",
        "keyVaultUri": f"{side.vault_url}/secrets/transfer-sas",
    }
    trigger = {"trigger": {"sourceTrigger": {"status": "Disabled"}}}
    made = side.call("PUT", f"{kind}/sas01", {"properties": {end: container, **trigger}})
    assert made.status_code == 200, made.text
    side.vault.set_secret("transfer-sas", secret)
    if grants.get("reads_vault", True):
        side.vault.grant(made.json()["identity"]["principalId"], "secrets/get")
    return f"{side.registry_id}/{kind}/sas01"


def export(side: Side, pipeline: str, blob: str) -> dict[str, Any]:
    side.push_image("sas", "v1", b"layer")
    response: dict[str, Any] = side.run(run_name(), pipeline, blob, "sas:v1")["response"]
    return response


@pytest.mark.parametrize("prefix", ["?", ""])
def test_a_sas_from_key_vault_carries_export_and_import(source: Side, prefix: str) -> None:
    blob = f"with-sas-{len(prefix)}"
    pipeline = sas_pipeline(source, "exportPipelines", prefix + source.sas("racwl"))
    response = export(source, pipeline, blob)
    assert response["status"] == "Succeeded", response
    assert response["target"]["uri"] == f"{source.container_url}/{blob}"
    pipeline = sas_pipeline(source, "importPipelines", prefix + source.sas("rl"))
    assert source.run(run_name(), pipeline, blob)["provisioningState"] == "Succeeded"


def test_the_documented_export_sas_is_enough(source: Side) -> None:
    pipeline = sas_pipeline(source, "exportPipelines", source.sas("rawl"))
    assert export(source, pipeline, "documented-sas")["status"] == "Succeeded"


@pytest.mark.parametrize(
    "fault", ["expired", "read-only", "no-sas", "secret-forbidden", "secret-missing", "other-key"]
)
def test_a_sas_that_does_not_work_fails_the_run_and_is_not_shown(source: Side, fault: str) -> None:
    secret = {
        "expired": source.sas("rawl", hours=-1),
        "read-only": source.sas("r"),
        "no-sas": "hello",
        "other-key": source.sas("rawl")[:-12] + "AAAAAAAA%3D",
    }.get(fault, source.sas("rawl"))
    if fault == "secret-missing":
        source.vault._secrets.clear()
    pipeline = sas_pipeline(
        source, "exportPipelines", secret, reads_vault=fault not in ("secret-forbidden", "secret-missing")
    )
    message = export(source, pipeline, f"sas-{fault}")["pipelineRunErrorMessage"]
    vault_fault = fault.startswith("secret")
    assert message.startswith("Failed to access Key Vault." if vault_fault else "Failed to access storage.")
    assert ("403" in message) is (fault != "no-sas")
    assert "sig=" not in message


def test_a_managed_identity_without_role_gets_the_text_of_the_service(source: Side) -> None:
    properties = {"target": {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}}
    source.call("PUT", "exportPipelines/norole", {"properties": properties})
    response = export(source, f"{source.registry_id}/exportPipelines/norole", "no-role")
    assert response["pipelineRunErrorMessage"] == NOT_AUTHORIZED


def test_the_reader_role_imports_but_neither_exports_nor_deletes(source: Side) -> None:
    export(source, source.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"]), "reader")
    source.transfer.roles._assigned.clear()
    source.transfer.grant(
        "11111111-1111-1111-1111-111111111111",
        "Container Registry Transfer Pipeline Contributor",
        source.registry_id,
    )
    container = {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}
    for kind, end, name in (
        ("exportPipelines", "target", "reader1"),
        ("importPipelines", "source", "reader2"),
    ):
        properties = {
            end: container,
            "options": ["DeleteSourceBlobOnSuccess"],
            "trigger": {"sourceTrigger": {"status": "Disabled"}},
        }
        made = source.call("PUT", f"{kind}/{name}", {"properties": properties}).json()
        principal = made["identity"]["principalId"]
        source.transfer.grant(principal, "Storage Blob Data Reader", source.azurite.blob_url)
    response = export(source, f"{source.registry_id}/exportPipelines/reader1", "reader-2")
    assert response["pipelineRunErrorMessage"] == NOT_AUTHORIZED
    run = source.run(run_name(), f"{source.registry_id}/importPipelines/reader2", "reader")
    assert run["provisioningState"] == "Succeeded"
    with source.blob("reader") as blob:
        assert blob.exists()


def test_a_missing_container_and_a_missing_blob_are_named(source: Side) -> None:
    container = {"uri": f"{source.azurite.blob_url}/absent", "storageAccessMode": "ManagedIdentity"}
    made = source.call("PUT", "exportPipelines/absent", {"properties": {"target": container}}).json()
    source.transfer.grant(made["identity"]["principalId"], "Storage Blob Data Contributor", container["uri"])
    message = export(source, f"{source.registry_id}/exportPipelines/absent", "x")["pipelineRunErrorMessage"]
    assert "404" in message
    assert "container" in message
    pipeline = source.put_pipeline("importPipelines", "imp01")
    run = source.run(run_name(), pipeline, "absent-blob")
    assert "404" in run["response"]["pipelineRunErrorMessage"]


def test_a_storage_firewall_keeps_transfer_out(source: Side) -> None:
    source.behaviour.storage_firewall = True
    response = export(source, source.put_pipeline("exportPipelines", "exp01"), "firewall")
    assert response["pipelineRunErrorMessage"] == NOT_AUTHORIZED


def test_a_new_system_identity_has_none_of_the_old_ones_roles(source: Side) -> None:
    pipeline = source.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"])
    assert export(source, pipeline, "identity")["status"] == "Succeeded"
    assert source.call("DELETE", "exportPipelines/exp01").status_code == 200
    properties = {"target": {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}}
    source.call("PUT", "exportPipelines/exp01", {"properties": properties})
    assert export(source, pipeline, "identity")["pipelineRunErrorMessage"] == NOT_AUTHORIZED


def test_a_user_assigned_identity_can_be_granted_its_role_beforehand(source: Side) -> None:
    identity_id = (
        "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
    )
    granted = source.transfer.user_identity(identity_id)
    source.transfer.grant(granted.principal_id, "Storage Blob Data Contributor", source.container_url)
    body = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity_id: {}}},
        "properties": {"target": {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}},
    }
    made = source.call("PUT", "exportPipelines/useridentity", body).json()
    assert made["identity"] == {
        "type": "userAssigned",
        "userAssignedIdentities": {
            identity_id: {"principalId": granted.principal_id, "clientId": granted.client_id}
        },
    }
    response = export(source, f"{source.registry_id}/exportPipelines/useridentity", "user-identity")
    assert response["status"] == "Succeeded"
