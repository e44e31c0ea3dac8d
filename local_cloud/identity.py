"""The managed-identity endpoint as App Service and Functions have it (``IDENTITY_ENDPOINT``, 2019-08-01)."""

import hmac
from collections.abc import Mapping

import jwt
from aiohttp import web

from local_cloud.key_vault import is_loopback_audience
from local_cloud.tokens import (
    APP_SERVICE_AUDIENCE,
    ARM_AUDIENCES,
    KEY_VAULT_AUDIENCE,
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
        *(REGISTRY_AUDIENCE, STORAGE_AUDIENCE, SCANNER_AUDIENCE),
    )
}


def identity_app(
    tokens: TokenAuthority, *, principal_id: str, client_id: str, header_secret: str
) -> web.Application:
    """Returns the endpoint of one app whose one identity is `principal_id`.

    Without ``client_id`` in the query the identity answers as a system-assigned one would. Each answer
    carries a new token with the resource, as it was asked for, for its audience.
    """
    identities = {"client_id": client_id, "principal_id": principal_id, "object_id": principal_id}

    async def token(request: web.Request) -> web.Response:
        header = request.headers.get("X-IDENTITY-HEADER", "")
        if not hmac.compare_digest(header.encode(errors="surrogateescape"), header_secret.encode()):
            return _refusal(401, "X-IDENTITY-HEADER is missing or wrong")
        if request.query.get("api-version") != _API_VERSION:
            return _refusal(400, f"api-version {_API_VERSION} is expected")
        if not _names_identity(request.query, identities):
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
        access_token = tokens.mint(principal_id, resource)
        expires_on = jwt.decode(access_token, options={"verify_signature": False, "verify_exp": False})["exp"]
        return web.json_response(
            {
                "access_token": access_token,
                "client_id": client_id,
                "expires_on": str(expires_on),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    app = web.Application()
    app.router.add_get(PATH, token)
    return app


def _names_identity(query: Mapping[str, str], identities: Mapping[str, str]) -> bool:
    """Whether every way the query names an identity leads to ours (a resource id never does)."""
    named = [key for key in (*identities, "mi_res_id") if key in query]
    return all(query[key] == identities.get(key) for key in named)


def is_known_resource(resource: str) -> bool:
    """Whether tokens are made for a resource; a slash at its end makes no difference."""
    return resource.removesuffix("/") in _RESOURCES or is_loopback_audience(resource)


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"statusCode": status, "message": message}, status=status)
