"""The registry itself: TLS, ACR's token endpoints, access control, and one of two stores behind them."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from aiohttp.typedefs import Handler

from local_cloud.pki import CertificateAuthority
from local_cloud.registry import debian
from local_cloud.registry.access import Access, AccessControl, Role
from local_cloud.registry.addresses import Target, is_name, parse_target
from local_cloud.registry.builtin import BuiltinStore
from local_cloud.registry.errors import RegistryError
from local_cloud.tokens import TokenAuthority, TokenRefused
from local_cloud.web import Server, serve

MAX_LISTED = 100
"""Manifests or tags on a page, as many as ACR lists."""

_MAX_FORM_BYTES = 64 * 1024
_MAX_FORM_FIELDS = 64
_FORM = "application/x-www-form-urlencoded"


class Store(Protocol):
    """Answers requests that the front has authorised."""

    label: str

    async def answer(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answers for `target`, whatever path and credentials the request came with."""

    def tag_file(self, name: str, tag: str) -> Path:
        """Where the store keeps the digest of a tag; the file is written anew whenever the tag is pushed."""

    def tag_names(self, name: str) -> list[str]:
        """The tags of a repository, in order; none where there is no such repository."""

    def manifests(self, name: str) -> list[str]:
        """The digests of a repository's manifests, in order; none where there is no such repository."""

    def delete_repository(self, name: str) -> None:
        """Forgets a repository with all that is in it, but for those whose names begin with its own."""

    async def close(self) -> None:
        """Ends what the store has started; called once."""


class Registry:
    """A container registry with ACR's data plane, on loopback, over HTTPS.

    It does what an Azure Container Registry does for its clients: push, pull, listing, when a tag was written
    last, and with the built-in store the referrers API. It has no tasks, webhooks, replication or retention,
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
        if target.kind == "tag":
            return self._tag_attributes(request, target)
        if target.kind == "tag-list":
            return self._tag_list(request, target)
        if target.kind == "manifests":
            return self._manifest_list(request, target)
        if target.kind == "repository":
            return self._delete_repository(request, target)
        source = request.query.get("from", "")
        if "mount" in request.query and not (is_name(source) and access.allows(source, "pull")):
            # Not a refusal: as if the blob were not there, the client uploads it.
            query = {key: value for key, value in request.query.items() if key not in ("mount", "from")}
            request = request.clone(rel_url=request.rel_url.with_query(query))
        return await self._store.answer(request, target)

    def _tag_attributes(self, request: web.Request, target: Target) -> web.StreamResponse:
        """What ACR's ``GET /acr/v1/{name}/_tags/{reference}`` tells of a tag, but for its ``createdTime``.

        https://learn.microsoft.com/rest/api/containerregistry/tag/get-attributes
        """
        if request.method != "GET":
            raise RegistryError("UNSUPPORTED", "tags are read here, not written")
        tag = self._attributes_of(target.name, target.rest)
        if tag is None:
            raise RegistryError("TAG_UNKNOWN", "the specified tag does not exist")
        return web.json_response({"registry": self.login_server, "imageName": target.name, "tag": tag})

    def _attributes_of(self, name: str, tag: str) -> dict[str, Any] | None:
        try:
            path = self._store.tag_file(name, tag)
            digest, written_ns = path.read_text(), path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        written_at = datetime.fromtimestamp(written_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return {
            "name": tag,
            "digest": digest,
            "lastUpdateTime": f"{written_at}.{written_ns % 10**9 // 100:07}Z",
            "signed": False,
            "changeableAttributes": dict.fromkeys(
                ("deleteEnabled", "writeEnabled", "readEnabled", "listEnabled"), True
            ),
        }

    def _tag_list(self, request: web.Request, target: Target) -> web.StreamResponse:
        """What ACR's ``GET /acr/v1/{name}/_tags`` tells, in the order of names.

        https://learn.microsoft.com/rest/api/containerregistry/tag/get-list
        """
        if request.method != "GET":
            raise RegistryError("UNSUPPORTED", "tags are listed here, not written")
        if not self._store.manifests(target.name):
            raise RegistryError("NAME_UNKNOWN", "repository unknown to the registry")
        page, headers = _page_of(self._store.tag_names(target.name), request, target)
        tags = [found for tag in page if (found := self._attributes_of(target.name, tag)) is not None]
        answer = {"registry": self.login_server, "imageName": target.name, "tags": tags}
        return web.json_response(answer, headers=headers)

    def _manifest_list(self, request: web.Request, target: Target) -> web.StreamResponse:
        """What ACR's ``GET /acr/v1/{name}/_manifests`` tells, of each manifest its digest only.

        https://learn.microsoft.com/rest/api/containerregistry/manifests/get-list
        """
        if request.method != "GET":
            raise RegistryError("UNSUPPORTED", "manifests are listed here, not written")
        digests = self._store.manifests(target.name)
        if not digests:
            raise RegistryError("NAME_UNKNOWN", "repository unknown to the registry")
        page, headers = _page_of(digests, request, target)
        manifests = [{"digest": digest} for digest in page]
        answer = {"registry": self.login_server, "imageName": target.name, "manifests": manifests}
        return web.json_response(answer, headers=headers)

    def _delete_repository(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answers as https://learn.microsoft.com/rest/api/containerregistry/repository/delete says."""
        if request.method != "DELETE":
            raise RegistryError("UNSUPPORTED", "repositories are deleted here, and nothing else")
        digests = self._store.manifests(target.name)
        if not digests:
            raise RegistryError("NAME_UNKNOWN", "repository unknown to the registry")
        self._store.delete_repository(target.name)
        return web.json_response({"manifestsDeleted": digests, "tagsDeleted": []}, status=202)

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
    if target.kind == "catalog":
        return access.allows_catalog
    return access.allows(target.name, target.action(method))


def _page_of(
    names: Sequence[str], request: web.Request, target: Target
) -> tuple[Sequence[str], dict[str, str]]:
    """The page of an ordered list that is asked for, and the header that leads to the next one, if any."""
    asked = request.query.get("n", "")
    size = min(int(asked), MAX_LISTED) if re.fullmatch("[1-9][0-9]{0,8}", asked) else MAX_LISTED
    rest = [name for name in names if name > request.query.get("last", "")]
    if len(rest) <= size:
        return rest, {}
    query = urlencode({"last": rest[size - 1], "n": size, "orderby": ""})
    return rest[:size], {"Link": f'<{target.path}?{query}>; rel="next"'}


def _scope(method: str, target: Target) -> str | None:
    if target.kind == "base":
        return None
    if target.kind == "catalog":
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
