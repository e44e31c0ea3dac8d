"""The ticket: one file that gives its holder rights to the blobs of one bundle for a short time.

A *drop* ticket is for the target: its holder may bring the bundle that it names, and nothing else. A *pickup*
ticket is for the source: its holder may fetch it. Each blob has a SAS of its own, so that a ticket reaches no
name beside those of its bundle; what a SAS allows stands in the SAS itself, and the storage judges by that.

It is unsigned on purpose, like the re-carry request: the SAS in it prove themselves to the storage, and what
is fetched or taken by them is judged by the bundle manifest's signatures, as if there were no ticket. It is a
secret until it expires. Normative text: ``docs/format.md`` §18.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Self
from urllib.parse import parse_qs

from airgap import fields
from airgap.errors import Code, PolicyRefusal
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME
from airgap.parts import BLOB_NAME, MAX_BLOBS
from airgap.strict_json import dump_canonical, load_strict
from airgap.versions import Format

TICKET_ID = re.compile(r"[0-9a-f]{32}")
MAX_SAS_CHARACTERS = 2048
"""Of one SAS; one by a user delegation key has about 500."""

MAX_TICKET_BYTES = (MAX_BLOBS + 1) * (MAX_SAS_CHARACTERS + 64) + 4096
"""A SAS with its name for each blob and for the bundle manifest; the rest is the head."""

_CONTAINER_URL = re.compile(r"https://[^\s/?#@]{1,255}(?:/[a-z0-9-]{3,63}){1,2}")
_BLOB = re.compile(f"{BLOB_NAME.pattern}|{re.escape(ENVELOPE_NAME)}")
_SAS = re.compile(r"[!-~]*\bsig=[!-~]+")
_READ = fields.FieldReader(Code.TICKET_MALFORMED)


@unique
class TicketKind(StrEnum):
    """The use of a ticket: to fetch a bundle at the source, or to bring one to the target."""

    DROP = "drop"
    """To bring a bundle into the target's storage."""

    PICKUP = "pickup"
    """To fetch a bundle, or some blobs of it, from the source's storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A ticket for the bundle ``manifest_sha256`` (hex), good from ``valid_from`` to ``expires_at``.

    Args:
        kind: whether it is for fetching or for bringing.
        ticket_id: 32 hex digits, by which it stands in the journal of who gave it.
        transfer_id: the folder in the container that all its blobs are in.
        channel: the bundle's channel.
        manifest_sha256: the hex SHA-256 of the bundle manifest.
        container_url: the storage container's URL, without a SAS.
        valid_from: the storage takes it from then on; aware.
        expires_at: the storage takes it until then; aware.
        sas: the SAS to show the storage for each blob, by ascending name (``001``,
            ``bundle-manifest.dsse.json``). A
            pickup ticket of a re-carry request has not every blob; the bundle manifest is always among them.

    Raises:
        UntrustedInputError: ``TICKET_MALFORMED``, naming the first field at fault: what exists can be read.

    Not checked here: whether a SAS is one, and what it allows. The storage does.
    """

    kind: TicketKind
    ticket_id: str
    transfer_id: str
    channel: str
    manifest_sha256: str
    container_url: str
    valid_from: datetime
    expires_at: datetime
    sas: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        _READ.instance(self.kind, "kind", TicketKind)
        _READ.text(self.ticket_id, "ticketId", pattern=TICKET_ID)
        _READ.text(self.transfer_id, "transferId", pattern=fields.TRANSFER_ID)
        _READ.text(self.channel, "channel", pattern=fields.CHANNEL)
        _READ.text(self.manifest_sha256, "manifestDigest", pattern=fields.SHA256_HEX)
        _READ.text(self.container_url, "container", pattern=_CONTAINER_URL)
        _READ.moment(self.valid_from, "validFrom")
        _READ.moment(self.expires_at, "expiresAt")
        if self.expires_at <= self.valid_from:
            _READ.refuse("expiresAt", "not after validFrom")
        names = tuple(self.sas)
        _READ.each(names, "blobs", _check_name, least=2, most=MAX_BLOBS + 1)
        if any(name >= following for name, following in itertools.pairwise(names)):
            _READ.refuse("blobs", "not in ascending order, or one occurs twice")
        if names[-1] != ENVELOPE_NAME:
            _READ.refuse("blobs", f"{ENVELOPE_NAME} is not among them")
        for index, sas in enumerate(self.sas.values()):
            _check_sas(sas, f"blobs[{index}].sas")

    def to_bytes(self) -> bytes:
        """The ticket as the canonical JSON of its file."""
        return dump_canonical(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The ticket as the JSON members of its file."""
        return {
            "schema": 1,
            "kind": self.kind.value,
            "ticketId": self.ticket_id,
            "transferId": self.transfer_id,
            "channel": self.channel,
            "manifestDigest": f"sha256:{self.manifest_sha256}",
            "container": self.container_url,
            "validFrom": format_time(self.valid_from),
            "expiresAt": format_time(self.expires_at),
            "blobs": [{"name": name, "sas": sas} for name, sas in self.sas.items()],
        }

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a ticket, which anybody may have written.

        Raises:
            UntrustedInputError: ``TOO_LARGE``: it is larger than any ticket; ``NEWER_FORMAT``: a newer app
                gave it; ``TICKET_MALFORMED``, naming the first field at fault; no SAS is quoted.
        """
        value = load_strict(raw, max_bytes=MAX_TICKET_BYTES, code=Code.TICKET_MALFORMED)
        return cls(**_FORMAT.of_document(value)(value))

    def allows(self, name: str, permission: str) -> bool:
        """Whether the SAS for a blob says that it has a permission, one letter (``r``, ``c``).

        Not checked: whether the SAS is genuine; the storage judges that.
        """
        return permission in "".join(parse_qs(self.sas.get(name, "")).get("sp", []))

    def require_kind(self, kind: TicketKind) -> None:
        """Refuse a ticket of the other kind.

        Raises:
            PolicyRefusal: ``TICKET_MISMATCH``: the ticket is for the other side.
        """
        if self.kind is not kind:
            raise PolicyRefusal(Code.TICKET_MISMATCH, f"it is a {self.kind} ticket, not a {kind} ticket")

    def require_bundle(self, transfer_id: str, manifest_sha256: str) -> None:
        """Refuse a ticket for another bundle than the one whose trusted manifest is at hand.

        Raises:
            PolicyRefusal: ``TICKET_MISMATCH``: the ticket is for another bundle.
        """
        if (self.transfer_id, self.manifest_sha256) != (transfer_id, manifest_sha256):
            raise PolicyRefusal(
                Code.TICKET_MISMATCH,
                f"it is for transfer {self.transfer_id}, sha256:{self.manifest_sha256}, "
                f"and this is transfer {transfer_id}, sha256:{manifest_sha256}",
            )


def _read_v1(raw: Any) -> dict[str, Any]:
    """The arguments of :class:`Ticket`; its constructor checks them."""
    value = _READ.members(
        raw,
        "ticket",
        *("schema", "kind", "ticketId", "transferId", "channel", "manifestDigest"),
        *("container", "validFrom", "expiresAt", "blobs"),
    )
    kind = next((kind for kind in TicketKind if kind.value == value["kind"]), None)
    if kind is None:
        _READ.refuse("kind", f"not one of {', '.join(TicketKind)}")
    blobs = _READ.items(value["blobs"], "blobs", _read_blob, least=2, most=MAX_BLOBS + 1)
    if len(dict(blobs)) != len(blobs):
        _READ.refuse("blobs", "one occurs twice")
    return {
        "kind": kind,
        "ticket_id": value["ticketId"],
        "transfer_id": value["transferId"],
        "channel": value["channel"],
        "manifest_sha256": _READ.sha256(value["manifestDigest"], "manifestDigest"),
        "container_url": value["container"],
        "valid_from": _READ.time(value["validFrom"], "validFrom"),
        "expires_at": _READ.time(value["expiresAt"], "expiresAt"),
        "sas": dict(blobs),
    }


_FORMAT = Format(name="ticket", read=_READ, readers={1: _read_v1})


def _read_blob(raw: Any, where: str) -> tuple[str, str]:
    value = _READ.members(raw, where, "name", "sas")
    return _READ.text(value["name"], f"{where}.name"), value["sas"]


def _check_name(name: Any, where: str) -> None:
    _READ.text(name, where, pattern=_BLOB)


def _check_sas(sas: Any, where: str) -> None:
    """Refuse what no SAS looks like; the words are not repeated, since they may be a secret all the same."""
    if type(sas) is not str or len(sas) > MAX_SAS_CHARACTERS or not _SAS.fullmatch(sas):
        _READ.refuse(where, f"not a SAS of at most {MAX_SAS_CHARACTERS} characters")
