"""The pipeline port against a scripted ARM: each answer that the specification allows."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken

from airgap.errors import Code, ServiceError
from function_app.azure.arm import AzurePipelines
from local_cloud.pki import CertificateAuthority
from local_cloud.web import serve
from tests.function_app.memory import RESOURCE_ID

RUN = "erun00001"
REQUEST = {"pipelineResourceId": f"{RESOURCE_ID}/exportPipelines/e", "artifacts": ["a:1"]}


class Credential:
    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://management.azure.com/.default",)
        return AccessToken("a-token", int(time.time()) + 3000)


class ScriptedArm:
    """Answers in the order of its script, and notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.ca = CertificateAuthority.create(folder)
        self.script: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        assert request.path == f"{RESOURCE_ID}/pipelineRuns/{RUN}"
        assert request.query["api-version"] == "2025-06-01-preview"
        assert request.headers["Authorization"] == "Bearer a-token"
        self.asked.append((request.method, await request.json() if request.can_read_body else None))
        status, body = self.script.pop(0)
        headers = {"Retry-After": "0"} if status in {201, 429, 503} else {}
        return web.json_response(body, status=status, headers=headers)

    def run(self, use: Callable[[AzurePipelines], None]) -> None:
        async def scenario() -> None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self.answer)
            server = await serve(app, ssl_context=self.ca.server_context("arm"))
            pipelines = AzurePipelines(
                endpoint=server.url,
                scope="https://management.azure.com/.default",
                api_version="2025-06-01-preview",
                registry_id=RESOURCE_ID,
                credential=Credential(),
            )
            try:
                await asyncio.to_thread(use, pipelines)
            finally:
                pipelines.close()
                await server.close()

        asyncio.run(scenario())


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedArm:
    made = ScriptedArm(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.ca.ca_file))
    return made


NOT_FOUND = (404, {"error": {"code": "ResourceNotFound", "message": "no such run"}})
BUSY = (409, {"error": {"code": "Conflict", "message": "the registry is being updated"}})


@pytest.mark.parametrize("status", [200, 201])
def test_run_is_put_once_with_the_request_as_it_stands(arm: ScriptedArm, status: int) -> None:
    arm.script = [NOT_FOUND, (status, {"properties": {}})]
    arm.run(lambda pipelines: pipelines.put_run(RUN, REQUEST))
    assert arm.asked == [("GET", None), ("PUT", {"properties": {"request": REQUEST}})]


def test_run_that_exists_is_not_put_again(arm: ScriptedArm) -> None:
    arm.script = [(200, {"properties": {"provisioningState": "Failed"}})]
    arm.run(lambda pipelines: pipelines.put_run(RUN, REQUEST))
    assert arm.asked == [("GET", None)]


def test_run_that_somebody_else_put_meanwhile_is_the_same_run(arm: ScriptedArm) -> None:
    arm.script = [NOT_FOUND, BUSY, (200, {"properties": {"provisioningState": "Creating"}})]
    arm.run(lambda pipelines: pipelines.put_run(RUN, REQUEST))


def test_conflict_without_a_run_is_worth_a_retry(arm: ScriptedArm) -> None:
    def use(pipelines: AzurePipelines) -> None:
        with pytest.raises(ServiceError) as caught:
            pipelines.put_run(RUN, REQUEST)
        assert caught.value.code.is_retryable

    arm.script = [NOT_FOUND, BUSY, NOT_FOUND]
    arm.run(use)


def test_unknown_run_is_none_and_a_known_one_its_properties(arm: ScriptedArm) -> None:
    def use(pipelines: AzurePipelines) -> None:
        assert pipelines.get_run(RUN) is None
        assert pipelines.get_run(RUN) == {"response": {"status": "Running"}}

    arm.script = [NOT_FOUND, (200, {"properties": {"response": {"status": "Running"}}})]
    arm.run(use)


def test_throttling_and_short_outages_are_sat_out(arm: ScriptedArm) -> None:
    arm.script = [(429, {}), (503, {}), (200, {"properties": {"x": 1}})]
    arm.run(lambda pipelines: assert_equal(pipelines.get_run(RUN), {"x": 1}))


def assert_equal(found: Any, expected: Any) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (
            400,
            {"error": {"code": "InvalidArtifact", "message": "artifact is not valid"}},
            Code.PIPELINE_RUN_FAILED,
            "artifact is not valid",
        ),
        (
            403,
            {"error": {"code": "AuthorizationFailed", "message": "has no authorization"}},
            Code.SERVICE_DENIED,
            "AuthorizationFailed",
        ),
        (
            404,
            {"error": {"code": "RegistryNotFound", "message": "no registry"}},
            Code.NOT_FOUND,
            "no registry",
        ),
        (202, {}, Code.SERVICE_UNEXPECTED, "202"),
    ],
)
def test_refused_put_says_why(arm: ScriptedArm, status: int, body: Any, code: Code, text: str) -> None:
    def use(pipelines: AzurePipelines) -> None:
        with pytest.raises(ServiceError) as caught:
            pipelines.put_run(RUN, REQUEST)
        assert caught.value.code is code
        assert text in caught.value.detail

    arm.script = [NOT_FOUND, (status, body)]
    arm.run(use)


@pytest.mark.parametrize(
    "answer", [(200, {}), (202, {}), (204, None), NOT_FOUND], ids=lambda one: str(one[0])
)
def test_run_that_is_deleted_or_gone_is_no_fault(arm: ScriptedArm, answer: tuple[int, Any]) -> None:
    arm.script = [answer]
    arm.run(lambda pipelines: pipelines.delete_run(RUN))
    assert arm.asked == [("DELETE", None)]


def test_refused_deletion_says_why(arm: ScriptedArm) -> None:
    def use(pipelines: AzurePipelines) -> None:
        with pytest.raises(ServiceError) as caught:
            pipelines.delete_run(RUN)
        assert caught.value.code is Code.SERVICE_DENIED

    arm.script = [(403, {"error": {"code": "AuthorizationFailed", "message": "no"}})]
    arm.run(use)


@pytest.mark.parametrize("body", [[], {}, {"properties": None}, "text"])
def test_answer_without_properties_is_unexpected(arm: ScriptedArm, body: Any) -> None:
    def use(pipelines: AzurePipelines) -> None:
        with pytest.raises(ServiceError, match="SERVICE_UNEXPECTED"):
            pipelines.get_run(RUN)

    arm.script = [(200, body)]
    arm.run(use)
