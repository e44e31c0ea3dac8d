"""Pickup tickets at the source: for a sealed bundle, or for the blobs of it that a re-carry request needs."""

from datetime import datetime

from airgap.envelope import MAX_ENVELOPE_BYTES, Envelope
from airgap.errors import Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.journal import Journal
from airgap.manifest import ENVELOPE_NAME, BundleManifest, manifest_digest
from airgap.recarry import RecarryRequest
from airgap.states import State
from airgap.ticket import Ticket, TicketKind
from function_app.http.caller import Caller
from function_app.ports import SourceSide
from function_app.storage.paths import TRANSFER, manifest_path
from function_app.tickets import give_ticket, new_ticket_id

_READ = "r"


def give_pickup_ticket(
    side: SourceSide, journal: Journal, recarry: RecarryRequest | None, *, caller: Caller, now: datetime
) -> Ticket:
    """Give a ticket for the bundle of a transfer.

    Args:
        side: the source's settings and ports.
        journal: the transfer's journal.
        recarry: the request that names the wanted parts; ``None`` for all of the bundle.
        caller: the caller who gets the ticket.
        now: the current time, aware.

    Raises:
        PolicyRefusal: ``TRANSITION_REFUSED``: it is not sealed yet, or was given up.
        UntrustedInputError: ``RECARRY_MALFORMED``: the request is for another bundle; ``BLOB_CHANGED``: what
            lies there is not what was sealed.
        ServiceError: ``NOT_FOUND``: the bundle was deleted; or as :func:`give_ticket`.
        OperatorError: as :func:`give_ticket`.
    """
    sealed = journal.newest(State.SEALED)
    if sealed is None or journal.state is State.VOIDED:
        raise PolicyRefusal(
            Code.TRANSITION_REFUSED, f"nothing can be fetched; the transfer has come to this: {journal.state}"
        )
    manifest_sha256 = str(sealed.facts["bundle"]["manifestDigest"]).removeprefix("sha256:")
    manifest = _sealed_manifest(side, journal.about, manifest_sha256)
    wanted = {blob.name for blob in manifest.blobs}
    if recarry is not None:
        wanted = {part.blob for part, _ in recarry.require_matches(manifest, manifest_sha256)}
    return give_ticket(
        *(side, TicketKind.PICKUP, manifest, manifest_sha256),
        ticket_id=new_ticket_id(),
        container=TRANSFER,
        allowed={**dict.fromkeys(sorted(wanted), _READ), ENVELOPE_NAME: _READ},
        caller=caller,
        now=now,
    )


def _sealed_manifest(side: SourceSide, transfer_id: str, manifest_sha256: str) -> BundleManifest:
    """The bundle manifest that was sealed: the journal has its digest."""
    name = manifest_path(transfer_id)
    raw = side.blobs.read(TRANSFER, name, max_bytes=MAX_ENVELOPE_BYTES)
    if raw is None:
        raise ServiceError(Code.NOT_FOUND, f"{TRANSFER}/{name}: the bundle was deleted")
    payload = Envelope.from_bytes(raw).payload
    if manifest_digest(payload) != manifest_sha256:
        raise UntrustedInputError(Code.BLOB_CHANGED, f"{TRANSFER}/{name} is not what was sealed")
    return BundleManifest.from_bytes(payload)
