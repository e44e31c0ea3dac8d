"""A person's key in Key Vault: its public half is fetched, and digests are sent there to be signed.

Two requests of its REST interface (https://learn.microsoft.com/rest/api/keyvault/keys) by azure-core's public
pipeline, for whoever :func:`~offline_mover.storage.signing_in.signed_in_identity` finds. Needs Key Vault
Crypto User on the key. The vault is believed nothing: what it signs is verified by the public half that it
gave, and whether that is a key that counts, the trust policy says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import requests
from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airgap import __version__
from airgap.errors import AirgapError, Code, OperatorError, ServiceError
from airgap.keys import public_key_from_pem, verify_signature
from airgap.signatures import Signature, Signer, SSlibKey, UnverifiedSignatureError
from blob_wire.wire import NETWORK_ERRORS, read_capped
from offline_mover.storage.blob_answers import network_meaning
from offline_mover.storage.signing_in import signed_in_identity

_API_VERSION = "7.4"
_ADDRESS = re.compile(
    r"https://(?P<host>[0-9A-Za-z.-]{1,253}(?::[0-9]{1,5})?)/keys/(?P<name>[0-9A-Za-z-]{1,127})"
    r"(?:/(?P<version>[0-9A-Za-z]{1,64}))?/?"
)
_KEY_VAULT = re.compile(
    r"[0-9a-z-]{1,127}\.(?:vault|managedhsm)\.(?:azure\.net|azure\.cn|usgovcloudapi\.net)", re.IGNORECASE
)
_VERSION = re.compile(r"[0-9A-Za-z]{1,64}")
_TENANT = re.compile(r'\bauthorization="?https://[^/\s"]+/([0-9A-Za-z.-]{1,128})[/\s",]')
_MAX_ANSWER_BYTES = 64 * 1024
_CONNECT_TIMEOUT_S = 20
_READ_TIMEOUT_S = 60

_CURVES: Mapping[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
_ALGORITHMS: Mapping[str, tuple[str, Callable[[bytes], hashlib._Hash]]] = {
    "ecdsa-sha2-nistp256": ("ES256", hashlib.sha256),
    "ecdsa-sha2-nistp384": ("ES384", hashlib.sha384),
    "rsassa-pss-sha256": ("PS256", hashlib.sha256),
}
"""What the vault calls the one scheme of each kind of key (:mod:`airgap.keys`), and the digest it signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAddress:
    """The address of a key, ``https://<vault>/keys/<name>``, perhaps with a ``/<version>``."""

    host: str
    name: str
    version: str | None

    @classmethod
    def read(cls, text: str, what: str, *, token_host: str | None) -> Self:
        """Read the address of a key in a vault to which whoever is signed in may show a token.

        Args:
            text: the address as it was typed.
            what: the option that has it, for messages.
            token_host: a host and port besides Azure's own vaults that a sign-in may be shown to.

        Raises:
            OperatorError: ``USAGE``: the text is no such address; or its host is no vault of a cloud that is
                known, nor ``token_host``. A token of whoever is signed in is good for every vault of theirs.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise OperatorError(Code.USAGE, f"{what}: https://VAULT/keys/NAME, perhaps with /VERSION")
        host = found["host"].lower()
        if not _KEY_VAULT.fullmatch(host) and (token_host is None or host != token_host.lower()):
            raise OperatorError(
                Code.USAGE,
                f"{what}: {host} is no vault of a cloud that this tool knows, so your Azure sign-in is not "
                f"shown to it; give --token-host {host} if you trust it with all your vaults",
            )
        return cls(host=host, name=found["name"], version=found["version"])

    @property
    def audience(self) -> str:
        """The audience of tokens for this vault: the domain that the vaults of its cloud share."""
        return f"https://{self.host.partition('.')[2]}"

    def __str__(self) -> str:
        """The address, as it is typed."""
        return f"https://{self.host}/keys/{self.name}" + (f"/{self.version}" if self.version else "")


class VaultSigner(Signer):
    """A signer with one version of a key in the vault; the private half never leaves the vault."""

    def __init__(self, vault: _Vault, public_key: SSlibKey, version: str) -> None:
        self._vault = vault
        self._public_key = public_key
        self._version = version

    @property
    def public_key(self) -> SSlibKey:
        """The public half of the key, its key id computed as everywhere (:func:`airgap.keys.key_id`)."""
        return self._public_key

    def sign(self, payload: bytes) -> Signature:
        """Have the digest of ``payload`` signed, and verify what comes back before anybody uses it.

        Raises:
            ServiceError: ``SIGNING_FAILED``: the vault does not sign with it, or what came back is not the
                key's signature; ``SERVICE_DENIED``, ``NOT_FOUND`` or what else its answer means.
        """
        algorithm, digest = _ALGORITHMS[self._public_key.scheme]
        value = base64.urlsafe_b64encode(digest(payload).digest()).rstrip(b"=").decode()
        answer = self._vault.ask("POST", f"/{self._version}/sign", {"alg": algorithm, "value": value})
        raw = _bytes_of(answer, "value")
        signature = _to_der(raw) if algorithm.startswith("ES") else raw
        try:
            verify_signature(self._public_key, signature, payload)
        except UnverifiedSignatureError:
            raise ServiceError(
                Code.SIGNING_FAILED, f"{self._vault.address}: what the vault signed, its key does not verify"
            ) from None
        return Signature(self._public_key.keyid, signature.hex())

    @classmethod
    def from_priv_key_uri(cls, *_: object, **__: object) -> Signer:
        """Refuse, as only :func:`open_vault_key` makes a vault's signer; the library declares this method.

        Raises:
            TypeError: always.
        """
        raise TypeError("a vault signer is made by open_vault_key")


def open_vault_key(address: KeyAddress, *, credential: TokenCredential | None = None) -> VaultSigner:
    """A signer for the key at ``address``, pinned to the version that it has now.

    Args:
        address: the address of the key.
        credential: the credential to use in place of the identity that is signed in.

    Raises:
        ServiceError: ``NOT_FOUND``: the vault has no such key; ``SERVICE_DENIED``: it may not be used, or not
            by whoever is signed in; ``SIGNING_FAILED``: it is of no kind that is accepted;
            ``CREDENTIAL_EXPIRED``: nobody is signed in; ``SERVICE_UNEXPECTED``: its answer is about no
            key, or another one; or it could not be asked.
    """
    vault = _Vault(address, credential or signed_in_identity())
    found = vault.ask("GET", f"/{address.version}" if address.version else "")
    key, attributes = found.get("key"), found.get("attributes")
    if not isinstance(key, dict):
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{address}: the vault's answer has no key")
    if isinstance(attributes, dict) and attributes.get("enabled") is False:
        raise vault.disabled()
    version = str(key.get("kid", "")).rpartition("/")[2]
    if not _VERSION.fullmatch(version) or address.version not in (None, version):
        raise ServiceError(Code.SERVICE_UNEXPECTED, f"{address}: the vault answered about another version")
    return VaultSigner(vault, _public_key(key, address), version)


class _Vault:
    """The requests about one key; nothing is sent twice but after a 401, and no redirect is followed."""

    def __init__(self, address: KeyAddress, credential: TokenCredential) -> None:
        session = requests.Session()
        session.auth = _leave_as_is
        self.address = address
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            f"https://{address.host}",
            policies=[_IdentityPolicy(credential, f"{address.audience}/.default")],
            transport=RequestsTransport(
                session=session, connection_timeout=_CONNECT_TIMEOUT_S, read_timeout=_READ_TIMEOUT_S
            ),
        )

    def ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The vault's answer; raises as :func:`open_vault_key`."""
        request = HttpRequest(
            method,
            f"https://{self.address.host}/keys/{self.address.name}{path}?api-version={_API_VERSION}",
            headers={"User-Agent": f"offline-mover/{__version__}", "Accept-Encoding": "identity"},
            json=body,
        )
        try:
            answer = self._client.send_request(request, stream=True)
            raw = read_capped(answer, str(self.address), max_bytes=_MAX_ANSWER_BYTES)
        except ClientAuthenticationError:
            raise ServiceError(
                Code.CREDENTIAL_EXPIRED, f"{self.address}: nobody is signed in to Azure: run az login"
            ) from None
        except NETWORK_ERRORS as error:
            raise network_meaning(error, self.address.host) from None
        told = _object(raw)
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP
            raise self._refusal(answer.status_code, _words_of(told))
        return told

    def disabled(self) -> AirgapError:
        """The error for a key that is switched off."""
        return self._denied(
            "the key is disabled",
            f"Enable it: az keyvault key set-attributes --id {self.address} --enabled true; or take another.",
        )

    def _refusal(self, status: int, said: frozenset[str]) -> AirgapError:
        told = f"{self.address}: status {status} {' '.join(sorted(said))}".rstrip()
        match status:
            case 401:
                return ServiceError(Code.CREDENTIAL_EXPIRED, f"{told}: sign in again: az login")
            case 403:
                return self._forbidden(said)
            case 404:
                error = ServiceError(Code.NOT_FOUND, f"the vault has no key {self.address}")
                vault = self.address.host.partition(".")[0]
                error.remedy = f"See which it has: az keyvault key list --vault-name {vault} -o table"
                return error
            case 429:
                return ServiceError(Code.SERVICE_THROTTLED, told)
            case 400:
                return ServiceError(Code.SIGNING_FAILED, told)
        return ServiceError(Code.SERVICE_UNEXPECTED, told)

    def _forbidden(self, said: frozenset[str]) -> AirgapError:
        if "KeyDisabled" in said:
            return self.disabled()
        if said & {"KeyExpired", "KeyNotYetValid"}:
            return self._denied(
                "the key is not in force now",
                f"See its dates: az keyvault key show --id {self.address} --query attributes",
            )
        if "ForbiddenByFirewall" in said:
            return self._denied(
                "the vault's firewall does not let this machine in",
                "Sign where the vault can be reached, or have this address added to its network rules.",
            )
        vault = self.address.host.partition(".")[0]
        return self._denied(
            "whoever is signed in may not use it",
            'Have the role given: az role assignment create --role "Key Vault Crypto User" --assignee YOU '
            f'--scope "$(az keyvault show --name {vault} --query id -o tsv)/keys/{self.address.name}"',
        )

    def _denied(self, why: str, remedy: str) -> AirgapError:
        error = ServiceError(Code.SERVICE_DENIED, f"{self.address}: {why}")
        error.remedy = remedy
        return error


class _IdentityPolicy(BearerTokenCredentialPolicy[HttpRequest, HttpResponse]):
    """A token for each request; after a 401 once more, with one of the tenant that the vault names."""

    def __init__(self, credential: TokenCredential, scope: str) -> None:
        super().__init__(credential, scope)
        self._scope = scope

    def on_challenge(
        self, request: PipelineRequest[HttpRequest], response: PipelineResponse[HttpRequest, HttpResponse]
    ) -> bool:
        answer = response.http_response
        found = _TENANT.search(answer.headers.get("WWW-Authenticate", "") + ",")
        answer.close()
        self.authorize_request(request, self._scope, **({} if found is None else {"tenant_id": found[1]}))
        return True


def _leave_as_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from replacing our credential by one of the person's ``.netrc``."""
    return request


def _public_key(key: Mapping[str, Any], address: KeyAddress) -> SSlibKey:
    """The public key of a JSON Web Key (RFC 7517, RFC 7518 §6), if it is of a kind that is accepted."""
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    try:
        match key.get("kty"), key.get("crv"):
            case (("EC" | "EC-HSM"), str(curve)) if curve in _CURVES:
                x, y = (int.from_bytes(_bytes_of(key, name)) for name in "xy")
                public = ec.EllipticCurvePublicNumbers(x, y, _CURVES[curve]).public_key()
            case (("RSA" | "RSA-HSM"), _):
                n, e = (int.from_bytes(_bytes_of(key, name)) for name in "ne")
                public = rsa.RSAPublicNumbers(e, n).public_key()
            case _:
                raise ServiceError(Code.SIGNING_FAILED, f"{address} is neither EC P-256, P-384 nor RSA")
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        return public_key_from_pem(pem)
    except ValueError:
        raise ServiceError(Code.SIGNING_FAILED, f"{address}: the vault gave no public key") from None
    except AirgapError as error:
        raise ServiceError(Code.SIGNING_FAILED, f"{address}: {error.detail}") from None


def _bytes_of(value: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a member in base64url."""
    text = value.get(name)
    try:
        if isinstance(text, str) and text:
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        pass
    raise ServiceError(Code.SERVICE_UNEXPECTED, f"the vault's answer has no {name}")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _words_of(answer: Mapping[str, Any]) -> frozenset[str]:
    """The codes of an error, letters only, so that nothing else can hide in them."""
    words: list[object] = []
    error: object = answer.get("error")
    for _ in range(3):
        if not isinstance(error, dict):
            break
        words.append(error.get("code"))
        error = error.get("innererror")
    return frozenset(word for word in words if isinstance(word, str) and word.isascii() and word.isalnum())


def _to_der(raw: bytes) -> bytes:
    """JSON Web Signature's ``r || s`` (RFC 7518 §3.4) as the DER that DSSE's ecosystem uses."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
