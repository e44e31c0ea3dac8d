"""A receiver of events for the local cloud: checks the signature of each and keeps it, or does not take it.

How it answers is chosen: as a good one does, or as one that must not hold up anything.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any, Literal

from aiohttp import web

Mood = Literal["takes", "away", "throttling", "silent", "moved", "chatty"]
"""``away``: 500; ``throttling``: 429; ``silent``: never an answer; ``moved``: it sends the caller elsewhere;
``chatty``: it takes an event, with an answer of a megabyte."""

_TOLERANCE_S = 300
_CONTENT_TYPE = "application/cloudevents+json"
_MAX_BODY_BYTES = 64 * 1024


class EventReceiver:
    """Keeps the events that it took, in the order in which they came, doubles too.

    Args:
        secret: what they are signed with, ``whsec_`` and base64.
        mood: how it answers what is signed.
    """

    def __init__(self, secret: str, mood: Mood = "takes") -> None:
        self.secret = secret
        self.mood: Mood = mood
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        """How many requests there were, whatever became of them."""
        self.refused = 0
        """How many of them were not signed."""
        self._patience = asyncio.Event()

    def app(self) -> web.Application:
        """The application, to be served over TLS."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post("/events", self._receive)
        app.router.add_post("/elsewhere", self._receive)
        return app

    def close(self) -> None:
        """Let go whoever still waits for an answer, so that the server can be closed."""
        self._patience.set()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        body = await request.read()
        if not self._is_signed(request, body):
            self.refused += 1
            return web.Response(status=401)
        match self.mood:
            case "away":
                return web.Response(status=500, text="out of order")
            case "throttling":
                return web.Response(status=429, headers={"Retry-After": "86400"})
            case "silent":
                await self._patience.wait()
                return web.Response(status=500)
            case "moved":
                return web.Response(status=307, headers={"Location": "/elsewhere"})
        self.taken.append(json.loads(body))
        return web.Response(text=" " * 1024 * 1024) if self.mood == "chatty" else web.Response(status=204)

    def _is_signed(self, request: web.Request, body: bytes) -> bool:
        """Whether it is signed by Standard Webhooks 1.0, as any receiver has to check it."""
        message_id, seconds = (request.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp"))
        if request.content_type != _CONTENT_TYPE or not seconds.isdecimal():
            return False
        if abs(time.time() - int(seconds)) > _TOLERANCE_S:
            return False
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        wanted = hmac.digest(key, f"{message_id}.{seconds}.".encode() + body, hashlib.sha256)
        told = request.headers.get("webhook-signature", "").split()
        return any(hmac.compare_digest(one, f"v1,{base64.b64encode(wanted).decode()}") for one in told)
