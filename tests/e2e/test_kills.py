"""The power fails again and again: in exports, and in the imports that follow.

Each kill comes just after something new was written to the storage, at another place each time, so that what
was half done then is met by the next start.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Callable
from functools import partial

import pytest
from azure.storage.blob import BlobServiceClient

from airgap.journal import Journal, parse_entry_name
from airgap.ledger import sequence_of
from airgap.states import Kind, State
from local_cloud.cloud import Cloud
from local_cloud.demo.clouds import CHANNEL, Demo
from local_cloud.demo.screen import until
from local_cloud.demo.story import push
from tests.e2e.conftest import Crossing
from tests.e2e.test_crossing import import_runs, pull

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

_STAYS = re.compile(r"custody/|removing/|plans/[a-z0-9]+/promoted/")
KILLS = 10 if os.environ.get("AIRGAP_FAULTS") == "all" else 2
"""On each side; ``./dev faults`` asks for all of them, ``./dev test`` for a sample."""

_DESK = {"work", "incoming", "staging", "transfer"}
_STATE = ("journal", "work", "ledger", "incoming", "staging", "transfer", "quarantine", "receipts")


def storage_of(demo: Demo, cloud: Cloud) -> BlobServiceClient:
    """The cloud's storage as its owner has it; the caller closes it."""
    return BlobServiceClient.from_connection_string(
        cloud.azurite.connection_string, connection_verify=str(demo.ca.ca_file)
    )


def written(service: BlobServiceClient) -> dict[tuple[str, str], str]:
    """Everything that the cloud's storage holds, by its ETag."""
    return {
        (container.name, blob.name): str(blob.etag)
        for container in service.list_containers()
        if container.name in _STATE
        for blob in service.get_container_client(container.name).list_blobs()
    }


def journals(demo: Demo, cloud: Cloud, kind: Kind) -> list[Journal]:
    """The journals of a cloud, each checked as a whole."""
    with storage_of(demo, cloud) as service:
        client = service.get_container_client("journal")
        entries: dict[str, list[bytes]] = {}
        for name in client.list_blob_names(name_starts_with=f"{kind}/"):
            parsed = parse_entry_name(name)
            assert parsed is not None
            entries.setdefault(parsed[1], []).append(client.download_blob(name).readall())
    return [Journal.read(kind, about, raw) for about, raw in entries.items()]


def numbers(demo: Demo, cloud: Cloud) -> list[int]:
    """The sequence numbers that are taken in the cloud's ledger."""
    with storage_of(demo, cloud) as service:
        names = [name for container, name in written(service) if container == "ledger"]
    return [number for name in names if name.startswith(f"{CHANNEL}/") and (number := sequence_of(name))]


async def killed_until(demo: Demo, cloud: Cloud, has_ended: Callable[[], object], *, kills: int) -> int:
    """Kill the host as soon as it has written anything, up to so many times, then let it come to the end.

    Returns:
        How often it was killed; less where the end came first.
    """
    with storage_of(demo, cloud) as service:
        before = await asyncio.to_thread(written, service)
        for kill in range(kills):
            if await asyncio.to_thread(has_ended):
                return kill
            await until("something written", partial(_has_moved, service, before))
            await asyncio.to_thread(cloud.stop_app, kill=True)
            before = await asyncio.to_thread(written, service)
            await cloud.start_app(is_delivering_twice=True)
    await until("the end", has_ended)
    return kills


def _has_moved(service: BlobServiceClient, before: dict[tuple[str, str], str]) -> bool:
    return written(service) != before


async def exports(demo: Demo, references: list[str]) -> list[str]:
    """As many transfers as it takes for all kills; returns their ids."""
    ids: list[str] = []
    kills = 0
    while kills < KILLS:
        ids.append(await asyncio.to_thread(demo.post_transfer, references))
        sealed = partial(demo.sealed_transfer, ids[-1])
        kills += await killed_until(demo, demo.source, sealed, kills=KILLS - kills)
        await until("sealing", sealed)
    return ids


async def imports(demo: Demo, transfer_ids: list[str]) -> None:
    """Import all of them, one after the other; all kills come where they can."""
    kills = 0
    for transfer_id in transfer_ids:
        await pull(demo, transfer_id)
        await push(demo)
        closed = partial(is_closed, demo, transfer_id)
        kills += await killed_until(demo, demo.target, closed, kills=KILLS - kills)
        await until("closing", closed)
        shutil.rmtree(demo.medium)
        demo.medium.mkdir()
    assert kills


def is_closed(demo: Demo, transfer_id: str) -> bool:
    """Whether the transfer's import is closed."""
    return any(
        one.state is State.CLOSED
        and (admitted := one.newest(State.ADMITTED)) is not None
        and admitted.facts["transferId"] == transfer_id
        for one in journals(demo, demo.target, Kind.IMPORTS)
    )


def test_hosts_are_killed_again_and_again_in_exports_and_imports(
    make_crossing: Callable[[], Crossing],
) -> None:
    crossing = make_crossing()
    demo = crossing.demo
    crossing.run(demo.start())
    demo.medium.mkdir()
    references = demo.push_samples(layer_bytes_total=1_000_000)
    before = demo.digests(demo.source, references)

    ids = crossing.run(exports(demo, references), timeout_s=500)
    assert numbers(demo, demo.source) == list(range(1, len(ids) + 1))
    exported = journals(demo, demo.source, Kind.TRANSFERS)
    assert [one.state for one in exported] == [State.SEALED] * len(ids)

    crossing.run(imports(demo, ids), timeout_s=500)
    imported = journals(demo, demo.target, Kind.IMPORTS)
    assert [one.state for one in imported] == [State.CLOSED] * len(ids)
    assert numbers(demo, demo.target) == numbers(demo, demo.source)
    assert [receipt.is_imported for receipt in demo.receipts().values()] == [True] * len(ids)
    assert len(import_runs(demo)) == len(ids)
    assert demo.digests(demo.target, references) == before
    crossing.run(until("an empty desk", lambda: not on_the_desk(demo)))


def on_the_desk(demo: Demo) -> list[str]:
    """What is left of the work at the target, but for what is removed by age; custody logs stay."""
    with storage_of(demo, demo.target) as service:
        names = [name for container, name in written(service) if container in _DESK]
    return [name for name in names if not _STAYS.match(name)]
