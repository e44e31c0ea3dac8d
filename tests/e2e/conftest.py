"""Both clouds, running for the tests of one module, and a loop for them to run in."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from local_cloud.cloud import Cloud
from local_cloud.demo.clouds import Demo
from local_cloud.demo.mover import Moved, offline_mover
from local_cloud.demo.screen import until
from tests.functions_host.host_process import ForkedHost

T = TypeVar("T")
SAS_SECRETS = {"source": "acrexportsas", "target": "acrimportsas"}
"""The secret of the vault with the SAS of each side's pipeline."""


class Crossing:
    """The two clouds of the demo, driven from synchronous tests."""

    def __init__(self, folder: Path) -> None:
        self.demo = Demo.prepare(folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 120) -> T:
        """The result of a coroutine that runs beside the clouds.

        Raises:
            AssertionError: it took too long. Its cause shows, line by line, what it was waiting for.
        """
        return asyncio.run_coroutine_threadsafe(_in_time(work, timeout_s), self._loop).result()

    def close(self) -> None:
        """Stop the clouds, then the loop."""
        self.run(self.demo.close())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _in_time(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Its result; what takes too long is given up where it is, so that the error says where that was."""
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AssertionError(f"not done within {timeout_s:.0f} s; the cause shows where it stood") from error


async def renewed_sas(cloud: Cloud) -> str:
    """Have the app's timer come once; returns the SAS that it has put into the vault."""
    secret = SAS_SECRETS[cloud.role]
    before = cloud.vault.secret_values(secret)
    await asyncio.to_thread(
        requests.post, f"{cloud.api_url}/admin/functions/renew_pipeline_sas", json={}, timeout=30
    )

    def renewed() -> str | None:
        *older, newest = cloud.vault.secret_values(secret)
        return newest if older == before else None

    found: str = await until("renewing the SAS", renewed)
    return found


async def by_ticket(demo: Demo, verb: str, medium: Path, ticket: Path, *more: str) -> Moved:
    """Pull or push as the operator does who was given a ticket."""
    words = (verb, str(medium), *more, "--ticket", str(ticket), "--trust", str(demo.policy_file))
    return await offline_mover(*words, ca=demo.ca)


@pytest.fixture(scope="module")
def make_crossing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Crossing]]:
    """Makes crossings that are closed when the module ends; their hosts are forked, which saves half a start.

    The demo starts its own, as its user does: tests/e2e/test_readme.py, tests/e2e/test_namespaces.py.
    """
    made: list[Crossing] = []

    def make() -> Crossing:
        made.append(Crossing(tmp_path_factory.mktemp("crossing") / "demo"))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cloud, "spawn", ForkedHost)
        yield make
        for crossing in made:
            crossing.close()
