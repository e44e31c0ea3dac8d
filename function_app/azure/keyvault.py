"""The signing port on Key Vault: a key that signs inside the vault, or a PEM secret.

Needs Key Vault Crypto User on keys, or ``keySigner`` of our own (``infra/roles.json``); on secrets,
Key Vault Secrets User.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import TokenCredential
from azure.keyvault.keys import KeyClient, KeyVaultKey
from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm
from azure.keyvault.secrets import SecretClient
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airgap.errors import AirgapError, Code, ServiceError
from airgap.keys import public_key_from_pem, signer_from_pem
from airgap.signatures import Signature, Signer, SSlibKey
from function_app.azure.errors import service_errors

_ALGORITHMS: Mapping[str, tuple[SignatureAlgorithm, Callable[[bytes], "hashlib._Hash"]]] = {
    "ecdsa-sha2-nistp256": (SignatureAlgorithm.es256, hashlib.sha256),
    "ecdsa-sha2-nistp384": (SignatureAlgorithm.es384, hashlib.sha384),
    "rsassa-pss-sha256": (SignatureAlgorithm.ps256, hashlib.sha256),
}
_CURVES: Mapping[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


class VaultSigner(Signer):
    """A signer with one version of a Key Vault key; the private key never leaves the vault."""

    def __init__(self, key: KeyVaultKey, credential: TokenCredential) -> None:
        self._public_key = _public_key(key)
        self._name = key.name
        self._client = CryptographyClient(key, credential)

    @property
    def public_key(self) -> SSlibKey:
        """The public half of the key, its key id computed as everywhere (:func:`airgap.keys.key_id`)."""
        return self._public_key

    def sign(self, payload: bytes) -> Signature:
        """Have the vault sign the digest of ``payload``.

        Raises:
            ServiceError: ``SERVICE_DENIED``, ``SIGNING_FAILED`` or what else the vault's answer means.
        """
        algorithm, digest = _ALGORITHMS[self._public_key.scheme]
        with service_errors(f"signing with key {self._name}", http_400=Code.SIGNING_FAILED):
            raw = self._client.sign(algorithm, digest(payload).digest()).signature
        if self._public_key.scheme.startswith("ecdsa"):
            raw = _to_der(raw)
        return Signature(self._public_key.keyid, raw.hex())

    @classmethod
    def from_priv_key_uri(cls, *_: object, **__: object) -> Signer:
        """Refuse: the library declares this method, but the vault's address comes from the settings.

        Raises:
            TypeError: always.
        """
        raise TypeError("a vault signer is made by VaultKeys")


class VaultKeys:
    """The port :class:`~function_app.ports.SigningKeys`, its keys named by Key Vault ids."""

    def __init__(self, ids: Sequence[str], credential: TokenCredential) -> None:
        self._ids = tuple(ids)
        self._credential = credential

    def signers(self) -> Sequence[Signer]:
        """See the port."""
        return [self._signer(one) for one in self._ids]

    def _signer(self, key_id: str) -> Signer:
        address = urlsplit(key_id)
        vault = f"https://{address.netloc}"
        _, kind, name, *version = address.path.split("/")
        with service_errors(f"Key Vault {kind}/{name}"):
            try:
                if kind == "secrets":
                    return signer_from_pem(_secret(vault, name, version, self._credential).encode())
                with KeyClient(vault, self._credential) as keys:
                    return VaultSigner(keys.get_key(name, *version), self._credential)
            except ValueError as error:  # the vault's challenge names an audience of another domain
                raise ServiceError(Code.SIGNING_FAILED, f"Key Vault {kind}/{name}: {error}") from None


def read_secret(secret_id: str, credential: TokenCredential) -> str:
    """The value of a secret, by its Key Vault id ``https://VAULT/secrets/NAME``; looked up anew.

    Raises:
        ServiceError: ``SERVICE_DENIED`` without the permission, ``NOT_FOUND`` if there is none,
            ``SIGNING_FAILED`` if the vault asks for a token of another domain.
    """
    address = urlsplit(secret_id)
    _, _, name, *version = address.path.split("/")
    with service_errors(f"Key Vault secrets/{name}"):
        try:
            return _secret(f"https://{address.netloc}", name, version, credential)
        except ValueError as error:  # the vault's challenge names an audience of another domain
            raise ServiceError(Code.SIGNING_FAILED, f"Key Vault secrets/{name}: {error}") from None


def _secret(vault: str, name: str, version: Sequence[str], credential: TokenCredential) -> str:
    with SecretClient(vault, credential) as secrets:
        return secrets.get_secret(name, *version).value or ""


def _public_key(key: KeyVaultKey) -> SSlibKey:
    """The public key of a JSON Web Key, if it is of a kind that our formats accept."""
    web_key: Any = key.key
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | None = None
    if web_key.crv in _CURVES:
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(web_key.x), int.from_bytes(web_key.y), _CURVES[web_key.crv]
        )
        public = numbers.public_key()
    elif web_key.n and web_key.e:
        public = rsa.RSAPublicNumbers(int.from_bytes(web_key.e), int.from_bytes(web_key.n)).public_key()
    if public is None:
        raise ServiceError(Code.SIGNING_FAILED, f"key {key.name} is neither EC P-256, P-384 nor RSA")
    try:
        return public_key_from_pem(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        )
    except AirgapError as error:
        raise ServiceError(Code.SIGNING_FAILED, f"key {key.name}: {error.detail}") from None


def _to_der(raw: bytes) -> bytes:
    """JSON Web Signature's ``r || s`` (RFC 7518 §3.4) as the DER that DSSE's ecosystem uses."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
