"""A queue of Azure Storage by its REST interface; its SDK is no part of what is set up here.

https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest

_SCOPE = "https://storage.azure.com/.default"
_VERSION = "2021-12-02"
_TAKEN = 32  # the most that can be taken at once


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMessage:
    """A message that was taken, and the receipt by which it can be deleted."""

    id: str
    pop_receipt: str
    text: str


class StorageQueue:
    """A queue, asked by an identity; every method makes one call, and none is made again.

    Each raises an `AzureError` if the service does not do what it is asked for.
    """

    def __init__(self, service_uri: str, name: str, credential: TokenCredential) -> None:
        self.name = name
        self._url = f"{service_uri.rstrip('/')}/{quote(name)}"
        policy = BearerTokenCredentialPolicy(credential, _SCOPE)
        self._client: PipelineClient[Any, Any] = PipelineClient(
            service_uri, policies=[policy], connection_timeout=5, read_timeout=60
        )

    def make(self) -> None:
        """Make the queue, unless it is there."""
        self._send("PUT", self._url, expected=(HTTPStatus.CREATED, HTTPStatus.NO_CONTENT))

    def put(self, text: str) -> None:
        """Put a message at the end, in base64 as the host's own are."""
        encoded = base64.b64encode(text.encode()).decode()
        body = f"<QueueMessage><MessageText>{escape(encoded)}</MessageText></QueueMessage>"
        self._send("POST", f"{self._url}/messages", expected=(HTTPStatus.CREATED,), content=body)

    def take(self, *, hidden_s: int) -> Sequence[QueueMessage]:
        """Take the first messages, which are given to nobody else for ``hidden_s`` seconds.

        Messages that the host did not write are left out.
        """
        answer = self._send(
            "GET",
            f"{self._url}/messages",
            expected=(HTTPStatus.OK,),
            params={"numofmessages": _TAKEN, "visibilitytimeout": hidden_s},
        )
        found = ET.fromstring(answer).iter("QueueMessage")  # noqa: S314 - of our own storage
        return [one for one in map(_message, found) if one is not None]

    def delete(self, message: QueueMessage) -> None:
        """Delete a message that was taken, if it is still ours."""
        self._send(
            "DELETE",
            f"{self._url}/messages/{quote(message.id)}",
            expected=(HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST),
            params={"popreceipt": message.pop_receipt},
        )

    def _send(self, method: str, url: str, *, expected: tuple[HTTPStatus, ...], **parts: Any) -> bytes:
        headers = {"x-ms-version": _VERSION, "Content-Type": "application/xml"}
        request = HttpRequest(method, url, headers=headers, **parts)
        answer = self._client.send_request(request)
        if answer.status_code not in expected:
            raise HttpResponseError(response=answer)
        content: bytes = answer.read()
        return content


def _message(found: ET.Element) -> QueueMessage | None:
    parts: Mapping[str, str] = {one.tag: one.text or "" for one in found}
    try:
        text = base64.b64decode(parts["MessageText"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return QueueMessage(id=parts["MessageId"], pop_receipt=parts["PopReceipt"], text=text)
