"""Who calls: as App Service authentication says it, where that is switched on, for the journal.

With authentication switched on, App Service takes the header from every request that comes in and writes its
own; otherwise anybody can write it. So it is believed only where a setting says that it is on.
https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from airgap.errors import Code, UntrustedInputError
from airgap.strict_json import load_strict

ANYBODY = "caller"
"""Whoever has a function key: the Functions host does not tell which one it was."""

_HEADER = "X-MS-CLIENT-PRINCIPAL"
_MAX_HEADER_BYTES = 64 * 1024
_MAX_CHARACTERS = 128
_CLAIMS = (
    "preferred_username",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "appid",
    "azp",
    "http://schemas.microsoft.com/identity/claims/objectidentifier",
    "oid",
)
"""The first of these that the principal has names it: by a person's sign-in name, or an app's id."""


def name_caller(headers: Mapping[str, str], *, is_signed_in: bool) -> str:
    """Who called, in at most 128 printable characters; ``caller`` where nobody vouches for a name.

    Args:
        headers: of the request.
        is_signed_in: whether App Service has let only those through who have signed in.
    """
    raw = headers.get(_HEADER)
    if not is_signed_in or raw is None:
        return ANYBODY
    try:
        content = base64.b64decode(raw, validate=True)
        principal = load_strict(content, max_bytes=_MAX_HEADER_BYTES, code=Code.MANIFEST_MALFORMED)
    except (ValueError, binascii.Error, UntrustedInputError):
        return ANYBODY
    claims = _claims(principal)
    name = next((claims[kind] for kind in _CLAIMS if claims.get(kind)), ANYBODY)
    return "".join(one for one in name if one.isprintable())[:_MAX_CHARACTERS] or ANYBODY


def _claims(principal: Any) -> dict[str, str]:
    """The claims by their kinds; of several of one kind the first."""
    found: dict[str, str] = {}
    listed = principal.get("claims") if type(principal) is dict else None
    for claim in listed if type(listed) is list else []:
        match claim:
            case {"typ": str(kind), "val": str(value)}:
                found.setdefault(kind, value)
    return found
