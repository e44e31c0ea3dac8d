"""Access to one registry: its roles, its admin user and the tokens it hands out."""

import base64
import hmac
import itertools
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from local_cloud.registry.addresses import is_name
from local_cloud.registry.errors import RegistryError
from local_cloud.tokens import (
    ARM_AUDIENCES,
    REGISTRY_AUDIENCE,
    TokenAuthority,
    TokenKey,
    TokenRefused,
)

Role = Literal["AcrPull", "AcrPush", "AcrDelete"]

# `docker login` with a refresh token: this user name says that the password is one.
TOKEN_USERNAME = "00000000-0000-0000-0000-000000000000"
REFRESH_LIFETIME_S = 3 * 3600
ACCESS_LIFETIME_S = 75 * 60
MAX_SCOPES = 32

_CATALOG = "registry:catalog"
_ROLE_ACTIONS: Mapping[str, frozenset[str]] = {
    "AcrPull": frozenset({"pull", "metadata_read"}),
    "AcrPush": frozenset({"pull", "push", "metadata_read"}),
    "AcrDelete": frozenset({"delete"}),
}
_ADMIN_ACTIONS = frozenset({"pull", "push", "delete", "metadata_read"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rights of one request: everything, or the actions per ``type:name`` that its token lists."""

    is_admin: bool = False
    actions: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def allows(self, name: str, action: str) -> bool:
        """Whether `action` (pull, push or delete) is allowed in repository `name`."""
        return self.is_admin or action in self.actions.get(f"repository:{name}", ())

    @property
    def allows_catalog(self) -> bool:
        """Whether the list of repositories may be read."""
        return self.is_admin or "*" in self.actions.get(_CATALOG, ())


class AccessControl:
    """The registry's own token service, as ACR has it.

    An Entra token is exchanged for a refresh token, that for an access token which lists repositories and
    actions. The admin user gets access tokens with its password, or sends the password with each request.
    Anonymous pull is off.
    """

    def __init__(
        self,
        *,
        name: str,
        tokens: TokenAuthority,
        clock: Callable[[], float] = time.time,
        assigned: Callable[[str], Iterable[Role]] = lambda _: (),
    ) -> None:
        """``assigned`` tells the roles of a principal beside those that `grant` gave."""
        self.service = ""  # the login server: known once the registry listens
        self.admin_username = name
        self.admin_password = secrets.token_urlsafe(32)
        self._tokens = tokens
        self._key = TokenKey(clock)
        self._granted: dict[str, set[Role]] = {}
        self._assigned = assigned

    def grant(self, principal_id: str, *roles: Role) -> None:
        """Assigns roles on the whole registry to an Entra principal."""
        for role in roles:
            if role not in _ROLE_ACTIONS:
                raise ValueError(f"not a registry role: {role!r}")
        self._granted.setdefault(principal_id, set()).update(roles)

    def _roles(self, principal_id: str) -> set[Role]:
        return {*self._granted.get(principal_id, ()), *self._assigned(principal_id)}

    def exchange(self, form: Mapping[str, str]) -> str:
        """Returns a refresh token for the Entra access token in `form` (``POST /oauth2/exchange``).

        Raises:
            RegistryError: UNAUTHORIZED: the credentials or the form are not accepted.
        """
        if form.get("grant_type") != "access_token" or form.get("service") != self.service:
            raise _unauthorized("grant_type access_token for this registry's service is expected")
        if form.get("tenant", self._tokens.tenant_id) != self._tokens.tenant_id:
            raise _unauthorized("the registry trusts another tenant")
        try:
            claims = self._tokens.verify(form.get("access_token", ""), *ARM_AUDIENCES, REGISTRY_AUDIENCE)
        except TokenRefused as refusal:
            raise _unauthorized(f"the Entra token is refused: {refusal.code}") from None
        if not self._roles(claims.principal_id):
            raise _unauthorized("the principal has no role on this registry")
        return self._sign("refresh_token", claims.principal_id, [], REFRESH_LIFETIME_S)

    def access_token(self, form: Mapping[str, str], scopes: Iterable[str]) -> str:
        """Returns an access token for a refresh token or a password (``POST /oauth2/token``).

        Raises:
            RegistryError: UNAUTHORIZED: the credentials or the form are not accepted.
        """
        match form.get("grant_type"):
            case "refresh_token":
                principal = self._refresh_principal(form.get("refresh_token", ""))
            case "password":
                principal = self._password_principal(form.get("username", ""), form.get("password", ""))
            case _:
                raise _unauthorized("grant_type refresh_token or password is expected")
        return self._access_token_for(principal, form.get("service"), scopes)

    def access_token_basic(self, authorization: str, service: str | None, scopes: Iterable[str]) -> str:
        """Returns an access token for HTTP Basic credentials (``GET /oauth2/token``).

        Raises:
            RegistryError: UNAUTHORIZED: the credentials or the form are not accepted.
        """
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise _unauthorized("basic credentials are expected: anonymous pull is off")
        principal = self._password_principal(*_basic_credentials(credentials))
        return self._access_token_for(principal, service, scopes)

    def authenticate(self, authorization: str | None) -> Access:
        """The rights that the ``Authorization`` header of a request to ``/v2/`` gives.

        Raises:
            TokenRefused: The bearer token is not one of this registry's access tokens in force.
            RegistryError: UNAUTHORIZED: no credentials, or not the admin user's.
        """
        scheme, _, credentials = (authorization or "").partition(" ")
        match scheme.lower():
            case "bearer":
                return _listed_access(self._open(credentials, "access_token"))
            case "basic" if self._is_admin(*_basic_credentials(credentials)):
                return Access(is_admin=True)
        raise _unauthorized(
            "authentication required, visit https://aka.ms/acr/authorization for more information."
        )

    def challenge(self, scope: str | None = None, error: str | None = None) -> dict[str, str]:
        """The ``WWW-Authenticate`` header that says where tokens are to be had."""
        value = f'Bearer realm="https://{self.service}/oauth2/token",service="{self.service}"'
        if scope:
            value += f',scope="{scope}"'
        if error:
            value += f',error="{error}"'
        return {"WWW-Authenticate": value}

    def _access_token_for(self, principal: str, service: str | None, scopes: Iterable[str]) -> str:
        if service != self.service:
            raise _unauthorized("the token is asked for another service")
        if principal == self.admin_username:
            allowed = _ADMIN_ACTIONS
        else:
            allowed = frozenset().union(*(_ROLE_ACTIONS[role] for role in self._roles(principal)))
        return self._sign("access_token", principal, _grant_scopes(scopes, allowed), ACCESS_LIFETIME_S)

    def _password_principal(self, username: str, password: str) -> str:
        if username == TOKEN_USERNAME:
            return self._refresh_principal(password)
        if not self._is_admin(username, password):
            raise _unauthorized("wrong user name or password")
        return self.admin_username

    def _refresh_principal(self, refresh_token: str) -> str:
        try:
            return str(self._open(refresh_token, "refresh_token")["sub"])
        except TokenRefused as refusal:
            raise _unauthorized(f"the refresh token is refused: {refusal.code}") from None

    def _is_admin(self, username: str, password: str) -> bool:
        return hmac.compare_digest(username.encode(), self.admin_username.encode()) and hmac.compare_digest(
            password.encode(), self.admin_password.encode()
        )

    def _sign(self, grant_type: str, principal: str, access: list[dict[str, Any]], lifetime_s: int) -> str:
        claims = {
            "iss": "Azure Container Registry",
            "aud": self.service,
            "sub": principal,
            "jti": str(uuid.uuid4()),
            "grant_type": grant_type,
            "access": access,
        }
        return self._key.sign(claims, lifetime_s=lifetime_s)

    def _open(self, token: str, grant_type: str) -> dict[str, Any]:
        claims = self._key.open(token)
        if claims["grant_type"] != grant_type:
            raise TokenRefused("audience")
        self._key.check_in_force(claims)
        return claims


def _listed_access(claims: Mapping[str, Any]) -> Access:
    return Access(
        actions={f"{item['type']}:{item['name']}": frozenset(item["actions"]) for item in claims["access"]}
    )


def _grant_scopes(scopes: Iterable[str], allowed: frozenset[str]) -> list[dict[str, Any]]:
    """What of the asked ``type:name:action,action`` scopes is allowed; the rest is left out, not refused."""
    access = []
    for scope in itertools.islice((one for line in scopes for one in line.split()), MAX_SCOPES):
        resource, _, actions = scope.rpartition(":")
        kind, _, name = resource.partition(":")
        wanted = set(actions.split(","))
        if kind == "repository" and is_name(name):
            granted = wanted & allowed
        elif (kind, name) == ("registry", "catalog") and allowed:
            granted = wanted & {"*"}
        else:
            continue
        access.append({"type": kind, "name": name, "actions": sorted(granted)})
    return access


def _basic_credentials(credentials: str) -> tuple[str, str]:
    try:
        username, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        raise _unauthorized("malformed basic credentials") from None
    return username, password


def _unauthorized(message: str) -> RegistryError:
    return RegistryError("UNAUTHORIZED", message)
