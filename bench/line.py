"""A long line on loopback: a proxy with a round trip, and a limit for each connection that goes through.

    python -m bench.line --to HOST:PORT --rtt-ms 40 --mb-per-s 10

What comes is kept back for half a round trip in each direction and let through at the limit; a new connection
costs a round trip first, as its handshake would. No packets are lost, so congestion control is not in it. The
proxy is a process of its own and takes its share of the processor: on two cores it lets 200 to 300 MB/s
through in all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
_PIECE_BYTES = 64 * 1024
_BUFFER_BYTES = 256 * 1024
"""Besides what is on its way: as a socket's buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A round trip in seconds, and how many bytes a second each connection lets through in each direction."""

    rtt_s: float
    bytes_per_s: float

    @property
    def on_its_way_bytes(self) -> int:
        """The number of bytes that are taken in before any of them has arrived."""
        return round(self.bytes_per_s * self.rtt_s / 2) + _BUFFER_BYTES

    def __str__(self) -> str:
        return f"{1000 * self.rtt_s:g} ms, {self.bytes_per_s / 1e6:g} MB/s a connection"


def read_line(text: str) -> Line:
    """A line from ``RTT_MS,MB_PER_S``.

    Raises:
        ValueError: it is none.
    """
    rtt_ms, mb_per_s = (float(word) for word in text.split(","))
    if rtt_ms < 0 or mb_per_s <= 0:
        raise ValueError(text)
    return Line(rtt_s=rtt_ms / 1000, bytes_per_s=mb_per_s * 1e6)


@contextmanager
def run_line(url: str, line: Line) -> Iterator[str]:
    """Put a line before a server; gives its URL by way of it."""
    parts = urlsplit(url)
    words = (
        "--to",
        parts.netloc,
        "--rtt-ms",
        str(1000 * line.rtt_s),
        "--mb-per-s",
        str(line.bytes_per_s / 1e6),
    )
    with subprocess.Popen(
        [sys.executable, "-m", "bench.line", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        try:
            port = int(child.stdout.readline())
            yield parts._replace(netloc=f"127.0.0.1:{port}").geturl()
        finally:
            child.terminate()


async def serve(line: Line, host: str, port: int) -> asyncio.Server:
    """Take connections on a free port of loopback and let them through to ``host``."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await asyncio.sleep(line.rtt_s)
            there, back = await asyncio.open_connection(host, port, limit=_PIECE_BYTES)
            await asyncio.gather(_carry(line, reader, back), _carry(line, there, writer))

    return await asyncio.start_server(connected, "127.0.0.1", 0, limit=_PIECE_BYTES)


async def _carry(line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let one direction through, until it ends or breaks."""
    way = _Way(line, writer)
    delivery = asyncio.ensure_future(way.deliver())
    try:
        while (piece := await reader.read(_PIECE_BYTES)) and await way.take(piece):
            pass
        await way.end()
        await delivery
    except OSError:
        pass
    finally:
        delivery.cancel()
        writer.close()


class _Way:
    """What is on its way in one direction of a connection, each piece with the time at which it is due."""

    def __init__(self, line: Line, writer: asyncio.StreamWriter) -> None:
        self._line = line
        self._writer = writer
        self._clock = asyncio.get_running_loop().time
        self._free_s = 0.0
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._is_broken = False
        self._changed = asyncio.Condition()

    async def take(self, piece: bytes) -> bool:
        """Send a piece off once there is room for it; whether the other end still takes what arrives."""
        self._free_s = max(self._free_s, self._clock()) + len(piece) / self._line.bytes_per_s
        async with self._changed:
            await self._changed.wait_for(lambda: self._bytes < self._line.on_its_way_bytes or self._is_broken)
            self._bytes += len(piece)
            self._pieces.append((self._free_s + self._line.rtt_s / 2, piece))
            self._changed.notify_all()
        return not self._is_broken

    async def end(self) -> None:
        """Nothing more comes."""
        async with self._changed:
            self._pieces.append((0.0, b""))
            self._changed.notify_all()

    async def deliver(self) -> None:
        """Hand on each piece when it is due."""
        try:
            while piece := await self._next():
                self._writer.write(piece)
                await self._writer.drain()
                async with self._changed:
                    self._bytes -= len(piece)
                    self._changed.notify_all()
        except OSError:
            async with self._changed:
                self._is_broken = True
                self._changed.notify_all()

    async def _next(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._pieces)
            due_s, piece = self._pieces.popleft()
        await asyncio.sleep(max(0.0, due_s - self._clock()))
        return piece


async def _run(line: Line, host: str, port: int) -> None:
    server = await serve(line, host, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Let through until it is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--rtt-ms", type=float, required=True)
    parser.add_argument("--mb-per-s", type=float, required=True)
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    line = Line(rtt_s=options.rtt_ms / 1000, bytes_per_s=options.mb_per_s * 1e6)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(line, host, int(port)))


if __name__ == "__main__":
    main()
