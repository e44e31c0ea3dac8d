"""The registry itself: TLS, ACR's token endpoints, access control, and one of two stores behind them."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.typedefs import Handler

from local_cloud.pki import CertificateAuthority
from local_cloud.registry import debian
from local_cloud.registry.access import Access, AccessControl, Role
from local_cloud.registry.addresses import Target, is_name, parse_target
from local_cloud.registry.builtin import BuiltinStore
from local_cloud.registry.errors import RegistryError
from local_cloud.registry.own_api import OwnApi, Shelves
from local_cloud.tokens import TokenAuthority, TokenRefused
from local_cloud.web import Server, serve

_MAX_FORM_BYTES = 64 * 1024
_MAX_FORM_FIELDS = 64
_FORM = "application/x-www-form-urlencoded"
_CATALOGS = ("catalog", "own-catalog")


class Store(Shelves, Protocol):
    """The port to a store, which answers requests that the front has authorised."""

    label: str

    async def answer(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answers for `target`, whatever path and credentials the request came with."""

    async def close(self) -> None:
        """End what the store has started; called once."""


class Registry:
    """A container registry with ACR's data plane, on loopback, over HTTPS.

    It does what an Azure Container Registry does for its clients: push, pull, listing, attributes of what is
    there, and with the built-in store the referrers API. It has no tasks, webhooks, replication or retention,
    and transfer is not part of a data plane.
    """

    login_server: str
    admin_username: str
    admin_password: str
    backend: str

    def __init__(self, access: AccessControl, store: Store) -> None:
        self._access = access
        self._store = store
        self.backend = store.label
        self.admin_username = access.admin_username
        self.admin_password = access.admin_password

    @classmethod
    async def start(
        cls,
        *,
        name: str,
        folder: Path,
        ca: CertificateAuthority,
        tokens: TokenAuthority,
        port: int = 0,
        backend: Literal["builtin", "docker-registry"] = "builtin",
        is_redirecting: bool = True,
        clock: Callable[[], float] = time.time,
        assigned: Callable[[str], Iterable[Role]] = lambda _: (),
    ) -> "Registry":
        """Starts a registry that keeps its content in `folder`; ``assigned`` tells who has which role.

        The two stores do not share a folder's content. The built-in one sends whoever pulls a blob on to
        another host, as ACR does, unless ``is_redirecting`` is false; docker-registry gives blobs out itself.

        Raises:
            RuntimeError: docker-registry is asked for and does not start.
            OSError: The port is taken.
        """
        store: Store
        if backend == "builtin":
            store = await BuiltinStore.start(
                folder / "builtin", name=name, ca=ca, is_redirecting=is_redirecting, clock=clock
            )
        elif debian.is_installed():
            store = await debian.DebianStore.start(folder / "docker-registry")
        else:
            raise RuntimeError("docker-registry is not installed")
        registry = cls(AccessControl(name=name, tokens=tokens, clock=clock, assigned=assigned), store)
        try:
            await registry._listen(ca, name, port)
        except OSError:
            await store.close()
            raise
        return registry

    def grant(self, principal_id: str, *roles: Role) -> None:
        """Assigns AcrPull or AcrPush on this registry to an Entra principal."""
        self._access.grant(principal_id, *roles)

    async def close(self) -> None:
        """Stops listening and ends the store."""
        await self._server.close()
        await self._store.close()

    async def _listen(self, ca: CertificateAuthority, name: str, port: int) -> None:
        app = web.Application(client_max_size=_MAX_FORM_BYTES, middlewares=[_refusals_as_json])
        app.router.add_post("/oauth2/exchange", self._exchange)
        app.router.add_post("/oauth2/token", self._token)
        app.router.add_get("/oauth2/token", self._token_for_basic)
        app.router.add_route("*", "/v2{tail:(?:/.*)?}", self._answer)
        app.router.add_route("*", "/acr/v1/{tail:.*}", self._answer)
        context = ca.server_context(f"registry-{name}")
        self._server: Server = await serve(app, ssl_context=context, port=port)
        self.login_server = f"127.0.0.1:{self._server.port}"
        self._own_api = OwnApi(self._store, self.login_server)
        self._access.service = self.login_server

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        form, _ = await _form(request)
        return web.json_response({"refresh_token": self._access.exchange(form)})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form, scopes = await _form(request)
        return web.json_response({"access_token": self._access.access_token(form, scopes)})

    async def _token_for_basic(self, request: web.Request) -> web.StreamResponse:
        token = self._access.access_token_basic(
            request.headers.get("Authorization", ""),
            request.query.get("service"),
            request.query.getall("scope", []),
        )
        return web.json_response({"access_token": token})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target = parse_target(request.path)
        access = self._authenticate(request, target)
        if target.kind == "base":
            return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})
        if self._own_api.is_for(target):
            return self._own_api.answer(request, target)
        source = request.query.get("from", "")
        if "mount" in request.query and not (is_name(source) and access.allows(source, "pull")):
            # Not a refusal: as if the blob were not there, the client uploads it.
            query = {key: value for key, value in request.query.items() if key not in ("mount", "from")}
            request = request.clone(rel_url=request.rel_url.with_query(query))
        return await self._store.answer(request, target)

    def _authenticate(self, request: web.Request, target: Target) -> Access:
        scope = _scope(request.method, target)
        detail = _what_is_asked_for(scope)
        try:
            access = self._access.authenticate(request.headers.get("Authorization"))
        except TokenRefused as refusal:
            headers = self._access.challenge(scope, "invalid_token")
            raise RegistryError(
                "UNAUTHORIZED", f"token refused: {refusal.code}", detail=detail, headers=headers
            ) from None
        except RegistryError as refusal:
            headers = self._access.challenge(scope)
            raise RegistryError(refusal.code, str(refusal), detail=detail, headers=headers) from None
        if not _is_allowed(access, request.method, target):
            headers = self._access.challenge(scope, "insufficient_scope")
            raise RegistryError(
                "UNAUTHORIZED", "the token does not allow this", detail=detail, headers=headers
            )
        return access


def _is_allowed(access: Access, method: str, target: Target) -> bool:
    if target.kind == "base":
        return True
    if target.kind in _CATALOGS:
        return access.allows_catalog
    return access.allows(target.name, target.action(method))


def _scope(method: str, target: Target) -> str | None:
    if target.kind == "base":
        return None
    if target.kind in _CATALOGS:
        return "registry:catalog:*"
    action = target.action(method)
    return f"repository:{target.name}:{'pull,push' if action == 'push' else action}"


def _what_is_asked_for(scope: str | None) -> list[dict[str, str]] | None:
    """The detail of ACR's 401, as its answers to ``azure-containerregistry`` have it."""
    if scope is None:
        return None
    resource, _, actions = scope.rpartition(":")
    kind, _, name = resource.partition(":")
    return [{"Type": kind, "Name": name, "Action": action} for action in actions.split(",")]


async def _form(request: web.Request) -> tuple[Mapping[str, str], list[str]]:
    """The fields of a posted form (the last of each name), and the values of all its ``scope`` fields."""
    if request.content_type != _FORM:
        raise RegistryError("UNAUTHORIZED", f"a form is expected ({_FORM})")
    try:
        pairs = parse_qsl((await request.read()).decode(), max_num_fields=_MAX_FORM_FIELDS)
    except ValueError:
        raise RegistryError("UNAUTHORIZED", "malformed form") from None
    return dict(pairs), [value for key, value in pairs if key == "scope"]


@web.middleware
async def _refusals_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RegistryError as refusal:
        return refusal.response()
    except ConnectionError:
        # The client has gone, and nobody will read this.
        return web.Response(status=400)
