"""One suite for the pipeline port: the double, and Azure Resource Manager's local stand-in."""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest
from azure.core.credentials import AccessToken

from airgap.errors import Code, ServiceError
from function_app.azure.arm import AzurePipelines
from function_app.ports import PipelineService
from local_cloud.tokens import ARM_AUDIENCES, TokenAuthority
from tests.contract.loop import running_loop
from tests.function_app.memory import MemoryPipelines, succeeded
from tests.local_cloud.acr_transfer_harness import CALLER, VERSION, Side

_DEADLINE_S = 30


class Desk(Protocol):
    """The port, and what is asked of it here."""

    @property
    def service(self) -> PipelineService: ...

    def request(self, blob: str) -> Mapping[str, Any]:
        """An export of one artifact that is there, to this blob."""

    def exported(self) -> list[str]:
        """The names of the blobs that runs have written, in the order in which they were."""


class MemoryDesk:
    def __init__(self) -> None:
        self._written: list[str] = []
        self.service = MemoryPipelines(self._export)

    def request(self, blob: str) -> Mapping[str, Any]:
        return {"artifacts": ["team/app:v1"], "target": {"type": "AzureStorageBlob", "name": blob}}

    def exported(self) -> list[str]:
        return self._written

    def _export(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if not request["artifacts"]:
            raise ServiceError(Code.PIPELINE_RUN_FAILED, "no artifacts")
        self._written.append(request["target"]["name"])
        return succeeded()


class ArmDesk:
    def __init__(self, side: Side) -> None:
        self._side = side
        side.push_image("team/app", "v1", b"layer")
        self._pipeline = side.put_pipeline("exportPipelines", "exp01", options=["OverwriteBlobs"])
        self.service = AzurePipelines(
            endpoint=side.arm.url,
            scope="https://management.azure.com/.default",
            api_version=VERSION,
            registry_id=side.registry_id,
            credential=_Caller(side.tokens),
        )

    def request(self, blob: str) -> Mapping[str, Any]:
        return {
            "pipelineResourceId": self._pipeline,
            "artifacts": ["team/app:v1"],
            "target": {"type": "AzureStorageBlob", "name": blob},
        }

    def exported(self) -> list[str]:
        with self._side.azurite.service_client() as service:
            container = service.get_container_client("transfer")
            blobs = sorted(container.list_blobs(), key=lambda blob: blob.creation_time)
            return [blob.name for blob in blobs]


class _Caller:
    def __init__(self, tokens: TokenAuthority) -> None:
        self._tokens = tokens

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(self._tokens.mint(CALLER, ARM_AUDIENCES[0]), int(time.time()) + 3000)


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    with pytest.MonkeyPatch.context() as patch, running_loop() as loop:
        made = Side("con", tmp_path_factory.mktemp("side"), loop).open()
        patch.setenv("REQUESTS_CA_BUNDLE", str(made.ca.ca_file))
        yield made
        made.close()


@pytest.fixture(params=["memory", pytest.param("arm", marks=pytest.mark.e2e)])
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    if request.param == "memory":
        yield MemoryDesk()
        return
    made = ArmDesk(request.getfixturevalue("side"))
    yield made
    made.service.close()


@pytest.fixture
def name() -> str:
    """Of a run, and of the blob that it writes."""
    return f"run{uuid.uuid4().hex}"


def ended(service: PipelineService, name: str) -> Mapping[str, Any]:
    """The run's properties once it goes on no more."""
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        run = service.get_run(name)
        assert run is not None
        if run["response"]["status"] != "Running":
            return run
    raise AssertionError(f"the run {name} did not end")


def test_run_that_nobody_put_is_none(desk: Desk, name: str) -> None:
    assert desk.service.get_run(name) is None


def test_run_is_there_from_when_it_was_put_and_ends_with_its_work_done(desk: Desk, name: str) -> None:
    desk.service.put_run(name, desk.request(name))
    assert desk.service.get_run(name) is not None
    run = ended(desk.service, name)
    assert (run["provisioningState"], run["response"]["status"]) == ("Succeeded", "Succeeded")
    assert name in desk.exported()


def test_run_of_that_name_is_not_started_again_whatever_it_is_asked_for(desk: Desk, name: str) -> None:
    desk.service.put_run(name, desk.request(name))
    desk.service.put_run(name, desk.request(f"{name}-while-it-runs"))
    first = ended(desk.service, name)
    desk.service.put_run(name, desk.request(f"{name}-after-it"))
    assert desk.service.get_run(name) == first
    assert [blob for blob in desk.exported() if blob.startswith(name)] == [name]


def test_run_that_many_put_at_once_is_one_run(desk: Desk, name: str) -> None:
    start = threading.Barrier(4)

    def put(number: int) -> None:
        start.wait()
        desk.service.put_run(name, desk.request(f"{name}-{number}"))

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(put, range(4)))
    ended(desk.service, name)
    assert len([blob for blob in desk.exported() if blob.startswith(name)]) == 1


def test_request_that_the_service_refuses_makes_no_run(desk: Desk, name: str) -> None:
    with pytest.raises(ServiceError) as caught:
        desk.service.put_run(name, {**desk.request(name), "artifacts": []})
    assert caught.value.code is Code.PIPELINE_RUN_FAILED
    assert not caught.value.code.is_retryable
    assert desk.service.get_run(name) is None


def test_deleted_run_is_none_and_what_it_wrote_stays(desk: Desk, name: str) -> None:
    desk.service.put_run(name, desk.request(name))
    ended(desk.service, name)
    desk.service.delete_run(name)
    assert desk.service.get_run(name) is None
    assert name in desk.exported()
    desk.service.delete_run(name)  # a repeat, or one that never was


def test_pipeline_is_shown_with_its_container_and_another_is_none(desk: Desk) -> None:
    if isinstance(desk.service, MemoryPipelines):
        uri = {"uri": "https://account.blob.core.windows.net/transfer"}
        desk.service.pipelines["exportPipelines", "exp01"] = {"provisioningState": "Succeeded", "target": uri}
    found = desk.service.get_pipeline("exportPipelines", "exp01")
    assert found is not None
    assert found["provisioningState"] == "Succeeded"
    assert found["target"]["uri"].endswith("/transfer")
    assert desk.service.get_pipeline("exportPipelines", "exp02") is None
    assert desk.service.get_pipeline("importPipelines", "exp01") is None
