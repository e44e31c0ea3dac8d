"""The storage behind the registry: pulls of blobs are sent here, with an address that is a key by itself.

As ACR does it: ``GET /v2/<name>/blobs/<digest>`` answers 307, and the address in ``Location`` carries a
shared access signature, so credentials of the registry have no business here. A client that brings them all
the same is refused in the words of the storage (https://github.com/Azure/acr/issues/217).
"""

import hashlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web

from local_cloud.pki import CertificateAuthority
from local_cloud.registry.addresses import check_digest
from local_cloud.web import Server, serve

# Not the registry's 127.0.0.1: a host is another by its name, not by its port, to clients written in Go.
_HOST = "localhost"
_LIFETIME_S = 20 * 60
_PIECE_BYTES = 256 * 1024
_BOTH = (
    "Authentication information is not given in the correct format. Check the value of Authorization header."
)
_NEITHER = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed "
    "correctly including the signature."
)
_PATH = re.compile(
    r"/[0-9a-f]{16}//docker/registry/v2/blobs/sha256/[0-9a-f]{2}/(?P<digits>[0-9a-f]{64})/data"
)


class ContentHost:
    """A host that gives a blob to whoever has an address made by `address` that has not expired.

    It asks for no role: the registry did that before it handed the address out.
    """

    _server: Server

    def __init__(self, content_path: Callable[[str], Path], clock: Callable[[], float] = time.time) -> None:
        """``content_path`` tells the file of a digest; ``clock`` gives seconds since the epoch."""
        self._content_path = content_path
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._registry = uuid.uuid4().hex

    async def start(self, ca: CertificateAuthority, name: str) -> None:
        """Listens on a port of its own, as the registry ``name``'s storage."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        self._server = await serve(app, ssl_context=ca.server_context(f"content-{name}"))

    async def close(self) -> None:
        """Stops listening."""
        await self._server.close()

    def address(self, digest: str) -> str:
        """The URL at which anybody can get the blob for twenty minutes from now."""
        digits = check_digest(digest).removeprefix("sha256:")
        path = f"/{self._registry[:16]}//docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
        expiry = datetime.fromtimestamp(self._clock() + _LIFETIME_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = {
            "se": expiry,
            "sig": self._signature(path, expiry),
            "sp": "r",
            "spr": "https",
            "sr": "b",
            "sv": "2018-03-28",
            "regid": self._registry,
        }
        return f"https://{_HOST}:{self._server.port}{path}?{urlencode(query)}"

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return _refusal(400, "InvalidAuthenticationInfo", _BOTH)
        found = _PATH.fullmatch(request.path)
        if found is None or not self._is_signed(request.path, request.query):
            return _refusal(403, "AuthenticationFailed", _NEITHER)
        headers = {"Content-Type": "application/octet-stream"}
        return web.FileResponse(
            self._content_path(f"sha256:{found['digits']}"), chunk_size=_PIECE_BYTES, headers=headers
        )

    def _is_signed(self, path: str, query: Mapping[str, str]) -> bool:
        expiry, signature = query.get("se", ""), query.get("sig", "")
        if not hmac.compare_digest(signature.encode(), self._signature(path, expiry).encode()):
            return False
        return datetime.fromisoformat(expiry).timestamp() > self._clock()

    def _signature(self, path: str, expiry: str) -> str:
        return hmac.new(self._key, f"{path}\n{expiry}".encode(), hashlib.sha256).hexdigest()


def _refusal(status: int, code: str, message: str) -> web.Response:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = f'<?xml version="1.0" encoding="utf-8"?>{error}'
    headers = {"x-ms-error-code": code}
    return web.Response(status=status, text=body, content_type="application/xml", headers=headers)
