"""The caller of a request: who it is, and what it may do, by the word of App Service authentication.

Where that is switched on, App Service takes the header from every request that comes in and writes its own;
otherwise anybody can write it. So it is believed only where a setting says that it is on.
https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airgap.errors import Code, UntrustedInputError
from airgap.strict_json import load_strict

ANYBODY = "caller"
"""Whoever has a function key: the Functions host does not tell which one it was."""

ADMIN_ROLE = "Transfer.Admin"
"""The app role that may cancel or void what others have ordered, and whatever the other roles may."""

ORDER_ROLE = "Transfer.Order"
"""The app role that may order transfers, also by standing orders, and take tickets."""

RELEASE_ROLE = "Transfer.Release"
"""The app role that may hand in releases and signatures. Who signed them is another question."""

_HEADER = "X-MS-CLIENT-PRINCIPAL"
_MAX_HEADER_BYTES = 64 * 1024
_MAX_CHARACTERS = 128
_OBJECT_IDS = ("http://schemas.microsoft.com/identity/claims/objectidentifier", "oid")
_TENANT_IDS = ("http://schemas.microsoft.com/identity/claims/tenantid", "tid")
_ROLES = ("roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role")
_NAMES = (
    "preferred_username",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "appid",
    "azp",
    *_OBJECT_IDS,
)
"""The first of these that the principal has names it: by a person's sign-in name, or an app's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request: the name, and the rights that go with it.

    Args:
        name: the name for people to read, at most 128 printable characters; ``caller`` where nobody vouches
            for one.
        identity: tenant and object id, which unlike a name are never given to anybody else; ``None`` where
            nobody vouches for them.
        roles: the caller's app roles.
        is_signed_in: whether App Service lets only those through who have signed in. Else a key was shown,
            which everybody who has it shares.
    """

    name: str
    identity: str | None
    roles: frozenset[str]
    is_signed_in: bool

    @property
    def facts(self) -> dict[str, str]:
        """The facts about the caller, beside the name, that the first journal entry of an order keeps."""
        return {} if self.identity is None else {"orderedBy": self.identity}

    def may_cancel(self, facts: Mapping[str, Any]) -> bool:
        """Whether this caller may cancel or void the transfer whose first journal entry has these facts.

        A caller who has signed in may do it to what the very same identity has ordered, and an admin to
        everything. Callers who show a key cannot be told from each other, and may do it to everything.
        """
        if not self.is_signed_in or ADMIN_ROLE in self.roles:
            return True
        return self.identity is not None and facts.get("orderedBy") == self.identity

    @property
    def may_order(self) -> bool:
        """Whether this caller may order transfers, also by standing orders; of what, the policy says."""
        return not self.is_signed_in or bool({ORDER_ROLE, ADMIN_ROLE} & self.roles)

    @property
    def may_release(self) -> bool:
        """Whether this caller may hand in a release or signature; whose one counts, the trust policy says."""
        return not self.is_signed_in or bool({RELEASE_ROLE, ADMIN_ROLE} & self.roles)

    @property
    def may_take_tickets(self) -> bool:
        """Whether this caller may have a ticket given; for which bundle, the trust policy says."""
        return not self.is_signed_in or bool({ORDER_ROLE, ADMIN_ROLE} & self.roles)


def read_caller(headers: Mapping[str, str], *, is_signed_in: bool) -> Caller:
    """The caller that a request's headers tell of.

    Args:
        headers: the request's headers.
        is_signed_in: whether App Service has let only those through who have signed in.
    """
    claims = _claims(headers.get(_HEADER)) if is_signed_in else {}
    name = "".join(one for one in _first(claims, _NAMES) if one.isprintable())[:_MAX_CHARACTERS]
    tenant, member = _first(claims, _TENANT_IDS), _first(claims, _OBJECT_IDS)
    return Caller(
        name=name or ANYBODY,
        identity=f"{tenant}/{member}"[:_MAX_CHARACTERS] if tenant and member else None,
        roles=frozenset(role for kind in _ROLES for role in claims.get(kind, ())),
        is_signed_in=is_signed_in,
    )


def _first(claims: Mapping[str, Sequence[str]], kinds: Sequence[str]) -> str:
    """The first claim that is not empty, of the first of these kinds that there is."""
    return next((claims[kind][0] for kind in kinds if kind in claims and claims[kind][0]), "")


def _claims(header: str | None) -> dict[str, list[str]]:
    """The values of the claims by their kinds, in order; none of a header that is not App Service's."""
    try:
        content = base64.b64decode(header or "", validate=True)
        principal = load_strict(content, max_bytes=_MAX_HEADER_BYTES, code=Code.MANIFEST_MALFORMED)
    except (ValueError, binascii.Error, UntrustedInputError):
        return {}
    found: dict[str, list[str]] = {}
    listed = principal.get("claims") if type(principal) is dict else None
    for claim in listed if type(listed) is list else []:
        match claim:
            case {"typ": str(kind), "val": str(value)}:
                found.setdefault(kind, []).append(value)
    return found
