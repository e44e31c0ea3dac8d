"""Services that misbehave: a TLS proxy in front of real ones, which follows a script, request by request.

It stands in front of one storage account (:meth:`Proxy.start`), or in the network of a process that is told
of it as its ``HTTPS_PROXY`` (:meth:`Proxy.between`). It also keeps a list of what it was asked, so that a
test can count what was sent twice.
"""

from __future__ import annotations

import http.client
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qs, unquote, urlsplit

from local_cloud.pki import CertificateAuthority

_NOT_PASSED_ON = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})
_STALL_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request. ``blob`` is relative to its container; ``comp`` says which operation of the blob service.

    ``service``: its name, where the proxy stands between.
    """

    service: str
    method: str
    target: str
    container: str
    blob: str
    comp: str
    range: str
    block_id: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response. ``length``: what Content-Length claims, where that is not what is sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    length: int | None = None

    def with_header(self, name: str, value: str) -> Answer:
        """The same, with one header replaced."""
        kept = {key: old for key, old in self.headers.items() if key.lower() != name.lower()}
        return replace(self, headers={**kept, name: value})


class HungUpError(Exception):
    """The connection is to be broken off instead of an answer; ``after`` bytes of it may be sent first."""

    def __init__(self, answer: Answer | None = None, after: int = 0) -> None:
        super().__init__()
        self.answer = answer
        self.after = after


Forward = Callable[[Asked], Answer]
Act = Callable[[Asked, Forward], Answer]


@dataclass(slots=True, kw_only=True)
class Rule:
    """What to do with the requests that match; the first ``skip`` of them pass, then ``times`` are hit."""

    when: Callable[[Asked], bool]
    act: Act
    times: int = 1
    skip: int = 0
    hits: int = 0
    before_body: bool = False
    """The connection breaks while the request's body is still coming in; ``act`` is not asked."""


class Proxy:
    """Listens on loopback; ``url`` stands for the storage account."""

    def __init__(self, server: ThreadingHTTPServer, url: str) -> None:
        self._server = server
        self.url = url
        self.asked: list[Asked] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self.is_over = threading.Event()

    @classmethod
    @contextmanager
    def start(cls, upstream: str, ca: CertificateAuthority) -> Iterator[Self]:
        """A proxy in front of the account at ``upstream``."""
        parts = urlsplit(upstream)
        server = _Server(("127.0.0.1", 0), _Handler)
        server.upstream = (parts.hostname or "", parts.port or 443)
        with cls._serving(server, f"https://127.0.0.1:{server.server_port}{parts.path}", ca) as proxy:
            yield proxy

    @classmethod
    @contextmanager
    def between(cls, services: Mapping[int, str], ca: CertificateAuthority) -> Iterator[Self]:
        """A proxy for whoever has it as ``HTTPS_PROXY``; ``services`` names those on loopback by port."""
        server = _Tunnels(("127.0.0.1", 0), _Tunnel)
        server.services = services
        with cls._serving(server, f"http://127.0.0.1:{server.server_port}", ca) as proxy:
            yield proxy

    @classmethod
    @contextmanager
    def _serving(cls, server: _Server, url: str, ca: CertificateAuthority) -> Iterator[Self]:
        server.context = ca.server_context("faults-proxy")
        server.upstream_context = ssl.create_default_context(cafile=str(ca.ca_file))
        proxy = cls(server, url)
        server.proxy = proxy
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.is_over.set()
            server.shutdown()
            server.server_close()
            thread.join()

    @contextmanager
    def scripted(self, *rules: Rule) -> Iterator[None]:
        """Misbehave within the block."""
        with self._lock:
            self._rules = list(rules)
        try:
            yield
        finally:
            with self._lock:
                self._rules = []

    @contextmanager
    def watched(self) -> Iterator[list[Asked]]:
        """The requests of the block, complete when it ends."""
        asked: list[Asked] = []
        start = len(self.asked)
        try:
            yield asked
        finally:
            asked += self.asked[start:]

    def rule_for(self, asked: Asked) -> Rule | None:
        """Which rule hits this request."""
        with self._lock:
            self.asked.append(replace(asked, body=b""))
            for rule in self._rules:
                if rule.when(asked):
                    if rule.skip:
                        rule.skip -= 1
                    elif rule.hits < rule.times:
                        rule.hits += 1
                        return rule
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    context: ssl.SSLContext
    upstream: tuple[str, int]
    upstream_context: ssl.SSLContext
    proxy: Proxy

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The handshake happens in the connection's own thread, on its first read.
        wrapped = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed: nothing to say."""


class _Tunnels(_Server):
    services: Mapping[int, str]

    def get_request(self) -> tuple[Any, Any]:
        connection, address = socketserver.TCPServer.get_request(self)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address


class _Lines:
    """A connection's incoming side that remembers the last line read from it.

    ``http.server`` takes the end of the connection for the end of the headers (RFC 9112 §3.4, §8: such a
    request is incomplete): a client that is killed while it sends them would have asked for something else.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.last_line = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last_line = self._file.readline(limit)
        return self.last_line

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server
    service = ""

    def setup(self) -> None:
        super().setup()
        self._listen_to(self.rfile)
        self._upstream = http.client.HTTPSConnection(
            *self.server.upstream, context=self.server.upstream_context, timeout=30
        )

    def _listen_to(self, file: Any) -> None:
        self._lines = _Lines(file)
        self.rfile = self._lines  # type: ignore[assignment]  # all of it that http.server uses

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self._upstream.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by http.server
        """Say nothing."""

    def _serve(self) -> None:
        if self._lines.last_line not in {b"\r\n", b"\n"}:
            self.close_connection = True
            return
        size = int(self.headers.get("Content-Length") or 0)
        asked = _read(self.service, self.command, self.path, dict(self.headers.items()))
        rule = self.server.proxy.rule_for(asked)
        if rule is not None and rule.before_body:
            self.rfile.read(size // 2)
            self._hang_up()
            return
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return
        asked = replace(asked, body=body)
        try:
            answer = self._forward(asked) if rule is None else rule.act(asked, self._forward)
        except HungUpError as error:
            if error.answer is not None:
                self._send(error.answer, most=error.after)
            self._hang_up()
        else:
            self._send(answer)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do_PATCH = do_MERGE = _serve

    def _forward(self, asked: Asked) -> Answer:
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in _NOT_PASSED_ON}
        response = self._ask(asked, headers)
        body = response.read()
        kept = {k: v for k, v in response.getheaders() if k.lower() not in _NOT_PASSED_ON}
        length = int(response.getheader("Content-Length") or 0) if asked.method == "HEAD" else None
        return Answer(status=response.status, headers=kept, body=body, length=length)

    def _ask(self, asked: Asked, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        for is_last in (False, True):
            try:
                self._upstream.request(asked.method, asked.target, body=asked.body or None, headers=headers)
                return self._upstream.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError):  # it was idle for too long
                self._upstream.close()
                if is_last:
                    raise
        raise AssertionError

    def _send(self, answer: Answer, *, most: int | None = None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        length = len(answer.body) if answer.length is None else answer.length
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(answer.body if most is None else answer.body[:most])
        self.wfile.flush()
        if self.command != "HEAD" and length != len(answer.body):
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


class _Tunnel(_Handler):
    """A connection that is to go through to a service, and is looked into."""

    server: _Tunnels

    def setup(self) -> None:
        BaseHTTPRequestHandler.setup(self)
        self._listen_to(self.rfile)

    def do_CONNECT(self) -> None:
        """Stand in for the service from here on, by a certificate of the same authority."""
        host, _, port = self.path.rpartition(":")
        self.send_response_only(200)
        self.end_headers()
        self.wfile.flush()
        self.service = self.server.services[int(port)]
        self._upstream = http.client.HTTPSConnection(
            host, int(port), context=self.server.upstream_context, timeout=30
        )
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self._listen_to(self.connection.makefile("rb"))
        self.wfile = self.connection.makefile("wb", -1)
        self.close_connection = False

    def finish(self) -> None:
        if not self.service:
            BaseHTTPRequestHandler.finish(self)
            return
        try:
            super().finish()
        finally:  # also where the client is gone before the last of its answer
            self.connection.close()


def _read(service: str, method: str, target: str, headers: dict[str, str]) -> Asked:
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    segments = unquote(parts.path).split("/", 3)  # "", account, container, blob
    folded = {name.lower(): value for name, value in headers.items()}
    return Asked(
        service=service,
        method=method,
        target=target,
        container=segments[2] if len(segments) > 2 else "",
        blob=segments[3] if len(segments) > 3 else "",
        comp=query.get("comp", ""),
        range=folded.get("x-ms-range", ""),
        block_id=query.get("blockid", ""),
        headers=headers,
        body=b"",
    )


# --- ways to misbehave --------------------------------------------------------------------------------------


def drop(_asked: Asked, _forward: Forward) -> Answer:
    """Take the request and hang up."""
    raise HungUpError


def lose_answer(asked: Asked, forward: Forward) -> Answer:
    """Do it, and hang up before it is known."""
    forward(asked)
    raise HungUpError


def half_an_answer(asked: Asked, forward: Forward) -> Answer:
    """Hang up in the middle of the body."""
    answer = forward(asked)
    raise HungUpError(answer, len(answer.body) // 2)


def stall(_asked: Asked, _forward: Forward) -> Answer:
    """Say nothing for longer than anybody waits."""
    threading.Event().wait(_STALL_S)
    raise HungUpError


def status(code: int, headers: Mapping[str, str] | None = None) -> Act:
    """Answer without doing anything."""
    return lambda _asked, _forward: Answer(status=code, headers=headers or {}, body=b"")


def pretend(code: int) -> Act:
    """Say that it was done, and do nothing."""
    return status(code)


def changed(change: Callable[[Answer], Answer]) -> Act:
    """Do it, and answer something else."""
    return lambda asked, forward: change(forward(asked))


def flipped(answer: Answer) -> Answer:
    """One bit is other."""
    middle = len(answer.body) // 2
    body = bytearray(answer.body)
    body[middle] ^= 0x10
    return replace(answer, body=bytes(body))


def shorter(answer: Answer) -> Answer:
    """Fewer bytes, and honest about it."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def longer(answer: Answer) -> Answer:
    """More bytes than were asked for."""
    return replace(answer, body=answer.body + b"more of them")


def redirected(target: Callable[[str], str]) -> Act:
    """Answer with what is stored somewhere else; ``target`` turns one request target into another."""
    return lambda asked, forward: forward(replace(asked, target=target(asked.target)))
