"""The tenant's sign-in: its token endpoint (v2.0), as MSAL asks for it, and the Graph beside it.

An application signs in with its client id and secret (RFC 6749, section 4.4), and gets tokens for whatever
service of this cloud it names. Nobody signs in by hand here. The Graph refuses every question, as it does
applications without rights in the directory; `az` then takes object ids as they were given.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from local_cloud.identity import is_known_resource
from local_cloud.tokens import TokenAuthority, TokenRefused

_TOKEN_LIFE_S = 3600
_SCOPE_END = "/.default"
_OF_PEOPLE = ("openid", "profile", "offline_access")
"""Scopes that MSAL for Java asks for besides, also where nobody signs in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application that is registered in the tenant, and the service principal that it acts as."""

    client_id: str
    secret: str = field(repr=False)
    principal_id: str


class _Refused(Exception):  # noqa: N818 - an answer to the caller, not a fault
    def __init__(self, status: int, error: str, number: int, message: str) -> None:
        super().__init__(f"AADSTS{number}: {message}")
        self.status = status
        self.error = error
        self.number = number


def sign_in_app(tokens: TokenAuthority, applications: Iterable[Application]) -> web.Application:
    """Return the sign-in of one tenant; serve it over HTTPS."""
    sign_in = _SignIn(tokens, {application.client_id: application for application in applications})
    app = web.Application(middlewares=[_refusals_as_json])
    app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", sign_in.openid_configuration)
    app.router.add_get("/{tenant}/discovery/v2.0/keys", sign_in.keys)
    app.router.add_post("/{tenant}/oauth2/v2.0/token", sign_in.token)
    app.router.add_route("*", "/v1.0/{path:.*}", sign_in.graph)
    return app


class _SignIn:
    def __init__(self, tokens: TokenAuthority, applications: Mapping[str, Application]) -> None:
        self._tokens = tokens
        self._applications = applications

    async def openid_configuration(self, request: web.Request) -> web.Response:
        self._check_tenant(request)
        here = f"{_address(request)}/{self._tokens.tenant_id}"
        return web.json_response(
            {
                "issuer": f"{here}/v2.0",
                "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
                "token_endpoint": f"{here}/oauth2/v2.0/token",
                "jwks_uri": f"{here}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "grant_types_supported": ["client_credentials"],
            }
        )

    async def keys(self, request: web.Request) -> web.Response:
        self._check_tenant(request)
        return web.json_response({"keys": [self._tokens.public_jwk]})

    async def token(self, request: web.Request) -> web.Response:
        self._check_tenant(request)
        asked = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        if asked.get("grant_type") != "client_credentials":
            raise _Refused(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
        application = self._application(asked.get("client_id", ""), asked.get("client_secret", ""))
        resource = _resource(asked.get("scope", ""), own=_address(request))
        granted = self._tokens.mint(application.principal_id, resource, lifetime_s=_TOKEN_LIFE_S)
        times = {"expires_in": _TOKEN_LIFE_S, "ext_expires_in": _TOKEN_LIFE_S}
        return web.json_response({"token_type": "Bearer", "access_token": granted, **times})

    async def graph(self, request: web.Request) -> web.Response:
        _, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            self._tokens.verify(given, _address(request))
        except TokenRefused:
            return _of_graph(401, "InvalidAuthenticationToken", "Access token validation failure.")
        message = "Insufficient privileges to complete the operation."
        return _of_graph(403, "Authorization_RequestDenied", message)

    def _check_tenant(self, request: web.Request) -> None:
        tenant = request.match_info["tenant"]
        if tenant.lower() != self._tokens.tenant_id:
            raise _Refused(400, "invalid_tenant", 90002, f"Tenant {tenant[:60]!r} not found.")

    def _application(self, client_id: str, secret: str) -> Application:
        application = self._applications.get(client_id)
        if application is None:
            raise _Refused(400, "unauthorized_client", 700016, "The application was not found.")
        if not hmac.compare_digest(secret.encode(errors="surrogateescape"), application.secret.encode()):
            raise _Refused(401, "invalid_client", 7000215, "Invalid client secret provided.")
        return application


def _resource(scope: str, *, own: str) -> str:
    """The service that a scope is of: one of this cloud, or ``own``, the Graph."""
    asked = [one for one in scope.split() if one not in _OF_PEOPLE]
    if len(asked) != 1 or not asked[0].endswith(_SCOPE_END):
        raise _Refused(400, "invalid_scope", 1002012, f"One scope is expected, with {_SCOPE_END} at its end.")
    resource = asked[0].removesuffix(_SCOPE_END)
    if resource.rstrip("/") != own and not is_known_resource(resource):
        message = f"The resource principal named {resource[:200]!r} was not found in the tenant."
        raise _Refused(400, "invalid_resource", 500011, message)
    return resource


def _address(request: web.Request) -> str:
    """Where this is served; it is the Graph's audience, too."""
    return f"{request.scheme}://{request.host}"


def _of_graph(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


@web.middleware
async def _refusals_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Refused as refusal:
        body = {"error": refusal.error, "error_description": str(refusal), "error_codes": [refusal.number]}
        return web.json_response(body, status=refusal.status)
