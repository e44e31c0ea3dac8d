"""The emulator's ARM surface: paths, api-versions, callers, error bodies, paging, asynchronous operations."""

import json
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from local_cloud.acr_transfer.errors import ArmError, invalid, not_authorized, not_found
from local_cloud.acr_transfer.records import Run
from local_cloud.acr_transfer.resources import KINDS, Kind, PipelineRequest, RunRequest, check_name
from local_cloud.acr_transfer.service import AcrTransfer
from local_cloud.tokens import ARM_AUDIENCES, TokenAuthority, TokenRefused

API_VERSIONS = tuple(
    f"{date}-preview"
    for date in (
        *("2019-12-01", "2020-11-01", "2021-06-01", "2021-08-01", "2021-12-01", "2022-02-01", "2023-01-01"),
        *("2023-06-01", "2023-08-01", "2023-11-01", "2024-11-01", "2025-03-01", "2025-05-01", "2025-06-01"),
        *("2025-12-01", "2026-01-01", "2026-03-01", "2026-09-01"),
    )
)
MAX_BODY_BYTES = 4 * 1024 * 1024
"""ARM takes templates of so many."""
_MAX_PAGE = 1000
_MAX_ECHO_CHARS = 128
_PROVIDER = "Microsoft.ContainerRegistry"
_PATH = re.compile(
    r"(?P<registry>/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerRegistry/registries/[^/]+)"
    r"/(?P<kind>exportPipelines|importPipelines|pipelineRuns)"
    r"(?:/(?P<name>[^/]+)(?:/operationStatuses/(?P<operation>[^/]+))?)?/?",
    re.IGNORECASE,
)
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_LOG = logging.getLogger(__name__)
_TOKEN_CODES = {
    "expired": ("ExpiredAuthenticationToken", "The access token expiry is in the past."),
    "audience": ("InvalidAuthenticationTokenAudience", "The access token is meant for another audience."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """An authorised request to one resource or collection."""

    request: web.Request
    kind: Kind
    name: str  # empty: the collection
    operation: str
    version: str
    caller: str

    def url(self, path: str, **query: str) -> str:
        """Return an absolute URL on the host that was called."""
        parts = "".join(f"&{key}={value}" for key, value in query.items())
        return f"{self.request.scheme}://{self.request.host}{path}?api-version={self.version}{parts}"


def arm_app(service: AcrTransfer) -> web.Application:
    """Return the ARM endpoint of ``service``; serve it over HTTPS. Source triggers work while it is served.

    One application at a time; when it has been cleaned up another may be served, with the same state.
    """
    return arm_app_of(TransferApi(service).answer, [service])


def arm_app_of(answer: Handler, services: Collection[AcrTransfer]) -> web.Application:
    """An ARM endpoint that answers everything by ``answer``; the services work while it is served.

    A service that is added to ``services`` meanwhile is opened by whoever adds it.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_arm_answers])
    app.router.add_route("*", "/{path:.*}", answer)

    async def work_while_served(_: web.Application) -> AsyncIterator[None]:
        for service in services:
            service.open()
        yield
        for service in services:
            await service.close()

    app.cleanup_ctx.append(work_while_served)
    return app


class TransferApi:
    """The answers of ARM about the pipelines and runs of one registry."""

    def __init__(self, service: AcrTransfer) -> None:
        self._service = service

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request about a pipeline or a run.

        Raises:
            ArmError: the request is refused; `arm_app_of` makes the answer of it.
        """
        self._refuse_if_told()
        call = self._authorise(request)
        if call.operation:
            return self._operation(call)
        if not call.name:
            return self._list(call)
        match request.method:
            case "GET":
                return self._get(call)
            case "DELETE":
                return self._delete(call)
            case _:
                body = await json_body(request)
                check_name(call.name)
                return (
                    self._put_run(call, body)
                    if call.kind == "pipelineRuns"
                    else self._put_pipeline(call, body)
                )

    def _refuse_if_told(self) -> None:
        refusal = self._service.next_refusal()
        if refusal is None:
            return
        too_many = refusal.status == web.HTTPTooManyRequests.status_code
        raise ArmError(
            refusal.status,
            "TooManyRequests" if too_many else "ServiceUnavailable",
            "The request is being throttled." if too_many else "The service is temporarily unavailable.",
            headers={"Retry-After": str(refusal.retry_after_s)},
        )

    def _authorise(self, request: web.Request) -> _Call:
        caller = caller_of(request, self._service.tokens)
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise ArmError(404, "InvalidResourceType", f"The resource type is not known in '{_PROVIDER}'.")
        version = version_of(request, f"registries/{match['kind']}", API_VERSIONS)
        kind = next(kind for kind in KINDS if kind.lower() == match["kind"].lower())
        operation = match["operation"] or ""
        if match["registry"].lower() != self._service.registry_id.lower():
            raise not_found(match["registry"])
        if request.method not in (("GET", "PUT", "DELETE") if match["name"] and not operation else ("GET",)):
            raise ArmError(
                405, "MethodNotAllowed", f"The HTTP method '{request.method}' is not supported here."
            )
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}[request.method]
        action = f"{_PROVIDER}/registries/{kind}/{'operationStatuses/' if operation else ''}{verb}"
        if not self._service.roles.allows(caller, action, request.path):
            raise not_authorized(caller, action, request.path)
        return _Call(
            request=request,
            kind=kind,
            name=match["name"] or "",
            operation=operation,
            version=version,
            caller=caller,
        )

    def _put_pipeline(self, call: _Call, body: object) -> web.Response:
        request = PipelineRequest.from_json(body, kind=call.kind, version=call.version)
        pipeline = self._service.put_pipeline(call.kind, call.name, request, call.caller)
        return web.json_response(pipeline.to_json(version=call.version))

    def _put_run(self, call: _Call, body: object) -> web.Response:
        behaviour = self._service.behaviour
        request = RunRequest.from_json(body, max_artifacts=behaviour.max_artifacts)
        run, is_new = self._service.put_run(call.name, request, call.caller)
        shown = run.to_json(version=call.version, behaviour=behaviour)
        if not is_new or behaviour.run_put_status == web.HTTPOk.status_code:
            return web.json_response(shown)
        location = call.url(f"{run.resource_id}/operationStatuses/{run.operation_id}")
        headers = {"Azure-AsyncOperation": location, **self._retry_after()}
        return web.json_response(shown, status=201, headers=headers)

    def _get(self, call: _Call) -> web.Response:
        if call.kind == "pipelineRuns":
            run = self._run(call)
            return web.json_response(run.to_json(version=call.version, behaviour=self._service.behaviour))
        pipeline = self._service.pipeline(call.kind, call.name)
        if pipeline is None:
            raise not_found(call.request.path)
        return web.json_response(pipeline.to_json(version=call.version))

    def _delete(self, call: _Call) -> web.Response:
        if call.kind != "pipelineRuns":
            was_there = self._service.delete_pipeline(call.kind, call.name)
            return web.Response(status=200 if was_there else 204)
        if not self._service.delete_run(call.name):
            return web.Response(status=204)
        if self._service.behaviour.run_delete_status == web.HTTPOk.status_code:
            return web.Response(status=200)
        path = f"{call.request.path.rstrip('/')}/operationStatuses/{_DELETED}{uuid.uuid4()}"
        return web.Response(status=202, headers={"Location": call.url(path), **self._retry_after()})

    def _operation(self, call: _Call) -> web.Response:
        if call.operation.startswith(_DELETED):
            return web.Response(status=200)
        run = self._run(call)
        if run.operation_id != call.operation:
            raise not_found(call.request.path)
        body = run.operation_to_json(behaviour=self._service.behaviour)
        headers = self._retry_after() if body["status"] == "Running" else {}
        return web.json_response(body, headers=headers)

    def _list(self, call: _Call) -> web.Response:
        resources: Sequence[Mapping[str, Any]]
        if call.kind == "pipelineRuns":
            behaviour = self._service.behaviour
            resources = [
                run.to_json(version=call.version, behaviour=behaviour) for run in self._service.runs()
            ]
        else:
            resources = [
                pipeline.to_json(version=call.version) for pipeline in self._service.pipelines(call.kind)
            ]
        token = call.request.query.get("$skiptoken", "0")
        if not re.fullmatch("[0-9]{1,9}", token):
            raise ArmError(400, "InvalidSkipToken", "The $skiptoken is not one that this service gave.")
        start, size = int(token), min(max(self._service.behaviour.page_size, 1), _MAX_PAGE)
        body: dict[str, Any] = {"value": resources[start : start + size]}
        if start + size < len(resources):
            body["nextLink"] = call.url(call.request.path, **{"$skiptoken": str(start + size)})
        return web.json_response(body)

    def _run(self, call: _Call) -> Run:
        run = self._service.run(call.name)
        if run is None:
            raise not_found(call.request.path)
        return run

    def _retry_after(self) -> dict[str, str]:
        seconds = self._service.behaviour.retry_after_s
        return {} if seconds is None else {"Retry-After": str(seconds)}


_DELETED = "pipelineruns-deleted-"


def caller_of(request: web.Request, tokens: TokenAuthority) -> str:
    """The object id of the caller, from its bearer token.

    Raises:
        ArmError: 401: there is no token, or none that counts here.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    headers = {"WWW-Authenticate": f'Bearer authorization_uri="{tokens.authority}", error="invalid_token"'}
    if scheme.lower() != "bearer" or not token:
        message = "Authentication failed. The 'Authorization' header is missing or invalid."
        raise ArmError(401, "AuthenticationFailed", message, headers=headers)
    try:
        return tokens.verify(token, *ARM_AUDIENCES).principal_id
    except TokenRefused as refusal:
        code, message = _TOKEN_CODES.get(
            refusal.code, ("InvalidAuthenticationToken", "The access token is invalid.")
        )
        raise ArmError(401, code, message, headers=headers) from None


def version_of(request: web.Request, kind: str, known: Sequence[str]) -> str:
    """The api-version that a request asks for, which must be one of those ``known`` of the type.

    Raises:
        ArmError: 400: it is missing, malformed, or not one that the type has.
    """
    named = {name.lower(): value for name, value in request.query.items()}
    version = named.get("api-version", "").lower()
    if not version:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise ArmError(400, "MissingApiVersionParameter", message)
    if not _VERSION.fullmatch(version):
        message = (
            f"The api-version '{version[:40]}' is invalid. It must be a date, with or without '-preview'."
        )
        raise ArmError(400, "InvalidApiVersionParameter", message)
    if version not in known:
        message = (
            f"No registered resource provider found for API version '{version}' for type"
            f" '{kind}'. The supported api-versions are '{', '.join(known)}'."
        )
        raise ArmError(400, "NoRegisteredProviderFound", message)
    return version


async def json_body(request: web.Request, read: Callable[[bytes], object] = json.loads) -> object:
    """The body of a request that says that it is JSON, read by ``read``.

    Raises:
        ArmError: 415: the request says something else; 413: the body is too large; 400: it is no JSON.
    """
    if request.content_type != "application/json":
        message = (
            f"The content media type '{request.content_type[:100]}' is not supported."
            " Only 'application/json' is supported."
        )
        raise ArmError(415, "UnsupportedMediaType", message)
    try:
        content = await request.read()
    except web.HTTPRequestEntityTooLarge:
        message = f"The request body is larger than {MAX_BODY_BYTES} bytes."
        raise ArmError(413, "RequestContentTooLarge", message) from None
    try:
        return read(content)
    except (ValueError, RecursionError):
        raise invalid("it is not JSON") from None


def _refusal(error: ArmError) -> web.Response:
    body = {"error": error.to_json()}
    return web.json_response(body, status=error.status, headers=error.headers)


@web.middleware
async def _arm_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        answer = await handler(request)
    except ArmError as error:
        answer = _refusal(error)
    except web.HTTPException as error:
        answer = _refusal(ArmError(error.status, "BadRequest", error.reason))
    except Exception:  # noqa: BLE001 - ARM answers with its error body, never with a trace
        _LOG.exception("the ARM emulator broke")
        answer = _refusal(ArmError(500, "InternalServerError", "The emulator met an unexpected condition."))
    if asked := request.headers.get("x-ms-client-request-id"):
        answer.headers["x-ms-client-request-id"] = asked[:_MAX_ECHO_CHARS]
    request_id = str(uuid.uuid4())
    answer.headers["x-ms-request-id"] = request_id
    answer.headers["x-ms-correlation-request-id"] = request.headers.get(
        "x-ms-correlation-request-id", request_id
    )
    answer.headers["api-supported-versions"] = ", ".join(API_VERSIONS)
    return answer
