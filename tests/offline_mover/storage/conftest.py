"""One blob service that answers what it is told to, for all tests of the storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cloud.pki import CertificateAuthority
from tests.offline_mover.blob_server import BlobServer, run_blob_server


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BlobServer, Path]]:
    ca = CertificateAuthority.create(tmp_path_factory.mktemp("pki"))
    with run_blob_server(ca) as server:
        yield server, ca.ca_file


@pytest.fixture
def server(running: tuple[BlobServer, Path], monkeypatch: pytest.MonkeyPatch) -> BlobServer:
    server, ca_file = running
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    server.asked.clear()
    return server
