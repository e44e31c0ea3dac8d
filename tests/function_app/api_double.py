"""A side's HTTP API in memory: its functions, as the host would call them for a request."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import azure.functions as func
import pytest
import requests
from azure.functions.decorators.http import HttpTrigger
from schemathesis import Response

from function_app.ports import Ports
from function_app.roles import build_app
from function_app.settings import Role
from tests.function_app.durable_client import DurableClient

URL = "https://app.example"
_SEGMENT = re.compile(r"\\\{(\w+)\\\}")


@dataclass(frozen=True, slots=True)
class _Route:
    path: re.Pattern[str]
    methods: frozenset[str]
    function: Any


@dataclass
class ApiDouble:
    """Answers requests; keys are nobody's here, since the host asks for them before the app is asked."""

    role: Role
    side: Ports
    durable: DurableClient = field(default_factory=DurableClient)

    def __post_init__(self) -> None:
        self._routes = list(_routes(self.role))
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """End the loop in which the functions run."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def send(self, request: requests.PreparedRequest) -> Response:
        """The answer to a request; 404 without a body where the host has no function for it."""
        split = urlsplit(request.url or "")
        for route in self._routes:
            match = route.path.fullmatch(str(split.path))
            if match is not None and request.method in route.methods:
                asked = func.HttpRequest(
                    method=str(request.method),
                    url=str(request.url),
                    headers={name: _text(value) for name, value in request.headers.items()},
                    params=_parameters(str(split.query)),
                    route_params={name: unquote(value) for name, value in match.groupdict().items()},
                    body=_bytes(request.body),
                )
                return _answer(request, self._loop.run_until_complete(self._call(route.function, asked)))
        return _answer(request, func.HttpResponse(status_code=404))

    async def _call(self, function: Any, request: func.HttpRequest) -> func.HttpResponse:
        answer: func.HttpResponse
        if hasattr(function, "client_function"):
            answer = await function.client_function(req=request, client=self.durable)
        else:
            answer = await function(req=request)
        return answer


def _routes(role: Role) -> Iterator[_Route]:
    for function in build_app(role).get_functions():
        trigger = function.get_trigger()
        if isinstance(trigger, HttpTrigger):
            path = _SEGMENT.sub(r"(?P<\1>[^/]+)", re.escape(f"/api/{trigger.route}"))
            methods = frozenset(str(getattr(one, "value", one)) for one in trigger.methods or ())
            yield _Route(re.compile(path), methods, function.get_user_function())


def _parameters(query: str) -> dict[str, str]:
    """As the worker has them: the values of a name that comes twice are put together."""
    return {name: ",".join(values) for name, values in parse_qs(query, keep_blank_values=True).items()}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(body: object) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body or b"")  # type: ignore[call-overload]


def _answer(request: requests.PreparedRequest, said: func.HttpResponse) -> Response:
    headers = {name.lower(): [value] for name, value in said.headers.items()}
    return Response(
        status_code=said.status_code,
        headers={"content-type": [said.mimetype], **headers},
        content=said.get_body(),
        request=request,
        elapsed=0,
        verify=False,
    )


@contextmanager
def in_memory(role: Role, side: Ports, patch: pytest.MonkeyPatch) -> Iterator[ApiDouble]:
    """The API of a side whose ports are these."""
    double = ApiDouble(role, side)
    replaced: dict[str, Callable[[], Any]] = {
        f"{role}_side": lambda: side,
        f"{role}_settings": lambda: side.settings,
        "surveyed_side": lambda: (side, {}),
    }
    for name, module in list(sys.modules.items()):
        for attribute, value in replaced.items():
            if name.startswith("function_app.") and hasattr(module, attribute):
                patch.setattr(module, attribute, value)
    try:
        yield double
    finally:
        double.close()
