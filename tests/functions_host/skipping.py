"""A host in this process on a clock that stands still until a test moves it: days pass in no time."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from local_cloud.functions_host.app import App
from local_cloud.functions_host.history import EventType, completed_id, epoch_s
from local_cloud.functions_host.host import Host
from local_cloud.functions_host.store import Instance

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC).timestamp()
_PATIENCE_S = 20


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def hosted(folder: Path, app: App, clock: Clock, **options: Any) -> AsyncIterator[tuple[Host, str]]:
    """A running host, and its URL; a second one on the same folder goes on where the first ended."""
    host = Host(app, db=folder / "state.db", clock=clock, **options)
    url = await host.start()
    try:
        yield host, url
    finally:
        await host.stop()


def on_host(folder: Path, app: App, scenario: Callable[[Host, Clock], Awaitable[None]]) -> None:
    """Runs ``scenario`` on a host of its own."""

    async def run() -> None:
        clock = Clock()
        async with hosted(folder, app, clock) as (host, _):
            await scenario(host, clock)

    asyncio.run(run())


async def settle(host: Host, instance_id: str, reached: Callable[[Instance], bool]) -> Instance:
    """Waits for a state of an instance, which must exist by then."""
    async with asyncio.timeout(_PATIENCE_S):
        while (instance := host.engine.get(instance_id)) is None or not reached(instance):  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.005)
    return instance


async def ended(host: Host, instance_id: str) -> Instance:
    """Waits for the end of an instance."""
    return await settle(host, instance_id, lambda now: now.is_finished)


def move(host: Host, clock: Clock, to: float) -> None:
    """Sets the clock and tells the host so."""
    clock.now = to
    host.wake()


async def next_timer(host: Host, clock: Clock, instance_id: str) -> float:
    """Waits until the instance waits for a timer; gives the moment at which the first one fires."""

    def due() -> list[float]:
        history = host.engine.history(instance_id)
        fired = {completed_id(item) for item in history if item["EventType"] == EventType.TIMER_FIRED}
        created = [item for item in history if item["EventType"] == EventType.TIMER_CREATED]
        moments = [epoch_s(item["FireAt"]) for item in created if item["EventId"] not in fired]
        return [moment for moment in moments if moment > clock.now]

    await settle(host, instance_id, lambda _: bool(due()))
    return min(due())


async def fire_next_timer(host: Host, clock: Clock, instance_id: str) -> None:
    """Moves the clock to the moment for which the instance waits."""
    move(host, clock, await next_timer(host, clock, instance_id))


def has_taken(host: Host, instance_id: str, kind: EventType) -> bool:
    """The instance has taken in an event of that kind."""
    return any(item["EventType"] == kind for item in host.engine.history(instance_id))
