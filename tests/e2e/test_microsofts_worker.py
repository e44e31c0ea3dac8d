"""The project's own app through Microsoft's worker library: one refused function would mean none in Azure."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.functions_host import worker_runtime
from tests.functions_host.worker_runtime import http_datum, text_datum, worker

ROOT = Path(__file__).parents[2]
FUNCTIONS = {
    "source": {
        "create_transfer": "httpTrigger",
        "get_transfer": "httpTrigger",
        "list_transfers": "httpTrigger",
        "cancel_transfer": "httpTrigger",
        "export_transfer": "orchestrationTrigger",
        "seal_bundle": "activityTrigger",
    },
    "target": {
        "bundle_arrived": "blobTrigger",
        "import_bundle": "orchestrationTrigger",
        "accept_bundle": "activityTrigger",
        "issue_receipt": "activityTrigger",
    },
}
CLIENT = {
    "taskHubName": "hub",
    "creationUrls": {},
    "managementUrls": {"id": "INSTANCEID"},
    "baseUrl": "http://127.0.0.1:1",
    "requiredQueryStringParameters": "",
    "rpcBaseUrl": "http://127.0.0.1:1/durabletask/",
}

pytestmark = [
    pytest.mark.skipif(not worker_runtime.is_available(), reason="azure-functions-runtime needs Python 3.13"),
    pytest.mark.filterwarnings("ignore"),  # the worker's own imports are not under test
]


@pytest.mark.parametrize("role", FUNCTIONS)
def test_every_function_of_the_role_is_indexed(role: str) -> None:
    with worker(ROOT, {"TRANSFER_ROLE": role}) as running:
        found = {name: function.trigger for name, function in running.functions.items()}
    assert found.items() >= FUNCTIONS[role].items()
    other = FUNCTIONS["target" if role == "source" else "source"]
    assert not found.keys() & other.keys()


def test_bad_order_is_answered_by_a_problem_document() -> None:
    with worker(ROOT, {"TRANSFER_ROLE": "source"}) as running:
        call = running.call(
            "create_transfer",
            req=http_datum("POST", "https://app/api/transfers", b'{"artifacts": []}'),
            client=text_datum(json.dumps(CLIENT)),
        )
        answer = asyncio.run(call)
    assert answer["status_code"].value == "400"
    body = answer["body"].value
    problem = json.loads(body if isinstance(body, (str, bytes)) else bytes(body))
    assert problem["code"] == "REQUEST_INVALID"
    assert any("artifacts" in error["field"] for error in problem["errors"])
