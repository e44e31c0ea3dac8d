"""The logs of host and app, sent to Application Insights by the app's identity, as Azure's host sends them.

The app itself sends nothing: its package has no exporter, and the worker hands its lines to the host. Only
lines are sent here, no requests and no metrics. What cannot be sent is lost, as in Azure.

The wire is that of the exporters of Azure Monitor: envelopes as lines of JSON, to ``v2.1/track``.
https://github.com/Azure/azure-sdk-for-python/tree/main/sdk/monitor/azure-monitor-opentelemetry-exporter
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from azure.core import PipelineClient
from azure.core.exceptions import AzureError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest
from azure.identity import ManagedIdentityCredential

_SCOPE = "https://monitor.azure.com//.default"
_CONNECTION = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_AUTHENTICATION = "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"
_KEPT = 2000
_AT_ONCE = 200
_EVERY_S = 1.0
_MAX_CHARS = 32_768  # of a message, https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete
_LOG = logging.getLogger(__name__)


@contextmanager
def sending(environment: Mapping[str, str]) -> Iterator[None]:
    """A block in which log records are sent to Application Insights, if the settings say where."""
    handler, root = Telemetry.connect(environment), logging.getLogger()
    if handler is None:
        yield
        return
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class Telemetry(logging.Handler):
    """A log handler that sends records in a thread of its own, until it is closed."""

    def __init__(self, endpoint: str, key: str, client_id: str) -> None:
        super().__init__()
        policy = BearerTokenCredentialPolicy(ManagedIdentityCredential(client_id=client_id), _SCOPE)
        self._url = f"{endpoint.rstrip('/')}/v2.1/track"
        self._client: PipelineClient[Any, Any] = PipelineClient(
            endpoint, policies=[policy], connection_timeout=5, read_timeout=10
        )
        self._key = key
        self._waiting: deque[str] = deque(maxlen=_KEPT)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    @classmethod
    def connect(cls, environment: Mapping[str, str]) -> "Telemetry | None":
        """The handler that the settings ask for; ``None`` where they name no endpoint, or no identity."""
        told, how = (_fields(environment.get(name, "")) for name in (_CONNECTION, _AUTHENTICATION))
        endpoint, client_id = told.get("IngestionEndpoint"), how.get("ClientId")
        if not endpoint or not client_id or how.get("Authorization") != "AAD":
            return None
        return cls(endpoint, told.get("InstrumentationKey", ""), client_id)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record until it is sent, except records of this module itself."""
        if record.name != __name__:
            self._waiting.append(json.dumps(self._envelope(record)))

    def close(self) -> None:
        """Send what is left, and end."""
        self._closing.set()
        self._thread.join(5.0)
        super().close()

    def _run(self) -> None:
        while True:
            is_last = self._closing.wait(_EVERY_S)
            while lines := [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]:
                self._send("\n".join(lines))
            if is_last:
                return

    def _send(self, body: str) -> None:
        headers = {"Content-Type": "application/x-json-stream"}
        request = HttpRequest("POST", self._url, headers=headers, content=body.encode())
        try:
            answer = self._client.send_request(request)
        except AzureError as error:
            _LOG.warning("Telemetry cannot be sent: %s", type(error).__name__)
            return
        if answer.status_code != HTTPStatus.OK:
            _LOG.warning("Telemetry is not taken: HTTP %d", answer.status_code)

    def _envelope(self, record: logging.LogRecord) -> dict[str, Any]:
        severity = min(max(record.levelno // 10 - 1, 0), 4)
        message = self.format(record)[:_MAX_CHARS]
        return {
            "name": "Microsoft.ApplicationInsights.Message",
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "iKey": self._key,
            "tags": {"ai.cloud.role": "functions-host"},
            "data": {
                "baseType": "MessageData",
                "baseData": {"ver": 2, "message": message, "severityLevel": severity},
            },
        }


def _fields(text: str) -> dict[str, str]:
    """``A=b;C=d`` as a mapping."""
    pairs = (one.partition("=") for one in text.split(";") if "=" in one)
    return {name.strip(): value.strip() for name, _, value in pairs}
