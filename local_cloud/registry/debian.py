"""The other store: Debian's docker-registry as a child, reached by a socket that only this user may open.

It has no referrers API and answers 404 there, so clients fall back to the ``sha256-<hex>`` tag, as the
OCI specification tells them to.
"""

import asyncio
import json
import secrets
import shutil
import tempfile
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web
from multidict import CIMultiDict
from yarl import URL

from local_cloud.registry.addresses import Target
from local_cloud.registry.errors import RegistryError
from local_cloud.registry.storage import forget_repository

BINARY = "docker-registry"
_CONFIG = "config.json"
_SOCKET = "socket"
_READY_S = 20.0
_POLL_S = 0.05
_STOP_S = 5.0
_PIECE_BYTES = 256 * 1024
_ORIGIN = URL("http://docker-registry")
_MAX_CONNECTIONS = 64
# Which of the headers pass: those of the distribution protocol. Credentials, above all, do not.
_REQUEST_HEADERS = ("Accept", "Content-Type", "Content-Length", "Content-Range", "Range", "If-None-Match")
_RESPONSE_HEADERS = (
    "Accept-Ranges",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Docker-Content-Digest",
    "Docker-Distribution-Api-Version",
    "Docker-Upload-UUID",
    "ETag",
    "Link",
    "Location",
    "Range",
)


class DebianStore:
    """A store that passes authorised requests on to the child, streaming both ways."""

    label = "docker-registry"

    def __init__(
        self, child: asyncio.subprocess.Process, session: ClientSession, private: Path, folder: Path
    ) -> None:
        self._repositories = folder / "docker/registry/v2/repositories"
        self._blobs = folder / "docker/registry/v2/blobs/sha256"
        self._child = child
        self._session = session
        self._private = private

    @classmethod
    async def start(cls, folder: Path) -> "DebianStore":
        """Starts the child on `folder` and waits until it answers.

        Raises:
            RuntimeError: It ended, or did not answer within 20 seconds; its log is in `folder`.
        """
        # Not in `folder`: a socket's path may have about a hundred characters.
        private = Path(tempfile.mkdtemp(prefix="registry-"))
        log_file = _prepare(folder, private)
        with log_file.open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                *_command(private), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        session = ClientSession(
            connector=UnixConnector(str(private / _SOCKET), limit=_MAX_CONNECTIONS),
            timeout=ClientTimeout(total=None, sock_connect=10, sock_read=120),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        store = cls(child, session, private, folder)
        try:
            await asyncio.wait_for(store._answers(), _READY_S)
        except (RuntimeError, TimeoutError):
            await store.close()
            raise RuntimeError(f"docker-registry does not answer; see {log_file}") from None
        except asyncio.CancelledError:
            await store.close()
            raise
        return store

    async def answer(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Passes `request` on, to the path that `target` stands for, and its answer back.

        Raises:
            RegistryError: UNAVAILABLE if the child does not answer.
        """
        url = _ORIGIN.with_path(target.path).with_query(dict(request.query))
        headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
        body = request.content.iter_chunked(_PIECE_BYTES) if request.can_read_body else None
        try:
            answer = await self._session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            )
        except (ClientError, TimeoutError):
            raise RegistryError("UNAVAILABLE", "the registry's store does not answer") from None
        async with answer:
            passed = CIMultiDict(
                (name, answer.headers[name]) for name in _RESPONSE_HEADERS if name in answer.headers
            )
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            try:
                async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                    await response.write(piece)
            except (ClientError, TimeoutError):
                # What was announced will not come: cutting the connection is the way left to say so.
                if request.transport:
                    request.transport.abort()
            return response

    def tag_file(self, name: str, tag: str) -> Path:
        """The path of the file with a tag's digest, whether it is there or not."""
        return self._repositories / name / "_manifests/tags" / tag / "current/link"

    def tag_names(self, name: str) -> list[str]:
        """The tags of a repository, in order."""
        links = (self._repositories / name / "_manifests/tags").glob("*/current/link")
        return sorted(link.parent.parent.name for link in links)

    def manifests(self, name: str) -> list[str]:
        """The digests of a repository's manifests, in order; one that was deleted leaves an empty folder."""
        revisions = self._repositories / name / "_manifests/revisions/sha256"
        return sorted(f"sha256:{link.parent.name}" for link in revisions.glob("*/link"))

    def repositories(self) -> list[str]:
        """The repositories that hold a manifest, in order."""
        folders = self._repositories.rglob("_manifests")
        names = (str(folder.parent.relative_to(self._repositories)) for folder in folders)
        return sorted(name for name in names if self.manifests(name))

    def manifest_file(self, name: str, digest: str) -> Path:
        """The path of the link to a manifest, whether it is there or not."""
        return self._repositories / name / "_manifests/revisions/sha256" / digest.partition(":")[2] / "link"

    def content_path(self, digest: str) -> Path:
        """The path of the content with a digest, whether it is there or not."""
        digits = digest.partition(":")[2]
        return self._blobs / digits[:2] / digits / "data"

    def delete_repository(self, name: str) -> None:
        """Forgets a repository; docker-registry, which has no such call, keeps nothing of it in memory."""
        forget_repository(self._repositories / name)

    async def close(self) -> None:
        """End the child: it is asked first, and after five seconds made to."""
        await self._session.close()
        if self._child.returncode is None:
            self._child.terminate()
            try:
                await asyncio.wait_for(self._child.wait(), _STOP_S)
            except TimeoutError:
                self._child.kill()
                await self._child.wait()
        shutil.rmtree(self._private, ignore_errors=True)

    async def _answers(self) -> None:
        while self._child.returncode is None:
            try:
                async with self._session.get(_ORIGIN / "v2/"):
                    return
            except ClientError:
                await asyncio.sleep(_POLL_S)
        raise RuntimeError("the child ended")


def is_installed() -> bool:
    """Whether docker-registry is on the PATH."""
    return shutil.which(BINARY) is not None


def _command(private: Path) -> list[str]:
    serve = [BINARY, "serve", str(private / _CONFIG)]
    # A parent that is killed cannot end its child; the kernel can.
    return ["setpriv", "--pdeathsig", "TERM", *serve] if shutil.which("setpriv") else serve


def _prepare(folder: Path, private: Path) -> Path:
    """Makes `folder` and the configuration (JSON, because that is YAML as well); returns the log's path."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}, "delete": {"enabled": True}},
        "http": {
            "net": "unix",
            "addr": str(private / _SOCKET),
            "relativeurls": True,
            "secret": secrets.token_urlsafe(32),
        },
    }
    (private / _CONFIG).write_text(json.dumps(config))
    return folder / "docker-registry.log"
