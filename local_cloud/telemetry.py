"""Application Insights, as far as something is sent there: it takes lines, from whoever has the role for it.

Nothing can be asked of it but `messages`; no query runs here.
"""

import json
from collections import deque
from collections.abc import Callable

from aiohttp import web

from local_cloud.tokens import MONITOR_AUDIENCE, TokenAuthority, TokenRefused

_MAX_BODY_BYTES = 8 * 1024 * 1024
_KEPT = 20_000


class Ingestion:
    """The ingestion of one component; ``may_publish`` tells whether a principal has the role for it.

    Without a token nothing is taken, as with ``DisableLocalAuth``; `takes_anybody` switches that off.
    https://learn.microsoft.com/azure/azure-monitor/app/azure-ad-authentication
    """

    def __init__(self, tokens: TokenAuthority, *, may_publish: Callable[[str], bool]) -> None:
        self._tokens = tokens
        self._may_publish = may_publish
        self.takes_anybody = False
        self.messages: deque[str] = deque(maxlen=_KEPT)
        """The lines that were taken, the last ones of them."""

    def app(self) -> web.Application:
        """The web application that answers at the ingestion endpoint."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        for version in ("v2", "v2.1"):
            app.router.add_post(f"/{version}/track", self._track)
        return app

    async def _track(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        try:
            envelopes = [json.loads(line) for line in (await request.text()).splitlines() if line.strip()]
            told = [one["data"]["baseData"] for one in envelopes]
            messages = [str(one["message"]) for one in told if "message" in one]
        except (ValueError, TypeError, KeyError, RecursionError):
            return _answer(400, "Data is not a telemetry envelope")
        self.messages.extend(messages)
        return web.json_response(
            {"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "errors": []}
        )

    def _refusal(self, request: web.Request) -> web.Response | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token and self.takes_anybody:
            return None
        try:
            claims = self._tokens.verify(token if scheme.lower() == "bearer" else "", MONITOR_AUDIENCE)
        except TokenRefused:
            return _answer(401, "Authentication failed")
        if not self._may_publish(claims.principal_id):
            return _answer(403, "Not authorized to publish telemetry")
        return None


def _answer(status: int, message: str) -> web.Response:
    error = {"index": 0, "statusCode": status, "message": message}
    return web.json_response({"itemsReceived": 0, "itemsAccepted": 0, "errors": [error]}, status=status)
