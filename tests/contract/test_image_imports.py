"""One suite for the port of image imports: the double, and Azure Resource Manager's local stand-in."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken

from airgap.errors import ServiceError
from function_app.azure.arm import AzureImageImports
from function_app.ports import ImageImports
from local_cloud.acr_transfer import ImageImports as Emulator
from local_cloud.acr_transfer import RegistryAccess
from local_cloud.acr_transfer.access import RoleAssignments
from local_cloud.acr_transfer.arm import arm_app_of
from local_cloud.acr_transfer.layout import Descriptor
from local_cloud.acr_transfer.registry_client import RegistryClient
from local_cloud.registry import Registry
from local_cloud.tokens import ARM_AUDIENCES
from local_cloud.web import serve
from tests.contract.loop import running_loop
from tests.function_app.memory import MemoryImageImports, MemoryRegistry
from tests.local_cloud.acr_transfer_harness import CALLER, INDEX, MANIFEST, SERVICE, VERSION
from tests.local_cloud.registry_harness import Harness, digest_of

_DEADLINE_S = 20
_GROUP = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/registries"
SOURCE, TARGET = (
    f"{_GROUP}/providers/Microsoft.ContainerRegistry/registries/{name}" for name in ("staging", "real")
)
_CONFIG = b"{}"


class Pair(Protocol):
    """A staging registry and a real one, and the port between them."""

    @property
    def imports(self) -> ImageImports: ...

    def push(self, repository: str, *tags: str, text: str = "", child: str | None = None) -> str:
        """An image in the staging registry, or an index with one child; returns the digest."""

    def found(self, repository: str, reference: str) -> str | None:
        """The digest in the real registry."""


class MemoryPair:
    def __init__(self) -> None:
        self.staging, self.real = MemoryRegistry(), MemoryRegistry()
        self.imports = MemoryImageImports(self.staging, self.real)

    def push(self, repository: str, *tags: str, text: str = "", child: str | None = None) -> str:
        if child:
            return self.staging.push(repository, {"manifests": [{"digest": child}]}, *tags, media_type=INDEX)
        return self.staging.push(repository, {"text": text, "layers": []}, *tags)

    def found(self, repository: str, reference: str) -> str | None:
        found = self.real.resolve(repository, reference)
        return None if found is None else found.digest


class ArmPair:
    def __init__(self, desk: "Desk") -> None:
        self._desk = desk
        self.imports = desk.imports(CALLER)

    def push(self, repository: str, *tags: str, text: str = "", child: str | None = None) -> str:
        with self._desk.client(SOURCE) as client:
            blob = Descriptor(media_type="application/json", digest=digest_of(_CONFIG), size=len(_CONFIG))
            client.push_blob(repository, blob, iter([_CONFIG]))
            body: dict[str, Any] = {"schemaVersion": 2, "annotations": {"text": text}}
            if child:
                size = len(client.manifest(repository, client.resolve(repository, child) or blob))
                body["manifests"] = [{"mediaType": MANIFEST, "digest": child, "size": size}]
            else:
                body |= {"config": blob.to_json(), "layers": []}
            content = json.dumps(body).encode()
            digest, media_type = digest_of(content), INDEX if child else MANIFEST
            described = Descriptor(media_type=media_type, digest=digest, size=len(content))
            for reference in (digest, *tags):
                client.push_manifest(repository, reference, described, content)
            return digest

    def found(self, repository: str, reference: str) -> str | None:
        with self._desk.client(TARGET) as client:
            found = client.resolve(repository, reference)
            return None if found is None else found.digest


class Desk:
    """ARM with two registries; ``roles`` may be changed while it is served."""

    def __init__(self, harness: Harness, registries: dict[str, Registry]) -> None:
        self.harness = harness
        self.accesses = {
            one.lower(): RegistryAccess(
                login_server=registry.login_server, principal_id=SERVICE, ca_file=harness.ca.ca_file
            )
            for one, registry in registries.items()
        }
        self.roles = RoleAssignments()
        self.roles.grant(CALLER, "Contributor", _GROUP)
        self.pullers = {CALLER}
        self.emulator = Emulator(
            registries=self.accesses,
            tokens=harness.tokens,
            roles=self.roles,
            pulls=lambda principal_id, _: principal_id in self.pullers,
        )
        self.app = arm_app_of(self._answer, [])
        self.url = ""
        self.forbids_polling = False

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.forbids_polling and request.method == "GET":
            return web.json_response({"error": {"code": "AuthorizationFailed", "message": "no"}}, status=403)
        return await self.emulator.answer(request)

    def client(self, registry_id: str) -> RegistryClient:
        return RegistryClient(self.accesses[registry_id.lower()], self.harness.tokens)

    def imports(self, caller: str) -> AzureImageImports:
        return AzureImageImports(
            endpoint=self.url,
            scope="https://management.azure.com/.default",
            api_version=VERSION,
            registry_id=TARGET,
            source_id=SOURCE,
            credential=_Caller(self.harness, caller),
        )


class _Caller:
    def __init__(self, harness: Harness, principal_id: str) -> None:
        self._harness = harness
        self._principal_id = principal_id

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        token = self._harness.tokens.mint(self._principal_id, ARM_AUDIENCES[0])
        return AccessToken(token, int(time.time()) + 3000)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    harness = Harness(tmp_path_factory.mktemp("registries"), "builtin")
    with pytest.MonkeyPatch.context() as patch, running_loop() as loop:
        patch.setenv("REQUESTS_CA_BUNDLE", str(harness.ca.ca_file))

        async def start(name: str) -> Registry:
            registry = await Registry.start(
                name=name,
                folder=harness.folder / name,
                ca=harness.ca,
                tokens=harness.tokens,
                backend="builtin",
                clock=harness.clock,
            )
            registry.grant(SERVICE, "AcrPull", "AcrPush")
            return registry

        registries = {SOURCE: loop.run(start("staging")), TARGET: loop.run(start("real"))}
        made = Desk(harness, registries)
        server = loop.run(serve(made.app, ssl_context=harness.ca.server_context("arm")))
        made.url = server.url
        yield made
        loop.run(asyncio.to_thread(made.emulator.close))
        harness.session.close()
        loop.run(server.close())
        for registry in registries.values():
            loop.run(registry.close())


@pytest.fixture(params=["memory", "arm"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    if request.param == "memory":
        yield MemoryPair()
        return
    made = ArmPair(request.getfixturevalue("desk"))
    yield made
    made.imports.close()


@pytest.fixture
def repository() -> str:
    return f"team/{uuid.uuid4().hex}"


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not done():
        assert time.monotonic() < deadline


def test_artifact_is_copied_untagged_by_its_digest(pair: Pair, repository: str) -> None:
    digest = pair.push(repository, "v1")
    operation = pair.imports.begin(repository, digest, ())
    until(lambda: pair.found(repository, digest))
    assert operation is None or pair.imports.failure(operation) is None
    assert pair.found(repository, "v1") is None


def test_tags_are_set_and_those_that_point_elsewhere_are_moved(pair: Pair, repository: str) -> None:
    first, second = pair.push(repository, text="first"), pair.push(repository, text="second")
    pair.imports.begin(repository, first, ("v1", "latest"))
    until(lambda: pair.found(repository, "latest") == first)
    pair.imports.begin(repository, second, ("latest",))
    until(lambda: pair.found(repository, "latest") == second)
    assert pair.found(repository, "v1") == first


def test_index_comes_with_its_children(pair: Pair, repository: str) -> None:
    child = pair.push(repository)
    index = pair.push(repository, child=child)
    pair.imports.begin(repository, index, ())
    until(lambda: pair.found(repository, index))
    assert pair.found(repository, child) == child


def test_what_was_not_asked_for_does_not_come_along(pair: Pair, repository: str) -> None:
    digest, other = pair.push(repository, "v1"), pair.push(repository, "v2", text="other")
    pair.imports.begin(repository, digest, ("v1",))
    until(lambda: pair.found(repository, "v1"))
    assert pair.found(repository, other) is pair.found(repository, "v2") is None


def test_copying_that_was_done_may_be_asked_for_again(pair: Pair, repository: str) -> None:
    digest = pair.push(repository)
    for tags in ((), (), ("v1",), ("v1",)):
        operation = pair.imports.begin(repository, digest, tags)
        until(lambda: pair.found(repository, (*tags, digest)[0]) == digest)  # noqa: B023 - at once
        assert operation is None or pair.imports.failure(operation) is None


def test_failure_is_told_with_the_services_words(pair: Pair, repository: str) -> None:
    pair.push(repository)
    operation = pair.imports.begin(repository, f"sha256:{'0' * 64}", ())
    assert operation is not None
    until(lambda: pair.imports.failure(operation))
    assert "was not found" in str(pair.imports.failure(operation))


@contextmanager
def as_somebody(desk: Desk) -> Iterator[tuple[AzureImageImports, str]]:
    principal_id = str(uuid.uuid4())
    imports = desk.imports(principal_id)
    yield imports, principal_id
    imports.close()


def test_import_that_goes_on_has_not_failed(desk: Desk, repository: str) -> None:
    pair = ArmPair(desk)
    digest = pair.push(repository)
    desk.emulator.hold()
    operation = pair.imports.begin(repository, digest, ())
    assert operation is not None
    assert pair.imports.failure(operation) is None
    assert pair.found(repository, digest) is None
    desk.emulator.hold(is_held=False)
    until(lambda: pair.found(repository, digest))
    pair.imports.close()


def test_who_may_not_ask_after_an_import_sees_it_in_the_registry(desk: Desk, repository: str) -> None:
    pair = ArmPair(desk)
    digest = pair.push(repository)
    operation = pair.imports.begin(repository, digest, ())
    assert operation is not None
    desk.forbids_polling = True
    assert pair.imports.failure(operation) is None
    desk.forbids_polling = False
    until(lambda: pair.found(repository, digest))
    pair.imports.close()


def test_import_that_is_forgotten_has_not_failed(desk: Desk) -> None:
    with as_somebody(desk) as (imports, _):
        path = f"/subscriptions/{uuid.uuid4()}/providers/Microsoft.ContainerRegistry/locations/local"
        operation = f"{desk.url}{path}/operationResults/registries-{uuid.uuid4()}?api-version={VERSION}"
        assert imports.failure(operation) is None


def test_who_may_not_import_into_the_real_registry_imports_nothing(desk: Desk, repository: str) -> None:
    pair = ArmPair(desk)
    digest = pair.push(repository)
    with as_somebody(desk) as (imports, principal_id):
        desk.roles.grant(principal_id, "Container Registry Transfer Pipeline Contributor", TARGET)
        desk.roles.grant(principal_id, "Reader", SOURCE)
        with pytest.raises(ServiceError, match=r"SERVICE_DENIED.*importImage/action"):
            imports.begin(repository, digest, ())
    pair.imports.close()


def test_who_may_not_read_the_staging_registry_imports_nothing(desk: Desk, repository: str) -> None:
    pair = ArmPair(desk)
    digest = pair.push(repository)
    with as_somebody(desk) as (imports, principal_id):
        desk.roles.grant(principal_id, "Contributor", TARGET)
        with pytest.raises(ServiceError, match=r"SERVICE_DENIED.*LinkedAuthorizationFailed"):
            imports.begin(repository, digest, ())
    pair.imports.close()


def test_who_may_not_pull_from_the_staging_registry_imports_nothing(desk: Desk, repository: str) -> None:
    pair = ArmPair(desk)
    digest = pair.push(repository)
    with as_somebody(desk) as (imports, principal_id):
        desk.roles.grant(principal_id, "Contributor", _GROUP)
        operation = imports.begin(repository, digest, ())
        assert operation is not None
        until(lambda: imports.failure(operation))
        assert "not authorized" in str(imports.failure(operation))
    assert pair.found(repository, digest) is None
    pair.imports.close()


def test_request_that_the_service_refuses_is_a_failed_import(desk: Desk) -> None:
    with as_somebody(desk) as (imports, principal_id):
        desk.roles.grant(principal_id, "Contributor", _GROUP)
        with pytest.raises(ServiceError, match=r"IMAGE_IMPORT_FAILED.*HTTP 400"):
            imports.begin("Not/A/Name", f"sha256:{'0' * 64}", ())


@pytest.mark.parametrize("operation", ["", "https://evil.example/operation", "http://127.0.0.1/operation"])
def test_token_goes_nowhere_but_to_the_endpoint(desk: Desk, operation: str) -> None:
    with as_somebody(desk) as (imports, _), pytest.raises(ServiceError, match="SERVICE_UNEXPECTED"):
        imports.failure(operation)
