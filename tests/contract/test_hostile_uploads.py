"""Whatever the holder of the upload SAS leaves in the storage, a decided upload is put away: on Azurite."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from airgap.manifest import ENVELOPE_NAME
from function_app.azure.blob import AzureBlobs
from function_app.durable.outcomes import Pending
from function_app.target.putting_away import put_away
from function_app.target.wire import Closing, PutAway
from local_cloud.azurite import Azurite
from tests.bundles import default_key, make_policy
from tests.function_app.memory import CONTAINERS, make_target

pytestmark = pytest.mark.e2e

FOLDER = "transfer01"
MANIFEST = f"{FOLDER}/{ENVELOPE_NAME}"
LONG = f"{FOLDER}/{'x' * 240}/{'y' * 240}/{'z' * 240}/{'u' * 240}"
DEEP = f"{FOLDER}/{'/'.join(['d'] * 252)}"


class Upload:
    """An upload as its operator, or a thief of the SAS, sees it, and the target that it lies at."""

    def __init__(self, server: Azurite, blobs: AzureBlobs) -> None:
        sas = generate_container_sas(
            account_name=server.account,
            container_name="incoming",
            account_key=server.key,
            permission=ContainerSasPermissions.from_string("racwl"),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        self.client = ContainerClient(server.blob_url, "incoming", credential=sas)
        self.blobs = blobs
        side, _ = make_target(make_policy([default_key()]))
        self.side = replace(side, blobs=blobs)
        self.put(MANIFEST, b"the manifest")

    def put(self, name: str, content: bytes) -> None:
        self.client.upload_blob(name, content, overwrite=True)

    def put_away(self, outcome: Literal["imported", "refused"]) -> PutAway:
        """As the closing does."""
        found = self.blobs.stat("incoming", MANIFEST)
        assert found is not None
        order = Closing(
            incoming=FOLDER,
            manifest_etag=found.etag,
            envelope_sha256="0" * 64,
            instance="import0001",
            decided_at="2026-11-24T12:00:00Z",
            outcome=outcome,
            code=None if outcome == "imported" else "EXPIRED",
            detail="",
        )
        for _ in range(10):
            result = put_away(self.side, order)
            if not isinstance(result, Pending):
                return result
        raise AssertionError("it goes on for ever")

    def names(self, container: str) -> set[str]:
        return set(self.blobs.list_names(container, ""))


@pytest.fixture
def upload(azurite: tuple[Azurite, AzureBlobs]) -> Iterator[Upload]:
    server, blobs = azurite
    made = Upload(server, blobs)
    yield made
    for container in CONTAINERS:
        for name in list(blobs.list_names(container, "")):
            blobs.delete(container, name)
    made.client.close()


def leave_traps(upload: Upload) -> None:
    """A lease and a snapshot on the manifest and on a blob; names that are too long for the quarantine."""
    upload.put(f"{FOLDER}/001", b"content")
    for name in (MANIFEST, f"{FOLDER}/001"):
        blob: Any = upload.client.get_blob_client(name)
        blob.create_snapshot()
        blob.acquire_lease(lease_duration=-1)
    for name in (LONG, DEEP):
        upload.put(name, name.encode())


def test_leased_snapshotted_and_overlong_blobs_are_quarantined_and_can_be_pushed_again(
    upload: Upload,
) -> None:
    leave_traps(upload)
    assert upload.put_away("refused").left_count == 0
    assert upload.names("incoming") == set()
    kept = upload.names("quarantine")
    place = f"{FOLDER}/import0001"
    assert {f"{place}/{ENVELOPE_NAME}", f"{place}/001"} < kept
    assert sorted(upload.blobs.read("quarantine", name, max_bytes=9999) or b"" for name in kept) == sorted(
        [b"the manifest", b"content", LONG.encode(), DEEP.encode()]
    )
    upload.put(MANIFEST, b"pushed again")
    assert upload.blobs.read("incoming", MANIFEST, max_bytes=99) == b"pushed again"


def test_leased_and_snapshotted_upload_of_an_import_is_deleted(upload: Upload) -> None:
    leave_traps(upload)
    assert upload.put_away("imported").left_count == 0
    assert upload.names("incoming") == upload.names("quarantine") == set()
