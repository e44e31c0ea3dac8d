"""Durable instances as values; the SDK's status object is untyped, and one for "there is none" too."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_PAGE = 100
_MAX_QUERIES = 200
_SHORTEST = timedelta(seconds=1)
_HORIZON = timedelta(days=731)
_ACTIVE = frozenset({"Running", "Pending", "Suspended", "ContinuedAsNew"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What the host tells of an orchestration; ``order`` (its input) only where it was asked for."""

    instance_id: str
    name: str
    runtime_status: str
    order: dict[str, Any]
    outcome: dict[str, Any]
    progress: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.runtime_status in _ACTIVE


async def find_instance(client: Any, instance_id: str, *, show_input: bool = False) -> Instance | None:
    """The instance of that id, if there is one."""
    return _read(await client.get_status(instance_id, show_input=show_input))


async def newest_instances(
    client: Any, name: str, *, wanted: Callable[[Instance], bool], limit: int, now: datetime
) -> tuple[list[Instance], bool]:
    """The ``limit`` newest instances of an orchestration that are ``wanted``, and whether these are all.

    The host answers a query with its first 100 instances in no order, sub-orchestrations among them, and the
    SDK drops the token for the rest. So short spans of time are asked for, from now backwards: shorter ones
    where a page is full, longer ones where it is not, for two years or 200 queries.
    """
    found: dict[str, Instance] = {}
    end, span = now, timedelta(hours=1)
    for _ in range(_MAX_QUERIES):
        page = await client.get_status_by(created_time_from=end - span, created_time_to=end)
        if len(page) >= _PAGE and span > _SHORTEST:
            span = max(span / 4, _SHORTEST)
            continue
        read = [instance for status in page if (instance := _read(status)) and instance.name == name]
        for instance in sorted(read, key=lambda one: one.created_at, reverse=True):
            if wanted(instance):
                found.setdefault(instance.instance_id, instance)
        if len(found) > limit:
            break
        end, span = end - span, span * 2
        if now - end > _HORIZON:
            return list(found.values()), True
    return list(found.values())[:limit], False


def _read(status: Any) -> Instance | None:
    if status.runtime_status is None or status.created_time is None:
        return None
    return Instance(
        instance_id=str(status.instance_id),
        name=str(status.name),
        runtime_status=str(status.runtime_status.name),
        order=_object(status.input_),
        outcome=_object(status.output),
        progress=_object(status.custom_status),
        created_at=_utc(status.created_time),
        updated_at=_utc(status.last_updated_time or status.created_time),
    )


def _object(value: Any) -> dict[str, Any]:
    """An object, also where the host hands it over as JSON text, as it does inputs; else an empty one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
