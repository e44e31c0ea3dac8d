import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The package reads its role while it is imported, as the worker does.
os.environ.setdefault("TRANSFER_ROLE", "source")

from function_app.azure.blob import AzureBlobs
from local_cloud.azurite import Azurite
from local_cloud.pki import CertificateAuthority
from local_cloud.tokens import TokenAuthority
from tests.contract.credential import Credential
from tests.function_app.memory import CONTAINERS


@pytest.fixture(scope="session")
def ca() -> Iterator[CertificateAuthority]:
    """Whose certificates the SDKs trust."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        authority = CertificateAuthority.create(Path(folder))
        patch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca_file))
        yield authority


@pytest.fixture(scope="session")
def azurite(ca: CertificateAuthority) -> Iterator[tuple[Azurite, AzureBlobs]]:
    """A storage account with the app's containers."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Azurite.start(account="contract", folder=Path(folder) / "blobs", ca=ca) as server,
    ):
        server.ensure_containers(*CONTAINERS)
        blobs = AzureBlobs(server.blob_url, Credential(TokenAuthority()))
        yield server, blobs
        blobs.close()
