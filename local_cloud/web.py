"""A server for one aiohttp application on a loopback port of its own."""

import asyncio
import ssl
from dataclasses import dataclass

from aiohttp import web

HOST = "127.0.0.1"
_SHUTDOWN_S = 2.0
_TURNS_TO_CLOSE = 3  # of the loop: TLS, then the socket beneath it, then the protocol above


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A listening application; `url` has no trailing slash."""

    url: str
    port: int
    runner: web.AppRunner

    async def close(self) -> None:
        """Stops listening and gives requests in flight two seconds to end; idle connections are cut."""
        server = self.runner.server
        transports = [each.transport for each in server.connections if each.transport] if server else []
        await self.runner.cleanup()
        for transport in transports:
            # A TLS connection would wait for its client to say goodbye, and a pooled one does not.
            transport.abort()
        for _ in range(_TURNS_TO_CLOSE):
            await asyncio.sleep(0)


async def serve(app: web.Application, *, ssl_context: ssl.SSLContext | None = None, port: int = 0) -> Server:
    """Serves `app` on 127.0.0.1, on a free port unless one is named.

    There is no access log: query strings here carry signatures.

    Raises:
        OSError: The port is taken.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, ssl_context=ssl_context).start()
    except OSError:
        await runner.cleanup()
        raise
    bound_port = int(runner.addresses[0][1])
    scheme = "https" if ssl_context else "http"
    return Server(url=f"{scheme}://{HOST}:{bound_port}", port=bound_port, runner=runner)
