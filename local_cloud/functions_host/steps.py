"""The writing of one step of an orchestration: history, work, messages, sub-orchestrations, the end."""

import json
import uuid
from collections.abc import Callable
from dataclasses import replace

from local_cloud.functions_host.history import Event, EventType, epoch_s, event
from local_cloud.functions_host.replay import (
    Command,
    Completed,
    ContinuedAsNew,
    CreateTimer,
    Failed,
    Outcome,
    ScheduleActivity,
    StartSubOrchestration,
)
from local_cloud.functions_host.store import ActivityCall, Instance, Message, Parent, Status, Step


class StepWriter:
    """The writer of a `Step`, which reads nothing but whether the id of a sub-orchestration is free."""

    def __init__(self, lookup: Callable[[str], Instance | None], default_version: str) -> None:
        self._lookup = lookup
        self._default_version = default_version

    def new_instance(
        self, name: str, instance_id: str, input_text: str | None, version: str | None, now: float
    ) -> Instance:
        """An instance that has not started; `version` None means the host's default."""
        return Instance(
            id=instance_id,
            execution_id=uuid.uuid4().hex,
            name=name,
            version=self._default_version if version is None else version,
            input=input_text,
            status="Pending",
            output=None,
            custom_status=None,
            created_at=now,
            updated_at=now,
            parent=None,
        )

    def carry_out(self, step: Step, outcome: Outcome, now: float) -> None:
        """Add everything that `outcome` leads to: history, work, messages, the end."""
        scheduled = [self._schedule(step, command, now) for command in outcome.commands]
        done = event(EventType.ORCHESTRATOR_COMPLETED, now)
        step.new_events = [*step.new_events, *scheduled, done]
        if isinstance(outcome.end, ContinuedAsNew):
            self._start_next_generation(step, outcome.end, now)
        elif outcome.end is not None:
            _finish(step, outcome.end, now)

    def _schedule(self, step: Step, command: Command, now: float) -> Event:
        me = step.instance
        match command:
            case ScheduleActivity(task_id=task_id, name=name):
                call = ActivityCall(
                    instance_id=me.id,
                    execution_id=me.execution_id,
                    task_id=task_id,
                    name=name,
                    input=command.input,
                )
                step.activities = [*step.activities, call]
                return event(
                    EventType.TASK_SCHEDULED, now, task_id, Name=name, Version="", Input=command.input
                )
            case CreateTimer(task_id=task_id, fire_at=fire_at):
                fired = event(
                    EventType.TIMER_FIRED, max(now, epoch_s(fire_at)), TimerId=task_id, FireAt=fire_at
                )
                message = Message(
                    instance_id=me.id, execution_id=me.execution_id, due_at=epoch_s(fire_at), event=fired
                )
                step.messages = [*step.messages, message]
                return event(EventType.TIMER_CREATED, now, task_id, FireAt=fire_at)
            case StartSubOrchestration():
                return self._schedule_child(step, command, now)

    def _schedule_child(self, step: Step, command: StartSubOrchestration, now: float) -> Event:
        me = step.instance
        child_id = command.instance_id or f"{me.execution_id}:{command.task_id}"
        parent = Parent(instance_id=me.id, execution_id=me.execution_id, task_id=command.task_id)
        # The SDK's text is encoded once more, as for every start of an orchestration.
        input_text = None if command.input is None else json.dumps(command.input)
        child = replace(
            self.new_instance(command.name, child_id, input_text, command.version, now), parent=parent
        )
        current = self._lookup(child_id)
        is_taken = child_id == me.id or (current is not None and not current.is_finished)
        if is_taken or any(other.id == child_id for other in step.children):
            refusal = Failed(error=f"An orchestration instance with the id {child_id} is running already.")
            step.messages = [*step.messages, _to_parent(parent, refusal, now)]
        else:
            step.children = [*step.children, child]
            start = Message(
                instance_id=child_id, execution_id=child.execution_id, due_at=now, event=started(child)
            )
            step.messages = [*step.messages, start]
        return event(
            EventType.SUB_ORCHESTRATION_CREATED,
            now,
            command.task_id,
            Name=command.name,
            InstanceId=child_id,
            Input=input_text,
            Version=child.version,
        )

    @staticmethod
    def _start_next_generation(step: Step, end: ContinuedAsNew, now: float) -> None:
        input_text = None if end.input is None else json.dumps(end.input)
        step.instance = replace(
            step.instance, execution_id=uuid.uuid4().hex, input=input_text, updated_at=now
        )
        step.restarts_history, step.new_events = True, ()
        start = Message(
            instance_id=step.instance.id,
            execution_id=step.instance.execution_id,
            due_at=now,
            event=started(step.instance),
        )
        carried = [
            Message(
                instance_id=step.instance.id, execution_id=None, due_at=epoch_s(item["Timestamp"]), event=item
            )
            for item in end.carried
        ]
        step.messages = [start, *carried]


def started(instance: Instance) -> Event:
    """The first event of a generation of an instance."""
    return event(
        EventType.EXECUTION_STARTED,
        instance.created_at if instance.status == "Pending" else instance.updated_at,
        Name=instance.name,
        Version=instance.version,
        Input=instance.input,
        OrchestrationInstance={"InstanceId": instance.id, "ExecutionId": instance.execution_id},
        ParentInstance=instance.parent
        and {
            "OrchestrationInstance": {
                "InstanceId": instance.parent.instance_id,
                "ExecutionId": instance.parent.execution_id,
            }
        },
    )


def terminate(step: Step, reason: str, now: float) -> None:
    """End the instance at once; its parent is told of a failure."""
    _finish(step, Failed(error=reason), now, status="Terminated")


def _finish(step: Step, end: Completed | Failed, now: float, *, status: Status | None = None) -> None:
    output = json.dumps(end.output if isinstance(end, Completed) else end.error)
    verdict = status or ("Completed" if isinstance(end, Completed) else "Failed")
    completed = event(EventType.EXECUTION_COMPLETED, now, OrchestrationStatus=verdict, Result=output)
    step.new_events = [*step.new_events, completed]
    step.instance = replace(step.instance, status=verdict, output=output, updated_at=now)
    if step.instance.parent is not None:
        step.messages = [*step.messages, _to_parent(step.instance.parent, end, now)]


def _to_parent(parent: Parent, end: Completed | Failed, now: float) -> Message:
    if isinstance(end, Completed):
        result = None if end.output is None else json.dumps(end.output)
        item = event(
            EventType.SUB_ORCHESTRATION_COMPLETED, now, TaskScheduledId=parent.task_id, Result=result
        )
    else:
        item = event(
            EventType.SUB_ORCHESTRATION_FAILED,
            now,
            TaskScheduledId=parent.task_id,
            Reason=end.error,
            Details=None,
        )
    return Message(instance_id=parent.instance_id, execution_id=parent.execution_id, due_at=now, event=item)
