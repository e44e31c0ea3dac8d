"""A scanner for the local cloud, which the target's app asks where ``CHECKS`` names it.

It looks into nothing. How it answers is chosen: as an honest one does, or as one that must not be believed.
"""

import asyncio
import json
from typing import Any, Literal

from aiohttp import web

from airgap.checks import Finding
from airgap.envelope import Envelope
from airgap.signatures import Signer
from airgap.signed_check import CheckStatement
from local_cloud.tokens import SCANNER_AUDIENCE, TokenAuthority, TokenRefused

Mood = Literal["pass", "fail", "slow", "silent", "away", "lying", "chatty", "moved", "unsigned", "forged"]
"""``slow``: not yet; ``silent``: never an answer; ``away``: 503; ``lying``: about another bundle;
``chatty``: an answer without end; ``moved``: it sends the caller, and its token, elsewhere; ``unsigned``: as
one without a key; ``forged``: "pass" under the signature of something else."""

_NAME = "local scanner 1"
_NO_DIGEST = "0" * 64


class Scanner:
    """A scanner that answers by its ``mood``, signed if it has a key, and remembers what it was asked."""

    def __init__(self, tokens: TokenAuthority, mood: Mood = "pass", signer: Signer | None = None) -> None:
        self.mood: Mood = mood
        self.signer = signer
        self.questions: list[dict[str, Any]] = []
        self._tokens = tokens

    def app(self) -> web.Application:
        """The web application of the scanner, to be served over TLS."""
        app = web.Application()
        app.router.add_post("/check", self._check)
        return app

    async def _check(self, request: web.Request) -> web.StreamResponse:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            self._tokens.verify(bearer, SCANNER_AUDIENCE)
        except TokenRefused:
            return web.Response(status=401)
        question = await request.json()
        self.questions.append(question)
        match self.mood:
            case "slow":
                return web.Response(status=202)
            case "silent":
                await asyncio.Event().wait()
            case "away":
                return web.Response(status=503, headers={"Retry-After": "86400"})
            case "moved":
                return web.Response(status=307, headers={"Location": "/check"})
            case "chatty":
                return web.Response(text=" " * (1024 * 1024), content_type="application/json")
        return web.Response(body=self._answer(question), content_type="application/json")

    def _answer(self, question: dict[str, Any]) -> bytes:
        digest = question["manifestDigest"].removeprefix("sha256:")
        finding = Finding(
            manifest_sha256=_NO_DIGEST if self.mood == "lying" else digest,
            blobs=tuple((one["name"], one["etag"]) for one in question["blobs"]),
            verdict="fail" if self.mood == "fail" else "pass",
            detail="EICAR-Test-File" if self.mood == "fail" else "nothing found",
            scanner=_NAME,
        )
        if self.signer is None or self.mood == "unsigned":
            manifest_digest = f"sha256:{finding.manifest_sha256}"
            return json.dumps({"schema": 1, "manifestDigest": manifest_digest, **finding.members()}).encode()
        statement = CheckStatement(
            check=question["check"], import_id=question["importId"], finding=finding
        ).to_bytes()
        if self.mood != "forged":
            return Envelope.sign(statement, [self.signer]).to_bytes()
        other = Envelope.sign(b"{}", [self.signer])
        return Envelope(payload=statement, signatures=other.signatures).to_bytes()
