"""Public keys of a trust policy, and signers that hold a private key in memory.

Private keys in a vault are other implementations of ``securesystemslib.signer.Signer``: the app has one, and
so
has the mover.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from airgap.errors import Code, OperatorError, PolicyRefusal
from airgap.signatures import CryptoSigner, Key, Signature, SSlibKey, UnverifiedSignatureError

MIN_RSA_BITS = 3072
"""NIST SP 800-57 part 1, table 2: 128 bits of security."""

MAX_PEM_BYTES = 16 * 1024

_EC_SCHEMES: Mapping[str, str] = {"secp256r1": "ecdsa-sha2-nistp256", "secp384r1": "ecdsa-sha2-nistp384"}
_PSS = "rsassa-pss-sha256"
_PSS_PADDING = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=SHA256.digest_size)
SCHEMES = frozenset((*_EC_SCHEMES.values(), "ed25519", _PSS, "ml-dsa-65/1", "ml-dsa-87/1"))
"""Signature schemes accepted, by their securesystemslib names.

``ml-dsa-*/1`` signs ``b"tuf" || 0x01 || SHA-512(message)``, TUF's TAP 21.
"""


def key_id(public_key: PublicKeyTypes) -> str:
    """The key's name in policies and envelopes: hex SHA-256 of its DER SubjectPublicKeyInfo (RFC 5280)."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def public_key_from_pem(pem: str) -> SSlibKey:
    """Read a PEM public key of an accepted kind; its ``keyid`` is computed, and its kind fixes its scheme.

    Raises:
        PolicyRefusal: ``POLICY_MALFORMED`` when it is no PEM public key of an accepted kind and size.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise PolicyRefusal(Code.POLICY_MALFORMED, "a public key is longer than 16 KiB")
    try:
        return _with_scheme(load_pem_public_key(pem.encode("utf-8")))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PolicyRefusal(Code.POLICY_MALFORMED, f"not an accepted public key: {error}") from None


def verify_signature(key: Key, signature: bytes, message: bytes) -> None:
    """Check that ``signature`` is the key's over ``message``, in the one form that the key's scheme has.

    Raises:
        UnverifiedSignatureError: another key made it, or it is over other bytes.
        VerificationError: it could not be checked.
    """
    key.verify_signature(Signature(key.keyid, signature.hex()), message)
    if key.scheme == _PSS:
        # The library takes a salt of any length; RFC 8017 §9.1 advises, and everybody writes, a digest's.
        rsa_key = load_pem_public_key(key.keyval["public"].encode())
        assert isinstance(rsa_key, rsa.RSAPublicKey)  # noqa: S101 - verified with it a line above
        try:
            rsa_key.verify(signature, message, _PSS_PADDING, SHA256())
        except InvalidSignature:
            raise UnverifiedSignatureError("a salt of another length") from None


def signer_from_pem(pem: bytes) -> CryptoSigner:
    """A signer with an unencrypted PKCS#8 private key; the key's text never shows in an error.

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
            return _PSS
        case mldsa.MLDSA65PublicKey():
            return "ml-dsa-65/1"
        case mldsa.MLDSA87PublicKey():
            return "ml-dsa-87/1"
    raise ValueError(f"{type(public_key).__name__} of this kind or size is not accepted")
