"""ARM's surface: with the stock SDK, and with raw requests where bodies and headers matter."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.mgmt.containerregistry import models

from tests.local_cloud.acr_transfer_harness import (
    CALLER,
    GROUP,
    VERSION,
    Side,
    needs_azurite,
    run_body,
    run_name,
)

pytestmark = [needs_azurite, pytest.mark.e2e]


def sdk_pipeline(side: Side) -> models.ExportPipeline:
    return models.ExportPipeline(
        identity=models.IdentityProperties(type="SystemAssigned"),
        properties=models.ExportPipelineProperties(
            target=models.ExportPipelineTargetProperties(
                type="AzureStorageBlobContainer",
                uri=side.container_url,
                storage_access_mode="ManagedIdentity",
            ),
            options=["OverwriteBlobs"],
        ),
    )


def sdk_run(pipeline_id: str, *artifacts: str) -> models.PipelineRun:
    request = models.PipelineRunRequest(
        pipeline_resource_id=pipeline_id,
        artifacts=list(artifacts),
        target=models.PipelineRunTargetProperties(type="AzureStorageBlob", name="sdk/001"),
    )
    return models.PipelineRun(properties=models.PipelineRunProperties(request=request))


def error_code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_the_stock_sdk_makes_a_pipeline_runs_it_and_deletes_both(source: Side) -> None:
    source.push_image("sdk", "v1", b"layer")
    registry = f"{source.name}reg"
    with source.sdk() as client:
        pipeline: Any = client.export_pipelines.begin_create(
            GROUP, registry, "sdkexp", sdk_pipeline(source)
        ).result()
        assert pipeline.properties.provisioning_state == "Succeeded"
        source.transfer.grant(
            pipeline.identity.principal_id, "Storage Blob Data Contributor", source.container_url
        )
        run: Any = client.pipeline_runs.begin_create(
            GROUP, registry, "sdkrun", sdk_run(pipeline.id, "sdk:v1")
        ).result()
        assert run.properties.provisioning_state == "Succeeded"
        assert run.properties.response.status == "Succeeded"
        assert run.properties.response.target.uri == f"{source.container_url}/sdk/001"
        assert [each.name for each in client.pipeline_runs.list(GROUP, registry)] == ["sdkrun"]
        client.pipeline_runs.begin_delete(GROUP, registry, "sdkrun").result()
        client.export_pipelines.begin_delete(GROUP, registry, "sdkexp").result()
        with pytest.raises(ResourceNotFoundError):
            client.pipeline_runs.get(GROUP, registry, "sdkrun")
        assert list(client.export_pipelines.list(GROUP, registry)) == []


@pytest.mark.parametrize("with_body", [True, False])
def test_the_stock_sdk_raises_when_the_operation_failed(source: Side, *, with_body: bool) -> None:
    source.behaviour.operation_error_body = with_body
    pipeline = source.put_pipeline("exportPipelines", "exp01")
    with source.sdk() as client:
        poller = client.pipeline_runs.begin_create(
            GROUP, f"{source.name}reg", "failing", sdk_run(pipeline, "absent:v1")
        )
        with pytest.raises(HttpResponseError) as caught:
            poller.result()
    assert (caught.value.error is not None) is with_body


def test_a_put_answered_200_leaves_the_sdk_with_a_running_run(source: Side) -> None:
    source.push_image("sdk", "v1", b"layer")
    source.behaviour.run_put_status = 200
    source.behaviour.running_state = "succeeded"
    source.behaviour.run_delay_s = 0.3
    pipeline = source.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"])
    with source.sdk() as client:
        run: Any = client.pipeline_runs.begin_create(
            GROUP, f"{source.name}reg", "early", sdk_run(pipeline, "sdk:v1")
        ).result()
    assert run.properties.provisioning_state == "Succeeded"
    assert run.properties.response.status == "Running"
    assert source.await_run("early")["response"]["status"] == "Succeeded"


def test_another_api_version_goes_through_send_request(source: Side) -> None:
    source.put_pipeline("exportPipelines", "exp01")
    url = f"{source.arm.url}{source.registry_id}/exportPipelines?api-version=2025-06-01-preview"
    with source.sdk() as client:
        answer = client.send_request(HttpRequest("GET", url))
    assert answer.status_code == 200
    assert "2025-06-01-preview" in answer.headers["api-supported-versions"]
    assert answer.json()["value"][0]["properties"]["target"]["storageAccessMode"] == "ManagedIdentity"


def test_throttling_is_answered_with_retry_after_and_the_sdk_gets_through(source: Side) -> None:
    source.transfer.refuse_next(1, status=429, retry_after_s=0)
    refused = source.call("GET", "pipelineRuns")
    assert error_code(refused) == (429, "TooManyRequests")
    assert refused.headers["Retry-After"] == "0"
    source.transfer.refuse_next(2, status=503, retry_after_s=0)
    with source.sdk() as client:
        assert list(client.pipeline_runs.list(GROUP, f"{source.name}reg")) == []


def test_the_answer_to_a_pipeline_has_the_recorded_shape(source: Side) -> None:
    body = {
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "target": {
                "type": "AzureStorageBlobContainer",
                "uri": source.container_url,
                "storageAccessMode": "ManagedIdentity",
                "keyVaultUri": "",
            }
        },
    }
    answer = source.call("PUT", "exportPipelines/exp01", body)
    made = answer.json()
    assert answer.status_code == 200
    assert "Azure-AsyncOperation" not in answer.headers
    assert set(made) == {"type", "identity", "id", "name", "systemData", "properties"}
    assert made["identity"]["type"] == "systemAssigned"
    assert made["properties"] == {
        "target": {
            "type": "AzureStorageBlobContainer",
            "uri": source.container_url,
            "storageAccessMode": "ManagedIdentity",
        },
        "provisioningState": "Succeeded",
    }
    assert source.call("GET", "importPipelines").json() == {"value": []}
    again = source.call("PUT", "exportPipelines/EXP01", body).json()
    assert (again["id"], again["identity"]) == (made["id"], made["identity"])


def test_an_import_pipeline_without_trigger_comes_back_enabled(source: Side) -> None:
    container = {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}
    made = source.call("PUT", "importPipelines/imp01", {"properties": {"source": container}}).json()
    assert made["properties"]["trigger"] == {"sourceTrigger": {"status": "Enabled"}}


def test_before_2025_06_there_is_only_sas(source: Side) -> None:
    old = "2025-05-01-preview"
    container = {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}
    body: dict[str, Any] = {"properties": {"target": container}}
    refused = source.call("PUT", "exportPipelines/exp01", body, version=old)
    assert error_code(refused) == (400, "InvalidRequestContent")
    container["keyVaultUri"] = f"{source.vault_url}/secrets/x"
    made = source.call("PUT", "exportPipelines/exp01", body, version=old).json()
    assert "storageAccessMode" not in made["properties"]["target"]
    shown = source.call("GET", "exportPipelines/exp01").json()
    assert shown["properties"]["target"]["storageAccessMode"] == "SasToken"


def test_the_official_templates_empty_strings_are_absent(source: Side) -> None:
    source.push_image("empty", "v1", b"layer")
    pipeline = source.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"])
    body = run_body(pipeline, "empty", "empty:v1", forceUpdateTag="")
    body["location"] = "westus"
    body["properties"]["request"] |= {"source": {"type": "", "name": ""}, "catalogDigest": ""}
    source.call("PUT", "pipelineRuns/empty01", body)
    run = source.await_run("empty01")
    assert run["provisioningState"] == "Succeeded"
    assert "catalogDigest" not in run["request"]
    assert "source" not in run["request"]
    assert "forceUpdateTag" not in run


def test_a_run_shows_the_documented_fields_while_it_goes_on(source: Side) -> None:
    source.push_image("shown", "v1", b"layer")
    source.behaviour.run_delay_s = 60
    pipeline = source.put_pipeline("exportPipelines", "exp01")
    put = source.call("PUT", "pipelineRuns/shown01", run_body(pipeline, "shown", "shown:v1"))
    assert put.status_code == 201
    assert put.headers["Azure-AsyncOperation"].startswith(
        f"{source.arm.url}{source.registry_id}/pipelineRuns/"
    )
    properties = put.json()["properties"]
    assert properties["provisioningState"] == "Creating"
    assert properties["response"]["status"] == "Running"
    assert isinstance(properties["response"]["progress"]["percentage"], str)
    assert "finishTime" not in properties["response"]
    assert len(properties["response"]["startTime"]) == len("2026-01-01T00:00:00.0000000+00:00")
    operation = source.call("GET", put.headers["Azure-AsyncOperation"])
    assert operation.json()["status"] == "Running"
    source.behaviour.running_state = "empty"
    assert source.call("GET", "pipelineRuns/shown01").json()["properties"]["provisioningState"] == ""


def test_the_same_run_again_runs_again_only_with_another_force_update_tag(source: Side) -> None:
    source.push_image("once", "v1", b"layer")
    pipeline = source.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"])
    body = run_body(pipeline, "once", "once:v1", forceUpdateTag="1")
    assert source.call("PUT", "pipelineRuns/once01", body).status_code == 201
    first = source.await_run("once01")
    again = source.call("PUT", "pipelineRuns/once01", body)
    assert (again.status_code, again.json()["properties"]) == (200, first)
    forced = run_body(pipeline, "once", "once:v1", forceUpdateTag="2")
    assert source.call("PUT", "pipelineRuns/once01", forced).status_code == 201
    assert source.await_run("once01")["response"]["startTime"] != first["response"]["startTime"]
    source.behaviour.identical_put = "again"
    assert source.call("PUT", "pipelineRuns/once01", forced).status_code == 201
    source.await_run("once01")


def test_a_changed_run_is_a_conflict_while_the_old_one_goes_on(source: Side) -> None:
    source.push_image("busy", "v1", b"layer")
    source.behaviour.run_delay_s = 60
    pipeline = source.put_pipeline("exportPipelines", "exp01")
    body = run_body(pipeline, "busy", "busy:v1")
    changed = run_body(pipeline, "busy-2", "busy:v1")
    assert source.call("PUT", "pipelineRuns/busy01", body).status_code == 201
    assert source.call("PUT", "pipelineRuns/busy01", body).status_code == 200
    assert error_code(source.call("PUT", "pipelineRuns/busy01", changed)) == (409, "Conflict")
    source.behaviour.conflict_while_running = "any"
    with source.sdk() as client, pytest.raises(ResourceExistsError):
        client.pipeline_runs.begin_create(GROUP, f"{source.name}reg", "busy01", sdk_run(pipeline, "busy:v1"))


def test_lists_come_in_pages(source: Side) -> None:
    for number in range(5):
        source.put_pipeline("exportPipelines", f"page{number}0")
    source.behaviour.page_size = 2
    first = source.call("GET", "exportPipelines").json()
    assert len(first["value"]) == 2
    assert len(source.call("GET", first["nextLink"]).json()["value"]) == 2
    with source.sdk() as client:
        names = [each.name for each in client.export_pipelines.list(GROUP, f"{source.name}reg")]
    assert names == [f"page{number}0" for number in range(5)]


def test_a_delete_may_be_asynchronous(source: Side) -> None:
    pipeline = source.put_pipeline("exportPipelines", "exp01")
    source.run("delete01", pipeline, "x", "absent:v1")
    source.behaviour.run_delete_status = 202
    with source.sdk() as client:
        client.pipeline_runs.begin_delete(GROUP, f"{source.name}reg", "delete01").result()
        client.pipeline_runs.begin_delete(GROUP, f"{source.name}reg", "delete01").result()
    assert error_code(source.call("GET", "pipelineRuns/delete01")) == (404, "ResourceNotFound")


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("", 401, "AuthenticationFailed"),
        ("junk", 401, "InvalidAuthenticationToken"),
        ("storage", 401, "InvalidAuthenticationTokenAudience"),
        ("expired", 401, "ExpiredAuthenticationToken"),
        ("stranger", 403, "AuthorizationFailed"),
    ],
)
def test_callers_without_a_good_token_or_role_are_refused(
    source: Side, token: str, status: int, code: str
) -> None:
    arm = "https://management.azure.com/"
    tokens = {
        "storage": source.tokens.mint(CALLER, "https://storage.azure.com"),
        "expired": source.tokens.mint(CALLER, arm, lifetime_s=-1),
        "stranger": source.tokens.mint("stranger", arm),
    }
    refused = source.call("GET", "pipelineRuns", token=tokens.get(token, token))
    assert error_code(refused) == (status, code)
    assert ("WWW-Authenticate" in refused.headers) is (status == 401)


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (None, "MissingApiVersionParameter"),
        ("latest", "InvalidApiVersionParameter"),
        ("2025-11-01", "NoRegisteredProviderFound"),
        ("2026-11-01", "NoRegisteredProviderFound"),
    ],
)
def test_api_versions_without_pipelines_are_refused(source: Side, version: str | None, code: str) -> None:
    assert error_code(source.call("GET", "exportPipelines", version=version)) == (400, code)


@pytest.mark.parametrize("name", ["four", "with-hyphen", "x" * 51, "dot.dot", "uml%C3%A4ut"])
def test_names_that_are_not_alphanumeric_are_refused(source: Side, name: str) -> None:
    container = {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}
    refused = source.call("PUT", f"exportPipelines/{name}", {"properties": {"target": container}})
    assert error_code(refused) == (400, "InvalidResourceName")


def test_other_registries_resources_and_methods_are_refused(source: Side) -> None:
    other = f"{source.arm.url}{source.registry_id}x/pipelineRuns?api-version={VERSION}"
    assert error_code(source.call("GET", other)) == (404, "ResourceNotFound")
    assert error_code(source.call("GET", "webhooks")) == (404, "InvalidResourceType")
    assert error_code(source.call("POST", "pipelineRuns/run01")) == (405, "MethodNotAllowed")
    assert error_code(source.call("GET", "pipelineRuns/absent")) == (404, "ResourceNotFound")
    assert source.call("DELETE", "exportPipelines/absent").status_code == 204


@pytest.mark.parametrize(
    "change",
    [
        {"pipelineResourceId": ""},
        {"pipelineResourceId": "/subscriptions/s/exportPipelines/other"},
        {"artifacts": []},
        {"artifacts": [f"app:v{number}" for number in range(51)]},
        {"artifacts": ["app:v1", "UPPER:v1"]},
        {"artifacts": ["../../etc:v1"]},
        {"artifacts": ["app@sha256:short"]},
        {"artifacts": [7]},
        {"target": {"type": "AzureStorageBlob"}},
        {"target": {"type": "AzureStorageBlob", "name": "n" * 1025}},
        {"target": "blob"},
    ],
)
def test_malformed_runs_are_refused(source: Side, change: dict[str, Any]) -> None:
    body = run_body(source.put_pipeline("exportPipelines", "exp01"), "blob", "app:v1")
    body["properties"]["request"] |= change
    assert error_code(source.call("PUT", f"pipelineRuns/{run_name()}", body)) == (
        400,
        "InvalidRequestContent",
    )
    assert source.call("GET", "pipelineRuns").json() == {"value": []}


def test_registry_that_is_not_premium_has_no_pipelines(source: Side) -> None:
    container = {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}
    source.behaviour.sku = "Standard"
    refused = source.call("PUT", "exportPipelines/exp01", {"properties": {"target": container}})
    assert error_code(refused) == (400, "SkuNotSupported")
    assert source.call("GET", "exportPipelines").json() == {"value": []}


def test_option_that_is_not_known_is_kept_and_changes_nothing(source: Side) -> None:
    container = {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}
    options = ["DisableSourceTrigger", "overwriteblobs"]  # the CLI's help names the first, which nothing has
    made = source.call(
        "PUT", "exportPipelines/exp01", {"properties": {"target": container, "options": options}}
    )
    assert made.json()["properties"]["options"] == ["DisableSourceTrigger", "OverwriteBlobs"]


@pytest.mark.parametrize(
    "change",
    [
        {"target": None},
        {"target": {"uri": "http://acct.blob.core.windows.net/c", "storageAccessMode": "ManagedIdentity"}},
        {"target": {"uri": "https://acct/c?sig=x", "storageAccessMode": "ManagedIdentity"}},
        {"target": {"uri": "https://acct.blob.core.windows.net", "storageAccessMode": "ManagedIdentity"}},
        {"target": {"uri": "https://acct/c", "storageAccessMode": "SasToken"}},
        {"target": {"uri": "https://acct/c", "storageAccessMode": "AccountKey"}},
        {"options": [7]},
        {"options": "OverwriteBlobs"},
    ],
)
def test_malformed_pipelines_are_refused(source: Side, change: dict[str, Any]) -> None:
    container = {"uri": source.container_url, "storageAccessMode": "ManagedIdentity"}
    refused = source.call("PUT", "exportPipelines/exp01", {"properties": {"target": container, **change}})
    assert error_code(refused) == (400, "InvalidRequestContent")


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b"null", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(source: Side, content: bytes) -> None:
    with source.sdk() as client:
        url = f"{source.arm.url}{source.registry_id}/pipelineRuns/run01?api-version={VERSION}"
        headers = {"Content-Type": "application/json"}
        answer = client.send_request(HttpRequest("PUT", url, content=content, headers=headers))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequestContent")


def test_a_body_that_does_not_say_that_it_is_json_is_refused(source: Side) -> None:
    with source.sdk() as client:
        url = f"{source.arm.url}{source.registry_id}/pipelineRuns/run01?api-version={VERSION}"
        answer = client.send_request(HttpRequest("PUT", url, content=b"{}"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "UnsupportedMediaType")


def test_a_body_over_four_mebibytes_is_refused(source: Side) -> None:
    refused = source.call("PUT", "pipelineRuns/run01", {"padding": "x" * 4_200_000})
    assert error_code(refused) == (413, "RequestContentTooLarge")


def test_case_of_the_api_version_does_not_matter(source: Side) -> None:
    url = f"{source.arm.url}{source.registry_id}/exportPipelines?API-VERSION={VERSION.upper()}"
    assert source.call("GET", url).status_code == 200


def test_unknown_path_is_told_before_an_unknown_api_version(source: Side) -> None:
    path = "/subscriptions/x/providers/Some.Thing?api-version=1999-01-01"
    answer = source.call("GET", f"{source.arm.url}{path}")
    assert error_code(answer) == (404, "InvalidResourceType")


def test_request_id_of_the_client_comes_back(source: Side) -> None:
    with source.sdk() as client:
        url = f"{source.arm.url}{source.registry_id}/exportPipelines?api-version={VERSION}"
        headers = {"x-ms-client-request-id": "mine"}
        answer = client.send_request(HttpRequest("GET", url, headers=headers))
    assert answer.headers["x-ms-client-request-id"] == "mine"


def test_a_run_of_a_pipeline_that_does_not_exist_is_refused(source: Side) -> None:
    body = run_body(f"{source.registry_id}/exportPipelines/absent", "blob", "app:v1")
    assert error_code(source.call("PUT", "pipelineRuns/run01", body)) == (404, "ResourceNotFound")
