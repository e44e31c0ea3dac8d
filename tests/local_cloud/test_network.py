"""The network of a namespace: whoever is called outside of it is counted, and by name."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local_cloud.demo.namespaces import Namespace, expect_no_calls, namespace
from local_cloud.demo.network import Call, read_call
from local_cloud.demo.screen import DemoError

_NONE = "no network namespaces here"
_CALLER = """
import socket, sys
from contextlib import suppress
from pathlib import Path
from local_cloud.demo.network import CountedNetwork

network = CountedNetwork.set_up(Path(sys.argv[1]))
assert network.calls() == [], network.calls()
for family, kind, address in (
    (socket.AF_INET, socket.SOCK_STREAM, ("203.0.113.7", 8443)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("203.0.113.8", 123)),
    (socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8:1::9", 5353)),
):
    with socket.socket(family, kind) as caller, suppress(BlockingIOError):
        caller.setblocking(False)
        caller.connect(address)
        if kind == socket.SOCK_DGRAM:
            caller.send(b"hello")
with socket.create_server(("127.0.0.1", 0)) as server:  # which is not outside
    socket.create_connection(server.getsockname()).close()
with suppress(socket.gaierror):
    socket.getaddrinfo("telemetry.example", 443)
wanted = {"203.0.113.7", "203.0.113.8", "2001:db8:1::9", "192.0.2.53"}
with network._changed:
    assert network._changed.wait_for(lambda: wanted <= {call.address for call in network._calls}, 10)
print("\\n".join(map(str, network.calls())))
"""


def unshared(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in network and mount namespaces of its own."""
    return subprocess.run(
        [shutil.which("unshare") or "unshare", "--net", "--mount", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def _namespaces() -> None:
    if shutil.which("unshare") is None or unshared("true").returncode:
        pytest.skip(_NONE)


@pytest.mark.usefixtures("_namespaces")
def test_whoever_is_called_outside_is_counted_and_nobody_else(tmp_path: Path) -> None:
    done = unshared(sys.executable, "-c", _CALLER, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "tcp 203.0.113.7 port 8443",
        "udp 192.0.2.53 port 53",
        "udp 2001:db8:1::9 port 5353",
        "udp 203.0.113.8 port 123",
    ]


@pytest.mark.usefixtures("_namespaces")
def test_side_that_fails_says_why_and_ends(tmp_path: Path) -> None:
    async def fail() -> None:
        async with namespace("desk", tmp_path / "desk") as desk:
            await desk.do("pull", transfer_id="0123456789abcdef", medium=str(tmp_path))

    with pytest.raises(DemoError, match="desk: pull: "):
        asyncio.run(fail())


class Leaky(Namespace):
    """A side from which somebody was called."""

    async def do(self, name: str, **arguments: Any) -> Any:
        """Tell of one call."""
        assert (name, arguments) == ("calls", {})
        return [{"protocol": "tcp", "address": "203.0.113.7", "port": 443}]


def test_call_out_of_a_namespace_fails_the_demo() -> None:
    with pytest.raises(DemoError, match=r"source called tcp 203\.0\.113\.7 port 443"):
        asyncio.run(expect_no_calls(Leaky("source", None, None)))  # type: ignore[arg-type]


def ipv4(protocol: int, content: bytes) -> bytes:
    """A packet to 203.0.113.7."""
    return bytes([0x45, *bytes(8), protocol, 0, 0, 192, 0, 2, 2, 203, 0, 113, 7]) + content


@pytest.mark.parametrize(
    ("packet", "call"),
    [
        (ipv4(6, b"\x00\x01\x01\xbb"), Call(protocol="tcp", address="203.0.113.7", port=443)),
        (ipv4(17, b"\x00\x01\x00\x35"), Call(protocol="udp", address="203.0.113.7", port=53)),
        (ipv4(1, b"\x08\x00"), Call(protocol="ping", address="203.0.113.7", port=0)),
        (ipv4(1, b"\x03\x03"), None),  # the kernel's own answer
        (ipv4(2, b"\x16\x00"), None),  # IGMP
        (b"", None),
        (b"\x00\x01", None),
    ],
)
def test_packet_says_whom_it_is_for(packet: bytes, call: Call | None) -> None:
    assert read_call(packet) == call
