"""What stands before the app: its host's key, and the site that takes its package."""

import asyncio
import io
import zipfile
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import requests
from aiohttp import web

from local_cloud.app_service import AppService
from local_cloud.tokens import APP_SERVICE_AUDIENCE, ARM_AUDIENCES, TokenAuthority
from local_cloud.web import serve

_T = TypeVar("_T")


def package(*names: str) -> bytes:
    """A zip of files that are empty."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return content.getvalue()


class Served:
    """An app's service, with a host behind it that says what it was asked."""

    def __init__(self) -> None:
        self.tokens = TokenAuthority()
        self.service = AppService(self.tokens, may_deploy=lambda principal: principal == "owner")
        self.url = self.site = ""

    def run(self, use: Callable[["Served"], _T], *, is_host_running: bool = True) -> _T:
        async def told(request: web.Request) -> web.Response:
            asked = {"path": request.path_qs, "key": request.headers.get("x-functions-key")}
            return web.json_response({**asked, "body": await request.text()}, status=207)

        async def scenario() -> _T:
            behind = web.Application()
            behind.router.add_route("*", "/{path:.*}", told)
            servers = [
                await serve(app) for app in (behind, self.service.host(), self.service.deployment_site())
            ]
            host, self.url, self.site = (server.url for server in servers)
            self.service.host_url = host if is_host_running else ""
            try:
                return await asyncio.to_thread(use, self)
            finally:
                for server in servers:
                    await server.close()

        return asyncio.run(scenario())

    def send(
        self,
        content: bytes,
        principal: str = "owner",
        audience: str = APP_SERVICE_AUDIENCE,
        path: str = "zipdeploy?isAsync=true",
    ) -> int:
        """Put a package there as somebody."""
        headers = {"Authorization": f"Bearer {self.tokens.mint(principal, audience)}"}
        url = f"{self.site}/api/{path}"
        return requests.post(url, data=content, headers=headers, timeout=20).status_code

    def latest(self) -> dict[str, Any]:
        """The last deployment."""
        headers = {"Authorization": f"Bearer {self.tokens.mint('owner', APP_SERVICE_AUDIENCE)}"}
        answer: dict[str, Any] = requests.get(
            f"{self.site}/api/deployments/latest", headers=headers, timeout=20
        ).json()
        return answer


def test_hosts_key_opens_the_app_and_stays_outside() -> None:
    def use(served: Served) -> tuple[int, dict[str, Any]]:
        headers = {"x-functions-key": served.service.master_key}
        answer = requests.post(f"{served.url}/api/a%2Fb?c=d", data="e", headers=headers, timeout=20)
        return answer.status_code, answer.json()

    assert Served().run(use) == (207, {"path": "/api/a%2Fb?c=d", "key": None, "body": "e"})


@pytest.mark.parametrize("key", ["", "guessed", "é"])
def test_without_the_key_nobody_comes_to_the_app(key: str) -> None:
    def use(served: Served) -> int:
        return requests.get(
            f"{served.url}/api/preflight", headers={"x-functions-key": key.encode()}, timeout=20
        ).status_code

    assert Served().run(use) == 401


def test_app_that_does_not_run_is_not_there() -> None:
    def use(served: Served) -> int:
        headers = {"x-functions-key": served.service.master_key}
        return requests.get(f"{served.url}/api/preflight", headers=headers, timeout=20).status_code

    assert Served().run(use, is_host_running=False) == 503


def test_package_is_taken_and_its_deployment_told() -> None:
    sent = package("host.json", "function_app.py")

    def use(served: Served) -> tuple[int, object, bytes]:
        return served.send(sent), served.latest()["status"], served.service.package

    assert Served().run(use) == (202, 4, sent)


@pytest.mark.parametrize("sent", [b"no zip", package("function_app.py")])
def test_package_that_cannot_be_mounted_fails_and_leaves_the_last_one(sent: bytes) -> None:
    good = package("host.json")

    def use(served: Served) -> tuple[object, bytes]:
        served.send(good)
        served.send(sent)
        return served.latest()["status"], served.service.package

    assert Served().run(use) == (3, good)


@pytest.mark.parametrize(
    ("principal", "audience", "status"),
    [("reader", APP_SERVICE_AUDIENCE, 403), ("owner", ARM_AUDIENCES[0], 401)],
)
def test_whoever_may_not_deploy_puts_no_package_there(principal: str, audience: str, status: int) -> None:
    def use(served: Served) -> tuple[int, int, bytes]:
        sent = package("host.json")
        by_password = requests.post(
            f"{served.site}/api/zipdeploy", data=sent, auth=("owner", "password"), timeout=20
        )
        return served.send(sent, principal, audience), by_password.status_code, served.service.package

    assert Served().run(use) == (status, 401, b"")


PUBLISH = "publish?RemoteBuild=false"


@pytest.mark.parametrize(
    ("is_on_flex", "path", "expected"),
    [(True, PUBLISH, 202), (True, "zipdeploy", 404), (False, PUBLISH, 404), (False, "zipdeploy", 202)],
)
def test_package_has_another_address_on_flex(is_on_flex: bool, path: str, expected: int) -> None:
    served = Served()
    served.service.store = (lambda _: "") if is_on_flex else None
    assert served.run(lambda it: it.send(package("host.json"), path=path)) == expected


@pytest.mark.parametrize("fault", ["", "BlobUploadFailedException: 403"])
def test_package_on_flex_is_deployed_once_it_is_stored(fault: str) -> None:
    served = Served()
    stored: list[bytes] = []
    sent = package("host.json")

    def store(content: bytes) -> str:
        stored.append(content)
        return fault

    def use(it: Served) -> dict[str, Any]:
        it.send(sent, path=PUBLISH)
        return it.latest()

    served.service.store = store
    told = served.run(use)
    assert (told["status"], told["status_text"], stored) == (3 if fault else 4, fault, [sent])
    assert served.service.package == (b"" if fault else sent)


def test_package_that_is_to_be_built_on_flex_fails_since_there_is_no_index() -> None:
    served = Served()
    served.service.store = lambda _: "stored"

    def use(it: Served) -> dict[str, Any]:
        it.send(package("host.json"), path="publish?RemoteBuild=True&Deployer=az_cli")
        return it.latest()

    told = served.run(use)
    assert (told["status"], "no package index" in told["status_text"]) == (3, True)
