"""The source receives receipts: they say what became of a transfer, and what the target holds.

A receipt lies in ``receipts/<transferId>/``, put there by whoever carried it. That name says in which
journal to look for the channel; nothing else is believed before the channel's receipt roles have signed it.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from azurefunctions.extensions.bindings.blob import BlobClient

from airgap.deliveries import is_new, state_after, state_by_answers
from airgap.envelope import MAX_ENVELOPE_BYTES
from airgap.errors import AirgapError, Code, PolicyRefusal, ServiceError, UntrustedInputError
from airgap.fields import format_time
from airgap.journal import Journal, is_journal_id
from airgap.receipt import Receipt, ReceiptVerdict, verify_receipt
from airgap.states import Kind, State
from function_app.azure.wiring import source_side
from function_app.durable.blueprint import Blueprint, source_of
from function_app.journal.store import JournalStore
from function_app.ports import SourceSide
from function_app.settings import BlobEvents
from function_app.source.holdings import keep_receipt
from function_app.source.voiding import enter_void
from function_app.storage.paths import RECEIPTS, is_safe_name
from function_app.storage.policies import policy_in_force

_LOG = logging.getLogger(__name__)
_BY = "receipt"


def blueprint(events: BlobEvents) -> Blueprint:
    """A blueprint with the blob trigger for receipts, which learns of blobs by ``events``."""
    found = Blueprint()
    declare = found.blob_trigger(
        arg_name="receipt",
        path=f"{RECEIPTS}/{{transferId}}/{{name}}",
        connection="TransferStorage",
        source=source_of(events),
    )
    declare(receipt_arrived)
    return found


async def receipt_arrived(receipt: BlobClient) -> None:
    """Read a receipt that arrived as a blob; one that is not to be believed is left where it is.

    Events come at least once and late. The parameter's type makes the host send the blob's name and none of
    its content. Event Grid's webhook does not compare names with the path: the container is compared here.
    """
    if receipt.container_name != RECEIPTS:
        _LOG.warning("an event came for a blob that is no receipt; it is left alone")
        return
    await asyncio.to_thread(receive, source_side(), str(receipt.blob_name), now=datetime.now(UTC))


def receive(side: SourceSide, name: str, *, now: datetime) -> State | None:
    """Read the receipt of that name; returns the state its transfer comes to, ``None`` if it decides nothing.

    Raises:
        ServiceError: the storage cannot be read now; the host delivers the event again.
    """
    about = name.partition("/")[0]
    if not is_safe_name(name) or not is_journal_id(Kind.TRANSFERS, about):
        _LOG.warning("a receipt lies under a name that no transfer can have; it is left alone")
        return None
    journals = JournalStore(side.blobs, side.projection)
    try:
        journal = journals.read(Kind.TRANSFERS, about)
        raw = side.blobs.read(RECEIPTS, name, max_bytes=MAX_ENVELOPE_BYTES)
        if raw is None:
            return None
        receipt = _believe(side, raw, journal, now)
        require_answer(receipt, journal)
        keep_receipt(side.blobs, raw, receipt)  # first: once that is told, it is not read again
        if receipt.code is Code.REPLAYED:  # the decision that came first has a receipt of its own
            return None
        state = _record(side, journal, name, receipt, now)
    except ServiceError:
        raise
    except AirgapError as error:
        _LOG.warning("receipt %r decides nothing: %s", name, error)
        return None
    return state


def _record(side: SourceSide, journal: Journal, name: str, receipt: Receipt, now: datetime) -> State:
    """Record a registry's answer, and what the transfer comes to by all of them; a repeat changes nothing."""
    journals, facts = JournalStore(side.blobs, side.projection), _facts(name, receipt)
    told = next((entry for entry in journal.entries if entry.facts == facts), None)
    state = state_after(journal, receipt.target, receipt.verdict) if told is None else told.state
    was_voided = journal.newest(State.VOIDED) is not None
    if told is None and is_new(journal, receipt.target, receipt.verdict):
        journal = journals.record(Kind.TRANSFERS, journal.about, state, facts, by=_BY, at=now)
        if was_voided and receipt.verdict is ReceiptVerdict.IMPORTED:
            _LOG.warning("transfer %s was voided, and %s had imported it", journal.about, receipt.target)
    due = state_by_answers(journal)
    if due is not None and due is not journal.state:  # of two answers at once neither knew of the other
        journals.record(Kind.TRANSFERS, journal.about, due, facts, by=_BY, at=now)
        state = due
    if was_voided:  # the app may have died between the journal and the ledger: this state is not looked for
        enter_void(side, journal)
    return state


def receive_all(side: SourceSide, *, now: datetime) -> tuple[int, int]:
    """Read every receipt there is once more; returns how many there are, and how many decide something.

    Raises:
        ServiceError: the storage cannot be read now; what was done is done.
    """
    states = [receive(side, name, now=now) for name in side.blobs.list_names(RECEIPTS, "")]
    return len(states), sum(1 for state in states if state is not None)


def _believe(side: SourceSide, raw: bytes, journal: Journal, now: datetime) -> Receipt:
    """The receipt, if the receipt roles of the transfer's channel signed it."""
    if journal.first is None:
        raise UntrustedInputError(Code.BLOB_MISMATCH, "there is no such transfer here")
    channel = journal.first.facts["channel"]
    return verify_receipt(raw, policy=policy_in_force(side), channel=channel, now=now)


def require_answer(receipt: Receipt, journal: Journal) -> None:
    """Refuse a verified receipt that does not speak of this transfer's bundle and audience.

    Raises:
        UntrustedInputError: ``BLOB_MISMATCH``: it speaks of another bundle than the one that was sealed.
        PolicyRefusal: ``AUDIENCE_MISMATCH``: it comes from a registry that the bundle was not made for.
    """
    first, sealed = journal.first, journal.newest(State.SEALED)
    if first is None or sealed is None or receipt.transfer_id != journal.about:
        raise UntrustedInputError(Code.BLOB_MISMATCH, "it speaks of another transfer, or of one not sealed")
    if f"sha256:{receipt.manifest_sha256}" != sealed.facts["bundle"]["manifestDigest"]:
        raise UntrustedInputError(Code.BLOB_MISMATCH, "it speaks of another bundle manifest")
    if receipt.target not in first.facts["audience"]:
        raise PolicyRefusal(Code.AUDIENCE_MISMATCH, f"the bundle was not made for {receipt.target}")


def _facts(name: str, receipt: Receipt) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "receipt": f"{RECEIPTS}/{name}",
        "verdict": receipt.verdict.value,
        "target": receipt.target,
        "decidedAt": format_time(receipt.decided_at),
    }
    if receipt.code is not None:
        facts |= {"code": receipt.code.name, "detail": receipt.detail, "damaged": receipt.damage_count}
    return facts
