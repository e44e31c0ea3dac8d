"""The blob port against a scripted storage: what a role that may add blobs, and not write them, is told."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken

from airgap.errors import Code, ServiceError
from function_app.azure.blob import AzureBlobs
from local_cloud.pki import CertificateAuthority
from local_cloud.web import serve

DENIED = (403, {"x-ms-error-code": "AuthorizationPermissionMismatch"})
EXISTS = (409, {"x-ms-error-code": "BlobAlreadyExists"})
MISSING = (404, {"x-ms-error-code": "BlobNotFound"})
CREATED = (201, {"ETag": '"0x1"', "Last-Modified": "Sun, 29 Nov 2026 12:00:00 GMT"})
THERE = (200, {**CREATED[1], "x-ms-blob-type": "BlockBlob", "Content-Length": "1"})


class Credential:
    def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        return AccessToken("a-token", int(time.time()) + 3000)

    def close(self) -> None:
        """Nothing is open."""


class ScriptedStorage:
    """Answers in the order of its script, and notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.ca = CertificateAuthority.create(folder)
        self.script: list[tuple[int, dict[str, str]]] = []
        self.asked: list[tuple[str, str | None]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.headers.get("If-None-Match")))
        status, headers = self.script.pop(0)
        return web.Response(status=status, headers=headers)

    def run(self, use: Callable[[AzureBlobs], None]) -> None:
        async def scenario() -> None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self.answer)
            server = await serve(app, ssl_context=self.ca.server_context("storage"))
            blobs = AzureBlobs(f"{server.url}/account", Credential(), retries=0)
            try:
                await asyncio.to_thread(use, blobs)
            finally:
                blobs.close()
                await server.close()

        asyncio.run(scenario())


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedStorage:
    made = ScriptedStorage(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.ca.ca_file))
    return made


@pytest.mark.parametrize(
    ("script", "is_new"),
    [([CREATED], True), ([EXISTS], False), ([DENIED, THERE], False)],
    ids=["new", "there", "there, and it may not be written to"],
)
def test_blob_is_created_or_was_there(storage: ScriptedStorage, script: list[Any], *, is_new: bool) -> None:
    """Whether Azure looks at the condition or at the role first is written nowhere: both come to the same."""
    storage.script = list(script)
    storage.run(lambda blobs: _require(blobs.create("ledger", "prod/1", b"x") is is_new))
    assert storage.asked[0] == ("PUT", "*")
    assert storage.script == []


def test_blob_that_is_not_there_and_cannot_be_made_is_denied(storage: ScriptedStorage) -> None:
    storage.script = [DENIED, MISSING]

    def use(blobs: AzureBlobs) -> None:
        with pytest.raises(ServiceError) as caught:
            blobs.create("ledger", "prod/1", b"x")
        assert caught.value.code is Code.SERVICE_DENIED

    storage.run(use)
    assert [method for method, _ in storage.asked] == ["PUT", "HEAD"]


def _require(holds: object) -> None:
    assert holds
