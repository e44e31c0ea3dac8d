"""Recorded histories, replayed step by step through the real SDK by the orchestrators of today."""

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from local_cloud.functions_host.history import EventType
from local_cloud.functions_host.invoke import Invoker
from local_cloud.functions_host.replay import NonDeterministicError, Replay
from tests.histories.harness import indexed
from tests.replay.record import HISTORIES, SCENARIOS, export_cancelled, recorded

# The SDK announces its strict typing once in a process, by whichever call comes first.
pytestmark = pytest.mark.filterwarnings("ignore:azure.functions df_loads")

FILES = sorted(HISTORIES.glob("*.json"))


def replay(generation: dict[str, Any]) -> None:
    """Every step of a generation leads to the actions that were recorded, and these fit its history."""
    name = generation["orchestrator"]
    apps = (indexed("source"), indexed("target"))
    app, function = next((app, found) for app in apps if (found := app.find("orchestrationTrigger", name)))
    invoker = Invoker(app, lambda: "{}")
    for step in generation["steps"]:
        history = played(generation["payload"]["history"][: step["events"]])
        payload = {**generation["payload"], "history": history, "isReplaying": step["events"] > 2}
        answer = asyncio.run(invoker.orchestrator(function, json.dumps(payload)))
        actions = [action for group in answer["actions"] for action in group]
        recorded_actions = generation["actions"][: step["actions"]]
        assert len(actions) == len(recorded_actions), name
        for action, recorded_action in zip(actions, recorded_actions, strict=True):
            assert as_recorded(action, recorded_action) == recorded_action, name
        assert answer["isDone"] == step["isDone"], name
        Replay(answer).run(history)
    assert answer.get("output") == generation["output"]
    invoker.close()


def as_recorded(action: dict[str, Any], recorded_action: dict[str, Any]) -> dict[str, Any]:
    """An action without what its order says beyond the recorded one: a later version may say more."""
    said, known = (json.loads(each.get("input") or "null") for each in (action, recorded_action))
    if not (isinstance(said, dict) and isinstance(known, dict)):
        return action
    less = {name: value for name, value in said.items() if name in known}
    return {**action, "input": recorded_action["input"]} if less == known else action


def played(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of a call: those since the last start of the orchestrator are new."""
    kinds = [item["EventType"] for item in history]
    new = len(kinds) - 1 - kinds[::-1].index(EventType.ORCHESTRATOR_STARTED)
    return [{**item, "IsPlayed": number < new} for number, item in enumerate(history)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recorded_history_leads_to_the_recorded_actions(file: Path) -> None:
    for generation in json.loads(file.read_text()):
        replay(generation)


def test_every_scenario_was_recorded() -> None:
    assert {file.stem for file in FILES} >= set(SCENARIOS)


def test_changed_order_of_steps_is_found() -> None:
    """A history in which two steps were taken the other way round is none of this orchestrator's."""
    generations = json.loads((HISTORIES / "import-imported.json").read_text())
    one = next(each for each in generations if each["orchestrator"] == "import_bundle")
    replay(copy.deepcopy(one))
    scheduled = [item for item in one["payload"]["history"] if item["EventType"] == EventType.TASK_SCHEDULED]
    scheduled[0]["Name"], scheduled[1]["Name"] = scheduled[1]["Name"], scheduled[0]["Name"]
    with pytest.raises(NonDeterministicError):
        replay(one)


@pytest.mark.parametrize(
    ("said", "is_same"),
    [
        ({"schema": 1, "late": "EXPIRED"}, True),
        ({"schema": 1, "late": "EXPIRED", "more": 1}, True),
        ({"schema": 1, "late": "OTHER"}, False),
        ({"schema": 1}, False),
    ],
)
def test_order_may_say_more_than_the_recorded_one_and_nothing_else(
    said: dict[str, Any], is_same: bool
) -> None:
    recorded_action = {"functionName": "f", "input": json.dumps({"schema": 1, "late": "EXPIRED"})}
    action = {"functionName": "f", "input": json.dumps(said)}
    assert (as_recorded(action, recorded_action) == recorded_action) is is_same


def test_recording_twice_gives_the_same_bytes() -> None:
    assert recorded(export_cancelled) == recorded(export_cancelled)
