"""A cloud that goes and comes back keeps what Azure would keep, on the same addresses."""

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
import requests

from local_cloud.cloud import Cloud
from local_cloud.storage_front import RoleAssignment
from tests.e2e.conftest import Crossing
from tests.infra.expansions import expanded_of, parameters, template

CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
OF_THE_MACHINE = {
    *("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "PATH", "TMPDIR"),  # as App Service has them
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"),
}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_transfers_go_on_after_a_disconnection(make_crossing: Callable[[], Crossing]) -> None:
    crossing = make_crossing()
    demo, source = crossing.demo, crossing.demo.source

    async def transfer(reference: str) -> None:
        transfer_id = await asyncio.to_thread(demo.post_transfer, [reference])
        for _ in range(600):
            if await asyncio.to_thread(demo.sealed_transfer, transfer_id):
                return
            await asyncio.sleep(0.1)
        pytest.fail("not sealed")

    async def reconnect() -> str:
        before = (source.container_url, source.registry.login_server, source.api_url)
        await source.disconnect()
        await source.connect()
        await source.start_app()
        assert (source.container_url, source.registry.login_server, source.api_url) == before
        return source.registry.admin_password

    crossing.run(demo.start())
    is_as_the_templates_say(demo.source)
    is_as_the_templates_say(demo.target)
    demo.push_samples(layer_bytes_total=1_000_000)
    crossing.run(transfer("samples/app:1.0"))
    crossing.run(reconnect())
    crossing.run(transfer("charts/hello:0.1.0"))


def wrong(side: Cloud) -> list[str]:
    """The checks of preflight that are not right."""
    answer = requests.get(f"{side.api_url}/api/preflight", timeout=60).json()
    assert (answer["role"], answer["ok"]) == (side.role, all(check["ok"] for check in answer["checks"]))
    return [check["id"] for check in answer["checks"] if not check["ok"]]


DELEGATOR = "db58b8e5-c6ad-4a2a-8342-4190687cbf4a"
"""Storage Blob Delegator."""

SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"
"""Key Vault Secrets User, which the pipeline has."""

QUEUE_READER = "19e7f393-937e-4f77-808e-94535e297925"
"""Storage Queue Data Reader."""


def check_of(assignment: RoleAssignment) -> str | None:
    """The check that an assignment is asked for by; none for the host's own and the scanner's."""
    kind, name = assignment.scope.split("/")[-2:]
    if kind == "containers":
        return f"container-{name}"
    if kind == "storageAccounts":
        return "tickets" if assignment.role.endswith(DELEGATOR) else None
    if kind == "secrets":
        return None if assignment.role.endswith(SECRETS_USER) else "pipeline-access"
    if kind == "queues":
        return "poison" if assignment.role.endswith(QUEUE_READER) else None
    return {"tables": "journal-table", "keys": "signing-keys"}.get(kind)


ALSO_WRONG = {
    "container-ledger": ("policy-chain",),  # which policies were used stands there
    "container-policy": ("policy-chain",),
}
"""What a check of another part finds wrong, too, where a container cannot be read."""


def test_preflight_finds_everything_right_and_each_role_that_is_taken_away(
    make_crossing: Callable[[], Crossing],
) -> None:
    crossing = make_crossing()
    crossing.run(crossing.demo.start())
    seen = set()
    for side in (crossing.demo.source, crossing.demo.target):
        assert wrong(side) == []
        (app,) = {one.principal_id for one in side.machine.assignments if "/keys/" in one.scope}
        renewers = {
            one.principal_id for one in side.machine.assignments if check_of(one) == "pipeline-access"
        }
        for assignment in side.machine.assignments:
            expected = check_of(assignment)
            if expected == "tickets" and assignment.principal_id in renewers:
                expected = "pipeline-access"
            is_asked = assignment.principal_id == app or expected in {"tickets", "pipeline-access"}
            if expected is None or not is_asked:
                continue
            side.machine.assignments.remove(assignment)
            assert set(wrong(side)) == {expected, *ALSO_WRONG.get(expected, ())}
            side.machine.assignments.assign(assignment)
            seen.add(expected)
        with side.azurite.service_client() as service:
            service.delete_container("work")
        assert wrong(side) == ["container-work"]
    assert {"container-ledger", "container-receipts", "journal-table", "signing-keys"} <= seen
    assert {"tickets", "poison", "pipeline-access"} <= seen


def is_as_the_templates_say(cloud: Cloud) -> None:
    """What the cloud has is what its template deploys, with parameters of its own; and nothing else."""
    given = parameters("local", mode="SasToken" if cloud.role == "source" else "ManagedIdentity")
    expected = expanded_of(template(cloud.role), given)
    names = {one.name.rpartition("/")[2] for one in expected.of_type(CONTAINERS)}
    with cloud.azurite.service_client() as service:
        assert {one.name for one in service.list_containers()} == names - {"app-package"}
    (settings,) = expected.of_type("Microsoft.Web/sites/config")
    assert cloud.machine.app_settings.keys() == settings.properties.keys()
    assert cloud.app_environment().keys() - settings.properties.keys() <= OF_THE_MACHINE
    roles = {one.scope for one in cloud.machine.assignments if one.principal_id != cloud.owner_principal}
    assert len(roles) == len(
        {one.scope for one in expected.of_type("Microsoft.Authorization/roleAssignments")}
    )
    if cloud.role == "source":
        sas = parse_qs(cloud.vault.secret_values("acrexportsas")[-1].removeprefix("?"))
        assert ("".join(sorted(sas["sp"][0])), sas["spr"], sas["sr"]) == ("alrw", ["https"], ["c"])
    assert set(cloud.vault._secrets) == ({"acrexportsas"} if cloud.role == "source" else set())
