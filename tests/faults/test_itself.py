"""The suite can fail: a mover that compares no digest is caught as a silent acceptance."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.faults.injection import Injection
from tests.faults.site import Site
from tests.faults.tally import SilentAcceptanceError, Tally
from tests.offline_mover.conftest import flip


def test_mover_that_compares_nothing_is_caught(site: Site) -> None:
    with site.scene() as scene:
        assert scene.pull().code is None
        flip(scene.part("002/00000001.part"))
        assert scene.verify().code == "PART_CORRUPT"
        site.tally.inject("flipped part")
        scene.tally = Tally()  # what follows is meant to be silent
        for command in (scene.verify, scene.push):
            with pytest.raises(SilentAcceptanceError):
                command(injection=Injection(blind=True))
        assert len(scene.tally.silent) == 2


@pytest.mark.parametrize("head", ["", "Content-Length: 41", "Content-Length: 41\r\n"])
def test_request_cut_off_in_its_headers_is_not_passed_on(site: Site, head: str) -> None:
    """What a client sent that was killed meanwhile; the storage would take it for another request."""
    host, port = site.proxy.url.split("/")[2].split(":")
    context = ssl.create_default_context(cafile=str(site.azurite.ca_file))
    with (
        site.proxy.watched() as asked,
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(f"PUT /carried/transfer/cut HTTP/1.1\r\nHost: {host}\r\n{head}".encode())
        connection.settimeout(10)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # until it hangs up
            pass
    assert not asked
