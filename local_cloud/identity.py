"""The managed-identity endpoint as App Service and Functions have it (``IDENTITY_ENDPOINT``, 2019-08-01)."""

import hmac
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jwt
from aiohttp import web

from local_cloud.key_vault import is_loopback_audience
from local_cloud.tokens import (
    APP_SERVICE_AUDIENCE,
    ARM_AUDIENCES,
    KEY_VAULT_AUDIENCE,
    MONITOR_AUDIENCE,
    REGISTRY_AUDIENCE,
    SCANNER_AUDIENCE,
    STORAGE_AUDIENCE,
    TokenAuthority,
)

PATH = "/msi/token"
_API_VERSION = "2019-08-01"
_RESOURCES = {
    audience.removesuffix("/")
    for audience in (
        *(*ARM_AUDIENCES, APP_SERVICE_AUDIENCE, KEY_VAULT_AUDIENCE),
        *(REGISTRY_AUDIENCE, STORAGE_AUDIENCE, SCANNER_AUDIENCE, MONITOR_AUDIENCE),
    )
}


class Identity(NamedTuple):
    """An identity of the app: its client id and its principal id."""

    client_id: str
    principal_id: str

    def is_named_by(self, query: Mapping[str, str]) -> bool:
        """Whether every way that a query names an identity leads to this one (a resource id never does)."""
        ids = {
            "client_id": self.client_id,
            "principal_id": self.principal_id,
            "object_id": self.principal_id,
        }
        named = [key for key in (*ids, "mi_res_id") if key in query]
        return all(query[key] == ids.get(key) for key in named)


def identity_app(
    tokens: TokenAuthority, identities: Sequence[Identity], *, header_secret: str
) -> web.Application:
    """The managed-identity endpoint of an app that has these identities.

    A query names one of the identities; if it names none, and there is only one, that answers as a
    system-assigned one would. Each answer carries a new token with the resource, as it was asked for, for its
    audience.
    """

    async def token(request: web.Request) -> web.Response:
        header = request.headers.get("X-IDENTITY-HEADER", "")
        if not hmac.compare_digest(header.encode(errors="surrogateescape"), header_secret.encode()):
            return _refusal(401, "X-IDENTITY-HEADER is missing or wrong")
        if request.query.get("api-version") != _API_VERSION:
            return _refusal(400, f"api-version {_API_VERSION} is expected")
        meant = [identity for identity in identities if identity.is_named_by(request.query)]
        if len(meant) != 1:
            return _refusal(
                400,
                "No User Assigned or Delegated Managed Identity found for specified"
                " ClientId/ResourceId/PrincipalId.",
            )
        resource = request.query.get("resource", "")
        if not is_known_resource(resource):
            return _refusal(
                400,
                f"AADSTS500011: The resource principal named {resource[:200]!r} was not found in the tenant"
                f" named {tokens.tenant_id}.",
            )
        access_token = tokens.mint(meant[0].principal_id, resource)
        expires_on = jwt.decode(access_token, options={"verify_signature": False, "verify_exp": False})["exp"]
        return web.json_response(
            {
                "access_token": access_token,
                "client_id": meant[0].client_id,
                "expires_on": str(expires_on),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    app = web.Application()
    app.router.add_get(PATH, token)
    return app


def is_known_resource(resource: str) -> bool:
    """Whether tokens are made for a resource; a slash at its end does not matter."""
    return resource.removesuffix("/") in _RESOURCES or is_loopback_audience(resource)


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "message": message}, status=status)
