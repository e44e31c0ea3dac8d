#!/usr/bin/env python3
"""Order a transfer and wait until its bundle is sealed; Python 3.9 or later, nothing else.

    export AIRGAP_URL=https://APP.azurewebsites.net AIRGAP_KEY=…
    python3 order_transfer.py --channel prod --audience target.azurecr.io --key build-4711 team/app:v1

Prints the transfer as JSON and ends with 0 if the bundle is sealed, or nothing is missing at the target; else
with 1. ``--key`` makes a repeat meet the same transfer: run it again after a failure of the network.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

AT_WORK = {"requested", "planned", "exporting", "hashing", "awaiting-signatures", "sealing", "dividing"}
GOOD = {"sealed", "divided", "nothing-missing", "previewed", "partly-delivered", "delivered"}
PATIENCE_S = 6 * 3600


def call(
    method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The answer's JSON and its headers; what is wrong is told with its remedy, and ends the program."""
    request = urllib.request.Request(  # noqa: S310 - the caller's own address
        os.environ["AIRGAP_URL"].rstrip("/") + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"x-functions-key": os.environ["AIRGAP_KEY"], **(headers or {})},
    )
    problem = ""
    for _ in range(5):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            problem = error.read().decode(errors="replace")
            if error.code != 503:  # noqa: PLR2004 - a service of the app is away
                sys.exit(f"{method} {path} was answered {error.code}: {problem}")
            time.sleep(int(error.headers.get("Retry-After", "60")))
    sys.exit(f"{method} {path} was answered 503 five times: {problem}")


def main() -> int:
    """Order, wait, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channel", required=True)
    parser.add_argument("--audience", required=True, help="the target registry's login server")
    parser.add_argument("--key", help="an Idempotency-Key, such as the number of the build")
    parser.add_argument("artifacts", nargs="+", help="repository:tag or repository@sha256:…")
    said = parser.parse_args()
    order = {"channel": said.channel, "audience": said.audience, "artifacts": said.artifacts}
    transfer, headers = call(
        "POST", "/api/transfers", order, {"Idempotency-Key": said.key} if said.key else {}
    )
    end = time.monotonic() + PATIENCE_S
    while transfer["state"] in AT_WORK and time.monotonic() < end:
        time.sleep(int(headers.get("Retry-After", "5")))
        transfer, headers = call("GET", transfer["links"]["self"])
    print(json.dumps(transfer, indent=1))  # noqa: T201
    return 0 if transfer["state"] in GOOD else 1


if __name__ == "__main__":
    sys.exit(main())
