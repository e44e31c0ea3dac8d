"""The access tokens of Microsoft Entra in the local cloud: made and checked."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from jwt.types import Options

MAX_TOKEN_CHARS = 16 * 1024
_KNOWN_TOKENS = 128
ARM_AUDIENCES = ("https://management.azure.com/", "https://management.core.windows.net/")
STORAGE_AUDIENCE = "https://storage.azure.com"
APP_SERVICE_AUDIENCE = "https://appservice.azure.com"
KEY_VAULT_AUDIENCE = "https://vault.azure.net"
REGISTRY_AUDIENCE = "https://containerregistry.azure.net"
MONITOR_AUDIENCE = "https://monitor.azure.com"
SCANNER_AUDIENCE = "api://scanner"
"""Of a service of the target's own; elsewhere it is the application id of its app registration."""

# PyJWT reads the machine's clock; ours may be a test's.
_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
}


class TokenRefused(Exception):  # noqa: N818 - a refusal is an answer to the caller, not a fault
    """An access token that is not accepted. `code` is expired, audience, issuer, malformed or signature."""

    def __init__(self, code: str) -> None:
        super().__init__(f"token refused: {code}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims of a verified token: whom it speaks for, and the service it is for, as it stands there."""

    principal_id: str
    audience: str


class TokenKey:
    """An ES256 key pair, made at start and kept in memory, that signs JSON Web Tokens and opens its own.

    `clock` gives seconds since the epoch and decides both the life of new tokens and whether one has expired.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._public_key = self._key.public_key()
        # A client brings the same token with each request; what its signature says stays true.
        self._opened = lru_cache(maxsize=_KNOWN_TOKENS)(self._open)

    @property
    def public_jwk(self) -> dict[str, Any]:
        """The public half, as a JSON Web Key (RFC 7517)."""
        return {**ECAlgorithm.to_jwk(self._public_key, as_dict=True), "use": "sig", "alg": "ES256"}

    def sign(self, claims: Mapping[str, Any], *, lifetime_s: int) -> str:
        """Returns a token with `claims`, in force from now for `lifetime_s`."""
        now = int(self._clock())
        times = {"iat": now, "nbf": now, "exp": now + lifetime_s}
        return jwt.encode({**claims, **times}, self._key, algorithm="ES256")

    def open(self, token: str) -> dict[str, Any]:
        """Returns the claims of `token` if this key signed it; the times are `check_in_force`'s business.

        Raises:
            TokenRefused: malformed or signature.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise TokenRefused("malformed")
        return dict(self._opened(token))

    def _open(self, token: str) -> dict[str, Any]:
        try:
            # Only this key's tokens get past the signature, so their claims are as `sign` left them.
            return jwt.decode(token, self._public_key, algorithms=["ES256"], options=_SIGNATURE_ONLY)
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
            raise TokenRefused("signature") from None
        except (jwt.InvalidTokenError, RecursionError, ValueError):
            raise TokenRefused("malformed") from None

    def check_in_force(self, claims: Mapping[str, Any]) -> None:
        """Refuse claims unless now is within the token's times.

        Raises:
            TokenRefused: expired.
        """
        if not claims["nbf"] <= self._clock() < claims["exp"]:
            raise TokenRefused("expired")


class TokenAuthority:
    """A tenant of Microsoft Entra."""

    tenant_id: str
    login_endpoint: str = "https://login.microsoftonline.com"
    """Where clients are told to sign in."""

    def __init__(self, *, tenant_id: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self.tenant_id = tenant_id or str(uuid.uuid4())
        self._key = TokenKey(clock)

    @property
    def issuer(self) -> str:
        """The v1 issuer of its tokens, the only one that Azurite knows."""
        return f"https://sts.windows.net/{self.tenant_id}/"

    @property
    def authority(self) -> str:
        """The tenant's own address, as challenges name it."""
        return f"{self.login_endpoint}/{self.tenant_id}"

    @property
    def public_jwk(self) -> dict[str, Any]:
        """The key that its tokens can be checked with, as a JSON Web Key."""
        return self._key.public_jwk

    def mint(self, principal_id: str, audience: str, *, lifetime_s: int = 3600) -> str:
        """Returns a signed token for `principal_id` (an object id) that `audience` will accept."""
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "oid": principal_id,
            "sub": principal_id,
            "tid": self.tenant_id,
        }
        return self._key.sign(claims, lifetime_s=lifetime_s)

    def verify(self, token: str, *audiences: str) -> Claims:
        """Returns what `token` claims if this tenant signed it for one of `audiences` and it is in force.

        Audiences are compared without regard to a trailing slash.

        Raises:
            TokenRefused: With a code saying which check failed.
        """
        claims = self._key.open(token)
        if (claims["iss"], claims["tid"]) != (self.issuer, self.tenant_id):
            raise TokenRefused("issuer")
        audience = claims["aud"]
        if _without_slash(audience) not in {_without_slash(accepted) for accepted in audiences}:
            raise TokenRefused("audience")
        self._key.check_in_force(claims)
        return Claims(principal_id=claims["oid"], audience=audience)


def _without_slash(audience: str) -> str:
    return audience.removesuffix("/")
