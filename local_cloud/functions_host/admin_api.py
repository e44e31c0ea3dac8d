"""The host's own endpoints: with one an operator starts a timer function now, the other tells that it runs.

`POST /admin/functions/{name}` is answered 202 at once, as in Azure; how the run ends is seen in the log only.
`GET /admin/host/status` is what `az` asks after it has put a package on Flex Consumption. No master key is
asked for, as under `func start`.
"""

import json

from aiohttp import web

from local_cloud.functions_host.app import App
from local_cloud.functions_host.timers import TimerTriggers


class AdminApi:
    """The two admin routes; functions with another trigger than a timer are answered 501."""

    def __init__(self, app: App, timers: TimerTriggers) -> None:
        self._functions = {function.name.lower(): function for function in app.functions}
        self._timers = timers

    def add_routes(self, app: web.Application) -> None:
        """Registers the routes; add them before the HTTP triggers, which take every path that is left."""
        app.router.add_post("/admin/functions/{name}", self._invoke)
        app.router.add_get("/admin/host/status", self._status)

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response({"state": "Running"})

    async def _invoke(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415)
        try:
            body = json.loads(await request.text())
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):  # `input` may be missing: a timer takes none
            return web.Response(status=400)
        function = self._functions.get(request.match_info["name"].lower())
        if function is None:
            return web.Response(status=404)
        if function.trigger != "timerTrigger":
            text = f"Starting a function with a {function.trigger} is not built into the local Functions host"
            return web.Response(status=501, text=text)
        self._timers.run_now(function.name)
        return web.Response(status=202)
