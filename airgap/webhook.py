"""The signature on what a webhook is sent, by Standard Webhooks 1.0: HMAC-SHA256 with a shared secret.

A secret is ``whsec_`` and the base64 of 24 to 64 bytes. What is signed is ``<id>.<seconds>.<body>``, and the
header ``webhook-signature`` has one ``v1,<base64>`` for each secret, a blank between them: while a secret is
replaced, the old and the new one both sign. See
<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from airgap.errors import Code, ServiceError

CLOUD_EVENT = "application/cloudevents+json"
"""Content type of the events that are sent so: CloudEvents 1.0 in JSON, structured mode."""

_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64
_MAX_SECRETS = 4


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """The secrets that deliveries are signed with: one, or several while one is replaced. Never shown."""

    _keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one secret, or up to four with blanks between them.

        Raises:
            ServiceError: ``SIGNING_FAILED``: it is something else. Nothing of it is shown.
        """
        keys = tuple(_key(word) for word in text.split())
        if not 1 <= len(keys) <= _MAX_SECRETS or None in keys:
            raise ServiceError(
                Code.SIGNING_FAILED,
                f"the webhook's secret is not 1 to {_MAX_SECRETS} of {_PREFIX} and the base64 of "
                f"{_LEAST_BYTES} to {_MOST_BYTES} bytes, with blanks between",
            )
        return cls(tuple(key for key in keys if key is not None))

    def sign(self, message_id: str, body: bytes, *, at: datetime) -> Mapping[str, str]:
        """The headers that go along with a delivery.

        Args:
            message_id: the same whenever this is sent; without a dot.
            body: exactly the bytes that are sent.
            at: the time of this try, aware; receivers refuse what is some minutes off their own.
        """
        seconds = str(int(at.timestamp()))
        signed = b".".join((message_id.encode("ascii"), seconds.encode("ascii"), body))
        signatures = (hmac.new(key, signed, hashlib.sha256).digest() for key in self._keys)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": seconds,
            "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
        }


def _key(word: str) -> bytes | None:
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if word.startswith(_PREFIX) and _LEAST_BYTES <= len(key) <= _MOST_BYTES else None
