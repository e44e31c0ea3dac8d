"""Every supported pattern through the real SDK, over HTTP, in a host of its own process."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.functions_host.host_process import HostProcess


@pytest.mark.parametrize(
    ("name", "body", "result"),
    [
        ("chain", {"n": 1}, {"n": 8, "greeting": "hello you"}),
        ("retrying", "retried", 3),
        ("exhausted", None, {"error": "Activity function 'fail' failed:  ValueError: never ", "after": 8}),
        ("fan_out", {"count": 40}, 3120),
        ("any_loop", None, [0, 2, 4]),
        ("approval", {"seconds": 0.05}, {"approved": None}),
        ("generations", {"n": 1, "left": 3}, 16),
    ],
)
def test_pattern(host: HostProcess, name: str, body: object, result: object) -> None:
    assert host.result(name, body) == result


def test_timer_moves_the_clock_of_the_orchestrator(host: HostProcess) -> None:
    assert host.result("timer", {"seconds": 0.1}) >= 0.1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fan_out_failing", "Activity function 'fail' failed:  ValueError: one of them"),
        ("parent_of_failing", "Orchestrator function 'raising' failed: broken orchestrator"),
        ("raising", "Orchestrator function 'raising' failed: broken orchestrator"),
        ("calls_nobody", "The function 'no_such_activity' doesn't exist"),
        ("unstable", "Non-Deterministic workflow detected"),
        ("uses_http", "call_http is not built"),
        ("big_status", "16 KB"),
    ],
)
def test_failure(host: HostProcess, name: str, text: str) -> None:
    status = host.finish(host.start(name))
    assert status["runtimeStatus"] == "Failed"
    assert status["output"].startswith(f"Orchestrator function '{name}' failed: ")
    assert text in status["output"]


def test_sub_orchestrations_know_their_parent(host: HostProcess) -> None:
    parent_id = host.start("parent", {"childId": "kid"})
    first, second = host.finish(parent_id)["output"]
    assert first == {"n": 10, "parent": parent_id, "id": "kid"}
    assert second["parent"] == parent_id
    assert second["id"].endswith(":1")


def test_event_beats_timer_and_ends_the_instance_at_once(host: HostProcess) -> None:
    instance_id = host.start("approval", {"seconds": 600})
    assert host.hook("POST", f"instances/{instance_id}/raiseEvent/approved", {"by": "me"}).status == 202
    assert host.finish(instance_id)["output"] == {"approved": {"by": "me"}}


def test_event_before_anybody_waits(host: HostProcess, tmp_path: Path) -> None:
    instance_id = host.start("late_listener", {"until": str(tmp_path / "go")})
    host.hook("POST", f"instances/{instance_id}/raiseEvent/early", [1])
    until_taken(host, instance_id, 1)
    (tmp_path / "go").touch()
    assert host.finish(instance_id)["output"] == [1]


def until_taken(host: HostProcess, instance_id: str, count: int) -> None:
    """Waits until so many events are in the history."""

    def taken(_: object) -> bool:
        history = host.hook("GET", f"instances/{instance_id}?showHistory=true").json["historyEvents"]
        return [line["EventType"] for line in history].count("EventRaised") == count

    host.until(instance_id, taken)


def test_event_through_the_client_arrives_as_json_text(host: HostProcess) -> None:
    instance_id = host.start("late_listener", {})
    host.call("POST", f"/api/client/raise_event/{instance_id}?event=early", {"by": "me"})
    assert host.finish(instance_id)["output"] == '{"by": "me"}'


def test_event_that_beat_a_cancelled_timer_comes_again_as_in_azure(host: HostProcess) -> None:
    instance_id = host.start("redelivered", {"rounds": 0})
    host.hook("POST", f"instances/{instance_id}/raiseEvent/tick", 1)
    assert host.finish(instance_id)["output"] == "the same event, five times"


def test_events_before_the_first_wait_all_become_the_last_as_in_azure(
    host: HostProcess, tmp_path: Path
) -> None:
    instance_id = host.start("three_waits", {"until": str(tmp_path / "go")})
    for number in range(3):
        host.hook("POST", f"instances/{instance_id}/raiseEvent/tick", number)
    until_taken(host, instance_id, 3)
    (tmp_path / "go").touch()
    assert host.finish(instance_id)["output"] == [2, 2, 2]


def test_events_over_generations(host: HostProcess) -> None:
    instance_id = host.start("event_counter", {"seen": []})
    for number in range(3):
        host.hook("POST", f"instances/{instance_id}/raiseEvent/tick", number)
        _until_seen(host, instance_id, number + 1)
    assert host.finish(instance_id)["output"] == [0, 1, 2]


def _until_seen(host: HostProcess, instance_id: str, count: int) -> None:
    host.until(instance_id, lambda status: _seen(status) >= count)


def _seen(status: dict[str, Any]) -> int:
    """How many events the current generation was started with; more than all once it has ended."""
    return 3 if status["output"] else len(json.loads(status["input"])["seen"])


def test_clock_and_guids_are_the_same_in_every_replay(host: HostProcess) -> None:
    instance_id = host.start("deterministic")
    status = host.until(instance_id, lambda now: (now["customStatus"] or {}).get("step") == 2)
    host.hook("POST", f"instances/{instance_id}/raiseEvent/go", 1)
    ended = host.finish(instance_id)
    assert ended["output"][0][0] == status["customStatus"]["guid"]
    assert ended["customStatus"] == status["customStatus"]
    assert ended["output"][0] != ended["output"][1]


def test_terminate(host: HostProcess) -> None:
    instance_id = host.start("approval", {"seconds": 600})
    assert host.call("POST", f"/api/client/terminate/{instance_id}").status == 200
    status = host.finish(instance_id)
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", "a reason")
    assert host.hook("POST", f"instances/{instance_id}/terminate").status == 410
    assert host.hook("POST", f"instances/{instance_id}/raiseEvent/approved", 1).status == 410


def test_suspended_instance_keeps_what_arrives_until_it_is_resumed(host: HostProcess) -> None:
    instance_id = host.start("approval", {"seconds": 600})
    host.call("POST", f"/api/client/suspend/{instance_id}")
    host.until(instance_id, lambda status: status["runtimeStatus"] == "Suspended")
    host.hook("POST", f"instances/{instance_id}/raiseEvent/approved", 1)
    other = host.start("chain", {"n": 1})
    host.finish(other)  # the host goes on
    assert host.status(instance_id)["runtimeStatus"] == "Suspended"
    host.call("POST", f"/api/client/resume/{instance_id}")
    assert host.finish(instance_id)["output"] == {"approved": 1}


def test_running_id_is_refused_and_a_finished_one_replaced(host: HostProcess) -> None:
    host.start("approval", {"seconds": 600}, "mine")
    assert host.hook("POST", "orchestrators/approval/mine", {"seconds": 1}).status == 500
    host.call("POST", "/api/client/terminate/mine")
    host.finish("mine")
    host.start("chain", {"n": 2}, "mine")
    assert host.finish("mine")["output"]["n"] == 16


def test_restart_and_purge(host: HostProcess) -> None:
    host.start("chain", {"n": 3}, "again")
    host.finish("again")
    assert host.call("POST", "/api/client/restart/again").json["id"] == "again"
    assert host.finish("again")["output"]["n"] == 24
    other = host.hook("POST", "instances/again/restart").json["id"]
    assert other != "again"
    assert host.finish(other)["output"]["n"] == 24
    assert host.call("POST", "/api/client/purge/again").json == 1
    assert host.hook("GET", "instances/again").status == 404


def test_list_filters(host: HostProcess) -> None:
    for name in ("filter-a", "filter-b"):
        host.start("chain", {"n": 1}, name)
        host.finish(name)
    assert host.call("POST", "/api/client/list/filter-").json == ["filter-a", "filter-b"]
    listed = host.hook("GET", "instances?instanceIdPrefix=filter-&runtimeStatus=Running,Failed").json
    assert listed == []
    listed = host.hook("GET", "instances?instanceIdPrefix=filter-&createdTimeTo=2020-01-01T00:00:00Z").json
    assert listed == []
    listed = host.hook(
        "GET",
        "instances?instanceIdPrefix=filter-&runtimeStatus=Completed&createdTimeFrom=2020-01-01T00:00:00Z&top=1",
    ).json
    assert [item["instanceId"] for item in listed] == ["filter-a"]


def test_status_shows_input_and_history_when_asked(host: HostProcess) -> None:
    host.start("chain", {"n": 1}, "shown")
    host.finish("shown")
    status = host.hook("GET", "instances/shown?showHistory=true&showHistoryOutput=true").json
    assert status["input"] == '{"n": 1}'  # a text: what start_new sends is encoded twice
    kinds = [line["EventType"] for line in status["historyEvents"]]
    assert kinds == ["ExecutionStarted", *["TaskCompleted"] * 4, "ExecutionCompleted"]
    assert host.hook("GET", "instances/shown?showInput=false").json["input"] is None
    assert host.call("POST", "/api/client/status/shown").json["runtimeStatus"] == "Completed"


@pytest.mark.parametrize("instance_id", ["@entity", "a%5Cb", "a%23b", "a%3Fb", "a%0Ab", "x" * 257])
def test_instance_ids_that_azure_refuses(host: HostProcess, instance_id: str) -> None:
    assert host.hook("POST", f"orchestrators/chain/{instance_id}", {"n": 1}).status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "orchestrators/nobody", 400),
        ("GET", "instances/nobody", 404),
        ("POST", "instances/nobody/raiseEvent/x", 404),
        ("POST", "instances/nobody/terminate", 404),
        ("POST", "instances/nobody/suspend", 404),
        ("POST", "instances/nobody/restart", 400),
        ("DELETE", "instances/nobody", 404),
        ("DELETE", "instances?runtimeStatus=Completed", 400),
        ("DELETE", "instances?createdTimeFrom=yesterday", 400),
        ("POST", "instances/nobody/rewind", 501),
        ("GET", "entities/counter/1", 501),
    ],
)
def test_refusals_of_the_durable_api(host: HostProcess, method: str, path: str, status: int) -> None:
    assert host.hook(method, path).status == status


def test_event_that_is_not_json_is_refused(host: HostProcess) -> None:
    instance_id = host.start("approval", {"seconds": 600})
    path = f"/runtime/webhooks/durabletask/instances/{instance_id}/raiseEvent/approved"
    assert host.call("POST", path, raw=b"{").status == 400


def test_rewind_fails_loudly_in_the_client(host: HostProcess) -> None:
    host.start("chain", {"n": 1}, "rewound")
    host.finish("rewound")
    assert host.call("POST", "/api/client/rewind/rewound").status == 500


def test_unknown_orchestrator_raises_in_the_client(host: HostProcess) -> None:
    assert host.call("POST", "/api/start/nobody", {}).status == 500
