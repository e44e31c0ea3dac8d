#!/usr/bin/env python3
"""Receive events, check their signatures and print each once; Python 3.9 or later, nothing else.

    export EVENTS_SECRET=whsec_…   # what lies in the vault as events-webhook
    PORT=8080 python3 receive_events.py

Listens on this machine in plain HTTP: the app sends to https addresses only, so put what ends TLS in front.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300
MAX_BODY_BYTES = 64 * 1024
seen: deque[str] = deque(maxlen=10_000)  # keep ids where a restart does not lose them, if doubles matter


def is_signed(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether somebody who has the secret signed exactly these bytes, minutes ago at most."""
    message_id, seconds = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (seconds.isascii() and seconds.isdecimal() and abs(now - int(seconds)) <= TOLERANCE_S):
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{seconds}.".encode() + body, hashlib.sha256)
    wanted = b"v1," + base64.b64encode(digest)
    told = headers.get("webhook-signature", "").encode()
    return any(hmac.compare_digest(wanted, one) for one in told.split())  # several while a secret is replaced


class Receiver(BaseHTTPRequestHandler):
    """Answers at once; whoever has more to do puts the event into a queue first."""

    timeout = 10

    def do_POST(self) -> None:
        """204 for what is signed, also if it came before; 401 for anything else."""
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and int(length) <= MAX_BODY_BYTES):
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        if not is_signed(self.headers, body, os.environ["EVENTS_SECRET"], time.time()):
            self.send_error(401)
            return
        event = json.loads(body)
        if event["id"] not in seen:  # each comes at least once
            seen.append(event["id"])
            data = event["data"]
            sys.stdout.write(f"{event['time']} {event['subject']} {data['state']} {data.get('code', '')}\n")
            sys.stdout.flush()
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver).serve_forever()
