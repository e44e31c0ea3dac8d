"""Public keys of a trust policy, and signers that hold a private key in memory.

Private keys in a vault are another implementation of ``securesystemslib.signer.Signer``; see
``function_app/azure_keyvault.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from airgap.errors import Code, OperatorError, PolicyRefusal

MIN_RSA_BITS = 3072
"""NIST SP 800-57 part 1, table 2: 128 bits of security."""

MAX_PEM_BYTES = 16 * 1024

_EC_SCHEMES: Mapping[str, str] = {"secp256r1": "ecdsa-sha2-nistp256", "secp384r1": "ecdsa-sha2-nistp384"}
SCHEMES = frozenset(
    (*_EC_SCHEMES.values(), "ed25519", "rsassa-pss-sha256", "ml-dsa-65/1", "ml-dsa-87/1"),
)
"""Signature schemes accepted, by their securesystemslib names.

``ml-dsa-*/1`` signs ``b"tuf" || 0x01 || SHA-512(message)``, TUF's TAP 21.
"""


def key_id(public_key: PublicKeyTypes) -> str:
    """The key's name in policies and envelopes: hex SHA-256 of its DER SubjectPublicKeyInfo (RFC 5280)."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def public_key_from_pem(pem: str) -> SSlibKey:
    """A public key of an accepted kind, its ``keyid`` computed, its scheme fixed by its kind.

    Raises:
        PolicyRefusal: ``POLICY_MALFORMED`` when it is no PEM public key of an accepted kind and size.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise PolicyRefusal(Code.POLICY_MALFORMED, "a public key is longer than 16 KiB")
    try:
        return _with_scheme(load_pem_public_key(pem.encode("utf-8")))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PolicyRefusal(Code.POLICY_MALFORMED, f"not an accepted public key: {error}") from None


def signer_from_pem(pem: bytes) -> CryptoSigner:
    """A signer for an unencrypted PKCS#8 private key; the key's text never shows in an error.

    Raises:
        OperatorError: ``SETTING_INVALID`` when it is no private key of an accepted kind and size.
    """
    try:
        private_key: PrivateKeyTypes = load_pem_private_key(pem, password=None)
        return CryptoSigner(private_key, _with_scheme(private_key.public_key()))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise OperatorError(
            Code.SETTING_INVALID, "the signing key is not an unencrypted PKCS#8 PEM of an accepted kind"
        ) from None


def _with_scheme(public_key: PublicKeyTypes) -> SSlibKey:
    return SSlibKey.from_crypto(public_key, keyid=key_id(public_key), scheme=_scheme_of(public_key))


def _scheme_of(public_key: PublicKeyTypes) -> str:
    """One scheme for each kind of key, so that nobody can choose a weaker one for it."""
    match public_key:
        case ec.EllipticCurvePublicKey(curve=curve) if curve.name in _EC_SCHEMES:
            return _EC_SCHEMES[curve.name]
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case rsa.RSAPublicKey(key_size=bits) if bits >= MIN_RSA_BITS:
            return "rsassa-pss-sha256"
        case mldsa.MLDSA65PublicKey():
            return "ml-dsa-65/1"
        case mldsa.MLDSA87PublicKey():
            return "ml-dsa-87/1"
    raise ValueError(f"{type(public_key).__name__} of this kind or size is not accepted")
