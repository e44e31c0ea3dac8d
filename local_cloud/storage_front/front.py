"""The front itself: it stands where a storage account's services would, asks who may, and passes on.

Bodies go through as they come, in both directions, and are never held.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Self
from weakref import WeakValueDictionary

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
from local_cloud.storage_front.errors import StorageRefusal
from local_cloud.storage_front.operations import Operation, Request, Service, UnknownOperationError, operation
from local_cloud.storage_front.roles import RoleAssignments
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority, TokenRefused
from local_cloud.web import HOST, Server, serve

_HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer"),
    *("transfer-encoding", "upgrade", "expect"),
}
_ADDED_BY_AIOHTTP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_BUFFER_BYTES = 1024 * 1024
_IDLE_S = 3.0  # Azurite closes a connection that was idle for 5 s
_CONNECT_S = 5.0
_ANONYMOUS_VERSION = "2019-12-12"  # from which on Azure asks the anonymous for a token


@dataclass(frozen=True, slots=True, kw_only=True)
class ImmutabilityPolicy:
    """A container's time-based retention: what is written stays as it is, undeleted for some days."""

    days: int
    allows_appends: bool = False


@dataclass(kw_only=True)
class StorageFront:
    """The blob, queue and table services of one account, on loopback over HTTPS.

    What a token may do is decided here, by roles. What a SAS or the account key may do is decided by Azurite.
    """

    azurite: Azurite
    tokens: TokenAuthority
    resource_id: str
    assignments: RoleAssignments
    immutability: Mapping[str, ImmutabilityPolicy] = field(default_factory=dict)
    allows_keys: bool = True
    """Whether the account key, and a SAS that it signed, are taken (`allowSharedKeyAccess`)."""
    clock: Callable[[], float] = time.time
    blob_url: str = field(init=False)
    queue_url: str = field(init=False)
    table_url: str = field(init=False)
    _servers: dict[Service, Server] = field(init=False, default_factory=dict)
    _stack: AsyncExitStack = field(init=False, default_factory=AsyncExitStack)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(init=False, default_factory=WeakValueDictionary)

    async def start(self, ca: CertificateAuthority, ports: Mapping[Service, int] | None = None) -> Self:
        """Listen, on free ports unless told otherwise; on the event loop that is running.

        Raises:
            OSError: A port is taken.
        """
        context = ca.server_context(f"storage-{self.azurite.account}")
        try:
            self._session = await self._stack.enter_async_context(_session(self.azurite.ca_file))
            for service in ("blob", "queue", "table"):
                server = await serve(
                    self._app(service), ssl_context=context, port=(ports or {}).get(service, 0)
                )
                self._servers[service] = server
                self._stack.push_async_callback(server.close)
        except BaseException:
            await self.close()
            raise
        self.blob_url, self.queue_url, self.table_url = (
            f"{self._servers[service].url}/{self.azurite.account}" for service in ("blob", "queue", "table")
        )
        return self

    async def close(self) -> None:
        """Stop listening; connections are cut."""
        await self._stack.aclose()

    @property
    def ports(self) -> Mapping[Service, int]:
        """Where the services listen."""
        return {service: server.port for service, server in self._servers.items()}

    def _app(self, service: Service) -> web.Application:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await self._answer(service, request)
            except StorageRefusal as refusal:
                return refusal.response(service, self.tokens.tenant_id, request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer, expect_handler=_no_continue)
        return app

    async def _answer(self, service: Service, request: web.Request) -> web.StreamResponse:
        asked = self._understood(service, request)
        if request.method == "OPTIONS":  # a preflight request says nothing of the caller
            return await self._forward(service, request, {})
        try:
            wanted = operation(asked)
        except UnknownOperationError:
            raise StorageRefusal("NotImplemented") from None
        only_creates = self._authorize(request, asked, wanted)
        async with AsyncExitStack() as held:
            await self._check_immutability(request, wanted, held)
            if not only_creates or request.headers.get("If-None-Match") == "*":
                return await self._forward(service, request, {})
            # Its role is not enough to replace a blob: that there is none is for Azurite to tell, at once.
            return await self._forward(service, request, {"If-None-Match": "*"})

    def _understood(self, service: Service, request: web.Request) -> Request:
        """The request, if Azurite can't read it in another way than the front does."""
        names = [name.lower() for name in request.headers]
        port = self._servers[service].port
        if len(set(names)) != len(names) or request.host not in {f"{HOST}:{port}", f"localhost:{port}"}:
            raise StorageRefusal("InvalidUri")
        asked = Request(
            service=service, method=request.method, target=request.raw_path, headers=request.headers
        )
        try:
            account = asked.path()[0]
        except UnknownOperationError:
            raise StorageRefusal("InvalidUri") from None
        if account != self.azurite.account:
            raise StorageRefusal("InvalidUri")
        return asked

    def _authorize(self, request: web.Request, asked: Request, wanted: Operation) -> bool:
        """Let the caller through or not; returns whether it may create, and not replace."""
        authorization = request.headers.get("Authorization")
        if authorization is None:
            self._check_signature(request, asked)
            return False
        scheme, _, credentials = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                try:
                    claims = self.tokens.verify(credentials, STORAGE_AUDIENCE)
                except TokenRefused as refusal:
                    raise StorageRefusal.of_token(refusal.code) from None
                return self._check_roles(claims.principal_id, wanted)
            case "sharedkey" | "sharedkeylite":
                if not self.allows_keys:
                    raise StorageRefusal("KeyBasedAuthenticationNotPermitted")
                return False
        raise StorageRefusal("InvalidAuthenticationInfo")

    def _check_signature(self, request: web.Request, asked: Request) -> None:
        query = asked.query()
        if "sig" not in query:
            is_new = request.headers.get("x-ms-version", "") >= _ANONYMOUS_VERSION
            raise StorageRefusal("NoAuthenticationInformation" if is_new else "PublicAccessNotPermitted")
        if not self.allows_keys and "skoid" not in query:  # without it the account key has signed it
            raise StorageRefusal("KeyBasedAuthenticationNotPermitted")

    def _check_roles(self, principal_id: str, wanted: Operation) -> bool:
        only_creates = False
        for need in wanted.needs:
            resource = f"{self.resource_id}{need.resource}"
            if any(
                all(self.assignments.allow(principal_id, action, resource) for action in actions)
                for actions in need.any_of
            ):
                continue
            if need.to_create is None or not self.assignments.allow(principal_id, need.to_create, resource):
                raise StorageRefusal("AuthorizationPermissionMismatch")
            only_creates = True
        return only_creates

    async def _check_immutability(
        self, request: web.Request, wanted: Operation, held: AsyncExitStack
    ) -> None:
        """Hold the blob against others' changes until it is written, if it may be."""
        policy = self.immutability.get(wanted.container or "")
        if policy is None or wanted.changes is None or (wanted.changes == "append" and policy.allows_appends):
            return
        name = f"{wanted.container}/{wanted.blob}"
        await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
        created = await self._created(request)
        if created is None:
            return
        kept_until = created + timedelta(days=policy.days)
        if wanted.changes != "delete" or datetime.fromtimestamp(self.clock(), UTC) < kept_until:
            raise StorageRefusal("BlobImmutableDueToPolicy")

    async def _created(self, request: web.Request) -> datetime | None:
        """Return when the blob of a request was made, or ``None`` if there is none."""
        token = self.tokens.mint("storage front", STORAGE_AUDIENCE, lifetime_s=60)
        headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2021-12-02"}
        url = self._azurite_url("blob", request.raw_path.partition("?")[0])
        async with self._session.head(url, headers=headers) as answer:
            if answer.status == 404:  # noqa: PLR2004
                return None
            answer.raise_for_status()
            return parsedate_to_datetime(answer.headers["x-ms-creation-time"])

    def _azurite_url(self, service: Service, target: str) -> URL:
        urls = {
            "blob": self.azurite.blob_url,
            "queue": self.azurite.queue_url,
            "table": self.azurite.table_url,
        }
        base = urls[service].removesuffix(f"/{self.azurite.account}")
        return URL(f"{base}{target}", encoded=True)

    async def _forward(
        self, service: Service, request: web.Request, added: Mapping[str, str]
    ) -> web.StreamResponse:
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        )
        headers.update(added)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async with self._session.request(
                request.method,
                self._azurite_url(service, request.raw_path),
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=_ADDED_BY_AIOHTTP,
            ) as answer:
                code = answer.headers.get("x-ms-error-code")
                if added and code == "BlobAlreadyExists":
                    raise StorageRefusal("AuthorizationPermissionMismatch")
                if code == "AuthorizationFailure" and "Authorization" not in request.headers:
                    raise StorageRefusal("AuthenticationFailed")  # Azure's word for a SAS that is not good
                return await _pass_back(request, answer)
        except aiohttp.ClientConnectionError:
            raise StorageRefusal("ServerBusy") from None


async def _pass_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = CIMultiDict(
        (name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
    )
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError):
        if request.transport:  # half an answer must not look like a whole one
            request.transport.abort()
    return response


async def _no_continue(_: web.Request) -> None:
    """The body is asked for once the caller may send it."""


def _session(ca_file: Path) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        ssl=ssl.create_default_context(cafile=str(ca_file)), limit=0, keepalive_timeout=_IDLE_S
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        read_bufsize=_BUFFER_BYTES,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
    )
