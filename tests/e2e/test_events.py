"""A crossing that is told to a receiver of events, which is silent at first: it comes all the same."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from airgap.journal import entry_name
from airgap.states import Kind
from local_cloud.cloud import Cloud
from local_cloud.demo.clouds import Demo
from local_cloud.demo.screen import until
from local_cloud.demo.story import push
from local_cloud.event_receiver import EventReceiver
from local_cloud.web import Server, serve
from tests.e2e.conftest import Crossing
from tests.e2e.test_crossing import export, pull

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
SECRET_NAME = "events-webhook"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
A_TRY_LATER_S = 90
"""The first wait after a refusal is a minute."""


class Told:
    """Both clouds, each of which tells the same receiver."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.receiver = EventReceiver(SECRET, mood="silent")
        self.server: Server

    async def open(self) -> None:
        """Deploy both sides once more, with the secret in their vaults and the receiver named."""
        demo = self.demo
        await demo.start()
        demo.medium.mkdir()
        self.server = await serve(self.receiver.app(), ssl_context=demo.ca.server_context("events"))
        for cloud in (demo.source, demo.target):
            cloud.machine.put_secret(SECRET_NAME, SECRET)
            await asyncio.to_thread(cloud.stop_app)
            await cloud.deploy(stateEvents="webhook", stateEventsUrl=f"{self.server.url}/events")
            await cloud.start_app()

    async def close(self) -> None:
        """Stop receiving."""
        self.receiver.close()
        await self.server.close()

    async def tell(self, cloud: Cloud) -> None:
        """Have a round begin now, beside those that come every minute."""
        url = f"{cloud.api_url}/admin/functions/tell_events"
        await asyncio.to_thread(requests.post, url, json={}, timeout=30)

    def is_all_told(self) -> bool:
        """Whether no note of either side is left."""
        return not any(names(cloud, "work", "events/") for cloud in (self.demo.source, self.demo.target))

    def numbers(self, kind: Kind) -> dict[str, list[int]]:
        """The numbers of the events that were taken, by what they are about, in the order they came."""
        found: dict[str, list[int]] = {}
        for event in self.receiver.taken:
            if event["subject"].startswith(f"{kind}/"):
                found.setdefault(event["data"]["id"], []).append(event["data"]["number"])
        return found


def names(cloud: Cloud, container: str, prefix: str) -> list[str]:
    with cloud.azurite.service_client() as service:
        return list(service.get_container_client(container).list_blob_names(name_starts_with=prefix))


def journal_of(cloud: Cloud, kind: Kind) -> list[str]:
    """The names of all entries of a kind that are on record."""
    return names(cloud, "journal", f"{kind}/")


@pytest.fixture(scope="module")
def crossed(make_crossing: Callable[[], Crossing]) -> Iterator[Told]:
    """A bundle that was carried across while the receiver said nothing; then it takes what comes."""
    crossing = make_crossing()
    told = Told(crossing.demo)
    crossing.run(told.open(), timeout_s=300)
    try:
        crossing.run(_cross(told), timeout_s=300)
        yield told
    finally:
        crossing.run(told.close())


async def _cross(told: Told) -> None:
    demo = told.demo
    references = await asyncio.to_thread(demo.push_samples, 2_000_000)
    transfer_id = await asyncio.to_thread(demo.post_transfer, references[:2])
    await told.tell(demo.source)
    await until("the first try", lambda: told.receiver.asked)
    sealed: dict[str, Any] = await until("sealing", lambda: demo.sealed_transfer(transfer_id))
    assert told.receiver.taken == []
    # As by a power cut, in the middle of the round.
    await asyncio.to_thread(demo.source.stop_app, kill=True)
    await demo.source.start_app()
    await pull(demo, sealed["transferId"])
    await push(demo)
    _, receipt = await demo.next_receipt(set())
    assert receipt.is_imported
    assert told.receiver.taken == []
    told.receiver.mood = "takes"
    await export(demo, references[2:3])
    await until("closing", lambda: any(one.endswith("00000008.json") for one in imported(demo)))

    async def rounds() -> None:
        while not await asyncio.to_thread(told.is_all_told):
            for cloud in (demo.source, demo.target):
                await told.tell(cloud)
            await asyncio.sleep(0.5)

    async with asyncio.timeout(A_TRY_LATER_S + 30):
        await rounds()


def imported(demo: Demo) -> list[str]:
    return journal_of(demo.target, Kind.IMPORTS)


def test_every_entry_of_both_journals_came_at_least_once_and_in_order(
    crossed: Told,
) -> None:
    told = crossed
    for cloud, kind in ((told.demo.source, Kind.TRANSFERS), (told.demo.target, Kind.IMPORTS)):
        came = told.numbers(kind)
        entries = {entry_name(kind, about, number) for about, all_ in came.items() for number in all_}
        assert entries == set(journal_of(cloud, kind))
        for numbers in came.values():
            firsts = list(dict.fromkeys(numbers))  # one may come again, such as after a power cut
            assert firsts == sorted(firsts)
    assert told.receiver.refused == 0


def test_states_of_an_honest_crossing_are_told(crossed: Told) -> None:
    told = crossed
    types = {event["type"].removeprefix("urn:acr-airgap-transfer:event:") for event in told.receiver.taken}
    assert types >= {
        *(f"transfers:{state}" for state in ("requested", "planned", "exporting", "hashing", "sealed")),
        *(f"imports:{state}" for state in ("received", "admitted", "verified", "proven", "closed")),
    }
    sources = {event["source"].split(":")[2] for event in told.receiver.taken}
    assert sources == {"source", "target"}


def test_secret_is_in_no_log_and_no_setting(crossed: Told) -> None:
    told = crossed
    for cloud in (told.demo.source, told.demo.target):
        log = cloud.host_log.read_text(encoding="utf-8", errors="replace")
        assert "tell_events" in log
        assert SECRET.removeprefix("whsec_") not in log
        assert SECRET.removeprefix("whsec_") not in repr(cloud.app_environment())
        assert SECRET.removeprefix("whsec_") not in repr(tuple(cloud.machine.telemetry.messages))


@pytest.mark.parametrize("side", ["source", "target"])
def test_role_on_the_secret_is_needed_and_its_lack_is_told(crossed: Told, side: str) -> None:
    told = crossed
    cloud = told.demo.source if side == "source" else told.demo.target
    (assigned,) = (
        each for each in cloud.machine.assignments if each.scope.endswith(f"/secrets/{SECRET_NAME}")
    )
    assert assigned in cloud.machine.assignments.needed()
    assert check_of_events(cloud)["ok"]
    cloud.machine.assignments.remove(assigned)
    try:
        check = check_of_events(cloud)
    finally:
        cloud.machine.assignments.assign(assigned)
    assert not check["ok"]
    assert "Key Vault Secrets User" in check["remedy"]


def check_of_events(cloud: Cloud) -> dict[str, Any]:
    """What the preflight says of the receiver."""
    checks = requests.get(f"{cloud.api_url}/api/preflight", timeout=60).json()["checks"]
    (found,) = (check for check in checks if check["id"] == "events")
    assert isinstance(found, dict)
    return found
