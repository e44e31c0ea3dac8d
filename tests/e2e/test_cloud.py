"""A cloud that goes and comes back keeps what Azure would keep, on the same addresses."""

import asyncio
from collections.abc import Callable

import pytest
import requests

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


def test_preflight_of_both_sides_finds_everything_right_and_a_container_that_goes_missing(
    make_crossing: Callable[[], Crossing],
) -> None:
    crossing = make_crossing()
    crossing.run(crossing.demo.start())
    for side in (crossing.demo.source, crossing.demo.target):
        answer = requests.get(f"{side.api_url}/api/preflight", timeout=60).json()
        assert [check for check in answer["checks"] if not check["ok"]] == []
        assert (answer["role"], answer["ok"]) == (side.role, True)
        with side.azurite.service_client() as service:
            service.delete_container("work")
        answer = requests.get(f"{side.api_url}/api/preflight", timeout=60).json()
        assert [check["id"] for check in answer["checks"] if not check["ok"]] == ["container-work"]
