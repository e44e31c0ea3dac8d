"""The giving of tickets, on either side: a ticket is signed, put on record, and only then handed out."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from airgap.fields import format_time
from airgap.manifest import BundleManifest
from airgap.states import Kind, State
from airgap.ticket import Ticket, TicketKind
from function_app.http.caller import Caller
from function_app.journal.store import JournalStore
from function_app.ports import Ports
from function_app.storage.paths import blob_path

_EARLIER = timedelta(minutes=5)
"""By so much two services' clocks may differ: a SAS that begins now may not have begun at the storage."""


def new_ticket_id() -> str:
    """A new id for a ticket, 32 random hex digits; knowing it gives no right to anything."""
    return uuid4().hex


def give_ticket(
    side: Ports,
    kind: TicketKind,
    manifest: BundleManifest,
    manifest_sha256: str,
    *,
    ticket_id: str,
    container: str,
    allowed: Mapping[str, str],
    caller: Caller,
    now: datetime,
) -> Ticket:
    """Give a ticket for blobs of a bundle, and record in the journal who took it, for what, until when.

    Args:
        side: the settings and ports of either side.
        kind: the kind of the ticket.
        manifest: the bundle's manifest, which is trusted.
        manifest_sha256: its hex digest.
        ticket_id: an id made by :func:`new_ticket_id`.
        container: the container that the blobs are in, or will be.
        allowed: the permissions of the SAS for each blob, one letter each, by ascending blob name.
        caller: the caller who takes it.
        now: the current time, aware.

    Raises:
        ServiceError: the ticket could not be signed or put on record; then none was given.
        OperatorError: ``SETTING_INVALID``: no tickets are given here.
    """
    now = now.replace(microsecond=0)
    valid_from, expires_at = now - _EARLIER, now + timedelta(hours=side.settings.ticket_hours)
    folder = manifest.transfer_id
    sas = side.tickets.sign(
        container,
        {blob_path(folder, name): permissions for name, permissions in allowed.items()},
        valid_from=valid_from,
        expires_at=expires_at,
    )
    ticket = Ticket(
        kind=kind,
        ticket_id=ticket_id,
        transfer_id=folder,
        channel=manifest.channel,
        manifest_sha256=manifest_sha256,
        container_url=f"{side.settings.blob_service_url}/{container}",
        valid_from=valid_from,
        expires_at=expires_at,
        sas={name: sas[blob_path(folder, name)] for name in allowed},
    )
    facts = {
        "ticket": kind.value,
        "transferId": folder,
        "channel": manifest.channel,
        "manifestSha256": manifest_sha256,
        "expiresAt": format_time(expires_at),
        "allowed": dict(allowed),
        "takenBy": caller.identity,
    }
    journals = JournalStore(side.blobs, side.projection)
    journals.record(Kind.TICKETS, ticket_id, State.ISSUED, facts, by=caller.name, at=now)
    return ticket
