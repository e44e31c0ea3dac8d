"""Blob triggers on a real storage: Azurite over HTTPS, by connection string and by managed identity."""

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient

from local_cloud import azurite as azurite_module
from local_cloud.azurite import Azurite
from local_cloud.identity import Identity, identity_app
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from local_cloud.web import serve
from tests.functions_host.host_process import HostProcess, running_host

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not azurite_module.is_installed(), reason="python -m local_cloud.azurite install"),
]
HEADER = "of the identity endpoint"


@dataclass(frozen=True, slots=True)
class Storage:
    azurite: Azurite
    ca_file: Path

    def container(self) -> ContainerClient:
        client = ContainerClient.from_connection_string(
            self.azurite.connection_string, "incoming", connection_verify=str(self.ca_file)
        )
        if not client.exists():
            client.create_container()
        return client


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    pki = tmp_path / "pki"
    pki.mkdir()
    authority = CertificateAuthority.create(pki)
    with Azurite.start(account="hosttest", folder=tmp_path / "azurite", ca=authority) as azurite:
        yield Storage(azurite, authority.ca_file)


@pytest.fixture
def identity() -> Iterator[str]:
    """A managed-identity endpoint on a loop of its own; gives its URL."""
    loop = asyncio.new_event_loop()
    tokens = TokenAuthority()
    app = identity_app(tokens, [Identity("host", "host")], header_secret=HEADER)
    server = loop.run_until_complete(serve(app))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"{server.url}/msi/token"
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def settings(storage: Storage, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IDENTITY", "MSI"))}
    return {**kept, "SAMPLE_BLOBS": "1", "REQUESTS_CA_BUNDLE": str(storage.ca_file), **more}


def lines(host: HostProcess, count: int) -> list[str]:
    instance_id = host.start("approval", {"seconds": 600})
    host.until(instance_id, lambda _: len(host.lines()) >= count)
    return host.lines()


def test_by_connection_string_also_when_the_container_comes_later(storage: Storage, tmp_path: Path) -> None:
    environment = settings(storage, Sample=storage.azurite.connection_string)
    with running_host(tmp_path, environment=environment) as host:
        host.finish(host.start("chain", {"n": 1}))  # it runs, with nothing to watch yet
        with storage.container() as container:
            container.upload_blob("a/manifest.json", b"12345", metadata={"kind": "x"})
            container.upload_blob("a/001", b"not ours")
            assert lines(host, 1) == ["incoming/a/manifest.json 5 5 {'kind': 'x'}"]
            container.upload_blob("a/manifest.json", b"123", overwrite=True)
            assert lines(host, 2)[1].startswith("incoming/a/manifest.json 3 3")
            container.upload_blob("p/manifest.json", b"poison")
            lines(host, 7)
            container.upload_blob("z/manifest.json", b"1")
            seen = lines(host, 8)
            container.upload_blob("s/start.json", b'{"id": "by-blob", "n": 1}')
            clock = host.start("approval", {"seconds": 600})
            host.until(clock, lambda _: host.hook("GET", "instances/by-blob").status != 404)
            assert host.finish("by-blob")["output"]["n"] == 8
    assert sum("incoming/p/" in line for line in seen) == 5
    assert seen[-1].startswith("incoming/z/")


def test_by_managed_identity_and_delivered_twice(storage: Storage, identity: str, tmp_path: Path) -> None:
    environment = settings(
        storage,
        Sample__blobServiceUri=storage.azurite.blob_url,
        IDENTITY_ENDPOINT=identity,
        IDENTITY_HEADER=HEADER,
    )
    with storage.container() as container:
        container.upload_blob("a/manifest.json", b"12345")
    with running_host(tmp_path, "--deliver-twice", environment=environment) as host:
        assert len(set(lines(host, 2))) == 1


def test_storage_that_comes_back_is_used_again(storage: Storage, tmp_path: Path) -> None:
    environment = settings(storage, Sample=storage.azurite.connection_string)
    port = int(storage.azurite.blob_url.split(":")[2].split("/")[0])
    with storage.container() as container:
        container.upload_blob("a/manifest.json", b"1")
    with running_host(tmp_path, environment=environment) as host:
        lines(host, 1)
        storage.azurite.stop()
        host.until(host.start("approval", {"seconds": 600}), lambda _: "again in" in _log(tmp_path))
        authority = CertificateAuthority.create(
            tmp_path / "pki"
        )  # the host trusts the file, read anew each time
        with Azurite.start(
            account="hosttest",
            folder=tmp_path / "azurite",
            ca=authority,
            port=port,
            key=storage.azurite.key,
        ) as revived:
            with Storage(revived, authority.ca_file).container() as container:
                container.upload_blob("b/manifest.json", b"2")
            assert lines(host, 2)[1].startswith("incoming/b/")


def _log(folder: Path) -> str:
    return (folder / "log").read_text(encoding="utf-8")
