"""A certificate authority for one run of the local cloud; its certificates are good for loopback only."""

import ipaddress
import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VALID_FOR = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)


class CertificateAuthority:
    """An authority that certifies servers for ``127.0.0.1``, ``localhost`` and names of vaults below it.

    Its private key never leaves memory. All keys are P-256: a handshake with P-384 takes ten times as much
    processor time. Name constraints keep a client that trusts `ca_file` from trusting the authority for any
    other name.
    """

    ca_file: Path

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._folder = folder
        self._key = key
        self._certificate = certificate
        self.ca_file = folder / "ca.pem"

    @classmethod
    def create(cls, folder: Path) -> "CertificateAuthority":
        """Makes a new authority and writes its certificate to ``folder/ca.pem``."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local cloud CA")])
        constraints = x509.NameConstraints(
            permitted_subtrees=[
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.IPv4Network(f"{LOOPBACK}/32")),
            ],
            excluded_subtrees=None,
        )
        certificate = (
            _certificate(name, key.public_key(), name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(constraints, critical=True)
            .sign(key, hashes.SHA256())
        )
        authority = cls(folder, key, certificate)
        authority.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    def issue(self, name: str) -> tuple[Path, Path]:
        """Writes ``name.pem`` and ``name-key.pem`` (readable by the owner only) and returns both paths.

        Raises:
            ValueError: `name` is not a plain lower-case file name.
        """
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"not a certificate file name: {name!r}")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternatives = x509.SubjectAlternativeName(
            [x509.IPAddress(LOOPBACK), *map(x509.DNSName, ("localhost", "*.vault.localhost"))]
        )
        certificate = (
            _certificate(subject, key.public_key(), self._certificate.subject, self._key.public_key())
            .add_extension(alternatives, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate_file = self._folder / f"{name}.pem"
        key_file = self._folder / f"{name}-key.pem"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_private(
            key_file,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return certificate_file, key_file

    def server_context(self, name: str) -> ssl.SSLContext:
        """Issues a certificate and returns a server-side TLS context (1.2 or newer) that presents it."""
        certificate_file, key_file = self.issue(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate_file, key_file)
        return context


def _certificate(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
