"""Serves HTTP triggers under their ASP.NET-style routes: `items/{id:int}/{*rest}`.

`authLevel` is ignored, as by `func start`: every caller is let in. A method that the function does not name
is answered 404, as in Azure.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from azure.functions.meta import Datum

from local_cloud.functions_host.app import App, AppError, Function, resolve_settings
from local_cloud.functions_host.invoke import InvocationError, Invoker

MAX_BODY_BYTES = 100 * 1024 * 1024  # what Azure Functions takes

_LOG = logging.getLogger(__name__)
_PARAMETER = re.compile(r"\{(?P<rest>\**)(?P<name>\w+)(?P<constraints>(?::[^{}]*)?)\}")
_KINDS = {
    "int": r"-?\d{1,10}",
    "long": r"-?\d{1,19}",
    "bool": r"(?i:true|false)",
    "alpha": r"[A-Za-z]*",
    "guid": r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}",
    "decimal": r"-?\d+(?:\.\d+)?",
    "double": r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "float": r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?",
    "datetime": r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?",
    "required": r".+",
}
_BOUNDS: Mapping[str, Callable[[str, int], bool]] = {
    "min": lambda value, least: int(value) >= least,
    "max": lambda value, most: int(value) <= most,
    "minlength": lambda value, least: len(value) >= least,
    "maxlength": lambda value, most: len(value) <= most,
}

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """One piece of a route between slashes: a literal, or a parameter with its checks."""

    literal: str = ""
    name: str = ""
    checks: tuple[Check, ...] = ()
    takes_rest: bool = False
    is_optional: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The route of one HTTP function; empty `methods` mean all methods."""

    function: Function
    methods: frozenset[str]
    segments: tuple[_Segment, ...]

    @property
    def rank(self) -> tuple[int, ...]:
        """The rank by which routes are tried: literal pieces, checked parameters, free ones, then a rest."""
        return tuple(0 if s.literal else 3 if s.takes_rest else 1 if s.checks else 2 for s in self.segments)

    def match(self, method: str, pieces: Sequence[str]) -> dict[str, str] | None:
        """The parameters of the route, if method and path fit; else None."""
        if self.methods and method not in self.methods:
            return None
        values: dict[str, str] = {}
        for position, segment in enumerate(self.segments):
            rest = pieces[position:]
            piece = "/".join(rest) if segment.takes_rest else rest[0] if rest else None
            if not _fits(segment, piece, values):
                return None
        ends_open = bool(self.segments) and self.segments[-1].takes_rest
        return values if ends_open or len(pieces) <= len(self.segments) else None


def _fits(segment: _Segment, piece: str | None, values: dict[str, str]) -> bool:
    if segment.literal:
        return piece is not None and piece.lower() == segment.literal.lower()
    if not piece:
        if segment.default is not None:
            values[segment.name] = segment.default
        return segment.is_optional or segment.takes_rest or segment.default is not None
    if not all(check(piece) for check in segment.checks):
        return False
    values[segment.name] = piece
    return True


def parse_route(function: Function) -> Route:
    """Read the route of an HTTP function; without one it is the function's name.

    Raises:
        AppError: The host does not understand the route.
    """
    template = resolve_settings(str(function.settings.get("route") or function.name)).strip("/")
    methods = function.settings.get("methods") or ()
    segments = tuple(_segment(piece, template) for piece in _split(template))
    if any(segment.takes_rest for segment in segments[:-1]):
        raise AppError(f"Route {template!r}: a rest parameter must be the last piece")
    return Route(
        function=function,
        methods=frozenset(str(getattr(m, "value", m)).upper() for m in methods),
        segments=segments,
    )


def _split(template: str) -> list[str]:
    """Splits at slashes, but not at those inside braces."""
    return re.split(r"/(?![^{}]*\})", template)


def _segment(piece: str, template: str) -> _Segment:
    if not set(piece) & set("{}"):
        return _Segment(literal=piece)
    body, default = piece, None
    is_optional = body.endswith("?}")
    if is_optional:
        body = body[:-2] + "}"
    elif "=" in body and ":" not in body:
        body, _, tail = body[:-1].partition("=")
        body, default = body + "}", tail
    match = _PARAMETER.fullmatch(body)
    if match is None:
        raise AppError(f"Route {template!r}: {piece!r} is not built into the local Functions host")
    constraints = re.findall(r":(\w+)(?:\((.*?)\))?(?=:|$)", match["constraints"])
    return _Segment(
        name=match["name"],
        checks=tuple(_check(name, argument, template) for name, argument in constraints),
        takes_rest=bool(match["rest"]),
        is_optional=is_optional,
        default=default,
    )


def _check(name: str, argument: str, template: str) -> Check:
    try:
        if name in _KINDS and not argument:
            pattern = re.compile(_KINDS[name])
            return lambda value: pattern.fullmatch(value) is not None
        if name == "regex":
            wanted = re.compile(argument)
            return lambda value: wanted.search(value) is not None
        numbers = [int(number) for number in argument.split(",")]
        if name in _BOUNDS and len(numbers) == 1:
            bound = _BOUNDS[name]
            return lambda value: (
                bound(value, numbers[0]) if name.endswith("length") or _is_int(value) else False
            )
        if name == "length" and len(numbers) <= 2:  # noqa: PLR2004 - one exact length, or least and most
            return lambda value: numbers[0] <= len(value) <= numbers[-1]
        if name == "range" and len(numbers) == 2:  # noqa: PLR2004 - least and most
            return lambda value: _is_int(value) and numbers[0] <= int(value) <= numbers[1]
    except (ValueError, re.error) as error:
        raise AppError(
            f"Route {template!r}: constraint {name}({argument}) cannot be read: {error}"
        ) from error
    raise AppError(f"Route {template!r}: constraint {name} is not built into the local Functions host")


def _is_int(value: str) -> bool:
    return re.fullmatch(_KINDS["long"], value) is not None


class HttpTriggers:
    """The HTTP functions of an app behind one aiohttp entry."""

    def __init__(self, app: App, invoker: Invoker) -> None:
        """Reads all routes.

        Raises:
            AppError: A route that this host does not understand.
        """
        routes = [parse_route(function) for function in app.of("httpTrigger")]
        self._routes = sorted(routes, key=lambda route: route.rank)
        self._prefix = [piece for piece in app.settings.route_prefix.split("/") if piece]
        self._invoker = invoker

    def add_routes(self, app: web.Application) -> None:
        """Take every path that nothing else takes; add this last."""
        app.router.add_route("*", "/{path:(?s:.*)}", self._serve)

    async def _serve(self, request: web.Request) -> web.Response:
        pieces = [piece for piece in request.match_info["path"].split("/") if piece]
        depth = len(self._prefix)
        if [piece.lower() for piece in pieces[:depth]] != [piece.lower() for piece in self._prefix]:
            return web.Response(status=404)
        for route in self._routes:
            values = route.match(request.method, pieces[depth:])
            if values is not None:
                return await self._call(route.function, request, values)
        return web.Response(status=404)

    async def _call(
        self, function: Function, request: web.Request, values: Mapping[str, str]
    ) -> web.Response:
        body = await request.read()
        try:
            reply = await self._invoker.http(function, _datum(request, values, body))
        except InvocationError as error:
            _LOG.error("HTTP function %s failed: %s\n%s", function.name, error, error.stack)
            return web.Response(status=500)
        response = web.Response(status=reply.status, body=reply.body)
        for name, value in reply.headers:
            if name.lower() == "content-type":
                response.headers["Content-Type"] = value
            elif name.lower() not in {"content-length", "transfer-encoding"}:
                response.headers.add(name, value)
        return response


def _datum(request: web.Request, values: Mapping[str, str], body: bytes) -> dict[str, Any]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    query = {name: ",".join(request.query.getall(name)) for name in request.query}
    return {
        "method": Datum(request.method, "string"),
        "url": Datum(str(request.url), "string"),
        "headers": _strings(headers),
        "query": _strings(query),
        "params": _strings(values),
        "body": Datum(body, "bytes"),
    }


def _strings(values: Mapping[str, str]) -> dict[str, Datum]:
    return {name: Datum(value, "string") for name, value in values.items()}
