"""Redaction: secrets are taken out of others' words before these are shown, logged, kept or signed."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"(?i)(?<![a-z])(sig|accountkey|sharedaccesssignature|client_secret)(=|%(?:25)*3d)[^&\s'\";,]+"
)
_WEBHOOK = re.compile(r"\bwhsec_[A-Za-z0-9+/_-]+=*")
_BEARER = re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]+")


def redact(text: str) -> str:
    """The text with signatures and tokens taken out: the last line of defence, not the first.

    Found are a SAS's ``sig`` (also where its URL is percent-encoded, once or more), account keys, client
    secrets, secrets of webhooks and bearer tokens; the words around them stay.
    """
    return _WEBHOOK.sub("whsec_***", _BEARER.sub("Bearer ***", _SECRET.sub(r"\1\2***", text)))
