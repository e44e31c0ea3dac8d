"""The Durable HTTP surface: `/durabletask` for the SDK, `/runtime/webhooks/durabletask` for everybody.

Both have the same routes. No keys are asked for, as under `func start`.
"""

import datetime as dt
import json
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
_MAX_LIST = 10_000

_OPERATIONS = {
    "terminate": EventType.EXECUTION_TERMINATED,
    "suspend": EventType.EXECUTION_SUSPENDED,
    "resume": EventType.EXECUTION_RESUMED,
}


class DurableApi:
    """Routes over one engine; `base_url` is the host's own, without trailing slash."""

    def __init__(self, engine: Engine, task_hub: str) -> None:
        self._engine = engine
        self._task_hub = task_hub
        self.base_url = ""

    def add_routes(self, app: web.Application) -> None:
        """Registers everything under both prefixes."""
        for prefix in (_RPC, _WEBHOOKS):
            instance = f"{prefix}/instances/{{id}}"
            app.router.add_post(f"{prefix}/orchestrators/{{name}}", self._start)
            app.router.add_post(f"{prefix}/orchestrators/{{name}}/{{id}}", self._start)
            for listing in (f"{prefix}/instances", f"{prefix}/instances/"):
                app.router.add_get(listing, self._list)
                app.router.add_delete(listing, self._purge_many)
            app.router.add_get(instance, self._status)
            app.router.add_delete(instance, self._purge)
            app.router.add_post(f"{instance}/raiseEvent/{{event}}", self._raise_event)
            app.router.add_post(f"{instance}/restart", self._restart)
            app.router.add_post(f"{instance}/{{operation:terminate|suspend|resume}}", self._operate)
            app.router.add_post(f"{instance}/rewind", self._not_built)
            app.router.add_route("*", f"{prefix}/entities{{rest:.*}}", self._not_built)

    def client_binding(self) -> str:
        """What a `durableClient` parameter is built from."""
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
        headers = {"Location": links["statusQueryGetUri"], "Retry-After": "10"}
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
        if instance.is_finished:
            return web.json_response(body)
        location = self._links(instance.id)["statusQueryGetUri"]
        return web.json_response(body, status=202, headers={"Location": location, "Retry-After": "10"})

    async def _list(self, request: web.Request) -> web.Response:
        try:
            query = _query_of(request)
        except ValueError as error:
            return _refusal(400, str(error))
        show_input = _flag(request, "showInput", default=True)
        found = self._engine.find(query)
        return web.json_response([_status_json(instance, show_input=show_input) for instance in found])

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

    async def _operate(self, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        if instance is None:
            return web.Response(status=404)
        if instance.is_finished:
            return web.Response(status=410)
        kind = _OPERATIONS[request.match_info["operation"]]
        self._engine.send(instance.id, kind, Input=request.query.get("reason"))
        return web.Response(status=202)

    async def _restart(self, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        if instance is None:
            return web.Response(status=404)
        wants_new = _flag(request, "restartWithNewInstanceId", default=True)
        try:
            instance_id = self._engine.start(
                instance.name, instance_id=None if wants_new else instance.id, input_text=instance.input
            )
        except UnknownOrchestratorError as error:
            return _refusal(400, str(error))
        except AlreadyRunningError as error:
            return _refusal(409, str(error))
        return self._accepted(instance_id)

    async def _purge(self, request: web.Request) -> web.Response:
        instance = self._engine.get(request.match_info["id"])
        deleted = self._engine.purge([instance]) if instance else 0
        return web.json_response({"instancesDeleted": deleted}, status=200 if deleted else 404)

    async def _purge_many(self, request: web.Request) -> web.Response:
        try:
            query = _query_of(request)
        except ValueError as error:
            return _refusal(400, str(error))
        if query.created_from is None:
            return _refusal(400, "Please provide a value for createdTimeFrom.")
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


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    return request.query.get(name, str(default)).lower() == "true"


def _query_of(request: web.Request) -> Query:
    query = request.query
    top = query.get("top", str(_MAX_LIST))
    if not top.isascii() or not top.isdigit():
        raise ValueError("top must be a whole number")
    statuses = [name for value in query.getall("runtimeStatus", []) for name in value.split(",") if name]
    return Query(
        created_from=_time(query.get("createdTimeFrom")),
        created_to=_time(query.get("createdTimeTo")),
        statuses=frozenset(name[:1].upper() + name[1:] for name in statuses) or None,
        id_prefix=query.get("instanceIdPrefix", ""),
        limit=min(int(top), _MAX_LIST),
    )


def _time(text: str | None) -> float | None:
    return None if not text else epoch_s(text)


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
