"""The host's own account, behind what asks for roles: what is kept there, and what is refused without one."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from azure.identity import ManagedIdentityCredential

from local_cloud import azurite as azurite_module
from local_cloud.functions_host.app import AppError
from local_cloud.functions_host.azure_storage import connect
from local_cloud.functions_host.blobs import POISON_QUEUE, BlobEvent, StorageOutageError
from local_cloud.functions_host.host_account import HostAccount
from local_cloud.functions_host.storage_queue import StorageQueue
from local_cloud.functions_host.store import Instance
from local_cloud.identity import PATH, Identity, identity_app
from local_cloud.storage_front.operations import SERVICES
from local_cloud.web import serve
from tests.functions_host.host_process import running_host, start_in_vain
from tests.local_cloud.acr_transfer_harness import Loop
from tests.local_cloud.front_harness import Fronted, fronted

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not azurite_module.is_installed(), reason="python -m local_cloud.azurite install"),
]
ROLES = ("Storage Blob Data Owner", "Storage Queue Data Contributor", "Storage Table Data Contributor")
SENDER = "Storage Queue Data Message Sender"
HEADER = "of the identity endpoint"
EVENT = BlobEvent("arrived", "incoming", "a b/m.json", "0x1")
INSTANCE = Instance(
    id="one",
    execution_id="1",
    name="import_bundle",
    version="",
    input=None,
    status="Running",
    output=None,
    custom_status=None,
    created_at=0.0,
    updated_at=0.0,
    parent=None,
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account with its front, and an endpoint that gives each identity its tokens."""

    account: Fronted
    environment: dict[str, str]

    def settings(self, principal: str, connection: str = "AzureWebJobsStorage") -> dict[str, str]:
        front = self.account.front
        uris = {
            f"{connection}__{one}ServiceUri": f"{front.url(one, self.account.account.name)}/"
            for one in SERVICES
        }
        return {**uris, f"{connection}__clientId": principal}


@pytest.fixture(scope="module")
def principals() -> list[str]:
    return [str(uuid.uuid4()) for _ in range(12)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, principals: list[str]) -> Iterator[Tenant]:
    loop = Loop()
    with fronted(tmp_path_factory.mktemp("host")) as account:
        identities = [Identity(one, one) for one in principals]
        server = loop.run(serve(identity_app(account.tokens, identities, header_secret=HEADER)))
        environment = {
            "IDENTITY_ENDPOINT": f"{server.url}{PATH}",
            "IDENTITY_HEADER": HEADER,
            "REQUESTS_CA_BUNDLE": str(account.azurite.ca_file),
        }
        try:
            yield Tenant(account, environment)
        finally:
            loop.run(server.close())
            loop.close()


@pytest.fixture
def tenant(running: Tenant, monkeypatch: pytest.MonkeyPatch) -> Tenant:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def identity(tenant: Tenant, principals: list[str]) -> str:
    """One that has the roles of the app, of nobody else's test."""
    principal = principals.pop()
    for role in ROLES:
        tenant.account.assign(principal, role)
    return principal


def take_away(tenant: Tenant, identity: str, role: str) -> None:
    assignments = tenant.account.front.assignments
    assignments.remove(next(one for one in assignments if (one.principal_id, one.role) == (identity, role)))


def states(tenant: Tenant, hub: str) -> list[tuple[str, str]]:
    """Which state each orchestration of a hub is in, by the host's own account."""
    with tenant.account.azurite.table_client() as tables:
        rows = [*tables.get_table_client(f"{hub}Instances").list_entities()]
    return [(row["PartitionKey"], row["RuntimeStatus"]) for row in rows]


def opened(tenant: Tenant, identity: str) -> HostAccount:
    account = HostAccount.connect("Hub", tenant.settings(identity))
    assert account is not None
    account.open()
    return account


def test_blob_is_queued_once_and_taken_and_forgotten(tenant: Tenant, identity: str) -> None:
    account = opened(tenant, identity)
    opened(tenant, identity)  # what is there already is in nobody's way
    event = EVENT._replace(blob="once/m.json")
    account.queue_blob(event)
    account.queue_blob(event)
    ((taken, message),) = account.take_blobs()
    assert taken == event
    assert account.take_blobs() == []  # hidden meanwhile
    account.forget(message)
    account.forget(message)
    receipts = tenant.account.azurite.service_client().get_container_client("azure-webjobs-hosts")
    assert "blobreceipts/local/Host.Functions.arrived/0x1/incoming/once/m.json" in [
        *receipts.list_blob_names()
    ]


def test_state_of_an_orchestration_takes_the_place_of_the_one_before(tenant: Tenant, identity: str) -> None:
    account = opened(tenant, identity)
    account.note(INSTANCE)
    account.note(replace(INSTANCE, status="Completed"))
    assert states(tenant, "Hub") == [("one", "Completed")]


@pytest.mark.parametrize("role", ROLES)
def test_without_one_of_its_roles_the_host_does_not_start(tenant: Tenant, identity: str, role: str) -> None:
    opened(tenant, identity)
    take_away(tenant, identity, role)
    with pytest.raises(AppError, match="has the app's identity its roles on this account"):
        opened(tenant, identity)


@pytest.mark.parametrize(
    ("role", "use"),
    [
        (ROLES[0], lambda account: account.queue_blob(EVENT)),
        (ROLES[1], lambda account: account.take_blobs()),
        (ROLES[2], lambda account: account.note(INSTANCE)),
    ],
)
def test_role_that_goes_while_the_host_runs_is_missed(
    tenant: Tenant, identity: str, role: str, use: Callable[[HostAccount], object]
) -> None:
    account = opened(tenant, identity)
    use(account)
    take_away(tenant, identity, role)
    with pytest.raises(StorageOutageError):
        use(account)


def test_process_of_the_host_ends_where_its_account_does_not_let_it_in(
    tenant: Tenant, principals: list[str], tmp_path: Path
) -> None:
    ended = start_in_vain(tmp_path, environment=tenant.settings(principals.pop()))
    assert (ended.code, ended.stdout) == (2, "")
    assert "has the app's identity its roles on this account" in ended.stderr


def test_orchestration_goes_on_only_when_its_state_is_noted(
    tenant: Tenant, identity: str, tmp_path: Path
) -> None:
    with running_host(tmp_path, environment=tenant.settings(identity)) as host:
        take_away(tenant, identity, ROLES[2])
        started = host.start("chain", {"n": 1})
        until_logged(tmp_path / "log", "A fault of the host itself")
        assert host.status(started)["runtimeStatus"] == "Pending"
        tenant.account.assign(identity, ROLES[2])
        assert host.finish(started)["runtimeStatus"] == "Completed"
    assert states(tenant, "SampleHub") == [(started, "Completed")]


def until_logged(log: Path, text: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while text not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, f"{text!r} is not in the log"
        time.sleep(0.05)


def test_poison_is_put_aside_by_who_may_do_no_more_than_that(tenant: Tenant, principals: list[str]) -> None:
    sender = principals.pop()
    tenant.account.azurite.ensure_queue(POISON_QUEUE)
    storage = connect("Sample", tenant.settings(sender, "Sample"))
    with pytest.raises(StorageOutageError):
        storage.put_aside(EVENT.to_message())
    tenant.account.assign(sender, SENDER, f"/queueServices/default/queues/{POISON_QUEUE}")
    storage.put_aside(EVENT.to_message())
    reader = principals.pop()
    tenant.account.assign(reader, ROLES[1])
    credential = ManagedIdentityCredential(client_id=reader)
    (message,) = StorageQueue(tenant.account.front.url("queue", "fronted"), POISON_QUEUE, credential).take(
        hidden_s=5
    )
    assert BlobEvent.from_message(message.text) == EVENT


def test_message_is_one_that_azures_host_would_read() -> None:
    """BlobTriggerMessage: Microsoft.Azure.WebJobs.Extensions.Storage.Blobs in Azure/azure-sdk-for-net."""
    assert json.loads(EVENT.to_message()) == {
        "Type": "BlobTrigger",
        "FunctionId": "Host.Functions.arrived",
        "BlobType": "BlockBlob",
        "ContainerName": "incoming",
        "BlobName": "a b/m.json",
        "ETag": "0x1",
    }


def test_account_that_is_not_named_is_none_and_half_named_is_refused() -> None:
    assert HostAccount.connect("Hub", {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}) is None
    with pytest.raises(AppError, match="AzureWebJobsStorage__queueServiceUri"):
        HostAccount.connect("Hub", {"AzureWebJobsStorage__blobServiceUri": "https://a.blob.invalid"})
