"""The network of a namespace: a loopback device, and a way out at which calls are only counted.

Every packet that would leave goes into a TUN device whose other end is read here, so that it is known who was
called; nobody ever answers. Names are asked of an address behind that device, so that a look-up counts, too.
Linux only, in a network and a mount namespace of the process's own (``unshare --net --mount``).
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_DEVICE = "outside"
_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
"""``IFF_TUN | IFF_NO_PI``: https://www.kernel.org/doc/html/latest/networking/tuntap.html"""

_NAME_SERVER = "192.0.2.53"
_SOMEBODY = "198.51.100.1"
"""Addresses for documentation (RFC 5737): nobody has them."""

_MAX_PACKET_BYTES = 65_536
_MAX_CALLS = 1000
_COUNTED_S = 10.0
_ECHO_REQUESTS = {1: 8, 58: 128}
"""ICMP and ICMPv6: the other kinds are the kernel's own, such as the search for neighbours."""

_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Call:
    """A call of somebody outside that a process of the namespace tried."""

    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.address} port {self.port}"


@dataclass(slots=True)
class CountedNetwork:
    """A network that counts the packets on its way out, until the process ends."""

    device: int
    _calls: dict[Call, int] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @classmethod
    def set_up(cls, folder: Path) -> CountedNetwork:
        """Make the devices of this namespace, and see for oneself that they count.

        Args:
            folder: the folder for the file that names the name server.

        Raises:
            OSError: the namespace cannot be set up, or a call made for a trial was not counted.
        """
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _TUN_WITHOUT_HEADER))
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "address", "add", "192.0.2.2/24", "dev", _DEVICE)
        _run("ip", "link", "set", _DEVICE, "up")
        _run("ip", "route", "add", "default", "dev", _DEVICE)
        if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
            _run("ip", "-6", "address", "add", "2001:db8::2/64", "dev", _DEVICE, "nodad")
            _run("ip", "-6", "route", "add", "default", "dev", _DEVICE)
        resolver = folder / "resolv.conf"
        resolver.write_text(f"nameserver {_NAME_SERVER}\noptions timeout:1 attempts:1\n")
        _run("mount", "--bind", str(resolver), "/etc/resolv.conf")
        network = cls(device)
        threading.Thread(target=network._read, daemon=True).start()
        network._prove()
        return network

    def calls(self) -> list[Call]:
        """The calls to the outside, each address once; the first thousand of them."""
        with self._changed:
            return sorted(self._calls)

    def _prove(self) -> None:
        """Call somebody, ask for a name, and forget them once they were counted."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.connect((_SOMEBODY, 443))
        with suppress(socket.gaierror):
            socket.getaddrinfo("trial.invalid", 443)
        wanted = {
            Call(protocol="tcp", address=_SOMEBODY, port=443),
            Call(protocol="udp", address=_NAME_SERVER, port=53),
        }
        with self._changed:
            if not self._changed.wait_for(lambda: wanted <= self._calls.keys(), _COUNTED_S):
                raise OSError(f"not every trial call was counted, only {sorted(self._calls)}")
            self._calls.clear()

    def _read(self) -> None:
        while True:
            call = read_call(os.read(self.device, _MAX_PACKET_BYTES))
            if call is None:
                continue
            with self._changed:
                if len(self._calls) < _MAX_CALLS:
                    self._calls[call] = self._calls.get(call, 0) + 1
                self._changed.notify_all()


def read_call(packet: bytes) -> Call | None:
    """The call that an IP packet is; ``None`` for what the kernel sends by itself, and for other packets."""
    match packet[0] >> 4 if packet else 0:
        case 4:
            protocol, start, destination = packet[9], (packet[0] & 0xF) * 4, packet[16:20]
        case 6:  # without extension headers, which nobody sends first
            protocol, start, destination = packet[6], 40, packet[24:40]
        case _:
            return None
    address = str(ipaddress.ip_address(destination))
    if protocol in _WITH_PORTS:
        (port,) = struct.unpack_from("!H", packet, start + 2)
        return Call(protocol=_WITH_PORTS[protocol], address=address, port=port)
    if protocol in _ECHO_REQUESTS and packet[start] == _ECHO_REQUESTS[protocol]:
        return Call(protocol="ping", address=address, port=0)
    return None


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
