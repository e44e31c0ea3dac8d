"""A key vault for secrets and EC signing keys, with Key Vault's bearer challenge and error bodies.

The challenge names as its resource the parent domain of the vault, and the client refuses to send a token
unless that domain ends the address it called: ``https://vault.azure.net`` for ``https://x.vault.azure.net``.
What is true of ``https://127.0.0.1:1234`` is ``https://0.0.1:1234``; so stock clients in Python accept this
vault with that check on, at the address 127.0.0.1 (not at ``localhost``, which has no parent). To those in
JavaScript and Java ``0.0.1`` is another address, or no host. They call it by a name, on machines that know
where that is: ``https://NAME.vault.localhost:1234``; the challenge then names the parent of that.
"""

import base64
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from local_cloud.tokens import KEY_VAULT_AUDIENCE, TokenAuthority, TokenRefused

DOMAIN = "vault.localhost"
"""What names of vaults end with; each leads here, where it leads anywhere (RFC 6761, section 6.3)."""
Permission = Literal["secrets/get", "secrets/list", "secrets/set", "keys/get", "keys/sign", "keys/verify"]
Curve = Literal["P-256", "P-384"]

API_VERSIONS = ("2016-10-01", *(f"7.{minor}" for minor in range(7)), "2025-07-01", "2026-04-01")
"""Those that azure-keyvault-keys and azure-keyvault-secrets know."""

_PERMISSIONS = get_args(Permission)
_MAX_RESULTS = 25
_MAX_TAGS = 15
_MAX_BODY_BYTES = 64 * 1024
_MAX_SECRET_CHARS = 25 * 1024
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class _CurveFacts:
    curve: ec.EllipticCurve
    algorithm: str
    hash: hashes.HashAlgorithm
    size_bytes: int  # of a coordinate, of r, of s and of the digest


_CURVES: Mapping[str, _CurveFacts] = {
    "P-256": _CurveFacts(curve=ec.SECP256R1(), algorithm="ES256", hash=hashes.SHA256(), size_bytes=32),
    "P-384": _CurveFacts(curve=ec.SECP384R1(), algorithm="ES384", hash=hashes.SHA384(), size_bytes=48),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version(Generic[_Value]):
    version: str  # 32 hex digits
    created_s: int
    value: _Value


@dataclass(slots=True, kw_only=True)
class _Secret:
    """What a version of a secret holds; whether it is enabled can change later."""

    value: str = field(repr=False)
    is_enabled: bool = True
    not_before_s: int | None = None
    expires_s: int | None = None
    content_type: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _EcKey:
    curve_name: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def facts(self) -> _CurveFacts:
        return _CURVES[self.curve_name]

    def sign(self, algorithm: str, digest: bytes) -> bytes:
        """Returns r and s, fixed width, one after the other (RFC 7518 section 3.4)."""
        facts = self._facts_for(algorithm, digest)
        der = self.private.sign(digest, ec.ECDSA(utils.Prehashed(facts.hash)))
        return b"".join(
            number.to_bytes(facts.size_bytes, "big") for number in utils.decode_dss_signature(der)
        )

    def verify(self, algorithm: str, digest: bytes, signature: bytes) -> bool:
        """Tells whether `sign` could have returned the signature for this digest."""
        facts = self._facts_for(algorithm, digest)
        halves = signature[: facts.size_bytes], signature[facts.size_bytes :]
        if len(signature) != 2 * facts.size_bytes:
            return False
        der = utils.encode_dss_signature(*(int.from_bytes(half, "big") for half in halves))
        try:
            self.private.public_key().verify(der, digest, ec.ECDSA(utils.Prehashed(facts.hash)))
        except InvalidSignature:
            return False
        return True

    def _facts_for(self, algorithm: str, digest: bytes) -> _CurveFacts:
        """Returns the curve's facts, if it has the algorithm and the digest is as long as that wants."""
        facts = self.facts
        if algorithm != facts.algorithm:
            message = f"Key and signing algorithm are incompatible. Key type: EC, curve: {self.curve_name}."
            raise _Refusal(400, "BadParameter", message)
        if len(digest) != facts.size_bytes:
            message = (
                f"Invalid length of 'value': {len(digest)} bytes. {algorithm} requires {facts.size_bytes}."
            )
            raise _Refusal(400, "BadParameter", message)
        return facts


class _Refusal(Exception):  # noqa: N818 - an answer to the caller, not a fault
    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        inner: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.inner = inner
        self.headers = headers

    def response(self) -> web.Response:
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.inner:
            error["innererror"] = {"code": self.inner}
        return web.json_response({"error": error}, status=self.status, headers=self.headers)


class KeyVault:
    """Secrets and keys in memory, every version kept, and who may use them.

    `clock` gives seconds since the epoch for the creation times; tokens are judged by `tokens`' own clock.
    `assigned` tells, beside what `grant` gave, whether a principal may do something to ``keys/name`` or
    ``secrets/name``.
    """

    def __init__(
        self,
        tokens: TokenAuthority,
        *,
        clock: Callable[[], float] = time.time,
        assigned: Callable[[str, Permission, str], bool] = lambda *_: False,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._assigned = assigned
        self._secrets: dict[str, list[_Version[_Secret]]] = {}
        self._keys: dict[str, list[_Version[_EcKey]]] = {}
        self._disabled: set[str] = set()
        self._permissions: dict[str, set[str]] = {}

    def set_secret(self, name: str, value: str) -> None:
        """Add a version of the secret `name` and make it the current one.

        Raises:
            ValueError: The value has more than 25 KiB.
        """
        if len(value) > _MAX_SECRET_CHARS:
            raise ValueError("a secret may have 25 KiB")
        self._add(self._secrets, name, _Secret(value=value))

    def secret_values(self, name: str) -> list[str]:
        """The values of all versions of the secret `name`, the oldest first; none if there is no such one."""
        return [one.value.value for one in self._secrets.get(name, [])]

    def disable_secret(self, name: str, *, is_enabled: bool = False) -> None:
        """Switch the current version of the secret `name` off, or on again; others stay as they are."""
        self._secrets[name][-1].value.is_enabled = is_enabled

    def age_secret(self, name: str, *, expires_s: int | None) -> None:
        """Let the current version of the secret `name` expire at another time, in seconds since the epoch."""
        self._secrets[name][-1].value.expires_s = expires_s

    def create_ec_key(self, name: str, curve: Curve) -> str:
        """Add a version of the key `name`; returns its public key in PEM (SubjectPublicKeyInfo)."""
        private = ec.generate_private_key(_CURVES[curve].curve)
        self._add(self._keys, name, _EcKey(curve_name=curve, private=private))
        return self.public_key(name)

    def has_key(self, name: str) -> bool:
        """Whether there is a key `name`."""
        return name in self._keys

    def disable_key(self, name: str) -> None:
        """Switch off the key `name`, every version of it: it can be looked at, and signs nothing."""
        self._disabled.add(name)

    def public_key(self, name: str) -> str:
        """Returns the public key of the current version of `name`, in PEM."""
        public = self._keys[name][-1].value.private.public_key()
        return public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def grant(self, principal_id: str, *permissions: Permission) -> None:
        """Let a principal do more with everything in this vault; earlier permissions stay.

        Args:
            principal_id: the object id of the principal.
            permissions: what it may do: read secrets, read public keys, sign, verify.

        Raises:
            ValueError: there is no such permission.
        """
        for permission in permissions:
            if permission not in _PERMISSIONS:
                raise ValueError(f"not a permission: {permission!r}")
        self._permissions.setdefault(principal_id, set()).update(permissions)

    def app(self) -> web.Application:
        """Returns the vault's REST surface."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_refusals_as_json])
        app.router.add_get("/secrets/{name}/versions", self._list_versions)
        app.router.add_put("/secrets/{name}", self._put_secret)
        for path in ("/secrets/{name}", "/secrets/{name}/{version:[^/]*}"):
            app.router.add_get(path, self._get_secret)
        for path in ("/keys/{name}", "/keys/{name}/{version:[^/]*}"):
            app.router.add_get(path, self._get_key)
        for path in ("/keys/{name}/sign", "/keys/{name}/{version:[^/]*}/sign"):
            app.router.add_post(path, self._sign)
        for path in ("/keys/{name}/verify", "/keys/{name}/{version:[^/]*}/verify"):
            app.router.add_post(path, self._verify)
        app.router.add_route("*", "/{path:.*}", self._refuse)
        return app

    async def _refuse(self, request: web.Request) -> web.Response:
        """What else Key Vault can do, nobody may here; and what it cannot do is not told to strangers."""
        caller = self._caller(request)
        kind = request.path.split("/")[1]
        if kind not in ("keys", "secrets", "certificates", "deletedkeys", "deletedsecrets"):
            raise _Refusal(405, "MethodNotAllowed", f"{request.method} is not allowed for this resource.")
        verbs = {"GET": "list", "PUT": "set", "POST": "create", "PATCH": "update", "DELETE": "delete"}
        verb = verbs.get(request.method, request.method.lower())
        raise _without_permission(caller, kind, verb)

    def _add(self, versions: dict[str, list[_Version[_Value]]], name: str, value: _Value) -> None:
        if not name.isascii() or not name.replace("-", "").isalnum():
            raise ValueError(f"not a Key Vault object name: {name!r}")
        version = _Version(version=uuid.uuid4().hex, created_s=int(self._clock()), value=value)
        versions.setdefault(name, []).append(version)

    async def _get_secret(self, request: web.Request) -> web.Response:
        self._authorise(request, "secrets/get")
        name, found = _find(self._secrets, request, "Secret")
        if not found.value.is_enabled:
            message = "Operation get is not allowed on a disabled secret."
            raise _Refusal(403, "Forbidden", message, inner="SecretDisabled")
        return web.json_response({"value": found.value.value} | _told(request, name, found))

    async def _list_versions(self, request: web.Request) -> web.Response:
        """All versions without their values, in no order that is promised: here the newest is not the last.

        https://learn.microsoft.com/rest/api/keyvault/secrets/get-secret-versions
        """
        self._authorise(request, "secrets/list")
        name = request.match_info["name"]
        try:
            skipped, at_once = (
                int(request.query.get("$skiptoken", 0)),
                int(request.query.get("maxresults", _MAX_RESULTS)),
            )
        except ValueError:
            raise _Refusal(400, "BadParameter", "maxresults is not a number.") from None
        if not 1 <= at_once <= _MAX_RESULTS or skipped < 0:
            raise _Refusal(400, "BadParameter", f"maxresults must be from 1 to {_MAX_RESULTS}.")
        versions = self._secrets.get(name, [])[::-1]
        page = [_told(request, name, one) for one in versions[skipped : skipped + at_once]]
        next_link = None
        if skipped + at_once < len(versions):
            query = {**request.query, "$skiptoken": str(skipped + at_once)}
            next_link = f"https://{request.host}{request.path}?{urlencode(query)}"
        return web.json_response({"value": page, "nextLink": next_link})

    async def _put_secret(self, request: web.Request) -> web.Response:
        """Make a new version of a secret; those of before stay.

        https://learn.microsoft.com/rest/api/keyvault/secrets/set-secret
        """
        self._authorise(request, "secrets/set")
        name = request.match_info["name"]
        secret = _secret_of(await request.read())
        self._add(self._secrets, name, secret)
        found = self._secrets[name][-1]
        return web.json_response({"value": secret.value} | _told(request, name, found))

    async def _get_key(self, request: web.Request) -> web.Response:
        self._authorise(request, "keys/get")
        name, found = _find(self._keys, request, "Key")
        numbers = found.value.private.public_key().public_numbers()
        size_bytes = found.value.facts.size_bytes
        key = {
            "kid": f"https://{request.host}/keys/{name}/{found.version}",
            "kty": "EC",
            "key_ops": ["sign", "verify"],
            "crv": found.value.curve_name,
            "x": _base64url(numbers.x.to_bytes(size_bytes, "big")),
            "y": _base64url(numbers.y.to_bytes(size_bytes, "big")),
        }
        attributes = _attributes(found.created_s) | {"enabled": name not in self._disabled}
        return web.json_response({"key": key, "attributes": attributes})

    async def _sign(self, request: web.Request) -> web.Response:
        self._authorise(request, "keys/sign")
        name, found = _find(self._keys, request, "Key")
        algorithm, digest = await _order(request, "value")
        if name in self._disabled:
            message = "Operation sign is not allowed on a disabled key."
            raise _Refusal(403, "Forbidden", message, inner="KeyDisabled")
        signature = found.value.sign(algorithm, digest)
        key_id = f"https://{request.host}/keys/{name}/{found.version}"
        return web.json_response({"kid": key_id, "value": _base64url(signature)})

    async def _verify(self, request: web.Request) -> web.Response:
        self._authorise(request, "keys/verify")
        _, found = _find(self._keys, request, "Key")
        algorithm, digest, signature = await _order(request, "digest", "value")
        return web.json_response({"value": found.value.verify(algorithm, digest, signature)})

    def _authorise(self, request: web.Request, permission: Permission) -> None:
        caller = self._caller(request)
        kind, _, verb = permission.partition("/")
        place = f"{kind}/{request.match_info['name']}"
        is_granted = permission in self._permissions.get(caller, ())
        if not is_granted and not self._assigned(caller, permission, place):
            raise _without_permission(caller, kind, verb)

    def _caller(self, request: web.Request) -> str:
        """The object id of whoever calls with an api-version that is known."""
        version = request.query.get("api-version")
        if not version:
            raise _Refusal(400, "BadParameter", "api-version must be specified")
        if version not in API_VERSIONS:
            message = f"The specified version ({version[:40]}) is not recognized. Consider using the latest."
            raise _Refusal(400, "BadParameter", message)
        port = _port(request)
        known = (loopback_audience(port), f"https://{DOMAIN}:{port}")
        audience = known[(request.url.host or "").endswith(f".{DOMAIN}")]
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        challenge = {
            "WWW-Authenticate": f'Bearer authorization="{self._tokens.authority}", resource="{audience}"'
        }
        if scheme.lower() != "bearer":
            message = "AKV10000: Request is missing a Bearer or PoP token."
            raise _Refusal(401, "Unauthorized", message, headers=challenge)
        try:
            return self._tokens.verify(token, KEY_VAULT_AUDIENCE, *known).principal_id
        except TokenRefused as refusal:
            message = f"The token is refused: {refusal.code}."
            raise _Refusal(401, "Unauthorized", message, headers=challenge) from None


def _without_permission(caller: str, kind: str, verb: str) -> _Refusal:
    message = (
        f"The user, group or application 'oid={caller}' does not have"
        f" {kind} {verb} permission on this key vault."
    )
    return _Refusal(403, "Forbidden", message, inner="AccessDenied")


def loopback_audience(port: int) -> str:
    """The resource that a vault at ``https://127.0.0.1:port`` names in its challenge."""
    return f"https://0.0.1:{port}"


def is_loopback_audience(resource: str) -> bool:
    """Whether some vault of this machine could have named `resource`."""
    return re.fullmatch(r"https://(0\.0\.1|vault\.localhost):[1-9][0-9]{0,4}", resource) is not None


def _port(request: web.Request) -> int:
    # The socket's, not the Host header's: what the client says chooses no audience of another vault.
    if request.transport is None:
        raise _Refusal(400, "BadParameter", "the connection is closed")
    return int(request.transport.get_extra_info("sockname")[1])


def _find(
    versions: Mapping[str, list[_Version[_Value]]], request: web.Request, kind: Literal["Secret", "Key"]
) -> tuple[str, _Version[_Value]]:
    """Returns the object's name and the version in the path; the current one if there is none."""
    name, version = request.match_info["name"], request.match_info.get("version", "")
    for candidate in reversed(versions.get(name, [])):
        if version in ("", candidate.version):
            return name, candidate
    article = f"A {kind.lower()} with (name/id) {name}{'/' + version if version else ''}"
    raise _Refusal(404, f"{kind}NotFound", f"{article} was not found in this key vault.")


async def _order(request: web.Request, *members: str) -> Any:
    """Returns the algorithm that the body names, and the bytes of its ``members``, which are base64url."""
    try:
        body = json.loads(await request.read())
        algorithm, texts = body["alg"], [body[name] for name in members]
        if isinstance(algorithm, str) and all(isinstance(text, str) for text in texts):
            return algorithm, *(
                base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
                for text in texts
            )
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise _Refusal(400, "BadParameter", f"alg and base64url of {', '.join(members)} are expected")


def _secret_of(content: bytes) -> _Secret:
    """The secret that a body describes; what it does not say is as if it were not known here."""
    try:
        body = json.loads(content)
        value, attributes = body["value"], body.get("attributes") or {}
        times = [attributes.get(name) for name in ("nbf", "exp")]
        tags = body.get("tags") or {}
        is_good = (
            isinstance(value, str)
            and len(value) <= _MAX_SECRET_CHARS
            and all(one is None or type(one) is int for one in times)
            and len(tags) <= _MAX_TAGS
        )
        if is_good:
            return _Secret(
                value=value,
                is_enabled=attributes.get("enabled") is not False,
                not_before_s=times[0],
                expires_s=times[1],
                content_type=body.get("contentType"),
                tags=tags,
            )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise _Refusal(400, "BadParameter", "a secret with a value of at most 25 KiB is expected")


def _told(request: web.Request, name: str, found: _Version[_Secret]) -> dict[str, Any]:
    """What is told of a version of a secret, beside its value."""
    secret = found.value
    attributes = _attributes(found.created_s) | {"enabled": secret.is_enabled}
    times = {"nbf": secret.not_before_s, "exp": secret.expires_s}
    told: dict[str, Any] = {
        "id": f"https://{request.host}/secrets/{name}/{found.version}",
        "attributes": attributes | {key: at for key, at in times.items() if at is not None},
    }
    if secret.content_type is not None:
        told["contentType"] = secret.content_type
    return told | ({"tags": dict(secret.tags)} if secret.tags else {})


def _attributes(created_s: int) -> dict[str, object]:
    return {
        "enabled": True,
        "created": created_s,
        "updated": created_s,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    }


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@web.middleware
async def _refusals_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Refusal as refusal:
        return refusal.response()
