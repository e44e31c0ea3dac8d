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
        """Declare the decorated function as an orchestrator."""
        return cast("Declare", super().orchestration_trigger(*args, **kwargs))

    def activity_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare the decorated function as an activity."""
        return cast("Declare", super().activity_trigger(*args, **kwargs))

    def blob_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare the decorated function as one that is started by a blob."""
        return cast("Declare", super().blob_trigger(*args, **kwargs))

    def timer_trigger(self, *args: Any, **kwargs: Any) -> Declare:
        """Declare the decorated function as one that a schedule runs, one at a time over all workers."""
        return cast("Declare", super().timer_trigger(*args, **kwargs))

    def durable_client_input(self, *args: Any, **kwargs: Any) -> Declare:
        """Give the decorated function a Durable client as an argument."""
        return cast("Declare", super().durable_client_input(*args, **kwargs))


def source_of(events: BlobEvents) -> func.BlobSource:
    """The way in which a blob trigger learns of blobs: it lists the container, or the host gets events."""
    return {
        "poll": func.BlobSource.LOGS_AND_CONTAINER_SCAN,
        "eventGrid": func.BlobSource.EVENT_GRID,
    }[events]


class Activity(Generic[O, R]):
    """An activity by its name, with the type of its order, and of its result when it has done its work."""

    def __init__(self, name: str, order: type[O], result: type[R]) -> None:
        self.name = name
        self.order = order
        self.result = result


Table = Mapping[Activity[Any, Any], Callable[[P, Any], msgspec.Struct]]
"""The activities of one side, each with the step that it runs on that side's ports."""


def declare_activities(table: Table[P], ports: Callable[[], P]) -> Blueprint:
    """A blueprint that declares every activity of ``table``; ``ports`` gives the ports when needed."""
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
