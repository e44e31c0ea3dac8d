"""What goes through the long line comes out as it was, in both directions, however one of the ends leaves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import pytest

from bench.line import Line, read_line, serve

LINE = Line(rtt_s=0.002, bytes_per_s=100e6)
CONTENT = hashlib.shake_128(b"line").digest(3_000_017)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def through(handler: Handler, use: Handler) -> None:
    """A client at a server, with the line between them."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    line = await serve(LINE, "127.0.0.1", server.sockets[0].getsockname()[1])
    async with server, line:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.sockets[0].getsockname()[1])
        async with asyncio.timeout(20):
            await use(reader, writer)
            writer.close()
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)  # the line closes what it opened


def test_bytes_come_through_in_order_both_ways() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(len(CONTENT)))
        await writer.drain()
        writer.close()

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONTENT)
        assert await reader.readexactly(len(CONTENT)) == CONTENT

    asyncio.run(through(echo, use))


def test_server_that_leaves_ends_the_answer() -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONTENT[:1000])
        await writer.drain()
        writer.close()

    async def use(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert await reader.read() == CONTENT[:1000]

    asyncio.run(through(half, use))


def test_client_that_leaves_is_not_answered_for_ever() -> None:
    left = asyncio.Event()

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(CONTENT)
                await writer.drain()
        except OSError:
            writer.close()
            left.set()

    async def use(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1000)
        writer.transport.abort()
        await left.wait()

    asyncio.run(through(endless, use))


@pytest.mark.parametrize("text", ["", "40", "40,0", "-1,10", "40,10,1", "a,b"])
def test_line_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_line(text)


def test_line_is_told_as_it_was_asked_for() -> None:
    assert str(read_line("40,10")) == "40 ms, 10 MB/s a connection"
