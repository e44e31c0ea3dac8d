"""HTTP triggers: routes, constraints, what the function sees and what the caller gets."""

import azure.functions as func
import pytest

from local_cloud.functions_host.app import AppError, HostSettings, index
from local_cloud.functions_host.http_triggers import Route, parse_route
from tests.functions_host.host_process import HostProcess


def route(template: str, *methods: str) -> Route:
    app = func.FunctionApp()

    @app.route(route=template, methods=methods or None)
    def handle(req: func.HttpRequest) -> str:
        return str(req.method)

    return parse_route(index(app, HostSettings()).functions[0])


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("items", "items", {}),
        ("Items", "iTEMS", {}),
        ("items", "items/1", None),
        ("items/{id}", "items/1", {"id": "1"}),
        ("items/{id}", "items", None),
        ("items/{id?}", "items", {}),
        ("items/{id=7}", "items", {"id": "7"}),
        ("items/{id:int}", "items/x", None),
        ("items/{id:int}", "items/-5", {"id": "-5"}),
        ("items/{id:int?}", "items", {}),
        ("items/{id:range(1,5)}", "items/6", None),
        ("items/{id:min(3)}", "items/3", {"id": "3"}),
        ("items/{id:min(3)}", "items/x", None),
        ("items/{id:length(2,3)}", "items/abc", {"id": "abc"}),
        ("items/{id:length(2)}", "items/abc", None),
        ("items/{id:maxlength(2)}", "items/abc", None),
        ("items/{id:alpha:minlength(2)}", "items/a", None),
        ("items/{id:alpha:minlength(2)}", "items/ab", {"id": "ab"}),
        (
            "items/{id:guid}",
            "items/0f8fad5b-d9cb-469f-a165-70867728950e",
            {"id": "0f8fad5b-d9cb-469f-a165-70867728950e"},
        ),
        ("items/{id:bool}", "items/TRUE", {"id": "TRUE"}),
        ("items/{id:regex(^a+/?$)}", "items/zz", None),
        ("items/{id:regex(^a+/?$)}", "items/aa", {"id": "aa"}),
        ("items/{*rest}", "items/a/b", {"rest": "a/b"}),
        ("items/{*rest}", "items", {}),
    ],
)
def test_route(template: str, path: str, values: dict[str, str] | None) -> None:
    assert route(template).match("GET", path.split("/")) == values


@pytest.mark.parametrize(
    "template",
    ["{a}-{b}", "{id:odd}", "{id:min(x)}", "{*rest}/more", "{id:regex([)}", "%NO_SUCH_SETTING%", "{id"],
)
def test_routes_that_are_not_understood_are_refused(template: str) -> None:
    with pytest.raises(AppError):
        route(template)


def test_literal_pieces_win_over_parameters() -> None:
    ranked = sorted(
        [route("{*rest}"), route("{id}"), route("{id:int}"), route("all")], key=lambda item: item.rank
    )
    assert [item.rank for item in ranked] == [(0,), (1,), (2,), (3,)]


def test_request_and_response_in_full(host: HostProcess) -> None:
    answer = host.call("PUT", "/api/echo/5/x/y?a=1&b=2&b=3", raw=b"12345")
    assert answer.status == 203
    assert answer.json == {
        "method": "PUT",
        "params": {"number": "5", "rest": "x/y"},
        "query": {"a": "1", "b": "2,3"},
        "size": 5,
        "function": "echo",
    }
    assert answer.headers["X-Sample"] == "yes"
    assert answer.headers["Set-Cookie"] == "a=1; Path=/"
    assert answer.headers["Content-Type"].startswith("application/json")


def test_body_above_one_mebibyte_is_taken(host: HostProcess) -> None:
    assert host.call("PUT", "/api/echo/5", raw=b"x" * (2 << 20)).json["size"] == 2 << 20


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/echo/5", 404),  # Azure's answer to a method that the function does not name
        ("GET", "/api/echo/five", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/echo/5", 404),
        ("GET", "/", 404),
        ("GET", "/api/broken", 500),
    ],
)
def test_refusals(host: HostProcess, method: str, path: str, status: int) -> None:
    assert host.call(method, path).status == status


def test_line_break_in_a_path_reaches_the_function(host: HostProcess) -> None:
    assert host.call("PUT", "/api/echo/5/x%0Ay").json["params"]["rest"] == "x\ny"


def test_exception_text_does_not_reach_the_caller(host: HostProcess) -> None:
    assert host.call("GET", "/api/broken").body == b""


def test_wait_for_completion_answers_with_the_output(host: HostProcess) -> None:
    answer = host.call("POST", "/api/wait/chain", {"n": 1})
    assert (answer.status, answer.json["n"]) == (200, 8)


def test_check_status_response_leads_to_the_status(host: HostProcess) -> None:
    answer = host.call("POST", "/api/start/chain", {"n": 1})
    assert answer.headers["Location"] == answer.json["statusQueryGetUri"]
    path = answer.json["statusQueryGetUri"].removeprefix(host.url)
    assert host.call("GET", path).json["instanceId"] == answer.json["id"]
