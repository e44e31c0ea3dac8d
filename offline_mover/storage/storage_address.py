"""Addresses of storage and the SAS to show there: read from outside, checked, and never shown again.

A SAS is a password in the shape of a query string. It comes from a file or the environment, not from the
command line, where every user of the machine could read it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from airgap.errors import Code, OperatorError, PolicyRefusal
from airgap.fields import TRANSFER_ID

if TYPE_CHECKING:
    from airgap.ticket import Ticket

MAX_SAS_BYTES = 8 * 1024
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}(?:-secondary)?")
_SIGNATURE_BYTES = 32
_AZURE_STORAGE = re.compile(
    r"[a-z0-9]{3,24}(?:-secondary)?(?:\.blob\.core\.(?:windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)"
    r"|\.z[0-9]{1,2}\.blob\.storage\.azure\.net)(?::443)?"
)
"""Hosts that only Azure hands out, in the public cloud, US Government and China.

https://learn.microsoft.com/azure/storage/common/storage-account-overview#storage-account-endpoints
"""

_EXPIRY_FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sas:
    """A shared access signature, of which only what is no secret can be shown."""

    token: str = field(repr=False)
    permissions: str
    resource: str
    starts_at: datetime | None
    expires_at: datetime | None
    where: str
    """Where it came from: a file or a variable, to name in a message."""
    is_whole: bool = True
    """Whether its signature has the length that every one has."""
    version: str = ""
    """Of the rules that the service judges it by."""
    what: str = "SAS"
    """What the operator was given it as."""

    @classmethod
    def from_text(cls, text: str, where: str) -> Self:
        """Read a SAS token, with or without its leading ``?``.

        Args:
            text: the token.
            where: the words for where it came from; the text itself is in no message.

        Raises:
            OperatorError: ``USAGE``: the text is no SAS token, or lacks what every one has.
        """
        token = text.strip().removeprefix("?")
        if "://" in token:
            raise OperatorError(Code.USAGE, f"{where} holds a URL; it must hold only what follows the ?")
        if not token.isascii() or not token.isprintable() or " " in token or len(token) > MAX_SAS_BYTES:
            raise OperatorError(Code.USAGE, f"{where} does not hold a SAS token")
        if re.search("%(?![0-9A-Fa-f]{2})", token):  # no service can read such a query; some answer 500 to it
            raise OperatorError(Code.USAGE, f"the SAS in {where} is not whole, it is cut off: copy it again")
        values = {name: items[-1] for name, items in parse_qs(token).items()}
        if "sig" not in values:
            raise OperatorError(Code.USAGE, f"{where} does not hold a SAS token: it has no sig field")
        return cls(
            token=token,
            permissions=values.get("sp", ""),
            resource=values.get("sr", ""),
            starts_at=_time(values.get("st")),
            expires_at=_time(values.get("se")),
            where=where,
            is_whole=_is_signature(values["sig"]),
            version=values.get("sv", ""),
        )

    def for_blob(self, _name: str) -> Sas:
        """The SAS itself, for any blob, since it is for the container as a whole."""
        return self

    def is_expired(self, now: datetime) -> bool:
        """Whether the SAS says itself that its time is over."""
        return self.expires_at is not None and self.expires_at <= now


class Rights(Protocol):
    """The port to the SAS that a storage is shown for each blob."""

    def for_blob(self, name: str, /) -> Sas:
        """The SAS for a blob of the container; for the container itself, the empty name.

        Raises:
            PolicyRefusal: ``TICKET_MISMATCH``: there is none for it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketRights:
    """The SAS tokens of a ticket, each for one blob, by the blob's name in the container."""

    by_name: Mapping[str, Sas]
    where: str

    @classmethod
    def of(cls, ticket: Ticket, where: str) -> Self:
        """The rights that a ticket gives; ``where`` names its file.

        Raises:
            OperatorError: ``USAGE``: one of its SAS tokens is no SAS token.
        """
        return cls(
            by_name={
                f"{ticket.transfer_id}/{name}": replace(Sas.from_text(sas, where), what="ticket")
                for name, sas in ticket.sas.items()
            },
            where=where,
        )

    def for_blob(self, name: str) -> Sas:
        """The SAS for a blob of the ticket.

        Raises:
            PolicyRefusal: ``TICKET_MISMATCH``: there is none for it.
        """
        if name not in self.by_name:
            raise PolicyRefusal(
                Code.TICKET_MISMATCH, f"the ticket {self.where} gives no rights to {name or 'a list'}"
            )
        return self.by_name[name]


def _is_signature(text: str) -> bool:
    """Whether it is an HMAC-SHA256 in base64, as every signature of a SAS is."""
    try:
        return len(base64.b64decode(text.replace(" ", "+"), validate=True)) == _SIGNATURE_BYTES
    except ValueError:
        return False


def _time(text: str | None) -> datetime | None:
    """The forms that a SAS allows; ``None`` for anything else, since the service is the judge."""
    bare = re.sub(r"(?:\.\d+)?Z$", "", text or "")
    for form in _EXPIRY_FORMATS:
        try:
            return datetime.strptime(bare, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferAddress:
    """The URL of a container, and the id of the transfer in it, if the address names one."""

    container_url: str
    transfer_id: str | None

    @property
    def container(self) -> str:
        """The name of the container."""
        return self.container_url.rsplit("/", 1)[-1]

    def sibling(self, container: str) -> str:
        """The URL of another container of the same account."""
        return f"{self.container_url.rsplit('/', 1)[0]}/{container}"

    @property
    def host(self) -> str:
        """The host and port, for messages."""
        return urlsplit(self.container_url).netloc

    @classmethod
    def source(cls, url: str) -> Self:
        """Read the argument SOURCE: ``https://account.blob.core.windows.net/transfer/<transferId>``.

        Raises:
            OperatorError: ``USAGE``: it is no https URL of a transfer, or holds a secret.
        """
        base, segments = _split(url, "SOURCE")
        if not segments or not TRANSFER_ID.fullmatch(segments[-1]):
            raise OperatorError(
                Code.USAGE, "SOURCE must end with a transfer id: https://…/transfer/<transferId>"
            )
        return cls(
            container_url=_container_url(base, segments[:-1], "SOURCE"),
            transfer_id=segments[-1],
        )

    @classmethod
    def target(cls, url: str, word: str = "TARGET") -> Self:
        """Read the argument ``word``: ``https://account.blob.core.windows.net/incoming``.

        Raises:
            OperatorError: ``USAGE``: it is no https URL of a container, or holds a secret.
        """
        base, segments = _split(url, word)
        return cls(container_url=_container_url(base, segments, word), transfer_id=None)


def ticket_address(ticket: Ticket) -> TransferAddress:
    """The address of the container and transfer that a ticket is for.

    Raises:
        OperatorError: ``USAGE``: it names no https URL of a container.
    """
    address = TransferAddress.target(ticket.container_url, "the ticket's container")
    return replace(address, transfer_id=ticket.transfer_id)


def _split(url: str, what: str) -> tuple[str, list[str]]:
    """Scheme and host, and the path's segments; a refused URL is not repeated: it may hold a secret."""
    if not url.isascii() or not url.isprintable() or " " in url:  # urlsplit() would drop some of these
        raise OperatorError(Code.USAGE, f"{what} is not a URL")
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise OperatorError(Code.USAGE, f"{what} is not a URL") from None
    if "?" in url or "#" in url:
        raise OperatorError(
            Code.USAGE,
            f"{what} has a query string; if that is a SAS, consider it seen by others: get a new one, "
            "put it into a file and give --sas-file FILE",
        )
    if parts.scheme != "https" or not parts.hostname or not has_port:
        raise OperatorError(Code.USAGE, f"{what} is not an https:// URL")
    if "@" in parts.netloc:
        raise OperatorError(Code.USAGE, f"{what} holds a user name; remove everything before the @")
    return f"https://{parts.netloc}", [segment for segment in parts.path.split("/") if segment]


def _container_url(base: str, segments: list[str], what: str) -> str:
    """The container's URL; before it, at most the account's name, where hosts are addressed by number."""
    match segments:
        case [container] if _CONTAINER.fullmatch(container):
            return f"{base}/{container}"
        case [account, container] if _ACCOUNT.fullmatch(account) and _CONTAINER.fullmatch(container):
            return f"{base}/{account}/{container}"
    raise OperatorError(Code.USAGE, f"{what} does not name one container: https://<account>…/<container>…")


def require_token_host(address: TransferAddress, also: str | None) -> None:
    """Refuse to sign in at a host that is neither a storage of Azure's nor the one that the operator trusts.

    A token of whoever is signed in is good for every storage account of theirs, not only for this one.

    Raises:
        OperatorError: ``USAGE``: the host is neither.
    """
    host = address.host.lower()
    if _AZURE_STORAGE.fullmatch(host) or (also is not None and host == also.lower()):
        return
    raise OperatorError(
        Code.USAGE,
        f"{host} is no storage of a cloud that this tool knows, so your Azure sign-in is not shown to it; "
        f"give a SAS (--sas-file FILE), or --token-host {host} if you trust it with all your storage",
    )
