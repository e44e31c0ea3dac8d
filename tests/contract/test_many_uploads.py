"""Somebody with the upload SAS uploads manifests by the hundred: on Azurite, through the real steps."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from airgap.manifest import ENVELOPE_NAME
from function_app.azure.blob import AzureBlobs
from function_app.storage.door import SHARED_PLACES
from function_app.target.intake import start_import
from local_cloud.azurite import Azurite
from tests.bundles import new_key
from tests.function_app.durable_client import DurableClient
from tests.function_app.memory import CONTAINERS, START, Host
from tests.function_app.test_import import Target, bundle_of

pytestmark = pytest.mark.e2e

HOSTILE = int(os.environ.get("HOSTILE_UPLOADS", "60"))
NOW = START + timedelta(hours=1)


@pytest.fixture
def blobs(azurite: tuple[Azurite, AzureBlobs]) -> Iterator[AzureBlobs]:
    _, made = azurite
    yield made
    for container in CONTAINERS:
        for name in list(made.list_names(container, "")):
            made.delete(container, name)


def test_honest_bundle_among_any_number_of_hostile_manifests_is_imported_at_once(blobs: AzureBlobs) -> None:
    target, bundle, client = Target(), bundle_of(), DurableClient()
    target.upload(bundle)  # its artifacts are in the registry
    side = replace(target.side, blobs=blobs)
    forgeries = [bundle_of(transfer_id=f"a{number:07d}", keys=[new_key()]) for number in range(3)]
    hostile = [f"a{number:07d}" for number in range(HOSTILE)]
    with ThreadPoolExecutor(8) as pool:
        uploads = (
            (f"{folder}/{ENVELOPE_NAME}", forgeries[number % 3].envelope + b" " * number)
            for number, folder in enumerate(hostile)
        )
        assert all(pool.map(lambda upload: blobs.create("incoming", *upload), uploads))
    for name, content in bundle.blobs.items():
        blobs.create("incoming", f"{bundle.transfer_id}/{name}", content)
    blobs.create("incoming", f"{bundle.transfer_id}/{ENVELOPE_NAME}", bundle.envelope)

    async def events() -> str | None:
        for folder in hostile:
            await start_import(client, side, folder=folder, now=NOW)
        return await start_import(client, side, folder=bundle.transfer_id, now=NOW)

    honest = asyncio.run(events())
    assert honest is not None
    assert len(client.started) == SHARED_PLACES + 1
    order = client.instances[honest].input_
    assert Host(side, start=NOW).run("import_bundle", order, honest)["outcome"] == "imported"
