"""The Durable SDK's decorators with types, and activities declared from a table."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import azure.durable_functions as df
import azure.functions as func
import msgspec

from function_app.durable.outcomes import run_step
from function_app.settings import BlobEvents

P = TypeVar("P")
O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741 - an order
R = TypeVar("R", bound=msgspec.Struct)

Declare = Callable[[Callable[..., Any]], Any]


class Blueprint(df.Blueprint):
    """A Durable blueprint whose decorators have types."""

    def orchestration_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare an orchestrator."""
        return cast("Declare", super().orchestration_trigger(*args, **kwargs))

    def activity_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare an activity."""
        return cast("Declare", super().activity_trigger(*args, **kwargs))

    def blob_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare a function that is started by a blob."""
        return cast("Declare", super().blob_trigger(*args, **kwargs))

    def timer_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare a function that runs by a schedule, one at a time over all workers."""
        return cast("Declare", super().timer_trigger(*args, **kwargs))

    def durable_client_input(self, *args: Any, **kwargs: Any) -> Declare:
        """Bind a durable client."""
        return cast("Declare", super().durable_client_input(*args, **kwargs))


def source_of(events: BlobEvents) -> func.BlobSource:
    """How a blob trigger learns of blobs: it lists the container, or events are sent to the host."""
    return {
        "poll": func.BlobSource.LOGS_AND_CONTAINER_SCAN,
        "eventGrid": func.BlobSource.EVENT_GRID,
    }[events]


class Activity(Generic[O, R]):
    """An activity by name: what it takes, and what it gives when it neither refuses, fails nor is pending."""

    def __init__(self, name: str, order: type[O], result: type[R]) -> None:
        self.name = name
        self.order = order
        self.result = result


Table = Mapping[Activity[Any, Any], Callable[[P, Any], msgspec.Struct]]
"""The activities of one side, each with the step that it runs on that side's ports."""


def declare_activities(table: Table[P], ports: Callable[[], P]) -> Blueprint:
    """A blueprint with every activity of ``table``."""
    blueprint = Blueprint()
    for activity, step in table.items():
        run = _runner(activity, step, ports)
        blueprint.function_name(activity.name)(blueprint.activity_trigger(input_name="order")(run))
    return blueprint


def _runner(
    activity: Activity[Any, Any], step: Callable[[P, Any], msgspec.Struct], ports: Callable[[], P]
) -> Callable[[Any], dict[str, Any]]:
    def run(order: Any) -> dict[str, Any]:
        return run_step(step, ports, activity.order, order)

    run.__name__ = run.__qualname__ = activity.name
    return run
