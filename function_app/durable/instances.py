"""Durable instances as values; the SDK's status object is untyped, and one for "there is none" too."""

import json
from dataclasses import dataclass
from typing import Any

_ACTIVE = frozenset({"Running", "Pending", "Suspended", "ContinuedAsNew"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The status of an orchestration, as the host tells it; ``order`` is its input, if asked for."""

    runtime_status: str
    order: dict[str, Any]

    @property
    def is_active(self) -> bool:
        """Whether the orchestration has not ended, in whatever way."""
        return self.runtime_status in _ACTIVE


async def find_instance(client: Any, instance_id: str, *, show_input: bool = False) -> Instance | None:
    """The status of the orchestration with that id; ``None`` if there is none."""
    return _read(await client.get_status(instance_id, show_input=show_input))


def _read(status: Any) -> Instance | None:
    if status.runtime_status is None:
        return None
    return Instance(runtime_status=str(status.runtime_status.name), order=_object(status.input_))


def _object(value: Any) -> dict[str, Any]:
    """An object, also where the host hands it over as JSON text, as it does inputs; else an empty one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}
