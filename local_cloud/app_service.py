"""App Service before the app: its host name, with TLS and keys, and the site for packages (Kudu).

What comes to the host name with the host's key goes on to the Functions host, which asks for no key itself.
A package is taken and kept as `az functionapp deployment source config-zip` sends it: on Flex Consumption to
another address, from where it goes into a container in the name of the app. It is not run: the Functions host
here runs the checkout. A build is refused, since this cloud reaches no package index.
"""

import asyncio
import hmac
import io
import secrets
import uuid
import zipfile
from collections.abc import Callable

import aiohttp
from aiohttp import web

from local_cloud.tokens import APP_SERVICE_AUDIENCE, TokenAuthority, TokenRefused

_MAX_PACKAGE_BYTES = 512 * 1024 * 1024
_MAX_BODY_BYTES = 100 * 1024 * 1024
_FAILED, _SUCCEEDED = 3, 4
"""https://github.com/projectkudu/kudu/blob/master/Kudu.Contracts/Deployment/DeployStatus.cs"""
_OF_THE_CONNECTION = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "x-functions-key"}
)


class AppService:
    """The App Service of a cloud, which has one app.

    ``may_deploy`` tells of a principal whether it may put a package there. ``host_url`` is where the
    Functions host is, and empty while it does not run. ``store`` is there on Flex Consumption: it puts a
    package into the app's container, in a thread of its own, and says why it cannot, if so.
    """

    def __init__(
        self,
        tokens: TokenAuthority,
        *,
        may_deploy: Callable[[str], bool],
        store: Callable[[bytes], str] | None = None,
    ) -> None:
        self._tokens = tokens
        self._may_deploy = may_deploy
        self.store = store
        self._deployment: dict[str, object] | None = None
        self.host_url = ""
        self.master_key = secrets.token_urlsafe(40)
        self.package = b""
        """The last one that could be mounted."""

    def host(self) -> web.Application:
        """The web application that answers at the app's host name."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._forward)
        return app

    def deployment_site(self) -> web.Application:
        """The web application that answers where packages are put."""
        app = web.Application(client_max_size=_MAX_PACKAGE_BYTES)
        app.router.add_post("/api/zipdeploy", self._mount)
        app.router.add_post("/api/publish", self._publish)
        app.router.add_get("/api/deployments/latest", self._latest)
        app.router.add_get("/api/deployments/", self._logs)
        return app

    async def _forward(self, request: web.Request) -> web.Response:
        given = request.headers.get("x-functions-key") or request.query.get("code", "")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self.master_key.encode()):
            return web.Response(status=401)
        if not self.host_url:
            return web.Response(status=503, text="The Functions host is not running.")
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in _OF_THE_CONNECTION
        }
        address, body = f"{self.host_url}{request.path_qs}", await request.read()
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, address, data=body, headers=headers) as answer,
        ):
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in _OF_THE_CONNECTION
            }
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def _mount(self, request: web.Request) -> web.Response:
        """Take the package of an app on a plan of its own.

        https://learn.microsoft.com/azure/azure-functions/deployment-zip-push
        """
        if refusal := self._refusal(request):
            return refusal
        if self.store:
            return web.Response(status=404)
        sent = await request.read()
        self._end_deployment(sent, _fault_of(sent))
        return web.Response(status=202)

    async def _publish(self, request: web.Request) -> web.Response:
        """Take the package of an app on Flex Consumption: https://github.com/Azure/azure-dev/issues/3658."""
        if refusal := self._refusal(request):
            return refusal
        if self.store is None:
            return web.Response(status=404)
        sent = await request.read()
        fault = _fault_of(sent)
        if not fault and request.query.get("RemoteBuild", "").lower() == "true":
            fault = "The build failed: no package index is reached from here."
        self._end_deployment(sent, fault or await asyncio.to_thread(self.store, sent))
        return web.Response(status=202, text=uuid.uuid4().hex)

    def _end_deployment(self, sent: bytes, fault: str) -> None:
        if not fault:
            self.package = sent
        status = _FAILED if fault else _SUCCEEDED
        self._deployment = {
            "status": status,
            "status_text": fault,
            "complete": True,
            "deployer": "az_cli_functions",
        }

    async def _latest(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        return web.json_response(self._deployment) if self._deployment else web.Response(status=404)

    async def _logs(self, request: web.Request) -> web.Response:
        """There are none; `az` asks for them where a deployment has failed."""
        return self._refusal(request) or web.json_response([])

    def _refusal(self, request: web.Request) -> web.Response | None:
        """None if whoever calls may deploy; passwords are never taken."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = self._tokens.verify(token if scheme.lower() == "bearer" else "", APP_SERVICE_AUDIENCE)
        except TokenRefused:
            return web.Response(status=401)
        return None if self._may_deploy(claims.principal_id) else web.Response(status=403)


def _fault_of(package: bytes) -> str:
    """Why a package cannot be mounted as an app; empty if it can."""
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            return "" if "host.json" in archive.namelist() else "There is no host.json in it."
    except zipfile.BadZipFile:
        return "It is no zip file."
