"""A cloud that goes and comes back keeps what Azure would keep, on the same addresses."""

import asyncio
from collections.abc import Callable

import pytest
import requests

from local_cloud.cloud import Cloud
from tests.e2e.conftest import Crossing

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
    demo.push_samples(layer_bytes_total=1_000_000)
    crossing.run(transfer("samples/app:1.0"))
    crossing.run(reconnect())
    crossing.run(transfer("charts/hello:0.1.0"))


def wrong(side: Cloud) -> list[str]:
    """The checks of preflight that are not right."""
    answer = requests.get(f"{side.api_url}/api/preflight", timeout=60).json()
    assert (answer["role"], answer["ok"]) == (side.role, all(check["ok"] for check in answer["checks"]))
    return [check["id"] for check in answer["checks"] if not check["ok"]]


def check_of(scope: str) -> str | None:
    """The check that an assignment of the app at this scope is asked for by; none for the host's own."""
    kind, name = scope.split("/")[-2:]
    if kind == "containers":
        return f"container-{name}"
    return {"tables": "journal-table", "keys": "signing-keys"}.get(kind)


def test_preflight_finds_everything_right_and_each_role_that_is_taken_away(
    make_crossing: Callable[[], Crossing],
) -> None:
    crossing = make_crossing()
    crossing.run(crossing.demo.start())
    seen = set()
    for side in (crossing.demo.source, crossing.demo.target):
        assert wrong(side) == []
        (app,) = {one.principal_id for one in side.machine.assignments if "/keys/" in one.scope}
        for assignment in side.machine.assignments:
            expected = check_of(assignment.scope)
            if assignment.principal_id != app or expected is None:
                continue
            side.machine.assignments.remove(assignment)
            assert wrong(side) == [expected]
            side.machine.assignments.assign(assignment)
            seen.add(expected)
        with side.azurite.service_client() as service:
            service.delete_container("work")
        assert wrong(side) == ["container-work"]
    assert {"container-ledger", "container-receipts", "journal-table", "signing-keys"} <= seen
