"""A durable client in memory: what the HTTP API and the intake ask of the real one."""

from dataclasses import dataclass, field
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


@dataclass
class DurableClient:
    """Keeps instances; ``racing`` makes the next start fail, as when another was faster.

    While it ``is_away``, it answers as a host that is gone.
    """

    instances: dict[str, Status] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    racing: Status | None = None
    is_away: bool = False

    async def get_status(self, instance_id: str, *, show_input: bool = False) -> Status:
        del show_input
        if self.is_away:
            raise ConnectionError
        return self.instances.get(instance_id, Status())

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
    ) -> Status:
        self.instances[instance_id] = Status(instance_id, name, state, order)
        return self.instances[instance_id]
