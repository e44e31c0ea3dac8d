"""The Durable HTTP surface: `/durabletask` for the SDK, `/runtime/webhooks/durabletask` for everybody.

Both have the same routes and answer as `HttpApiHandler` of the Durable extension does, also where that is
unkind: a list ends after 100 instances unless the caller follows the continuation token, a value of the query
that cannot be read counts as not given, and a purge by time knows no prefix. No keys are asked for, as under
`func start`.
"""

import base64
import datetime as dt
import json
import re
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web

from local_cloud.functions_host.engine import (
    AlreadyRunningError,
    Engine,
    UnknownOrchestratorError,
)
from local_cloud.functions_host.history import EventType, epoch_s, history_events
from local_cloud.functions_host.instance_ids import InstanceIdError
from local_cloud.functions_host.store import FINISHED, Instance, Query

_RPC = "/durabletask"
_WEBHOOKS = "/runtime/webhooks/durabletask"
_PLACEHOLDER = "INSTANCEID"
_PAGE = 100
_LARGEST_PAGE = 1000  # of Table Storage
_CONTINUATION = "x-ms-continuation-token"
_STATUSES = frozenset(
    {"Running", "Completed", "ContinuedAsNew", "Failed", "Canceled", "Terminated", "Pending", "Suspended"}
)
_RETRY_START_S = "10"
_RETRY_STATUS_S = "5"

_OPERATIONS = {
    "terminate": EventType.EXECUTION_TERMINATED,
    "suspend": EventType.EXECUTION_SUSPENDED,
    "resume": EventType.EXECUTION_RESUMED,
}


class DurableApi:
    """The Durable routes over one engine; `base_url` is the host's own, without trailing slash."""

    def __init__(self, engine: Engine, task_hub: str) -> None:
        self._engine = engine
        self._task_hub = task_hub
        self.base_url = ""

    def add_routes(self, app: web.Application) -> None:
        """Register all routes under both prefixes."""
        for prefix in (_RPC, _WEBHOOKS):
            orchestrator = f"{prefix}/{_in_any_case('orchestrators')}/{{name}}"
            listing = f"{prefix}/{_in_any_case('instances')}"
            instance = f"{listing}/{{id}}"
            app.router.add_post(orchestrator, self._start)
            app.router.add_post(f"{orchestrator}/{{id}}", self._start)
            for path in (listing, f"{listing}/"):
                app.router.add_get(path, self._list)
                app.router.add_delete(path, self._purge_many)
            app.router.add_get(instance, self._status)
            app.router.add_delete(instance, self._purge)
            app.router.add_post(f"{instance}/{_in_any_case('raiseEvent')}/{{event}}", self._raise_event)
            app.router.add_post(f"{instance}/{_in_any_case('restart')}", self._restart)
            app.router.add_post(f"{instance}/{_in_any_case('rewind')}", self._not_built)
            for operation, kind in _OPERATIONS.items():
                app.router.add_post(f"{instance}/{_in_any_case(operation)}", partial(self._operate, kind))
            app.router.add_route("*", f"{prefix}/entities{{rest:.*}}", self._not_built)

    def client_binding(self) -> str:
        """The text from which the SDK makes a `durableClient` parameter."""
        hooks = f"{self.base_url}{_WEBHOOKS}"
        create = f"{hooks}/orchestrators/{{functionName}}[/{{instanceId}}]"
        query = self._query()
        binding = {
            "taskHubName": self._task_hub,
            "creationUrls": {
                "createNewInstancePostUri": f"{create}?{query}",
                "createAndWaitOnNewInstancePostUri": f"{create}?timeout={{timeoutInSeconds}}"
                f"&pollingInterval={{intervalInSeconds}}&{query}",
            },
            "managementUrls": self._links(_PLACEHOLDER),
            "baseUrl": hooks,
            "requiredQueryStringParameters": query,
            "rpcBaseUrl": f"{self.base_url}{_RPC}/",
        }
        return json.dumps(binding)

    def _query(self) -> str:
        return f"taskHub={self._task_hub}&connection=Storage"

    def _links(self, instance_id: str) -> dict[str, str]:
        at, query = f"{self.base_url}{_WEBHOOKS}/instances/{instance_id}", self._query()
        return {
            "id": instance_id,
            "statusQueryGetUri": f"{at}?{query}",
            "sendEventPostUri": f"{at}/raiseEvent/{{eventName}}?{query}",
            "terminatePostUri": f"{at}/terminate?reason={{text}}&{query}",
            "rewindPostUri": f"{at}/rewind?reason={{text}}&{query}",
            "purgeHistoryDeleteUri": f"{at}?{query}",
            "restartPostUri": f"{at}/restart?{query}",
            "suspendPostUri": f"{at}/suspend?reason={{text}}&{query}",
            "resumePostUri": f"{at}/resume?reason={{text}}&{query}",
        }

    def _accepted(self, instance_id: str) -> web.Response:
        links = self._links(instance_id)
        headers = {"Location": links["statusQueryGetUri"], "Retry-After": _RETRY_START_S}
        return web.json_response(links, status=202, headers=headers)

    async def _start(self, request: web.Request) -> web.Response:
        body = await request.text()
        if body and _json(body) is _NOT_JSON:
            return _refusal(400, "The request body is not JSON.")
        if "timeout" in request.query:
            return _refusal(501, "Start-and-wait is not built into the local Functions host.")
        try:
            instance_id = self._engine.start(
                request.match_info["name"],
                instance_id=request.match_info.get("id"),
                input_text=body or None,
                version=request.query.get("version"),
            )
        except (UnknownOrchestratorError, InstanceIdError) as error:
            return _refusal(400, str(error))
        except AlreadyRunningError as error:
            return _refusal(500, str(error))
        return self._accepted(instance_id)

    async def _status(self, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        if instance is None:
            return web.Response(status=404)
        show_input = _flag(request, "showInput", default=True)
        body = _status_json(instance, show_input=show_input)
        if _flag(request, "showHistory", default=False):
            body["historyEvents"] = history_events(
                self._engine.history(instance.id),
                show_input=show_input,
                show_output=_flag(request, "showHistoryOutput", default=False),
            )
        if not instance.is_finished:
            headers = {"Location": str(request.url), "Retry-After": _RETRY_STATUS_S}
            return web.json_response(body, status=202, headers=headers)
        is_error = instance.status == "Failed" and _flag(
            request, "returnInternalServerErrorOnFailure", default=False
        )
        return web.json_response(body, status=500 if is_error else 200)

    async def _list(self, request: web.Request) -> web.Response:
        size = _page_size(request)
        try:
            after = _id_of(request.headers.get(_CONTINUATION, ""))
        except ValueError:
            return _refusal(400, "The continuation token is none of this host's.")
        query = replace(
            _query_of(request), id_prefix=request.query.get("instanceIdPrefix", ""), after_id=after
        )
        found = self._engine.find(replace(query, limit=size + 1))
        page = found[:size]
        show_input = _flag(request, "showInput", default=True)
        return web.json_response(
            [_status_json(instance, show_input=show_input) for instance in page],
            headers={_CONTINUATION: _token_of(page[-1].id) if len(found) > size else ""},
        )

    async def _raise_event(self, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        if instance is None:
            return web.Response(status=404)
        if instance.is_finished:
            return web.Response(status=410)
        body = await request.text()
        if request.content_type != "application/json" or (body and _json(body) is _NOT_JSON):
            return _refusal(400, "Only application/json request content is supported")
        self._engine.send(
            instance.id, EventType.EVENT_RAISED, Name=request.match_info["event"], Input=body or None
        )
        return web.Response(status=202)

    async def _operate(self, kind: EventType, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        if instance is None:
            return web.Response(status=404)
        if instance.is_finished:
            return web.Response(status=410)
        self._engine.send(instance.id, kind, Input=request.query.get("reason"))
        return web.Response(status=202)

    async def _restart(self, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        if instance is None:
            return _refusal(400, "InstanceId does not match a valid orchestration instance.")
        wants_new = _flag(request, "restartWithNewInstanceId", default=True)
        try:
            instance_id = self._engine.start(
                instance.name, instance_id=None if wants_new else instance.id, input_text=instance.input
            )
        except UnknownOrchestratorError as error:
            return _refusal(400, str(error))
        except AlreadyRunningError as error:
            return _refusal(500, str(error))
        return self._accepted(instance_id)

    async def _purge(self, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        if instance is None:
            return web.Response(status=404)
        return web.json_response({"instancesDeleted": self._engine.purge([instance])})

    async def _purge_many(self, request: web.Request) -> web.Response:
        query = _query_of(request)
        if query.created_from is None:
            return _refusal(400, "Please provide value for 'createdTimeFrom' parameter.")
        deleted = self._engine.purge(self._engine.find(query))
        return web.json_response({"instancesDeleted": deleted}, status=200 if deleted else 404)

    async def _not_built(self, request: web.Request) -> web.Response:
        return _refusal(501, f"{request.path} is not built into the local Functions host.")


_NOT_JSON = object()


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"Message": message, "ExceptionMessage": message}, status=status)


def _in_any_case(name: str) -> str:
    """A piece of a route that is matched without regard to case, as ASP.NET matches all of them."""
    return f"{{_{name}:(?i:{name})}}"


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    return {"true": True, "false": False}.get(request.query.get(name, "").strip().lower(), default)


def _page_size(request: web.Request) -> int:
    top = request.query.get("top", "")
    size = int(top) if re.fullmatch(r"[0-9]{1,9}", top) else 0
    return min(size, _LARGEST_PAGE) or _PAGE


def _query_of(request: web.Request) -> Query:
    """The filters that a list and a purge have in common."""
    names = [name for value in request.query.getall("runtimeStatus", []) for name in value.split(",")]
    return Query(
        created_from=_time(request.query.get("createdTimeFrom", "")),
        created_to=_time(request.query.get("createdTimeTo", "")),
        statuses=_STATUSES.intersection(name.strip() for name in names) or None,
    )


def _time(text: str) -> float | None:
    try:
        return epoch_s(text)
    except ValueError:
        return None


def _token_of(instance_id: str) -> str:
    return base64.b64encode(instance_id.encode()).decode()


def _id_of(token: str) -> str:
    """The reverse of `_token_of`.

    Raises:
        ValueError: Not such a token.
    """
    return base64.b64decode(token, validate=True).decode()


def _status_json(instance: Instance, *, show_input: bool) -> dict[str, Any]:
    return {
        "name": instance.name,
        "instanceId": instance.id,
        "runtimeStatus": instance.status,
        "input": _value(instance.input) if show_input else None,
        "customStatus": _value(instance.custom_status),
        "output": _value(instance.output) if instance.status in FINISHED else None,
        "createdTime": _seconds(instance.created_at),
        "lastUpdatedTime": _seconds(instance.updated_at),
    }


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _seconds(epoch: float) -> str:
    return dt.datetime.fromtimestamp(epoch, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
