"""The client against registries that lie."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from local_cloud.pki import CertificateAuthority
from local_cloud.registry.client import Descriptor, RegistryCallError, RegistryClient
from local_cloud.web import serve
from tests.local_cloud.registry_harness import MANIFEST, digest_of

PASSWORD = "the password"
_Answer = Callable[[web.Request], web.Response]


def _against(folder: Path, answer: _Answer, use: Callable[[RegistryClient], object]) -> list[str]:
    """Runs `use` against a server that gives `answer` to everything; returns the Authorization headers."""
    ca = CertificateAuthority.create(folder)
    seen: list[str] = []

    async def lie(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        await request.read()
        return answer(request)

    async def scenario() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", lie)
        server = await serve(app, ssl_context=ca.server_context("liar"))
        login = f"127.0.0.1:{server.port}"
        with RegistryClient(login, username="admin", password=PASSWORD, ca_file=ca.ca_file) as client:
            try:
                await asyncio.to_thread(use, client)
            finally:
                await server.close()

    with pytest.raises(RegistryCallError) as refused:
        asyncio.run(scenario())
    assert PASSWORD not in str(refused.value)
    return seen


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="https://evil.example/token",service="x"',
        'Bearer realm="http://127.0.0.1:1/token",service="x"',
        "Bearer",
        "Negotiate",
        "",
    ],
)
def test_the_password_goes_nowhere_else(tmp_path: Path, challenge: str) -> None:
    def answer(_request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    assert _against(tmp_path, answer, lambda client: client.digest("app", "1")) == [""]


def test_basic_credentials_are_tried_once(tmp_path: Path) -> None:
    def answer(_request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="registry"'})

    seen = _against(tmp_path, answer, lambda client: client.digest("app", "1"))
    assert [header.partition(" ")[0] for header in seen] == ["", "Basic"]


def test_an_upload_is_not_sent_to_another_host(tmp_path: Path) -> None:
    def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=404)
        return web.Response(status=202, headers={"Location": "https://evil.example/upload"})

    descriptor = Descriptor(media_type="x", digest=digest_of(b"blob"), size_bytes=4)
    seen = _against(tmp_path, answer, lambda client: client.push_blob("app", io.BytesIO(b"blob"), descriptor))
    assert len(seen) == 2


def test_a_manifest_that_is_not_its_digest_is_refused(tmp_path: Path) -> None:
    def answer(_request: web.Request) -> web.Response:
        return web.Response(body=b"{}", content_type=MANIFEST)

    _against(tmp_path, answer, lambda client: client.manifest("app", digest_of(b"another")))


def test_an_endless_manifest_is_refused(tmp_path: Path) -> None:
    def answer(_request: web.Request) -> web.Response:
        return web.Response(body=b" " * 5_000_000, content_type=MANIFEST)

    _against(tmp_path, answer, lambda client: client.manifest("app", "1"))


def test_an_answer_without_its_header_is_refused(tmp_path: Path) -> None:
    _against(tmp_path, lambda _request: web.Response(), lambda client: client.digest("app", "1"))
