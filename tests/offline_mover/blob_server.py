"""A blob service that answers what it is told to: real HTTPS on loopback, every request on record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local_cloud.pki import CertificateAuthority


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came in; ``body`` is what was sent of it, ``connection`` the client's port."""

    connection: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer; ``length`` is what it says of itself, when that is not the truth."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


def range_of(asked: Asked, content: bytes, etag: str = '"e"') -> Reply:
    """What a storage that holds ``content`` answers to a request for a range of it."""
    first, last = (int(bound) for bound in asked.headers["x-ms-range"].removeprefix("bytes=").split("-"))
    if asked.headers["if-match"] != etag:
        return Reply(status=412, headers={"x-ms-error-code": "ConditionNotMet"})
    if first >= len(content):
        return Reply(status=416, headers={"x-ms-error-code": "InvalidRange"})
    last = min(last, len(content) - 1)
    told = f"bytes {first}-{last}/{len(content)}"
    return Reply(status=206, headers={"ETag": etag, "Content-Range": told}, body=content[first : last + 1])


class BlobServer:
    """``answer`` decides; ``asked`` are the requests so far."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Reply] = lambda _asked: Reply()

    def replies(self, *replies: Reply) -> None:
        """Answer with each in turn, with the last one for ever."""
        left = list(replies)
        self.answer = lambda _asked: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def run_blob_server(ca: CertificateAuthority) -> Iterator[BlobServer]:
    made = BlobServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            asked = Asked(
                connection=self.client_address[1],
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
            )
            made.asked.append(asked)
            if len(body) < size:  # the client broke off: there is nobody to answer
                self.close_connection = True
                return
            reply = made.answer(asked)
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) if reply.length is None else reply.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            if length != len(reply.body):
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that breaks off is part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = ca.server_context("blob-server").wrap_socket(server.socket, server_side=True)
        made.url = f"https://127.0.0.1:{server.server_address[1]}/account"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
