"""The Durable HTTP surface answers as the extension's own does, where a kinder one would hide a fault."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functions_host.host_process import Answer, HostProcess, running_host

TOKEN = "x-ms-continuation-token"
PREFIXES = ("/durabletask", "/runtime/webhooks/durabletask")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A host with 120 instances, started in the order from the last id to the first."""
    with running_host(tmp_path_factory.mktemp("crowded")) as host:
        for number in reversed(range(120)):
            host.start("approval", {"seconds": 600}, f"many-{number:03}")
        yield host


def page(host: HostProcess, path: str, token: str = "") -> Answer:
    answer = host.call("GET", path, headers={TOKEN: token} if token else {})
    assert answer.status == 200, answer
    return answer


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("query", "sizes"),
    [("", [100, 20]), ("&top=50", [50, 50, 20]), ("&top=many", [100, 20]), ("&top=" + "9" * 5000, [100, 20])],
)
def test_list_comes_in_pages_ordered_by_id(
    crowded: HostProcess, prefix: str, query: str, sizes: list[int]
) -> None:
    path = f"{prefix}/instances?instanceIdPrefix=many-{query}"
    seen: list[int] = []
    found: list[str] = []
    token = ""
    while not seen or token:
        answer = page(crowded, path, token)
        seen.append(len(answer.json))
        found += [item["instanceId"] for item in answer.json]
        token = answer.headers[TOKEN]
    assert seen == sizes
    assert found == [f"many-{number:03}" for number in range(120)]


def test_list_of_the_client_ends_with_the_first_page(crowded: HostProcess) -> None:
    """The SDK drops the token, so what is behind it is lost without a word."""
    assert len(crowded.call("POST", "/api/client/list/many-").json) == 100


def test_filters_hold_on_every_page(crowded: HostProcess) -> None:
    path = "/durabletask/instances?instanceIdPrefix=many-00&top=6&runtimeStatus=Running,Pending"
    first = page(crowded, path)
    rest = page(crowded, path, first.headers[TOKEN])
    assert [item["instanceId"] for item in rest.json] == [f"many-{n:03}" for n in range(6, 10)]
    assert rest.headers[TOKEN] == ""


def test_token_that_is_none_is_refused(crowded: HostProcess) -> None:
    assert crowded.call("GET", "/durabletask/instances", headers={TOKEN: "?"}).status == 400


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("runtimeStatus=Nonsense", 10),  # nothing is left of the filter: all are listed
        ("runtimeStatus=completed", 10),  # case counts, so this is unknown too
        ("runtimeStatus=Nonsense,Completed", 0),
        ("createdTimeFrom=yesterday", 10),
        ("createdTimeFrom=2999-01-01T00:00:00Z", 0),
    ],
)
def test_values_that_cannot_be_read_are_ignored(crowded: HostProcess, query: str, count: int) -> None:
    path = f"/durabletask/instances?instanceIdPrefix=many-00&{query}"
    assert len(page(crowded, path).json) == count


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", 200),
        ("?returnInternalServerErrorOnFailure=true", 500),
        ("?returnInternalServerErrorOnFailure=True", 500),
        ("?returnInternalServerErrorOnFailure=false", 200),
        ("?returnInternalServerErrorOnFailure=yes", 200),  # no truth value: the default holds
    ],
)
def test_failed_instance_is_an_error_where_that_is_asked_for(
    host: HostProcess, query: str, code: int
) -> None:
    instance_id = host.start("raising")
    host.finish(instance_id)
    answer = host.hook("GET", f"instances/{instance_id}{query}")
    assert answer.status == code
    assert answer.json["runtimeStatus"] == "Failed"
    assert "Retry-After" not in answer.headers


def test_running_instance_says_when_and_where_to_ask_again(host: HostProcess) -> None:
    instance_id = host.start("approval", {"seconds": 600})
    path = f"/runtime/webhooks/durabletask/instances/{instance_id}?showInput=false"
    answer = host.call("GET", path)
    assert answer.status == 202
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Location"] == host.url + path
    started = host.hook("POST", "orchestrators/approval", {"seconds": 600})
    assert started.headers["Retry-After"] == "10"


def test_running_instance_is_not_purged(host: HostProcess) -> None:
    host.start("approval", {"seconds": 600}, "busy")
    answer = host.hook("DELETE", "instances/busy")
    assert (answer.status, answer.json) == (200, {"instancesDeleted": 0})
    assert host.call("POST", "/api/client/purge/busy").json == 0
    assert host.hook("GET", "instances/busy").status == 202


def test_purge_of_a_span_of_time_knows_no_prefix(tmp_path: Path) -> None:
    """Whoever adds one loses everything else that has ended, in Azure too."""
    with running_host(tmp_path) as host:
        for name in ("mine-1", "other-1"):
            host.start("chain", {"n": 1}, name)
            host.finish(name)
        host.start("approval", {"seconds": 600}, "busy")
        query = "createdTimeFrom=2020-01-01T00:00:00Z&instanceIdPrefix=mine-"
        assert host.hook("DELETE", f"instances?{query}&runtimeStatus=Failed").status == 404
        assert host.hook("DELETE", f"instances?{query}").json == {"instancesDeleted": 2}
        assert [item["instanceId"] for item in host.hook("GET", "instances").json] == ["busy"]


def test_restart_of_an_instance_that_runs_is_an_error_unless_it_gets_a_new_id(host: HostProcess) -> None:
    host.start("approval", {"seconds": 600}, "restarted")
    path = "instances/restarted/restart?restartWithNewInstanceId="
    assert host.hook("POST", path + "false").status == 500
    assert host.hook("POST", path + "true").json["id"] != "restarted"


@pytest.mark.parametrize("operation", ["Suspend", "RESUME", "Terminate", "raiseevent/approved"])
def test_operations_are_known_in_any_case(host: HostProcess, operation: str) -> None:
    instance_id = host.start("approval", {"seconds": 600})
    assert host.hook("POST", f"Instances/{instance_id}/{operation}", {}).status == 202


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "instances/{id}/explode"),
        ("GET", "instances/{id}/terminate"),
        ("PUT", "instances/{id}"),
    ],
)
def test_operations_that_do_not_exist(host: HostProcess, method: str, path: str) -> None:
    instance_id = host.start("approval", {"seconds": 600})
    assert host.hook(method, path.format(id=instance_id)).status == 404
