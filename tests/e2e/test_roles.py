"""Every deployed role is needed for what the product does, and what no role allows is refused."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from airgap.journal import Journal
from airgap.states import Kind, State
from local_cloud.acr_transfer.storage import MintedCredential
from local_cloud.cloud import Cloud, CloudError
from local_cloud.demo.clouds import Demo
from local_cloud.demo.screen import TIMEOUT_S, until
from local_cloud.demo.story import push, refuse_stranger
from local_cloud.functions_host.blobs import POISON_QUEUE
from local_cloud.storage_front import RoleAssignment
from tests.e2e.conftest import SAS_SECRETS, Crossing, by_ticket, renewed_sas
from tests.e2e.old_import import OLD, OLD_IMPORT, notes_of_runs, remove_old_import

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

POISON = {
    "source": ("receipts", f"{'ab' * 16}/receipt.dsse.json"),
    "target": ("incoming", "poison/bundle-manifest.dsse.json"),
}
"""Where what starts nothing five times is put in the way of a blob trigger, and under which name."""

EVIDENCE = {"source": ("ledger", "journal"), "target": ("ledger", "journal", "receipts", "custody")}
"""Where the app adds, and changes nothing."""


@pytest.fixture(scope="module")
def crossed(make_crossing: Callable[[], Crossing]) -> Demo:
    """A bundle that was carried across by tickets, a refused forgery, and the custody log that came along."""
    crossing = make_crossing()
    crossing.run(crossing.demo.start())
    crossing.demo.medium.mkdir()
    crossing.run(_cross(crossing.demo), timeout_s=300)
    for side, (container, name) in POISON.items():
        assert check_of_poison(cloud_of(crossing.demo, side))["ok"]
        crossing.run(put_aside(crossing.demo, side, container, name), timeout_s=TIMEOUT_S + 30)
    crossing.run(remove_old_import(crossing.demo.target), timeout_s=TIMEOUT_S + 30)
    return crossing.demo


async def _cross(demo: Demo) -> None:
    references = await asyncio.to_thread(demo.push_samples, 2_000_000)
    await renewed_sas(demo.source)
    transfer_id = await asyncio.to_thread(demo.post_transfer, references[:2])
    await until("sealing", lambda: demo.sealed_transfer(transfer_id))
    pickup = await asyncio.to_thread(demo.pickup_ticket, transfer_id)
    await by_ticket(demo, "pull", demo.medium, pickup, "--allow-system-disk")
    ticket = await asyncio.to_thread(demo.drop_ticket, demo.medium)
    await asyncio.to_thread(demo.target.stop_app)
    await by_ticket(demo, "push", demo.medium, ticket)
    await push(demo)  # a ticket sends no custody log
    await demo.target.start_app()
    await demo.next_receipt(set())
    await refuse_stranger(demo)
    await asyncio.to_thread(
        requests.post, f"{demo.target.api_url}/admin/functions/reconcile_imports", json={}, timeout=30
    )
    await until("keeping the custody log", lambda: demo.blobs("custody"))
    await asyncio.to_thread(plant_old_transfer, demo.source)
    await asyncio.to_thread(
        requests.post, f"{demo.source.api_url}/admin/functions/remove_ended_transfers", json={}, timeout=30
    )
    await until("removing what ended long ago", lambda: lying_there(demo.source))


async def put_aside(demo: Demo, side: str, container: str, name: str) -> None:
    """A blob that comes while the app cannot read its journal: five times it starts nothing."""
    cloud = cloud_of(demo, side)
    app = cloud.machine.app_principal
    with ExitStack() as gone:
        for place in ("journal", "work"):
            for assigned in roles_on(cloud, place):
                if assigned.principal_id == app:
                    gone.enter_context(without(cloud, assigned))
        with cloud.azurite.service_client() as service:
            service.get_blob_client(container, name).upload_blob(b"{}")
        await until(f"a line of {POISON_QUEUE} in the telemetry of the {side}", lambda: poisoned(cloud))


def check_of_poison(cloud: Cloud) -> dict[str, Any]:
    """What the preflight says of the queue that poison is put into."""
    checks = requests.get(f"{cloud.api_url}/api/preflight", timeout=60).json()["checks"]
    (found,) = (check for check in checks if check["id"] == "poison")
    assert isinstance(found, dict)
    return found


def poisoned(cloud: Cloud) -> list[str]:
    """What is told of the queue that poison is put into, by what the alert looks for."""
    return [line for line in tuple(cloud.machine.telemetry.messages) if POISON_QUEUE in line]


def plant_old_transfer(source: Cloud) -> None:
    """One that was cancelled long ago while it was exported; the app's clock is the machine's."""
    journal = Journal(kind=Kind.TRANSFERS, about=OLD)
    with source.azurite.service_client() as service:
        service.get_blob_client("transfer", f"{OLD}/001").upload_blob(b"x")
        for state in ("requested", "planned", "exporting", "cancelled"):
            facts = {"blobs": 1} if state == "planned" else {}
            entry = journal.next(State(state), facts, by="caller", at=datetime(2025, 1, 1, tzinfo=UTC))
            assert entry is not None
            journal = journal.extended(entry)
            service.get_blob_client("journal", entry.name).upload_blob(entry.to_bytes())


def lying_there(source: Cloud) -> list[str] | None:
    """The transfers that something lies there of, once the old one's removal is on record."""
    with source.azurite.service_client() as service:
        removals = list(service.get_container_client("journal").list_blob_names(name_starts_with="removals/"))
        if removals != [f"removals/{OLD}/00000001.json"]:
            return None
        return list(service.get_container_client("transfer").list_blob_names())


def cloud_of(demo: Demo, side: str) -> Cloud:
    return demo.source if side == "source" else demo.target


def roles_on(cloud: Cloud, container: str) -> list[RoleAssignment]:
    """Who has a role on a container of the transfer account."""
    return [each for each in cloud.machine.assignments if each.scope.endswith(f"/containers/{container}")]


@contextmanager
def without(cloud: Cloud, assigned: RoleAssignment) -> Iterator[None]:
    """For a while, a role is not there."""
    cloud.machine.assignments.remove(assigned)
    try:
        yield
    finally:
        cloud.machine.assignments.assign(assigned)


@contextmanager
def storage_as(cloud: Cloud, principal_id: str) -> Iterator[BlobServiceClient]:
    """The storage as an identity has it."""
    with BlobServiceClient(
        cloud.blob_url,
        credential=MintedCredential(cloud.tokens, principal_id),
        connection_verify=str(cloud.ca.ca_file),
        retry_total=0,
    ) as service:
        yield service


def assert_refused(attempt: Callable[[], object], code: str = "AuthorizationPermissionMismatch") -> None:
    with pytest.raises(HttpResponseError) as raised:
        attempt()
    assert code in str(raised.value)


def test_what_ended_long_ago_is_removed_and_what_is_under_way_is_not(crossed: Demo) -> None:
    left = lying_there(crossed.source)
    assert left
    assert not any(name.startswith(OLD) for name in left)


def test_what_is_left_of_an_old_import_is_removed_and_what_is_young_is_not(crossed: Demo) -> None:
    left = notes_of_runs(crossed.target)
    assert left
    assert not any(OLD_IMPORT in name for name in left)


@pytest.mark.parametrize("side", ["source", "target"])
def test_every_role_was_needed(crossed: Demo, side: str) -> None:
    assignments = cloud_of(crossed, side).machine.assignments
    given = set(assignments)
    assert {each.scope.rpartition("/")[2] for each in given} >= {
        *(f"gap{side}host", f"gap{side}-telemetry", POISON_QUEUE, *EVIDENCE[side])
    }
    assert given - assignments.needed() == set()


@pytest.mark.parametrize("side", ["source", "target"])
def test_what_was_put_aside_is_counted_by_the_preflight(crossed: Demo, side: str) -> None:
    check = check_of_poison(cloud_of(crossed, side))
    assert (check["ok"], check["detail"].partition(":")[0]) == (False, f"{POISON_QUEUE} holds 1")


@pytest.mark.parametrize("side", ["source", "target"])
def test_journal_is_told_to_the_telemetry_in_the_words_of_its_alerts(crossed: Demo, side: str) -> None:
    lines = tuple(cloud_of(crossed, side).machine.telemetry.messages)
    assert [line for line in lines if line.startswith("journal: ")]


@pytest.mark.parametrize("side", ["source", "target"])
def test_host_does_not_start_without_a_role_on_its_own_account(crossed: Demo, side: str) -> None:
    """Each of its roles there: tests/functions_host/test_host_account.py."""
    cloud = cloud_of(crossed, side)
    assigned = next(each for each in cloud.machine.assignments if each.scope.endswith(f"/gap{side}host"))
    cloud.stop_app()
    with without(cloud, assigned), pytest.raises(CloudError):
        asyncio.run(cloud.start_app())
    asyncio.run(cloud.start_app())
    assert "AuthorizationPermissionMismatch" in cloud.host_log.read_text(encoding="utf-8")


@pytest.mark.parametrize("side", ["source", "target"])
def test_role_that_is_taken_away_is_missed(crossed: Demo, side: str) -> None:
    cloud = cloud_of(crossed, side)
    app = roles_on(cloud, "ledger")[0].principal_id
    containers = [each for each in cloud.machine.assignments if "/containers/" in each.scope]
    for assigned in [each for each in containers if each.principal_id == app]:
        with without(cloud, assigned):
            answer = requests.get(f"{cloud.api_url}/api/preflight", timeout=60).json()
        faults = [check["id"] for check in answer["checks"] if not check["ok"]]
        assert f"container-{assigned.scope.rpartition('/')[2]}" in faults, assigned
    answer = requests.get(f"{cloud.api_url}/api/preflight", timeout=60).json()
    assert not [check for check in answer["checks"] if "container-" in check["id"] and not check["ok"]]


def test_sas_of_the_pipeline_is_not_renewed_as_an_identity_that_the_container_is_closed_to(
    crossed: Demo,
) -> None:
    """The SAS of before goes on to open it: what such an identity signs would open nothing."""
    source, secret = crossed.source, SAS_SECRETS["source"]
    (renewer,) = {
        each.principal_id for each in source.machine.assignments if each.scope.endswith(f"/secrets/{secret}")
    } & {each.principal_id for each in roles_on(source, "transfer")}
    (assigned,) = [each for each in roles_on(source, "transfer") if each.principal_id == renewer]
    before = source.vault.secret_values(secret)
    source.vault.age_secret(secret, expires_s=int(time.time()) + 2 * 24 * 3600)
    url = f"{source.api_url}/admin/functions/renew_pipeline_sas"

    def told() -> list[str]:
        lines = tuple(source.machine.telemetry.messages)
        return [one for one in lines if "the SAS of the pipeline was not renewed: SERVICE_DENIED" in one]

    with without(source, assigned):
        requests.post(url, json={}, timeout=30)
        asyncio.run(until("being told that the SAS was not renewed", told))
        assert source.vault.secret_values(secret) == before
    assert asyncio.run(renewed_sas(source)) != before[-1]


@pytest.mark.parametrize("side", ["source", "target"])
def test_app_adds_to_the_evidence_and_changes_nothing_there(crossed: Demo, side: str) -> None:
    cloud = cloud_of(crossed, side)
    for container in EVIDENCE[side]:
        (app,) = {each.principal_id for each in roles_on(cloud, container)}
        with storage_as(cloud, app) as service:
            found = service.get_container_client(container)
            name = next(iter(found.list_blob_names()))
            blob = found.get_blob_client(name)
            kept = blob.download_blob().readall()
            assert_refused(blob.delete_blob)
            assert_refused(lambda: blob.upload_blob(b"other", overwrite=True))  # noqa: B023 - called at once
            assert_refused(lambda: blob.set_blob_metadata({"a": "b"}))  # noqa: B023 - likewise
            assert blob.download_blob().readall() == kept


@pytest.mark.parametrize("side", ["source", "target"])
def test_nobody_changes_the_evidence(crossed: Demo, side: str) -> None:
    cloud = cloud_of(crossed, side)
    owner = RoleAssignment(
        principal_id=cloud.owner_principal, role="Storage Blob Data Owner", scope=cloud.group_id
    )
    cloud.machine.assignments.assign(owner)
    try:
        with storage_as(cloud, cloud.owner_principal) as service:
            for container in EVIDENCE[side]:
                found = service.get_container_client(container)
                blob = found.get_blob_client(next(iter(found.list_blob_names())))
                assert_refused(blob.delete_blob, "BlobImmutableDueToPolicy")
    finally:
        cloud.machine.assignments.remove(owner)


def test_import_pipeline_reads_what_was_verified_and_nothing_else(crossed: Demo) -> None:
    target = crossed.target
    app = roles_on(target, "ledger")[0].principal_id
    (pipeline,) = {each.principal_id for each in roles_on(target, "transfer")} - {app}
    with storage_as(target, pipeline) as service:
        list(service.get_container_client("transfer").list_blobs())
        assert_refused(lambda: service.get_container_client("transfer").upload_blob("a", b"a"))
        for container in ("incoming", "staging", "quarantine", "receipts", "ledger", "journal", "work"):
            found = service.get_container_client(container)
            assert_refused(lambda: list(found.list_blobs()))  # noqa: B023 - called at once


def test_source_app_writes_no_receipt(crossed: Demo) -> None:
    (app,) = {each.principal_id for each in roles_on(crossed.source, "receipts")}
    with storage_as(crossed.source, app) as service:
        assert_refused(lambda: service.get_container_client("receipts").upload_blob("a/b", b"a"))
