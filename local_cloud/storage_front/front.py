"""The server of the front: it stands where storage accounts would, asks who may, and passes requests on.

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
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Self
from weakref import WeakValueDictionary

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
from local_cloud.storage_front.create_only import only_creates
from local_cloud.storage_front.errors import StorageRefusal
from local_cloud.storage_front.gate import Gate, StorageAccount
from local_cloud.storage_front.operations import (
    SERVICES,
    Operation,
    Request,
    Service,
    UnknownOperationError,
    operation,
    unsigned,
    with_query,
)
from local_cloud.storage_front.roles import RoleAssignments
from local_cloud.tokens import STORAGE_AUDIENCE, TokenAuthority
from local_cloud.web import HOST, Server, serve

_HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer"),
    *("transfer-encoding", "upgrade", "expect"),
}
_ADDED_BY_AIOHTTP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_BUFFER_BYTES = 1024 * 1024
_IDLE_S = 3.0  # Azurite closes a connection that was idle for 5 s
_CONNECT_S = 5.0
_VERSION = "2021-12-02"
_OF_WRITING = frozenset({"comp", "blockid", "timeout"})
"""Query parameters of writing a blob or a block; what else is there is the SAS."""


@dataclass(kw_only=True)
class StorageFront:
    """The blob, queue and table services of an Azurite's accounts, on loopback over HTTPS.

    What a token may do is decided here, by roles. What a SAS or the account key may do is decided by Azurite,
    which may be another one after a while: `azurite` is asked at each request. `watch` is told of each
    request that is let through, before it is passed on.
    """

    azurite: Azurite
    tokens: TokenAuthority
    assignments: RoleAssignments
    clock: Callable[[], float] = time.time
    watch: Callable[[Request], None] = lambda _: None
    _accounts: dict[str, StorageAccount] = field(init=False, default_factory=dict)
    _servers: dict[Service, Server] = field(init=False, default_factory=dict)
    _stack: AsyncExitStack = field(init=False, default_factory=AsyncExitStack)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(init=False, default_factory=WeakValueDictionary)

    def add(self, account: StorageAccount) -> None:
        """Serve an account of this Azurite from the next request on, in place of one of its name."""
        self._accounts[account.name] = account

    async def start(self, ca: CertificateAuthority, ports: Mapping[Service, int] | None = None) -> Self:
        """Listen, on free ports unless told otherwise; on the event loop that is running.

        Raises:
            OSError: A port is taken.
        """
        context = ca.server_context(f"storage-{self.azurite.account}")
        try:
            self._session = await self._stack.enter_async_context(_session(self.azurite.ca_file))
            for service in SERVICES:
                port = (ports or {}).get(service, 0)
                self._servers[service] = await serve(self._app(service), ssl_context=context, port=port)
                self._stack.push_async_callback(self._servers[service].close)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Stop listening; connections are cut."""
        await self._stack.aclose()

    @property
    def ports(self) -> Mapping[Service, int]:
        """The ports on which the services listen."""
        return {service: server.port for service, server in self._servers.items()}

    def url(self, service: Service, account: str) -> str:
        """The address of an account's service, as its clients are to know it."""
        return f"{self._servers[service].url}/{account}"

    def _app(self, service: Service) -> web.Application:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await self._answer(service, request)
            except StorageRefusal as refusal:
                return refusal.response(service, self.tokens.authority, request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer, expect_handler=_no_continue)
        return app

    async def _answer(self, service: Service, request: web.Request) -> web.StreamResponse:
        asked, account = self._understood(service, request)
        if request.method == "OPTIONS":  # a preflight request says nothing of the caller
            return await self._forward(service, request)
        try:
            wanted = operation(asked)
        except UnknownOperationError:
            raise StorageRefusal("NotImplemented") from None
        adds = Gate(tokens=self.tokens, assignments=self.assignments).admit(asked, account, wanted)
        self.watch(asked)
        if only_creates(asked, wanted):
            return await self._create(request, asked)
        changed: dict[str, str] = {}
        if wanted.source is not None and "Authorization" not in request.headers:
            await self._check_source(wanted.source)
            # Azurite would check what is signed by a call of its own, and trusts no certificate of ours.
            changed["x-ms-copy-source"] = unsigned(request.headers["x-ms-copy-source"])
        # Where a role is not enough to replace a blob: that there is none is for Azurite to tell, at once.
        if adds and request.headers.get("If-None-Match") != "*":
            changed["If-None-Match"] = "*"
        async with AsyncExitStack() as held:
            if "If-None-Match" not in changed:
                await self._check_immutability(request, account, wanted, held)
            return await self._forward(service, request, changed)

    async def _create(self, request: web.Request, asked: Request) -> web.StreamResponse:
        """Pass on what a SAS that only creates is used for, in the front's own name, if nothing is there.

        Whether the SAS is good (signature, times, blob, protocol) is Azurite's to say, of a question that it
        needs no permission for but the one that it may have.
        """
        target = request.raw_path
        question = with_query(target, lambda name: name not in _OF_WRITING)
        async with self._session.head(
            self._azurite_url("blob", question), headers={"x-ms-version": _VERSION}
        ) as answer:
            code = answer.headers.get("x-ms-error-code")
        if answer.status == HTTPStatus.FORBIDDEN and code != "AuthorizationPermissionMismatch":
            raise StorageRefusal("AuthenticationFailed")
        if await self._created(request) is not None:
            raise StorageRefusal("UnauthorizedBlobOverwrite")
        changed = {"Authorization": f"Bearer {self._own_token()}"}
        if asked.query().get("comp") != "block":
            changed["If-None-Match"] = "*"
        return await self._forward(
            "blob", request, changed, target=with_query(target, _OF_WRITING.__contains__)
        )

    def _own_token(self) -> str:
        return self.tokens.mint("storage front", STORAGE_AUDIENCE, lifetime_s=60)

    def _understood(self, service: Service, request: web.Request) -> tuple[Request, StorageAccount]:
        """The request, if Azurite can't read it in another way than the front does."""
        names = [name.lower() for name, _ in request.headers.items()]  # of the mapping, each comes once
        port = self._servers[service].port
        if len(set(names)) != len(names) or request.host not in {f"{HOST}:{port}", f"localhost:{port}"}:
            raise StorageRefusal("InvalidUri")
        asked = Request(
            service=service, method=request.method, target=request.raw_path, headers=request.headers
        )
        try:
            account = self._accounts.get(asked.path()[0])
        except UnknownOperationError:
            account = None
        if account is None:
            raise StorageRefusal("InvalidUri")
        return asked, account

    async def _check_source(self, target: str) -> None:
        """Refuse to copy what its address does not let anybody read: Azurite asks for nothing there."""
        async with self._session.head(
            self._azurite_url("blob", target), headers={"x-ms-version": _VERSION}
        ) as answer:
            if answer.status != HTTPStatus.OK:
                raise StorageRefusal("CannotVerifyCopySource")

    async def _check_immutability(
        self, request: web.Request, account: StorageAccount, wanted: Operation, held: AsyncExitStack
    ) -> None:
        """Hold the blob against others' changes until it is written, if it may be."""
        policy = account.immutability.get(wanted.container or "")
        if policy is None or wanted.changes is None or (wanted.changes == "append" and policy.allows_appends):
            return
        name = f"{account.name}/{wanted.container}/{wanted.blob}"
        await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
        created = await self._created(request)
        if created is None:
            return
        kept_until = created + timedelta(days=policy.days)
        if wanted.changes != "delete" or datetime.fromtimestamp(self.clock(), UTC) < kept_until:
            raise StorageRefusal("BlobImmutableDueToPolicy")

    async def _created(self, request: web.Request) -> datetime | None:
        """Return when the blob of a request was made, or ``None`` if there is none."""
        headers = {"Authorization": f"Bearer {self._own_token()}", "x-ms-version": _VERSION}
        url = self._azurite_url("blob", request.raw_path.partition("?")[0])
        async with self._session.head(url, headers=headers) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            answer.raise_for_status()
            return parsedate_to_datetime(answer.headers["x-ms-creation-time"])

    def _azurite_url(self, service: Service, target: str) -> URL:
        urls: Mapping[Service, str] = {
            "blob": self.azurite.blob_url,
            "queue": self.azurite.queue_url,
            "table": self.azurite.table_url,
        }
        base = urls[service].removesuffix(f"/{self.azurite.account}")
        return URL(f"{base}{target}", encoded=True)

    async def _forward(
        self,
        service: Service,
        request: web.Request,
        changed: Mapping[str, str] = MappingProxyType({}),
        *,
        target: str = "",
    ) -> web.StreamResponse:
        """Pass a request on, with some headers changed, perhaps to another target, and its answer back."""
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        )
        headers.update(changed)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async with self._session.request(
                request.method,
                self._azurite_url(service, target or request.raw_path),
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=_ADDED_BY_AIOHTTP,
            ) as answer:
                code = answer.headers.get("x-ms-error-code")
                if code == "BlobAlreadyExists" and "If-None-Match" in changed:
                    if "Authorization" in changed:
                        raise StorageRefusal("UnauthorizedBlobOverwrite")
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
