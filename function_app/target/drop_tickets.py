"""Drop tickets at the target: the holder can bring one bundle that would be admitted now, and nothing else.

The holder can create the bundle's own names, once; no such ticket overwrites what was committed. Only where a
bundle arrived damaged and is held, its damaged blobs can be written to, since parts of them are replaced in
place (``docs/adr/0019-damaged-uploads-are-held.md``).
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from airgap.errors import Code, PolicyRefusal
from airgap.fields import format_time
from airgap.manifest import ENVELOPE_NAME, BundleManifest
from airgap.states import Kind, State
from airgap.ticket import Ticket, TicketKind
from function_app.http.caller import Caller
from function_app.journal.store import JournalStore
from function_app.ports import TargetSide
from function_app.storage.paths import INCOMING
from function_app.storage.policies import policy_in_force
from function_app.target.holding import held_upload
from function_app.target.judging import judge_envelope, missing_numbers
from function_app.target.wire import HeldUpload, Judging
from function_app.tickets import give_ticket, new_ticket_id

_CREATE, _REPLACE = "rc", "rw"
"""To read what is there, and to create what is not; or to write over it."""


def give_drop_ticket(side: TargetSide, envelope: bytes, *, caller: Caller, now: datetime) -> Ticket:
    """Give a ticket for the bundle of an envelope, if it would be admitted now and is not decided yet.

    A missing number before it is no reason against it: that bundle may be on its way, too.

    Raises:
        UntrustedInputError, PolicyRefusal: what :func:`judge_envelope` and :func:`missing_numbers` found.
        ServiceError, OperatorError: as :func:`give_ticket`.
    """
    ticket_id, envelope_sha256 = new_ticket_id(), hashlib.sha256(envelope).hexdigest()
    order = Judging(
        incoming="",
        manifest_etag="",
        envelope_sha256=envelope_sha256,
        instance=f"import{envelope_sha256[:32]}ticket{ticket_id}",
        now=format_time(now),
    )
    verdict = judge_envelope(side, order, envelope)
    manifest, manifest_sha256 = verdict.require(), str(verdict.manifest_sha256)
    try:
        missing_numbers(side, order, policy_in_force(side), manifest, manifest_sha256)
    except PolicyRefusal as refusal:
        if refusal.code is not Code.SEQUENCE_GAP:
            raise
    return give_ticket(
        *(side, TicketKind.DROP, manifest, manifest_sha256),
        ticket_id=ticket_id,
        container=INCOMING,
        allowed=_allowed(side, manifest, manifest_sha256),
        caller=caller,
        now=now,
    )


def _allowed(side: TargetSide, manifest: BundleManifest, manifest_sha256: str) -> Mapping[str, str]:
    """What the ticket allows, by blob name."""
    held = held_upload(side.blobs, manifest.transfer_id)
    damaged = frozenset[str]()
    if held is not None and _is_about(side, held, manifest_sha256):
        damaged = frozenset(held.damaged)
    blobs = {blob.name: _REPLACE if blob.name in damaged else _CREATE for blob in manifest.blobs}
    return {**blobs, ENVELOPE_NAME: _CREATE}


def _is_about(side: TargetSide, held: HeldUpload, manifest_sha256: str) -> bool:
    """Whether it is this bundle that is held, and not another under its transfer's name."""
    journals = JournalStore(side.blobs, side.projection)
    admitted = journals.read(Kind.IMPORTS, held.closing.instance).newest(State.ADMITTED)
    return admitted is not None and admitted.facts["manifestSha256"] == manifest_sha256
