"""A durable client in memory: what the HTTP API and the intake ask of the real one."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any


class RuntimeStatus(Enum):
    Running = "Running"
    Completed = "Completed"
    Pending = "Pending"
    Failed = "Failed"
    Terminated = "Terminated"


@dataclass
class Status:
    """As ``DurableOrchestrationStatus``: all ``None`` where there is no such instance."""

    instance_id: str | None = None
    name: str | None = None
    runtime_status: RuntimeStatus | None = None
    input_: Any = None
    output: Any = None
    custom_status: Any = None
    created_time: datetime | None = None
    last_updated_time: datetime | None = None


@dataclass
class DurableClient:
    """Keeps instances; ``is_racing`` makes the next start fail, as when another was faster."""

    instances: dict[str, Status] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    racing: Status | None = None
    queries: int = 0

    async def get_status(self, instance_id: str, *, show_input: bool = False) -> Status:
        del show_input
        return self.instances.get(instance_id, Status())

    async def get_status_by(self, *, created_time_from: datetime, created_time_to: datetime) -> list[Status]:
        self.queries += 1
        return [
            status
            for status in self.instances.values()
            if status.created_time and created_time_from <= status.created_time <= created_time_to
        ][:100]

    async def start_new(self, name: str, instance_id: str, order: Any) -> str:
        if self.racing is not None:
            self.instances[instance_id], self.racing = self.racing, None
            raise Exception("The operation failed with an unexpected status code 500")  # noqa: TRY002 - SDK's
        self.add(instance_id, name=name, order=order, state=RuntimeStatus.Running)
        self.started.append(instance_id)
        return instance_id

    async def terminate(self, instance_id: str, reason: str) -> None:
        assert reason
        self.instances[instance_id].runtime_status = RuntimeStatus.Terminated

    def add(
        self,
        instance_id: str,
        *,
        state: RuntimeStatus,
        name: str = "export_transfer",
        order: Any = None,
        output: Any = None,
        custom_status: Any = None,
        age: timedelta = timedelta(),
    ) -> Status:
        moment = datetime.now(UTC) - age
        self.instances[instance_id] = Status(
            instance_id, name, state, order, output, custom_status, moment, moment
        )
        return self.instances[instance_id]
