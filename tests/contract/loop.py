"""Servers of the local cloud that live as long as a module's tests, driven from synchronous code."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from local_cloud.web import Server, serve
from tests.local_cloud.acr_transfer_harness import Loop


@contextmanager
def running_loop() -> Iterator[Loop]:
    """An event loop in a thread of its own."""
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()


@contextmanager
def served(loop: Loop, app: web.Application, context: ssl.SSLContext) -> Iterator[str]:
    """The address of an app while it is served."""

    async def start() -> Server:
        return await serve(app, ssl_context=context)

    server = loop.run(start())
    try:
        yield server.url
    finally:
        loop.run(server.close())
        loop.run(asyncio.sleep(0))
