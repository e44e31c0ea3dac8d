import asyncio
import ssl
import stat
from pathlib import Path

import pytest
import requests
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from local_cloud.pki import CertificateAuthority
from local_cloud.web import serve


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def _app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", _hello)
    return app


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_client_that_trusts_the_authority_is_served(tmp_path: Path, host: str) -> None:
    ca = CertificateAuthority.create(tmp_path)

    async def scenario() -> str:
        server = await serve(_app(), ssl_context=ca.server_context("web"))
        try:
            answer = await asyncio.to_thread(
                requests.get, f"https://{host}:{server.port}/", verify=str(ca.ca_file), timeout=10
            )
            return answer.text
        finally:
            await server.close()

    assert asyncio.run(scenario()) == "hello"


def test_a_server_certificate_from_another_authority_is_refused(tmp_path: Path) -> None:
    ours = CertificateAuthority.create(tmp_path / "ours")
    theirs = CertificateAuthority.create(tmp_path / "theirs")

    async def scenario() -> None:
        server = await serve(_app(), ssl_context=theirs.server_context("web"))
        try:
            await asyncio.to_thread(requests.get, server.url, verify=str(ours.ca_file), timeout=10)
        finally:
            await server.close()

    with pytest.raises(requests.exceptions.SSLError):
        asyncio.run(scenario())


def test_a_strict_client_accepts_the_chain(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path)
    context = ssl.create_default_context(cafile=str(ca.ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    async def scenario() -> None:
        server = await serve(_app(), ssl_context=ca.server_context("web"))
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
            writer.close()
            await writer.wait_closed()
        finally:
            await server.close()

    asyncio.run(scenario())


def test_the_authority_can_speak_for_loopback_only(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path)
    certificate = x509.load_pem_x509_certificate(ca.ca_file.read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    names = {str(name.value) for name in constraints.value.permitted_subtrees or ()}
    assert constraints.critical
    assert names == {"localhost", "127.0.0.1/32"}


def test_keys_are_p256_and_private(tmp_path: Path) -> None:
    certificate_file, key_file = CertificateAuthority.create(tmp_path).issue("web")
    public_key = x509.load_pem_x509_certificate(certificate_file.read_bytes()).public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert public_key.curve.name == "secp256r1"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"ca.pem", "web.pem", "web-key.pem"}  # not the CA's


@pytest.mark.parametrize("name", ["../web", "a/b", "", "Web", "a" * 64, "web\n"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a certificate file name"):
        CertificateAuthority.create(tmp_path).issue(name)


def test_a_taken_port_is_reported(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path)

    async def scenario() -> None:
        server = await serve(_app(), ssl_context=ca.server_context("web"))
        try:
            with pytest.raises(OSError, match="in use"):
                await serve(_app(), port=server.port)
        finally:
            await server.close()

    asyncio.run(scenario())
