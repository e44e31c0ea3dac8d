"""The app through Microsoft's own worker: one function that it refuses would leave an app with none."""

import asyncio
import json
from pathlib import Path

import pytest

from function_app.roles import build_app
from function_app.settings import Role
from local_cloud.functions_host.invoke import BlobReference
from tests.functions_host import worker_runtime
from tests.functions_host.worker_runtime import http_datum, json_datum, worker

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(not worker_runtime.is_available(), reason="azure-functions-runtime needs Python 3.13"),
    pytest.mark.filterwarnings("ignore"),  # the worker's own imports and the SDK's notices are not under test
]


@pytest.mark.parametrize("role", ["source", "target"])
def test_worker_indexes_every_function_of_the_role(role: Role) -> None:
    with worker(ROOT, {"TRANSFER_ROLE": role}) as running:
        found = set(running.functions)
    assert found == {function.get_function_name() for function in build_app(role).get_functions()}


def test_http_functions_ask_for_a_function_key_and_preflight_for_the_master_key() -> None:
    with worker(ROOT, {"TRANSFER_ROLE": "source"}) as running:
        levels = {
            (str(binding["route"]), str(binding["authLevel"]).rsplit(".", 1)[-1].upper())
            for function in running.functions.values()
            for binding in function.bindings
            if binding["type"] == "httpTrigger"
        }
    assert ("preflight", "ADMIN") in levels
    assert {level for route, level in levels if route != "preflight"} == {"FUNCTION"}


def test_blob_trigger_waits_for_the_manifest_only_by_the_apps_identity() -> None:
    with worker(ROOT, {"TRANSFER_ROLE": "target"}) as running:
        bindings = running.functions["bundle_arrived"].bindings
    trigger = next(binding for binding in bindings if binding["type"] == "blobTrigger")
    assert trigger["path"] == "incoming/{transferId}/bundle-manifest.dsse.json"
    assert trigger["connection"] == "TransferStorage"


@pytest.mark.parametrize(
    ("role", "function", "parameter", "blob"),
    [
        ("target", "bundle_arrived", "manifest", "incoming/t1/bundle-manifest.dsse.json"),
        ("source", "receipt_arrived", "receipt", "receipts/t1/x.dsse.json"),
    ],
)
def test_blob_trigger_asks_the_host_for_a_reference(
    role: Role, function: str, parameter: str, blob: str
) -> None:
    """A host that is told so sends no content; the worker makes the parameter of what it sends instead."""
    container, _, name = blob.partition("/")
    reference = BlobReference(connection="TransferStorage", container=container, name=name)
    settings = {"TRANSFER_ROLE": role, "TransferStorage__blobServiceUri": "https://account.blob.invalid"}
    with worker(ROOT, settings) as running:
        bindings = running.functions[function].bindings
        got = running.decode(function, parameter, reference)
    (trigger,) = (binding for binding in bindings if binding["type"] == "blobTrigger")
    assert trigger["properties"] == {"SupportsDeferredBinding": True}
    assert (got.container_name, got.blob_name) == (container, name)


def test_activity_without_its_settings_answers_that_and_the_log_names_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with worker(ROOT, {"TRANSFER_ROLE": "source", "TransferStorage__blobServiceUri": ""}) as running:
        answer = asyncio.run(running.call("plan_transfer", order=json_datum({"transferId": "x"})))
    assert json.loads(answer)["code"] == "SETTING_INVALID"
    assert "TransferStorage__blobServiceUri" not in answer
    assert "TransferStorage__blobServiceUri: missing" in caplog.text


def test_hostile_body_gets_a_problem_through_the_worker() -> None:
    names = ("taskHubName", "rpcBaseUrl", "baseUrl", "requiredQueryStringParameters")
    client = json.dumps(dict.fromkeys(names, "") | {"managementUrls": {}, "creationUrls": {}})
    with worker(ROOT, {"TRANSFER_ROLE": "source"}) as running:
        answer = asyncio.run(
            running.call(
                "create_transfer",
                req=http_datum("POST", "http://x/api/transfers", b'{"a":NaN}'),
                client=worker_runtime.text_datum(client),
            )
        )
    assert answer["status_code"].value == "400"
